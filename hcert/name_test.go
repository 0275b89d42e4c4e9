package hcert

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// TestNamesAreWrittenAsPublished holds the tables against what Doc 9303 part 3
// (sections 4.6 and 6, appendix B), the DCC schema's examples and the public
// sample certificates print.
func TestNamesAreWrittenAsPublished(t *testing.T) {
	for _, c := range []struct{ what, name, country, want string }{
		{"Arabic, B.5.7", "ابو بكر محمد بن زكريا الرازي", "", "ABW<BKR<MXHMD<BN<ZKRYA<ALRAZY"},
		{"Arabic, B.5.9", "جمال عبد الناصر", "", "JMAL<EBD<ALNAXSSR"},
		{"Arabic, B.5.9: teh marbuta ends a component", "جميلة نعيمة", "", "JMYLXAH<NEYMXAH"},
		{"Arabic, B.5.9: shadda doubles", "عزّ الدين", "", "EZZ<ALDYN"},
		{"Arabic, note 3: shadda after other marks", "عَبَّاس", "", "EBBAS"},
		{"Arabic, B.5.9", "عبد العزيز بن متعب", "", "EBD<ALEZYZ<BN<MTEB"},
		{"Arabic, B.5.9", "هاري الشماع", "", "HARY<ALXSHMAE"},
		{"Arabic, the technical report's passport", "محمود", "", "MXHMWD"},
		{"Arabic, the technical report's passport", "عبدالرحيم", "", "EBDALRXHYM"},
		{"Arabic, the schema's example", "ناصر", "", "NAXSSR"},
		{"Persian letters", "پروین ژاله", "", "PRWXYAN<XJALH"},
		{"Urdu letters", "ٹیپو", "", "XXTXYAPW"},
		{"tatweel is not encoded", "محـــمد", "", "MXHMD"},

		{"Latin: diaeresis", "Müller", "", "MUELLER"},
		{"Latin: sample of Austria", "Musterfrau-Gößinger", "", "MUSTERFRAU<GOESSINGER"},
		{"Latin: sample of Sweden", "Lövström", "", "LOEVSTROEM"},
		{"Latin: sample of Italy", "Marilù Teresa", "", "MARILU<TERESA"},
		{"Latin: the same letters apart", "Mu\u0308ller Go\u0308ßinger A\u030Alund", "", "MUELLER<GOESSINGER<AALUND"},
		{"Latin: Nordic", "Ærø Åse Ðór Þór Ñandú", "", "AEROE<AASE<DOR<THOR<NANDU"},
		{"Latin: Polish, Czech, Turkish, Vietnamese", "Łódź Dvořák Işıl Nguyễn Đặng", "", "LODZ<DVORAK<ISIL<NGUYEN<DANG"},
		{"Latin: Dutch ligature", "ĳssel Œuvre", "", "IJSSEL<OEUVRE"},
		{"an apostrophe joins, section 4.6", "D’Artagnan O'Connor", "", "DARTAGNAN<OCONNOR"},
		{"a hyphen parts, section 4.6", "Smith-Jones", "", "SMITH<JONES"},
		{"a comma parts, section 4.6", "Smith, Jr.", "", "SMITH<JR"},
		{"blanks of any number are one", "  van   der  - Berg ", "", "VAN<DER<BERG"},
		{"a numeral is Roman", "Johannes 14", "", "JOHANNES<XIV"},

		{"Cyrillic, Russian", "Щеглова Юлия Ёж Объедков", "", "SHCHEGLOVA<IULIIA<EZH<OBIEEDKOV"},
		{"Cyrillic, sample of Bulgaria", "СТАМО ГЕОРГИЕВ", "BG", "STAMO<GEORGIEV"},
		{"Cyrillic, Bulgarian exception", "Щерев", "BG", "SHTEREV"},
		{"Cyrillic, Ukrainian exceptions", "Гриньківська Юлія Єва Їжак Йосип", "UA", "HRYNKIVSKA<YULIIA<YEVA<YIZHAK<YOSYP"},
		{"Cyrillic, Ukrainian known by its letters", "Їжак Григорій", "", "YIZHAK<HRYHORII"},
		{"Cyrillic, Belarusian exceptions", "Ёрш Ўладзімір Галіна", "BY", "IORSH<ULADZIMIR<HALINA"},
		{"Cyrillic, Serbian exceptions", "Жељко Чарић Шуљагић Хаџић Цвето", "RS", "ZELJKO<CARIC<SULJAGIC<HADZIC<CVETO"},
		{"Cyrillic, Macedonian exceptions", "Ѓорѓи Ќосев Џамбазов Христо", "MK", "GJORGJI<KJOSEV<DJAMBAZOV<HRISTO"},

		{"Greek, sample of Greece", "Μενεξές Μάριος", "", "MENEXES<MARIOS"},
		{"Greek: pairs", "Παπαδόπουλος Ευάγγελος Αυγή Ευτυχία", "", "PAPADOPOULOS<EVANGELOS<AVGI<EFTYCHIA"},
		{"Greek: first and inner MP", "Μπάμπης Ντίνος", "", "BAMPIS<NTINOS"},
		{"Greek: diaeresis and accent keep apart", "Αϋφαντής Πλάυ", "", "AYFANTIS<PLAY"},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := StandardiseName(c.name, NameOptions{Country: c.country})
			if err != nil || got != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
			if m := MatchName(c.name, c.want); m != NameSame {
				t.Errorf("the name and its own form are %s", m)
			}
		})
	}
}

func TestNamesThatNoTableHasAreReported(t *testing.T) {
	got, err := StandardiseName("Lee 李", NameOptions{})
	var unknown *NameError
	if !errors.As(err, &unknown) || got != "LEE" || len(unknown.Places) != 1 || unknown.Places[0] != 5 {
		t.Errorf("got %q, %v", got, err)
	}
	if strings.Contains(err.Error(), "李") {
		t.Error("the error shows the name")
	}
	if _, err := StandardiseName("שרה", NameOptions{}); err == nil {
		t.Error("Hebrew has no table in Doc 9303, but was transliterated")
	}
}

func TestLongNamesAreCut(t *testing.T) {
	got, err := StandardiseName(strings.Repeat("abc ", 30), NameOptions{})
	if err != nil || len(got) != 79 || strings.HasSuffix(got, "<") {
		t.Errorf("got %s (%d), %v", got, len(got), err)
	}
	for _, c := range []struct {
		primary, secondary string
		n                  int
		want               string
	}{
		{"ERIKSSON", "ANNA<MARIA", 39, "ERIKSSON<<ANNA<MARIA"},
		{"NILAVADHANANANDA", "CHAYAPA<DEJTHAMRONG<KRASUANG", 39, "NILAVADHANANANDA<<CHAYAPA<DEJTHAMRONG<K"},
		{"BENNELONG<WOOLOOMOOLOO<WARRANDYTE<WARNAMBOOL", "DINGO<POTOROO", 39, "BENNELONG<WOOLOOMOOLOO<WARRANDYTE<WA<<D"},
		{"ABCDEFGHIJ", "", 4, "ABCD"},
		{"", "ABCDEFGHIJ", 4, "ABCD"},
		{"ABCD", "CD", 3, "ABC"},
	} {
		if got := NameField(c.primary, c.secondary, c.n); got != c.want || len(got) > c.n {
			t.Errorf("%s, %s in %d: got %s, want %s", c.primary, c.secondary, c.n, got, c.want)
		}
	}
}

func TestMatchName(t *testing.T) {
	for _, c := range []struct {
		name, standard string
		want           NameMatch
	}{
		{"Müller", "MULLER", NameSame}, {"Müller", "MUXXLLER", NameSame}, {"Müller", "MILLER", NameDifferent},
		{"mäel", "MAEL", NameSame}, {"boudehane née hadad", "BOUDEHANE<NEE<HADAD", NameSame},
		{"O'Connor", "O<CONNOR", NameSame}, {"Smith-Jones", "SMITHJONES", NameSame}, {"Smith-Jones", "SMITH<<JONES<", NameSame},
		{"Ñandú", "NXXANDU", NameSame}, {"TAN", "TAN<CHEN<CHEN", NameDifferent}, {"Tan Chen", "TAN", NameDifferent},
		{"Христов Йордан", "HRISTOV<YORDAN", NameSame}, {"Тодоров", "TODOROFF", NameDifferent},
		{"محمد", "MOHAMMED", NameUnclear}, {"李", "LI", NameUnclear}, {"Χρήστος", "CHRISTOS", NameSame}, {"Χρήστος", "HRISTOS", NameSame},
		{strings.Repeat("ö", 60), strings.Repeat("OE", 40), NameSame}, {strings.Repeat("a", 60), strings.Repeat("A", 50), NameSame},
		{strings.Repeat("a", 60), strings.Repeat("A", 49), NameDifferent}, {"", "", NameSame}, {"a", "", NameDifferent}, {"", "A", NameDifferent},
		{strings.Repeat("ю", 1000), "IU", NameUnclear},
	} {
		if got := MatchName(c.name, c.standard); got != c.want {
			t.Errorf("%s, %s: got %s, want %s", c.name, c.standard, got, c.want)
		}
	}
}

// TestLatinLettersHaveTheirBase holds the tables of composed letters against
// Unicode's decompositions.
func TestLatinLettersHaveTheirBase(t *testing.T) {
	for r := rune(0xC0); r < 0x1F00; r++ {
		if !unicode.Is(unicode.Latin, r) {
			continue
		}
		if _, special := latinSpecial[unicode.ToUpper(r)]; special {
			continue
		}
		d := []rune(norm.NFD.String(string(unicode.ToUpper(r))))
		if len(d) < 2 || d[0] < 'A' || d[0] > 'Z' || strings.ContainsRune("ÄÖÜÅÑ", []rune(norm.NFC.String(string(d[:2])))[0]) {
			continue
		}
		if got, err := StandardiseName(string(r), NameOptions{}); err != nil || got != string(d[0]) {
			t.Errorf("%c: got %q, %v, want %c", r, got, err, d[0])
		}
	}
}

// FuzzStandardiseName: the form fits the schema, the length, and the name that
// it was made from, whatever the name.
func FuzzStandardiseName(f *testing.F) {
	for _, s := range []string{"Müller-Lüdenscheidt, Jr.", "Гриньківська Юлія", "عَبَّاس بن ة", "Μπάμπης Αϋ", "O'Neill 14", "a\u0308ßﬁ李\x80"} {
		f.Add(s, "UA")
	}
	f.Fuzz(func(t *testing.T, name, country string) {
		got, err := StandardiseName(name, NameOptions{Country: country})
		if !standardised(got) || len(got) > MaxName || strings.HasPrefix(got, "<") || strings.HasSuffix(got, "<") || strings.Contains(got, "<<") {
			t.Errorf("got %q", got)
		}
		if m := MatchName(name, got); err == nil && m == NameDifferent && len(got) < MaxName-10 {
			t.Errorf("%q and its form %q are different", name, got)
		}
		if again, err := StandardiseName(got, NameOptions{}); err != nil || again != got {
			t.Errorf("got %q of %q, %v", again, got, err)
		}
	})
}

package hcert

import (
	"strings"
	"unicode"
)

// latinSpecial is the letters of Doc 9303 part 3, section 6 A, that are not
// written as their base letter, the recommended form first, then what else the
// table or national practice allows.
var latinSpecial = map[rune][]string{
	'Ä': {"AE", "A"}, 'Å': {"AA", "A"}, 'Æ': {"AE"}, 'Ǽ': {"AE"}, 'Ð': {"D", "DH"}, 'Đ': {"D", "DJ"}, 'Ħ': {"H"}, 'ı': {"I"},
	'Ĳ': {"IJ"}, 'ĸ': {"Q", "K"}, 'Ł': {"L"}, 'Ŀ': {"L"}, 'Ñ': {"N", "NXX"}, 'Ŋ': {"N", "NG"}, 'ŉ': {"N"}, 'Ö': {"OE", "O"}, 'Ø': {"OE", "O"}, 'Ǿ': {"OE", "O"},
	'Œ': {"OE"}, 'Ŧ': {"T"}, 'Ü': {"UE", "U", "UXX", "Y"}, 'ẞ': {"SS"}, 'ß': {"SS", "S"}, 'Þ': {"TH"}, 'Ə': {"E", "A"}, 'Ɖ': {"D"}, 'ſ': {"S"},
	'Ư': {"U"}, 'Ơ': {"O"}, 'Ƙ': {"K"}, 'Ɓ': {"B"}, 'Ɗ': {"D"}, 'Ƴ': {"Y"}, 'Ɛ': {"E"}, 'Ɔ': {"O"}, 'ª': {"A"}, 'º': {"O"},
}

// Base letters of the composed Latin letters, by code point.
const (
	latin00C0 = "AAAAAAACEEEEIIIIDNOOOOO.OUUUUYTSAAAAAAACEEEEIIIIDNOOOOO.OUUUUYTY"
	latin0100 = "AAAAAACCCCCCCCDD..EEEEEEEEEEGGGGGGGGHH..IIIIIIIIIIIIJJKK.LLLLLLLL..NNNNNN...OOOOOO..RRRRRRSSSSSSSSTTTT..UUUUUUUUUUUUWWYYYZZZZZZS" +
		"................................OO.............UU...................DDDLLLNNNAAIIOOUUUUUUUUUU.AAAA....GGKKOOOO...DDDGG..NNAA....AAAAEEEEIIIIOOOORRRRUUUUSSTT..HH......AAEEOOOOOOOOYY............................"
	latin1E00 = "AABBBBBBCCDDDDDDDDDDEEEEEEEEEEFFGGHHHHHHHHHHIIIIKKKKKKLLLLLLLLMMMMMMNNNNNNNNOOOOOOOOPPPPRRRRRRRRSSSSSSSSSSTTTTTTTTUUUUUUUUUUVVVVWWWWWWWWWWXXXXYYZZZZZZ.....S....AAAAAAAAAAAAAAAAAAAAAAAAEEEEEEEEEEEEEEEEIIIIOOOOOOOOOOOOOOOOOOOOOOOOUUUUUUUUUUUUUUYYYYYYYY......"
)

func (t *transliterator) latin(r rune) []step {
	if ways, ok := latinSpecial[r]; ok {
		return t.ways(ways)
	}
	base := byte('.')
	for _, table := range [...]struct {
		first rune
		bases string
	}{{0xC0, latin00C0}, {0x100, latin0100}, {0x1E00, latin1E00}} {
		if i := int(r - table.first); i >= 0 && i < len(table.bases) {
			base = table.bases[i]
		}
	}
	if base == '.' {
		return nil
	}
	return []step{{1, string(base)}}
}

func (t *transliterator) ways(ways []string) []step {
	if !t.all {
		ways = ways[:1]
	}
	out := make([]step, len(ways))
	for i, w := range ways {
		out[i] = step{1, w}
	}
	return out
}

// variant is a language with exceptions in the table for Cyrillic.
type variant byte

const (
	russian variant = iota
	belarusian
	bulgarian
	macedonian
	serbian
	ukrainian
)

func variantOf(country string, rs []rune) variant {
	switch strings.ToUpper(country) {
	case "BY":
		return belarusian
	case "BG":
		return bulgarian
	case "MK":
		return macedonian
	case "RS", "ME", "BA":
		return serbian
	case "UA":
		return ukrainian
	}
	for _, r := range rs {
		switch r {
		case 'Ў':
			return belarusian
		case 'Ґ', 'Є', 'Ї':
			return ukrainian
		case 'Ѓ', 'Ќ', 'Ѕ':
			return macedonian
		case 'Ђ', 'Ћ':
			return serbian
		}
	}
	return russian
}

// cyrillicLetter is a row of section 6 B: the general form, the exceptions of
// languages, and what national laws write instead, which is only matched.
type cyrillicLetter struct {
	general  string
	except   map[variant]string
	national []string
}

func only(v variant, s string) map[variant]string { return map[variant]string{v: s} }

var cyrillicLetters = map[rune]cyrillicLetter{
	'А': {general: "A"}, 'Б': {general: "B"}, 'В': {general: "V"}, 'Д': {general: "D"}, 'З': {general: "Z"}, 'К': {general: "K"}, 'Л': {general: "L"},
	'М': {general: "M"}, 'Н': {general: "N"}, 'О': {general: "O"}, 'П': {general: "P"}, 'Р': {general: "R"}, 'С': {general: "S"}, 'Т': {general: "T"},
	'У': {general: "U"}, 'Ф': {general: "F"},
	'Г': {general: "G", except: map[variant]string{belarusian: "H", ukrainian: "H"}, national: []string{"H"}},
	'Е': {general: "E", national: []string{"YE", "IE", "JE"}},
	'Ё': {general: "E", except: only(belarusian, "IO"), national: []string{"YO", "IO", "JO"}},
	'Ж': {general: "ZH", except: only(serbian, "Z"), national: []string{"Z", "J"}},
	'И': {general: "I", except: only(ukrainian, "Y"), national: []string{"Y"}},
	'Й': {general: "I", national: []string{"Y", "J"}},
	'Х': {general: "KH", except: map[variant]string{serbian: "H", macedonian: "H"}, national: []string{"H"}},
	'Ц': {general: "TS", except: map[variant]string{serbian: "C", macedonian: "C"}, national: []string{"C"}},
	'Ч': {general: "CH", except: only(serbian, "C"), national: []string{"C"}},
	'Ш': {general: "SH", except: only(serbian, "S"), national: []string{"S"}},
	'Щ': {general: "SHCH", except: only(bulgarian, "SHT"), national: []string{"SHT", "SCH"}},
	'Ъ': {general: "IE", national: []string{"A", ""}},
	'Ы': {general: "Y"}, 'Ь': {general: "", national: []string{"Y", "J"}}, 'Э': {general: "E"},
	'Ю': {general: "IU", national: []string{"YU", "JU"}}, 'Я': {general: "IA", national: []string{"YA", "JA"}},
	'Ђ': {general: "D", national: []string{"DJ"}}, 'Є': {general: "IE", national: []string{"YE"}}, 'Ѕ': {general: "DZ"}, 'І': {general: "I"},
	'Ї': {general: "I", national: []string{"YI"}}, 'Ј': {general: "J"}, 'Љ': {general: "LJ"}, 'Њ': {general: "NJ"},
	'Ћ': {general: "C"}, 'Һ': {general: "C"}, 'Ќ': {general: "K", except: only(macedonian, "KJ"), national: []string{"KJ"}},
	'Ѓ': {general: "G", except: only(macedonian, "GJ"), national: []string{"GJ"}}, 'Ғ': {general: "G", except: only(macedonian, "GJ")},
	'Ў': {general: "U", national: []string{"W"}}, 'Џ': {general: "DZ", except: only(macedonian, "DJ"), national: []string{"DJ", "DZH"}},
	'Ґ': {general: "G"}, 'Ѫ': {general: "U", national: []string{"A"}}, 'Ѵ': {general: "Y"},
}

// ukrainianFirst is how Ukrainian writes letters at the beginning of a word.
var ukrainianFirst = map[rune]string{'Є': "YE", 'Ї': "YI", 'Й': "Y", 'Ю': "YU", 'Я': "YA"}

func (t *transliterator) cyrillic(i int) []step {
	r := t.runes[i]
	l, ok := cyrillicLetters[r]
	if !ok {
		return nil
	}
	best := l.general
	if s, ok := l.except[t.variant]; ok {
		best = s
	}
	if s, ok := ukrainianFirst[r]; ok && t.variant == ukrainian && t.first(i) {
		best = s
	}
	if !t.all {
		return []step{{1, best}}
	}
	out := []step{{1, best}, {1, l.general}}
	for _, s := range l.except {
		out = append(out, step{1, s})
	}
	for _, s := range l.national {
		out = append(out, step{1, s})
	}
	return out
}

// first reports whether no letter is before character i in its word.
func (t *transliterator) first(i int) bool {
	return i == 0 || !unicode.IsLetter(t.runes[i-1]) && !unicode.Is(unicode.Mn, t.runes[i-1]) && !apostrophe(t.runes[i-1])
}

func (t *transliterator) last(i int) bool {
	return i == len(t.runes)-1 || !unicode.IsLetter(t.runes[i+1]) && !unicode.Is(unicode.Mn, t.runes[i+1])
}

const (
	tatweel = 'ـ'
	shadda  = 0x651
)

func arabic(r rune) bool { return unicode.Is(unicode.Arabic, r) && unicode.IsLetter(r) }

// arabicLetters is section 6 C: Arabic, and the letters of Persian, Urdu and
// Pashto. Letters that it says are not encoded are empty.
var arabicLetters = map[rune]string{
	'ء': "XE", 'آ': "XAA", 'أ': "XAE", 'ؤ': "U", 'إ': "I", 'ئ': "XI", 'ا': "A", 'ب': "B", 'ة': "XTA", 'ت': "T", 'ث': "XTH", 'ج': "J", 'ح': "XH", 'خ': "XKH",
	'د': "D", 'ذ': "XDH", 'ر': "R", 'ز': "Z", 'س': "S", 'ش': "XSH", 'ص': "XSS", 'ض': "XDZ", 'ط': "XTT", 'ظ': "XZZ", 'ع': "E", 'غ': "G", 'ف': "F", 'ق': "Q",
	'ك': "K", 'ل': "L", 'م': "M", 'ن': "N", 'ه': "H", 'و': "W", 'ى': "XAY", 'ي': "Y", 'ٱ': "XXA", 'ٹ': "XXT", 'ټ': "XRT", 'پ': "P", 'ځ': "XKE", 'څ': "XXH",
	'چ': "XC", 'ڈ': "XXD", 'ډ': "XDR", 'ڑ': "XXR", 'ړ': "XRR", 'ږ': "XRX", 'ژ': "XJ", 'ښ': "XXS", 'ڜ': "", 'ڢ': "", 'ڧ': "", 'ڨ': "", 'ک': "XKK", 'ګ': "XXK",
	'ڭ': "XNG", 'گ': "XGG", 'ں': "XNN", 'ڼ': "XXN", 'ھ': "XDO", 'ۀ': "XYH", 'ہ': "XXG", 'ۂ': "XGE", 'ۃ': "XTG", 'ی': "XYA", 'ۍ': "XXY", 'ې': "Y", 'ے': "XYB", 'ۓ': "XBE",
}

func (t *transliterator) arabic(i int) []step {
	r := t.runes[i]
	best, ok := arabicLetters[r]
	if !ok {
		return nil
	}
	ways := []string{best}
	switch r {
	case 'ة':
		if t.last(i) {
			ways = []string{"XAH", "XTA"}
		} else {
			ways = append(ways, "XAH")
		}
	case 'ی':
		ways = append(ways, "Y", "XAY")
	}
	if t.doubled(i) {
		ways = append(ways, ways...) // an unmarked one is the same name
		for j := range len(ways) / 2 {
			ways[j] += ways[j]
		}
	}
	return t.ways(ways)
}

// doubled reports whether the marks after letter i have a shadda.
func (t *transliterator) doubled(i int) bool {
	for i++; i < len(t.runes) && unicode.Is(unicode.Mn, t.runes[i]); i++ {
		if t.runes[i] == shadda {
			return true
		}
	}
	return false
}

func greek(r rune) bool { return r >= 0x370 && r < 0x400 && unicode.IsLetter(r) }

// greekLetters is ISO 843, transcription (type 2).
var greekLetters = map[rune]string{
	'Α': "A", 'Β': "V", 'Γ': "G", 'Δ': "D", 'Ε': "E", 'Ζ': "Z", 'Η': "I", 'Θ': "TH", 'Ι': "I", 'Κ': "K", 'Λ': "L", 'Μ': "M", 'Ν': "N", 'Ξ': "X", 'Ο': "O",
	'Π': "P", 'Ρ': "R", 'Σ': "S", 'Τ': "T", 'Υ': "Y", 'Φ': "F", 'Χ': "CH", 'Ψ': "PS", 'Ω': "O",
}

// plainGreek takes the accent off.
var plainGreek = map[rune]rune{'Ά': 'Α', 'Έ': 'Ε', 'Ή': 'Η', 'Ί': 'Ι', 'Ϊ': 'Ι', 'ΐ': 'Ι', 'Ό': 'Ο', 'Ύ': 'Υ', 'Ϋ': 'Υ', 'ΰ': 'Υ', 'Ώ': 'Ω'}

func plain(r rune) rune {
	if p, ok := plainGreek[r]; ok {
		return p
	}
	return r
}

func (t *transliterator) greek(i int) []step {
	r := plain(t.runes[i])
	single, ok := greekLetters[r]
	if !ok {
		return nil
	}
	var out []step
	if i+1 < len(t.runes) {
		out = t.greekPair(i, r, t.runes[i+1])
	}
	if len(out) > 0 && !t.all {
		return out[:1]
	}
	out = append(out, step{1, single})
	if t.all {
		switch r {
		case 'Η':
			out = append(out, step{1, "H"}, step{1, "E"})
		case 'Υ':
			out = append(out, step{1, "U"}, step{1, "I"}, step{1, "V"}, step{1, "F"})
		case 'Χ':
			out = append(out, step{1, "H"}, step{1, "KH"}, step{1, "X"})
		case 'Φ':
			out = append(out, step{1, "PH"})
		case 'Ξ':
			out = append(out, step{1, "KS"})
		case 'Β':
			out = append(out, step{1, "B"})
		}
	}
	return out
}

// greekPair returns how two letters are written that are one sound. An accent
// on the first, or a diaeresis on the second, keeps vowels apart.
func (t *transliterator) greekPair(i int, r, second rune) []step {
	pair := string(r) + string(plain(second))
	switch pair {
	case "ΓΓ":
		return []step{{2, "NG"}, {2, "GG"}}
	case "ΓΞ":
		return []step{{2, "NX"}}
	case "ΓΧ":
		return []step{{2, "NCH"}}
	case "ΜΠ":
		if t.first(i) || t.last(i+1) {
			return []step{{2, "B"}, {2, "MP"}}
		}
		return []step{{2, "MP"}, {2, "B"}}
	case "ΝΤ":
		return []step{{2, "NT"}, {2, "D"}}
	}
	apart := t.runes[i] != r || second == 'Ϋ' || second == 'ΰ'
	switch {
	case apart:
	case pair == "ΟΥ":
		return []step{{2, "OU"}, {2, "U"}}
	case pair == "ΑΥ", pair == "ΕΥ", pair == "ΗΥ":
		sound := "F"
		if i+2 < len(t.runes) && strings.ContainsRune("ΑΕΗΙΟΥΩΒΓΔΖΛΜΝΡ", plain(t.runes[i+2])) {
			sound = "V"
		}
		return []step{{2, greekLetters[r] + sound}}
	}
	return nil
}

package hcert

import (
	"fmt"
	"strings"
	"unicode"
)

// MaxName is the most characters of a name in the schema from 1.3.0 on.
const MaxName = 80

// NameOptions says how a name is transliterated.
type NameOptions struct {
	// Country is the ISO 3166-1 alpha-2 code of the country whose name it is.
	// It decides where Doc 9303 has national exceptions for Cyrillic: BG, BY,
	// ME and RS, MK, UA. Empty means that the letters themselves decide where
	// only one language has them, and Russian otherwise.
	Country string
	// Max is the most characters of the result; default MaxName.
	Max int
}

// NameError says that no table has some characters of a name. It holds their
// places, not the characters: a name is personal data.
type NameError struct {
	// Places counts characters from 1.
	Places []int
}

// Error names the places.
func (e *NameError) Error() string {
	const most = 8
	var b strings.Builder
	for i, p := range e.Places {
		if i == most {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, p)
	}
	return "transliterate name: no table of ICAO Doc 9303 has character " + b.String()
}

// StandardiseName writes a name as the machine readable zone of a travel
// document does (ICAO Doc 9303 part 3, sections 4.6 and 6): capitals A to Z,
// and "<" between the components of the name. Latin, Cyrillic and Arabic
// letters (Persian, Urdu and Pashto ones too) follow the tables of section 6;
// Greek, which it does not have, follows ISO 843 (ELOT 743), as Greek and
// Cypriot passports do. Apostrophes and full stops are left out, hyphens,
// commas and blanks become one "<", a number becomes Roman, and what exceeds
// the length is cut off so that a letter ends it.
//
// Where a table leaves a choice the first is taken: AE for Ä, N for Ñ. A
// character that no table has is left out and reported as a *NameError beside
// what the others give. Case does not matter.
func StandardiseName(name string, o NameOptions) (string, error) {
	rs := composed(name)
	t := transliterator{runes: rs, variant: variantOf(o.Country, rs)}
	var b strings.Builder
	var unknown []int
	gap := false
	for i := 0; i < len(rs); {
		s := t.steps(i)
		if len(s) == 0 {
			unknown = append(unknown, i+1)
			i++
			continue
		}
		switch out := s[0].out; {
		case out == "<":
			gap = b.Len() > 0
		case out != "":
			if gap {
				b.WriteByte('<')
				gap = false
			}
			b.WriteString(out)
		}
		i += s[0].n
	}
	out := b.String()
	limit := o.Max
	if limit <= 0 {
		limit = MaxName
	}
	if len(out) > limit {
		out = strings.TrimRight(out[:limit], "<")
	}
	if unknown != nil {
		return out, &NameError{Places: unknown}
	}
	return out, nil
}

// NameField joins two standardised names to the name field of n characters of
// a machine readable zone, without the filler at its end (Doc 9303 part 4,
// section 4.2.3): "<<" between them; if both do not fit, the primary one is
// cut so that at least the first letter of the secondary one fits, and a
// letter ends the field.
func NameField(primary, secondary string, n int) string {
	primary, secondary = strings.Trim(primary, "<"), strings.Trim(secondary, "<")
	cut := func(s string, n int) string {
		if len(s) > n {
			s = strings.TrimRight(s[:max(n, 0)], "<")
		}
		return s
	}
	switch {
	case secondary == "":
		return cut(primary, n)
	case primary == "":
		return cut(secondary, n)
	case n < 4:
		return cut(primary, n)
	}
	if len(primary)+2+len(secondary) > n {
		primary = cut(primary, n-3)
		secondary = cut(secondary, n-2-len(primary))
	}
	return primary + "<<" + secondary
}

// NameMatch is what comparing a name with its standardised form says.
type NameMatch string

// The results of MatchName.
const (
	NameSame      NameMatch = "same"
	NameDifferent NameMatch = "different"
	// NameUnclear: the name has characters of scripts without a table, or is
	// in Arabic script, whose names most countries write as they sound.
	NameUnclear NameMatch = "unclear"
)

// MatchName compares a name with its standardised form, and takes every form
// that Doc 9303 or a national practice allows: Müller is MUELLER, MULLER and
// MUXXLLER. A form that was cut off at 50 or MaxName characters, the limits of
// the schemas, is the same.
func MatchName(name, standardised string) NameMatch {
	rs := composed(name)
	if len(rs) > 4*MaxName || len(standardised) > 4*MaxName {
		return NameUnclear
	}
	t := transliterator{runes: rs, variant: variantOf("", rs), all: true}
	// reached[i][p] says that the first i characters can be written as the
	// first p of the standardised form.
	reached := make([][]bool, len(rs)+1)
	for i := range reached {
		reached[i] = make([]bool, len(standardised)+1)
	}
	for p := 0; p <= len(standardised) && (p == 0 || standardised[p-1] == '<'); p++ {
		reached[0][p] = true
	}
	full := len(standardised) == 50 || len(standardised) == MaxName
	unclear := false
	for i := range rs {
		for _, s := range t.steps(i) {
			for p, ok := range reached[i] {
				if !ok {
					continue
				}
				rest := standardised[p:]
				if full && len(rest) < len(s.out) && strings.HasPrefix(s.out, rest) {
					return NameSame
				}
				switch {
				case s.out == "<":
					reached[i+s.n][p] = true
					for q := p; q < len(standardised) && standardised[q] == '<'; q++ {
						reached[i+s.n][q+1] = true
					}
				case strings.HasPrefix(rest, s.out):
					reached[i+s.n][p+len(s.out)] = true
				}
			}
		}
		if arabic(rs[i]) || len(t.steps(i)) == 0 {
			unclear = true
		}
	}
	for p := len(standardised); p >= 0; p-- {
		if reached[len(rs)][p] {
			return NameSame
		}
		if p == 0 || standardised[p-1] != '<' {
			break
		}
	}
	if unclear {
		return NameUnclear
	}
	return NameDifferent
}

// step says that n characters of the name can be written as out; "<" stands
// for any number of fillers.
type step struct {
	n   int
	out string
}

type transliterator struct {
	runes   []rune // in upper case
	variant variant
	all     bool // every way of writing, not only the first
}

// steps returns how the name can be written from character i on, the best way
// first; none if no table has the character.
func (t *transliterator) steps(i int) []step {
	r := t.runes[i]
	switch {
	case 'A' <= r && r <= 'Z':
		return []step{{1, string(r)}}
	case '0' <= r && r <= '9':
		return t.number(i)
	case unicode.IsSpace(r), unicode.Is(unicode.Pd, r), r == '<', r == ',', r == '/', r == '_', r == ';':
		return []step{{1, "<"}}
	case apostrophe(r), r == '.', unicode.Is(unicode.Cf, r), r == tatweel:
		if t.all {
			return []step{{1, ""}, {1, "<"}} // O'Connor is O<CONNOR in some countries
		}
		return []step{{1, ""}}
	case unicode.Is(unicode.Mn, r):
		return []step{{1, ""}}
	case greek(r):
		return t.greek(i)
	case arabic(r):
		return t.arabic(i)
	case unicode.Is(unicode.Cyrillic, r):
		return t.cyrillic(i)
	}
	return t.latin(r)
}

func apostrophe(r rune) bool {
	return strings.ContainsRune("'`´ʹʻʼʽʾʿ‘’‛′ˈ\"“”„«»()", r)
}

// number writes a number as a Roman one (section 4.6).
func (t *transliterator) number(i int) []step {
	n, v := 0, 0
	for i+n < len(t.runes) && t.runes[i+n] >= '0' && t.runes[i+n] <= '9' && n < 5 {
		v = v*10 + int(t.runes[i+n]-'0')
		n++
	}
	if v < 1 || v > 3999 || n == 5 {
		return nil
	}
	var b strings.Builder
	for _, d := range [...]struct {
		v int
		s string
	}{{1000, "M"}, {900, "CM"}, {500, "D"}, {400, "CD"}, {100, "C"}, {90, "XC"}, {50, "L"}, {40, "XL"}, {10, "X"}, {9, "IX"}, {5, "V"}, {4, "IV"}, {1, "I"}} {
		for v >= d.v {
			b.WriteString(d.s)
			v -= d.v
		}
	}
	return []step{{n, b.String()}}
}

// maxRunes bounds the characters of a name that are looked at. What is left of
// a longer one fills any form.
const maxRunes = 1000

// composed returns the name in upper case, with the marks joined to the
// letters that are another letter with them.
func composed(name string) []rune {
	out := make([]rune, 0, min(len(name), maxRunes))
	for _, r := range name {
		if len(out) == maxRunes {
			break
		}
		u := unicode.ToUpper(r)
		if n := len(out); n > 0 {
			if whole, ok := joined[[2]rune{out[n-1], u}]; ok {
				out[n-1] = whole
				continue
			}
		}
		out = append(out, u)
	}
	return out
}

// joined is the letters that are written differently from their base letter,
// where a name has letter and mark apart (Unicode's NFD).
var joined = map[[2]rune]rune{
	{'A', 0x308}: 'Ä', {'O', 0x308}: 'Ö', {'U', 0x308}: 'Ü', {'A', 0x30A}: 'Å', {'N', 0x303}: 'Ñ',
	{'Е', 0x308}: 'Ё', {'И', 0x306}: 'Й', {'І', 0x308}: 'Ї', {'У', 0x306}: 'Ў', {'Г', 0x301}: 'Ѓ', {'К', 0x301}: 'Ќ',
	{'ا', 0x653}: 'آ', {'ا', 0x654}: 'أ', {'ا', 0x655}: 'إ', {'و', 0x654}: 'ؤ', {'ي', 0x654}: 'ئ', {'ہ', 0x654}: 'ۂ', {'ە', 0x654}: 'ۀ', {'ے', 0x654}: 'ۓ',
	{'Ι', 0x308}: 'Ϊ', {'Υ', 0x308}: 'Ϋ', {'Α', 0x301}: 'Ά', {'Ε', 0x301}: 'Έ', {'Η', 0x301}: 'Ή', {'Ι', 0x301}: 'Ί', {'Ο', 0x301}: 'Ό', {'Υ', 0x301}: 'Ύ', {'Ω', 0x301}: 'Ώ',
	{'Ϊ', 0x301}: 'ΐ', {'Ϋ', 0x301}: 'ΰ',
}

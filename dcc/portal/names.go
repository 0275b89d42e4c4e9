package portal

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// maxName is the most characters of a name in the certificate.
const maxName = 80

// special lists the letters whose transliteration is not their base letter
// (ICAO Doc 9303 part 3, section 6 A).
var special = strings.NewReplacer(
	"Ä", "AE", "Ö", "OE", "Ü", "UE", "ẞ", "SS", "ß", "SS", "Æ", "AE", "Ø", "OE", "Å", "AA", "Œ", "OE", "Þ", "TH", "Ð", "D", "Đ", "D",
	"Ł", "L", "Ħ", "H", "Ŧ", "T", "Ŋ", "N", "ı", "I", "ĸ", "Q", "Ñ", "N", "Ĳ", "IJ",
)

// standardise writes a name as the machine readable zone of a passport does:
// capitals A to Z, and "<" between words. Letters of other scripts cannot be
// transliterated here and are left out.
func standardise(name string) string {
	upper := special.Replace(norm.NFC.String(strings.ToUpper(name)))
	var b strings.Builder
	for _, r := range norm.NFD.String(upper) {
		switch {
		case r >= 'A' && r <= 'Z':
			b.WriteRune(r)
		case (r == ' ' || r == '-' || r == '<' || r == '\u00a0' || r == '‐' || r == '–') && b.Len() > 0 && !strings.HasSuffix(b.String(), "<"):
			b.WriteByte('<')
		}
	}
	out := strings.TrimRight(b.String(), "<")
	return strings.TrimRight(clip(out, maxName), "<")
}

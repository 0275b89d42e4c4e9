// Package plaintext makes text from elsewhere safe to show on a terminal.
package plaintext

import (
	"strconv"
	"strings"
	"unicode"
)

// Escape writes control characters other than tabs as Go escapes, so that
// text cannot move the cursor of whoever reads it.
func Escape(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

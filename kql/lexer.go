package kql

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokIdent            // name or keyword; text as written
	tokLong             // 12, 0x1F
	tokReal             // 1.5, 1e3
	tokSpan             // 5m
	tokString           // str holds the decoded text
	tokTyped            // datetime(2020-01-01): text the type, str the raw body
	tokPunct            // operators and brackets
	tokBad              // a character or literal that is not the language; str says why
)

type token struct {
	kind tokenKind
	text string // as written (for tokTyped the type's name)
	str  string // decoded string, or the raw body of a typed literal
	pos  int
	end  int
}

// typedLiterals are the names that, directly before a parenthesis, make a
// literal whose body is not an expression.
func isTypedLiteral(name string) bool {
	switch name {
	case "datetime", "date", "timespan", "time", "long", "int", "int32", "int64", "real", "double", "decimal", "guid", "uuid", "uniqueid", "bool", "boolean":
		return true
	}
	return false
}

var punctuation = [...]string{"==", "!=", "<>", "=~", "!~", "<=", ">=", "..", "=>"}

type lexer struct {
	text string
	i    int
	toks []token
}

// lex cuts the whole text into tokens. It never fails: what it cannot read is
// a tokBad, which the parser reports if it gets there.
func lex(text string) []token {
	l := lexer{text: text, toks: make([]token, 0, len(text)/4+8)}
	for l.next() {
	}
	l.toks = append(l.toks, token{kind: tokEOF, pos: len(text), end: len(text)})
	return l.toks
}

func (l *lexer) emit(kind tokenKind, start int, str string) {
	l.toks = append(l.toks, token{kind: kind, text: l.text[start:l.i], str: str, pos: start, end: l.i})
}

func (l *lexer) skipSpace() {
	for l.i < len(l.text) {
		c := l.text[l.i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			l.i++
		case c == '/' && strings.HasPrefix(l.text[l.i:], "//"):
			if n := strings.IndexByte(l.text[l.i:], '\n'); n >= 0 {
				l.i += n
			} else {
				l.i = len(l.text)
			}
		case c >= utf8.RuneSelf || c == '\v' || c == '\f':
			r, n := utf8.DecodeRuneInString(l.text[l.i:])
			if !unicode.IsSpace(r) && r != '\uFEFF' && r != '\u200B' {
				return
			}
			l.i += n
		default:
			return
		}
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isIdentByte(c byte) bool {
	return c == '_' || isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (l *lexer) next() bool {
	l.skipSpace()
	if l.i >= len(l.text) {
		return false
	}
	start := l.i
	c := l.text[l.i]
	switch {
	case isDigit(c):
		l.number(start)
	case (c == 'h' || c == 'H') && l.i+1 < len(l.text) && (l.text[l.i+1] == '"' || l.text[l.i+1] == '\'' || l.text[l.i+1] == '@' && l.i+2 < len(l.text) && (l.text[l.i+2] == '"' || l.text[l.i+2] == '\'')):
		l.i++
		l.stringLiteral(start)
	case isIdentByte(c) || c == '$' && l.i+1 < len(l.text) && isIdentByte(l.text[l.i+1]):
		l.identifier(start)
	case c == '"' || c == '\'' || c == '@' && l.i+1 < len(l.text) && (l.text[l.i+1] == '"' || l.text[l.i+1] == '\''):
		l.stringLiteral(start)
	case strings.HasPrefix(l.text[l.i:], "```") || strings.HasPrefix(l.text[l.i:], "~~~"):
		l.multiline(start)
	case c == '!' && l.i+1 < len(l.text) && isIdentByte(l.text[l.i+1]) && !isDigit(l.text[l.i+1]):
		l.i++
		for l.i < len(l.text) && isIdentByte(l.text[l.i]) {
			l.i++
		}
		l.tilde(start)
		l.emit(tokIdent, start, "")
	default:
		l.punct(start)
	}
	return true
}

func (l *lexer) punct(start int) {
	rest := l.text[l.i:]
	for _, p := range punctuation {
		if strings.HasPrefix(rest, p) {
			l.i += len(p)
			l.emit(tokPunct, start, "")
			return
		}
	}
	c := rest[0]
	if strings.IndexByte("+-*/%<>=()[]{},;:.|?~", c) >= 0 {
		l.i++
		l.emit(tokPunct, start, "")
		return
	}
	_, n := utf8.DecodeRuneInString(rest)
	l.i += n
	l.emit(tokBad, start, "unexpected character")
}

// tilde takes the ~ of in~ and !in~.
func (l *lexer) tilde(start int) {
	if w := l.text[start:l.i]; (w == "in" || w == "!in") && l.i < len(l.text) && l.text[l.i] == '~' {
		l.i++
	}
}

func (l *lexer) identifier(start int) {
	l.i++
	for l.i < len(l.text) && isIdentByte(l.text[l.i]) {
		l.i++
	}
	name := l.text[start:l.i]
	if isTypedLiteral(name) {
		j := l.i
		for j < len(l.text) && (l.text[j] == ' ' || l.text[j] == '\t') {
			j++
		}
		if j < len(l.text) && l.text[j] == '(' {
			if end, ok := typedBody(l.text, j+1); ok {
				l.toks = append(l.toks, token{kind: tokTyped, text: name, str: l.text[j+1 : end], pos: start, end: end + 1})
				l.i = end + 1
				return
			}
		}
	}
	l.tilde(start)
	l.emit(tokIdent, start, "")
}

// typedBody finds the parenthesis that ends a typed literal; ok is false where
// the body is no plain literal text.
func typedBody(s string, i int) (int, bool) {
	for ; i < len(s); i++ {
		switch s[i] {
		case ')':
			return i, true
		case '\n', '(', '|', ';':
			return 0, false
		case '"', '\'':
			q := s[i]
			for i++; i < len(s) && s[i] != q; i++ {
				if s[i] == '\n' {
					return 0, false
				}
			}
		}
	}
	return 0, false
}

func (l *lexer) number(start int) {
	for l.i < len(l.text) && isDigit(l.text[l.i]) {
		l.i++
	}
	s := l.text
	if l.i-start == 1 && s[start] == '0' && l.i < len(s) && (s[l.i] == 'x' || s[l.i] == 'X') {
		j := l.i + 1
		for j < len(s) && (isDigit(s[j]) || s[j] >= 'a' && s[j] <= 'f' || s[j] >= 'A' && s[j] <= 'F') {
			j++
		}
		if j > l.i+1 && (j >= len(s) || !isIdentByte(s[j])) {
			l.i = j
			l.emit(tokLong, start, "")
			return
		}
	}
	isReal := false
	if l.i+1 < len(s) && s[l.i] == '.' && isDigit(s[l.i+1]) {
		isReal = true
		l.i++
		for l.i < len(s) && isDigit(s[l.i]) {
			l.i++
		}
	} else if l.i < len(s) && s[l.i] == '.' && (l.i+1 >= len(s) || s[l.i+1] != '.' && !isIdentByte(s[l.i+1])) {
		isReal = true
		l.i++
	}
	numEnd := l.i
	if l.i < len(s) && (s[l.i] == 'e' || s[l.i] == 'E') {
		j := l.i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		k := j
		for k < len(s) && isDigit(s[k]) {
			k++
		}
		if k > j && (k >= len(s) || !isIdentByte(s[k])) {
			l.i = k
			l.emit(tokReal, start, "")
			return
		}
	}
	for l.i < len(s) && isIdentByte(s[l.i]) {
		l.i++
	}
	suffix := s[numEnd:l.i]
	switch {
	case suffix == "" && isReal:
		l.emit(tokReal, start, "")
	case suffix == "":
		l.emit(tokLong, start, "")
	default:
		if _, ok := timeUnit(suffix); ok {
			l.emit(tokSpan, start, "")
			return
		}
		if isReal {
			l.emit(tokBad, start, "malformed number")
			return
		}
		l.emit(tokIdent, start, "") // 90th_percentile is a name
	}
}

// stringLiteral reads "…", '…' and their @ forms; l.i is at the quote or the @.
func (l *lexer) stringLiteral(start int) {
	verbatim := false
	if l.text[l.i] == '@' {
		verbatim = true
		l.i++
	}
	q := l.text[l.i]
	l.i++
	var b strings.Builder
	for l.i < len(l.text) {
		c := l.text[l.i]
		switch {
		case c == q && verbatim && l.i+1 < len(l.text) && l.text[l.i+1] == q:
			b.WriteByte(q)
			l.i += 2
			continue
		case c == q:
			l.i++
			l.emit(tokString, start, b.String())
			return
		case c == '\n' || c == '\r':
			l.emit(tokBad, start, "string literal is not terminated")
			return
		case c == '\\' && !verbatim:
			if !l.escape(&b) {
				l.skipString(q)
				l.emit(tokBad, start, "string literal has an unknown escape sequence")
				return
			}
			continue
		}
		b.WriteByte(c)
		l.i++
	}
	l.emit(tokBad, start, "string literal is not terminated")
}

func (l *lexer) skipString(q byte) {
	for l.i < len(l.text) && l.text[l.i] != '\n' {
		if l.text[l.i] == q {
			l.i++
			return
		}
		l.i++
	}
}

func (l *lexer) escape(b *strings.Builder) bool {
	l.i++
	if l.i >= len(l.text) {
		return false
	}
	c := l.text[l.i]
	l.i++
	switch c {
	case 'a':
		b.WriteByte('\a')
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'v':
		b.WriteByte('\v')
	case '\\', '\'', '"', '`':
		b.WriteByte(c)
	case 'x':
		return l.hexEscape(b, 2)
	case 'u':
		return l.hexEscape(b, 4)
	case 'U':
		return l.hexEscape(b, 8)
	default:
		if c < '0' || c > '7' {
			return false
		}
		n := int(c - '0')
		for k := 0; k < 2 && l.i < len(l.text) && l.text[l.i] >= '0' && l.text[l.i] <= '7' && n*8+int(l.text[l.i]-'0') < 256; k++ {
			n = n*8 + int(l.text[l.i]-'0')
			l.i++
		}
		b.WriteRune(rune(n))
	}
	return true
}

func (l *lexer) hexEscape(b *strings.Builder, n int) bool {
	if l.i+n > len(l.text) {
		return false
	}
	v, err := strconv.ParseUint(l.text[l.i:l.i+n], 16, 32)
	if err != nil || v > unicode.MaxRune {
		return false
	}
	l.i += n
	b.WriteRune(rune(v))
	return true
}

func (l *lexer) multiline(start int) {
	fence := l.text[l.i : l.i+3]
	l.i += 3
	end := strings.Index(l.text[l.i:], fence)
	if end < 0 {
		l.i = len(l.text)
		l.emit(tokBad, start, "multi-line string literal is not terminated")
		return
	}
	body := l.text[l.i : l.i+end]
	l.i += end + 3
	l.emit(tokString, start, body)
}

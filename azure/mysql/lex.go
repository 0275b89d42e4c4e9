package mysql

import (
	"strings"
	"unicode/utf8"
)

// kind is what a token is.
type kind byte

const (
	kindEnd    kind = iota
	kindSpace       // white space and comments
	kindWord        // identifier or keyword, not quoted
	kindQuoted      // identifier in back-ticks; text is what is inside
	kindString      // string literal; text is its value
	kindNumber      // number, as written
	kindHex         // X'…', 0x…, b'…'; text is the value's bytes
	kindParam       // ?
	kindUser        // @name
	kindSystem      // @@name or @@scope.name, text without the @@
	kindOp          // operator or punctuation
)

// token is one lexical element of a statement in MySQL's spelling.
type token struct {
	kind  kind
	text  string
	upper string // of kindWord: text in upper case
	at    int    // where it starts in the statement, in bytes
	end   int    // where it ends
}

func (t token) is(word string) bool { return t.kind == kindWord && t.upper == word }
func (t token) op(op string) bool   { return t.kind == kindOp && t.text == op }

// ident reports whether the token can name something.
func (t token) ident() bool { return t.kind == kindWord || t.kind == kindQuoted }

// maxTokens bounds a statement; the largest INSERT that a client builds with
// multi-row VALUES stays far below it.
const maxTokens = 500_000

// lex splits a statement as the MySQL server does with its default sql_mode:
// double quotes enclose strings, back-slashes escape (MySQL 8.0 Reference
// Manual, chapter 9). One trailing semicolon is dropped; a second statement is
// refused, as are comments that MySQL would execute.
func lex(query string) ([]token, error) {
	l := &lexer{s: query}
	var out []token
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		t.end = l.pos
		if t.kind == kindEnd {
			return out, nil
		}
		if t.op(";") {
			return out, l.nothingFollows()
		}
		if len(out) == maxTokens {
			return nil, errSyntax("the statement has more than %d parts", maxTokens)
		}
		out = append(out, t)
	}
}

type lexer struct {
	s   string
	pos int
}

func (l *lexer) nothingFollows() error {
	for {
		t, err := l.next()
		if err != nil {
			return err
		}
		switch {
		case t.kind == kindEnd:
			return nil
		case t.kind != kindSpace && !t.op(";"):
			return errSyntax("only one statement at a time is accepted; another begins at position %d", t.at+1)
		}
	}
}

func (l *lexer) peek(n int) byte {
	if l.pos+n < len(l.s) {
		return l.s[l.pos+n]
	}
	return 0
}

func (l *lexer) next() (token, error) {
	if l.pos >= len(l.s) {
		return token{kind: kindEnd, at: l.pos}, nil
	}
	start, c := l.pos, l.s[l.pos]
	switch {
	case c == 0:
		return token{}, errSyntax("zero byte at position %d", start+1)
	case isSpace(c), c == '#', c == '-' && l.dashComment(), c == '/' && l.peek(1) == '*':
		return l.space()
	case c == '\'' || c == '"':
		text, err := l.quoted(c, true)
		return token{kind: kindString, text: text, at: start}, err
	case c == '`':
		text, err := l.quoted(c, false)
		if err == nil && (text == "" || !utf8.ValidString(text)) {
			err = errSyntax("bad identifier at position %d", start+1)
		}
		return token{kind: kindQuoted, text: text, at: start}, err
	case c == '?':
		l.pos++
		return token{kind: kindParam, text: "?", at: start}, nil
	case c == '@':
		return l.variable()
	case c == '0' && (l.peek(1) == 'x' || l.peek(1) == 'b') && l.hexNumber():
		return l.hexLiteral(start, l.s[start+2:l.pos], l.s[start+1] == 'b')
	case (c == 'x' || c == 'X' || c == 'b' || c == 'B') && l.peek(1) == '\'':
		l.pos++
		text, err := l.quoted('\'', false)
		if err != nil {
			return token{}, err
		}
		return l.hexLiteral(start, text, c == 'b' || c == 'B')
	case isDigit(c) || c == '.' && isDigit(l.peek(1)):
		return l.number(), nil
	case isWord(c):
		for l.pos < len(l.s) && isWord(l.s[l.pos]) {
			l.pos++
		}
		text := l.s[start:l.pos]
		if !utf8.ValidString(text) {
			return token{}, errSyntax("bytes outside UTF-8 at position %d", start+1)
		}
		return token{kind: kindWord, text: text, upper: strings.ToUpper(text), at: start}, nil
	}
	return l.operator()
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isWord(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}

// dashComment: two dashes begin a comment only before white space or the end.
func (l *lexer) dashComment() bool {
	return l.peek(1) == '-' && (l.pos+2 >= len(l.s) || isSpace(l.s[l.pos+2]))
}

func (l *lexer) space() (token, error) {
	start := l.pos
	for l.pos < len(l.s) {
		switch c := l.s[l.pos]; {
		case isSpace(c):
			l.pos++
		case c == '#' || c == '-' && l.dashComment():
			for l.pos < len(l.s) && l.s[l.pos] != '\n' {
				l.pos++
			}
		case c == '/' && l.peek(1) == '*':
			if l.peek(2) == '!' || l.peek(2) == 'M' && l.peek(3) == '!' {
				return token{}, errSyntax("executable comment at position %d; write the statement without it", l.pos+1)
			}
			end := strings.Index(l.s[l.pos+2:], "*/")
			if end < 0 {
				return token{}, errSyntax("comment at position %d has no end", l.pos+1)
			}
			l.pos += end + 4
		default:
			return token{kind: kindSpace, text: " ", at: start}, nil
		}
	}
	return token{kind: kindSpace, text: " ", at: start}, nil
}

// quoted reads a string or identifier whose quote is at the position.
func (l *lexer) quoted(quote byte, escapes bool) (string, error) {
	start := l.pos
	var b strings.Builder
	for l.pos++; l.pos < len(l.s); l.pos++ {
		c := l.s[l.pos]
		switch {
		case c == quote && l.peek(1) == quote:
			l.pos++
			b.WriteByte(quote)
		case c == quote:
			l.pos++
			return b.String(), nil
		case c == '\\' && escapes && l.pos+1 < len(l.s):
			l.pos++
			writeEscape(&b, l.s[l.pos])
		default:
			b.WriteByte(c)
		}
	}
	return "", errSyntax("quote at position %d is not closed", start+1)
}

// writeEscape writes what back-slash and c mean (manual, section 9.1.1); \%
// and \_ keep the back-slash, for LIKE.
func writeEscape(b *strings.Builder, c byte) {
	switch c {
	case '0':
		b.WriteByte(0)
	case 'b':
		b.WriteByte('\b')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'Z':
		b.WriteByte(26)
	case '%', '_':
		b.WriteByte('\\')
		b.WriteByte(c)
	default:
		b.WriteByte(c)
	}
}

func (l *lexer) variable() (token, error) {
	start, k := l.pos, kindUser
	l.pos++
	if l.peek(0) == '@' {
		l.pos++
		k = kindSystem
	}
	from := l.pos
	for l.pos < len(l.s) && (isWord(l.s[l.pos]) || l.s[l.pos] == '.') {
		l.pos++
	}
	if l.pos == from {
		return token{}, errSyntax("variable without a name at position %d", start+1)
	}
	return token{kind: k, text: l.s[from:l.pos], at: start}, nil
}

// hexNumber moves past 0x… or 0b… if it is one and not the start of a name.
func (l *lexer) hexNumber() bool {
	end := l.pos + 2
	for end < len(l.s) && isWord(l.s[end]) {
		c := l.s[end]
		if l.s[l.pos+1] == 'b' && c != '0' && c != '1' || unhex(c) < 0 {
			return false
		}
		end++
	}
	if end == l.pos+2 {
		return false
	}
	l.pos = end
	return true
}

func unhex(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func (l *lexer) hexLiteral(at int, digits string, binary bool) (token, error) {
	per, bits := 2, 4
	if binary {
		per, bits = 8, 1
	}
	for len(digits)%per != 0 {
		digits = "0" + digits
	}
	out := make([]byte, 0, len(digits)/per)
	for i := 0; i < len(digits); i += per {
		var v int
		for _, c := range []byte(digits[i : i+per]) {
			d := unhex(c)
			if d < 0 || binary && d > 1 {
				return token{}, errSyntax("bad literal at position %d", at+1)
			}
			v = v<<bits | d
		}
		out = append(out, byte(v))
	}
	return token{kind: kindHex, text: string(out), at: at}, nil
}

// number reads digits, a fraction and an exponent. What begins with digits and
// goes on as a word is an identifier, as in MySQL.
func (l *lexer) number() token {
	start := l.pos
	digits := func() {
		for isDigit(l.peek(0)) {
			l.pos++
		}
	}
	digits()
	if l.peek(0) == '.' {
		l.pos++
		digits()
	}
	if c := l.peek(0); c == 'e' || c == 'E' {
		n := 1
		if l.peek(1) == '+' || l.peek(1) == '-' {
			n = 2
		}
		if isDigit(l.peek(n)) {
			l.pos += n
			digits()
		}
	}
	if l.pos < len(l.s) && isWord(l.s[l.pos]) && !strings.Contains(l.s[start:l.pos], ".") {
		for l.pos < len(l.s) && isWord(l.s[l.pos]) {
			l.pos++
		}
		text := l.s[start:l.pos]
		return token{kind: kindWord, text: text, upper: strings.ToUpper(text), at: start}
	}
	return token{kind: kindNumber, text: l.s[start:l.pos], at: start}
}

func (l *lexer) operator() (token, error) {
	start := l.pos
	for _, op := range [...]string{"<=>", "->>", "<=", ">=", "<>", "!=", ":=", "||", "&&", "<<", ">>", "->"} {
		if strings.HasPrefix(l.s[start:], op) {
			l.pos += len(op)
			return token{kind: kindOp, text: op, at: start}, nil
		}
	}
	c := l.s[start]
	if !strings.ContainsRune("()[]{},.;=<>+-*/%!~&|^:", rune(c)) {
		return token{}, errSyntax("unexpected character at position %d", start+1)
	}
	l.pos++
	return token{kind: kindOp, text: string(c), at: start}, nil
}

package kql

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// stringOp binds has, contains, =~ … .
func (b *binder) stringOp(n *binaryNode, op string, l, r expr) expr {
	l, r = b.stringOperand(n.l, l), b.stringOperand(n.r, r)
	not := false
	switch {
	case op == "!~":
		not, op = true, "=~"
	case op[0] == '!':
		not, op = true, op[1:]
	case strings.HasPrefix(op, "not"):
		not, op = true, op[3:]
	}
	if op == "containscs" {
		op = "contains_cs"
	}
	if c, ok := r.(*constExpr); ok {
		test := b.constMatcher(n, op, c.v.s)
		if isLiteral(l) {
			return &constExpr{boolVal(test(l.(*constExpr).v.s) != not)}
		}
		return &matchExpr{x: l, not: not, test: test}
	}
	match := b.matcher(n, op)
	return &callExpr{name: op, t: Bool, args: []expr{l, r}, fn: func(x *exec, a []val) val {
		return boolVal(match(x, a[0].s, a[1].s) != not)
	}}
}

// matchExpr tests a string against a constant: once for every distinct string
// where the column is a dictionary.
type matchExpr struct {
	x    expr
	not  bool
	test func(string) bool
}

func (e *matchExpr) typ() Type        { return Bool }
func (e *matchExpr) operands() []expr { return []expr{e.x} }

func (e *matchExpr) eval(x *exec, b *Batch) *Vector {
	v := e.x.eval(x, b)
	if v.single {
		if b.n == 0 {
			return newVector(Bool, 0)
		}
		return constVector(boolVal(e.test(v.str(0)) != e.not), b.n)
	}
	out := newVector(Bool, b.n)
	if v.codes == nil {
		for i, s := range v.strs {
			if i&1023 == 0 {
				x.check()
			}
			out.bools[i] = e.test(s) != e.not
		}
		return out
	}
	verdict := make([]int8, len(v.strs))
	for i, c := range v.codes {
		if verdict[c] == 0 {
			verdict[c] = -1
			if e.test(v.strs[c]) != e.not {
				verdict[c] = 1
			}
		}
		out.bools[i] = verdict[c] > 0
	}
	return out
}

func (b *binder) stringOperand(n node, e expr) expr {
	switch e.typ() {
	case String, Dynamic:
		return cast(e, String)
	}
	if b.opt.SchemaOnly {
		return cast(e, String)
	}
	b.fail(n, SemanticError, "the operand of a string operator must be a string, not %s", e.typ())
	return nil
}

// constMatcher prepares an operator for a constant right side.
func (b *binder) constMatcher(n node, op, t string) func(string) bool {
	switch op {
	case "=~":
		return func(s string) bool { return strings.EqualFold(s, t) }
	case "matches regex":
		re, err := compileRegex(t)
		if err != nil {
			b.fail(n, SemanticError, "the regular expression does not compile: %v", err)
		}
		return re.MatchString
	case "has":
		t = foldCase(t)
		if isASCII(t) {
			// A string that lacks the bytes, in any case, needs no folding.
			return func(s string) bool { return indexFold(s, t) >= 0 && hasTerm(foldCase(s), t, true, true) }
		}
		return func(s string) bool { return hasTerm(foldCase(s), t, true, true) }
	case "contains":
		t = foldCase(t)
		if isASCII(t) {
			return func(s string) bool { return indexFold(s, t) >= 0 }
		}
		return func(s string) bool { return strings.Contains(foldCase(s), t) }
	}
	f := b.matcher(n, op)
	return func(s string) bool { return f(nil, s, t) }
}

func (b *binder) matcher(n node, op string) func(x *exec, s, t string) bool {
	switch op {
	case "=~":
		return func(_ *exec, s, t string) bool { return strings.EqualFold(s, t) }
	case "has":
		return func(_ *exec, s, t string) bool { return hasTerm(foldCase(s), foldCase(t), true, true) }
	case "has_cs":
		return func(_ *exec, s, t string) bool { return hasTerm(s, t, true, true) }
	case "hasprefix":
		return func(_ *exec, s, t string) bool { return hasTerm(foldCase(s), foldCase(t), true, false) }
	case "hasprefix_cs":
		return func(_ *exec, s, t string) bool { return hasTerm(s, t, true, false) }
	case "hassuffix":
		return func(_ *exec, s, t string) bool { return hasTerm(foldCase(s), foldCase(t), false, true) }
	case "hassuffix_cs":
		return func(_ *exec, s, t string) bool { return hasTerm(s, t, false, true) }
	case "contains":
		return func(_ *exec, s, t string) bool { return strings.Contains(foldCase(s), foldCase(t)) }
	case "contains_cs":
		return func(_ *exec, s, t string) bool { return strings.Contains(s, t) }
	case "startswith":
		return func(_ *exec, s, t string) bool { return strings.HasPrefix(foldCase(s), foldCase(t)) }
	case "startswith_cs":
		return func(_ *exec, s, t string) bool { return strings.HasPrefix(s, t) }
	case "endswith":
		return func(_ *exec, s, t string) bool { return strings.HasSuffix(foldCase(s), foldCase(t)) }
	case "endswith_cs":
		return func(_ *exec, s, t string) bool { return strings.HasSuffix(s, t) }
	case "matches regex":
		return func(x *exec, s, t string) bool {
			re, err := compileRegex(t)
			if err != nil {
				return false
			}
			return re.MatchString(s)
		}
	}
	b.unsupported(n, "the operator %q is not implemented", op)
	return func(*exec, string, string) bool { return false }
}

// foldCase lowers a string for comparison; most log text is ASCII already
// lower case and comes back as it is.
func foldCase(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// indexFold finds an ASCII text, given in lower case, in s in any case. Letters
// beyond ASCII that fold to ASCII (the Kelvin sign, the long s) are compared
// after folding.
func indexFold(s, t string) int {
	if t == "" {
		return 0
	}
	lower := t[0]
	upper := lower
	if lower >= 'a' && lower <= 'z' {
		upper -= 'a' - 'A'
	}
	for i := 0; i+len(t) <= len(s); {
		j := strings.IndexByte(s[i:], lower)
		if upper != lower {
			if k := strings.IndexByte(s[i:max(i, min(len(s), i+jOr(j, len(s)-i)))], upper); k >= 0 {
				j = k
			}
		}
		if j < 0 {
			break
		}
		i += j
		if i+len(t) <= len(s) && equalFoldASCII(s[i:i+len(t)], t) {
			return i
		}
		i++
	}
	if !isASCII(s) {
		return strings.Index(strings.ToLower(s), t)
	}
	return -1
}

func jOr(j, n int) int {
	if j < 0 {
		return n
	}
	return j
}

func equalFoldASCII(s, lower string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// hasTerm finds t in s as a whole run of letters and digits: with left, no
// letter or digit may precede it; with right, none may follow.
func hasTerm(s, t string, left, right bool) bool {
	if t == "" {
		return true
	}
	first, _ := utf8.DecodeRuneInString(t)
	last, _ := utf8.DecodeLastRuneInString(t)
	left = left && isTermRune(first)
	right = right && isTermRune(last)
	for off := 0; ; {
		i := strings.Index(s[off:], t)
		if i < 0 {
			return false
		}
		i += off
		end := i + len(t)
		ok := true
		if left && i > 0 {
			r, _ := utf8.DecodeLastRuneInString(s[:i])
			ok = !isTermRune(r)
		}
		if ok && right && end < len(s) {
			r, _ := utf8.DecodeRuneInString(s[end:])
			ok = !isTermRune(r)
		}
		if ok {
			return true
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		off = i + n
	}
}

func isTermRune(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// maxRegexBytes bounds a pattern; Go's matcher runs in linear time.
const maxRegexBytes = 16 << 10

func compileRegex(p string) (*regexp.Regexp, error) {
	if len(p) > maxRegexBytes {
		return nil, plainError(LimitExceeded, "the pattern is longer than %d bytes", maxRegexBytes)
	}
	return regexp.Compile(unicodeClasses(p))
}

// unicodeClasses makes \d, \w and \s match as the engine's do, beyond ASCII.
// Inside a bracket the negated ones are left as they are.
func unicodeClasses(p string) string {
	const word, space = `\p{L}\p{Mn}\p{Nd}\p{Pc}`, `\s\v\x{85}\p{Z}`
	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '[' && !inClass:
			inClass = true
			if strings.HasPrefix(p[i:], "[]") || strings.HasPrefix(p[i:], "[^]") {
				n := strings.IndexByte(p[i:], ']') + 1
				b.WriteString(p[i : i+n])
				i += n - 1
				continue
			}
		case c == ']':
			inClass = false
		case c == '\\' && i+1 < len(p):
			i++
			open, shut, not := "[", "]", "[^"
			if inClass {
				open, shut = "", ""
			}
			switch {
			case p[i] == 'd':
				b.WriteString(`\p{Nd}`)
			case p[i] == 'D':
				b.WriteString(`\P{Nd}`)
			case p[i] == 'w':
				b.WriteString(open + word + shut)
			case p[i] == 's':
				b.WriteString(open + space + shut)
			case p[i] == 'W' && !inClass:
				b.WriteString(not + word + shut)
			case p[i] == 'S' && !inClass:
				b.WriteString(not + space + shut)
			case p[i] == 'Q':
				end := strings.Index(p[i:], `\E`)
				if end < 0 {
					end = len(p) - i
				}
				b.WriteString(`\` + p[i:i+end])
				i += end - 1
			default:
				b.WriteString(p[i-1 : i+1])
			}
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

package rbac

import (
	"fmt"
	"strings"
)

// The condition language of Azure ABAC, version 2.0, as far as conditions on
// role assignments and on actions need it:
//
//	expression = term { ("AND" | "&&") term } | term { ("OR" | "||") term }
//	term       = ("NOT" | "!") term | "(" expression ")" | comparison
//	comparison = "ActionMatches" "{" strings "}"
//	           | ("Exists" | "NotExists") attribute
//	           | attribute operator ( "{" values "}" | value )
//	attribute  = "@" source "[" name "]"
//	operator   = [ quantifier ":" ] name
//
// AND and OR do not mix without parentheses: what the writer meant must not
// hang on a table of precedences. Sources, names and operators that are not
// known are errors, and so never grant.

const (
	maxCondition      = 8 << 10 // Azure's limit
	maxConditionDepth = 32
)

// ConditionError says where a condition is wrong and why.
type ConditionError struct {
	// Line and Column count from 1, columns in bytes.
	Line, Column int
	Problem      string
}

func (e *ConditionError) Error() string {
	return fmt.Sprintf("condition, line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// Condition is a parsed condition. It is immutable.
type Condition struct{ root node }

// ParseCondition parses a condition. The error is a *ConditionError.
func ParseCondition(text string) (*Condition, error) {
	p := &conditionParser{text: text}
	if len(text) > maxCondition {
		return nil, p.errorf(maxCondition, "a condition has at most %d bytes", maxCondition)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	root, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if p.tok.kind != endToken {
		return nil, p.errorf(p.tok.at, "expected AND, OR or the end, found %s", p.tok)
	}
	return &Condition{root}, nil
}

// compileCondition makes a condition that is never met of a text that cannot
// be parsed, and none of an empty one.
func compileCondition(text string) *Condition {
	if text == "" {
		return nil
	}
	c, err := ParseCondition(text)
	if err != nil {
		return &Condition{constant(unknown)}
	}
	return c
}

type tokenKind int

const (
	endToken tokenKind = iota
	wordToken
	stringToken
	attributeToken // text is the name, source the source
	symbolToken    // ( ) { } , : ! && ||
)

type conditionToken struct {
	kind         tokenKind
	text, source string
	at           int
}

func (t conditionToken) String() string {
	switch t.kind {
	case endToken:
		return "the end"
	case stringToken:
		return fmt.Sprintf("the string %.40q", t.text)
	case attributeToken:
		return fmt.Sprintf("the attribute %.60q", t.text)
	}
	return fmt.Sprintf("%.40q", t.text)
}

func (t conditionToken) is(symbol string) bool { return t.kind == symbolToken && t.text == symbol }

func (t conditionToken) word(w string) bool {
	return t.kind == wordToken && strings.EqualFold(t.text, w)
}

type conditionParser struct {
	text string
	pos  int
	tok  conditionToken
}

func (p *conditionParser) errorf(at int, format string, args ...any) error {
	before := p.text[:min(at, len(p.text))]
	line := strings.Count(before, "\n") + 1
	return &ConditionError{Line: line, Column: len(before) - strings.LastIndexByte(before, '\n'), Problem: fmt.Sprintf(format, args...)}
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// next reads a token.
func (p *conditionParser) next() error {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	start := p.pos
	p.tok = conditionToken{kind: endToken, at: start}
	if start == len(p.text) {
		return nil
	}
	c := p.text[start]
	switch {
	case c == '\'':
		return p.quoted()
	case c == '@':
		return p.attribute()
	case strings.HasPrefix(p.text[start:], "&&"), strings.HasPrefix(p.text[start:], "||"):
		p.pos += 2
	case strings.IndexByte("(){},:!", c) >= 0:
		p.pos++
	case isWordByte(c):
		for p.pos < len(p.text) && isWordByte(p.text[p.pos]) {
			p.pos++
		}
		p.tok.kind, p.tok.text = wordToken, p.text[start:p.pos]
		return nil
	default:
		return p.errorf(start, "unexpected character %q", c)
	}
	p.tok.kind, p.tok.text = symbolToken, p.text[start:p.pos]
	return nil
}

// quoted reads a string in single quotes; a quote inside is written twice.
func (p *conditionParser) quoted() error {
	start := p.pos
	var b strings.Builder
	for p.pos++; p.pos < len(p.text); p.pos++ {
		if p.text[p.pos] != '\'' {
			b.WriteByte(p.text[p.pos])
			continue
		}
		if p.pos+1 < len(p.text) && p.text[p.pos+1] == '\'' {
			b.WriteByte('\'')
			p.pos++
			continue
		}
		p.pos++
		p.tok = conditionToken{kind: stringToken, text: b.String(), at: start}
		return nil
	}
	return p.errorf(start, "the string has no end")
}

// attribute reads @Source[Name].
func (p *conditionParser) attribute() error {
	start := p.pos
	open := strings.IndexByte(p.text[start:], '[')
	if open < 0 {
		return p.errorf(start, "an attribute is written @Request[name]")
	}
	source := strings.TrimSpace(p.text[start+1 : start+open])
	known := false
	for _, s := range []string{sourceRequest, sourceResource, sourcePrincipal, sourceEnvironment} {
		if strings.EqualFold(s, source) {
			source, known = s, true
		}
	}
	if !known {
		return p.errorf(start, "unknown attribute source %.40q; there are @Request, @Resource, @Principal and @Environment", source)
	}
	length := strings.IndexByte(p.text[start+open:], ']')
	if length < 0 {
		return p.errorf(start+open, "the attribute's name has no end")
	}
	name := strings.TrimSpace(p.text[start+open+1 : start+open+length])
	if name == "" || strings.ContainsAny(name, "[@'{}\n") {
		return p.errorf(start+open+1, "%.60q is no attribute name", name)
	}
	p.pos = start + open + length + 1
	p.tok = conditionToken{kind: attributeToken, text: name, source: source, at: start}
	return nil
}

func (p *conditionParser) expression(depth int) (node, error) {
	first, err := p.term(depth)
	if err != nil {
		return nil, err
	}
	operator := p.junction()
	if operator == "" {
		return first, nil
	}
	terms := []node{first}
	for {
		found := p.junction()
		if found == "" {
			break
		}
		if found != operator {
			return nil, p.errorf(p.tok.at, "AND and OR are mixed; say with parentheses which belongs together")
		}
		if err := p.next(); err != nil {
			return nil, err
		}
		term, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		terms = append(terms, term)
	}
	if operator == "AND" {
		return allOf(terms), nil
	}
	return anyOf(terms), nil
}

// junction names the AND or OR that the parser stands at, if any.
func (p *conditionParser) junction() string {
	switch {
	case p.tok.word("AND"), p.tok.is("&&"):
		return "AND"
	case p.tok.word("OR"), p.tok.is("||"):
		return "OR"
	}
	return ""
}

func (p *conditionParser) term(depth int) (node, error) {
	if depth > maxConditionDepth {
		return nil, p.errorf(p.tok.at, "more than %d levels", maxConditionDepth)
	}
	switch {
	case p.tok.is("!"), p.tok.word("NOT"):
		if err := p.next(); err != nil {
			return nil, err
		}
		inner, err := p.term(depth + 1)
		return not{inner}, err
	case p.tok.is("("):
		if err := p.next(); err != nil {
			return nil, err
		}
		inner, err := p.expression(depth + 1)
		if err != nil {
			return nil, err
		}
		return inner, p.expect(")")
	case p.tok.word("ActionMatches"):
		if err := p.next(); err != nil {
			return nil, err
		}
		values, err := p.set(true)
		return actionMatches(patterns(values)), err
	case p.tok.word("Exists"), p.tok.word("NotExists"):
		negated := p.tok.word("NotExists")
		if err := p.next(); err != nil {
			return nil, err
		}
		if p.tok.kind != attributeToken {
			return nil, p.errorf(p.tok.at, "expected an attribute, found %s", p.tok)
		}
		var n node = exists{reference(p.tok)}
		if negated {
			n = not{n}
		}
		return n, p.next()
	case p.tok.kind == attributeToken:
		return p.comparison()
	}
	return nil, p.errorf(p.tok.at, "expected a comparison, found %s", p.tok)
}

func (p *conditionParser) expect(symbol string) error {
	if !p.tok.is(symbol) {
		return p.errorf(p.tok.at, "expected %q, found %s", symbol, p.tok)
	}
	return p.next()
}

// set reads values in braces, or one value alone unless braces are needed.
func (p *conditionParser) set(braces bool) ([]string, error) {
	if !p.tok.is("{") {
		if braces {
			return nil, p.errorf(p.tok.at, "expected \"{\", found %s", p.tok)
		}
		v, err := p.value()
		return []string{v}, err
	}
	var values []string
	for {
		if err := p.next(); err != nil { // past { or ,
			return nil, err
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		if !p.tok.is(",") {
			return values, p.expect("}")
		}
	}
}

func (p *conditionParser) value() (string, error) {
	if p.tok.kind != stringToken && p.tok.kind != wordToken {
		return "", p.errorf(p.tok.at, "expected a value, found %s", p.tok)
	}
	v := p.tok.text
	return v, p.next()
}

func (p *conditionParser) comparison() (node, error) {
	c := comparison{attribute: reference(p.tok)}
	if err := p.next(); err != nil {
		return nil, err
	}
	at := p.tok.at
	name := p.tok.text
	if p.tok.kind != wordToken {
		return nil, p.errorf(at, "expected an operator, found %s", p.tok)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.is(":") {
		if !c.quantify(name) {
			return nil, p.errorf(at, "unknown operator prefix %.40q; there are ForAnyOfAnyValues, ForAllOfAnyValues, ForAnyOfAllValues and ForAllOfAllValues", name)
		}
		if err := p.next(); err != nil {
			return nil, err
		}
		at, name = p.tok.at, p.tok.text
		if p.tok.kind != wordToken {
			return nil, p.errorf(at, "expected an operator, found %s", p.tok)
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if c.test = operatorNamed(name); c.test == nil {
		return nil, p.errorf(at, "the operator %.40q is not supported", name)
	}
	values, err := p.set(c.quantified)
	c.values = values
	return c, err
}

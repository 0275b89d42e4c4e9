package kql

import (
	"math"
	"strconv"
	"strings"
)

// expr reads a scalar expression.
func (p *parser) expr() node {
	p.enter()
	defer p.leave()
	return p.or()
}

func (p *parser) binary(sub func() node, ops ...string) node {
	l := sub()
	for {
		t := p.peek()
		if t.kind != tokPunct && t.kind != tokIdent {
			return l
		}
		found := false
		for _, o := range ops {
			if t.text == o {
				found = true
				break
			}
		}
		if !found {
			return l
		}
		p.next()
		r := sub()
		l = &binaryNode{span{l.place().pos, p.lastEnd()}, t.text, t.pos, l, r}
	}
}

func (p *parser) or() node  { return p.binary(p.and, "or") }
func (p *parser) and() node { return p.binary(p.equality, "and") }

func (p *parser) equality() node {
	l := p.relational()
	for {
		t := p.peek()
		switch {
		case t.kind == tokPunct && (t.text == "==" || t.text == "!=" || t.text == "<>" || t.text == "="):
			p.next()
			op := t.text
			switch op {
			case "<>":
				op = "!="
			case "=": // the language reads a lone = in a condition as ==
				op = "=="
			}
			r := p.relational()
			l = &binaryNode{span{l.place().pos, p.lastEnd()}, op, t.pos, l, r}
		case t.kind == tokIdent && isListOperator(t.text):
			p.next()
			list := p.list()
			l = &inNode{span{l.place().pos, p.lastEnd()}, t.text, l, list}
		case t.kind == tokIdent && (t.text == "between" || t.text == "!between"):
			p.next()
			p.expectPunct("(")
			lo := p.expr()
			p.expectPunct("..")
			hi := p.expr()
			p.expectPunct(")")
			l = &betweenNode{span{l.place().pos, p.lastEnd()}, t.text[0] == '!', l, lo, hi}
		default:
			return l
		}
	}
}

func isListOperator(s string) bool {
	switch s {
	case "in", "!in", "in~", "!in~", "has_any", "has_all":
		return true
	}
	return false
}

// list reads the parenthesised operand of in, has_any and has_all.
func (p *parser) list() []node {
	p.expectPunct("(")
	list := []node{p.pipe()}
	for p.acceptPunct(",") {
		list = append(list, p.pipe())
	}
	p.expectPunct(")")
	return list
}

func (p *parser) relational() node { return p.binary(p.additive, "<", ">", "<=", ">=") }
func (p *parser) additive() node   { return p.binary(p.multiplicative, "+", "-") }
func (p *parser) multiplicative() node {
	return p.binary(p.stringOps, "*", "/", "%")
}

func isStringOperator(s string) bool {
	switch s {
	case "=~", "!~", "has", "!has", "has_cs", "!has_cs", "hasprefix", "!hasprefix", "hasprefix_cs", "!hasprefix_cs",
		"hassuffix", "!hassuffix", "hassuffix_cs", "!hassuffix_cs", "contains", "!contains", "contains_cs", "!contains_cs",
		"notcontains", "notcontains_cs", "containscs",
		"startswith", "!startswith", "startswith_cs", "!startswith_cs", "endswith", "!endswith", "endswith_cs", "!endswith_cs",
		"like", "notlike", "likecs", "notlikecs", ":":
		return true
	}
	return false
}

func (p *parser) stringOps() node {
	l := p.unary()
	for {
		t := p.peek()
		if t.kind != tokPunct && t.kind != tokIdent {
			return l
		}
		op := t.text
		switch {
		case t.kind == tokIdent && op == "matches" && p.peekAt(1).kind == tokIdent && p.peekAt(1).text == "regex":
			p.next()
			p.next()
			op = "matches regex"
		case op != ":" && isStringOperator(op):
			p.next()
		default:
			return l
		}
		r := p.unary()
		l = &binaryNode{span{l.place().pos, p.lastEnd()}, op, t.pos, l, r}
	}
}

func (p *parser) unary() node {
	if t := p.peek(); t.kind == tokPunct && (t.text == "-" || t.text == "+") {
		p.enter()
		defer p.leave()
		p.next()
		x := p.unary()
		return &unaryNode{span{t.pos, p.lastEnd()}, t.text, x}
	}
	return p.path()
}

// path reads a primary and its .name and [index] suffixes.
func (p *parser) path() node {
	x := p.primary()
	for n := 0; ; n++ {
		if n > maxNesting {
			p.failAt(p.peek(), LimitExceeded, "the path is longer than %d steps", maxNesting)
		}
		start := x.place().pos
		switch {
		case p.isPunct("."):
			p.next()
			if p.isPunct("[") && p.nameAhead(0) == 0 {
				continue // base.[expression] reads as base[expression]
			}
			if p.isPunct("[") {
				name := p.name()
				x = &pathNode{p.since(start), x, name}
				continue
			}
			t := p.peek()
			if t.kind != tokIdent || t.text[0] == '!' {
				p.fail("a property name is expected")
			}
			p.next()
			if p.isPunct("(") { // workspace("x").f(…)
				call := p.call(t)
				x = &pathCallNode{span{start, p.lastEnd()}, x, call}
				continue
			}
			x = &pathNode{p.since(start), x, t.text}
		case p.isPunct("[") && p.suffixBracket(x):
			p.next()
			idx := p.expr()
			p.expectPunct("]")
			x = &indexNode{p.since(start), x, idx}
		default:
			return x
		}
	}
}

// suffixBracket reports whether a bracket here indexes x: a literal is not
// indexed.
func (p *parser) suffixBracket(x node) bool {
	_, isLit := x.(*literalNode)
	return !isLit
}

type pathCallNode struct { // base.f(…)
	span
	base node
	call node
}

func (p *parser) primary() node {
	t := p.peek()
	switch t.kind {
	case tokLong, tokReal, tokSpan, tokTyped:
		p.next()
		if t.kind == tokTyped {
			if typ, _ := ParseType(t.text); typ == DateTime || typ == TimeSpan || typ == GUID {
				if _, ok := typedLiteral(typ, t.str); !ok {
					return &badLiteralNode{span{t.pos, t.end}, typ}
				}
			}
		}
		return &literalNode{span{t.pos, t.end}, p.literal(t)}
	case tokString:
		p.next()
		s := t.str
		if p.peek().kind == tokString {
			var b strings.Builder
			b.WriteString(s)
			for p.peek().kind == tokString {
				b.WriteString(p.next().str)
			}
			s = b.String()
		}
		return &literalNode{p.since(t.pos), strVal(s)}
	case tokIdent:
		return p.identPrimary(t)
	case tokPunct:
		switch t.text {
		case "(":
			p.next()
			x := p.pipe()
			p.expectPunct(")")
			return x
		case "*":
			p.next()
			return &starNode{span{t.pos, t.end}}
		case "{": // {name}: a parameter that a client was to fill in
			if p.peekAt(1).kind == tokIdent {
				k := 2
				for k < 8 && p.peekAt(k).text != "}" {
					k++
				}
				if p.peekAt(k).text == "}" {
					p.i += k + 1
					return &clientParamNode{p.since(t.pos)}
				}
			}
		case "[":
			if p.nameAhead(0) == 3 {
				return &nameNode{name: p.name(), span: p.since(t.pos)}
			}
		}
	}
	p.fail("an expression is expected")
	return nil
}

func (p *parser) identPrimary(t token) node {
	switch t.text {
	case "true", "false", "True", "False", "TRUE", "FALSE":
		if p.peekAt(1).text != "(" {
			p.next()
			return &literalNode{span{t.pos, t.end}, boolVal(t.text[0] == 't' || t.text[0] == 'T')}
		}
	case "and", "or", "between", "matches", "in", "has", "contains", "startswith", "endswith", "by", "has_any", "has_all", "hasprefix", "hassuffix", "like":
		p.fail("an expression is expected")
	}
	if t.text[0] == '!' || strings.HasSuffix(t.text, "~") {
		p.fail("an expression is expected")
	}
	p.next()
	if p.isPunct("(") {
		switch t.text {
		case "dynamic":
			p.next()
			d := p.dynamicBody()
			p.expectPunct(")")
			return &literalNode{p.since(t.pos), dynVal(d)}
		case "typeof":
			return p.typeof(t)
		}
		return p.call(t)
	}
	if t.text == "datatable" || t.text == "externaldata" {
		if read := sourceParser(p, t.text); read != nil {
			op := read(p, opBase{span{t.pos, t.pos}, t.text})
			return &sourceNode{p.since(t.pos), op}
		}
	}
	if p.isPunct("*") && p.peek().pos == t.end && p.wildcardAhead() {
		p.i--
		return p.columnPattern()
	}
	return &nameNode{span{t.pos, t.end}, t.text}
}

// wildcardAhead tells the star of a table pattern (T*) from a product.
func (p *parser) wildcardAhead() bool {
	nt := p.peekAt(1)
	return nt.kind == tokPunct && (nt.text == ")" || nt.text == "," || nt.text == "|") || nt.kind == tokEOF
}

func (p *parser) typeof(t token) node {
	p.expectPunct("(")
	n := &typeofNode{}
	if p.acceptPunct("*") {
		n.star = true
	} else {
		n.typ = p.typeName()
	}
	p.expectPunct(")")
	n.span = p.since(t.pos)
	return n
}

// call reads the arguments of a function whose name was read.
func (p *parser) call(t token) node {
	p.enter()
	defer p.leave()
	if t.text == "datatable" || t.text == "externaldata" {
		if read := sourceParser(p, t.text); read != nil {
			op := read(p, opBase{span{t.pos, t.pos}, t.text})
			return &sourceNode{p.since(t.pos), op}
		}
	}
	p.expectPunct("(")
	c := &callNode{name: t.text}
	for !p.isPunct(")") {
		if len(c.args) > 0 {
			p.expectPunct(",")
		}
		var a argument
		if n := p.nameAhead(0); n > 0 && p.peekAt(n).kind == tokPunct && p.peekAt(n).text == "=" {
			a.name = p.name()
			p.next()
		}
		if p.isPunct("(") && p.lambdaAhead() {
			a.x = p.lambda()
		} else {
			a.x = p.pipe()
		}
		c.args = append(c.args, a)
	}
	p.expectPunct(")")
	c.span = p.since(t.pos)
	return c
}

func (p *parser) literal(t token) val {
	switch t.kind {
	case tokLong:
		s := t.text
		base := 10
		if len(s) > 2 && (s[1] == 'x' || s[1] == 'X') {
			s, base = s[2:], 16
		}
		if base == 16 {
			if u, err := strconv.ParseUint(s, 16, 64); err == nil {
				return longVal(int64(u))
			}
		} else if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return longVal(n)
		} else if s == "9223372036854775808" && p.i >= 2 && p.toks[p.i-2].text == "-" {
			return longVal(math.MinInt64) // the minus before it negates it to itself
		}
		p.failAt(t, SyntaxError, "the number does not fit a long")
	case tokReal:
		f, err := strconv.ParseFloat(strings.TrimSuffix(t.text, "."), 64)
		if err != nil && !math.IsInf(f, 0) {
			p.failAt(t, SyntaxError, "malformed number")
		}
		return realVal(f)
	case tokSpan:
		n, ok := parseTimeSpan(t.text)
		if !ok {
			p.failAt(t, SyntaxError, "the timespan does not fit")
		}
		return intVal(TimeSpan, n)
	}
	typ, _ := ParseType(t.text)
	v, ok := typedLiteral(typ, t.str)
	if !ok {
		p.failAt(t, SyntaxError, "malformed %s literal", typ)
	}
	return v
}

// typedLiteral reads the body of datetime(…), long(…) and so on.
func typedLiteral(typ Type, body string) (val, bool) {
	s := strings.TrimSpace(body)
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = s[1 : len(s)-1]
	}
	if s == "null" || s == "" && typ != String {
		return nullOf(typ), s != ""
	}
	switch typ {
	case Bool:
		switch strings.ToLower(s) {
		case "true", "1":
			return boolVal(true), true
		case "false", "0":
			return boolVal(false), true
		}
		n, err := strconv.ParseInt(s, 10, 64)
		return boolVal(n != 0), err == nil
	case Int, Long:
		bits := 64
		if typ == Int {
			bits = 32
		}
		if n, err := strconv.ParseInt(s, 0, bits); err == nil && !strings.ContainsAny(s, "_") {
			return intVal(typ, n), true
		}
		if n, err := strconv.ParseInt(s, 10, bits); err == nil {
			return intVal(typ, n), true
		}
		if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
			if u, err := strconv.ParseUint(s[2:], 16, bits); err == nil {
				if typ == Int {
					return intVal(typ, int64(int32(uint32(u)))), true
				}
				return intVal(typ, int64(u)), true
			}
		}
		return val{}, false
	case Real:
		switch strings.ToLower(s) {
		case "nan":
			return realVal(math.NaN()), true
		case "+inf", "inf":
			return realVal(math.Inf(1)), true
		case "-inf":
			return realVal(math.Inf(-1)), true
		}
		f, err := strconv.ParseFloat(s, 64)
		return realVal(f), err == nil && !strings.ContainsAny(s, "_xX")
	case Decimal:
		n, ok := parseNumber(s)
		return val{t: Decimal, d: n}, ok
	case DateTime:
		n, ok := parseDateTime(s)
		if !ok && strings.Contains(s, ",") { // datetime(2025, 6, 14)
			n, ok = parseDateTime(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }), "-"))
		}
		return intVal(DateTime, n), ok
	case TimeSpan:
		n, ok := parseTimeSpan(s)
		return intVal(TimeSpan, n), ok
	case GUID:
		g, ok := parseGUID(s)
		return val{t: GUID, s: g}, ok
	}
	return val{}, false
}

// parseGUID returns the canonical lower-case form.
func parseGUID(s string) (string, bool) {
	s = strings.TrimSpace(s)
	if len(s) == 38 && s[0] == '{' && s[37] == '}' {
		s = s[1:37]
	}
	if len(s) == 32 {
		s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	}
	if len(s) != 36 {
		return "", false
	}
	for i := range len(s) {
		c := s[i]
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash != (c == '-') || !dash && !hex {
			return "", false
		}
	}
	return strings.ToLower(s), true
}

// dynamicBody reads the body of dynamic(…): JSON, with single quotes and typed
// literals besides.
func (p *parser) dynamicBody() any {
	p.enter()
	defer p.leave()
	t := p.peek()
	switch {
	case t.kind == tokString:
		return p.primary().(*literalNode).v.s
	case p.acceptPunct("["):
		out := []any{}
		for !p.isPunct("]") {
			if len(out) > 0 {
				p.expectPunct(",")
				if p.isPunct("]") {
					break
				}
			}
			out = append(out, p.dynamicBody())
		}
		p.expectPunct("]")
		return out
	case p.acceptPunct("{"):
		bag := NewBag()
		for n := 0; !p.isPunct("}"); n++ {
			if n > 0 {
				p.expectPunct(",")
				if p.isPunct("}") {
					break
				}
			}
			k := p.next()
			key := k.str
			switch {
			case k.kind == tokIdent || k.kind == tokLong:
				key = k.text
			case k.kind != tokString:
				p.failAt(k, SyntaxError, "a property name is expected")
			}
			p.expectPunct(":")
			bag.Set(key, p.dynamicBody())
		}
		p.expectPunct("}")
		return bag
	case p.acceptWord("null"):
		return nil
	case t.kind == tokIdent && t.text == "dynamic" && p.peekAt(1).text == "(":
		p.next()
		p.next()
		d := p.dynamicBody()
		p.expectPunct(")")
		return d
	case p.acceptWord("true", "True"):
		return true
	case p.acceptWord("false", "False"):
		return false
	case p.acceptWord("NaN", "nan"):
		return math.NaN()
	}
	return p.dynamicNumber()
}

// dynamicNumber reads a number, a timespan or a typed literal, with its sign.
func (p *parser) dynamicNumber() any {
	neg := false
	if p.isPunct("-") || p.isPunct("+") {
		neg = p.next().text == "-"
	}
	t := p.peek()
	switch t.kind {
	case tokLong, tokReal, tokSpan, tokTyped:
		p.next()
		d := valToDynamic(p.literal(t))
		if neg {
			switch x := d.(type) {
			case int64:
				return -x
			case float64:
				return -x
			case spanValue:
				return -x
			}
			p.failAt(t, SyntaxError, "a number is expected")
		}
		return d
	case tokIdent:
		if t.text == "inf" || t.text == "infinity" || t.text == "Infinity" {
			p.next()
			if neg {
				return math.Inf(-1)
			}
			return math.Inf(1)
		}
	}
	p.fail("a JSON value is expected")
	return nil
}

package kql

import (
	"fmt"
	"slices"
	"strings"
)

// Bounds of the syntax. They keep recursion and memory small for any input.
const (
	maxQueryBytes = 1 << 20
	maxNesting    = 200
	maxOperators  = 10_000
)

// Parse reads a query. The error is an *Error with SyntaxError (or
// LimitExceeded, or NotImplemented for an operator of the language that has no
// syntax here yet) and the place of the first fault.
func Parse(text string) (q *Query, err error) {
	if len(text) > maxQueryBytes {
		return nil, plainError(LimitExceeded, "the query has %d bytes; the limit is %d", len(text), maxQueryBytes)
	}
	p := &parser{text: text, toks: lex(text)}
	defer recoverBail(text, &err)
	stmts := p.statements(tokEOF, "")
	if len(stmts) == 0 {
		p.fail("the query is empty")
	}
	return &Query{text: text, stmts: stmts}, nil
}

// bail carries an *Error up the stack of a parser, binder or evaluator; it
// never crosses the package's border.
type bail struct{ err *Error }

// recoverBail turns a bail into the error. Any other panic is a defect of this
// package: it becomes an error too, since no input may end the process.
func recoverBail(text string, err *error) {
	switch r := recover().(type) {
	case nil:
	case bail:
		*err = r.err
	default:
		*err = plainError(RuntimeError, "internal defect: %v", clip(fmt.Sprint(r), 200))
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

type parser struct {
	text  string
	toks  []token
	i     int
	depth int
	nops  int
}

func (p *parser) peek() token { return p.toks[p.i] }

func (p *parser) peekAt(n int) token {
	if p.i+n < len(p.toks) {
		return p.toks[p.i+n]
	}
	return p.toks[len(p.toks)-1]
}

func (p *parser) next() token {
	t := p.toks[p.i]
	if t.kind != tokEOF {
		p.i++
	}
	return t
}

// fail refuses at the next token.
func (p *parser) fail(format string, args ...any) {
	p.failAt(p.peek(), SyntaxError, format, args...)
}

func (p *parser) failAt(t token, code ErrorCode, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	switch t.kind {
	case tokBad:
		msg = t.str
	case tokEOF:
		msg += ", but the query ends here"
	}
	panic(bail{errorAt(p.text, code, t.pos, clip(t.text, 60), "%s", msg)})
}

func (p *parser) enter() {
	p.depth++
	if p.depth > maxNesting {
		p.failAt(p.peek(), LimitExceeded, "the query is nested deeper than %d levels", maxNesting)
	}
}

func (p *parser) leave() { p.depth-- }

func (p *parser) isPunct(s string) bool {
	t := p.peek()
	return t.kind == tokPunct && t.text == s
}

func (p *parser) isWord(words ...string) bool {
	t := p.peek()
	return t.kind == tokIdent && slices.Contains(words, t.text)
}

func (p *parser) acceptPunct(s string) bool {
	if p.isPunct(s) {
		p.i++
		return true
	}
	return false
}

func (p *parser) acceptWord(words ...string) bool {
	if p.isWord(words...) {
		p.i++
		return true
	}
	return false
}

func (p *parser) expectPunct(s string) token {
	if !p.isPunct(s) {
		p.fail("%q is expected", s)
	}
	return p.next()
}

func (p *parser) expectWord(s string) token {
	if !p.isWord(s) {
		p.fail("%q is expected", s)
	}
	return p.next()
}

func (p *parser) lastEnd() int {
	if p.i == 0 {
		return 0
	}
	return p.toks[p.i-1].end
}

func (p *parser) since(start int) span { return span{start, p.lastEnd()} }

// statements reads statements up to the end of the text, or up to the closing
// brace of a function body.
func (p *parser) statements(endKind tokenKind, endText string) []statement {
	var out []statement
	atEnd := func() bool {
		t := p.peek()
		return t.kind == tokEOF || t.kind == endKind && t.text == endText
	}
	for {
		for p.acceptPunct(";") {
		}
		if atEnd() {
			return out
		}
		out = append(out, p.statement())
		if !atEnd() && !p.isPunct(";") {
			p.fail("%q or a query operator is expected", ";")
		}
	}
}

func (p *parser) statement() statement {
	start := p.peek().pos
	next := p.peekAt(1)
	switch {
	case p.isWord("let") && (next.kind == tokIdent || next.text == "["):
		p.next()
		name := p.name()
		p.expectPunct("=")
		x := p.letValue()
		return &letStmt{p.since(start), name, x}
	case p.isWord("set") && next.kind == tokIdent:
		p.next()
		name := p.next().text
		for p.acceptPunct(".") {
			name += "." + p.name()
		}
		if p.acceptPunct("=") {
			p.expr()
		}
		return &setStmt{p.since(start), name}
	case p.isWord("declare") && next.kind == tokIdent && (next.text == "query_parameters" || next.text == "pattern"),
		p.isWord("alias") && next.kind == tokIdent && next.text == "database",
		p.isWord("restrict") && next.kind == tokIdent && next.text == "access":
		p.failAt(p.peek(), NotImplemented, "the statement %q is not implemented", p.peek().text+" "+next.text)
	}
	x := p.pipe()
	first := x
	if pn, ok := x.(*pipeNode); ok {
		first = pn.src
	}
	if c, ok := first.(*binaryNode); ok && c.op == "==" && !strings.HasPrefix(p.text[c.opPos:], "==") {
		panic(bail{errorAt(p.text, SyntaxError, start, p.text[start:c.opPos], "a statement cannot assign; %q is missing before the name", "let")})
	}
	return &exprStmt{p.since(start), x}
}

// letValue reads an expression, a query, or a function.
func (p *parser) letValue() node {
	if p.isWord("view") && p.peekAt(1).text == "(" {
		p.next()
	}
	if p.isPunct("(") && p.lambdaAhead() {
		return p.lambda()
	}
	return p.pipe()
}

// lambdaAhead reports whether the parenthesis here closes before a brace.
func (p *parser) lambdaAhead() bool {
	depth := 0
	for k := p.i; k < len(p.toks); k++ {
		switch t := p.toks[k]; {
		case t.kind != tokPunct:
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
			if depth == 0 {
				nt := p.toks[min(k+1, len(p.toks)-1)]
				return nt.kind == tokPunct && nt.text == "{"
			}
		}
	}
	return false
}

func (p *parser) lambda() node {
	p.enter()
	defer p.leave()
	start := p.expectPunct("(").pos
	l := &lambdaNode{}
	for !p.isPunct(")") {
		if len(l.params) > 0 {
			p.expectPunct(",")
		}
		par := parameter{pos: p.peek().pos, name: p.name()}
		p.expectPunct(":")
		if p.isPunct("(") {
			par.table = p.schemaDecl()
		} else {
			par.typ = p.typeName()
		}
		if p.acceptPunct("=") {
			par.def = p.expr()
		}
		l.params = append(l.params, par)
	}
	p.expectPunct(")")
	p.expectPunct("{")
	l.body = p.statements(tokPunct, "}")
	p.expectPunct("}")
	l.span = p.since(start)
	if len(l.body) == 0 {
		p.fail("the function body is empty")
	}
	return l
}

func (p *parser) typeName() Type {
	t := p.peek()
	typ, ok := ParseType(t.text)
	if t.kind != tokIdent || !ok {
		p.fail("a type name is expected")
	}
	p.next()
	return typ
}

// schemaDecl reads (a:string, b:long) and (*), (a:string, *).
func (p *parser) schemaDecl() *schemaNode {
	start := p.expectPunct("(").pos
	s := &schemaNode{}
	for !p.isPunct(")") {
		if len(s.cols) > 0 || s.open {
			p.expectPunct(",")
			if p.isPunct(")") {
				break
			}
		}
		if p.acceptPunct("*") {
			s.open = true
			continue
		}
		name := p.name()
		p.expectPunct(":")
		s.cols = append(s.cols, Column{name, p.typeName()})
	}
	p.expectPunct(")")
	s.span = p.since(start)
	return s
}

// name reads an identifier, ['quoted name'] or ["quoted name"].
func (p *parser) name() string {
	t := p.peek()
	switch {
	case t.kind == tokIdent && t.text[0] != '!' && t.text != "$left" && t.text != "$right" && !strings.HasSuffix(t.text, "~"):
		p.next()
		return t.text
	case t.kind == tokString:
		p.next()
		return t.str
	case p.isPunct("[") && p.peekAt(1).kind == tokString && p.peekAt(2).text == "]":
		p.next()
		s := p.next().str
		p.next()
		return s
	}
	p.fail("a name is expected")
	return ""
}

// nameAhead reports how many tokens a name takes here, or 0.
func (p *parser) nameAhead(i int) int {
	t := p.peekAt(i)
	if t.kind == tokIdent && t.text[0] != '!' && t.text[0] != '$' {
		return 1
	}
	if t.kind == tokPunct && t.text == "[" && p.peekAt(i+1).kind == tokString && p.peekAt(i+2).text == "]" {
		return 3
	}
	return 0
}

// pipe reads a source and the operators after it.
func (p *parser) pipe() node {
	p.enter()
	defer p.leave()
	start := p.peek().pos
	src := p.source()
	if !p.isPunct("|") {
		return src
	}
	pn := &pipeNode{src: src}
	for p.acceptPunct("|") {
		p.nops++
		if p.nops > maxOperators {
			p.failAt(p.peek(), LimitExceeded, "the query has more than %d operators", maxOperators)
		}
		pn.ops = append(pn.ops, p.operator())
	}
	pn.span = p.since(start)
	return pn
}

// source reads what may stand before the first pipe.
func (p *parser) source() node {
	t := p.peek()
	if t.kind == tokIdent {
		if read := sourceParser(p, t.text); read != nil {
			p.next()
			op := read(p, opBase{span{t.pos, t.pos}, t.text})
			return &sourceNode{p.since(t.pos), op}
		}
		if t.text == "where" && p.peekAt(1).kind == tokIdent && !isStringOperator(p.peekAt(1).text) && !isListOperator(p.peekAt(1).text) {
			p.next()
			op := readWhere(p, opBase{span{t.pos, t.pos}, t.text})
			return &sourceNode{p.since(t.pos), op}
		}
	}
	return p.expr()
}

// operatorName reads a possibly hyphenated operator name.
func (p *parser) operatorName() (string, int) {
	t := p.peek()
	if t.kind != tokIdent {
		p.fail("a query operator is expected")
	}
	p.next()
	name := t.text
	for p.isPunct("-") && p.peek().pos == p.lastEnd() && p.peekAt(1).kind == tokIdent && p.peekAt(1).pos == p.peek().end {
		p.next()
		name += "-" + p.next().text
	}
	return name, t.pos
}

func (p *parser) operator() operator {
	at := p.peek()
	name, start := p.operatorName()
	read := operatorParser(name)
	if read == nil {
		if knownOperator(name) {
			p.failAt(at, NotImplemented, "the operator %q is not implemented", name)
		}
		p.failAt(at, SyntaxError, "%q is no query operator", name)
	}
	op := read(p, opBase{span{start, start}, name})
	return op
}

// namedExprs reads a comma-separated list of [name =] expr.
func (p *parser) namedExprs() []node {
	var out []node
	for {
		out = append(out, p.namedExpr())
		if !p.acceptPunct(",") {
			return out
		}
	}
}

func (p *parser) namedExpr() node {
	start := p.peek().pos
	if n := p.nameAhead(0); n > 0 && p.peekAt(n).kind == tokPunct && p.peekAt(n).text == "=" {
		name := p.name()
		p.next()
		x := p.expr()
		return &namedNode{p.since(start), []string{name}, x}
	}
	if p.isPunct("(") {
		if names, ok := p.nameTuple(); ok {
			x := p.expr()
			return &namedNode{p.since(start), names, x}
		}
	}
	return p.expr()
}

// nameTuple reads "(a, b) =" or nothing.
func (p *parser) nameTuple() ([]string, bool) {
	k := 1
	for {
		n := p.nameAhead(k)
		if n == 0 {
			return nil, false
		}
		k += n
		t := p.peekAt(k)
		if t.text == ")" && p.peekAt(k+1).kind == tokPunct && p.peekAt(k+1).text == "=" {
			break
		}
		if t.text != "," {
			return nil, false
		}
		k++
	}
	p.next()
	var names []string
	for {
		names = append(names, p.name())
		if !p.acceptPunct(",") {
			break
		}
	}
	p.expectPunct(")")
	p.expectPunct("=")
	return names, true
}

// params reads name=value pairs before an operator's operands, hint.x=y
// included. Values are names, strings, numbers or parenthesised lists.
func (p *parser) params(known ...string) map[string]node {
	var out map[string]node
	for {
		t := p.peek()
		if t.kind != tokIdent {
			return out
		}
		isHint := t.text == "hint" && p.peekAt(1).text == "."
		if !isHint && (!slices.Contains(known, t.text) || p.peekAt(1).text != "=") {
			return out
		}
		name := p.next().text
		for p.acceptPunct(".") {
			name += "." + p.name()
		}
		p.expectPunct("=")
		if out == nil {
			out = map[string]node{}
		}
		out[name] = p.paramValue()
	}
}

// paramValue reads a word (which no parenthesis makes a call) or a literal.
func (p *parser) paramValue() node {
	if t := p.peek(); t.kind == tokIdent {
		p.next()
		return &nameNode{span{t.pos, t.end}, t.text}
	}
	return p.unary()
}

// paramWord is a parameter's value as a word or string.
func (p *parser) paramWord(n node, what string) string {
	switch n := n.(type) {
	case nil:
		return ""
	case *nameNode:
		return n.name
	case *literalNode:
		if n.v.t == String {
			return n.v.s
		}
		return valText(n.v)
	}
	panic(bail{errorAt(p.text, SyntaxError, n.place().pos, "", "%s takes a name", what)})
}

// columnPatterns reads names and wildcards: a, b*, *.
func (p *parser) columnPattern() *nameNode {
	start := p.peek()
	if p.isPunct("*") || p.peek().kind == tokIdent && p.peekAt(1).text == "*" && p.peekAt(1).pos == p.peek().end {
		var b strings.Builder
		for end := start.pos; ; {
			t := p.peek()
			if t.pos != end || t.kind != tokIdent && t.text != "*" && t.kind != tokLong {
				break
			}
			b.WriteString(t.text)
			end = t.end
			p.next()
		}
		return &nameNode{p.since(start.pos), b.String()}
	}
	name := p.name()
	return &nameNode{p.since(start.pos), name}
}

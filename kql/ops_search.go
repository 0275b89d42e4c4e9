package kql

import (
	"strings"
)

// search [kind=case_sensitive] [in (T, …)] PREDICATE
//
// A string in the predicate stands for "any column has this term"; a star at
// its ends widens the term.

type searchOp struct {
	opBase
	sensitive bool
	tables    []node
	cond      node
}

func readSearch(p *parser, o opBase) operator {
	op := &searchOp{opBase: o}
	switch kind := p.paramWord(p.params("kind")["kind"], "kind"); kind {
	case "", "default", "case_insensitive":
	case "case_sensitive":
		op.sensitive = true
	default:
		p.fail("search has no kind %q", kind)
	}
	if p.acceptWord("in") {
		p.expectPunct("(")
		for {
			op.tables = append(op.tables, p.unionItem())
			if !p.acceptPunct(",") {
				break
			}
		}
		p.expectPunct(")")
	}
	if len(op.tables) == 0 {
		switch kind := p.paramWord(p.params("kind")["kind"], "kind"); kind {
		case "case_sensitive":
			op.sensitive = true
		}
	}
	op.cond = p.expr()
	op.span = p.spanFrom(o)
	return op
}

func (o *searchOp) bind(b *binder, in rel) rel {
	r := &unionRel{}
	add := func(name string, t rel) {
		if name == "" || strings.HasPrefix(name, "union_arg") {
			name = "search_arg" + strings.TrimPrefix(name, "union_arg")
			if name == "search_arg" {
				name = "search_arg0"
			}
		}
		r.ins = append(r.ins, t)
		r.names = append(r.names, name)
	}
	switch {
	case in != nil:
		add(sourceName(in), in)
	case len(o.tables) > 0:
		u := &unionOp{}
		b.withRow(nil, func() {
			for _, t := range o.tables {
				u.bindItem(b, t, add)
			}
		})
	default:
		for _, name := range b.cat.TableNames() {
			if t, ok := b.cat.Table(name); ok {
				add(name, b.scan(name, t))
			}
		}
	}
	if len(r.ins) == 0 {
		b.fail(o, SemanticError, "search has no table to look in")
	}
	r.layout("$table", false)
	row := &rowScope{cols: r.cols}
	var cond expr
	b.withRow(row, func() { cond = o.predicate(b, o.cond) })
	return &filterRel{in: r, cond: cond}
}

func (o *searchOp) predicate(b *binder, n node) expr {
	switch n := n.(type) {
	case *literalNode:
		if n.v.t != String {
			b.unsupported(n, "search for a %s is not implemented; write it as a string", n.v.t)
			return &constExpr{boolVal(true)}
		}
		return o.anywhere(b, n, n.v.s)
	case *binaryNode:
		if n.op == "and" || n.op == "or" {
			return &logicExpr{n.op == "and", o.predicate(b, n.l), o.predicate(b, n.r)}
		}
	case *callNode:
		if n.name == "not" && len(n.args) == 1 {
			return notExpr(o.predicate(b, n.args[0].x))
		}
	case *starNode:
		return &constExpr{boolVal(true)}
	}
	return b.predicate(n)
}

// anywhere matches a term in any column of text or whole numbers.
func (o *searchOp) anywhere(b *binder, n *literalNode, term string) expr {
	op, cs := "has", ""
	switch pre, post := strings.HasPrefix(term, "*"), strings.HasSuffix(term, "*"); {
	case term == "*" || term == "":
		return &constExpr{boolVal(true)}
	case pre && post:
		op = "contains"
	case pre:
		op = "hassuffix"
	case post:
		op = "hasprefix"
	}
	term = strings.Trim(term, "*")
	if strings.Contains(term, "*") {
		b.unsupported(n, "a star inside a search term is not implemented")
	}
	if o.sensitive {
		cs = "_cs"
	}
	bin := &binaryNode{span: n.span, op: op + cs, l: n, r: n}
	var e expr = &constExpr{boolVal(false)}
	for i, c := range b.row.cols {
		if c.Name == "$table" {
			continue
		}
		switch c.Type {
		case String, Dynamic, Int, Long, GUID, Bool:
			m := b.stringOp(bin, op+cs, cast(&colExpr{c.Type, i}, String), &constExpr{strVal(term)})
			e = &logicExpr{false, e, m}
		}
	}
	return e
}

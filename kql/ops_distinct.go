package kql

// distinct EXPR, …; distinct *

type distinctOp struct {
	opBase
	items []node
}

func readDistinct(p *parser, o opBase) operator {
	p.params()
	op := &distinctOp{opBase: o}
	if p.isPunct("*") {
		t := p.next()
		op.items = []node{&starNode{span{t.pos, t.end}}}
	} else {
		op.items = p.namedExprs()
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *distinctOp) bind(b *binder, in rel) rel {
	proj := b.project(in, o.items, false)
	g := &groupRel{in: proj}
	for i, c := range proj.cols {
		if c.Type == Dynamic {
			if !b.opt.SchemaOnly {
				b.fail(o, SemanticError, "distinct is not defined for the dynamic column %q; convert it first, for instance with tostring()", c.Name)
			}
		}
		g.keys = append(g.keys, &colExpr{c.Type, i})
	}
	g.layout()
	out := pick(g, seq(len(proj.cols)))
	for i := range out.cols {
		out.cols[i].Name = proj.cols[i].Name
	}
	return out
}

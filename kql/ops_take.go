package kql

import "iter"

// take N, limit N, count, render, distinct

type takeOp struct {
	opBase
	n node
}

func readTake(p *parser, o opBase) operator {
	p.params()
	op := &takeOp{opBase: o, n: p.expr()}
	op.span = p.spanFrom(o)
	return op
}

func (o *takeOp) bind(b *binder, in rel) rel { return &takeRel{in: in, n: b.constCount(o.n)} }

// takeRel passes the first rows on and stops its input.
type takeRel struct {
	in rel
	n  expr
}

func (r *takeRel) schema() Schema    { return r.in.schema() }
func (r *takeRel) prune(need []bool) { r.in.prune(need) }

func (r *takeRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		c := constValue(x, r.n)
		left := c.i
		if c.null || left <= 0 {
			return
		}
		for b := range r.in.run(x) {
			if int64(b.n) > left {
				b = b.slice(0, int(left))
			}
			left -= int64(b.n)
			if !yield(b) || left <= 0 {
				return
			}
		}
	}
}

type countOp struct{ opBase }

func readCount(p *parser, o opBase) operator {
	if p.isWord("as") {
		p.next()
		name := p.name()
		return &countAsOp{opBase{p.spanFrom(o), o.name}, name}
	}
	return &countOp{opBase{p.spanFrom(o), o.name}}
}

func (o *countOp) bind(b *binder, in rel) rel { return &countRel{in, Schema{{"Count", Long}}} }

type countAsOp struct {
	opBase
	as string
}

func (o *countAsOp) bind(b *binder, in rel) rel { return &countRel{in, Schema{{o.as, Long}}} }

// countRel counts rows.
type countRel struct {
	in   rel
	cols Schema
}

func (r *countRel) schema() Schema { return r.cols }
func (r *countRel) prune([]bool)   { r.in.prune(make([]bool, len(r.in.schema()))) }

func (r *countRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		var n int64
		for b := range r.in.run(x) {
			n += int64(b.n)
		}
		yield(&Batch{Columns: []*Vector{NewInts(Long, []int64{n}, nil)}, n: 1})
	}
}

type renderOp struct {
	opBase
	render Render
}

func readRender(p *parser, o opBase) operator {
	op := &renderOp{opBase: o, render: Render{Properties: map[string]string{}}}
	op.render.Visualization = p.name()
	if p.acceptWord("with") {
		p.expectPunct("(")
		for !p.isPunct(")") {
			p.acceptPunct(",")
			p.renderProperty(op)
		}
		p.expectPunct(")")
	}
	for p.peek().kind == tokIdent && p.peekAt(1).text == "=" {
		p.renderProperty(op)
		p.acceptPunct(",")
	}
	op.span = p.spanFrom(o)
	return op
}

func (p *parser) renderProperty(op *renderOp) {
	name := p.name()
	p.expectPunct("=")
	value := p.paramWord(p.unary(), name)
	for (name == "series" || name == "ycolumns" || name == "anomalycolumns") && p.isPunct(",") && p.peekAt(2).text != "=" {
		p.next()
		value += "," + p.paramWord(p.unary(), name)
	}
	op.render.Properties[name] = value
}

func (o *renderOp) bind(b *binder, in rel) rel {
	r := o.render
	return &renderRel{in, &r}
}

// renderRel passes rows through; the plan lifts its Render into the result.
type renderRel struct {
	in     rel
	render *Render
}

func (r *renderRel) schema() Schema               { return r.in.schema() }
func (r *renderRel) prune(need []bool)            { r.in.prune(need) }
func (r *renderRel) run(x *exec) iter.Seq[*Batch] { return r.in.run(x) }

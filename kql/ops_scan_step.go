package kql

import (
	"iter"
	"slices"
)

// scan [declare (C:TYPE [= DEFAULT], …)] with (step S: CONDITION [=> C = EXPR, …];)
//
// One step is implemented: a row that meets the condition is put out with the
// declared columns, and becomes what S.column reads on the rows after it.

type scanColumn struct {
	col Column
	def node
}

type scanAssign struct {
	name string
	at   node
	x    node
}

type scanOp struct {
	opBase
	declared []scanColumn
	step     string
	cond     node
	assign   []scanAssign
	many     bool
}

func readScan(p *parser, o opBase) operator {
	op := &scanOp{opBase: o}
	if p.isWord("with_match_id") {
		p.failAt(p.peek(), NotImplemented, "scan with_match_id is not implemented")
	}
	if p.acceptWord("declare") {
		p.expectPunct("(")
		for !p.isPunct(")") {
			if len(op.declared) > 0 {
				p.expectPunct(",")
			}
			c := scanColumn{}
			c.col.Name = p.name()
			p.expectPunct(":")
			c.col.Type = p.typeName()
			if p.acceptPunct("=") {
				c.def = p.expr()
			}
			op.declared = append(op.declared, c)
		}
		p.expectPunct(")")
	}
	p.expectWord("with")
	p.expectPunct("(")
	for n := 0; !p.isPunct(")"); n++ {
		p.scanStep(op)
		op.many = n > 0
		if !p.acceptPunct(";") {
			break
		}
	}
	p.expectPunct(")")
	op.span = p.spanFrom(o)
	if op.step == "" {
		p.fail("scan needs a step")
	}
	return op
}

func (p *parser) scanStep(op *scanOp) {
	p.expectWord("step")
	op.step = p.name()
	if p.isWord("optional", "output") {
		p.failAt(p.peek(), NotImplemented, "%q in a step of scan is not implemented", p.peek().text)
	}
	p.expectPunct(":")
	op.cond, op.assign = p.expr(), nil
	if !p.acceptPunct("=>") {
		return
	}
	for {
		at := p.peek().pos
		name := p.name()
		place := &nameNode{p.since(at), name}
		p.expectPunct("=")
		op.assign = append(op.assign, scanAssign{name, place, p.expr()})
		if !p.acceptPunct(",") {
			return
		}
	}
}

func (o *scanOp) bind(b *binder, in rel) rel {
	if o.many {
		b.unsupported(o, "scan with several steps is not implemented")
	}
	if !isSerialized(in) && !b.opt.SchemaOnly {
		b.fail(o, SemanticError, "scan needs rows in order; sort or serialize them first")
	}
	r := &stepRel{in: in}
	r.cols = in.schema().clone()
	n := len(r.cols)
	for _, d := range o.declared {
		if r.cols.Index(d.col.Name) >= 0 {
			b.fail(o, SemanticError, "the column %q is there twice", d.col.Name)
		}
		def := nullOf(d.col.Type)
		if d.def != nil {
			c, ok := b.expr(d.def).(*constExpr)
			if !ok {
				b.fail(d.def, SemanticError, "a default must be a constant")
			}
			def = convert(c.v, d.col.Type)
		}
		r.cols = append(r.cols, d.col)
		r.defaults = append(r.defaults, def)
	}
	row := &rowScope{cols: r.cols, step: o.step}
	b.withRow(row, func() {
		r.cond = b.predicate(o.cond)
		assigned := map[int]bool{}
		for _, a := range o.assign {
			at := r.cols.Index(a.name)
			if at < n {
				b.fail(a.at, SemanticError, "%q is no declared column", a.name)
			}
			e := b.expr(a.x)
			walkColumns(e, func(i int) {
				if assigned[i] {
					b.unsupported(a.x, "a step of scan that reads what it assigned before is not implemented")
				}
			})
			if !assignable(e.typ(), r.cols[at].Type) {
				b.fail(a.x, SemanticError, "the column %q has type %s, the expression %s", a.name, r.cols[at].Type, e.typ())
			}
			assigned[at] = true
			r.at = append(r.at, at)
			r.exprs = append(r.exprs, cast(e, r.cols[at].Type))
		}
	})
	if hasWindow(r.cond) || slices.ContainsFunc(r.exprs, hasWindow) {
		b.fail(o, SemanticError, "window functions are not allowed in scan")
	}
	return r
}

// stepRel is a scan of one step. Its expressions read four groups of columns:
// the row, the declared columns' defaults, and both of the row matched last.
type stepRel struct {
	in       rel
	cols     Schema
	defaults []val
	cond     expr
	at       []int
	exprs    []expr
}

func (r *stepRel) schema() Schema { return r.cols }
func (r *stepRel) prune([]bool)   { r.in.prune(allNeeded(r.in)) }

func (r *stepRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		n := len(r.cols) - len(r.defaults)
		fresh := make([]*Vector, 0, len(r.cols))
		for i := range r.cols {
			c := nullOf(r.cols[i].Type)
			if i >= n {
				c = r.defaults[i-n]
			}
			fresh = append(fresh, constVector(c, 1))
		}
		state := fresh
		build := NewBuilder(r.cols)
		for b := range r.in.run(x) {
			for i := range b.n {
				x.check()
				row := b.slice(i, i+1)
				current := append(append(make([]*Vector, 0, 2*len(r.cols)), row.Columns...), fresh[n:]...)
				wide := &Batch{Columns: append(current, state...), n: 1}
				if c := r.cond.eval(x, wide).val(0); c.null || c.i == 0 {
					continue
				}
				matched := slices.Clone(current[:len(r.cols)])
				for k, e := range r.exprs {
					matched[r.at[k]] = e.eval(x, wide)
				}
				state = matched
				vals := make([]val, len(matched))
				for k, v := range matched {
					vals[k] = v.val(0)
				}
				build.appendVals(vals)
			}
			if build.Len() >= batchRows && !yield(build.Batch()) {
				return
			}
		}
		if build.Len() > 0 {
			yield(build.Batch())
		}
	}
}

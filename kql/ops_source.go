package kql

import (
	"iter"
	"math"
	"strconv"
)

// print, range, datatable, externaldata: operators that begin a query.

type printOp struct {
	opBase
	items []node
}

func readPrint(p *parser, o opBase) operator {
	op := &printOp{opBase: o, items: p.namedExprs()}
	op.span = p.spanFrom(o)
	return op
}

func (o *printOp) bind(b *binder, _ rel) rel {
	out := &projectRel{in: &valuesRel{batch: &Batch{n: 1}}}
	b.withRow(&rowScope{}, func() {
		for i, item := range o.items {
			x, name := item, "print_"+strconv.Itoa(i)
			var given []string
			if n, ok := item.(*namedNode); ok {
				x, given = n.x, n.names
			}
			parts := b.tupleCall(x)
			switch {
			case parts != nil:
				parts = b.tupleColumns(item, parts, given)
			case len(given) > 1:
				b.fail(item, SemanticError, "the expression has one value, not %d", len(given))
			default:
				if len(given) == 1 {
					name = given[0]
				}
				parts = []tuplePart{{name, b.expr(x)}}
			}
			for _, p := range parts {
				if out.cols.Index(p.name) >= 0 {
					b.fail(item, SemanticError, "the column %q is there twice", p.name)
				}
				out.cols = append(out.cols, Column{p.name, p.e.typ()})
				out.exprs = append(out.exprs, p.e)
			}
		}
	})
	return out
}

type rangeOp struct {
	opBase
	col            string
	from, to, step node
}

func readRange(p *parser, o opBase) operator {
	op := &rangeOp{opBase: o, col: p.name()}
	p.expectWord("from")
	op.from = p.expr()
	p.expectWord("to")
	op.to = p.expr()
	p.expectWord("step")
	op.step = p.expr()
	op.span = p.spanFrom(o)
	return op
}

func (o *rangeOp) bind(b *binder, _ rel) rel {
	r := &rangeRel{}
	b.withRow(&rowScope{}, func() {
		r.from, r.to, r.step = b.expr(o.from), b.expr(o.to), b.expr(o.step)
	})
	for _, e := range []expr{r.from, r.to, r.step} {
		if !isConst(e) {
			b.fail(o, SemanticError, "range takes constants")
		}
	}
	t := r.from.typ()
	switch {
	case t.isNumber() && r.step.typ().isNumber() && r.to.typ().isNumber():
		t = widest(widest(t, r.to.typ()), r.step.typ())
		r.from, r.to, r.step = cast(r.from, t), cast(r.to, t), cast(r.step, t)
	case (t == DateTime || t == TimeSpan) && r.step.typ() == TimeSpan && r.to.typ() == t:
	default:
		b.fail(o, SemanticError, "range from %s to %s step %s is not defined", t, r.to.typ(), r.step.typ())
	}
	r.cols = Schema{{o.col, t}}
	return r
}

// rangeRel counts from one constant to another.
type rangeRel struct {
	cols           Schema
	from, to, step expr
}

func (r *rangeRel) schema() Schema { return r.cols }
func (r *rangeRel) prune([]bool)   {}

func (r *rangeRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		t := r.cols[0].Type
		from, to, step := constValue(x, r.from), constValue(x, r.to), constValue(x, r.step)
		if from.null || to.null || step.null {
			return
		}
		if t == Decimal {
			x.fail("range over decimal is not implemented")
		}
		n := rangeCount(t, from, to, step)
		for lo := int64(0); lo < n; lo += batchRows {
			x.check()
			k := int(min(batchRows, n-lo))
			v := newVector(t, k)
			for i := range k {
				if t == Real {
					v.floats[i] = from.f + float64(lo+int64(i))*step.f
				} else {
					v.ints[i] = from.i + (lo+int64(i))*step.i
				}
			}
			if !yield(&Batch{Columns: []*Vector{v}, n: k}) {
				return
			}
		}
	}
}

// rangeCount is how many values lie between the ends, both included.
func rangeCount(t Type, from, to, step val) int64 {
	if t == Real {
		n := math.Floor((to.f-from.f)/step.f+1e-12) + 1
		if math.IsNaN(n) || n < 0 || step.f == 0 {
			return 0
		}
		return int64(min(n, 1e15))
	}
	if step.i == 0 || step.i > 0 && from.i > to.i || step.i < 0 && from.i < to.i {
		return 0
	}
	d := uint64(to.i) - uint64(from.i)
	s := uint64(step.i)
	if step.i < 0 {
		d, s = uint64(from.i)-uint64(to.i), uint64(-step.i)
	}
	return int64(min(d/s, 1<<60)) + 1
}

type datatableOp struct {
	opBase
	cols   Schema
	values []node
}

func readDatatable(p *parser, o opBase) operator {
	op := &datatableOp{opBase: o, cols: p.schemaDecl().cols}
	p.expectPunct("[")
	for !p.isPunct("]") {
		if len(op.values) > 0 {
			p.expectPunct(",")
			if p.isPunct("]") {
				break
			}
		}
		op.values = append(op.values, p.expr())
	}
	p.expectPunct("]")
	op.span = p.spanFrom(o)
	return op
}

func (o *datatableOp) bind(b *binder, _ rel) rel {
	for i, c := range o.cols {
		if o.cols.Index(c.Name) != i {
			b.fail(o, SemanticError, "the column %q is there twice", c.Name)
		}
	}
	if len(o.cols) == 0 || len(o.values)%len(o.cols) != 0 {
		b.fail(o, SemanticError, "the number of values (%d) is no multiple of the number of columns (%d)", len(o.values), len(o.cols))
	}
	build := NewBuilder(o.cols)
	row := make([]val, len(o.cols))
	b.withRow(&rowScope{}, func() {
		for i, n := range o.values {
			c := i % len(o.cols)
			e, ok := b.expr(n).(*constExpr)
			if !ok || !isLiteralNode(n) {
				b.fail(n, SemanticError, "a datatable holds literals only")
			}
			row[c] = convert(e.v, o.cols[c].Type)
			if c == len(o.cols)-1 {
				build.appendVals(row)
			}
		}
	})
	return &valuesRel{cols: o.cols, batch: build.Batch()}
}

// isLiteralNode tells a literal, with or without a sign.
func isLiteralNode(n node) bool {
	switch n := n.(type) {
	case *literalNode, *badLiteralNode:
		return true
	case *unaryNode:
		return isLiteralNode(n.x)
	}
	return false
}

type externaldataOp struct {
	opBase
	cols Schema
}

func readExternaldata(p *parser, o opBase) operator {
	op := &externaldataOp{opBase: o, cols: p.schemaDecl().cols}
	p.expectPunct("[")
	for {
		p.expr()
		if !p.acceptPunct(",") || p.isPunct("]") {
			break
		}
	}
	p.expectPunct("]")
	if p.acceptWord("with") {
		p.expectPunct("(")
		for !p.isPunct(")") {
			p.name()
			for p.acceptPunct(".") {
				p.name()
			}
			p.expectPunct("=")
			p.expr()
			if !p.acceptPunct(",") {
				break
			}
		}
		p.expectPunct(")")
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *externaldataOp) bind(b *binder, _ rel) rel {
	b.unsupported(o, "externaldata is refused: this engine reads no address outside the estate")
	return &valuesRel{cols: o.cols, batch: NewBuilder(o.cols).Batch()}
}

package kql

import "iter"

// as NAME

type asOp struct {
	opBase
	as string
}

func readAs(p *parser, o opBase) operator {
	p.params()
	op := &asOp{opBase: o, as: p.name()}
	op.span = p.spanFrom(o)
	return op
}

func (o *asOp) bind(b *binder, in rel) rel {
	b.define(o.as, &tableBinding{in})
	return in
}

// getschema

type getschemaOp struct{ opBase }

func readGetschema(p *parser, o opBase) operator {
	return &getschemaOp{opBase{p.spanFrom(o), o.name}}
}

func (o *getschemaOp) bind(b *binder, in rel) rel {
	cols := Schema{{"ColumnName", String}, {"ColumnOrdinal", Long}, {"DataType", String}, {"ColumnType", String}}
	build := NewBuilder(cols)
	for i, c := range in.schema() {
		build.appendVals([]val{strVal(c.Name), longVal(int64(i)), strVal(dataType(c.Type)), strVal(c.Type.String())})
	}
	return &valuesRel{cols: cols, batch: build.Batch()}
}

func dataType(t Type) string {
	switch t {
	case Bool:
		return "System.SByte"
	case Int:
		return "System.Int32"
	case Long:
		return "System.Int64"
	case Real:
		return "System.Double"
	case Decimal:
		return "System.Data.SqlTypes.SqlDecimal"
	case String:
		return "System.String"
	case DateTime:
		return "System.DateTime"
	case TimeSpan:
		return "System.TimeSpan"
	case GUID:
		return "System.Guid"
	}
	return "System.Object"
}

// invoke F(ARGS)

type invokeOp struct {
	opBase
	call *callNode
}

func readInvoke(p *parser, o opBase) operator {
	t := p.peek()
	p.name()
	op := &invokeOp{opBase: o, call: p.call(t).(*callNode)}
	op.span = p.spanFrom(o)
	return op
}

func (o *invokeOp) bind(b *binder, in rel) rel {
	v, ok := b.env.lookup(o.call.name)
	f, isFunc := v.(*funcBinding)
	if !ok || !isFunc {
		if b.opt.SchemaOnly {
			b.unsupported(o, "the function %q is not known", o.call.name)
			return in
		}
		b.fail(o.call, SemanticError, "the name %q is no known function%s", o.call.name, hint(o.call.name, b.envNames()))
	}
	return b.callTable(o.call, f, o.call.args, in)
}

// sample N; sample-distinct N of EXPR

type sampleOp struct {
	opBase
	n  node
	of node
}

func readSample(p *parser, o opBase) operator {
	p.params()
	op := &sampleOp{opBase: o, n: p.expr()}
	if o.name == "sample-distinct" {
		p.expectWord("of")
		op.of = p.namedExpr()
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *sampleOp) bind(b *binder, in rel) rel {
	n := b.constCount(o.n)
	if o.of != nil {
		in = (&distinctOp{opBase: o.opBase, items: []node{o.of}}).bind(b, in)
	}
	return &takeRel{in: in, n: n}
}

// partition by COLUMN (SUBQUERY)

type partitionOp struct {
	opBase
	by  node
	sub []operator
}

func readPartition(p *parser, o opBase) operator {
	p.params()
	p.expectWord("by")
	at := p.peek().pos
	name := p.name()
	op := &partitionOp{opBase: o, by: &nameNode{p.since(at), name}}
	if !p.isPunct("(") {
		p.failAt(p.peek(), NotImplemented, "this form of partition is not implemented")
	}
	op.sub, _ = p.subquery()
	op.span = p.spanFrom(o)
	return op
}

func (o *partitionOp) bind(b *binder, in rel) rel {
	feed := &feedRel{in.schema()}
	var sub rel = feed
	for _, op := range o.sub {
		sub = b.apply(op, sub)
	}
	r := &partitionRel{in: in, feed: feed, sub: sub}
	b.withRow(rowOf(in), func() { r.by = b.expr(o.by) })
	if _, ok := r.by.(*colExpr); !ok {
		b.fail(o.by, SemanticError, "partition takes a column")
	}
	return r
}

// partitionRel runs a subquery over each group of rows.
type partitionRel struct {
	in   rel
	by   expr
	feed *feedRel
	sub  rel
}

func (r *partitionRel) schema() Schema { return r.sub.schema() }
func (r *partitionRel) prune([]bool) {
	r.in.prune(allNeeded(r.in))
	r.sub.prune(allNeeded(r.sub))
}

func (r *partitionRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		all := x.collect(r.in)
		if all.n == 0 {
			return
		}
		g := newGrouper([]expr{r.by})
		ids := g.assign(x, all)
		rows := make([][]int32, g.n)
		for i, id := range ids {
			rows[id] = append(rows[id], int32(i))
		}
		for _, idx := range rows {
			x.check()
			x.feeds[r.feed] = []*Batch{all.gather(idx)}
			for b := range r.sub.run(x) {
				if !yield(b) {
					return
				}
			}
		}
		delete(x.feeds, r.feed)
	}
}

package kql

import (
	"iter"
	"slices"
)

// top-nested [N] of EXPR by AGG [asc|desc], top-nested … ; top-hitters N of EXPR
// [by WEIGHT]

type nestedLevel struct {
	n   node
	of  node
	agg node
	asc bool
}

type topNestedOp struct {
	opBase
	levels []nestedLevel
	others bool
}

func readTopNested(p *parser, o opBase) operator {
	op := &topNestedOp{opBase: o}
	for {
		var l nestedLevel
		if !p.isWord("of") {
			l.n = p.expr()
		}
		p.expectWord("of")
		l.of = p.namedExpr()
		if p.acceptWord("with") {
			p.expectWord("others")
			p.expectPunct("=")
			p.expr()
			op.others = true
		}
		p.expectWord("by")
		l.agg = p.namedExpr()
		if !p.acceptWord("desc") {
			l.asc = p.acceptWord("asc")
		}
		op.levels = append(op.levels, l)
		if !p.acceptPunct(",") {
			break
		}
		if name, _ := p.operatorName(); name != "top-nested" {
			p.fail("%q is expected", "top-nested")
		}
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *topNestedOp) bind(b *binder, in rel) rel {
	r := &topNestedRel{}
	if o.others {
		b.unsupported(o, "top-nested with others is not implemented")
	}
	row := rowOf(in)
	names := &namer{}
	proj := &projectRel{in: in}
	b.withRow(row, func() {
		for k, l := range o.levels {
			x, name := l.of, b.autoName(l.of)
			if n, ok := x.(*namedNode); ok {
				x = n.x
			}
			e := b.expr(x)
			if name == "" {
				name = names.column()
			}
			name = names.unique(name)
			names.used = append(names.used, name)
			proj.cols = append(proj.cols, Column{name, e.typ()})
			proj.exprs = append(proj.exprs, e)
			var n expr
			if l.n != nil {
				n = b.constCount(l.n)
			}
			scope := &aggScope{row: row, nkeys: k + 1}
			ax, aggName := l.agg, "aggregated_"+name
			if nn, ok := ax.(*namedNode); ok {
				ax, aggName = nn.x, nn.names[0]
			}
			b.aggs = scope
			value := b.expr(ax)
			b.aggs = nil
			g := &groupRel{calls: scope.calls}
			g.keys = append(g.keys, proj.exprs...)
			g.layout()
			r.levels = append(r.levels, nestedPlan{group: g, value: value, n: n, asc: l.asc})
			aggName = names.unique(aggName)
			names.used = append(names.used, aggName)
			r.cols = append(r.cols, Column{name, e.typ()}, Column{aggName, value.typ()})
		}
	})
	r.in = in
	return r
}

type nestedPlan struct {
	group *groupRel
	value expr // over the group's columns
	n     expr
	asc   bool
}

// topNestedRel picks the best of each level inside each pick of the level above.
type topNestedRel struct {
	in     rel
	levels []nestedPlan
	cols   Schema
}

func (r *topNestedRel) schema() Schema { return r.cols }
func (r *topNestedRel) prune([]bool)   { r.in.prune(allNeeded(r.in)) }

func (r *topNestedRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		all := x.collect(r.in)
		build := NewBuilder(r.cols)
		r.level(x, all, 0, nil, build)
		if build.Len() > 0 {
			yield(build.Batch())
		}
	}
}

func (r *topNestedRel) level(x *exec, rows *Batch, k int, prefix []val, build *Builder) {
	if k == len(r.levels) {
		build.appendVals(prefix)
		return
	}
	x.check()
	l := r.levels[k]
	g := *l.group
	g.in = &heldRel{r.in.schema(), rows}
	var groups []*Batch
	for b := range g.run(x) {
		groups = append(groups, b)
	}
	if len(groups) == 0 {
		return
	}
	b := concatBatches(g.schema(), groups)
	v := l.value.eval(x, b)
	order := make([]int32, b.n)
	for i := range order {
		order[i] = int32(i)
	}
	cmp := sortKey{asc: l.asc, nullsFirst: l.asc}.comparator(v)
	slices.SortStableFunc(order, cmp)
	if l.n != nil {
		if n := constValue(x, l.n); !n.null && n.i < int64(len(order)) {
			order = order[:max(n.i, 0)]
		}
	}
	keyVec := g.keys[k].eval(x, rows)
	for _, i := range order {
		want := appendKey(nil, b.Columns[k:k+1], int(i))
		var idx []int32
		for j := range rows.n {
			if string(appendKey(nil, []*Vector{keyVec}, j)) == string(want) {
				idx = append(idx, int32(j))
			}
		}
		next := append(slices.Clone(prefix), b.Columns[k].val(int(i)), v.val(int(i)))
		r.level(x, rows.gather(idx), k+1, next, build)
	}
}

// top-hitters

type topHittersOp struct {
	opBase
	n  node
	of node
	by node
}

func readTopHitters(p *parser, o opBase) operator {
	op := &topHittersOp{opBase: o, n: p.expr()}
	p.expectWord("of")
	op.of = p.namedExpr()
	if p.acceptWord("by") {
		op.by = p.namedExpr()
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *topHittersOp) bind(b *binder, in rel) rel {
	name := b.autoName(o.of)
	if name == "" {
		name = "Column1"
	}
	agg, aggName := &callNode{span: o.span, name: "count"}, "approximate_count_"+name
	if o.by != nil {
		agg = &callNode{span: o.span, name: "sum", args: []argument{{x: o.by}}}
		aggName = "approximate_sum_" + b.autoName(o.by)
	}
	sum := (&summarizeOp{opBase: o.opBase, aggs: []node{&namedNode{o.span, []string{aggName}, agg}}, keys: []node{o.of}}).bind(b, in)
	n := b.constCount(o.n)
	s := sum.schema()
	return &takeRel{in: &sortRel{in: sum, keys: []sortKey{{e: &colExpr{s[1].Type, 1}}}, limit: n}, n: n}
}

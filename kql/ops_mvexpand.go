package kql

import (
	"iter"
	"slices"
	"strings"
)

// mv-expand [bagexpansion=K] [with_itemindex=I] ITEMS [limit N]
// mv-apply  [with_itemindex=I] ITEMS [limit N] on (SUBQUERY)

type expandItem struct {
	name string
	x    node
	typ  Type // Unknown without "to typeof()"
}

type expandOp struct {
	opBase
	items []expandItem
	array bool   // bags become [name, value]
	index string // with_itemindex
	limit node
	sub   []operator
	subAt span
	apply bool
}

func readExpand(p *parser, o opBase) operator {
	op := &expandOp{opBase: o, apply: strings.HasSuffix(o.name, "apply")}
	params := p.params("bagexpansion", "kind", "with_itemindex", "withitemindex")
	for _, k := range []string{"bagexpansion", "kind"} {
		switch v := p.paramWord(params[k], k); v {
		case "", "bag":
		case "array":
			op.array = true
		default:
			p.fail("%s has no %s %q", o.name, k, v)
		}
	}
	op.index = p.paramWord(params["with_itemindex"], "with_itemindex")
	for {
		var it expandItem
		it.x = p.namedExpr()
		if n, ok := it.x.(*namedNode); ok {
			it.name, it.x = n.names[0], n.x
		}
		if p.acceptWord("to") {
			t := p.expectWord("typeof")
			ty := p.typeof(t).(*typeofNode)
			it.typ = ty.typ
		}
		op.items = append(op.items, it)
		if !p.acceptPunct(",") {
			break
		}
	}
	if p.acceptWord("limit") {
		op.limit = p.expr()
	}
	if op.apply {
		p.expectWord("on")
		op.sub, op.subAt = p.subquery()
	}
	op.span = p.spanFrom(o)
	return op
}

// subquery reads a parenthesised chain of operators without a source.
func (p *parser) subquery() ([]operator, span) {
	p.enter()
	defer p.leave()
	start := p.expectPunct("(").pos
	p.acceptPunct("|")
	ops := []operator{p.operator()}
	for p.acceptPunct("|") {
		ops = append(ops, p.operator())
	}
	p.expectPunct(")")
	return ops, p.since(start)
}

func (o *expandOp) bind(b *binder, in rel) rel {
	s := in.schema()
	r := &expandRel{in: in, array: o.array, index: -1}
	out := pick(in, seq(len(s)))
	r.cols = out.cols.clone()
	names := &namer{used: s.Names()}
	b.withRow(rowOf(in), func() {
		for _, it := range o.items {
			e := b.expr(it.x)
			if e.typ() != Dynamic {
				if !b.opt.SchemaOnly {
					b.fail(it.x, SemanticError, "%s expands dynamic values, not %s", o.name, e.typ())
				}
			}
			t := it.typ
			if t == Unknown {
				t = Dynamic
			}
			name := it.name
			if name == "" {
				name = b.autoName(it.x)
			}
			at := s.Index(name)
			if name == "" {
				name = names.column()
			}
			if at < 0 {
				at = len(r.cols)
				names.used = append(names.used, name)
				r.cols = append(r.cols, Column{name, t})
			} else {
				r.cols[at].Type = t
			}
			r.items = append(r.items, expandTarget{e, at, t})
		}
	})
	if o.index != "" {
		r.index = len(r.cols)
		r.cols = append(r.cols, Column{names.unique(o.index), Long})
	}
	if o.limit != nil {
		r.limit = b.constCount(o.limit)
	}
	if !o.apply {
		return r
	}
	return o.bindApply(b, in, r)
}

type expandTarget struct {
	e  expr
	at int
	t  Type
}

// expandRel makes a row of each element; several items are walked in step.
type expandRel struct {
	in    rel
	cols  Schema
	items []expandTarget
	array bool
	index int
	limit expr
}

func (r *expandRel) schema() Schema { return r.cols }

func (r *expandRel) prune(need []bool) {
	n := len(r.in.schema())
	below := make([]bool, n)
	copy(below, need[:n])
	for _, it := range r.items {
		if it.at < n {
			below[it.at] = false
		}
	}
	for _, it := range r.items {
		walkColumns(it.e, func(i int) { below[i] = true })
	}
	r.in.prune(below)
}

// elements lists what a value expands to: an array's elements, a bag's
// properties one by one, and any other value itself, null included.
func (r *expandRel) elements(v val) []any {
	switch d := v.d.(type) {
	case []any:
		return d
	case *Bag:
		out := make([]any, len(d.keys))
		for i, k := range d.keys {
			if r.array {
				out[i] = []any{k, d.vals[i]}
				continue
			}
			one := NewBag()
			one.Set(k, d.vals[i])
			out[i] = one
		}
		return out
	}
	return []any{valToDynamic(v)}
}

func (r *expandRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for b := range r.in.run(x) {
			x.check()
			for out := range r.expand(x, b) {
				if !yield(out) {
					return
				}
			}
		}
	}
}

func (r *expandRel) expand(x *exec, b *Batch) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		limit := int64(maxArrayElements)
		if r.limit != nil {
			if v := constValue(x, r.limit); !v.null {
				limit = v.i
			}
		}
		vs := make([]*Vector, len(r.items))
		for i, it := range r.items {
			vs[i] = it.e.eval(x, b)
		}
		var rows []int32
		var index []int64
		cells := make([][]any, len(r.items))
		flush := func() bool {
			out := r.assemble(b, rows, cells, index)
			rows, index = nil, nil
			cells = make([][]any, len(r.items))
			return yield(out)
		}
		lists := make([][]any, len(r.items))
		for i := range b.n {
			n := 0
			for k, v := range vs {
				lists[k] = r.elements(v.val(i))
				n = max(n, len(lists[k]))
			}
			n = int(min(int64(n), limit))
			for j := range n {
				rows = append(rows, int32(i))
				index = append(index, int64(j))
				for k, l := range lists {
					var e any
					if j < len(l) {
						e = l[j]
					}
					cells[k] = append(cells[k], e)
				}
				if len(rows) == batchRows {
					x.check()
					if !flush() {
						return
					}
				}
			}
		}
		if len(rows) > 0 {
			flush()
		}
	}
}

func (r *expandRel) assemble(b *Batch, rows []int32, cells [][]any, index []int64) *Batch {
	out := &Batch{Columns: make([]*Vector, len(r.cols)), n: len(rows)}
	for i, v := range b.Columns {
		if v != nil && !slices.ContainsFunc(r.items, func(t expandTarget) bool { return t.at == i }) {
			out.Columns[i] = v.gather(rows)
		}
	}
	for k, it := range r.items {
		if it.t == Dynamic {
			out.Columns[it.at] = NewDynamics(cells[k])
			continue
		}
		v := newVector(it.t, len(rows))
		for i, e := range cells[k] {
			v.set(i, convert(dynVal(e), it.t))
		}
		out.Columns[it.at] = v
	}
	if r.index >= 0 {
		out.Columns[r.index] = NewInts(Long, index, nil)
	}
	return out
}

// feedRel stands for the rows that an enclosing operator hands a subquery.
type feedRel struct{ cols Schema }

func (r *feedRel) schema() Schema { return r.cols }
func (r *feedRel) prune([]bool)   {}
func (r *feedRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for _, b := range x.feeds[r] {
			if !yield(b) {
				return
			}
		}
	}
}

func (o *expandOp) bindApply(b *binder, in rel, e *expandRel) rel {
	feed := &feedRel{e.cols}
	var sub rel = feed
	for _, op := range o.sub {
		sub = b.apply(op, sub)
	}
	a := &applyRel{expand: e, feed: feed, sub: sub}
	s := in.schema()
	for i, c := range s {
		replaced := slices.ContainsFunc(e.items, func(t expandTarget) bool { return t.at == i })
		if !replaced {
			a.keep = append(a.keep, i)
			a.cols = append(a.cols, c)
		}
	}
	for i, c := range sub.schema() {
		if a.cols.Index(c.Name) >= 0 {
			if s.Index(c.Name) < 0 {
				b.unsupported(o, "the subquery yields the column %q twice", c.Name)
			}
			continue
		}
		a.take = append(a.take, i)
		a.cols = append(a.cols, c)
	}
	return a
}

// applyRel runs a subquery over the expansion of each row.
type applyRel struct {
	expand *expandRel
	feed   *feedRel
	sub    rel
	cols   Schema
	keep   []int // the input's columns
	take   []int // the subquery's columns
}

func (r *applyRel) schema() Schema { return r.cols }

func (r *applyRel) prune([]bool) {
	r.sub.prune(allNeeded(r.sub))
	r.expand.in.prune(allNeeded(r.expand.in))
}

func (r *applyRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for b := range r.expand.in.run(x) {
			for i := range b.n {
				x.check()
				row := b.slice(i, i+1)
				var parts []*Batch
				for p := range r.expand.expand(x, row) {
					parts = append(parts, p)
				}
				outer := x.feeds[r.feed]
				x.feeds[r.feed] = parts
				for out := range r.sub.run(x) {
					res := &Batch{n: out.n}
					idx := make([]int32, out.n)
					for _, k := range r.keep {
						res.Columns = append(res.Columns, row.Columns[k].gather(idx))
					}
					for _, k := range r.take {
						res.Columns = append(res.Columns, out.Columns[k])
					}
					if !yield(res) {
						return
					}
				}
				x.feeds[r.feed] = outer
			}
		}
	}
}

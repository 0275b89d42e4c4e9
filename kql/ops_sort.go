package kql

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// sort by EXPR [asc|desc] [nulls first|last], …; top N by …

type sortOp struct {
	opBase
	n    node // top only
	keys []sortKeyNode
}

type sortKeyNode struct {
	x          node
	asc        bool
	nullsFirst bool
}

func readSort(p *parser, o opBase) operator {
	p.params()
	p.expectWord("by")
	op := &sortOp{opBase: o, keys: p.sortKeys()}
	op.span = p.spanFrom(o)
	return op
}

func readTop(p *parser, o opBase) operator {
	p.params()
	op := &sortOp{opBase: o, n: p.expr()}
	p.expectWord("by")
	op.keys = p.sortKeys()
	op.span = p.spanFrom(o)
	return op
}

func (p *parser) sortKeys() []sortKeyNode {
	var keys []sortKeyNode
	for {
		k := sortKeyNode{x: p.namedExpr()}
		if p.acceptWord("asc") {
			k.asc = true
		} else {
			p.acceptWord("desc")
		}
		k.nullsFirst = k.asc
		if p.isWord("nulls") && (p.peekAt(1).text == "first" || p.peekAt(1).text == "last") {
			p.next()
			k.nullsFirst = p.next().text == "first"
		}
		keys = append(keys, k)
		if !p.acceptPunct(",") {
			return keys
		}
	}
}

func (o *sortOp) bind(b *binder, in rel) rel {
	r := &sortRel{in: in, keys: b.sortKeys(in, o.keys)}
	if o.n == nil {
		return r
	}
	n := b.constCount(o.n)
	r.limit = n
	return &takeRel{in: r, n: n}
}

func (b *binder) sortKeys(in rel, nodes []sortKeyNode) []sortKey {
	var keys []sortKey
	b.withRow(rowOf(in), func() {
		for _, k := range nodes {
			x := k.x
			if n, ok := x.(*namedNode); ok {
				x = n.x
			}
			e := b.expr(x)
			if e.typ() == Dynamic && !b.opt.SchemaOnly {
				b.fail(x, SemanticError, "rows cannot be sorted by a dynamic value; convert it first, for instance with tostring()")
			}
			keys = append(keys, sortKey{e, k.asc, k.nullsFirst})
		}
	})
	return keys
}

// constCount binds a constant number of rows.
func (b *binder) constCount(n node) expr {
	var e expr
	b.withRow(nil, func() { e = b.expr(n) })
	if !isConst(e) || !e.typ().isNumber() {
		b.fail(n, SemanticError, "a constant number is expected")
	}
	return cast(e, Long)
}

type sortKey struct {
	e          expr
	asc        bool
	nullsFirst bool
}

// sortRel orders all rows; the sort is stable.
type sortRel struct {
	in    rel
	keys  []sortKey
	limit expr // top: rows beyond are dropped early
}

func (r *sortRel) schema() Schema { return r.in.schema() }

func (r *sortRel) prune(need []bool) {
	need = append([]bool(nil), need...)
	for _, k := range r.keys {
		walkColumns(k.e, func(i int) { need[i] = true })
	}
	r.in.prune(need)
}

func (r *sortRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		var all *Batch
		var idx []int32
		n := int64(-1)
		if r.limit != nil {
			if c := constValue(x, r.limit); !c.null {
				n = max(c.i, 0)
			}
		}
		if n >= 0 && n <= maxBoundedTop {
			all, idx = r.best(x, int(n))
		} else {
			all = x.collect(r.in)
			idx = r.order(x, all)
			if n >= 0 && n < int64(len(idx)) {
				idx = idx[:n]
			}
		}
		for lo := 0; lo < len(idx); lo += batchRows {
			if !yield(all.gather(idx[lo:min(lo+batchRows, len(idx))])) {
				return
			}
		}
	}
}

// maxBoundedTop is how many rows top keeps batch by batch; beyond, sorting all
// at once is cheaper.
const maxBoundedTop = 4096

// best reads the input keeping only the n first rows of the order. Rows that
// tie keep the order of their arrival.
func (r *sortRel) best(x *exec, n int) (*Batch, []int32) {
	kept := concatBatches(r.in.schema(), nil)
	for b := range r.in.run(x) {
		x.check()
		if b.n == 0 || n == 0 {
			continue
		}
		if kept.n == n {
			if b = r.contenders(x, kept, b); b.n == 0 {
				continue
			}
		}
		parts := []*Batch{kept, b}
		if kept.n == 0 {
			parts = parts[1:]
		}
		all := concatBatches(r.in.schema(), parts)
		idx := r.order(x, all)
		kept = all.gather(idx[:min(n, len(idx))])
	}
	idx := make([]int32, kept.n)
	for i := range idx {
		idx[i] = int32(i)
	}
	return kept, idx
}

// contenders keeps the rows of a batch that come before the worst row kept, by
// the first key; rows that tie with it stay only if another key may decide.
func (r *sortRel) contenders(x *exec, kept, b *Batch) *Batch {
	worst := kept.slice(kept.n-1, kept.n)
	k := r.keys[0]
	bar, v := k.e.eval(x, worst), k.e.eval(x, b)
	both := concat(v.typ, []*Vector{v, bar})
	cmp := k.comparator(both)
	last := int32(b.n)
	limit := 0
	if len(r.keys) > 1 {
		limit = 1
	}
	idx := make([]int32, 0, 64)
	for i := range int32(b.n) {
		if cmp(i, last) < limit {
			idx = append(idx, i)
		}
	}
	return b.gather(idx)
}

func (r *sortRel) order(x *exec, all *Batch) []int32 {
	idx := make([]int32, all.n)
	for i := range idx {
		idx[i] = int32(i)
	}
	cmps := make([]func(a, b int32) int, len(r.keys))
	for i, k := range r.keys {
		cmps[i] = k.comparator(k.e.eval(x, all))
	}
	n := 0
	slices.SortStableFunc(idx, func(a, b int32) int {
		if n++; n&0xffff == 0 {
			x.check()
		}
		for _, c := range cmps {
			if d := c(a, b); d != 0 {
				return d
			}
		}
		return 0
	})
	return idx
}

func (k sortKey) comparator(v *Vector) func(a, b int32) int {
	if v.single {
		return func(a, b int32) int { return 0 }
	}
	sign := -1
	if k.asc {
		sign = 1
	}
	var raw func(a, b int32) int
	switch {
	case v.typ.physical() == physInt:
		raw = func(a, b int32) int { return cmp.Compare(v.ints[a], v.ints[b]) }
	case v.typ == Real:
		raw = func(a, b int32) int { return cmp.Compare(v.floats[a], v.floats[b]) }
	case v.typ.physical() == physString:
		raw = func(a, b int32) int { return strings.Compare(v.str(int(a)), v.str(int(b))) }
	default:
		raw = func(a, b int32) int { return compareVals(v.val(int(a)), v.val(int(b))) }
	}
	if !v.hasNulls() {
		return func(a, b int32) int { return sign * raw(a, b) }
	}
	first := 1
	if k.nullsFirst {
		first = -1
	}
	return func(a, b int32) int {
		an, bn := v.IsNull(int(a)), v.IsNull(int(b))
		switch {
		case an && bn:
			return 0
		case an:
			return first
		case bn:
			return -first
		}
		return sign * raw(a, b)
	}
}

package kql

import "iter"

// where PREDICATE

type whereOp struct {
	opBase
	cond node
}

func readWhere(p *parser, o opBase) operator {
	p.params()
	op := &whereOp{opBase: o, cond: p.expr()}
	op.span = p.spanFrom(o)
	return op
}

// spanFrom starts an operator's span at its name.
func (p *parser) spanFrom(o opBase) span { return span{o.pos, p.lastEnd()} }

func (o *whereOp) bind(b *binder, in rel) rel {
	if in == nil {
		b.fail(o, SemanticError, "where cannot begin a query")
	}
	var cond expr
	b.withRow(rowOf(in), func() { cond = b.predicate(o.cond) })
	return &filterRel{in: pushBounds(in, cond), cond: cond, window: hasWindow(cond), serial: isSerialized(in)}
}

func rowOf(in rel) *rowScope {
	return &rowScope{cols: in.schema(), serialized: isSerialized(in)}
}

// filterRel keeps the rows for which the condition is true.
type filterRel struct {
	in     rel
	cond   expr
	window bool
	serial bool
}

func (r *filterRel) schema() Schema { return r.in.schema() }

func (r *filterRel) prune(need []bool) {
	need = append([]bool(nil), need...)
	walkColumns(r.cond, func(i int) { need[i] = true })
	r.in.prune(need)
}

func (r *filterRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for b := range wholeIf(r.window, x, r.in) {
			v := r.cond.eval(x, b)
			if v.single && b.n > 0 && !v.IsNull(0) && v.bools[0] {
				if !yield(b) {
					return
				}
				continue
			}
			idx := truth(v, b.n)
			if len(idx) == 0 {
				continue
			}
			if len(idx) < b.n {
				b = b.gather(idx)
			}
			if !yield(b) {
				return
			}
		}
	}
}

// wholeIf reads the input as one batch where a window function needs it.
func wholeIf(whole bool, x *exec, in rel) iter.Seq[*Batch] {
	if !whole {
		return in.run(x)
	}
	return func(yield func(*Batch) bool) { yield(x.collect(in)) }
}

// pushBounds tells a scan the bounds that a predicate puts on TimeGenerated.
// The scan is copied: other readers of the same table keep their own bounds.
func pushBounds(in rel, cond expr) rel {
	switch in := in.(type) {
	case *scanRel:
		from, to := timeBounds(in.cols, cond)
		if from == 0 && to == 0 {
			return in
		}
		c := *in
		c.need = append([]bool(nil), in.need...)
		c.from = max(c.from, from)
		if to != 0 && (c.to == 0 || to < c.to) {
			c.to = to
		}
		return &c
	case *aliasRel:
		if below := in.plainScan(); below != nil {
			return pushBounds(below, cond)
		}
	case *filterRel:
		if in.window {
			return in
		}
		c := *in
		c.in = pushBounds(in.in, cond)
		return &c
	}
	return in
}

// timeBounds finds [from, to) in the conjunction's comparisons of
// TimeGenerated with constants.
func timeBounds(cols Schema, cond expr) (from, to Ticks) {
	switch e := cond.(type) {
	case *logicExpr:
		if !e.and {
			return 0, 0
		}
		f1, t1 := timeBounds(cols, e.l)
		f2, t2 := timeBounds(cols, e.r)
		from, to = max(f1, f2), t1
		if t2 != 0 && (to == 0 || t2 < to) {
			to = t2
		}
		return from, to
	case *compareExpr:
		col, ok := e.l.(*colExpr)
		c, isC := e.r.(*constExpr)
		op := e.op
		if !ok {
			col, ok = e.r.(*colExpr)
			c, isC = e.l.(*constExpr)
			switch op {
			case opLt:
				op = opGt
			case opLe:
				op = opGe
			case opGt:
				op = opLt
			case opGe:
				op = opLe
			}
		}
		if !ok || !isC || c.v.null || c.v.t != DateTime || cols[col.idx].Name != timeColumn {
			return 0, 0
		}
		t := Ticks(c.v.i)
		switch op {
		case opGt, opGe:
			return t, 0
		case opLt:
			return 0, max(t, 1)
		case opLe:
			return 0, t + 1
		case opEq:
			return t, t + 1
		}
	}
	return 0, 0
}

// isSerialized tells whether rows have an order that window functions may use.
func isSerialized(r rel) bool {
	switch r := r.(type) {
	case *sortRel, *rangeRel, *stepRel:
		return true
	case *filterRel:
		return r.serial
	case *projectRel:
		return r.serial || isSerialized(r.in)
	case *takeRel:
		return isSerialized(r.in)
	case *renderRel:
		return isSerialized(r.in)
	case *aliasRel:
		return isSerialized(r.in)
	}
	return false
}

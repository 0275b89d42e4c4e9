package kql

import "slices"

// windowExpr is a function that reads other rows: prev, next, row_number and
// their like. The operator that holds one evaluates it over the whole input in
// one batch.
type windowExpr struct {
	name string
	t    Type
	args []expr
}

func (e *windowExpr) typ() Type        { return e.t }
func (e *windowExpr) operands() []expr { return e.args }

func isWindowFunction(name string) bool {
	switch name {
	case "prev", "next", "row_number", "row_cumsum", "row_rank_dense", "row_rank_min", "row_window_session":
		return true
	}
	return false
}

func hasWindow(e expr) bool {
	if _, ok := e.(*windowExpr); ok {
		return true
	}
	return slices.ContainsFunc(e.operands(), hasWindow)
}

func (b *binder) windowCall(n *callNode, args []expr, ret Type) expr {
	if b.rowID == nil || !b.rowID.serialized {
		if !b.opt.SchemaOnly {
			b.fail(n, SemanticError, "%s needs rows in order; sort or serialize them first", n.name)
		}
	}
	if n.name == "prev" || n.name == "next" {
		if len(args) > 2 {
			args[2] = cast(args[2], ret)
		}
	}
	return &windowExpr{n.name, ret, args}
}

func (e *windowExpr) eval(x *exec, b *Batch) *Vector {
	vs := make([]*Vector, len(e.args))
	for i, a := range e.args {
		vs[i] = a.eval(x, b)
	}
	arg := func(k, row int, def val) val {
		if k < len(vs) {
			return vs[k].val(row)
		}
		return def
	}
	out := newVector(e.t, b.n)
	switch e.name {
	case "prev", "next":
		for i := range b.n {
			off := arg(1, i, longVal(1)).i
			if e.name == "prev" {
				off = -off
			}
			j := int64(i) + off
			if j >= 0 && j < int64(b.n) {
				out.set(i, vs[0].val(int(j)))
			} else {
				out.set(i, arg(2, i, nullOf(e.t)))
			}
		}
	case "row_number":
		var n int64
		for i := range b.n {
			if r := arg(1, i, boolVal(false)); i == 0 || r.i != 0 && !r.null {
				n = arg(0, i, longVal(1)).i
			} else {
				n++
			}
			out.ints[i] = n
		}
	case "row_cumsum":
		e.cumsum(out, vs, arg)
	case "row_rank_dense", "row_rank_min":
		e.rank(out, vs, arg)
	case "row_window_session":
		e.session(out, vs, arg)
	}
	return out
}

func (e *windowExpr) cumsum(out *Vector, vs []*Vector, arg func(int, int, val) val) {
	var sum val
	for i := range out.n {
		v := convert(vs[0].val(i), e.t)
		if r := arg(1, i, boolVal(false)); i == 0 || r.i != 0 && !r.null {
			sum = val{t: e.t}
			if e.t == Decimal {
				sum.d = numberOfInt(0)
			}
		}
		if !v.null {
			sum = (&arithExpr{op: '+', t: e.t}).one(sum, v)
		}
		out.set(i, sum)
	}
}

func (e *windowExpr) rank(out *Vector, vs []*Vector, arg func(int, int, val) val) {
	var rank, seen int64
	for i := range out.n {
		v := vs[0].val(i)
		restart := arg(1, i, boolVal(false))
		if i == 0 || restart.i != 0 && !restart.null {
			rank, seen = 1, 1
			out.ints[i] = rank
			continue
		}
		seen++
		p := vs[0].val(i - 1)
		if p.null != v.null || !v.null && compareVals(p, v) != 0 {
			if e.name == "row_rank_min" {
				rank = seen
			} else {
				rank++
			}
		}
		out.ints[i] = rank
	}
}

// session starts a new session where the time since its start or since the
// previous row is too long, or on restart.
func (e *windowExpr) session(out *Vector, vs []*Vector, arg func(int, int, val) val) {
	var start, prev val
	start.null = true
	for i := range out.n {
		t := vs[0].val(i)
		if t.null {
			out.setNull(i)
			continue
		}
		restart := arg(3, i, boolVal(false))
		if start.null || restart.i != 0 && !restart.null || t.i-start.i > arg(1, i, val{}).i || t.i-prev.i > arg(2, i, val{}).i || t.i < prev.i {
			start = t
		}
		prev = t
		out.set(i, start)
	}
}

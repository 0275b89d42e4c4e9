package kql

// logicExpr is and / or in three-valued logic.
type logicExpr struct {
	and  bool
	l, r expr
}

func (e *logicExpr) typ() Type        { return Bool }
func (e *logicExpr) operands() []expr { return []expr{e.l, e.r} }

func (e *logicExpr) eval(x *exec, b *Batch) *Vector {
	l := e.l.eval(x, b)
	if l.single && b.n > 0 && !l.IsNull(0) && l.bools[0] != e.and {
		return l // false and …, true or …
	}
	r := e.r.eval(x, b)
	if l.single && r.single {
		if b.n == 0 {
			return newVector(Bool, 0)
		}
		return constVector(e.combine(l.val(0), r.val(0)), b.n)
	}
	out := newVector(Bool, b.n)
	if !l.single && !r.single && l.nulls == nil && r.nulls == nil {
		if e.and {
			for i := range out.bools {
				out.bools[i] = l.bools[i] && r.bools[i]
			}
		} else {
			for i := range out.bools {
				out.bools[i] = l.bools[i] || r.bools[i]
			}
		}
		return out
	}
	for i := range b.n {
		out.set(i, e.combine(l.val(i), r.val(i)))
	}
	return out
}

func (e *logicExpr) combine(l, r val) val {
	for _, v := range [...]val{l, r} {
		if !v.null && (v.i != 0) != e.and {
			return boolVal(!e.and)
		}
	}
	if l.null || r.null {
		return nullOf(Bool)
	}
	return boolVal(e.and)
}

// branchExpr is case: condition, value, …, default; every branch is evaluated
// and all values have one type.
type branchExpr struct {
	t    Type
	args []expr
}

func (e *branchExpr) typ() Type        { return e.t }
func (e *branchExpr) operands() []expr { return e.args }

func (e *branchExpr) eval(x *exec, b *Batch) *Vector {
	n := len(e.args)
	vs := make([]*Vector, n)
	for i, a := range e.args {
		vs[i] = a.eval(x, b)
	}
	out := newVector(e.t, b.n)
	for i := range b.n {
		pick := vs[n-1]
		for k := 0; k+1 < n; k += 2 {
			c := vs[k]
			if !c.IsNull(i) && c.bools[c.at(i)] {
				pick = vs[k+1]
				break
			}
		}
		out.set(i, pick.val(i))
	}
	return out
}

// truth turns a predicate's vector into the indexes of the rows it keeps.
func truth(v *Vector, n int) []int32 {
	if v.single {
		if n == 0 || v.IsNull(0) || !v.bools[0] {
			return nil
		}
		idx := make([]int32, n)
		for i := range idx {
			idx[i] = int32(i)
		}
		return idx
	}
	idx := make([]int32, 0, n)
	if v.nulls == nil {
		for i, ok := range v.bools {
			if ok {
				idx = append(idx, int32(i))
			}
		}
		return idx
	}
	for i, ok := range v.bools {
		if ok && !v.nulls.Get(i) {
			idx = append(idx, int32(i))
		}
	}
	return idx
}

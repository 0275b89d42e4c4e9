package kql

// expr is a bound expression: typed, its names resolved to columns and
// constants.
type expr interface {
	typ() Type
	// operands are the expressions below, all of them.
	operands() []expr
	// eval computes the expression for every row of the batch. The vector may
	// be single-valued. It bails on a runtime error.
	eval(x *exec, b *Batch) *Vector
}

type colExpr struct {
	t   Type
	idx int
}

func (e *colExpr) typ() Type                      { return e.t }
func (e *colExpr) operands() []expr               { return nil }
func (e *colExpr) eval(_ *exec, b *Batch) *Vector { return b.Columns[e.idx] }

type constExpr struct{ v val }

func (e *constExpr) typ() Type                      { return e.v.t }
func (e *constExpr) operands() []expr               { return nil }
func (e *constExpr) eval(_ *exec, b *Batch) *Vector { return constVector(e.v, b.n) }

// onceExpr is a subquery's scalar: computed at the first use in a run.
type onceExpr struct {
	t   Type
	get func(x *exec) val
}

func (e *onceExpr) typ() Type        { return e.t }
func (e *onceExpr) operands() []expr { return nil }

func (e *onceExpr) eval(x *exec, b *Batch) *Vector {
	return constVector(x.once(e), b.n)
}

// scalarFn is a row-wise function. It must not keep or change its arguments.
type scalarFn func(x *exec, a []val) val

// callExpr applies a row-wise function.
type callExpr struct {
	name     string
	t        Type
	fn       scalarFn
	args     []expr
	nulls    bool // the function sees null arguments; else any null gives null
	volatile bool // differs from row to row with the same arguments
}

func (e *callExpr) typ() Type        { return e.t }
func (e *callExpr) operands() []expr { return e.args }

func (e *callExpr) eval(x *exec, b *Batch) *Vector {
	vs := make([]*Vector, len(e.args))
	wide := -1 // the only argument that varies, or -2
	for i, a := range e.args {
		vs[i] = a.eval(x, b)
		if !vs[i].single {
			if wide == -1 {
				wide = i
			} else {
				wide = -2
			}
		}
	}
	if wide == -1 && !e.volatile {
		if b.n == 0 {
			return newVector(e.t, 0)
		}
		return constVector(e.row(x, vs, make([]val, len(vs)), 0), b.n)
	}
	if wide >= 0 && !e.volatile && vs[wide].codes != nil && len(vs[wide].strs) < b.n {
		return e.overDictionary(x, vs, wide, b.n)
	}
	out := newVector(e.t, b.n)
	buf := make([]val, len(vs))
	var built int64
	for i := range b.n {
		if i&1023 == 0 {
			x.check()
		}
		v := e.row(x, vs, buf, i)
		if list, ok := v.d.([]any); ok {
			built += 16 * int64(len(list))
		}
		if built += int64(len(v.s)); built > x.limits.MaxBytes {
			x.fail("%s builds more than %d bytes in one batch of rows", e.name, x.limits.MaxBytes)
		}
		out.set(i, v)
	}
	return out
}

func (e *callExpr) row(x *exec, vs []*Vector, buf []val, i int) val {
	null := false
	for k, v := range vs {
		buf[k] = v.val(i)
		null = null || buf[k].null
	}
	if null && !e.nulls {
		return nullOf(e.t)
	}
	return e.fn(x, buf)
}

// overDictionary computes the function once for every distinct string.
func (e *callExpr) overDictionary(x *exec, vs []*Vector, wide, n int) *Vector {
	src := vs[wide]
	dict := &Vector{typ: String, n: len(src.strs), strs: src.strs}
	args := append([]*Vector(nil), vs...)
	args[wide] = dict
	res := newVector(e.t, dict.n)
	buf := make([]val, len(vs))
	for i := range dict.n {
		res.set(i, e.row(x, args, buf, i))
	}
	if e.t == String {
		return &Vector{typ: String, n: n, codes: src.codes, strs: res.strs}
	}
	idx := make([]int32, n)
	for i, c := range src.codes {
		idx[i] = int32(c)
	}
	return res.gather(idx)
}

// castExpr converts between types; what does not convert becomes null.
type castExpr struct {
	t Type
	x expr
}

func (e *castExpr) typ() Type        { return e.t }
func (e *castExpr) operands() []expr { return []expr{e.x} }

func (e *castExpr) eval(x *exec, b *Batch) *Vector {
	v := e.x.eval(x, b)
	if v.single {
		if b.n == 0 {
			return newVector(e.t, 0)
		}
		return constVector(convert(v.val(0), e.t), b.n)
	}
	if v.typ.physical() == physInt && e.t.physical() == physInt && e.t != Int {
		c := *v
		c.typ = e.t
		return &c
	}
	if v.typ.isInteger() && e.t == Real {
		out := &Vector{typ: Real, n: v.n, nulls: v.nulls, floats: make([]float64, v.n)}
		for i, k := range v.ints {
			out.floats[i] = float64(k)
		}
		return out
	}
	out := newVector(e.t, b.n)
	for i := range b.n {
		out.set(i, convert(v.val(i), e.t))
	}
	return out
}

func cast(e expr, t Type) expr {
	if e.typ() == t || t == Unknown {
		return e
	}
	if c, ok := e.(*constExpr); ok {
		return &constExpr{convert(c.v, t)}
	}
	return &castExpr{t, e}
}

// isConst reports whether the expression has one value for a whole run.
func isConst(e expr) bool {
	switch e := e.(type) {
	case *constExpr, *onceExpr:
		return true
	case *colExpr, *windowExpr, *tableInExpr, *binAxisExpr:
		return false
	case *callExpr:
		if e.volatile {
			return false
		}
	}
	for _, o := range e.operands() {
		if !isConst(o) {
			return false
		}
	}
	return true
}

// walkColumns calls fn for every column that the expression reads.
func walkColumns(e expr, fn func(int)) {
	if c, ok := e.(*colExpr); ok {
		fn(c.idx)
	}
	for _, o := range e.operands() {
		walkColumns(o, fn)
	}
}

// constValue evaluates a constant expression outside any row.
func constValue(x *exec, e expr) val {
	return e.eval(x, &Batch{n: 1}).val(0)
}

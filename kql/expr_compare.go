package kql

import (
	"cmp"
	"math"
	"strings"
)

type compareOp uint8

const (
	opEq compareOp = iota
	opNe
	opLt
	opLe
	opGt
	opGe
)

func (o compareOp) holds(c int) bool {
	switch o {
	case opEq:
		return c == 0
	case opNe:
		return c != 0
	case opLt:
		return c < 0
	case opLe:
		return c <= 0
	case opGt:
		return c > 0
	}
	return c >= 0
}

// compareExpr compares two operands of one type. Nulls: == with one null is
// false, != is true; both null, or an ordering with a null, is null.
type compareExpr struct {
	op   compareOp
	l, r expr
}

func (e *compareExpr) typ() Type        { return Bool }
func (e *compareExpr) operands() []expr { return []expr{e.l, e.r} }

func (e *compareExpr) eval(x *exec, b *Batch) *Vector {
	l, r := e.l.eval(x, b), e.r.eval(x, b)
	if l.single && r.single {
		if b.n == 0 {
			return newVector(Bool, 0)
		}
		return constVector(e.one(l.val(0), r.val(0)), b.n)
	}
	out := newVector(Bool, b.n)
	if r.single && !l.single && b.n > 0 && l.nulls == nil && !r.IsNull(0) {
		switch l.typ.physical() {
		case physInt:
			compareConst(e.op, out.bools, l.ints, r.ints[0])
			return out
		case physFloat:
			if !math.IsNaN(r.floats[0]) {
				compareConst(e.op, out.bools, l.floats, r.floats[0])
				return out
			}
		case physString:
			if l.codes == nil {
				compareConst(e.op, out.bools, l.strs, r.strs[0])
				return out
			}
			verdict := make([]bool, len(l.strs))
			compareConst(e.op, verdict, l.strs, r.strs[0])
			for i, c := range l.codes {
				out.bools[i] = verdict[c]
			}
			return out
		}
	}
	for i := range b.n {
		out.set(i, e.one(l.val(i), r.val(i)))
	}
	return out
}

// compareConst compares a slice with a constant. A NaN in the slice gives
// false, and true for !=, as Go's operators do.
func compareConst[T cmp.Ordered](op compareOp, out []bool, a []T, c T) {
	switch op {
	case opEq:
		for i, v := range a {
			out[i] = v == c
		}
	case opNe:
		for i, v := range a {
			out[i] = v != c
		}
	case opLt:
		for i, v := range a {
			out[i] = v < c
		}
	case opLe:
		for i, v := range a {
			out[i] = v <= c
		}
	case opGt:
		for i, v := range a {
			out[i] = v > c
		}
	case opGe:
		for i, v := range a {
			out[i] = v >= c
		}
	}
}

func (e *compareExpr) one(a, b val) val {
	if a.null || b.null {
		switch {
		case a.null && b.null || e.op != opEq && e.op != opNe:
			return nullOf(Bool)
		default:
			return boolVal(e.op == opNe)
		}
	}
	if a.t == Real && (math.IsNaN(a.f) || math.IsNaN(b.f)) {
		return boolVal(e.op == opNe)
	}
	return boolVal(e.op.holds(compareVals(a, b)))
}

// compareVals orders two non-null values of one type. For dynamic it is a
// total order used for sorting and grouping only.
func compareVals(a, b val) int {
	switch a.t {
	case Bool, Int, Long, DateTime, TimeSpan:
		return cmp.Compare(a.i, b.i)
	case Real:
		return cmp.Compare(a.f, b.f)
	case String, GUID:
		return strings.Compare(a.s, b.s)
	case Decimal:
		return a.d.(Number).cmp(b.d.(Number))
	}
	return strings.Compare(string(appendJSON(nil, a.d)), string(appendJSON(nil, b.d)))
}

// dynamicEqual compares a dynamic value with a typed one: numbers as numbers,
// strings as strings; kinds that differ are unequal.
func dynamicEqual(d any, v val) bool {
	switch x := d.(type) {
	case bool:
		return v.t == Bool && x == (v.i != 0)
	case int64:
		switch v.t {
		case Int, Long:
			return x == v.i
		case Real:
			return float64(x) == v.f
		case Decimal:
			return numberOfInt(x).cmp(v.d.(Number)) == 0
		case Bool:
			return (x != 0) == (v.i != 0)
		}
	case float64:
		switch v.t {
		case Int, Long:
			return x == float64(v.i)
		case Real:
			return x == v.f
		}
	case string:
		if v.t == String || v.t == GUID {
			return x == v.s
		}
		c := convert(strVal(x), v.t)
		return !c.null && compareVals(c, v) == 0
	case timeValue:
		return v.t == DateTime && int64(x) == v.i
	case spanValue:
		return v.t == TimeSpan && int64(x) == v.i
	case guidValue:
		return (v.t == GUID || v.t == String) && string(x) == v.s
	}
	if v.t == String {
		return string(appendJSON(nil, d)) == v.s
	}
	return false
}

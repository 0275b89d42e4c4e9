package kql

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// real1 is a function of one real; where it is not defined the result is null.
func real1(f func(float64) float64) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		for i := range args {
			args[i] = cast(args[i], Real)
		}
		return &callExpr{name: n.name, t: Real, args: args, fn: func(_ *exec, a []val) val { return realVal(f(a[0].f)) }}
	}}
}

func real2(f func(a, b float64) float64) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		for i := range args {
			args[i] = cast(args[i], Real)
		}
		return &callExpr{name: n.name, t: Real, args: args, fn: func(_ *exec, a []val) val { return realVal(f(a[0].f, a[1].f)) }}
	}}
}

// logOf is null below zero, as the engine answers.
func logOf(f func(float64) float64) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		return &callExpr{name: n.name, t: Real, args: []expr{cast(args[0], Real)}, fn: func(_ *exec, a []val) val {
			if a[0].f < 0 {
				return nullOf(Real)
			}
			return realVal(f(a[0].f))
		}}
	}}
}

func int2(f func(a, b int64) int64) impl {
	return impl{fn: func(_ *exec, a []val) val { return longVal(f(a[0].i, a[1].i)) }}
}

func realTest(f func(float64) bool) impl {
	return impl{nulls: true, fn: func(_ *exec, a []val) val { return boolVal(!a[0].null && f(a[0].f)) }}
}

func mathFunctions() map[string]impl {
	shift := func(f func(a int64, n uint64) int64) impl {
		return impl{fn: func(_ *exec, a []val) val {
			if a[1].i < 0 {
				return nullOf(Long)
			}
			return longVal(f(a[0].i, uint64(a[1].i)%64))
		}}
	}
	return map[string]impl{
		"bin": {bind: bindBin}, "floor": {bind: bindBin}, "bin_at": {bind: bindBinAt},
		"ceiling": {fn: ceiling}, "round": {fn: round}, "abs": {fn: absolute}, "sign": {fn: sign},
		"sqrt": real1(math.Sqrt), "exp": real1(math.Exp), "exp2": real1(math.Exp2), "exp10": real1(func(f float64) float64 { return math.Pow(10, f) }),
		"log": logOf(math.Log), "log10": logOf(math.Log10), "log2": logOf(math.Log2),
		"sin": real1(math.Sin), "cos": real1(math.Cos), "tan": real1(math.Tan), "cot": real1(func(f float64) float64 { return 1 / math.Tan(f) }),
		"asin": real1(math.Asin), "acos": real1(math.Acos), "atan": real1(math.Atan), "atan2": real2(math.Atan2),
		"degrees": real1(func(f float64) float64 { return f * 180 / math.Pi }), "radians": real1(func(f float64) float64 { return f * math.Pi / 180 }),
		"pow": real2(math.Pow), "gamma": real1(math.Gamma), "loggamma": real1(func(f float64) float64 { l, _ := math.Lgamma(f); return l }),
		"erf": real1(math.Erf), "erfc": real1(math.Erfc),
		"pi":       {fn: func(*exec, []val) val { return realVal(math.Pi) }},
		"isnan":    realTest(math.IsNaN),
		"isinf":    realTest(func(f float64) bool { return math.IsInf(f, 0) }),
		"isfinite": realTest(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }),
		"rand": {volatile: true, fn: func(_ *exec, a []val) val {
			if len(a) > 0 && a[0].i > 0 {
				return realVal(float64(rand.Int64N(a[0].i)))
			}
			return realVal(rand.Float64())
		}},
		"binary_and":         int2(func(a, b int64) int64 { return a & b }),
		"binary_or":          int2(func(a, b int64) int64 { return a | b }),
		"binary_xor":         int2(func(a, b int64) int64 { return a ^ b }),
		"binary_not":         {fn: func(_ *exec, a []val) val { return longVal(^a[0].i) }},
		"binary_shift_left":  shift(func(a int64, n uint64) int64 { return a << n }),
		"binary_shift_right": shift(func(a int64, n uint64) int64 { return a >> n }),
		"bitset_count_ones":  {fn: func(_ *exec, a []val) val { return longVal(int64(bits.OnesCount64(uint64(a[0].i)))) }},
		"around":             {fn: around},
	}
}

// binExpr rounds down to a multiple of a constant: the hot path of a count by
// time.
type binExpr struct {
	x    expr
	step int64
	t    Type
}

func (e *binExpr) typ() Type        { return e.t }
func (e *binExpr) operands() []expr { return []expr{e.x} }

func (e *binExpr) eval(x *exec, b *Batch) *Vector {
	v := e.x.eval(x, b)
	out := &Vector{typ: e.t, n: v.n, single: v.single, nulls: v.nulls, ints: make([]int64, len(v.ints))}
	step := e.step
	// Neighbouring rows of a log fall into the same bin: remember its edges.
	lo, hi := int64(0), int64(0)
	for i, k := range v.ints {
		if k < lo || k >= hi {
			lo = floorInt(k, step)
			hi = lo + step
		}
		out.ints[i] = lo
	}
	return out
}

func floorInt(k, step int64) int64 {
	m := k % step
	if m < 0 {
		m += step
	}
	return k - m
}

func bindBin(b *binder, n *callNode, args []expr, ret Type) expr {
	if c, ok := args[1].(*constExpr); ok && !c.v.null && c.v.i > 0 && ret.physical() == physInt && args[0].typ().physical() == physInt {
		return &binExpr{args[0], c.v.i, ret}
	}
	return &callExpr{name: n.name, t: ret, args: args, fn: func(_ *exec, a []val) val { return binVal(ret, a[0], a[1]) }}
}

func binVal(t Type, v, step val) val {
	switch {
	case v.t == Decimal:
		if r, ok := v.d.(Number).floorTo(step.d.(Number)); ok {
			return val{t: Decimal, d: r}
		}
	case v.t == Real:
		if step.f > 0 {
			return realVal(math.Floor(v.f/step.f) * step.f)
		}
	case step.i > 0:
		return intVal(t, floorInt(v.i, step.i))
	}
	return nullOf(t)
}

func bindBinAt(b *binder, n *callNode, args []expr, ret Type) expr {
	return &callExpr{name: n.name, t: ret, args: args, fn: func(_ *exec, a []val) val {
		v, step, at := a[0], a[1], a[2]
		if v.t == Decimal || v.t == DateTime && step.t != TimeSpan || v.t == TimeSpan && step.t != TimeSpan {
			return nullOf(ret)
		}
		if v.t == Real {
			if step.f <= 0 {
				return nullOf(Real)
			}
			return realVal(at.f + math.Floor((v.f-at.f)/step.f)*step.f)
		}
		if step.i <= 0 {
			return nullOf(ret)
		}
		return intVal(ret, at.i+floorInt(v.i-at.i, step.i))
	}}
}

func ceiling(_ *exec, a []val) val {
	v := a[0]
	switch v.t {
	case Real:
		return realVal(math.Ceil(v.f))
	case Decimal:
		f, _ := v.d.(Number).floorTo(numberOfInt(1))
		if f.cmp(v.d.(Number)) != 0 {
			f = f.add(numberOfInt(1))
		}
		return val{t: Decimal, d: f}
	}
	return v
}

// round rounds half away from zero, to a number of digits that may be negative.
func round(_ *exec, a []val) val {
	v := a[0]
	var digits int64
	if len(a) > 1 {
		digits = a[1].i
	}
	switch v.t {
	case Real:
		if digits > 15 || digits < -300 {
			return v
		}
		p := math.Pow(10, math.Abs(float64(digits)))
		if digits < 0 {
			return realVal(math.Round(v.f/p) * p)
		}
		if math.Abs(v.f*p) > 1<<53 {
			return v
		}
		return realVal(math.Round(v.f*p) / p)
	case Decimal:
		n := v.d.(Number)
		if digits < 0 || int64(n.scale) <= digits {
			return v
		}
		half := Number{numberOfInt(5).coef, int(digits) + 1}
		unit := Number{numberOfInt(1).coef, int(digits)}
		r, _ := n.add(half).floorTo(unit)
		return val{t: Decimal, d: r.normalized()}
	}
	if digits < 0 && digits > -18 {
		p := int64(math.Pow(10, float64(-digits)))
		return intVal(v.t, int64(math.Round(float64(v.i)/float64(p)))*p)
	}
	return v
}

func absolute(_ *exec, a []val) val {
	v := a[0]
	switch v.t {
	case Real:
		return realVal(math.Abs(v.f))
	case Decimal:
		if n := v.d.(Number); n.coef.Sign() < 0 {
			return val{t: Decimal, d: numberOfInt(0).sub(n)}
		}
		return v
	}
	t := v.t
	if t == Int {
		t = Long
	}
	if v.i < 0 {
		return intVal(t, -v.i)
	}
	return intVal(t, v.i)
}

func sign(_ *exec, a []val) val {
	v := convert(a[0], Real)
	switch {
	case v.null:
		return nullOf(Real)
	case v.f > 0:
		return realVal(1)
	case v.f < 0:
		return realVal(-1)
	}
	return realVal(0)
}

// around(value, centre, delta): centre-delta <= value <= centre+delta.
func around(_ *exec, a []val) val {
	v, c, d := a[0], a[1], a[2]
	switch {
	case v.t.isNumber() && c.t.isNumber() && d.t.isNumber():
		x, m, w := convert(v, Real).f, convert(c, Real).f, convert(d, Real).f
		return boolVal(x >= m-w && x <= m+w)
	case v.t == c.t && d.t == TimeSpan && (v.t == DateTime || v.t == TimeSpan):
		return boolVal(v.i >= c.i-d.i && v.i <= c.i+d.i)
	}
	return nullOf(Bool)
}

package kql

import "math"

// arithExpr is + - * / % over operands that the binder brought to one of the
// typed forms below.
type arithExpr struct {
	op   byte
	t    Type
	l, r expr
}

func (e *arithExpr) typ() Type        { return e.t }
func (e *arithExpr) operands() []expr { return []expr{e.l, e.r} }

func (e *arithExpr) eval(x *exec, b *Batch) *Vector {
	l, r := e.l.eval(x, b), e.r.eval(x, b)
	if l.single && r.single {
		if b.n == 0 {
			return newVector(e.t, 0)
		}
		return constVector(e.one(l.val(0), r.val(0)), b.n)
	}
	if l.typ.physical() == physInt && r.typ.physical() == physInt && e.t.physical() == physInt && (e.op == '+' || e.op == '-' || e.op == '*') {
		if v := e.ints(l, r, b.n); v != nil {
			return v
		}
	}
	if l.typ == Real && r.typ == Real && e.t == Real && e.op != '%' {
		if v := e.reals(l, r, b.n); v != nil {
			return v
		}
	}
	out := newVector(e.t, b.n)
	for i := range b.n {
		out.set(i, e.one(l.val(i), r.val(i)))
	}
	return out
}

func (e *arithExpr) ints(l, r *Vector, n int) *Vector {
	if l.nulls != nil || r.nulls != nil {
		return nil
	}
	out := newVector(e.t, n)
	la, ra := l.ints, r.ints
	lm, rm := maskOf(l), maskOf(r)
	switch e.op {
	case '+':
		for i := range out.ints {
			out.ints[i] = la[i&lm] + ra[i&rm]
		}
	case '-':
		for i := range out.ints {
			out.ints[i] = la[i&lm] - ra[i&rm]
		}
	case '*':
		for i := range out.ints {
			out.ints[i] = la[i&lm] * ra[i&rm]
		}
	}
	return out
}

// maskOf makes i&mask the physical index of row i.
func maskOf(v *Vector) int {
	if v.single {
		return 0
	}
	return -1
}

func (e *arithExpr) reals(l, r *Vector, n int) *Vector {
	if l.nulls != nil || r.nulls != nil {
		return nil
	}
	out := newVector(Real, n)
	la, ra := l.floats, r.floats
	lm, rm := maskOf(l), maskOf(r)
	for i := range out.floats {
		a, b := la[i&lm], ra[i&rm]
		switch e.op {
		case '+':
			out.floats[i] = a + b
		case '-':
			out.floats[i] = a - b
		case '*':
			out.floats[i] = a * b
		default:
			out.floats[i] = a / b
		}
	}
	return out
}

func (e *arithExpr) one(a, b val) val {
	if a.null || b.null {
		return nullOf(e.t)
	}
	switch {
	case a.t == Decimal:
		return decimalArith(e.op, a.d.(Number), b.d.(Number))
	case a.t == Real && b.t == Real:
		f := floatArith(e.op, a.f, b.f)
		if e.t.physical() == physInt { // timespan scaled by a real
			return floatToTicks(e.t, f)
		}
		return realVal(f)
	case a.t == TimeSpan && b.t == Real:
		return floatToTicks(e.t, floatArith(e.op, float64(a.i), b.f))
	case a.t == Real && b.t == TimeSpan:
		return floatToTicks(e.t, floatArith(e.op, a.f, float64(b.i)))
	case e.t == Real: // timespan / timespan
		return realVal(floatArith(e.op, float64(a.i), float64(b.i)))
	}
	n, ok := intArith(e.op, a.i, b.i)
	if !ok {
		return nullOf(e.t)
	}
	if e.t == DateTime && (n < 0 || n > int64(maxDateTime)) {
		return nullOf(e.t)
	}
	return intVal(e.t, n)
}

func floatToTicks(t Type, f float64) val {
	if math.IsNaN(f) || math.Abs(f) > 9.2e18 {
		return nullOf(t)
	}
	return intVal(t, int64(f))
}

func floatArith(op byte, a, b float64) float64 {
	switch op {
	case '+':
		return a + b
	case '-':
		return a - b
	case '*':
		return a * b
	case '/':
		return a / b
	}
	m := math.Mod(a, b)
	if m < 0 {
		m += math.Abs(b)
	}
	return m
}

// intArith wraps on overflow, truncates a quotient and keeps a remainder
// non-negative; a zero divisor has no result.
func intArith(op byte, a, b int64) (int64, bool) {
	switch op {
	case '+':
		return a + b, true
	case '-':
		return a - b, true
	case '*':
		return a * b, true
	}
	if b == 0 {
		return 0, false
	}
	if b == -1 { // the one quotient that overflows
		if op == '/' {
			return -a, true
		}
		return 0, true
	}
	if op == '/' {
		return a / b, true
	}
	m := a % b
	if m < 0 {
		if b < 0 {
			m -= b
		} else {
			m += b
		}
	}
	return m, true
}

func decimalArith(op byte, a, b Number) val {
	r, ok := a, true
	switch op {
	case '+':
		r = a.add(b)
	case '-':
		r = a.sub(b)
	case '*':
		r = a.mul(b)
	case '/':
		r, ok = a.quo(b)
	default:
		var f Number
		abs := b
		if b.coef.Sign() < 0 {
			abs = numberOfInt(0).sub(b)
		}
		if f, ok = a.floorTo(abs); ok {
			r = a.sub(f)
		}
	}
	if !ok {
		return nullOf(Decimal)
	}
	return val{t: Decimal, d: r}
}

func roundHalfEven(f float64) float64 { return math.RoundToEven(f) }

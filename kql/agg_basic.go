package kql

import "math"

// aggregate computes one aggregate for all groups at once.
type aggregate interface {
	// grow makes room for n groups.
	grow(n int)
	// update takes rows: row i of args belongs to group groups[i]. It returns
	// the bytes of memory that the rows made it keep.
	update(groups []uint32, args []*Vector) int64
	result() *Vector
}

func extend[T any](s []T, n int) []T {
	if n <= len(s) {
		return s
	}
	if n <= cap(s) {
		return s[:n]
	}
	out := make([]T, n, max(n, 2*cap(s)))
	copy(out, s)
	return out
}

type countAgg struct{ n []int64 }

func (a *countAgg) grow(n int) { a.n = extend(a.n, n) }
func (a *countAgg) update(groups []uint32, _ []*Vector) int64 {
	for _, g := range groups {
		a.n[g]++
	}
	return 0
}
func (a *countAgg) result() *Vector { return NewInts(Long, a.n, nil) }

// sumAgg adds integers and timespans (wrapping) or reals; nulls are skipped and
// an empty group sums to zero.
type sumAgg struct {
	t      Type
	ints   []int64
	floats []float64
	decs   []Number
}

func (a *sumAgg) grow(n int) {
	switch a.t {
	case Real:
		a.floats = extend(a.floats, n)
	case Decimal:
		for len(a.decs) < n {
			a.decs = append(a.decs, numberOfInt(0))
		}
	default:
		a.ints = extend(a.ints, n)
	}
}

func (a *sumAgg) update(groups []uint32, args []*Vector) int64 {
	v := args[0]
	mask := maskOf(v)
	switch a.t {
	case Real:
		for i, g := range groups {
			if v.nulls == nil || !v.IsNull(i) {
				a.floats[g] += v.floats[i&mask]
			}
		}
	case Decimal:
		for i, g := range groups {
			if !v.IsNull(i) {
				a.decs[g] = a.decs[g].add(v.anys[i&mask].(Number))
			}
		}
	default:
		for i, g := range groups {
			if v.nulls == nil || !v.IsNull(i) {
				a.ints[g] += v.ints[i&mask]
			}
		}
	}
	return 0
}

func (a *sumAgg) result() *Vector {
	switch a.t {
	case Real:
		return NewFloats(a.floats, nil)
	case Decimal:
		v := newVector(Decimal, len(a.decs))
		for i, d := range a.decs {
			v.anys[i] = d
		}
		return v
	}
	return NewInts(a.t, a.ints, nil)
}

// avgAgg is the mean of the values that are not null: of an empty group NaN,
// or null where the type has no NaN.
type avgAgg struct {
	t   Type
	int []int64 // integers are added as such, wrapping
	sum []float64
	dec []Number
	n   []int64
}

func (a *avgAgg) grow(n int) {
	a.sum, a.n, a.int = extend(a.sum, n), extend(a.n, n), extend(a.int, n)
	if a.t == Decimal {
		for len(a.dec) < n {
			a.dec = append(a.dec, numberOfInt(0))
		}
	}
}

func (a *avgAgg) update(groups []uint32, args []*Vector) int64 {
	v := args[0]
	for i, g := range groups {
		if v.IsNull(i) {
			continue
		}
		k := v.at(i)
		switch {
		case a.t == Decimal:
			a.dec[g] = a.dec[g].add(v.anys[k].(Number))
		case v.typ == Real:
			a.sum[g] += v.floats[k]
		default:
			a.int[g] += v.ints[k]
		}
		a.n[g]++
	}
	return 0
}

func (a *avgAgg) result() *Vector {
	out := newVector(a.t, len(a.n))
	for g, n := range a.n {
		switch {
		case a.t == Decimal:
			if q, ok := a.dec[g].quo(numberOfInt(n)); ok {
				out.anys[g] = q
			}
		case a.t == Real:
			out.floats[g] = (a.sum[g] + float64(a.int[g])) / float64(n)
		case n == 0:
			out.setNull(g)
		default:
			out.ints[g] = a.int[g] / n
		}
	}
	return out
}

// extremeAgg is min and max; nulls are skipped.
type extremeAgg struct {
	t    Type
	max  bool
	best []val
	have []bool
}

func (a *extremeAgg) grow(n int) { a.best, a.have = extend(a.best, n), extend(a.have, n) }

func (a *extremeAgg) update(groups []uint32, args []*Vector) int64 {
	v := args[0]
	for i, g := range groups {
		if v.IsNull(i) {
			continue
		}
		x := v.val(i)
		if !a.have[g] {
			a.best[g], a.have[g] = x, true
			continue
		}
		if beats(x, a.best[g], a.max) {
			a.best[g] = x
		}
	}
	return 0
}

// beats tells whether x replaces the best so far. A NaN beats all and is never
// beaten.
func beats(x, best val, wantMax bool) bool {
	if x.t == Real && (math.IsNaN(x.f) || math.IsNaN(best.f)) {
		return !math.IsNaN(best.f)
	}
	c := compareVals(x, best)
	return c != 0 && (c > 0) == wantMax
}

func (a *extremeAgg) result() *Vector { return valsVector(a.t, a.best, a.have) }

func valsVector(t Type, vals []val, have []bool) *Vector {
	out := newVector(t, len(vals))
	for i, v := range vals {
		if have[i] {
			out.set(i, v)
		} else {
			out.setNull(i)
		}
	}
	return out
}

// anyAgg keeps the first value that is not null.
type anyAgg struct {
	t    Type
	vals []val
	have []bool
}

func (a *anyAgg) grow(n int) { a.vals, a.have = extend(a.vals, n), extend(a.have, n) }

func (a *anyAgg) update(groups []uint32, args []*Vector) int64 {
	v := args[0]
	for i, g := range groups {
		if !a.have[g] && !v.IsNull(i) {
			a.vals[g], a.have[g] = v.val(i), true
		}
	}
	return 0
}

func (a *anyAgg) result() *Vector { return valsVector(a.t, a.vals, a.have) }

// argPick is the row that an arg_max or arg_min picked in each group. The
// leading call moves it; the others read changed, which lists the moves of the
// batch at hand.
type argPick struct {
	max     bool
	best    []val
	have    []bool
	changed []argMove
}

type argMove struct {
	group uint32
	row   int32
}

type argAgg struct {
	pick   *argPick
	t      Type
	leader bool
	vals   []val
	have   []bool
}

func (a *argAgg) grow(n int) {
	if a.leader {
		a.pick.best, a.pick.have = extend(a.pick.best, n), extend(a.pick.have, n)
		return
	}
	a.vals, a.have = extend(a.vals, n), extend(a.have, n)
}

func (a *argAgg) update(groups []uint32, args []*Vector) int64 {
	p := a.pick
	if !a.leader {
		for _, m := range p.changed {
			a.vals[m.group], a.have[m.group] = args[1].val(int(m.row)), true
		}
		return 0
	}
	p.changed = p.changed[:0]
	v := args[0]
	for i, g := range groups {
		x := v.val(i)
		take := !p.have[g]
		if !take && !x.null {
			if p.best[g].null {
				take = true
			} else {
				take = beats(x, p.best[g], p.max)
			}
		}
		if take {
			p.best[g], p.have[g] = x, true
			p.changed = append(p.changed, argMove{g, int32(i)})
		}
	}
	return 0
}

func (a *argAgg) result() *Vector {
	if a.leader {
		return valsVector(a.t, a.pick.best, a.pick.have)
	}
	return valsVector(a.t, a.vals, a.have)
}

package kql

import (
	"math"
	"slices"
)

// distinctAgg is dcount and count_distinct, exactly.
type distinctAgg struct {
	seen  []map[string]struct{}
	nulls bool
	buf   []byte
}

func (a *distinctAgg) grow(n int) { a.seen = extend(a.seen, n) }

func (a *distinctAgg) update(groups []uint32, args []*Vector) int64 {
	var kept int64
	for i, g := range groups {
		if !a.nulls && args[0].IsNull(i) {
			continue
		}
		a.buf = appendKey(a.buf[:0], args[:1], i)
		if a.seen[g] == nil {
			a.seen[g] = map[string]struct{}{}
		}
		if _, ok := a.seen[g][string(a.buf)]; !ok {
			a.seen[g][string(a.buf)] = struct{}{}
			kept += int64(len(a.buf)) + 32
		}
	}
	return kept
}

func (a *distinctAgg) result() *Vector {
	out := newVector(Long, len(a.seen))
	for i, s := range a.seen {
		out.ints[i] = int64(len(s))
	}
	return out
}

// listAgg is make_list and make_set. Nulls are skipped unless withNulls;
// elements of an array are added one by one by make_set.
type listAgg struct {
	set       bool
	withNulls bool
	limit     int64
	lists     [][]any
	seen      []map[string]struct{}
}

func (a *listAgg) grow(n int) {
	a.lists = extend(a.lists, n)
	if a.set {
		a.seen = extend(a.seen, n)
	}
}

func (a *listAgg) update(groups []uint32, args []*Vector) int64 {
	var kept int64
	v := args[0]
	for i, g := range groups {
		if v.IsNull(i) {
			if a.withNulls && int64(len(a.lists[g])) < a.limit {
				a.lists[g] = append(a.lists[g], nil)
				kept += 16
			}
			continue
		}
		d := valToDynamic(v.val(i))
		if list, ok := d.([]any); ok && a.set {
			for _, e := range list {
				if e != nil {
					kept += a.put(g, e)
				}
			}
			continue
		}
		kept += a.put(g, d)
	}
	return kept
}

func (a *listAgg) put(g uint32, d any) int64 {
	if int64(len(a.lists[g])) >= a.limit {
		return 0
	}
	if a.set {
		key := string(appendJSON(nil, d))
		if a.seen[g] == nil {
			a.seen[g] = map[string]struct{}{}
		}
		if _, ok := a.seen[g][key]; ok {
			return 0
		}
		a.seen[g][key] = struct{}{}
	}
	a.lists[g] = append(a.lists[g], d)
	return 32 + dynamicSize(d)
}

func (a *listAgg) result() *Vector {
	out := newVector(Dynamic, len(a.lists))
	for i, l := range a.lists {
		if l == nil {
			l = []any{}
		}
		out.anys[i] = l
	}
	return out
}

// bagAgg is make_bag: the properties of all bags, the first of a name wins.
type bagAgg struct {
	limit int64
	bags  []*Bag
}

func (a *bagAgg) grow(n int) { a.bags = extend(a.bags, n) }

func (a *bagAgg) update(groups []uint32, args []*Vector) int64 {
	var kept int64
	for i, g := range groups {
		bag, ok := args[0].val(i).d.(*Bag)
		if !ok {
			continue
		}
		if a.bags[g] == nil {
			a.bags[g] = NewBag()
		}
		for k, key := range bag.keys {
			if _, dup := a.bags[g].Get(key); !dup && int64(a.bags[g].Len()) < a.limit {
				a.bags[g].Set(key, bag.vals[k])
				kept += int64(len(key)) + 48 + dynamicSize(bag.vals[k])
			}
		}
	}
	return kept
}

func (a *bagAgg) result() *Vector {
	out := newVector(Dynamic, len(a.bags))
	for i, b := range a.bags {
		if b == nil {
			b = NewBag()
		}
		out.anys[i] = b
	}
	return out
}

// momentAgg is variance and standard deviation (Welford's method).
type momentAgg struct {
	population, root bool
	n                []int64
	mean, m2         []float64
}

func (a *momentAgg) grow(n int) {
	a.n, a.mean, a.m2 = extend(a.n, n), extend(a.mean, n), extend(a.m2, n)
}

func (a *momentAgg) update(groups []uint32, args []*Vector) int64 {
	for i, g := range groups {
		x := args[0].val(i)
		if x.null {
			continue
		}
		a.n[g]++
		d := x.f - a.mean[g]
		a.mean[g] += d / float64(a.n[g])
		a.m2[g] += d * (x.f - a.mean[g])
	}
	return 0
}

func (a *momentAgg) result() *Vector {
	out := newVector(Real, len(a.n))
	for g, n := range a.n {
		div := float64(n)
		if !a.population {
			div--
		}
		switch {
		case n == 0:
			out.floats[g] = math.NaN()
			continue
		case div > 0:
			out.floats[g] = a.m2[g] / div
		}
		if a.root {
			out.floats[g] = math.Sqrt(out.floats[g])
		}
	}
	return out
}

// percentileAgg keeps the values and takes the nearest rank.
type percentileAgg struct {
	t    Type
	p    float64
	vals [][]val
}

func (a *percentileAgg) grow(n int) { a.vals = extend(a.vals, n) }

func (a *percentileAgg) update(groups []uint32, args []*Vector) int64 {
	var kept int64
	for i, g := range groups {
		if x := args[0].val(i); !x.null {
			a.vals[g] = append(a.vals[g], x)
			kept += 72
		}
	}
	return kept
}

func (a *percentileAgg) result() *Vector {
	out := newVector(a.t, len(a.vals))
	for g, vs := range a.vals {
		if len(vs) == 0 {
			out.setNull(g)
			continue
		}
		slices.SortFunc(vs, compareVals)
		i := int(math.Ceil(a.p/100*float64(len(vs)))) - 1
		out.set(g, convert(vs[min(max(i, 0), len(vs)-1)], a.t))
	}
	return out
}

// bitsAgg is binary_all_and, _or and _xor.
type bitsAgg struct {
	op   byte
	bits []int64
	have []bool
}

func (a *bitsAgg) grow(n int) { a.bits, a.have = extend(a.bits, n), extend(a.have, n) }

func (a *bitsAgg) update(groups []uint32, args []*Vector) int64 {
	for i, g := range groups {
		x := args[0].val(i)
		switch {
		case x.null:
			continue
		case !a.have[g]:
			a.bits[g], a.have[g] = x.i, true
		case a.op == '&':
			a.bits[g] &= x.i
		case a.op == '|':
			a.bits[g] |= x.i
		default:
			a.bits[g] ^= x.i
		}
	}
	return 0
}

func (a *bitsAgg) result() *Vector {
	v := NewInts(Long, a.bits, nil)
	for i, h := range a.have {
		if !h {
			v.setNull(i)
		}
	}
	return v
}

// covarianceAgg is the covariance of two expressions; rows where either is null
// are skipped.
type covarianceAgg struct {
	population bool
	n          []int64
	mx, my, c  []float64
}

func (a *covarianceAgg) grow(n int) {
	a.n, a.mx, a.my, a.c = extend(a.n, n), extend(a.mx, n), extend(a.my, n), extend(a.c, n)
}

func (a *covarianceAgg) update(groups []uint32, args []*Vector) int64 {
	for i, g := range groups {
		x, y := args[0].val(i), args[1].val(i)
		if x.null || y.null {
			continue
		}
		a.n[g]++
		n := float64(a.n[g])
		dx := x.f - a.mx[g]
		a.mx[g] += dx / n
		a.my[g] += (y.f - a.my[g]) / n
		a.c[g] += dx * (y.f - a.my[g])
	}
	return 0
}

func (a *covarianceAgg) result() *Vector {
	out := newVector(Real, len(a.n))
	for g, n := range a.n {
		div := float64(n)
		if !a.population {
			div--
		}
		if div > 0 {
			out.floats[g] = a.c[g] / div
		} else {
			out.floats[g] = math.NaN()
		}
	}
	return out
}

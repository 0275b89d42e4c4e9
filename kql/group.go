package kql

import (
	"encoding/binary"
	"math"
)

// grouper numbers the distinct keys in order of appearance.
type grouper struct {
	keys  []expr
	n     int
	ints  *intTable         // one integer-like key
	codes map[string]uint32 // any other keys, encoded
	cols  []colBuilder
	null  int // the group of the null key on the integer path, or -1
	buf   []byte
}

func newGrouper(keys []expr) *grouper {
	g := &grouper{keys: keys, null: -1, cols: make([]colBuilder, len(keys))}
	for i, k := range keys {
		g.cols[i].typ = k.typ()
	}
	if len(keys) == 1 && keys[0].typ().physical() == physInt {
		g.ints = newIntTable()
	} else {
		g.codes = map[string]uint32{}
	}
	return g
}

func (g *grouper) keyColumns() []*Vector {
	out := make([]*Vector, len(g.cols))
	for i := range g.cols {
		c := &g.cols[i]
		v := &Vector{typ: c.typ, n: g.n, bools: c.bools, ints: c.ints, floats: c.floats, anys: c.anys, strs: c.strs}
		if len(c.nulls) > 0 {
			v.nulls = NewBitmap(g.n)
			for _, r := range c.nulls {
				v.nulls.Set(int(r))
			}
		}
		out[i] = v
	}
	return out
}

// assign gives each row of the batch its group.
func (g *grouper) assign(x *exec, b *Batch) []uint32 {
	groups := make([]uint32, b.n)
	if len(g.keys) == 0 {
		g.n = 1
		return groups
	}
	vs := make([]*Vector, len(g.keys))
	for i, k := range g.keys {
		vs[i] = k.eval(x, b)
	}
	before := g.n
	switch {
	case g.ints != nil:
		g.assignInts(vs[0], groups)
	case len(vs) == 1 && vs[0].codes != nil && len(vs[0].strs) <= b.n:
		g.assignCodes(vs, groups)
	default:
		for i := range groups {
			groups[i] = g.group(vs, i)
		}
	}
	x.hold(int64(g.n-before) * 96)
	return groups
}

func (g *grouper) assignInts(v *Vector, groups []uint32) {
	mask := maskOf(v)
	last, lastGroup, have := int64(0), uint32(0), false
	for i := range groups {
		if v.nulls != nil && v.IsNull(i) {
			if g.null < 0 {
				g.null = g.n
				g.cols[0].append(g.n, nullOf(v.typ))
				g.n++
			}
			groups[i] = uint32(g.null)
			continue
		}
		k := v.ints[i&mask]
		if !have || k != last {
			id, isNew := g.ints.get(k, uint32(g.n))
			if isNew {
				g.cols[0].append(g.n, intVal(v.typ, k))
				g.n++
			}
			last, lastGroup, have = k, id, true
		}
		groups[i] = lastGroup
	}
}

// assignCodes looks each dictionary entry up once.
func (g *grouper) assignCodes(vs []*Vector, groups []uint32) {
	v := vs[0]
	byCode := make([]int64, len(v.strs))
	for i := range byCode {
		byCode[i] = -1
	}
	for i, c := range v.codes {
		if byCode[c] < 0 {
			byCode[c] = int64(g.group(vs, i))
		}
		groups[i] = uint32(byCode[c])
	}
}

func (g *grouper) group(vs []*Vector, i int) uint32 {
	g.buf = appendKey(g.buf[:0], vs, i)
	if id, ok := g.codes[string(g.buf)]; ok {
		return id
	}
	id := uint32(g.n)
	g.codes[string(g.buf)] = id
	for c, v := range vs {
		g.cols[c].append(g.n, v.val(i))
	}
	g.n++
	return id
}

// appendKey encodes row i of the vectors so that equal keys, and only those,
// have equal bytes. Nulls are equal to each other.
func appendKey(dst []byte, vs []*Vector, i int) []byte {
	for _, v := range vs {
		if v.IsNull(i) {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, 1)
		k := v.at(i)
		switch v.typ.physical() {
		case physBool:
			if v.bools[k] {
				dst = append(dst, 1)
			} else {
				dst = append(dst, 0)
			}
		case physInt:
			dst = binary.LittleEndian.AppendUint64(dst, uint64(v.ints[k]))
		case physFloat:
			f := v.floats[k]
			if f == 0 {
				f = 0 // one zero
			}
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
		case physString:
			s := v.str(i)
			dst = binary.AppendUvarint(dst, uint64(len(s)))
			dst = append(dst, s...)
		default:
			start := len(dst)
			dst = append(dst, 0, 0, 0, 0)
			if n, ok := v.anys[k].(Number); ok {
				dst = append(dst, n.normalized().String()...)
			} else {
				dst = appendJSON(dst, v.anys[k])
			}
			binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
		}
	}
	return dst
}

// intTable is an open-addressing hash table from int64 to a group.
type intTable struct {
	keys []int64
	vals []uint32 // group + 1; 0 is free
	n    int
}

func newIntTable() *intTable {
	return &intTable{keys: make([]int64, 1024), vals: make([]uint32, 1024)}
}

// get returns the key's group; a new key gets the group next.
func (t *intTable) get(k int64, next uint32) (uint32, bool) {
	if 2*t.n >= len(t.keys) {
		t.rehash()
	}
	mask := uint64(len(t.keys) - 1)
	h := uint64(k) * 0x9E3779B97F4A7C15
	for i := (h ^ h>>29) & mask; ; i = (i + 1) & mask {
		switch {
		case t.vals[i] == 0:
			t.keys[i], t.vals[i] = k, next+1
			t.n++
			return next, true
		case t.keys[i] == k:
			return t.vals[i] - 1, false
		}
	}
}

func (t *intTable) rehash() {
	old := *t
	t.keys, t.vals, t.n = make([]int64, 2*len(old.keys)), make([]uint32, 2*len(old.keys)), 0
	for i, v := range old.vals {
		if v != 0 {
			t.get(old.keys[i], v-1)
		}
	}
}

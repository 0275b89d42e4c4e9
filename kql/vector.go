package kql

// Bitmap marks null positions, one bit a row. A nil Bitmap marks none.
type Bitmap []uint64

// NewBitmap makes an empty bitmap of n rows.
func NewBitmap(n int) Bitmap { return make(Bitmap, (n+63)/64) }

// Get reports whether row i is marked.
func (b Bitmap) Get(i int) bool { return b != nil && b[i>>6]&(1<<(uint(i)&63)) != 0 }

// Set marks row i.
func (b Bitmap) Set(i int) { b[i>>6] |= 1 << (uint(i) & 63) }

// Vector is one column of a batch: a typed slice and the rows that are null.
// A vector is immutable once it is in a Batch. Strings are never null; for
// dynamic and decimal a nil element is the null.
type Vector struct {
	typ    Type
	n      int
	single bool // one physical value stands for all n rows
	nulls  Bitmap
	bools  []bool
	ints   []int64
	floats []float64
	strs   []string // the values, or the dictionary when codes is set
	codes  []uint32
	anys   []any
}

// NewBools makes a bool column; it keeps the slices.
func NewBools(data []bool, nulls Bitmap) *Vector {
	return &Vector{typ: Bool, n: len(data), bools: data, nulls: nulls}
}

// NewInts makes an int, long, datetime or timespan column (the last two in
// ticks); it keeps the slices.
func NewInts(t Type, data []int64, nulls Bitmap) *Vector {
	return &Vector{typ: t, n: len(data), ints: data, nulls: nulls}
}

// NewFloats makes a real column; it keeps the slices.
func NewFloats(data []float64, nulls Bitmap) *Vector {
	return &Vector{typ: Real, n: len(data), floats: data, nulls: nulls}
}

// NewStrings makes a string column; it keeps the slice.
func NewStrings(data []string) *Vector {
	return &Vector{typ: String, n: len(data), strs: data}
}

// NewDictionary makes a string column of codes into a dictionary; it keeps
// both slices. Every code must be below len(dict).
func NewDictionary(codes []uint32, dict []string) *Vector {
	return &Vector{typ: String, n: len(codes), codes: codes, strs: dict}
}

// NewGUIDs makes a guid column of canonical lower-case texts; it keeps the
// slices.
func NewGUIDs(data []string, nulls Bitmap) *Vector {
	return &Vector{typ: GUID, n: len(data), strs: data, nulls: nulls}
}

// NewDynamics makes a dynamic column. Elements are nil, bool, int64, float64,
// string, []any, *Bag; it keeps the slice.
func NewDynamics(data []any) *Vector {
	return &Vector{typ: Dynamic, n: len(data), anys: data}
}

// Type returns the column's type.
func (v *Vector) Type() Type { return v.typ }

// Len returns the number of rows.
func (v *Vector) Len() int { return v.n }

func (v *Vector) at(i int) int {
	if v.single {
		return 0
	}
	return i
}

// IsNull reports whether row i is null.
func (v *Vector) IsNull(i int) bool {
	i = v.at(i)
	if v.typ.physical() == physAny {
		return v.anys[i] == nil
	}
	return v.nulls.Get(i)
}

// hasNulls reports whether any row may be null.
func (v *Vector) hasNulls() bool {
	return v.nulls != nil || v.typ.physical() == physAny
}

func (v *Vector) str(i int) string {
	i = v.at(i)
	if v.codes != nil {
		return v.strs[v.codes[i]]
	}
	return v.strs[i]
}

// Value returns row i as a Go value: nil, bool, int64 (int and long), float64,
// string (string and guid), Number (decimal), Ticks (datetime and timespan), or
// a dynamic value as NewDynamics describes it.
func (v *Vector) Value(i int) any {
	if v.IsNull(i) {
		return nil
	}
	k := v.at(i)
	switch v.typ.physical() {
	case physBool:
		return v.bools[k]
	case physInt:
		if v.typ == DateTime || v.typ == TimeSpan {
			return Ticks(v.ints[k])
		}
		return v.ints[k]
	case physFloat:
		return v.floats[k]
	case physString:
		return v.str(i)
	}
	return v.anys[k]
}

// val is one value in a register: what row-wise functions take and give.
type val struct {
	t    Type
	null bool
	i    int64 // bool (0, 1), int, long, datetime, timespan
	f    float64
	s    string // string, guid
	d    any    // dynamic, decimal
}

func nullOf(t Type) val {
	if t == String {
		return val{t: String}
	}
	return val{t: t, null: true}
}

func boolVal(b bool) val {
	if b {
		return val{t: Bool, i: 1}
	}
	return val{t: Bool}
}

func intVal(t Type, i int64) val { return val{t: t, i: i} }
func longVal(i int64) val        { return val{t: Long, i: i} }
func realVal(f float64) val      { return val{t: Real, f: f} }
func strVal(s string) val        { return val{t: String, s: s} }

func dynVal(d any) val {
	return val{t: Dynamic, null: d == nil, d: d}
}

func (v *Vector) val(i int) val {
	r := val{t: v.typ}
	if v.IsNull(i) {
		r.null = true
		return r
	}
	k := v.at(i)
	switch v.typ.physical() {
	case physBool:
		if v.bools[k] {
			r.i = 1
		}
	case physInt:
		r.i = v.ints[k]
	case physFloat:
		r.f = v.floats[k]
	case physString:
		r.s = v.str(i)
	default:
		r.d = v.anys[k]
	}
	return r
}

// newVector makes a vector of n rows of zero values to fill with set.
func newVector(t Type, n int) *Vector {
	v := &Vector{typ: t, n: n}
	switch t.physical() {
	case physBool:
		v.bools = make([]bool, n)
	case physInt:
		v.ints = make([]int64, n)
	case physFloat:
		v.floats = make([]float64, n)
	case physString:
		v.strs = make([]string, n)
	default:
		v.anys = make([]any, n)
	}
	return v
}

func constVector(c val, n int) *Vector {
	v := newVector(c.t, 1)
	v.set(0, c)
	v.single, v.n = true, n
	return v
}

func (v *Vector) setNull(i int) {
	if v.typ.physical() == physAny {
		v.anys[i] = nil
		return
	}
	if v.typ == String {
		v.strs[i] = ""
		return
	}
	if v.nulls == nil {
		v.nulls = NewBitmap(v.n)
	}
	v.nulls.Set(i)
}

func (v *Vector) set(i int, x val) {
	if x.null {
		v.setNull(i)
		return
	}
	switch v.typ.physical() {
	case physBool:
		v.bools[i] = x.i != 0
	case physInt:
		v.ints[i] = x.i
	case physFloat:
		v.floats[i] = x.f
	case physString:
		v.strs[i] = x.s
	default:
		v.anys[i] = x.d
	}
}

// gather picks rows; an index of -1 gives null (for a string, "").
func (v *Vector) gather(idx []int32) *Vector {
	if v.single {
		all := true
		for _, i := range idx {
			if i < 0 {
				all = false
				break
			}
		}
		if all {
			c := *v
			c.n = len(idx)
			return &c
		}
	}
	out := newVector(v.typ, len(idx))
	if v.codes != nil {
		out.strs = nil
		codes := make([]uint32, len(idx))
		dict := v.strs
		empty := -1
		for k, i := range idx {
			if i >= 0 {
				codes[k] = v.codes[i]
				continue
			}
			if empty < 0 {
				empty = len(dict)
				dict = append(dict[:len(dict):len(dict)], "")
			}
			codes[k] = uint32(empty)
		}
		out.codes, out.strs = codes, dict
		return out
	}
	for k, i := range idx {
		if i < 0 {
			out.setNull(k)
			continue
		}
		j := v.at(int(i))
		if v.nulls.Get(j) {
			out.setNull(k)
			continue
		}
		switch v.typ.physical() {
		case physBool:
			out.bools[k] = v.bools[j]
		case physInt:
			out.ints[k] = v.ints[j]
		case physFloat:
			out.floats[k] = v.floats[j]
		case physString:
			out.strs[k] = v.strs[j]
		default:
			out.anys[k] = v.anys[j]
		}
	}
	return out
}

// slice is rows [lo, hi) as a view, except that null bits are copied.
func (v *Vector) slice(lo, hi int) *Vector {
	c := *v
	c.n = hi - lo
	if v.single {
		return &c
	}
	if v.nulls != nil {
		c.nulls = nil
		for i := lo; i < hi; i++ {
			if v.nulls.Get(i) {
				if c.nulls == nil {
					c.nulls = NewBitmap(hi - lo)
				}
				c.nulls.Set(i - lo)
			}
		}
	}
	switch v.typ.physical() {
	case physBool:
		c.bools = v.bools[lo:hi]
	case physInt:
		c.ints = v.ints[lo:hi]
	case physFloat:
		c.floats = v.floats[lo:hi]
	case physString:
		if v.codes != nil {
			c.codes = v.codes[lo:hi]
		} else {
			c.strs = v.strs[lo:hi]
		}
	default:
		c.anys = v.anys[lo:hi]
	}
	return &c
}

// concat joins vectors of one type into one.
func concat(t Type, parts []*Vector) *Vector {
	if len(parts) == 1 {
		return parts[0]
	}
	n := 0
	for _, p := range parts {
		n += p.n
	}
	out := newVector(t, n)
	k := 0
	for _, p := range parts {
		plain := !p.single && p.nulls == nil && p.codes == nil
		if plain {
			switch t.physical() {
			case physBool:
				copy(out.bools[k:], p.bools)
			case physInt:
				copy(out.ints[k:], p.ints)
			case physFloat:
				copy(out.floats[k:], p.floats)
			case physString:
				copy(out.strs[k:], p.strs)
			default:
				copy(out.anys[k:], p.anys)
			}
			k += p.n
			continue
		}
		for i := range p.n {
			out.set(k, p.val(i))
			k++
		}
	}
	return out
}

// size estimates the bytes that the vector holds.
func (v *Vector) size() int64 {
	n := int64(len(v.bools)) + 8*int64(len(v.ints)+len(v.floats)+len(v.nulls)) + 4*int64(len(v.codes)) + 16*int64(len(v.strs)+len(v.anys))
	if v.codes == nil {
		for _, s := range v.strs {
			n += int64(len(s))
		}
	}
	for _, a := range v.anys {
		n += dynamicSize(a)
	}
	return n
}

// Batch is some rows of a table: columns of equal length in schema order. It
// is immutable once handed out.
type Batch struct {
	Columns []*Vector
	n       int
}

// NewBatch makes a batch; n is the number of rows, which every column has.
func NewBatch(n int, columns ...*Vector) *Batch { return &Batch{Columns: columns, n: n} }

// Len returns the number of rows.
func (b *Batch) Len() int { return b.n }

// Row returns row i as Go values (see Vector.Value).
func (b *Batch) Row(i int) []any {
	row := make([]any, len(b.Columns))
	for c, v := range b.Columns {
		row[c] = v.Value(i)
	}
	return row
}

func (b *Batch) gather(idx []int32) *Batch {
	out := &Batch{Columns: make([]*Vector, len(b.Columns)), n: len(idx)}
	for i, v := range b.Columns {
		if v != nil {
			out.Columns[i] = v.gather(idx)
		}
	}
	return out
}

func (b *Batch) slice(lo, hi int) *Batch {
	if lo == 0 && hi == b.n {
		return b
	}
	out := &Batch{Columns: make([]*Vector, len(b.Columns)), n: hi - lo}
	for i, v := range b.Columns {
		if v != nil {
			out.Columns[i] = v.slice(lo, hi)
		}
	}
	return out
}

func (b *Batch) size() int64 {
	var n int64
	for _, v := range b.Columns {
		if v != nil {
			n += v.size()
		}
	}
	return n
}

func concatBatches(s Schema, parts []*Batch) *Batch {
	if len(parts) == 1 {
		return parts[0]
	}
	out := &Batch{Columns: make([]*Vector, len(s))}
	for _, p := range parts {
		out.n += p.n
	}
	cols := make([]*Vector, len(parts))
	for c := range s {
		for i, p := range parts {
			cols[i] = p.Columns[c]
		}
		switch {
		case len(cols) == 0:
			out.Columns[c] = newVector(s[c].Type, 0)
		default:
			out.Columns[c] = concatKnown(s[c].Type, cols, parts)
		}
	}
	return out
}

// concatKnown concatenates; a column that nobody needs is nil in every batch,
// or, after a union, in some.
func concatKnown(t Type, cols []*Vector, parts []*Batch) *Vector {
	known := false
	for _, c := range cols {
		known = known || c != nil
	}
	if !known {
		return nil
	}
	filled := make([]*Vector, len(cols))
	for i, c := range cols {
		if filled[i] = c; c == nil {
			filled[i] = constVector(nullOf(t), parts[i].n)
		}
	}
	return concat(t, filled)
}

package loganalytics

import (
	"time"
)

// value is one cell; which field counts depends on the column's kind: i for
// bool, int, long, datetime and timespan, f for real, s for the rest.
type value struct {
	i int64
	f float64
	s string
}

// cell is a value and the position of its column in the table's schema.
type cell struct {
	column int
	value
}

// row is a checked row: the cells that are not null, each column once.
type row []cell

// ticksAtUnixEpoch is 1970-01-01 in ticks: 100 ns since 0001-01-01, as the
// query language counts.
const ticksAtUnixEpoch = 621355968000000000

func ticks(t time.Time) int64 {
	return ticksAtUnixEpoch + t.Unix()*1e7 + int64(t.Nanosecond())/100
}

func fromTicks(n int64) time.Time {
	n -= ticksAtUnixEpoch
	sec := n / 1e7
	if n%1e7 < 0 {
		sec--
	}
	return time.Unix(sec, (n-sec*1e7)*100).UTC()
}

// column is a vector of values of one kind, in one of the slices: texts read
// from a segment may be codes into a dictionary instead of strs. It only grows:
// a reader that copied the struct sees its own length and never a changed
// element.
type column struct {
	kind   kind
	n      int
	ints   []int64
	floats []float64
	strs   []string
	codes  []uint32
	dict   []string
	null   []bool // nil while no value is null
}

// stores says which slice a kind uses.
func (k kind) stores() (ints, floats bool) {
	switch k {
	case kindBool, kindInt, kindLong, kindDateTime, kindTimespan:
		return true, false
	case kindReal:
		return false, true
	}
	return false, false
}

func (c *column) push(v value) {
	switch ints, floats := c.kind.stores(); {
	case ints:
		c.ints = append(c.ints, v.i)
	case floats:
		c.floats = append(c.floats, v.f)
	default:
		c.strs = append(c.strs, v.s)
	}
	if c.null != nil {
		c.null = append(c.null, false)
	}
	c.n++
}

// padTo fills the column up to n values with null; a string has no null and
// gets the empty string.
func (c *column) padTo(n int) {
	if c.n >= n {
		return
	}
	if c.null == nil && c.kind != kindString {
		c.null = make([]bool, c.n, n)
	}
	for c.n < n {
		switch ints, floats := c.kind.stores(); {
		case ints:
			c.ints = append(c.ints, 0)
		case floats:
			c.floats = append(c.floats, 0)
		default:
			c.strs = append(c.strs, "")
		}
		if c.null != nil {
			c.null = append(c.null, true)
		}
		c.n++
	}
}

func (c *column) isNull(i int) bool { return c.null != nil && c.null[i] }

// str is the text of row i.
func (c *column) str(i int) string {
	if c.codes != nil {
		return c.dict[c.codes[i]]
	}
	return c.strs[i]
}

// slice is the part [from, to) of the column.
func (c *column) slice(from, to int) *column {
	if c == nil {
		return nil
	}
	s := &column{kind: c.kind, n: to - from}
	switch ints, floats := c.kind.stores(); {
	case ints:
		s.ints = c.ints[from:to:to]
	case floats:
		s.floats = c.floats[from:to:to]
	case c.codes != nil:
		s.codes, s.dict = c.codes[from:to:to], c.dict
	default:
		s.strs = c.strs[from:to:to]
	}
	if c.null != nil {
		s.null = c.null[from:to:to]
	}
	return s
}

// pick is the column's rows at the given places.
func (c *column) pick(rows []int32) *column {
	if c == nil {
		return nil
	}
	s := &column{kind: c.kind, n: len(rows)}
	switch ints, floats := c.kind.stores(); {
	case ints:
		s.ints = choose(c.ints, rows)
	case floats:
		s.floats = choose(c.floats, rows)
	case c.codes != nil:
		s.codes, s.dict = choose(c.codes, rows), c.dict
	default:
		s.strs = choose(c.strs, rows)
	}
	if c.null != nil {
		s.null = choose(c.null, rows)
	}
	return s
}

func choose[T any](values []T, rows []int32) []T {
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = values[r]
	}
	return out
}

// timeRange is a closed interval of TimeGenerated in ticks.
type timeRange struct{ from, to int64 }

// allTime is every time a datetime can hold.
var allTime = timeRange{0, 3155378975999999999}

func (r timeRange) overlaps(min, max int64) bool { return min <= r.to && r.from <= max }

// batch is a run of rows, columns by position in the schema; a nil column is
// null (or empty) in every row. A batch does not change any more.
type batch struct {
	rows     int
	columns  []*column
	min, max int64 // TimeGenerated
}

// memtable collects rows as columns. Its owner's lock guards it.
type memtable struct {
	table    *table
	columns  []*column
	rows     int
	bytes    int64
	min, max int64
}

func newMemtable(t *table) *memtable {
	return &memtable{table: t, columns: make([]*column, len(t.columns)), min: allTime.to, max: allTime.from}
}

// add appends checked rows. Columns nobody filled cost nothing.
func (m *memtable) add(rows []row) {
	for _, r := range rows {
		for _, c := range r {
			col := m.columns[c.column]
			if col == nil {
				col = &column{kind: m.table.columns[c.column].kind}
				m.columns[c.column] = col
			}
			col.padTo(m.rows)
			col.push(c.value)
			m.bytes += 16 + int64(len(c.s))
			if c.column == m.table.timeGenerated {
				m.min, m.max = min(m.min, c.i), max(m.max, c.i)
			}
		}
		m.rows++
	}
}

// snapshot is the table as it is now; later rows do not show in it.
func (m *memtable) snapshot() batch {
	b := batch{rows: m.rows, columns: make([]*column, len(m.columns)), min: m.min, max: m.max}
	for i, c := range m.columns {
		if c != nil {
			c.padTo(m.rows)
			b.columns[i] = c.slice(0, m.rows)
		}
	}
	return b
}

package loganalytics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// One accepted call of Emit is one record of the write-ahead log:
//
//	record = 1 table:string received:varint columns:uvarint (name:string kind:byte)* rows:uvarint row*
//	row    = cells:uvarint (column:uvarint value)*
//	value  = varint | float64 little endian | string, by the column's kind
//	string = length:uvarint bytes
//
// Columns go by name and kind, so that a log written by another version is
// read by what it says and not by where a column stood.

const recordVersion = 1

var errRecord = errors.New("write-ahead log record is malformed")

// encodeRecord makes the record for rows of t that arrived at received.
func encodeRecord(t *table, received int64, rows []row) []byte {
	refs := map[int]int{}
	var used []int
	for _, r := range rows {
		for _, c := range r {
			if _, ok := refs[c.column]; !ok {
				refs[c.column] = len(used)
				used = append(used, c.column)
			}
		}
	}
	b := []byte{recordVersion}
	b = appendString(b, t.name)
	b = binary.AppendVarint(b, received)
	b = binary.AppendUvarint(b, uint64(len(used)))
	for _, i := range used {
		b = appendString(b, t.columns[i].name)
		b = append(b, byte(t.columns[i].kind))
	}
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for _, r := range rows {
		b = binary.AppendUvarint(b, uint64(len(r)))
		for _, c := range r {
			b = binary.AppendUvarint(b, uint64(refs[c.column]))
			switch ints, floats := t.columns[c.column].kind.stores(); {
			case ints:
				b = binary.AppendVarint(b, c.i)
			case floats:
				b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.f))
			default:
				b = appendString(b, c.s)
			}
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes values off a byte slice and remembers the first error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	r.err = errRecord
	r.b = nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) string() string { return string(r.bytes(r.uvarint())) }

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) float() float64 {
	if b := r.bytes(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// count reads a number of things of at least one byte each, so that a damaged
// count cannot make us allocate more than the record is long.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) value(k kind) value {
	switch ints, floats := k.stores(); {
	case ints:
		return value{i: r.varint()}
	case floats:
		return value{f: r.float()}
	default:
		return value{s: r.string()}
	}
}

// decoded is a record read back. table is nil if this version does not know
// the table any more; its rows are then left alone.
type decoded struct {
	name     string
	table    *table
	received int64
	rows     []row
}

// decodeRecord reads a record. A column this version does not know, or knows
// with another type, is skipped.
func decodeRecord(b []byte, tables map[string]*table) (decoded, error) {
	r := &reader{b: b}
	if v := r.byte(); r.err == nil && v != recordVersion {
		return decoded{}, fmt.Errorf("%w: version %d", errRecord, v)
	}
	d := decoded{name: r.string(), received: r.varint()}
	d.table = tables[d.name]
	type ref struct {
		column int // -1: skip
		kind   kind
	}
	refs := make([]ref, r.count())
	for i := range refs {
		name, k := r.string(), kind(r.byte())
		refs[i] = ref{-1, k}
		if d.table == nil {
			continue
		}
		if at, ok := d.table.index[name]; ok && d.table.columns[at].kind == k {
			refs[i].column = at
		}
	}
	rows := r.count()
	for range rows {
		cells := r.count()
		if cells > len(refs) {
			r.fail()
		}
		if r.err != nil {
			return decoded{}, r.err
		}
		out := make(row, 0, cells)
		for range cells {
			at := r.uvarint()
			if r.err != nil || at >= uint64(len(refs)) {
				return decoded{}, errRecord
			}
			if v := r.value(refs[at].kind); refs[at].column >= 0 {
				out = append(out, cell{refs[at].column, v})
			}
		}
		d.rows = append(d.rows, out)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail()
	}
	return d, r.err
}

package loganalytics

import (
	"encoding/binary"
	"errors"
	"math"
)

// A column of a row group, before compression:
//
//	column = flags:byte [nulls: bit per row] values
//	ints   = varint of the difference to the row before
//	reals  = float64 little endian
//	strings, plain      = length:uvarint per row, then all bytes
//	strings, dictionary = entries:uvarint (length:uvarint)* bytes, index:uvarint per row
//
// Strings in logs repeat, so most columns take the dictionary, and a column
// with one value costs next to nothing.
const (
	flagNulls      = 1
	flagDictionary = 2
)

var errColumn = errors.New("the encoding is malformed")

func encodeColumn(c *column) []byte {
	b := []byte{0}
	if c.null != nil {
		b[0] |= flagNulls
		bits := make([]byte, (c.n+7)/8)
		for i, null := range c.null {
			if null {
				bits[i/8] |= 1 << (i % 8)
			}
		}
		b = append(b, bits...)
	}
	switch ints, floats := c.kind.stores(); {
	case ints:
		prev := int64(0)
		for _, v := range c.ints {
			b = binary.AppendVarint(b, v-prev)
			prev = v
		}
	case floats:
		for _, v := range c.floats {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	default:
		b = encodeStrings(b, c.strs)
	}
	return b
}

func encodeStrings(b []byte, strs []string) []byte {
	index := map[string]int{}
	var entries []string
	for _, s := range strs {
		if _, ok := index[s]; !ok {
			if len(entries) > len(strs)/2 {
				return encodePlain(b, strs)
			}
			index[s] = len(entries)
			entries = append(entries, s)
		}
	}
	b[0] |= flagDictionary
	b = binary.AppendUvarint(b, uint64(len(entries)))
	b = encodePlain(b, entries)
	for _, s := range strs {
		b = binary.AppendUvarint(b, uint64(index[s]))
	}
	return b
}

func encodePlain(b []byte, strs []string) []byte {
	for _, s := range strs {
		b = binary.AppendUvarint(b, uint64(len(s)))
	}
	for _, s := range strs {
		b = append(b, s...)
	}
	return b
}

// decodeColumn reads a column of n rows. Its strings share one
// allocation, and stay in their dictionary if they have one.
func decodeColumn(k kind, n int, plain []byte) (*column, error) {
	r := &reader{b: plain}
	flags := r.byte()
	c := &column{kind: k, n: n}
	if flags&flagNulls != 0 {
		bits := r.bytes(uint64(n+7) / 8)
		if r.err != nil {
			return nil, errColumn
		}
		c.null = make([]bool, n)
		for i := range c.null {
			c.null[i] = bits[i/8]&(1<<(i%8)) != 0
		}
	}
	switch ints, floats := k.stores(); {
	case ints:
		c.ints = make([]int64, n)
		prev := int64(0)
		for i := range c.ints {
			prev += r.varint()
			c.ints[i] = prev
		}
	case floats:
		c.floats = make([]float64, n)
		for i := range c.floats {
			c.floats[i] = r.float()
		}
	case flags&flagDictionary != 0:
		c.dict = r.strings(r.count())
		c.codes = make([]uint32, n)
		for i := range c.codes {
			at := r.uvarint()
			if at >= uint64(len(c.dict)) {
				return nil, errColumn
			}
			c.codes[i] = uint32(at)
		}
	default:
		c.strs = r.strings(n)
	}
	if r.err != nil || len(r.b) > 0 || len(c.ints)+len(c.floats)+len(c.strs)+len(c.codes) != n {
		return nil, errColumn
	}
	return c, nil
}

// strings reads n plain strings.
func (r *reader) strings(n int) []string {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	lengths := make([]uint64, n)
	total := uint64(0)
	for i := range lengths {
		lengths[i] = r.uvarint()
		if lengths[i] > uint64(len(r.b)) {
			r.fail()
			return nil
		}
		total += lengths[i]
	}
	all := string(r.bytes(total))
	if r.err != nil {
		return nil
	}
	out := make([]string, n)
	for i, l := range lengths {
		out[i], all = all[:l], all[l:]
	}
	return out
}

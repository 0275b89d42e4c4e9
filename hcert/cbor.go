package hcert

import (
	"math"
	"unicode/utf8"
)

// CBOR major types (RFC 8949, §3.1).
const (
	cborUint   = 0
	cborNegInt = 1
	cborBytes  = 2
	cborText   = 3
	cborArray  = 4
	cborMap    = 5
	cborTag    = 6
	cborSimple = 7
)

const (
	tagDateTime  = 0
	tagCOSESign1 = 18
	tagCWT       = 61
)

// reader reads CBOR from a string, so that text and byte strings of definite
// length are slices of it and cost no allocation. It checks well-formedness,
// UTF-8 and the bounds of Limits; lengths are checked against what is left
// before anything is allocated.
type reader struct {
	s     string
	off   int
	items int // data items still allowed
	depth int // levels still allowed
	stage Stage
}

func (r *reader) bad(detail string) *Error { return refuse(r.stage, BadCBOR, detail) }

func (r *reader) rest() int { return len(r.s) - r.off }

// head is the first part of a data item.
type head struct {
	major      byte
	info       byte
	arg        uint64
	indefinite bool
}

// head reads the next item's head and counts the item.
func (r *reader) head() (head, error) {
	if r.items--; r.items < 0 {
		return head{}, refuse(r.stage, TooLarge, "too many CBOR items")
	}
	if r.off >= len(r.s) {
		return head{}, r.bad("ends in the middle of an item")
	}
	b := r.s[r.off]
	r.off++
	h := head{major: b >> 5, info: b & 31}
	n := 0
	switch {
	case h.info < 24:
		h.arg = uint64(h.info)
		return h, nil
	case h.info <= 27:
		n = 1 << (h.info - 24)
	case h.info == 31 && h.major >= cborBytes && h.major <= cborMap:
		h.indefinite = true
		return h, nil
	default:
		return head{}, r.bad("reserved length or unexpected break")
	}
	if r.rest() < n {
		return head{}, r.bad("ends in the middle of an item")
	}
	for range n {
		h.arg = h.arg<<8 | uint64(r.s[r.off])
		r.off++
	}
	return h, nil
}

// breakNext consumes the end of an indefinite-length item if it is next.
func (r *reader) breakNext() bool {
	if r.off < len(r.s) && r.s[r.off] == 0xFF {
		r.off++
		return true
	}
	return false
}

func (r *reader) enter() error {
	if r.depth--; r.depth < 0 {
		return refuse(r.stage, TooLarge, "CBOR nested too deeply")
	}
	return nil
}

func (r *reader) leave() { r.depth++ }

// str reads the content of a byte or text string whose head was h.
func (r *reader) str(h head) (string, error) {
	var out string
	if !h.indefinite {
		if h.arg > uint64(r.rest()) {
			return "", r.bad("string longer than the message")
		}
		out = r.s[r.off : r.off+int(h.arg)]
		r.off += int(h.arg)
	} else {
		var buf []byte
		for !r.breakNext() {
			c, err := r.head()
			if err != nil {
				return "", err
			}
			if c.major != h.major || c.indefinite {
				return "", r.bad("wrong chunk in an indefinite-length string")
			}
			part, err := r.str(c)
			if err != nil {
				return "", err
			}
			buf = append(buf, part...)
		}
		out = string(buf)
	}
	if h.major == cborText && !utf8.ValidString(out) {
		return "", r.bad("text is not UTF-8")
	}
	return out, nil
}

// count returns the number of entries of an array or map, or -1 if its end is
// marked by a break. Each entry needs at least unit bytes.
func (r *reader) count(h head, unit int) (int, error) {
	if h.indefinite {
		return -1, nil
	}
	if h.arg > uint64(r.rest()/unit) {
		return 0, r.bad("more entries announced than the message holds")
	}
	return int(h.arg), nil
}

// more reports whether another entry follows; n counts down from count.
func (r *reader) more(n *int) bool {
	if *n < 0 {
		return !r.breakNext()
	}
	*n--
	return *n >= 0
}

func (h head) integer() (int64, bool) {
	if h.arg > math.MaxInt64 {
		return 0, false
	}
	switch h.major {
	case cborUint:
		return int64(h.arg), true
	case cborNegInt:
		return -1 - int64(h.arg), true
	}
	return 0, false
}

// float decodes a floating-point head; ok is false for other simple values.
func (h head) float() (f float64, ok bool) {
	if h.major != cborSimple {
		return 0, false
	}
	switch h.info {
	case 25:
		return halfToFloat(uint16(h.arg)), true
	case 26:
		return float64(math.Float32frombits(uint32(h.arg))), true
	case 27:
		return math.Float64frombits(h.arg), true
	}
	return 0, false
}

func halfToFloat(h uint16) float64 {
	exp, mant := int(h>>10&31), float64(h&0x3FF)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(mant, -24)
	case 31:
		f = math.Inf(1)
		if mant != 0 {
			return math.NaN()
		}
	default:
		f = math.Ldexp(mant+1024, exp-25)
	}
	if h&0x8000 != 0 {
		return -f
	}
	return f
}

// tree reads one item as JSON would hold it: nil, bool, int64, float64,
// string, []byte, []any, map[string]any. Of tags only 0 (date-time text) is
// accepted and dropped; map keys must be text and occur once. undefined reads
// as null, because encoders in JavaScript write it for an absent field.
func (r *reader) tree() (any, error) {
	h, err := r.head()
	if err != nil {
		return nil, err
	}
	switch h.major {
	case cborUint, cborNegInt:
		n, ok := h.integer()
		if !ok {
			return nil, r.bad("integer beyond 64 bits")
		}
		return n, nil
	case cborBytes:
		s, err := r.str(h)
		return []byte(s), err
	case cborText:
		s, err := r.str(h)
		if err != nil {
			return nil, err
		}
		return s, nil
	case cborArray:
		return r.treeArray(h)
	case cborMap:
		return r.treeMap(h)
	case cborTag:
		if h.arg != tagDateTime {
			return nil, r.bad("tag other than 0 in the payload")
		}
		t, err := r.head()
		if err != nil {
			return nil, err
		}
		if t.major != cborText {
			return nil, r.bad("tag 0 around something other than text")
		}
		s, err := r.str(t)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	if f, ok := h.float(); ok {
		return f, nil
	}
	switch {
	case h.info == 20:
		return false, nil
	case h.info == 21:
		return true, nil
	case h.info == 22, h.info == 23:
		return nil, nil
	}
	return nil, r.bad("unknown simple value")
}

func (r *reader) treeArray(h head) (any, error) {
	n, err := r.count(h, 1)
	if err != nil {
		return nil, err
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	out := make([]any, 0, max(0, min(n, 16)))
	for r.more(&n) {
		v, err := r.tree()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	r.leave()
	return out, nil
}

func (r *reader) treeMap(h head) (any, error) {
	n, err := r.count(h, 2)
	if err != nil {
		return nil, err
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	out := make(map[string]any, max(0, min(n, 16)))
	for r.more(&n) {
		kh, err := r.head()
		if err != nil {
			return nil, err
		}
		if kh.major != cborText {
			return nil, r.bad("map key is not text")
		}
		key, err := r.str(kh)
		if err != nil {
			return nil, err
		}
		v, err := r.tree()
		if err != nil {
			return nil, err
		}
		before := len(out)
		out[key] = v
		if len(out) == before {
			return nil, r.bad("map key occurs twice")
		}
	}
	r.leave()
	return out, nil
}

// skip passes over one item of any kind, with the same checks of form.
func (r *reader) skip() error {
	h, err := r.head()
	if err != nil {
		return err
	}
	return r.skipBody(h)
}

func (r *reader) skipBody(h head) error {
	switch h.major {
	case cborBytes, cborText:
		_, err := r.str(h)
		return err
	case cborTag:
		if err := r.enter(); err != nil {
			return err
		}
		if err := r.skip(); err != nil {
			return err
		}
		r.leave()
		return nil
	case cborArray, cborMap:
		unit := 1
		if h.major == cborMap {
			unit = 2
		}
		n, err := r.count(h, unit)
		if err != nil {
			return err
		}
		if err := r.enter(); err != nil {
			return err
		}
		for r.more(&n) {
			for range unit {
				if err := r.skip(); err != nil {
					return err
				}
			}
		}
		r.leave()
		return nil
	case cborSimple:
		if h.info == 24 && h.arg < 32 {
			return r.bad("simple value in a longer form than allowed")
		}
	}
	return nil
}

// raw passes over one item and returns its encoding.
func (r *reader) raw() (string, error) {
	start := r.off
	if err := r.skip(); err != nil {
		return "", err
	}
	return r.s[start:r.off], nil
}

func appendHead(b []byte, major byte, arg uint64) []byte {
	major <<= 5
	switch {
	case arg < 24:
		return append(b, major|byte(arg))
	case arg <= math.MaxUint8:
		return append(b, major|24, byte(arg))
	case arg <= math.MaxUint16:
		return append(b, major|25, byte(arg>>8), byte(arg))
	case arg <= math.MaxUint32:
		return append(b, major|26, byte(arg>>24), byte(arg>>16), byte(arg>>8), byte(arg))
	}
	return append(b, major|27, byte(arg>>56), byte(arg>>48), byte(arg>>40), byte(arg>>32),
		byte(arg>>24), byte(arg>>16), byte(arg>>8), byte(arg))
}

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, cborNegInt, uint64(-1-v))
	}
	return appendHead(b, cborUint, uint64(v))
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(appendHead(b, cborBytes, uint64(len(s))), s...)
}

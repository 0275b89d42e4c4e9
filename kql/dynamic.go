package kql

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDynamicDepth bounds the nesting of a dynamic value.
const maxDynamicDepth = 128

// Bag is a property bag: an object of a dynamic value, in insertion order.
type Bag struct {
	keys []string
	vals []any
	pos  map[string]int // built when the bag has more than bagLinear keys
}

const bagLinear = 8

// timeValue, spanValue and guidValue are a datetime, a timespan and a guid
// inside a dynamic value.
type (
	timeValue int64
	spanValue int64
	guidValue string
)

// NewBag makes an empty bag.
func NewBag() *Bag { return &Bag{} }

// Len returns the number of properties.
func (b *Bag) Len() int { return len(b.keys) }

// Keys returns the property names in order; the slice is the bag's own.
func (b *Bag) Keys() []string { return b.keys }

func (b *Bag) index(key string) int {
	if b.pos != nil {
		if i, ok := b.pos[key]; ok {
			return i
		}
		return -1
	}
	return slices.Index(b.keys, key)
}

// Get returns a property.
func (b *Bag) Get(key string) (any, bool) {
	if i := b.index(key); i >= 0 {
		return b.vals[i], true
	}
	return nil, false
}

// Set adds or replaces a property; a replaced one keeps its place.
func (b *Bag) Set(key string, v any) {
	if i := b.index(key); i >= 0 {
		b.vals[i] = v
		return
	}
	b.keys = append(b.keys, key)
	b.vals = append(b.vals, v)
	if b.pos != nil {
		b.pos[key] = len(b.keys) - 1
	} else if len(b.keys) > bagLinear {
		b.pos = make(map[string]int, 2*len(b.keys))
		for i, k := range b.keys {
			b.pos[k] = i
		}
	}
}

func (b *Bag) clone() *Bag {
	c := NewBag()
	for i, k := range b.keys {
		c.Set(k, b.vals[i])
	}
	return c
}

// without returns a copy that lacks the keys.
func (b *Bag) without(drop map[string]bool) *Bag {
	c := NewBag()
	for i, k := range b.keys {
		if !drop[k] {
			c.Set(k, b.vals[i])
		}
	}
	return c
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func dynamicSize(a any) int64 {
	switch a := a.(type) {
	case string:
		return int64(len(a))
	case []any:
		n := int64(24)
		for _, e := range a {
			n += 16 + dynamicSize(e)
		}
		return n
	case *Bag:
		n := int64(64)
		for i, k := range a.keys {
			n += int64(len(k)) + 32 + dynamicSize(a.vals[i])
		}
		return n
	}
	return 8
}

// appendJSON renders a dynamic value as Kusto does: no spaces, properties in
// order, a real always with a point or an exponent.
func appendJSON(dst []byte, a any) []byte {
	switch a := a.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, a)
	case int64:
		return strconv.AppendInt(dst, a, 10)
	case float64:
		return appendJSONFloat(dst, a)
	case string:
		return appendJSONString(dst, a)
	case timeValue:
		dst = append(dst, '"')
		dst = appendDateTime(dst, int64(a), false)
		return append(dst, '"')
	case spanValue:
		dst = append(dst, '"')
		dst = append(dst, formatTimeSpan(int64(a))...)
		return append(dst, '"')
	case guidValue:
		dst = append(dst, '"')
		dst = append(dst, a...)
		return append(dst, '"')
	case Number:
		dst = append(dst, '"')
		dst = append(dst, a.String()...)
		return append(dst, '"')
	case []any:
		dst = append(dst, '[')
		for i, e := range a {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e)
		}
		return append(dst, ']')
	case *Bag:
		dst = append(dst, '{')
		for i, k := range a.keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSONString(dst, k)
			dst = append(dst, ':')
			dst = appendJSON(dst, a.vals[i])
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

func appendJSONFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	s := formatReal(f)
	dst = append(dst, s...)
	if !strings.ContainsAny(s, ".E") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// formatReal renders the shortest form that reads back, as .NET does: plain
// between 1E-05 and 1E+15, else with an exponent of at least two digits.
func formatReal(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0:
		return "0"
	}
	a := math.Abs(f)
	if a >= 1e-5 && a < 1e15 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	s := strconv.FormatFloat(f, 'E', -1, 64)
	return s
}

const hexDigits = "0123456789abcdef"

func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + 1
			}
			i += n - 1
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// parseJSONLoose parses JSON text; text that is not JSON becomes the string
// itself, as parse_json does.
func parseJSONLoose(s string) any {
	if d, ok := parseJSON(s); ok {
		return d
	}
	return s
}

// parseJSON parses strict JSON, keeping property order and telling integers
// from reals.
func parseJSON(s string) (any, bool) {
	p := jsonParser{s: s}
	p.space()
	v, ok := p.value(0)
	if !ok {
		return nil, false
	}
	p.space()
	return v, p.i == len(p.s)
}

type jsonParser struct {
	s string
	i int
}

func (p *jsonParser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *jsonParser) value(depth int) (any, bool) {
	if p.i >= len(p.s) || depth > maxDynamicDepth {
		return nil, false
	}
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.str()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, w := range []struct {
		text string
		v    any
	}{{"true", true}, {"false", false}, {"null", nil}} {
		if strings.HasPrefix(p.s[p.i:], w.text) {
			p.i += len(w.text)
			return w.v, true
		}
	}
	return nil, false
}

func (p *jsonParser) object(depth int) (any, bool) {
	bag := NewBag()
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == '}' {
		p.i++
		return bag, true
	}
	for {
		p.space()
		if p.i >= len(p.s) || p.s[p.i] != '"' {
			return nil, false
		}
		k, ok := p.str()
		if !ok {
			return nil, false
		}
		p.space()
		if p.i >= len(p.s) || p.s[p.i] != ':' {
			return nil, false
		}
		p.i++
		p.space()
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		bag.Set(k.(string), v)
		p.space()
		if p.i >= len(p.s) {
			return nil, false
		}
		switch p.s[p.i] {
		case ',':
			p.i++
		case '}':
			p.i++
			return bag, true
		default:
			return nil, false
		}
	}
}

func (p *jsonParser) array(depth int) (any, bool) {
	out := []any{}
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == ']' {
		p.i++
		return out, true
	}
	for {
		p.space()
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		out = append(out, v)
		p.space()
		if p.i >= len(p.s) {
			return nil, false
		}
		switch p.s[p.i] {
		case ',':
			p.i++
		case ']':
			p.i++
			return out, true
		default:
			return nil, false
		}
	}
}

func (p *jsonParser) number() (any, bool) {
	start := p.i
	if p.s[p.i] == '-' {
		p.i++
	}
	digits := p.i
	isReal := false
	for p.i < len(p.s) {
		c := p.s[p.i]
		if c >= '0' && c <= '9' {
			p.i++
			continue
		}
		if c == '.' || c == 'e' || c == 'E' || (c == '+' || c == '-') && (p.s[p.i-1] == 'e' || p.s[p.i-1] == 'E') {
			isReal = true
			p.i++
			continue
		}
		break
	}
	text := p.s[start:p.i]
	if p.i == digits || p.s[digits] == '.' || text[len(text)-1] == '.' || p.i > digits+1 && p.s[digits] == '0' && p.s[digits+1] >= '0' && p.s[digits+1] <= '9' {
		return nil, false
	}
	if !isReal {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, true
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return nil, false
	}
	return f, true
}

func (p *jsonParser) str() (any, bool) {
	p.i++
	start := p.i
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"':
			s := p.s[start:p.i]
			p.i++
			return s, true
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return nil, false
		}
		p.i++
	}
	return nil, false
}

func (p *jsonParser) escaped(start int) (any, bool) {
	buf := []byte(p.s[start:p.i])
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		if c == '"' {
			return string(buf), true
		}
		if c < 0x20 {
			return nil, false
		}
		if c != '\\' {
			buf = append(buf, c)
			continue
		}
		if p.i >= len(p.s) {
			return nil, false
		}
		e := p.s[p.i]
		p.i++
		switch e {
		case '"', '\\', '/':
			buf = append(buf, e)
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'u':
			r, ok := p.hex4()
			if !ok {
				return nil, false
			}
			if utf16.IsSurrogate(r) && strings.HasPrefix(p.s[p.i:], `\u`) {
				save := p.i
				p.i += 2
				if r2, ok := p.hex4(); ok && utf16.DecodeRune(r, r2) != utf8.RuneError {
					r = utf16.DecodeRune(r, r2)
				} else {
					p.i = save
				}
			}
			buf = utf8.AppendRune(buf, r)
		default:
			return nil, false
		}
	}
	return nil, false
}

func (p *jsonParser) hex4() (rune, bool) {
	if p.i+4 > len(p.s) {
		return 0, false
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+4], 16, 32)
	if err != nil {
		return 0, false
	}
	p.i += 4
	return rune(n), true
}

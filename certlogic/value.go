package certlogic

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Kind is the type of a Value.
type Kind uint8

// The kinds of values. A date-time is none of JSON's: only plusTime and
// dccDateOfBirth make one.
const (
	Null Kind = iota
	Bool
	Number
	String
	DateTime
	Array
	Object
)

func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "a boolean"
	case Number:
		return "a number"
	case String:
		return "a string"
	case DateTime:
		return "a date-time"
	case Array:
		return "an array"
	case Object:
		return "an object"
	}
	return "an unknown value"
}

// Value is an immutable value of CertLogic. The zero Value is null.
type Value struct {
	kind Kind
	// num is a number, 1 for true, or a date-time as milliseconds since 1970.
	// Numbers are ECMAScript's: whole numbers are exact up to 2^53.
	num float64
	str string
	// ref holds the elements of an array or object. For a date-time that was
	// made from the validation clock it holds how.
	ref *composite
}

// composite is the shared part of an array or object.
type composite struct {
	items []Value
	keys  []string       // of an object, beside items
	index map[string]int // of a large object
	set   map[string]bool
	// weight is the number of values in it, itself included.
	weight int
	shift  *shift
}

// smallObject is the number of keys up to which searching beats hashing.
const smallObject = 8

// BoolValue returns a boolean.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: Bool, num: 1}
	}
	return Value{kind: Bool}
}

// NumberValue returns a number.
func NumberValue(n float64) Value { return Value{kind: Number, num: n} }

// StringValue returns a string.
func StringValue(s string) Value { return Value{kind: String, str: s} }

func dateValue(ms int64) Value { return Value{kind: DateTime, num: float64(ms)} }

func arrayValue(items []Value) Value {
	c := &composite{items: items, weight: 1}
	strings := len(items) > smallObject
	for _, v := range items {
		c.weight += v.weight()
		strings = strings && v.kind == String
	}
	if strings {
		c.set = make(map[string]bool, len(items))
		for _, v := range items {
			c.set[v.str] = true
		}
	}
	return Value{kind: Array, ref: c}
}

func objectValue(keys []string, items []Value) Value {
	c := &composite{keys: keys, items: items, weight: 1}
	for _, v := range items {
		c.weight += v.weight()
	}
	if len(keys) > smallObject {
		c.index = make(map[string]int, len(keys))
		for i, k := range keys {
			c.index[k] = i
		}
	}
	return Value{kind: Object, ref: c}
}

func (v Value) weight() int {
	if v.kind == Array || v.kind == Object {
		return v.ref.weight
	}
	return 1
}

// Kind returns the value's type.
func (v Value) Kind() Kind { return v.kind }

// Bool returns whether the value is true.
func (v Value) Bool() bool { return v.kind == Bool && v.num == 1 }

// Text returns the text of a string, and "" for every other kind.
func (v Value) Text() string {
	if v.kind == String {
		return v.str
	}
	return ""
}

// Time returns the instant of a date-time, and the zero time for every other
// kind.
func (v Value) Time() time.Time {
	if v.kind != DateTime {
		return time.Time{}
	}
	return time.UnixMilli(int64(v.num)).UTC()
}

// Len returns the number of elements of an array or object, and 0 for every
// other kind.
func (v Value) Len() int {
	if v.kind == Array || v.kind == Object {
		return len(v.ref.items)
	}
	return 0
}

// Field returns an object's member, an array's element ("0"), or null.
func (v Value) Field(name string) Value {
	return v.drill([]fragment{newFragment(name)})
}

// truth returns whether the value is truthy, and whether it is either truthy
// or falsy at all (specification, "Truthy and falsy values").
func (v Value) truth() (truthy, ok bool) {
	switch v.kind {
	case Null:
		return false, true
	case Bool:
		return v.num == 1, true
	case Number:
		return v.num != 0, v.num == math.Trunc(v.num)
	case String:
		return v.str != "", true
	case Array, Object:
		return len(v.ref.items) > 0, true
	}
	return false, false // a date-time
}

func (v Value) isInteger() bool { return v.kind == Number && v.num == math.Trunc(v.num) }

// equal compares without coercion. The specification promises === for strings
// and integers only; the rest is compared by content, date-times by instant.
func (v Value) equal(w Value) bool {
	if v.kind != w.kind {
		return false
	}
	switch v.kind {
	case Null:
		return true
	case Bool, Number, DateTime:
		return v.num == w.num
	case String:
		return v.str == w.str
	}
	if v.ref == w.ref {
		return true
	}
	if len(v.ref.items) != len(w.ref.items) || v.ref.weight != w.ref.weight {
		return false
	}
	for i, item := range v.ref.items {
		if v.kind == Array {
			if !item.equal(w.ref.items[i]) {
				return false
			}
			continue
		}
		other := w.ref.member(v.ref.keys[i])
		if other == nil || !item.equal(*other) {
			return false
		}
	}
	return true
}

// Equal reports whether two values are the same, objects whatever the order of
// their members.
func (v Value) Equal(w Value) bool { return v.equal(w) }

// member returns a member of an object, or nil.
func (c *composite) member(key string) *Value {
	if c.index != nil {
		if i, ok := c.index[key]; ok {
			return &c.items[i]
		}
		return nil
	}
	for i, k := range c.keys {
		if k == key {
			return &c.items[i]
		}
	}
	return nil
}

// fragment is one step of a data access path. One that is a whole number is an
// index into an array, and still a key of an object.
type fragment struct {
	key   string
	index int // -1 if it is none
}

func newFragment(s string) fragment {
	f := fragment{key: s, index: -1}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		f.index = n
	}
	return f
}

// access drills down one step. What is not there is nil.
func (v *Value) access(f *fragment) *Value {
	switch v.kind {
	case Object:
		return v.ref.member(f.key)
	case Array:
		if f.index >= 0 && f.index < len(v.ref.items) {
			return &v.ref.items[f.index]
		}
	}
	return nil
}

// drill drills down. What is not there is null.
func (v *Value) drill(steps []fragment) Value {
	for i := range steps {
		if v = v.access(&steps[i]); v == nil {
			return Value{}
		}
	}
	return *v
}

// MarshalJSON writes the value as JSON, a date-time as a string in the form
// 2021-06-01T00:00:00.000Z.
func (v Value) MarshalJSON() ([]byte, error) { return v.appendJSON(nil), nil }

// UnmarshalJSON reads what MarshalJSON writes, within the bounds of FromJSON. A
// date-time comes back as a string.
func (v *Value) UnmarshalJSON(src []byte) error {
	read, err := FromJSON(src)
	if err == nil {
		*v = read
	}
	return err
}

// String returns the value as JSON.
func (v Value) String() string { return string(v.appendJSON(nil)) }

func (v Value) appendJSON(b []byte) []byte {
	switch v.kind {
	case Null:
		return append(b, "null"...)
	case Bool:
		return strconv.AppendBool(b, v.num == 1)
	case Number:
		if math.Abs(v.num) < 1e21 {
			return strconv.AppendFloat(b, v.num+0, 'f', -1, 64)
		}
		return strconv.AppendFloat(b, v.num, 'g', -1, 64)
	case String:
		return appendString(b, v.str)
	case DateTime:
		return append(append(append(b, '"'), formatDate(int64(v.num))...), '"')
	case Array:
		b = append(b, '[')
		for i, item := range v.ref.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i, item := range v.ref.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, v.ref.keys[i]), ':')
		b = item.appendJSON(b)
	}
	return append(b, '}')
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029:
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

package kql

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Builder collects rows of Go values into a Batch. It is not safe for
// concurrent use.
type Builder struct {
	schema Schema
	cols   []colBuilder
	n      int
}

type colBuilder struct {
	typ    Type
	nulls  []uint32
	bools  []bool
	ints   []int64
	floats []float64
	codes  []uint32
	dict   []string
	seen   map[string]uint32
	strs   []string
	anys   []any
}

// dictLimit is how many distinct strings a column may have before its builder
// gives up the dictionary.
const dictLimit = 1 << 12

// NewBuilder makes a builder of rows of the schema.
func NewBuilder(schema Schema) *Builder {
	b := &Builder{schema: schema, cols: make([]colBuilder, len(schema))}
	for i, c := range schema {
		b.cols[i].typ = c.Type
		if c.Type == String {
			b.cols[i].seen = map[string]uint32{}
		}
	}
	return b
}

// Len returns the number of rows so far.
func (b *Builder) Len() int { return b.n }

// AppendRow adds a row. A value may be nil; bool; any Go integer; float32 or
// float64; string; time.Time or Ticks for a datetime; time.Duration or Ticks
// for a timespan; and for dynamic whatever encoding/json gives, a
// json.RawMessage, or a *Bag. A string is parsed for a column of another type
// (an unparsable one becomes null), as ingestion does. A value that fits no
// way is an error that names the column, and the row is not added.
func (b *Builder) AppendRow(row []any) error {
	if len(row) != len(b.cols) {
		return fmt.Errorf("append row: got %d values for %d columns", len(row), len(b.cols))
	}
	vals := make([]val, len(row))
	for i, x := range row {
		v, err := fromGo(b.schema[i].Type, x)
		if err != nil {
			return fmt.Errorf("append row: column %s: %w", b.schema[i].Name, err)
		}
		vals[i] = v
	}
	b.appendVals(vals)
	return nil
}

func (b *Builder) appendVals(vals []val) {
	for i := range vals {
		b.cols[i].append(b.n, vals[i])
	}
	b.n++
}

func (c *colBuilder) append(row int, x val) {
	if x.null && c.typ.physical() != physAny && c.typ != String {
		c.nulls = append(c.nulls, uint32(row))
	}
	switch c.typ.physical() {
	case physBool:
		c.bools = append(c.bools, x.i != 0)
	case physInt:
		c.ints = append(c.ints, x.i)
	case physFloat:
		c.floats = append(c.floats, x.f)
	case physString:
		c.appendString(x.s)
	default:
		if x.null {
			x.d = nil
		}
		c.anys = append(c.anys, x.d)
	}
}

func (c *colBuilder) appendString(s string) {
	if c.seen == nil {
		c.strs = append(c.strs, s)
		return
	}
	code, ok := c.seen[s]
	if !ok {
		if len(c.dict) >= dictLimit {
			c.strs = make([]string, len(c.codes), 2*len(c.codes)+1)
			for i, k := range c.codes {
				c.strs[i] = c.dict[k]
			}
			c.strs = append(c.strs, s)
			c.seen, c.dict, c.codes = nil, nil, nil
			return
		}
		code = uint32(len(c.dict))
		c.dict = append(c.dict, s)
		c.seen[s] = code
	}
	c.codes = append(c.codes, code)
}

// Batch returns the rows collected so far and empties the builder.
func (b *Builder) Batch() *Batch {
	out := &Batch{Columns: make([]*Vector, len(b.cols)), n: b.n}
	for i := range b.cols {
		c := &b.cols[i]
		v := &Vector{typ: c.typ, n: b.n, bools: c.bools, ints: c.ints, floats: c.floats, anys: c.anys, strs: c.strs}
		if c.seen != nil {
			v.strs, v.codes = c.dict, c.codes
			if v.codes == nil {
				v.codes = []uint32{}
			}
		}
		if len(c.nulls) > 0 {
			v.nulls = NewBitmap(b.n)
			for _, r := range c.nulls {
				v.nulls.Set(int(r))
			}
		}
		out.Columns[i] = v
	}
	*b = *NewBuilder(b.schema)
	return out
}

// fromGo converts a Go value to a value of type t.
func fromGo(t Type, x any) (val, error) {
	if x == nil {
		return nullOf(t), nil
	}
	if t == Dynamic {
		d, err := dynamicFromGo(x, 0)
		return dynVal(d), err
	}
	var v val
	switch x := x.(type) {
	case bool:
		v = boolVal(x)
	case int:
		v = longVal(int64(x))
	case int8:
		v = longVal(int64(x))
	case int16:
		v = longVal(int64(x))
	case int32:
		v = longVal(int64(x))
	case int64:
		v = longVal(x)
	case uint8:
		v = longVal(int64(x))
	case uint16:
		v = longVal(int64(x))
	case uint32:
		v = longVal(int64(x))
	case float32:
		v = realVal(float64(x))
	case float64:
		v = realVal(x)
	case string:
		v = strVal(x)
	case json.Number:
		v = strVal(string(x))
	case json.RawMessage:
		d := parseJSONLoose(string(x))
		if s, ok := d.(string); ok {
			v = strVal(s)
		} else {
			v = dynVal(d)
		}
	case []byte:
		v = strVal(string(x))
	case time.Time:
		v = intVal(DateTime, int64(TicksOf(x)))
	case time.Duration:
		v = intVal(TimeSpan, int64(x/100))
	case Ticks:
		if t != TimeSpan {
			v = intVal(DateTime, int64(x))
		} else {
			v = intVal(TimeSpan, int64(x))
		}
	case Number:
		v = val{t: Decimal, d: x}
	default:
		d, err := dynamicFromGo(x, 0)
		if err != nil {
			return v, err
		}
		v = dynVal(d)
	}
	if v.t == Long && (t == DateTime || t == TimeSpan) {
		return intVal(t, v.i), nil
	}
	return convert(v, t), nil
}

// dynamicFromGo converts what encoding/json gives (and a few more) to the
// representation of dynamic values.
func dynamicFromGo(x any, depth int) (any, error) {
	if depth > maxDynamicDepth {
		return nil, fmt.Errorf("dynamic value nested deeper than %d", maxDynamicDepth)
	}
	switch x := x.(type) {
	case nil, bool, int64, float64, string, *Bag, Number, spanValue, timeValue:
		return x, nil
	case int:
		return int64(x), nil
	case int32:
		return int64(x), nil
	case float32:
		return float64(x), nil
	case json.Number:
		return parseJSONLoose(string(x)), nil
	case json.RawMessage:
		return parseJSONLoose(string(x)), nil
	case time.Time:
		return timeValue(TicksOf(x)), nil
	case Ticks:
		return timeValue(x), nil
	case time.Duration:
		return spanValue(x / 100), nil
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			d, err := dynamicFromGo(e, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = d
		}
		return out, nil
	case map[string]any:
		bag := NewBag()
		for _, k := range sortedKeys(x) {
			d, err := dynamicFromGo(x[k], depth+1)
			if err != nil {
				return nil, err
			}
			bag.Set(k, d)
		}
		return bag, nil
	case *big.Int:
		return x.String(), nil
	}
	raw, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("value of type %s is not representable as dynamic", strings.TrimPrefix(fmt.Sprintf("%T", x), "*"))
	}
	return parseJSONLoose(string(raw)), nil
}

package certlogic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// Bounds of what the package takes from outside.
const (
	// MaxSource is the largest source of an expression or a rule, in bytes.
	MaxSource = 256 << 10
	// MaxNodes is the number of operations, literals and arrays in an expression.
	MaxNodes = 20_000
	// MaxDepth is how deep an expression, and data, may be nested.
	MaxDepth = 100
	// MaxData is the largest JSON of data, in bytes.
	MaxData = 1 << 20
	// MaxValues is the number of values in data, and in a value that evaluation
	// makes.
	MaxValues = 50_000
	// MaxSteps is the number of operations that one evaluation may perform.
	MaxSteps = 100_000
)

// FromJSON reads one JSON value.
func FromJSON(data []byte) (Value, error) {
	if len(data) > MaxData {
		return Value{}, fmt.Errorf("data is over %d bytes", MaxData)
	}
	if !utf8.Valid(data) {
		return Value{}, errors.New("data is not UTF-8")
	}
	r := &valueReader{dec: json.NewDecoder(bytes.NewReader(data)), budget: MaxValues}
	r.dec.UseNumber()
	v, err := r.read(MaxDepth)
	if err != nil {
		return Value{}, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return Value{}, errors.New("something follows the data")
	}
	return v, nil
}

// valueReader reads JSON token by token, so that what is too large is refused
// before it is built.
type valueReader struct {
	dec    *json.Decoder
	budget int
}

func (r *valueReader) token() (json.Token, error) {
	token, err := r.dec.Token()
	if err != nil {
		return nil, fmt.Errorf("data is not JSON: %w", err)
	}
	return token, nil
}

func (r *valueReader) read(depth int) (Value, error) {
	if depth <= 0 {
		return Value{}, fmt.Errorf("data is nested deeper than %d", MaxDepth)
	}
	if r.budget--; r.budget < 0 {
		return Value{}, fmt.Errorf("data has over %d values", MaxValues)
	}
	token, err := r.token()
	if err != nil {
		return Value{}, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return fromAny(token, 1, &r.budget)
	}
	var keys []string
	var items []Value
	for r.dec.More() {
		if delim == '{' {
			key, err := r.token()
			if err != nil {
				return Value{}, err
			}
			keys = append(keys, key.(string))
		}
		item, err := r.read(depth - 1)
		if err != nil {
			return Value{}, err
		}
		items = append(items, item)
	}
	if _, err := r.token(); err != nil {
		return Value{}, err
	}
	if delim == '[' {
		return arrayValue(items), nil
	}
	return objectValue(lastOfEach(keys, items)), nil
}

// lastOfEach keeps the last of several members of the same name, as
// ECMAScript's JSON.parse does.
func lastOfEach(keys []string, items []Value) ([]string, []Value) {
	at := make(map[string]int, len(keys))
	for i, k := range keys {
		at[k] = i
	}
	if len(at) == len(keys) {
		return keys, items
	}
	var k []string
	var v []Value
	for i, key := range keys {
		if at[key] == i {
			k, v = append(k, key), append(v, items[i])
		}
	}
	return k, v
}

// FromAny makes a value of what encoding/json and CBOR decoders make: nil,
// bool, numbers, string, []any, map[string]any; also Value, json.Number,
// []string, map[string][]string and time.Time (as a string, RFC 3339). The
// tree may be changed afterwards.
func FromAny(tree any) (Value, error) {
	budget := MaxValues
	return fromAny(tree, MaxDepth, &budget)
}

func fromAny(tree any, depth int, budget *int) (Value, error) {
	if depth <= 0 {
		return Value{}, fmt.Errorf("data is nested deeper than %d", MaxDepth)
	}
	if *budget--; *budget < 0 {
		return Value{}, fmt.Errorf("data has over %d values", MaxValues)
	}
	switch t := tree.(type) {
	case nil:
		return Value{}, nil
	case Value:
		if *budget -= t.weight(); *budget < 0 {
			return Value{}, fmt.Errorf("data has over %d values", MaxValues)
		}
		return t, nil
	case bool:
		return BoolValue(t), nil
	case string:
		return StringValue(t), nil
	case []byte:
		return StringValue(string(t)), nil
	case time.Time:
		return StringValue(t.Format(time.RFC3339Nano)), nil
	case []any:
		return fromSlice(t, depth, budget)
	case []string:
		return fromSlice(t, depth, budget)
	case map[string]any:
		return fromMap(t, depth, budget)
	case map[string][]string:
		return fromMap(t, depth, budget)
	}
	return fromNumber(tree)
}

func fromNumber(tree any) (Value, error) {
	var n float64
	switch t := tree.(type) {
	case json.Number:
		var err error
		if n, err = t.Float64(); err != nil {
			return Value{}, errors.New("data has a number out of range")
		}
	case float64:
		n = t
	case float32:
		n = float64(t)
	case int:
		n = float64(t)
	case int64:
		n = float64(t)
	case int32:
		n = float64(t)
	case uint64:
		n = float64(t)
	case uint32:
		n = float64(t)
	default:
		return Value{}, fmt.Errorf("data has a %T, which JSON does not have", tree)
	}
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return Value{}, errors.New("data has a number that JSON does not have")
	}
	return NumberValue(n), nil
}

func fromSlice[T any](list []T, depth int, budget *int) (Value, error) {
	items := make([]Value, len(list))
	for i, e := range list {
		var err error
		if items[i], err = fromAny(e, depth-1, budget); err != nil {
			return Value{}, err
		}
	}
	return arrayValue(items), nil
}

func fromMap[T any](m map[string]T, depth int, budget *int) (Value, error) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	items := make([]Value, len(keys))
	for i, k := range keys {
		var err error
		if items[i], err = fromAny(m[k], depth-1, budget); err != nil {
			return Value{}, err
		}
	}
	return objectValue(keys, items), nil
}

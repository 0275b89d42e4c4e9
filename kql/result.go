package kql

import (
	"math"
	"strconv"
)

// Result is the answer to a query: one table a tabular statement.
type Result struct {
	Tables []ResultTable
	// Render is the last statement's render operator, or nil.
	Render *Render
}

// ResultTable is one table of an answer. The first is named PrimaryResult.
type ResultTable struct {
	Name    string
	Columns Schema
	batches []*Batch
	rows    int
}

// Render is what a render operator asked for; it changes no data.
type Render struct {
	Visualization string
	Properties    map[string]string
}

// Len returns the number of rows.
func (t *ResultTable) Len() int { return t.rows }

// Batches returns the rows in columnar form; they are not to be changed.
func (t *ResultTable) Batches() []*Batch { return t.batches }

// Rows returns the rows as Go values (see Vector.Value).
func (t *ResultTable) Rows() [][]any {
	rows := make([][]any, 0, t.rows)
	for _, b := range t.batches {
		for i := range b.n {
			rows = append(rows, b.Row(i))
		}
	}
	return rows
}

// AppendRowsJSON appends the rows as the query API encodes them, a JSON array
// of arrays: numbers as numbers, datetime as ISO 8601 with Z, timespan, guid
// and decimal as strings, dynamic as a string that holds JSON, NaN and
// infinities as strings, null as null.
func (t *ResultTable) AppendRowsJSON(dst []byte) []byte {
	dst = append(dst, '[')
	first := true
	for _, b := range t.batches {
		for i := range b.n {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, '[')
			for c, v := range b.Columns {
				if c > 0 {
					dst = append(dst, ',')
				}
				dst = appendValueJSON(dst, v, i)
			}
			dst = append(dst, ']')
		}
	}
	return append(dst, ']')
}

// AppendJSON appends {"name","columns":[{"name","type"}],"rows":[…]}.
func (t *ResultTable) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendJSONString(dst, t.Name)
	dst = append(dst, `,"columns":[`...)
	for i, c := range t.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendJSONString(dst, c.Name)
		dst = append(dst, `,"type":"`...)
		dst = append(dst, c.Type.String()...)
		dst = append(dst, `"}`...)
	}
	dst = append(dst, `],"rows":`...)
	dst = t.AppendRowsJSON(dst)
	return append(dst, '}')
}

func appendValueJSON(dst []byte, v *Vector, i int) []byte {
	if v.IsNull(i) {
		return append(dst, "null"...)
	}
	k := v.at(i)
	switch v.typ {
	case Bool:
		return strconv.AppendBool(dst, v.bools[k])
	case Int, Long:
		return strconv.AppendInt(dst, v.ints[k], 10)
	case Real:
		f := v.floats[k]
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return appendJSONFloat(dst, f)
		}
		return strconv.AppendFloat(dst, f, 'g', -1, 64)
	case DateTime:
		dst = append(dst, '"')
		dst = appendDateTime(dst, v.ints[k], true)
		return append(dst, '"')
	case Dynamic:
		return appendJSONString(dst, DynamicText(v.anys[k]))
	}
	return appendJSONString(dst, v.Text(i))
}

// DynamicText renders a dynamic value as the query API does: JSON, except that
// a bare string is itself.
func DynamicText(a any) string {
	if s, ok := a.(string); ok {
		return s
	}
	return string(appendJSON(nil, a))
}

// Text renders row i for people and for text output: "" for null.
func (v *Vector) Text(i int) string {
	if v.IsNull(i) {
		return ""
	}
	k := v.at(i)
	switch v.typ {
	case Bool:
		return strconv.FormatBool(v.bools[k])
	case Int, Long:
		return strconv.FormatInt(v.ints[k], 10)
	case Real:
		return formatReal(v.floats[k])
	case DateTime:
		return string(appendDateTime(nil, v.ints[k], true))
	case TimeSpan:
		return formatTimeSpan(v.ints[k])
	case Decimal:
		return v.anys[k].(Number).String()
	case Dynamic:
		return DynamicText(v.anys[k])
	}
	return v.str(i)
}

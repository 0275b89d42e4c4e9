package kql

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// convert gives v as type t, as the to… functions do: what does not convert is
// null.
func convert(v val, t Type) val {
	if v.t == t {
		return v
	}
	if v.null || v.t == Dynamic && v.d == nil {
		return nullOf(t)
	}
	if t == Dynamic {
		return dynVal(valToDynamic(v))
	}
	if v.t == Dynamic {
		inner := dynamicToVal(v.d)
		if inner.t == Bool && t == String {
			return strVal(valText(v))
		}
		if inner.t != Dynamic {
			return convert(inner, t)
		}
		if t == String { // an array or a bag
			return strVal(string(appendJSON(nil, v.d)))
		}
		return nullOf(t)
	}
	switch t {
	case String:
		return strVal(valText(v))
	case Bool:
		return toBool(v)
	case Int, Long:
		return toInteger(v, t)
	case Real:
		return toReal(v)
	case Decimal:
		return toDecimal(v)
	case DateTime:
		switch v.t {
		case String:
			if n, ok := parseDateTime(v.s); ok {
				return intVal(DateTime, n)
			}
		case Int, Long:
			if v.i >= 0 && v.i <= int64(maxDateTime) {
				return intVal(DateTime, v.i)
			}
		}
	case TimeSpan:
		switch v.t {
		case String:
			if n, ok := parseTimeSpan(v.s); ok {
				return intVal(TimeSpan, n)
			}
		case Int, Long:
			return intVal(TimeSpan, v.i)
		}
	case GUID:
		if v.t == String {
			if g, ok := parseGUID(v.s); ok {
				return val{t: GUID, s: g}
			}
		}
	}
	return nullOf(t)
}

func toBool(v val) val {
	switch v.t {
	case Int, Long:
		return boolVal(v.i != 0)
	case Real:
		return boolVal(v.f != 0)
	case String:
		switch strings.ToLower(v.s) {
		case "true", "1":
			return boolVal(true)
		case "false", "0":
			return boolVal(false)
		}
		if n, err := strconv.ParseInt(v.s, 10, 64); err == nil {
			return boolVal(n != 0)
		}
	}
	return nullOf(Bool)
}

func toInteger(v val, t Type) val {
	fit := func(n int64) val {
		if t == Int && (n > math.MaxInt32 || n < math.MinInt32) {
			return nullOf(Int)
		}
		return intVal(t, n)
	}
	switch v.t {
	case Bool:
		return intVal(t, v.i)
	case Int, Long:
		return fit(v.i)
	case Real:
		if math.IsNaN(v.f) || math.Abs(v.f) >= 9.3e18 {
			return nullOf(t)
		}
		return fit(int64(v.f))
	case Decimal:
		if n, ok := v.d.(Number).trunc(); ok {
			return fit(n)
		}
	case DateTime, TimeSpan:
		if t == Int { // the engine keeps the low half
			return intVal(t, int64(int32(v.i)))
		}
		return intVal(t, v.i)
	case String:
		s := strings.TrimSpace(v.s)
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return fit(n)
		}
		if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
			if u, err := strconv.ParseUint(s[2:], 16, 64); err == nil {
				return fit(int64(u))
			}
		}
	}
	return nullOf(t)
}

func toReal(v val) val {
	switch v.t {
	case Bool, Int, Long, DateTime, TimeSpan:
		return realVal(float64(v.i))
	case Decimal:
		return realVal(v.d.(Number).float())
	case String:
		s := strings.TrimSpace(v.s)
		switch strings.ToLower(s) {
		case "nan":
			return realVal(math.NaN())
		case "inf", "+inf", "infinity", "+infinity":
			return realVal(math.Inf(1))
		case "-inf", "-infinity":
			return realVal(math.Inf(-1))
		}
		if strings.ContainsAny(s, "_pPxX") {
			return nullOf(Real)
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil || errors.Is(err, strconv.ErrRange) {
			return realVal(f)
		}
	}
	return nullOf(Real)
}

func toDecimal(v val) val {
	var n Number
	ok := false
	switch v.t {
	case Bool, Int, Long:
		n, ok = numberOfInt(v.i), true
	case Real:
		n, ok = numberOfFloat(v.f)
	case String:
		n, ok = parseNumber(v.s)
	}
	if !ok {
		return nullOf(Decimal)
	}
	return val{t: Decimal, d: n}
}

// valText is tostring.
func valText(v val) string {
	if v.null {
		return ""
	}
	switch v.t {
	case Bool:
		if v.i != 0 {
			return "True"
		}
		return "False"
	case Int, Long:
		return strconv.FormatInt(v.i, 10)
	case Real:
		s := formatReal(v.f)
		if !strings.ContainsAny(s, ".EaI") {
			s += ".0"
		}
		return s
	case DateTime:
		return string(appendDateTime(nil, v.i, false))
	case TimeSpan:
		return formatTimeSpan(v.i)
	case Decimal:
		return v.d.(Number).String()
	case Dynamic:
		switch d := v.d.(type) {
		case string:
			return d
		case []any, *Bag:
			return string(appendJSON(nil, d))
		case bool:
			return strconv.FormatBool(d)
		default:
			return valText(dynamicToVal(d))
		}
	}
	return v.s
}

// valToDynamic boxes a value for a dynamic.
func valToDynamic(v val) any {
	if v.null {
		return nil
	}
	switch v.t {
	case Bool:
		return v.i != 0
	case Int, Long:
		return v.i
	case Real:
		return v.f
	case String:
		return v.s
	case GUID:
		return guidValue(v.s)
	case DateTime:
		return timeValue(v.i)
	case TimeSpan:
		return spanValue(v.i)
	}
	return v.d
}

// dynamicToVal unboxes a scalar; arrays and bags stay dynamic.
func dynamicToVal(d any) val {
	switch d := d.(type) {
	case nil:
		return val{t: Dynamic, null: true}
	case bool:
		return boolVal(d)
	case int64:
		return longVal(d)
	case float64:
		return realVal(d)
	case string:
		return strVal(d)
	case timeValue:
		return intVal(DateTime, int64(d))
	case spanValue:
		return intVal(TimeSpan, int64(d))
	case guidValue:
		return val{t: GUID, s: string(d)}
	case Number:
		return val{t: Decimal, d: d}
	}
	return dynVal(d)
}

// dynamicType is gettype's name of a dynamic value.
func dynamicType(d any) string {
	switch d.(type) {
	case nil:
		return "null"
	case []any:
		return "array"
	case *Bag:
		return "dictionary"
	}
	return dynamicToVal(d).t.String()
}

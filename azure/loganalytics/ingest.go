package loganalytics

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"verdant/internal/telemetry"
)

// Limits on what is taken in, as Azure's ingestion has them.
const (
	maxField = 64 << 10 // bytes of a string or dynamic value; the rest is cut off
	maxPast  = 48 * time.Hour
	maxAhead = 24 * time.Hour
)

var (
	// ErrTable: the workspace has no such table.
	ErrTable = errors.New("no such table")
	// ErrColumn: the table has no such column, or the workspace fills it.
	ErrColumn = errors.New("no such column")
)

// checked is what became of the rows of one Emit.
type checked struct {
	rows  []row
	bytes float64
	// dropped counts, by column, values that the column's type could not hold
	// and that were stored as null.
	dropped map[int]int
}

// check turns rows into cells of t. A column that t does not have is an error
// that names it. A value of another type is converted where that is possible
// without guessing and otherwise stored as null, as Azure's ingestion does.
func (t *table) check(rows []telemetry.Row, now time.Time) (checked, error) {
	out := checked{rows: make([]row, 0, len(rows))}
	var id [16]byte
	if _, err := rand.Read(id[:12]); err != nil {
		return out, err
	}
	for n, given := range rows {
		r := make(row, 0, len(given)+5)
		size := 0.0
		generated := ticks(now)
		source := "Azure"
		for name, v := range given {
			at, ok := t.index[name]
			if real, alias := t.aliases[name]; !ok && alias {
				at, ok = t.index[real], true
			}
			if !ok {
				return out, fmt.Errorf("row %d of table %s: %w: %q", n, t.name, ErrColumn, name)
			}
			if t.filled(at) {
				return out, fmt.Errorf("row %d of table %s: %w: %q is filled by the workspace", n, t.name, ErrColumn, name)
			}
			val, null, ok := coerce(t.columns[at].kind, v)
			if !ok {
				if out.dropped == nil {
					out.dropped = map[int]int{}
				}
				out.dropped[at]++
			}
			switch {
			case null || at == t.workspace || at == t.typ || at == t.subscription:
			case at == t.timeGenerated:
				generated = plausible(val.i, now)
			case at == t.source:
				source = val.s
			case at == t.resource:
				r = append(r, t.resourceCells(val.s)...)
			default:
				r = append(r, cell{at, val})
				size += billedSize(t.columns[at].kind, val)
			}
		}
		binary.BigEndian.PutUint32(id[12:], uint32(n))
		size += 8 + float64(len(source)) + 36
		r = append(r, cell{t.timeGenerated, value{i: generated}}, cell{t.received, value{i: ticks(now)}},
			cell{t.source, value{s: source}}, cell{t.billed, value{f: size}}, cell{t.item, value{s: guidText(id)}})
		out.rows = append(out.rows, r)
		out.bytes += size
	}
	return out, nil
}

// filled says whether a sender may not give the column. TenantId, Type and
// _SubscriptionId may be given, because senders that speak Azure's record
// format do, and are replaced by what the workspace knows better.
func (t *table) filled(at int) bool {
	return at == t.billable || at == t.billed || at == t.received || at == t.item
}

// plausible replaces a time that is over 2 days old or a day ahead with the
// time of arrival.
func plausible(generated int64, now time.Time) int64 {
	if generated < ticks(now.Add(-maxPast)) || generated > ticks(now.Add(maxAhead)) {
		return ticks(now)
	}
	return generated
}

// resourceCells gives _ResourceId in lower case, as the real workspace stores
// it, and the _SubscriptionId in it.
func (t *table) resourceCells(id string) row {
	id = strings.ToLower(id)
	r := row{{t.resource, value{s: id}}}
	if rest, ok := strings.CutPrefix(id, "/subscriptions/"); ok && t.subscription >= 0 {
		sub, _, _ := strings.Cut(rest, "/")
		r = append(r, cell{t.subscription, value{s: sub}})
	}
	return r
}

func billedSize(k kind, v value) float64 {
	switch k {
	case kindString, kindDynamic, kindDecimal, kindGUID:
		return float64(len(v.s))
	case kindBool, kindInt:
		return 4
	}
	return 8
}

func guidText(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// coerce converts a Go value to a value of kind k. ok is false if v is not
// null and k cannot hold it.
func coerce(k kind, v any) (out value, null, ok bool) {
	if v == nil {
		return out, true, true
	}
	switch k {
	case kindString:
		out.s = cut(text(v))
		return out, false, true
	case kindDynamic:
		return dynamic(v)
	case kindDateTime:
		out.i, ok = instant(v)
	case kindBool:
		out.i, ok = boolean(v)
	case kindInt:
		out.i, ok = integer(v)
		ok = ok && out.i >= math.MinInt32 && out.i <= math.MaxInt32
	case kindLong:
		out.i, ok = integer(v)
	case kindReal:
		out.f, ok = real64(v)
	case kindTimespan:
		var d time.Duration
		d, ok = v.(time.Duration)
		out.i = int64(d) / 100
	case kindGUID:
		out.s, ok = guid(v)
	case kindDecimal:
		out.s = text(v)
		_, err := strconv.ParseFloat(out.s, 64)
		ok = err == nil
	}
	if !ok {
		return value{}, true, false
	}
	return out, false, true
}

// cut shortens a string to maxField bytes at a rune's border and repairs
// invalid UTF-8, which the query API could not send.
func cut(s string) string {
	if len(s) > maxField {
		n := maxField
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.0000000Z")
	case json.Number:
		return v.String()
	case json.RawMessage:
		return string(v)
	case fmt.Stringer:
		return v.String()
	case error:
		return v.Error()
	}
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.String:
		return rv.String()
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return fmt.Sprint(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// dynamic stores v as compact JSON. A string that holds a JSON object or array
// is that object or array; another string is a JSON string.
func dynamic(v any) (value, bool, bool) {
	var raw []byte
	switch s := v.(type) {
	case string:
		if t := strings.TrimSpace(s); len(t) > 1 && (t[0] == '{' || t[0] == '[') && len(t) <= maxField && json.Valid([]byte(t)) {
			raw = []byte(t)
			break
		}
		raw = jsonText(cut(s))
	case json.RawMessage:
		raw = s
	case []byte:
		raw = s
	case time.Time:
		raw = jsonText(text(s))
	default:
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return value{}, true, false
		}
		raw = b.Bytes()
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return value{}, true, false
	}
	s := b.String()
	if s == "null" {
		return value{}, true, true
	}
	if len(s) > 2*maxField { // a JSON string may grow by its escapes
		s = string(jsonText(cut(s)))
	}
	return value{s: s}, false, true
}

func jsonText(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return []byte(`""`)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func instant(v any) (int64, bool) {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() || v.Year() > 9999 || v.Year() < 1 {
			return 0, false
		}
		return ticks(v), true
	case string:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", time.RFC1123, "2006-01-02"} {
			if t, err := time.Parse(layout, strings.TrimSpace(v)); err == nil {
				return ticks(t), true
			}
		}
	}
	return 0, false
}

func boolean(v any) (int64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "1":
			return 1, true
		case "false", "0":
			return 0, true
		}
		return 0, false
	}
	n, ok := integer(v)
	if n != 0 {
		n = 1
	}
	return n, ok
}

// integer takes whole numbers, cuts a real towards zero, and parses a string
// only if it is a whole number.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, true
		}
		f, err := v.Float64()
		return whole(f, err == nil)
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case time.Duration:
		return 0, false
	}
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return rv.Int(), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int64(rv.Uint()), rv.Uint() <= math.MaxInt64
	case reflect.Float32, reflect.Float64:
		return whole(rv.Float(), true)
	}
	return 0, false
}

func whole(f float64, ok bool) (int64, bool) {
	if !ok || math.IsNaN(f) || f >= math.MaxInt64 || f <= math.MinInt64 {
		return 0, false
	}
	return int64(f), true
}

func real64(v any) (float64, bool) {
	switch v := v.(type) {
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case float64:
		return v, true
	case float32:
		return float64(v), true
	}
	n, ok := integer(v)
	return float64(n), ok
}

// guid accepts the forms with and without dashes and braces and stores the
// canonical lower-case one.
func guid(v any) (string, bool) {
	if id, ok := v.([16]byte); ok {
		return guidText(id), true
	}
	s := strings.ToLower(strings.Trim(strings.TrimSpace(text(v)), "{}"))
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	var id [16]byte
	if len(s) != 32 {
		return "", false
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return "", false
	}
	return guidText(id), true
}

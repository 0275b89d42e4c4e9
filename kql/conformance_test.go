package kql

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const publicData = "../../shared/data"

// testNow is the clock of every conformance query.
var testNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

type conformanceCase struct {
	ID       string `json:"id"`
	KQL      string `json:"kql"`
	Oracle   string `json:"oracle"`
	Complete *bool  `json:"complete"`
	Expected struct {
		Columns     []string        `json:"columns"`
		ColumnTypes []string        `json:"column_types"`
		Rows        json.RawMessage `json:"rows"`
		RowCount    *int            `json:"row_count"`
		Text        string          `json:"text"`
		Kind        string          `json:"kind"`
	} `json:"expected"`
}

func readLines[T any](t *testing.T, name string) []T {
	t.Helper()
	f, err := os.Open(filepath.Join(publicData, name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the public data %s is not beside the repository", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []T
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var v T
		if err := json.Unmarshal(sc.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func evaluate(text string, cat Catalog) (*Result, error) {
	q, err := Parse(text)
	if err != nil {
		return nil, err
	}
	p, err := Bind(q, cat, BindOptions{Now: testNow})
	if err != nil {
		return nil, err
	}
	return p.Run(context.Background(), Limits{Timeout: 20 * time.Second, MaxBytes: 256 << 20})
}

// floor is the recorded state of a suite: how many are right at least, and
// which disagreements are explained. A case that is in Wrong but no longer
// wrong fails the test too, so that the list stays true.
type floor struct {
	Right int               `json:"right"`
	Wrong map[string]string `json:"wrong"`
}

func readFloor(t *testing.T, name string) floor {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var f floor
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f floor) check(t *testing.T, right int, wrong map[string]string) {
	t.Helper()
	if right < f.Right {
		t.Errorf("right: got %d, want at least %d", right, f.Right)
	}
	for id, why := range wrong {
		if _, ok := f.Wrong[id]; !ok {
			t.Errorf("%s is wrong and not explained: %s", id, why)
		}
	}
	for id := range f.Wrong {
		if _, ok := wrong[id]; !ok {
			t.Errorf("%s is listed as wrong but is not: take it off the list", id)
		}
	}
	if right > f.Right {
		t.Logf("right is above the floor of %d: raise it", f.Right)
	}
}

func TestQueriesAgreeWithTheOracle(t *testing.T) {
	cases := readLines[conformanceCase](t, "kql/queries.jsonl")
	right := 0
	refused := map[ErrorCode]int{}
	wrong := map[string]string{}
	byOracle := map[string][3]int{}
	report := os.Getenv("KQL_REPORT") != ""
	for _, c := range cases {
		res, err := evaluate(c.KQL, nil)
		n := byOracle[c.Oracle]
		var kerr *Error
		switch {
		case errors.As(err, &kerr):
			refused[kerr.Code]++
			n[1]++
			if report {
				fmt.Printf("REFUSED\t%s\t%s\t%v\n", c.ID, kerr.Code, err)
			}
		case err != nil:
			wrong[c.ID] = err.Error()
			n[2]++
		default:
			if why := compareResult(&c, res); why != "" {
				wrong[c.ID] = why
				n[2]++
				if report {
					fmt.Printf("WRONG\t%s\t%s\n\t%s\n", c.ID, strings.ReplaceAll(c.KQL, "\n", " "), why)
				}
			} else {
				right++
				n[0]++
			}
		}
		byOracle[c.Oracle] = n
	}
	t.Logf("queries: %d right, %d refused, %d wrong; refused %v", right, len(cases)-right-len(wrong), len(wrong), refused)
	for o, n := range byOracle {
		t.Logf("  %s: %d right, %d refused, %d wrong", o, n[0], n[1], n[2])
	}
	readFloor(t, "queries.json").check(t, right, wrong)
}

// compareResult says how a result differs from the expected one, or "".
func compareResult(c *conformanceCase, res *Result) string {
	t := &res.Tables[0]
	ordered := isOrdered(c.KQL)
	switch {
	case strings.HasPrefix(c.Oracle, "kusto-emulator("):
		return compareSample(c, t, ordered)
	case c.Expected.Kind != "":
		return compareText(c, t, ordered)
	}
	if want := c.Expected.Columns; !slices.Equal(t.Columns.Names(), want) {
		return fmt.Sprintf("columns: got %v, want %v", t.Columns.Names(), want)
	}
	for i, w := range c.Expected.ColumnTypes {
		if got := dotNetType(t.Columns[i].Type); got != w && !(w == "Object" && got == "Object") {
			return fmt.Sprintf("type of %s: got %s, want %s", t.Columns[i].Name, got, w)
		}
	}
	var want [][]any
	dec := json.NewDecoder(strings.NewReader(string(c.Expected.Rows)))
	dec.UseNumber()
	if err := dec.Decode(&want); err != nil {
		return err.Error()
	}
	loose := c.Oracle == "microsoft-docs-table"
	var got [][]any
	for _, b := range t.Batches() {
		for i := range b.Len() {
			row := make([]any, len(b.Columns))
			for k, v := range b.Columns {
				row[k] = plainValue(v, i, loose)
			}
			got = append(got, row)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("rows: got %d, want %d: %v", len(got), len(want), clip(fmt.Sprint(got), 300))
	}
	return matchRows(got, want, ordered, func(g, w []any) bool {
		for i := range g {
			if !sameValue(g[i], w[i], tolerance(c.KQL), unordered(c.KQL)) {
				return false
			}
		}
		return true
	})
}

func matchRows[T any](got, want []T, ordered bool, same func(g, w T) bool) string {
	used := make([]bool, len(want))
	for i, g := range got {
		found := false
		for k, w := range want {
			if used[k] || ordered && k != i {
				continue
			}
			if same(g, w) {
				used[k], found = true, true
				break
			}
		}
		if !found {
			return fmt.Sprintf("row %d: got %s, want %s", i, clip(fmt.Sprint(g), 400), clip(fmt.Sprint(want), 400))
		}
	}
	return ""
}

var orderPattern = regexp.MustCompile(`\|\s*(sort|order|top)\s`)

func isOrdered(kql string) bool { return orderPattern.MatchString(kql) }

func tolerance(kql string) float64 {
	if regexp.MustCompile(`\b(dcount|percentile|hll|tdigest)`).MatchString(kql) {
		return 0.05
	}
	return 1e-9
}

func unordered(kql string) bool {
	return regexp.MustCompile(`\b(make_set|make_list|make_bag|makeset|makelist|set_union|set_intersect|set_difference)`).MatchString(kql)
}

func dotNetType(t Type) string {
	switch t {
	case Bool:
		return "SByte"
	case Int:
		return "Int32"
	case Long:
		return "Int64"
	case Real:
		return "Double"
	case Decimal:
		return "SqlDecimal"
	case String:
		return "String"
	case DateTime:
		return "DateTime"
	case TimeSpan:
		return "TimeSpan"
	case GUID:
		return "Guid"
	}
	return "Object"
}

// plainValue is a cell as JSON decodes it.
func plainValue(v *Vector, i int, text bool) any {
	if text {
		if v.IsNull(i) {
			return ""
		}
		return v.Text(i)
	}
	if v.IsNull(i) {
		return nil
	}
	var raw []byte
	if v.typ == Dynamic {
		raw = appendJSON(nil, v.anys[v.at(i)])
	} else {
		raw = appendValueJSON(nil, v, i)
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var out any
	if err := dec.Decode(&out); err != nil {
		return "undecodable " + string(raw)
	}
	return out
}

func sameValue(g, w any, tol float64, anyOrder bool) bool {
	switch w := w.(type) {
	case json.Number:
		wf, err1 := w.Float64()
		switch g := g.(type) {
		case json.Number:
			gf, err2 := g.Float64()
			return err1 == nil && err2 == nil && closeTo(gf, wf, tol)
		case bool:
			return wf == 1 && g || wf == 0 && !g
		}
		return false
	case []any:
		gl, ok := g.([]any)
		if !ok || len(gl) != len(w) {
			return false
		}
		return matchRows(gl, w, !anyOrder, func(a, b any) bool { return sameValue(a, b, tol, anyOrder) }) == ""
	case map[string]any:
		gm, ok := g.(map[string]any)
		if !ok || len(gm) != len(w) {
			return false
		}
		for k, v := range w {
			if x, has := gm[k]; !has || !sameValue(x, v, tol, anyOrder) {
				return false
			}
		}
		return true
	case string:
		gs, ok := g.(string)
		if !ok {
			return false
		}
		return sameText(gs, w, tol)
	}
	return g == w
}

// sameText lets a datetime, a number and JSON be written in another way.
func sameText(g, w string, tol float64) bool {
	if g == w {
		return true
	}
	if gf, err := strconv.ParseFloat(g, 64); err == nil {
		if wf, err := strconv.ParseFloat(w, 64); err == nil {
			return closeTo(gf, wf, tol)
		}
	}
	if gt, ok := parseISODate(g); ok {
		if wt, ok := parseDateTime(w); ok {
			return gt == wt
		}
	}
	if gd, ok := parseJSON(g); ok {
		if wd, ok := parseJSON(strings.ReplaceAll(w, "`", "")); ok {
			return string(appendJSON(nil, canonical(gd))) == string(appendJSON(nil, canonical(wd)))
		}
	}
	return strings.EqualFold(g, w) && (w == "True" || w == "False" || w == "true" || w == "false") || g == "" && w == "null" || strings.TrimSpace(g) == strings.TrimSpace(w)
}

func closeTo(a, b, tol float64) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	return math.Abs(a-b) <= tol*max(math.Abs(a), math.Abs(b))
}

// compareSample compares with rows in the differential fuzzer's text form.
func compareSample(c *conformanceCase, t *ResultTable, ordered bool) string {
	for i, col := range c.Expected.Columns {
		name, typ, _ := strings.Cut(col, ":")
		if k := strings.LastIndexByte(col, ':'); k >= 0 {
			name, typ = col[:k], col[k+1:]
		}
		if i >= len(t.Columns) || t.Columns[i].Name != name {
			return fmt.Sprintf("columns: got %v, want %v", t.Columns.Names(), c.Expected.Columns)
		}
		if got := sampleType(t.Columns[i].Type); got != typ && !(typ == "Real" && t.Columns[i].Type == Long) {
			return fmt.Sprintf("type of %s: got %s, want %s", name, got, typ)
		}
	}
	if len(c.Expected.Columns) != len(t.Columns) {
		return fmt.Sprintf("columns: got %v, want %v", t.Columns.Names(), c.Expected.Columns)
	}
	var want []string
	if err := json.Unmarshal(c.Expected.Rows, &want); err != nil {
		return err.Error()
	}
	if c.Expected.RowCount != nil && *c.Expected.RowCount != t.Len() {
		return fmt.Sprintf("rows: got %d, want %d", t.Len(), *c.Expected.RowCount)
	}
	var got []string
	for _, b := range t.Batches() {
		for i := range b.Len() {
			cells := make([]string, len(b.Columns))
			for k, v := range b.Columns {
				cells[k] = sampleText(v, i)
			}
			got = append(got, "("+strings.Join(cells, ", ")+")")
		}
	}
	partial := len(want) < len(got)
	tol, anyOrder := tolerance(c.KQL), unordered(c.KQL)
	same := func(g, w string) bool { return sameSample(g, w, tol, anyOrder) }
	if partial {
		if ordered {
			got = got[:len(want)]
		} else {
			return matchRows(want, got, false, func(w, g string) bool { return same(g, w) })
		}
	}
	return matchRows(got, want, ordered, same)
}

func sampleType(t Type) string {
	switch t {
	case Long, Int:
		return "Int"
	case DateTime:
		return "DateTime"
	case TimeSpan:
		return "TimeSpan"
	case Decimal:
		return "Real"
	}
	s := t.String()
	return strings.ToUpper(s[:1]) + s[1:]
}

func sampleText(v *Vector, i int) string {
	if v.IsNull(i) {
		return "null"
	}
	switch v.typ {
	case Bool:
		if v.bools[v.at(i)] {
			return "True"
		}
		return "False"
	case String, GUID:
		return "'" + v.str(i) + "'"
	case DateTime:
		return string(appendDateTime(nil, v.ints[v.at(i)], false))
	case Dynamic:
		var b strings.Builder
		indented(&b, v.anys[v.at(i)], "")
		return b.String()
	}
	return v.Text(i)
}

func indented(b *strings.Builder, d any, pad string) {
	switch d := d.(type) {
	case []any:
		if len(d) == 0 {
			b.WriteString("[]")
			return
		}
		b.WriteString("[\n")
		for i, e := range d {
			b.WriteString(pad + "  ")
			indented(b, e, pad+"  ")
			if i < len(d)-1 {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
		}
		b.WriteString(pad + "]")
	case *Bag:
		if d.Len() == 0 {
			b.WriteString("{}")
			return
		}
		b.WriteString("{\n")
		for i, k := range d.keys {
			b.WriteString(pad + "  " + string(appendJSONString(nil, k)) + ": ")
			indented(b, d.vals[i], pad+"  ")
			if i < d.Len()-1 {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
		}
		b.WriteString(pad + "}")
	default:
		b.Write(appendJSON(nil, d))
	}
}

var numberPattern = regexp.MustCompile(`-?\d+(\.\d+)?([eE][+-]?\d+)?`)

// sameSample compares two rows of text: what is not a number exactly, numbers
// within the tolerance, and, where order is free, as bags of lines.
func sameSample(g, w string, tol float64, anyOrder bool) bool {
	if g == w {
		return true
	}
	if numberPattern.ReplaceAllString(g, "#") == numberPattern.ReplaceAllString(w, "#") {
		gn, wn := numberPattern.FindAllString(g, -1), numberPattern.FindAllString(w, -1)
		ok := true
		for i := range gn {
			a, _ := strconv.ParseFloat(gn[i], 64)
			b, _ := strconv.ParseFloat(wn[i], 64)
			ok = ok && closeTo(a, b, tol)
		}
		if ok {
			return true
		}
	}
	if !anyOrder {
		return false
	}
	split := func(s string) []string {
		parts := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \n[](){}", r) })
		slices.Sort(parts)
		return parts
	}
	return slices.Equal(split(g), split(w))
}

// compareText compares with kusto-loco's text: a table with a header line, or
// the last line alone.
func compareText(c *conformanceCase, t *ResultTable, ordered bool) string {
	var got []string
	for _, b := range t.Batches() {
		for i := range b.Len() {
			cells := make([]string, len(b.Columns))
			for k, v := range b.Columns {
				cells[k] = locoText(v, i, c.Expected.Kind)
			}
			sep := ","
			if c.Expected.Kind == "table" {
				sep = "; "
			}
			got = append(got, strings.Join(cells, sep))
		}
	}
	tol, anyOrder := tolerance(c.KQL), unordered(c.KQL)
	same := func(g, w string) bool {
		return sameSample(strings.TrimSpace(g), strings.TrimSpace(w), tol, anyOrder)
	}
	want := strings.Split(strings.TrimRight(strings.ReplaceAll(c.Expected.Text, "\r", ""), "\n"), "\n")
	switch c.Expected.Kind {
	case "table":
		head := make([]string, len(t.Columns))
		for i, col := range t.Columns {
			head[i] = col.Name + ":" + col.Type.String()
		}
		if h := strings.Join(head, "; "); len(want) < 2 || h != strings.TrimSpace(want[0]) {
			return fmt.Sprintf("columns: got %s, want %s", h, want[0])
		}
		want = want[2:]
		if len(want) != len(got) {
			return fmt.Sprintf("rows: got %q, want %q", got, want)
		}
		return matchRows(got, want, ordered, same)
	case "csv":
		// Some of these texts have a header line, some only the rows.
		if h := strings.Join(t.Columns.Names(), ","); h == strings.TrimSpace(want[0]) {
			want = want[1:]
		}
		if len(want) != len(got) {
			return fmt.Sprintf("rows: got %q, want %q", got, want)
		}
		return matchRows(got, want, ordered, same)
	}
	last := ""
	if n := min(len(want), len(got)); n > 0 {
		last = strings.Join(got[len(got)-n:], "\n")
	}
	if text := strings.ReplaceAll(c.Expected.Text, "\r", ""); !same(last, text) && !same(strings.ReplaceAll(last, `"`, ""), strings.ReplaceAll(text, `"`, "")) {
		return fmt.Sprintf("last line: got %q, want %q", last, text)
	}
	return ""
}

func locoText(v *Vector, i int, kind string) string {
	if v.IsNull(i) {
		switch kind {
		case "table":
			return "(null)"
		case "csv":
			return "<null>"
		}
		return ""
	}
	switch v.typ {
	case Bool:
		if v.bools[v.at(i)] {
			return "True"
		}
		return "False"
	case Dynamic:
		if kind == "csv" {
			return DynamicText(v.anys[v.at(i)])
		}
		return string(appendJSON(nil, v.anys[v.at(i)]))
	case DateTime:
		if kind == "table" {
			return strings.TrimSuffix(string(appendDateTime(nil, v.ints[v.at(i)], false)), "Z")
		}
		return strings.Replace(string(appendDateTime(nil, v.ints[v.at(i)], true)), "T", " ", 1)
	}
	return v.Text(i)
}

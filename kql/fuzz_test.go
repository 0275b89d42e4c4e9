package kql

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzQuery holds for any text: Parse, Bind and Run end without a panic that
// recoverBail would have to call a defect, refusals carry a place inside the
// text, and what parses once parses again to the same schema.
func FuzzQuery(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txt")
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range strings.Split(string(raw), "\n\n") {
			q, _, _ := strings.Cut(c, "\n----")
			f.Add(q)
		}
	}
	f.Add(`print dynamic({"a":[1,null,{"b":datetime(2020-01-01)}]}), @'x''y', h"z", 0xFF, 1.5e3, 3.5h`)
	f.Add("let f = (T:(*)) { T | take 1 }; f((print 1)) | join kind=leftouter (print print_0=1) on print_0 // end")
	f.Add(strings.Repeat("(", 500))
	f.Add(strings.Repeat("-", 500) + "1")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			checkRefusal(t, text, err)
			return
		}
		opt := BindOptions{Now: testNow}
		p, err := Bind(q, nil, opt)
		if err != nil {
			checkRefusal(t, text, err)
			return
		}
		again, err := Bind(q, nil, opt)
		if err != nil || again.Schema().String() != p.Schema().String() {
			t.Fatalf("bound twice: %v, %v", again, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		res, err := p.Run(ctx, Limits{MaxRows: 5000, MaxBytes: 8 << 20})
		if err != nil {
			checkRefusal(t, text, err)
			return
		}
		for i := range res.Tables {
			res.Tables[i].AppendJSON(nil)
		}
	})
}

func checkRefusal(t *testing.T, text string, err error) {
	t.Helper()
	var kerr *Error
	switch {
	case !errors.As(err, &kerr):
		t.Fatalf("not an *Error: %v", err)
	case strings.HasPrefix(kerr.Message, "internal defect"):
		t.Fatalf("%v in %q", err, text)
	case kerr.Pos < 0 || kerr.Pos > len(text):
		t.Fatalf("position %d outside the text: %v", kerr.Pos, err)
	}
}

func TestHostileQueriesAreBounded(t *testing.T) {
	double := func(n int) string {
		var b strings.Builder
		b.WriteString("let t0 = print x = 1;\n")
		for i := range n {
			b.WriteString("let t" + itoa(i+1) + " = union t" + itoa(i) + ", t" + itoa(i) + ";\n")
		}
		b.WriteString("t" + itoa(n) + " | count")
		return b.String()
	}
	calls := func(n int) string {
		var b strings.Builder
		b.WriteString("let f0 = (x:long) { x + 1 };\n")
		for i := range n {
			b.WriteString("let f" + itoa(i+1) + " = (x:long) { f" + itoa(i) + "(x) + f" + itoa(i) + "(x) };\n")
		}
		b.WriteString("range y from 1 to 2 step 1 | extend z = f" + itoa(n) + "(y)")
		return b.String()
	}
	for name, q := range map[string]string{
		"tables that double":           double(45),
		"functions that double":        calls(45),
		"a function that calls itself": "let f = (x:long) { f(x) }; print f(1)",
		"deep parentheses":             "print " + strings.Repeat("(", 100_000),
		"deep unary minus":             "print " + strings.Repeat("-", 100_000) + "1",
		"a long sum":                   "print 1" + strings.Repeat("+rand()", 50_000),
		"deep arrays":                  "print dynamic(" + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + ")",
		"deep JSON text":               "print array_length(parse_json('" + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "'))",
		"strings that double":          "range x from 1 to 100000 step 1 | extend a = tostring(x)" + strings.Repeat(" | extend a = strcat(a, a)", 30),
		"arrays in every row":          "range x from 1 to 100000 step 1 | extend a = range(x, 1000000, 1) | summarize sum(array_length(a))",
		"a cross product":              "let t = range x from 1 to 100000 step 1 | extend k = 1; t | join kind=inner (t) on k | summarize count()",
		"an endless range":             "range x from 1 to 9000000000000000000 step 1 | count",
		"too long":                     "print '" + strings.Repeat("x", maxQueryBytes) + "'",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
			defer cancel()
			q, err := Parse(q)
			if err == nil {
				var p *Plan
				if p, err = Bind(q, nil, BindOptions{Now: testNow}); err == nil {
					_, err = p.Run(ctx, Limits{MaxBytes: 64 << 20})
				}
			}
			var kerr *Error
			if err != nil && !errors.As(err, &kerr) {
				t.Fatalf("not an *Error: %v", err)
			}
			if kerr != nil && strings.HasPrefix(kerr.Message, "internal defect") {
				t.Fatal(err)
			}
			t.Log(err)
		})
	}
}

func itoa(i int) string { return string(appendPadded(nil, i, 1)) }

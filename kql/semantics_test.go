package kql

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files testdata/*.txt hold behaviour as text. A case is
//
//	# words about what is shown
//	query
//	  over as many lines as it needs
//	----
//	a:long  b:string
//	1       x
//
// and ends at an empty line. Cells are separated by two spaces or more; null
// is null, a string stands in double quotes where it is empty or has spaces at
// its ends. Instead of a table there may be "error CODE at L:C TEXT", where
// TEXT is part of the message.

type semanticCase struct {
	file, title, query string
	line               int
	want               []string
}

func readCases(t *testing.T, name string) []semanticCase {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var cases []semanticCase
	var cur semanticCase
	inWant := false
	flush := func() {
		if inWant {
			cases = append(cases, cur)
		} else if cur.query != "" {
			t.Fatalf("%s:%d: the case has no expectation", name, cur.line)
		}
		cur, inWant = semanticCase{file: filepath.Base(name)}, false
	}
	flush()
	for i, line := range strings.Split(string(raw), "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case line == "----":
			inWant = true
		case inWant:
			cur.want = append(cur.want, line)
		case strings.HasPrefix(line, "# ") && cur.query == "":
			cur.title = strings.TrimSpace(cur.title + " " + strings.TrimPrefix(line, "# "))
		default:
			if cur.query == "" {
				cur.line = i + 1
			} else {
				cur.query += "\n"
			}
			cur.query += line
		}
	}
	flush()
	return cases
}

func TestSemantics(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata/*.txt", err)
	}
	for _, f := range files {
		for _, c := range readCases(t, f) {
			t.Run(fmt.Sprintf("%s:%d %s", c.file, c.line, c.title), func(t *testing.T) { c.run(t) })
		}
	}
}

func (c *semanticCase) run(t *testing.T) {
	res, err := evaluate(c.query, nil)
	if strings.HasPrefix(c.want[0], "error ") {
		var kerr *Error
		if !errors.As(err, &kerr) {
			t.Fatalf("got %v, want %s", err, c.want[0])
		}
		got := fmt.Sprintf("error %s at %d:%d %s", kerr.Code, kerr.Line, kerr.Column, kerr.Message)
		head, text, _ := strings.Cut(c.want[0], "  ")
		if !strings.HasPrefix(got, head+" ") || !strings.Contains(got, text) {
			t.Fatalf("got  %s\nwant %s", got, c.want[0])
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got := renderTable(&res.Tables[0])
	var want []string
	for _, line := range c.want {
		want = append(want, strings.Join(cells(line), " | "))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func cells(line string) []string {
	var out []string
	for _, c := range strings.Split(line, "  ") {
		if c = strings.TrimSpace(c); c != "" {
			out = append(out, c)
		}
	}
	return out
}

func renderTable(t *ResultTable) []string {
	var head []string
	for _, c := range t.Columns {
		head = append(head, c.Name+":"+c.Type.String())
	}
	out := []string{strings.Join(head, " | ")}
	for _, b := range t.Batches() {
		for i := range b.Len() {
			var row []string
			for _, v := range b.Columns {
				s := v.Text(i)
				switch {
				case v.IsNull(i):
					s = "null"
				case v.Type() == String && (s == "" || strings.TrimSpace(s) != s):
					s = `"` + s + `"`
				}
				row = append(row, s)
			}
			out = append(out, strings.Join(row, " | "))
		}
	}
	return out
}

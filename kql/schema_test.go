package kql

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type parseCase struct {
	ID       string      `json:"id"`
	Source   string      `json:"source"`
	KQL      string      `json:"kql"`
	Expected [][2]string `json:"expected_columns"`
	Open     bool        `json:"open"`
}

func (c *parseCase) name(i int) string {
	if c.ID != "" {
		return c.ID
	}
	return fmt.Sprintf("%d %s", i, c.Source)
}

// standardTables is the catalog of the standard log tables, without rows.
func standardTables(t *testing.T) MapCatalog {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(publicData, "log-schemas/la-tables.json"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the public log schemas are not beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	var tables map[string]struct {
		Columns [][2]string `json:"columns"`
	}
	if err := json.Unmarshal(raw, &tables); err != nil {
		t.Fatal(err)
	}
	cat := MapCatalog{}
	for name, tab := range tables {
		var s Schema
		for _, c := range tab.Columns {
			typ, ok := ParseType(c[1])
			if !ok {
				t.Fatalf("%s.%s has type %q", name, c[0], c[1])
			}
			s = append(s, Column{c[0], typ})
		}
		for _, c := range []Column{{"_ResourceId", String}, {"_SubscriptionId", String}, {"_IsBillable", String}, {"_BilledSize", Real}, {"_TimeReceived", DateTime}, {"_ItemId", String}, {"TenantId", String}} {
			if s.Index(c.Name) < 0 {
				s = append(s, c)
			}
		}
		cat[name] = NewMemTable(s)
	}
	return cat
}

func TestRealQueriesAreAccepted(t *testing.T) {
	cases := readLines[parseCase](t, "kql/parse-accept.jsonl")
	right := 0
	wrong := map[string]string{}
	for i, c := range cases {
		if _, err := Parse(c.KQL); err != nil {
			var kerr *Error
			if errors.As(err, &kerr) && kerr.Code == NotImplemented {
				continue
			}
			wrong[c.name(i)] = err.Error()
			if os.Getenv("KQL_REPORT") != "" {
				fmt.Printf("REJECTED\t%s\t%v\n\t%s\n", c.name(i), err, clip(strings.ReplaceAll(c.KQL, "\n", "\n\t"), 1500))
			}
			continue
		}
		right++
	}
	t.Logf("parse-accept: %d right, %d refused, %d wrong", right, len(cases)-right-len(wrong), len(wrong))
	readFloor(t, "parse-accept.json").check(t, right, wrong)
}

func TestBrokenQueriesAreRejected(t *testing.T) {
	cases := readLines[parseCase](t, "kql/parse-reject.jsonl")
	right := 0
	wrong := map[string]string{}
	for i, c := range cases {
		_, err := Parse(c.KQL)
		if err == nil {
			wrong[c.name(i)] = "parsed"
			if os.Getenv("KQL_REPORT") != "" {
				fmt.Printf("ACCEPTED\t%s\n\t%s\n", c.name(i), clip(strings.ReplaceAll(c.KQL, "\n", "\n\t"), 2500))
			}
			continue
		}
		right++
	}
	t.Logf("parse-reject: %d right, 0 refused, %d wrong", right, len(wrong))
	readFloor(t, "parse-reject.json").check(t, right, wrong)
}

func TestWhatTheEngineRefusesIsRefused(t *testing.T) {
	cases := readLines[parseCase](t, "kql/refused.jsonl")
	right := 0
	wrong := map[string]string{}
	for i, c := range cases {
		if _, err := evaluate(c.KQL, nil); err != nil {
			right++
			continue
		}
		wrong[c.name(i)] = "answered"
		if os.Getenv("KQL_REPORT") != "" {
			fmt.Printf("ANSWERED\t%s\t%s\n", c.name(i), strings.ReplaceAll(c.KQL, "\n", " "))
		}
	}
	t.Logf("refused: %d right, %d answered", right, len(wrong))
	readFloor(t, "refused.json").check(t, right, wrong)
}

func TestResultSchemasAgreeWithTheOracle(t *testing.T) {
	cat := standardTables(t)
	cases := readLines[parseCase](t, "kql/result-schema.jsonl")
	right, refused := 0, 0
	wrong := map[string]string{}
	for i, c := range cases {
		q, err := Parse(c.KQL)
		var plan *Plan
		if err == nil {
			plan, err = Bind(q, cat, BindOptions{Now: testNow, SchemaOnly: true})
		}
		if err != nil {
			refused++
			if os.Getenv("KQL_REPORT") != "" {
				fmt.Printf("REFUSED\t%s\t%v\n", c.name(i), err)
			}
			continue
		}
		if why := schemaDiffers(plan.Schema(), c.Expected); why != "" {
			wrong[c.name(i)] = why
			if os.Getenv("KQL_REPORT") != "" {
				fmt.Printf("WRONG\t%s\t%s\n\t%s\n", c.name(i), why, clip(strings.ReplaceAll(c.KQL, "\n", "\n\t"), 2500))
			}
			continue
		}
		right++
	}
	t.Logf("result-schema: %d right, %d refused, %d wrong", right, refused, len(wrong))
	readFloor(t, "result-schema.json").check(t, right, wrong)
}

func schemaDiffers(got Schema, want [][2]string) string {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i].Name + ":" + got[i].Type.String()
		}
		if i < len(want) {
			typ, _ := ParseType(want[i][1])
			w = want[i][0] + ":" + typ.String()
		}
		if g != w {
			return fmt.Sprintf("column %d: got %s, want %s", i, g, w)
		}
	}
	return ""
}

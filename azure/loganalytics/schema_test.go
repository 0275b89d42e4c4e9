package loganalytics

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"testing"
)

const published = "../../../shared/data/log-schemas/la-tables.json"

// TestTablesHaveTheColumnsOfTheRealOnes compares the declared tables with the
// published export of live workspaces, column by column.
func TestTablesHaveTheColumnsOfTheRealOnes(t *testing.T) {
	tables, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(published)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the published table schemas are not at %s", published)
	}
	if err != nil {
		t.Fatal(err)
	}
	var real map[string]struct {
		Columns [][2]string `json:"columns"`
	}
	if err := json.Unmarshal(raw, &real); err != nil {
		t.Fatal(err)
	}
	spelling := map[string]string{"boolean": "bool", "double": "real"}
	for name, tab := range tables {
		theirs, ok := real[name]
		if !ok {
			t.Errorf("table %s is in no real workspace", name)
			continue
		}
		want := map[string]string{}
		for _, c := range theirs.Columns {
			want[c[0]] = c[1]
			if s, ok := spelling[c[1]]; ok {
				want[c[0]] = s
			}
		}
		for _, c := range tab.columns {
			if c.hidden {
				continue // not in the export, which lists what a plain query shows
			}
			if want[c.name] != c.kind.String() {
				t.Errorf("%s.%s: got %s, want %q", name, c.name, c.kind, want[c.name])
			}
			delete(want, c.name)
		}
		for column, kind := range want {
			t.Errorf("%s lacks %s:%s", name, column, kind)
		}
	}
	if len(tables) < 20 {
		t.Errorf("only %d tables", len(tables))
	}
}

func TestADeclarationThatContradictsItselfIsAnError(t *testing.T) {
	for what, columns := range map[string]string{
		"a column twice":    "string: A B A",
		"a standard column": "string: TimeGenerated",
		"an unknown type":   "text: A",
		"a name with a dot": "string: a.b",
	} {
		if _, err := (declaration{name: "T", columns: columns}).table(); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

package arm_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"
)

// TestActivityRowsFitTheStandardTable holds the columns of a change and of a
// refusal against the published schema.
func TestActivityRowsFitTheStandardTable(t *testing.T) {
	raw, err := os.ReadFile("../../../shared/data/log-schemas/la-tables.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the published log schemas are not here: ../shared/data/log-schemas, beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	var tables map[string]struct{ Columns [][2]string }
	if err := json.Unmarshal(raw, &tables); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, c := range tables["AzureActivity"].Columns {
		types[c[0]] = c[1]
	}
	w := newWorld(t)
	path := assignmentID(key, "aaaaaaaa-0000-4000-8000-000000000003") + "?api-version=2022-04-01"
	w.call(t, "DELETE", path, "", w.token(t, as("stranger")))
	w.call(t, "DELETE", path, "", w.token(t, nil))
	if len(w.rows) != 3 {
		t.Fatalf("%d rows were written, want 3", len(w.rows))
	}
	for _, row := range w.rows {
		for name, value := range row {
			fits := false
			switch types[name] {
			case "string", "guid":
				_, fits = value.(string)
			case "datetime":
				_, fits = value.(time.Time)
			case "dynamic":
				fits = true
			}
			if !fits {
				t.Errorf("AzureActivity.%s is %q in the schema, the row has a %T", name, types[name], value)
			}
		}
	}
}

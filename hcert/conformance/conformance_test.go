package conformance

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	vectors       = "../../../shared/data/dcc"
	disagreements = "../../docs/compat/dcc-disagreements.md"
)

// readDisagreements returns the flags that the list explains, by file.
func readDisagreements(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(disagreements)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 5 || !strings.Contains(cells[1], ".json") {
			continue
		}
		if why := strings.TrimSpace(cells[3]); len(why) < 40 {
			t.Errorf("%s is listed without an explanation", cells[1])
		}
		flags := strings.Fields(cells[2])
		slices.Sort(flags)
		list[strings.TrimSpace(cells[1])] = flags
	}
	return list
}

func TestPublicVectorsPassOrAreExplained(t *testing.T) {
	if _, err := os.Stat(vectors); err != nil {
		t.Skipf("public test data is not beside the repository: %v", err)
	}
	results, err := Run(vectors)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(results), 82; got != want {
		t.Errorf("got %d vectors, want %d", got, want)
	}
	explained := readDisagreements(t)
	for _, r := range results {
		var differ []string
		for flag, want := range r.Expected {
			if r.Steps[flag] != want {
				differ = append(differ, flag)
			}
		}
		slices.Sort(differ)
		if !slices.Equal(differ, explained[r.File]) {
			t.Errorf("%s: disagrees on %v, the list explains %v: %s", r.File, differ, explained[r.File], r.Error)
		}
		if r.Passed() != (len(differ) == 0) {
			t.Errorf("%s: passed is %v but %d flags differ", r.File, r.Passed(), len(differ))
		}
		delete(explained, r.File)
	}
	for file := range maps.Keys(explained) {
		t.Errorf("%s is listed but there is no such vector", file)
	}
}

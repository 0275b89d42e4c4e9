package conformance

import (
	"os"
	"strings"
	"testing"
)

const (
	data          = "../../../shared/data"
	disagreements = "../../docs/compat/certlogic-disagreements.md"
)

// explained returns the tests that the list explains: file#name, or
// file#case/assertion.
func explained(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(disagreements)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 5 || !strings.Contains(cells[1], ".json") {
			continue
		}
		if why := strings.TrimSpace(cells[3]); len(why) < 40 {
			t.Errorf("%s is listed without an explanation", cells[1])
		}
		list[strings.TrimSpace(cells[1])+"#"+strings.TrimSpace(cells[2])] = true
	}
	return list
}

func need(t *testing.T, dir string) string {
	t.Helper()
	if _, err := os.Stat(data + "/" + dir); err != nil {
		t.Skipf("public test data is not beside the repository: %v", err)
	}
	return data + "/" + dir
}

func TestEveryPublicTestPassesOrIsExplained(t *testing.T) {
	list := explained(t)
	judge := func(id string, passed bool, why string) {
		t.Helper()
		if passed == list[id] {
			t.Errorf("%s: passed is %v, explained is %v: %s", id, passed, list[id], why)
		}
		delete(list, id)
	}
	suites, err := RunSuites(need(t, "certlogic"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(suites), 42; got != want {
		t.Errorf("certlogic: got %d assertions, want %d", got, want)
	}
	for _, a := range suites {
		judge(a.File+"#"+a.Name, a.Passed || a.Skipped, a.Error)
	}
	for dir, want := range map[string]int{"rules": 370, "ie-rules": 16} {
		tests, err := RunRules(need(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(tests); got != want {
			t.Errorf("%s: got %d tests, want %d", dir, got, want)
		}
		for _, r := range tests {
			judge(dir+"/"+r.File+"#"+r.Name, r.Passed, r.Error)
		}
	}
	for id := range list {
		t.Errorf("%s is listed but agrees, or is not there", id)
	}
}

package certlogic

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestTheLibraryStandsAlone holds what the package imports, directly or not,
// against a list: nothing but the standard library.
func TestTheLibraryStandsAlone(t *testing.T) {
	list, err := os.ReadFile("testdata/dependencies.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			want[line] = true
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".", "./conformance").Output()
	if err != nil {
		t.Skipf("go list does not run here: %v", err)
	}
	for _, got := range strings.Fields(string(out)) {
		if !want[got] {
			t.Errorf("%s is imported and not on the list", got)
		}
		delete(want, got)
	}
	for gone := range want {
		t.Errorf("%s is on the list and not imported", gone)
	}
}

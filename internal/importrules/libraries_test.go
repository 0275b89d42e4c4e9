package importrules

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestThePublicLibrariesImportWhatTheListSays holds all that each library
// imports besides the standard library, directly or not, against a list: who
// takes a library takes nothing else with it unawares.
func TestThePublicLibrariesImportWhatTheListSays(t *testing.T) {
	list, err := os.ReadFile("testdata/libraries.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	var library string
	for line := range strings.Lines(string(list)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] != '\t':
			library = line
			want[library] = nil
		default:
			want[library] = append(want[library], line[1:])
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "verdant/hcert/...", "verdant/certlogic/...", "verdant/trustlist/...").Output()
	if err != nil {
		t.Skipf("go list does not run here: %v", err)
	}
	for _, library := range strings.Fields(string(out)) {
		listed, ok := want[library]
		if !ok {
			t.Errorf("%s is not on the list", library)
		}
		delete(want, library)
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", library).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(strings.Fields(string(out)), func(p string) bool { return p == library })
		slices.Sort(got)
		slices.Sort(listed)
		if !slices.Equal(got, listed) {
			t.Errorf("%s imports\n\t%s\nand the list says\n\t%s", library, strings.Join(got, "\n\t"), strings.Join(listed, "\n\t"))
		}
	}
	for gone := range want {
		t.Errorf("%s is on the list and not in the tree", gone)
	}
}

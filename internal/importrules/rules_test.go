package importrules

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestTheTreeKeepsTheRules(t *testing.T) {
	for _, v := range Check(Table(), load(t)) {
		t.Error(v)
	}
}

// load lists the module's packages with the imports of their code and tests.
// It reads the files itself, not through `go list`, so that the test cache
// knows what the result depends on.
func load(t *testing.T) []Package {
	t.Helper()
	const root = "../.."
	packages := map[string]*Package{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		p := packages[dir]
		if p == nil {
			p = &Package{Path: filepath.ToSlash(dir)}
			packages[dir] = p
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(imported, "verdant/"); ok && ours != p.Path && !slices.Contains(p.Imports, ours) {
				p.Imports = append(p.Imports, ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []Package
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		list = append(list, *packages[dir])
	}
	return list
}

// TestEachKindOfViolationIsFound plants one violation of every kind.
func TestEachKindOfViolationIsFound(t *testing.T) {
	rules := []Rule{
		{"dcc/wire", []string{"hcert/..."}, "w"},
		{"dcc/*/...", []string{"dcc/wire", "azure/client", "internal/..."}, "d"},
		{"azure/client", []string{"internal/..."}, "c"},
		{"hcert/...", nil, "h"},
	}
	clean := []Package{
		{"dcc/wire", []string{"hcert"}},
		{"dcc/gateway", []string{"dcc/wire", "azure/client", "internal/route"}},
		{"dcc/gateway/store", []string{"dcc/gateway/sql"}},
		{"azure/client", nil},
		{"hcert/conformance", []string{"hcert"}},
	}
	if got := Check(rules, clean); len(got) != 0 {
		t.Fatalf("clean tree: got %v", got)
	}
	planted := map[string]Package{
		"a workload imports the platform":     {"dcc/gateway/store", []string{"azure/keyvault"}},
		"a workload imports another workload": {"dcc/gateway", []string{"dcc/issuance"}},
		"a public library imports ours":       {"hcert", []string{"internal/route"}},
		"messages import a service":           {"dcc/wire", []string{"dcc/gateway"}},
		"a package that no rule governs":      {"util", nil},
		"a path that only begins alike":       {"hcertificate", nil},
	}
	for kind, p := range planted {
		if got := Check(rules, append(slices.Clone(clean), p)); len(got) != 1 || got[0].Package != p.Path {
			t.Errorf("%s: got %v, want one violation of %s", kind, got, p.Path)
		}
	}
	idle := append(slices.Clone(rules), Rule{"certlogic/...", nil, ""})
	if got := Check(idle, clean); len(got) != 1 || got[0].Package != "certlogic/..." {
		t.Errorf("a rule that governs nothing: got %v", got)
	}
}

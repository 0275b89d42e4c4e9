package importrules

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestTheTreeKeepsTheRules(t *testing.T) {
	for _, v := range Check(Table(), load(t)) {
		t.Error(v)
	}
}

// load lists the module's packages with the imports of their code and tests.
func load(t *testing.T) []Package {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "verdant/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var listed struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&listed); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		p := Package{Path: strings.TrimPrefix(listed.ImportPath, "verdant/")}
		for _, imported := range slices.Concat(listed.Imports, listed.TestImports, listed.XTestImports) {
			if ours, ok := strings.CutPrefix(imported, "verdant/"); ok && ours != p.Path && !slices.Contains(p.Imports, ours) {
				p.Imports = append(p.Imports, ours)
			}
		}
		packages = append(packages, p)
	}
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

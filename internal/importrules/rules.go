// Package importrules says which of our packages may import which, and checks
// it. The rules are an ordered table; the first row that governs a package
// decides, and what a row does not allow is denied. The package that no row
// governs, and the row that governs no package, are violations too, so the
// table cannot fall behind the tree. ARCHITECTURE.md explains the arrows.
package importrules

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Package is one package of the module: its path below the module's root, and
// the packages of the module that it imports, tests included or not as the
// caller decides.
type Package struct {
	Path    string
	Imports []string
}

// Rule governs the packages that match Of.
type Rule struct {
	// Of is a path pattern below the module's root: a literal path, or one
	// ending in "/..." for the package and everything below it, where "*"
	// stands for one element.
	Of string
	// May lists the patterns of packages it may import. A package may always
	// import those below its own Of.
	May []string
	// Why says what the rule protects, for the person who broke it.
	Why string
}

// Violation is one breach of the table.
type Violation struct {
	Package, Import, Why string
}

func (v Violation) String() string {
	if v.Import == "" {
		return fmt.Sprintf("%s: %s", v.Package, v.Why)
	}
	return fmt.Sprintf("%s imports %s: %s", v.Package, v.Import, v.Why)
}

// Table is the module's rules, in the order in which design and tree list
// them.
func Table() []Rule {
	public := []string{"hcert/...", "certlogic/...", "trustlist/...", "kql/..."}
	return []Rule{
		{"cmd/verdant", slices.Concat([]string{"estate/...", "internal/..."}, public), "the command line assembles nothing itself; it asks the estate"},
		{"hcert/...", nil, "hcert is a public library and stands alone"},
		{"certlogic/...", nil, "certlogic is a public library and stands alone"},
		{"kql/...", nil, "kql is a public library and stands alone"},
		{"trustlist/...", []string{"hcert/..."}, "trustlist is a public library over hcert"},
		{"hsm/...", []string{"internal/..."}, "private keys live where nothing else does"},
		{"vnet/...", []string{"internal/..."}, "the network knows no service"},
		{"cmk/...", []string{"azure/client", "internal/..."}, "customer-managed keys reach the vault over the wire"},
		{"azure/rest", []string{"internal/..."}, "what all Azure APIs share knows none of them"},
		{"azure/rbac", []string{"internal/..."}, "role evaluation is an engine without services"},
		{"azure/client", []string{"azure/rest", "internal/..."}, "the workload's door to the platform is the wire, not a package"},
		{"azure/csi/...", []string{"azure/client", "internal/..."}, "the provider reaches the vault as every workload does, and has no right of its own"},
		{"azure/keyvault/...", []string{"azure/rest", "azure/rbac", "hsm/...", "internal/..."}, "a service never imports another service"},
		{"azure/loganalytics/...", []string{"azure/rest", "azure/rbac", "kql/...", "internal/..."}, "a service never imports another service"},
		{"azure/mysql/...", []string{"azure/rest", "azure/rbac", "cmk/...", "internal/..."}, "a service never imports another service"},
		{"azure/*/...", []string{"azure/rest", "azure/rbac", "internal/..."}, "a service never imports another service"},
		{"dcc/wire", []string{"hcert/...", "certlogic"}, "messages between services hold no behaviour"},
		{"dcc/connector/...", slices.Concat(public, []string{"dcc/wire", "azure/client", "azure/rest", "internal/..."}), "the workload never imports the platform"},
		{"dcc/portal/...", slices.Concat(public, []string{"dcc/wire", "azure/client", "azure/rest", "web/...", "internal/..."}), "the workload never imports the platform"},
		{"dcc/*/...", slices.Concat(public, []string{"dcc/wire", "dcc/connector", "azure/client", "azure/rest", "internal/..."}), "the workload never imports the platform, nor another service's code"},
		{"estate/...", slices.Concat(public, []string{"hsm/...", "vnet/...", "cmk/...", "azure/...", "dcc/...", "web/...", "internal/..."}), "the estate assembles everything but the command line and the tests"},
		{"web/...", nil, "assets import nothing"},
		{"internal/...", nil, "foundations have no domain word in them"},
		{"test/...", []string{"..."}, "the whole-estate tests may use anything and nobody imports them"},
	}
}

// Check holds packages against rules and returns every violation, in the
// packages' order; rows that govern nothing come last.
func Check(rules []Rule, packages []Package) []Violation {
	var found []Violation
	used := make([]bool, len(rules))
	for _, p := range packages {
		i := slices.IndexFunc(rules, func(r Rule) bool { return matches(r.Of, p.Path) })
		if i < 0 {
			found = append(found, Violation{Package: p.Path, Why: "no rule governs this package; add it to the table with a reason"})
			continue
		}
		used[i] = true
		for _, imported := range p.Imports {
			if !allowed(rules[i], p.Path, imported) {
				found = append(found, Violation{p.Path, imported, rules[i].Why})
			}
		}
	}
	for i, r := range rules {
		if !used[i] {
			found = append(found, Violation{Package: r.Of, Why: "this rule governs no package; delete it"})
		}
	}
	return found
}

func allowed(r Rule, importer, imported string) bool {
	depth := strings.Count(strings.TrimSuffix(r.Of, "/..."), "/") + 1
	own := strings.Join(strings.Split(importer, "/")[:depth], "/")
	if matches(own+"/...", imported) {
		return true
	}
	return slices.ContainsFunc(r.May, func(pattern string) bool { return matches(pattern, imported) })
}

// matches reports whether the package path p is matched by pattern.
func matches(pattern, p string) bool {
	if pattern == "..." {
		return true
	}
	stem, deep := strings.CutSuffix(pattern, "/...")
	if !deep {
		ok, _ := path.Match(pattern, p)
		return ok
	}
	parts := strings.Split(p, "/")
	n := strings.Count(stem, "/") + 1
	if len(parts) < n {
		return false
	}
	ok, _ := path.Match(stem, strings.Join(parts[:n], "/"))
	return ok
}

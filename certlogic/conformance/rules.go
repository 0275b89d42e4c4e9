package conformance

import (
	"encoding/json"
	"fmt"
	"path"

	"verdant/certlogic"
)

// RuleTest is the outcome of one test of a rule. A rule without tests has one
// outcome: whether it is well-formed.
type RuleTest struct {
	File   string `json:"file"`
	Rule   string `json:"rule"`
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	// Value is what the rule's logic evaluated to.
	Value any `json:"value"`
	// Error says why there is no value, or how it differs.
	Error string `json:"error"`
}

// WellFormed is the name of the outcome of a rule without tests.
const WellFormed = "the rule is well-formed"

// ruleFile is a rule that tests may be about.
type ruleFile struct {
	file   file
	id     string
	logic  *certlogic.Expr
	err    error
	tested bool
}

// RunRules runs every test of a rule below dir. Rules are applied as the EU's
// verifiers do: what is malformed fails only where it is reached.
func RunRules(dir string) ([]RuleTest, error) {
	files, err := read(dir)
	if err != nil {
		return nil, err
	}
	rules := map[string][]*ruleFile{} // by directory
	var order []*ruleFile
	var out []RuleTest
	for _, f := range files {
		switch {
		case f.err != nil:
			out = append(out, RuleTest{File: f.name, Error: f.err.Error()})
		case f.has["Logic"] != nil:
			r := &ruleFile{file: f}
			_ = json.Unmarshal(f.has["Identifier"], &r.id)
			r.logic, _, r.err = certlogic.ParseTolerant(f.has["Logic"])
			rules[path.Dir(f.name)] = append(rules[path.Dir(f.name)], r)
			order = append(order, r)
		}
	}
	for _, f := range files {
		if f.err == nil && f.has["Logic"] == nil && f.has["payload"] != nil && f.has["expected"] != nil {
			out = append(out, f.testOf(rules))
		}
	}
	for _, r := range order {
		if !r.tested {
			out = append(out, r.wellFormed())
		}
	}
	return out, nil
}

// testOf runs the test that a file holds on the rule in its directory, or in
// the one above.
func (f file) testOf(rules map[string][]*ruleFile) RuleTest {
	t := RuleTest{File: f.name}
	_ = json.Unmarshal(f.has["name"], &t.Name)
	dir := path.Dir(f.name)
	found := rules[dir]
	if len(found) == 0 {
		found = rules[path.Dir(dir)]
	}
	if len(found) != 1 {
		t.Error = fmt.Sprintf("there are %d rules beside the test, not one", len(found))
		return t
	}
	r := found[0]
	r.tested, t.Rule = true, r.id
	if r.err != nil {
		t.Error = r.err.Error()
		return t
	}
	data := map[string]any{}
	for _, key := range []string{"payload", "external"} {
		if f.has[key] == nil {
			continue
		}
		v, err := certlogic.FromJSON(f.has[key])
		if err != nil {
			t.Error = fmt.Sprintf("%s: %v", key, err)
			return t
		}
		data[key] = v
	}
	in, err := certlogic.FromAny(data)
	if err != nil {
		t.Error = err.Error()
		return t
	}
	v, err := r.logic.Evaluate(in)
	if err != nil {
		t.Error = err.Error()
		return t
	}
	t.Value = v
	switch ok, err := agrees(v, f.has["expected"]); {
	case err != nil:
		t.Error = err.Error()
	case !ok:
		t.Error = fmt.Sprintf("got %s, want %s", v, f.has["expected"])
	default:
		t.Passed = true
	}
	return t
}

func (r *ruleFile) wellFormed() RuleTest {
	t := RuleTest{File: r.file.name, Rule: r.id, Name: WellFormed}
	// An object of members always encodes.
	src, _ := json.Marshal(r.file.has)
	if _, err := certlogic.ParseRule(src); err != nil {
		t.Error = err.Error()
		return t
	}
	t.Passed = true
	return t
}

package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSuitesAreRunAsTheirFormatSays(t *testing.T) {
	dir := write(t, map[string]string{
		"a.json": `{"name": "evaluation", "cases": [{"name": "one", "certLogicExpression": {"var": "x"}, "assertions": [
			{"data": {"x": 1}, "expected": 1}, {"data": {"x": 1}, "expected": 2}, {"data": {}, "expected": 3, "directive": "skip"},
			{"certLogicExpression": {"in": [1, 2]}, "data": {}, "expected": true}, {"certLogicExpression": {"plusTime": ["2021", 0, "day"]}, "data": null, "expected": "2021-12-31T00:00:00.000Z"}]}]}`,
		"b.json": `{"name": "validation", "cases": [{"name": "no issue", "certLogicExpression": true, "issues": []},
			{"certLogicExpression": {"and": [null, {"or": 1}]}, "issues": [{"expr": null, "message": "x"}, {"expr": {"or": 1}, "message": "y"}]},
			{"certLogicExpression": null, "issues": [{"expr": null, "message": "z"}]},
			{"certLogicExpression": {"or": 1}, "issues": []}, {"certLogicExpression": {"or": 1}, "issues": [{"expr": {"or": 2}, "message": ""}]}]}`,
		"c.json":         `{"name": "skipped", "directive": "skip", "cases": [{"name": "x", "assertions": [{"certLogicExpression": 1, "data": null, "expected": 2}]}]}`,
		"d.json":         `{"cases": 1}`,
		"e.json":         `{`,
		"f.json":         `[{"cases": []}]`,
		"schemas/x.json": `{"type": "object"}`,
		"notes.txt":      `{"cases": []}`,
	})
	results, err := RunSuites(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		what := "failed"
		if r.Passed {
			what = "passed"
		}
		if r.Skipped {
			what += ", skipped"
		}
		got = append(got, fmt.Sprintf("%s %d/%d %s", r.File, r.Case, r.Assertion, what))
		if (r.Error == "") != r.Passed {
			t.Errorf("%+v: passed and error do not go together", r)
		}
	}
	want := `a.json 0/0 passed
a.json 0/1 failed
a.json 0/2 failed, skipped
a.json 0/3 failed
a.json 0/4 passed
b.json 0/0 passed
b.json 1/0 passed
b.json 2/0 passed
b.json 3/0 failed
b.json 4/0 failed
c.json 0/0 failed, skipped
d.json 0/0 failed
e.json 0/0 failed`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if line, err := json.Marshal(results[0]); err != nil || string(line) != `{"file":"a.json","suite":"evaluation","name":"one","case":0,"assertion":0,"passed":true,"value":1,"error":""}` {
		t.Errorf("JSON: got %s, %v", line, err)
	}
}

func TestRulesAreRunWithTheTestsBesideThem(t *testing.T) {
	rule := func(logic string) string {
		return `{"Identifier": "VR-XX-0001", "Type": "Acceptance", "Country": "XX", "Version": "1.0.0", "SchemaVersion": "1.0.0", "Engine": "CERTLOGIC", "EngineVersion": "1.0.0",
			"CertificateType": "General", "Description": [], "ValidFrom": "2021-01-01T00:00:00Z", "ValidTo": "2031-01-01T00:00:00Z", "AffectedFields": [], "Logic": ` + logic + `}`
	}
	const yes, no = `{"name": "yes", "payload": {"v": [1]}, "external": {"validationClock": "2021-01-01"}, "expected": true}`, `{"name": "no", "payload": {}, "expected": false}`
	dir := write(t, map[string]string{
		"A/rule.json": rule(`{"!": [{"!": [{"var": "payload.v.0"}]}]}`), "A/tests/1.json": yes, "A/tests/2.json": no,
		"B/rule.json": rule(`true`), "B/test.json": no,
		"C/rule.json": rule(`{"or": [1]}`), "C/tests/1.json": yes,
		"D/rule.json": rule(`true`), "E/rule.json": rule(`{"or": [1]}`), "F/tests/1.json": yes, "G/x.json": `{}`,
	})
	results, err := RunRules(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%s %s %q %v %v", r.File, r.Rule, r.Name, r.Passed, r.Value))
		if (r.Error == "") != r.Passed {
			t.Errorf("%+v: passed and error do not go together", r)
		}
	}
	want := `A/tests/1.json VR-XX-0001 "yes" true true
A/tests/2.json VR-XX-0001 "no" true false
B/test.json VR-XX-0001 "no" false true
C/tests/1.json VR-XX-0001 "yes" false <nil>
F/tests/1.json  "yes" false <nil>
D/rule.json VR-XX-0001 "the rule is well-formed" true <nil>
E/rule.json VR-XX-0001 "the rule is well-formed" false <nil>`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

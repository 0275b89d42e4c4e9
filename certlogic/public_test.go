package certlogic

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestEveryFailedPublicRuleIsExplained: whatever fails of the public rules
// gives a reason with the data that decided; the earliest time, where there is
// one, is the first at which it passes, and it holds until the time said.
func TestEveryFailedPublicRuleIsExplained(t *testing.T) {
	tests, _ := filepath.Glob("../../shared/data/rules/*/*/tests/*.json")
	if len(tests) == 0 {
		t.Skip("public test data is not beside the repository")
	}
	failed, timed := 0, 0
	for _, name := range tests {
		src, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(name)), "rule.json"))
		if err != nil {
			t.Fatal(err)
		}
		rule, err := ParseRule(src)
		if err != nil {
			t.Fatal(err)
		}
		if src, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		var test struct {
			Payload  map[string]any
			External struct {
				ValidationClock string
				ValueSets       map[string][]string
			}
			Expected bool
		}
		if err := json.Unmarshal(src, &test); err != nil {
			t.Fatal(err)
		}
		if test.Expected {
			continue
		}
		failed++
		if test.Payload["ver"] == nil {
			test.Payload["ver"] = "1.3.0"
		}
		clock, err := time.Parse(time.RFC3339, test.External.ValidationClock)
		if err != nil {
			clock = time.Date(2021, 8, 1, 0, 0, 0, 0, time.UTC)
		}
		payload, err := FromAny(test.Payload)
		if err != nil {
			t.Fatal(err)
		}
		sets, err := NewValueSets(test.External.ValueSets)
		if err != nil {
			t.Fatal(err)
		}
		in := &Input{Payload: payload, Clock: clock, ValueSets: sets}
		ex := rule.Explain(in)
		if ex.Result.Outcome != Failed || len(ex.Reasons) == 0 || !ex.TimeKnown {
			t.Errorf("%s: got %s, %v, reasons %v", name, ex.Result.Outcome, ex.Result.Err, ex.Reasons)
		}
		for _, reason := range ex.Reasons {
			if len(reason.Facts) == 0 {
				t.Errorf("%s: no data in %s", name, reason)
			}
			t.Logf("%s: %s", rule.Identifier, reason)
		}
		outcome := func(at time.Time) Outcome {
			then := *in
			then.Clock = at
			return rule.Evaluate(then.Data()).Outcome
		}
		if ex.Earliest.IsZero() {
			if got := outcome(clock.AddDate(0, 1, 0)); got == Passed {
				t.Errorf("%s: it passes in a month", name)
			}
			continue
		}
		timed++
		if outcome(ex.Earliest) != Passed || outcome(ex.Earliest.Add(-time.Millisecond)) == Passed {
			t.Errorf("%s: %v is not the earliest time", name, ex.Earliest)
		}
		if !ex.Until.IsZero() && (outcome(ex.Until) == Passed || outcome(ex.Until.Add(-time.Millisecond)) != Passed) {
			t.Errorf("%s: %v is not the end", name, ex.Until)
		}
	}
	if failed != 145 || timed == 0 {
		t.Errorf("got %d failed tests, %d of them by time, want 145", failed, timed)
	}
}

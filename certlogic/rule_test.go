package certlogic

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// ruleSource is a rule in JSON, with members changed.
func ruleSource(logic string, changes map[string]any) []byte {
	r := map[string]any{"Identifier": "VR-IE-0001", "Type": "Acceptance", "Country": "IE", "Version": "1.0.0", "SchemaVersion": "1.0.0",
		"Engine": "CERTLOGIC", "EngineVersion": "0.7.5", "CertificateType": "Vaccination",
		"Description": []any{map[string]any{"lang": "en", "desc": "Fourteen days must have passed."}, map[string]any{"lang": "de", "desc": "Vierzehn Tage müssen vergangen sein."}},
		"ValidFrom":   "2021-06-01T00:00:00Z", "ValidTo": "2030-06-01T00:00:00Z", "AffectedFields": []string{"v.0.dt"}, "Logic": json.RawMessage(logic)}
	for k, v := range changes {
		if v == nil {
			delete(r, k)
		} else {
			r[k] = v
		}
	}
	src, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return src
}

func newRule(t testing.TB, logic string, changes map[string]any) *Rule {
	t.Helper()
	r, err := ParseRule(ruleSource(logic, changes))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	ms, err := parseDate(s)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(ms).UTC()
}

func vaccination(t testing.TB, date, clock string) *Input {
	t.Helper()
	return &Input{Payload: mustData(t, fmt.Sprintf(`{"ver": "1.3.0", "dob": "1990-01", "v": [{"dt": %q, "mp": "EU/1/20/1528", "dn": 2, "sd": 2}]}`, date)),
		Clock: at(t, clock), Country: "IE", Issuer: "DE"}
}

func TestARuleIsReadStrictly(t *testing.T) {
	r := newRule(t, `true`, map[string]any{"Region": "north", "Country": "ie", "ValidTo": "2030-06-01T02:00:00.5+02:00"})
	if r.Country != "IE" || r.Region != "north" || r.Version != (Version{1, 0, 0}) || !r.ValidTo.Equal(at(t, "2030-06-01T00:00:00.5Z")) || r.Describe("fr", "de") != "Vierzehn Tage müssen vergangen sein." || r.Describe("fr") != "Fourteen days must have passed." {
		t.Errorf("got %+v", r)
	}
	for name, src := range map[string][]byte{
		"no JSON":                     []byte("{"),
		"no object":                   []byte("[]"),
		"an unknown type":             ruleSource("true", map[string]any{"Type": "Suggestion"}),
		"an unknown certificate type": ruleSource("true", map[string]any{"CertificateType": "Passport"}),
		"a version of two parts":      ruleSource("true", map[string]any{"Version": "1.0"}),
		"a negative version":          ruleSource("true", map[string]any{"EngineVersion": "1.-1.0"}),
		"no identifier":               ruleSource("true", map[string]any{"Identifier": nil}),
		"a country of three letters":  ruleSource("true", map[string]any{"Country": "IRL"}),
		"no logic":                    ruleSource("true", map[string]any{"Logic": nil}),
		"a date that does not exist":  ruleSource("true", map[string]any{"ValidFrom": "2021-02-30T00:00:00Z"}),
		"logic with a problem":        ruleSource(`{"or": [1, 2]}`, nil),
		"logic that is null":          ruleSource(`null`, nil),
		"over the limit":              ruleSource("true", map[string]any{"AffectedFields": []string{strings.Repeat("x", MaxSource)}}),
	} {
		if r, err := ParseRule(src); err == nil {
			t.Errorf("%s: got %+v", name, r)
		}
	}
}

func TestSelectionIsTheEUs(t *testing.T) {
	rule := func(id string, changes map[string]any) *Rule {
		changes["Identifier"] = id
		return newRule(t, "true", changes)
	}
	type m = map[string]any
	set := NewRuleSet(
		rule("VR-IE-0001", m{"Version": "1.0.0"}), rule("VR-IE-0001", m{"Version": "1.10.0"}), rule("VR-IE-0001", m{"Version": "1.9.0"}),
		rule("VR-IE-0001", m{"Version": "2.0.0", "ValidFrom": "2022-01-01T00:00:00Z"}),
		rule("VR-IE-0002", m{"ValidTo": "2021-07-01T00:00:00Z"}),
		rule("GR-IE-0001", m{"CertificateType": "General"}), rule("TR-IE-0001", m{"CertificateType": "Test"}),
		rule("VR-IE-0003", m{"Region": "north"}), rule("VR-DE-0001", m{"Country": "DE"}),
		rule("IR-DE-0001", m{"Country": "DE", "Type": "Invalidation", "CertificateType": "General"}), rule("IR-IE-0001", m{"Type": "Invalidation"}),
	)
	for name, test := range map[string]struct {
		sel  Selection
		want string
	}{
		"by country, type and time, the highest valid version": {Selection{Country: "IE", CertificateType: Vaccination, At: at(t, "2021-08-01")}, "GR-IE-0001 1.0.0, VR-IE-0001 1.10.0"},
		"a newer version when it is in force":                  {Selection{Country: "ie", CertificateType: Vaccination, At: at(t, "2022-01-01")}, "GR-IE-0001 1.0.0, VR-IE-0001 2.0.0"},
		"until the last moment of its validity":                {Selection{Country: "IE", CertificateType: Vaccination, At: at(t, "2021-07-01")}, "GR-IE-0001 1.0.0, VR-IE-0001 1.10.0, VR-IE-0002 1.0.0"},
		"a region's and its country's":                         {Selection{Country: "IE", Region: "NORTH", CertificateType: Vaccination, At: at(t, "2021-08-01")}, "GR-IE-0001 1.0.0, VR-IE-0001 1.10.0, VR-IE-0003 1.0.0"},
		"another type of certificate":                          {Selection{Country: "IE", CertificateType: Test, At: at(t, "2021-08-01")}, "GR-IE-0001 1.0.0, TR-IE-0001 1.0.0"},
		"all types":                                            {Selection{Country: "IE", At: at(t, "2021-08-01")}, "GR-IE-0001 1.0.0, TR-IE-0001 1.0.0, VR-IE-0001 1.10.0"},
		"what the country of issuance invalidates":             {Selection{Country: "IE", Issuer: "DE", CertificateType: Test, At: at(t, "2021-08-01")}, "IR-DE-0001 1.0.0, GR-IE-0001 1.0.0, TR-IE-0001 1.0.0"},
		"before any is in force":                               {Selection{Country: "IE", At: at(t, "2021-05-31")}, ""},
	} {
		var got []string
		for _, r := range set.Select(test.sel) {
			got = append(got, r.Identifier+" "+r.Version.String())
		}
		if g := strings.Join(got, ", "); g != test.want {
			t.Errorf("%s: got %s, want %s", name, g, test.want)
		}
	}
}

func TestOnlyTruePasses(t *testing.T) {
	in := vaccination(t, "2021-07-01", "2021-08-01")
	for logic, want := range map[string]Outcome{
		`true`: Passed, `false`: Failed, `0`: Failed, `""`: Failed, `{"var": "nothing"}`: Failed, `1`: Open, `"yes"`: Open,
		`{"plusTime": ["2021-01-01", 0, "day"]}`: Open, `{"in": [1, 2]}`: Open,
		`{"===": [{"var": "external.issuerCountryCode"}, "DE"]}`: Passed, `{"===": [{"var": "external.countryCode"}, "IE"]}`: Passed,
	} {
		got := Evaluate([]*Rule{newRule(t, logic, nil)}, in)
		if got[0].Outcome != want || (got[0].Err == nil) != (want != Open) || Accepted(got) != (want == Passed) {
			t.Errorf("%s: got %s, %v, want %s", logic, got[0].Outcome, got[0].Err, want)
		}
	}
	for name, changes := range map[string]map[string]any{
		"another engine":    {"Engine": "JSONLOGIC"},
		"a newer engine":    {"EngineVersion": "1.4.0"},
		"a newer schema":    {"SchemaVersion": "1.3.1"},
		"an earlier schema": {"SchemaVersion": "0.9.0"},
		"a later schema":    {"SchemaVersion": "2.0.0"},
	} {
		if got := Evaluate([]*Rule{newRule(t, "true", changes)}, in)[0]; got.Outcome != Open {
			t.Errorf("%s: got %s", name, got.Outcome)
		}
	}
	in.Payload = mustData(t, `{}`)
	if got := Evaluate([]*Rule{newRule(t, "true", nil)}, in)[0]; got.Outcome != Open {
		t.Errorf("a certificate without a version: got %s", got.Outcome)
	}
}

// TestWhatIsMalformedFailsOnlyWhereItIsReached: as the EU's verifiers do.
func TestWhatIsMalformedFailsOnlyWhereItIsReached(t *testing.T) {
	for logic, want := range map[string]string{
		`{"if": [true, 1, {"or": [1]}]}`:                        "1",
		`{"if": [true, 1, 2, 3, {"or": 1}]}`:                    "1",
		`{"if": [false, 1, {"or": [1]}]}`:                       "!$.if[2]",
		`{"and": [0, null, 1.5, {}]}`:                           "0",
		`{"and": [1, null]}`:                                    "!$.and[1]",
		`{"!": [0, 1]}`:                                         "true",
		`{"!": []}`:                                             "!",
		`{"plusTime": ["2021-06-01", 1, "day", "x"]}`:           `"2021-06-02T00:00:00.000Z"`,
		`{"plusTime": ["2021-06-01", 1, "days"]}`:               "!$",
		`{"plusTime": ["2021-06-01", "1", "day"]}`:              "!$",
		`{"plusTime": ["2021-06-01"]}`:                          "!$",
		`{"===": [1, 1, 1]}`:                                    "!$",
		`{"<": [1, 2, 3, 4]}`:                                   "!$",
		`{"and": [true]}`:                                       "!$",
		`{"reduce": [[1], {"var": "current"}, 0, 0]}`:           "1",
		`{"reduce": [[], {"or": 1}, 7]}`:                        "7",
		`{"var": "a..b"}`:                                       "null",
		`{"var": ["a"]}`:                                        "!$",
		`{"extractFromUVCI": ["a:b", 1, 2]}`:                    `"b"`,
		`{"extractFromUVCI": ["a:b", "1"]}`:                     "!$",
		`[1, {"if": []}]`:                                       "!$[1]",
		`[1, 2.5]`:                                              "!$[1]",
		`{"dccDateOfBirth": ["2004", 1]}`:                       `"2004-12-31T00:00:00.000Z"`,
		`{"after": [{"plusTime": ["2021", 0, "x"]}, {"or":1}]}`: "!$.after[0]",
	} {
		e, problems, err := ParseTolerant([]byte(logic))
		if err != nil || len(problems) == 0 {
			t.Errorf("%s: got problems %v, %v", logic, problems, err)
			continue
		}
		if _, err := Parse([]byte(logic)); err == nil {
			t.Errorf("%s: Parse accepts it", logic)
		}
		_ = e.String()
		got, err := e.Evaluate(mustData(t, `{}`))
		if where, isError := strings.CutPrefix(want, "!"); isError {
			if err == nil || !strings.HasPrefix(err.Error(), where) {
				t.Errorf("%s: got %v, %v, want an error at %s", logic, got, err, where)
			}
		} else if err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", logic, got, err, want)
		}
	}
}

func TestARuleWithMalformedLogicIsSelectedAndOpen(t *testing.T) {
	_, err := ParseRule(ruleSource(`{"or": [1, 2]}`, nil))
	var at *LogicError
	var problems Problems
	if !errors.As(err, &at) || !errors.As(err, &problems) || len(problems) != 1 {
		t.Fatalf("got %v", err)
	}
	in := vaccination(t, "2021-07-01", "2021-08-01")
	rules := NewRuleSet(at.Rule).Select(in.Selection())
	if len(rules) != 1 {
		t.Fatalf("selected %d rules", len(rules))
	}
	for _, got := range []Result{Evaluate(rules, in)[0], at.Rule.Evaluate(in.Data()), at.Rule.Explain(in).Result} {
		if got.Outcome != Open || got.Err == nil {
			t.Errorf("got %+v", got)
		}
	}
}

func TestErrorsHoldNoValueOfTheCertificate(t *testing.T) {
	in := vaccination(t, "SECRET-DATE", "2021-08-01")
	for _, logic := range []string{`{"plusTime": [{"var": "payload.v.0.dt"}, 0, "day"]}`, `{"<": [{"var": "payload.v.0.dt"}, 1]}`, `{"in": [1, {"var": "payload.v.0.dt"}]}`,
		`{"dccDateOfBirth": [{"var": "payload.v.0.dt"}]}`, `{"+": [{"var": "payload.v.0.dt"}, 1]}`, `{"reduce": [{"var": "payload.v.0.dt"}, 1, 1]}`} {
		got := Evaluate([]*Rule{newRule(t, logic, nil)}, in)[0]
		if got.Err == nil || strings.Contains(got.Err.Error(), "SECRET") {
			t.Errorf("%s: got %v", logic, got.Err)
		}
	}
}

const fourteenDays = `{"if": [{"var": "payload.v.0"}, {"not-after": [
	{"plusTime": [{"var": "payload.v.0.dt"}, 14, "day"]}, {"plusTime": [{"var": "external.validationClock"}, 0, "day"]}, {"plusTime": [{"var": "payload.v.0.dt"}, 365, "day"]}]}, true]}`

func TestAFailedRuleIsExplained(t *testing.T) {
	in := vaccination(t, "2021-07-01", "2021-07-10T12:00:00Z")
	ex := newRule(t, fourteenDays, nil).Explain(in)
	if ex.Result.Outcome != Failed || len(ex.Descriptions) != 2 || len(ex.Reasons) != 1 {
		t.Fatalf("got %+v", ex)
	}
	want := `payload.v.0.dt + 14 days not-after external.validationClock not-after payload.v.0.dt + 365 days does not hold: payload.v.0.dt is "2021-07-01", external.validationClock is "2021-07-10T12:00:00.000Z"`
	if got := ex.Reasons[0].String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fmt.Sprint(ex.Reasons[0].Values); got != `["2021-07-15T00:00:00.000Z" "2021-07-10T12:00:00.000Z" "2022-07-01T00:00:00.000Z"]` {
		t.Errorf("values: got %s", got)
	}
	if !ex.TimeKnown || !ex.Earliest.Equal(at(t, "2021-07-15")) || !ex.Until.Equal(at(t, "2022-07-01T00:00:00.001Z")) {
		t.Errorf("got from %v until %v, %v", ex.Earliest, ex.Until, ex.TimeKnown)
	}
	if src, err := json.Marshal(ex); err != nil || !strings.Contains(string(src), `"earliest":"2021-07-15T00:00:00Z"`) {
		t.Errorf("JSON: got %s, %v", src, err)
	}
	for name, test := range map[string]struct {
		logic string
		want  []string
	}{
		"the first operand of and that fails": {`{"and": [{"var": "payload.dob"}, {"in": [{"var": "payload.v.0.mp"}, ["a"]]}, {"===": [1, 2]}]}`,
			[]string{`payload.v.0.mp in ["a"] does not hold: payload.v.0.mp is "EU/1/20/1528"`}},
		"the guard if the branch is a literal": {`{"if": [{"===": [{"var": "payload.v.0.dn"}, {"var": "payload.v.0.sd"}]}, false, true]}`,
			[]string{`payload.v.0.dn === payload.v.0.sd holds: payload.v.0.dn is 2, payload.v.0.sd is 2`}},
		"the operand of not": {`{"!": [{"var": "payload.v.0.mp"}]}`, []string{`not payload.v.0.mp does not hold: payload.v.0.mp is "EU/1/20/1528"`}},
		"both operands of a negated and": {`{"!": [{"and": [{"var": "payload.dob"}, {"===": [{"var": "payload.v.0.dn"}, 2]}]}]}`,
			[]string{`payload.dob holds: payload.dob is "1990-01"`, `payload.v.0.dn === 2 holds: payload.v.0.dn is 2`}},
		"what is missing": {`{"and": [true, {"var": "payload.r.0"}]}`, []string{`payload.r.0 does not hold: payload.r.0 is null`}},
	} {
		ex := newRule(t, test.logic, nil).Explain(in)
		var got []string
		for _, r := range ex.Reasons {
			got = append(got, r.String())
		}
		if ex.Result.Outcome != Failed || !slices.Equal(got, test.want) {
			t.Errorf("%s: got %s %q, want %q", name, ex.Result.Outcome, got, test.want)
		}
		if !ex.Earliest.IsZero() || !ex.TimeKnown {
			t.Errorf("%s: got %v, %v; time does not decide it", name, ex.Earliest, ex.TimeKnown)
		}
	}
}

// TestTheEarliestTimeIsFound: the clock, the logic, when it passes first and
// when it ceases to.
func TestTheEarliestTimeIsFound(t *testing.T) {
	const clock = `{"plusTime": [{"var": "external.validationClock"}, %s]}`
	const dt = `{"plusTime": [{"var": "payload.v.0.dt"}, %s]}`
	compare := func(op, a, b string) string { return `{"` + op + `": [` + a + `, ` + b + `]}` }
	c, d := func(s string) string { return fmt.Sprintf(clock, s) }, func(s string) string { return fmt.Sprintf(dt, s) }
	for name, test := range map[string]struct{ logic, now, from, until string }{
		"strictly after":                        {compare("after", c(`0, "day"`), d(`14, "day"`)), "2021-07-02", "2021-07-15T00:00:00.001Z", ""},
		"not before":                            {compare("not-before", c(`0, "day"`), d(`14, "day"`)), "2021-07-02", "2021-07-15", ""},
		"the clock moved by hours":              {compare("not-before", c(`-72, "hour"`), d(`0, "day"`)), "2021-07-02", "2021-07-04", ""},
		"the clock on the right":                {compare("before", d(`14, "day"`), c(`0, "day"`)), "2021-07-02", "2021-07-15T00:00:00.001Z", ""},
		"it passes now, for a while":            {compare("before", c(`0, "day"`), d(`14, "day"`)), "2021-07-02", "", "2021-07-15"},
		"too late for ever":                     {compare("before", c(`0, "day"`), d(`14, "day"`)), "2021-07-15", "", ""},
		"eighteen years after the birth":        {compare("not-before", c(`-18, "year"`), `{"dccDateOfBirth": ["2010-02"]}`), "2021-07-02", "2028-02-28", ""},
		"six months ago, over the end of one":   {compare("after", c(`-6, "month"`), d(`0, "day"`)), "2021-08-01", "2021-12-31T00:00:00.001Z", "2022-01-01"},
		"a month from now, where months differ": {compare("not-before", c(`1, "month"`), `{"plusTime": ["2022-03-02", 0, "day"]}`), "2022-01-15", "2022-01-30", "2022-02-01"},
		"a window behind a guard of the clock":  {`{"if": [` + compare("before", c(`0, "day"`), d(`30, "day"`)) + `, false, ` + compare("before", c(`0, "day"`), d(`60, "day"`)) + `]}`, "2021-07-02", "2021-07-31", "2021-08-30"},
		"one of two windows":                    {`{"and": [` + compare("after", c(`0, "day"`), d(`10, "day"`)) + `, ` + compare("after", c(`0, "day"`), d(`20, "day"`)) + `]}`, "2021-07-02", "2021-07-21T00:00:00.001Z", ""},
		"dates in an array in reduce":           {`{"reduce": [[` + d(`5, "day"`) + `, ` + d(`9, "day"`) + `], {"and": [{"var": "accumulator"}, ` + compare("before", `{"var": "current"}`, `{"plusTime": ["2030-01-01", 0, "day"]}`) + `]}, true]}`, "2021-07-02", "", ""},
		"an error until then":                   {`{"if": [` + compare("before", c(`0, "day"`), d(`3, "day"`)) + `, {"in": [1, 2]}, true]}`, "2021-07-01", "2021-07-04", ""},
	} {
		in := vaccination(t, "2021-07-01", test.now)
		from, until, known := newRule(t, test.logic, nil).window(in)
		want := func(s string) time.Time {
			if s == "" {
				return time.Time{}
			}
			return at(t, s)
		}
		if !known || !from.Equal(want(test.from)) || !until.Equal(want(test.until)) {
			t.Errorf("%s: got %v to %v, %v, want %s to %s", name, from, until, known, test.from, test.until)
		}
	}
	for name, logic := range map[string]string{
		"the clock compared as text": `{"===": [{"var": "external.validationClock"}, "2021-07-02T00:00:00.000Z"]}`,
		"the whole of external":      `{"===": [{"var": "external"}, 1]}`,
		"the whole data":             `{"===": [{"var": ""}, 1]}`,
		"too much to search":         `{"reduce": [[` + strings.Repeat("1,", 200) + `1], {"and": [{"var": "accumulator"}, ` + compare("after", c(`1, "month"`), d(`400, "year"`)) + `]}, 1]}`,
		"the clock through an if":    compare("after", `{"plusTime": [{"if": [true, {"var": "external.validationClock"}, "x"]}, 0, "day"]}`, `{"plusTime": ["2030-01-01", 0, "day"]}`),
	} {
		if ex := newRule(t, logic, nil).Explain(vaccination(t, "2021-07-01", "2021-07-01")); ex.TimeKnown || !ex.Earliest.IsZero() {
			t.Errorf("%s: got %v, %v, want not known", name, ex.Earliest, ex.TimeKnown)
		}
	}
}

// TestTheSearchAgreesWithTryingEveryHour holds the search over the clock
// against brute force.
func TestTheSearchAgreesWithTryingEveryHour(t *testing.T) {
	for _, amount := range []int{-37, -14, -1, 0, 1, 13, 400} {
		for _, unit := range []string{"hour", "day", "month", "year"} {
			for _, op := range []string{"after", "before", "not-after", "not-before"} {
				logic := fmt.Sprintf(`{%q: [{"plusTime": [{"var": "external.validationClock"}, %d, %q]}, {"plusTime": [{"var": "payload.v.0.dt"}, %d, %q]}]}`, op, amount, unit, amount, unit)
				r := newRule(t, logic, nil)
				in := vaccination(t, "2021-01-30T05:30:00Z", "2021-01-20T00:00:00Z")
				from, until, known := r.window(in)
				first, last := time.Time{}, time.Time{}
				start, passed := in.Clock, false
				for h := range 24 * 40 {
					in.Clock = start.Add(time.Duration(h) * time.Hour)
					passes := r.Evaluate(in.Data()).Outcome == Passed
					if passes && !passed && first.IsZero() && h > 0 {
						first = in.Clock
					}
					if !passes && passed {
						last = in.Clock
						break
					}
					passed = passes
				}
				near := func(exact, tried time.Time) bool {
					return tried.IsZero() || !exact.After(tried) && tried.Sub(exact) < time.Hour
				}
				if !known || !near(from, first) || !near(until, last) {
					t.Errorf("%s: got %v to %v, %v; trying gives %v to %v", logic, from, until, known, first, last)
				}
			}
		}
	}
}

func TestTwoRuleSetsAreCompared(t *testing.T) {
	type m = map[string]any
	before := NewRuleSet(newRule(t, fourteenDays, nil), newRule(t, "true", m{"Identifier": "VR-IE-0009"}), newRule(t, "true", m{"Identifier": "VR-IE-0002"}))
	after := NewRuleSet(newRule(t, strings.Replace(fourteenDays, "365", "270", 1), m{"Version": "1.1.0"}), newRule(t, `{"in": [1, 2]}`, m{"Identifier": "VR-IE-0002"}), newRule(t, "true", m{"Identifier": "VR-IE-0003"}))
	days := []string{"2021-07-01", "2021-01-01", "2020-12-01"}
	population := func(yield func(*Input) bool) {
		for _, d := range days {
			if !yield(vaccination(t, d, "2021-10-20")) {
				return
			}
		}
	}
	d := Diff(before, after, population)
	if d.Certificates != 3 || d.AcceptedBefore != 3 || d.AcceptedAfter != 0 || !slices.Equal(d.NowRefused, []int{0, 1, 2}) || d.NowAccepted != nil {
		t.Errorf("got %+v", d)
	}
	if got := fmt.Sprint(d.Rules); got != "[{VR-IE-0001 0 2 0 0} {VR-IE-0002 0 0 3 0} {VR-IE-0003 3 0 0 0} {VR-IE-0009 0 0 0 3}]" {
		t.Errorf("rules: got %s", got)
	}
	if back := Diff(after, before, population); !slices.Equal(back.NowAccepted, []int{0, 1, 2}) || len(back.Changes) != len(d.Changes) {
		t.Errorf("backwards: got %+v", back)
	}
	if same := Diff(before, before, population); same.Changes != nil || same.Rules != nil || same.AcceptedBefore != 3 {
		t.Errorf("the same: got %+v", same)
	}
}

func TestValueSetsAndInput(t *testing.T) {
	sets, err := NewValueSets(map[string][]string{"x": {"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{Payload: mustData(t, `{"t": [{}], "v": null, "r": []}`), Clock: at(t, "2021-07-01T02:00:00.1239+02:00"), ValueSets: sets, Country: "IE", Region: "north", Issuer: "DE", KID: "a2lk", IssuedAt: at(t, "2021"), Expires: at(t, "2022")}
	want := `{"payload":{"t":[{}],"v":null,"r":[]},"external":{"validationClock":"2021-07-01T00:00:00.123Z","valueSets":{"x":["a","b"]},"countryCode":"IE","region":"north","issuerCountryCode":"DE","kid":"a2lk","iat":"2021-12-31T00:00:00.000Z","exp":"2022-12-31T00:00:00.000Z"}}`
	if got := in.Data().String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if in.CertificateType() != Test {
		t.Errorf("got %s", in.CertificateType())
	}
	in.Payload = mustData(t, `{"t": [{}], "v": [{}]}`)
	if in.CertificateType() != General {
		t.Errorf("two kinds: got %s", in.CertificateType())
	}
}

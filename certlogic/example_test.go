package certlogic_test

import (
	"fmt"
	"slices"
	"time"

	"verdant/certlogic"
)

// An expression is parsed once and evaluated over any data.
func ExampleParse() {
	e, err := certlogic.Parse([]byte(`{"after": [
		{"dccDateOfBirth": [{"var": "payload.dob"}]},
		{"plusTime": [{"var": "external.validationClock"}, -18, "year"]}]}`))
	if err != nil {
		panic(err)
	}
	data, err := certlogic.FromJSON([]byte(`{"payload": {"dob": "2004-02"}, "external": {"validationClock": "2022-02-27T13:37:00Z"}}`))
	if err != nil {
		panic(err)
	}
	minor, err := e.Evaluate(data)
	fmt.Println(e)
	fmt.Println(minor, err)
	// Output:
	// dccDateOfBirth(payload.dob) after external.validationClock - 18 years
	// true <nil>
}

// Everything that is wrong is reported at once, with its place.
func ExampleProblems() {
	_, err := certlogic.Parse([]byte(`{"and": [
  {"or": [1, 2]},
  {"plusTime": [{"var": "payload..dt"}, 14, "days"]}]}`))
	fmt.Println(err)
	// Output:
	// 2:3 ($.and[0].or): "or" is not an operation
	// 3:25 ($.and[1].plusTime[0].var): the path "payload..dt" has an empty fragment
	// 3:45 ($.and[1].plusTime[2]): the unit of plusTime is "year", "month", "day" or "hour"
}

func exampleRule(version, days string) *certlogic.Rule {
	r, err := certlogic.ParseRule([]byte(`{"Identifier": "VR-IE-0001", "Type": "Acceptance", "Country": "IE", "Version": "` + version + `",
		"SchemaVersion": "1.0.0", "Engine": "CERTLOGIC", "EngineVersion": "0.7.5", "CertificateType": "Vaccination",
		"Description": [{"lang": "en", "desc": "The last dose was at least ` + days + ` days ago."}],
		"ValidFrom": "2021-06-01T00:00:00Z", "ValidTo": "2030-06-01T00:00:00Z", "AffectedFields": ["v.0.dt"],
		"Logic": {"not-before": [{"plusTime": [{"var": "external.validationClock"}, 0, "day"]}, {"plusTime": [{"var": "payload.v.0.dt"}, ` + days + `, "day"]}]}}`))
	if err != nil {
		panic(err)
	}
	return r
}

func exampleInput(date string) *certlogic.Input {
	payload, err := certlogic.FromAny(map[string]any{"ver": "1.3.0", "v": []any{map[string]any{"dt": date}}})
	if err != nil {
		panic(err)
	}
	return &certlogic.Input{Payload: payload, Clock: time.Date(2021, 7, 10, 12, 0, 0, 0, time.UTC), Country: "IE", Issuer: "DE"}
}

// A failed rule is explained in its own words, with the data that decided it
// and the time at which it will pass.
func ExampleRule_Explain() {
	in := exampleInput("2021-07-01")
	rules := certlogic.NewRuleSet(exampleRule("1.0.0", "14")).Select(in.Selection())
	for _, result := range certlogic.Evaluate(rules, in) {
		ex := result.Rule.Explain(in)
		fmt.Println(result.Rule.Identifier, result.Outcome, result.Rule.Describe("en"))
		fmt.Println("because", ex.Reasons[0])
		fmt.Println("earliest:", ex.Earliest)
	}
	// Output:
	// VR-IE-0001 failed The last dose was at least 14 days ago.
	// because external.validationClock not-before payload.v.0.dt + 14 days does not hold: external.validationClock is "2021-07-10T12:00:00.000Z", payload.v.0.dt is "2021-07-01"
	// earliest: 2021-07-15 00:00:00 +0000 UTC
}

// What would a new version of the rules change for these certificates?
func ExampleDiff() {
	before := certlogic.NewRuleSet(exampleRule("1.0.0", "14"))
	after := certlogic.NewRuleSet(exampleRule("1.1.0", "7"))
	d := certlogic.Diff(before, after, slices.Values([]*certlogic.Input{exampleInput("2021-06-01"), exampleInput("2021-07-01"), exampleInput("2021-07-09")}))
	fmt.Printf("%d certificates, %d accepted before, %d after; now accepted: %v\n", d.Certificates, d.AcceptedBefore, d.AcceptedAfter, d.NowAccepted)
	// Output:
	// 3 certificates, 1 accepted before, 2 after; now accepted: [1]
}

// A report says what came of a country's rules, and what could not be checked.
func ExampleRuleSet_Judge() {
	report := certlogic.NewRuleSet().Judge(&certlogic.Input{Country: "XY"}, certlogic.Judging{})
	fmt.Println(report.State+":", report.Why)
	// Output: not checked: no rules known for XY
}

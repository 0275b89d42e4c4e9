package certlogic

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report is what came of the rules of a country for one certificate, for
// people and for JSON. It may hold values of the certificate (Reasons): it is
// for the person who holds it, not for a log.
type Report struct {
	Country string `json:"country"`
	Region  string `json:"region,omitempty"`
	// State says what it means for the certificate.
	State State `json:"state"`
	// Known and Applied count the country's rules, and those that concern the
	// certificate at the time.
	Known   int         `json:"known"`
	Applied int         `json:"applied"`
	Results []Judgement `json:"results"`
	// Broken says which rules could not be read; with one, nothing is accepted.
	Broken []string `json:"broken,omitempty"`
	// Why says why nothing was checked.
	Why string `json:"why,omitempty"`
}

// State says what rules mean for a certificate.
type State string

// The states of a certificate under rules. What was not checked is not
// accepted: there are no rules of the country, or none that is about this type
// of certificate and in force.
const (
	StateAccepted   State = "accepted"
	StateRefused    State = "refused"
	StateNotChecked State = "not checked"
)

// Judgement is what came of one rule.
type Judgement struct {
	Rule        string    `json:"rule"`
	Version     string    `json:"version"`
	Outcome     Outcome   `json:"outcome"`
	Description string    `json:"description"`
	Error       string    `json:"error,omitempty"`
	Reasons     []Reason  `json:"reasons,omitempty"`
	Earliest    time.Time `json:"earliest,omitzero"`
	Until       time.Time `json:"until,omitzero"`
	// TimeKnown says that Earliest and Until are exact; see Explanation.
	TimeKnown bool `json:"-"`
}

// Judging says how a Report is made.
type Judging struct {
	// Languages are the reader's, the first preferred.
	Languages []string
	// Explain adds why a rule failed, and when it will pass.
	Explain bool
	// Broken says which rules of the country could not be read.
	Broken []string
}

// Judge applies the rules of the set that concern a certificate (Input names
// the country of destination, its region and the country of issuance) and
// reports what came of them.
func (s *RuleSet) Judge(in *Input, how Judging) *Report {
	rules := s.Select(in.Selection())
	r := &Report{Country: in.Country, Region: in.Region, State: StateAccepted, Known: len(how.Broken), Applied: len(rules), Broken: how.Broken, Results: []Judgement{}}
	for _, rule := range s.rules {
		if strings.EqualFold(rule.Country, in.Country) {
			r.Known++
		}
	}
	for i, result := range Evaluate(rules, in) {
		j := Judgement{Rule: rules[i].Identifier, Version: rules[i].Version.String(), Outcome: result.Outcome, Description: rules[i].Describe(how.Languages...)}
		if result.Err != nil {
			j.Error = result.Err.Error()
		}
		if how.Explain && result.Outcome == Failed {
			ex := rules[i].Explain(in)
			j.Reasons, j.Earliest, j.Until, j.TimeKnown = ex.Reasons, ex.Earliest, ex.Until, ex.TimeKnown
		}
		if result.Outcome != Passed {
			r.State = StateRefused
		}
		r.Results = append(r.Results, j)
	}
	switch {
	case len(r.Broken) > 0:
		r.State = StateRefused
	case r.State == StateRefused:
	case r.Known == 0:
		r.State, r.Why = StateNotChecked, "no rules known for "+r.Country
	case !slices.ContainsFunc(rules, func(rule *Rule) bool { return strings.EqualFold(rule.Country, in.Country) }):
		r.State = StateNotChecked
		r.Why = fmt.Sprintf("none of the %d rules of %s is about this type of certificate and in force at this time", r.Known, r.Country)
	}
	return r
}

// Unchecked is the report of a country whose rules cannot be had.
func Unchecked(country, region, why string) *Report {
	return &Report{Country: country, Region: region, State: StateNotChecked, Why: why, Results: []Judgement{}}
}

// Refusers names the rules that did not pass.
func (r *Report) Refusers() string {
	var ids []string
	for _, j := range r.Results {
		if j.Outcome != Passed {
			ids = append(ids, j.Rule)
		}
	}
	if len(ids) == 0 {
		return fmt.Sprintf("%d rules that cannot be read", len(r.Broken))
	}
	return "rule " + strings.Join(ids, ", ")
}

// ReadRules parses rules as a gateway gives them, and says why others cannot
// be read. One whose logic has problems is among the rules: it is open where
// it applies.
func ReadRules(sources [][]byte) (rules []*Rule, broken []string) {
	for _, src := range sources {
		rule, err := ParseRule(src)
		var malformed *LogicError
		switch {
		case err == nil:
			rules = append(rules, rule)
		case errors.As(err, &malformed):
			rules = append(rules, malformed.Rule)
		default:
			broken = append(broken, err.Error())
		}
	}
	return rules, broken
}

package certlogic

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ValueSets are the codes that rules compare with, by the identifier of their
// set, ready for evaluation.
type ValueSets struct{ value Value }

// NewValueSets returns value sets of codes, inactive ones too: the EU's own
// verifiers do not tell them apart.
func NewValueSets(codes map[string][]string) (*ValueSets, error) {
	v, err := FromAny(codes)
	if err != nil {
		return nil, fmt.Errorf("value sets: %w", err)
	}
	return &ValueSets{v}, nil
}

// Input is what rules are evaluated on.
type Input struct {
	// Payload is the certificate's DCC payload.
	Payload Value
	// Clock is the validation clock.
	Clock time.Time
	// ValueSets may be nil.
	ValueSets *ValueSets
	// Country and Region are where the holder goes, Issuer where the
	// certificate is from.
	Country, Region, Issuer string
	// KID names the document signer, in base64.
	KID string
	// IssuedAt and Expires are the certificate's iat and exp.
	IssuedAt, Expires time.Time
}

// Data is the data that the rules see: payload and external.
func (in *Input) Data() Value {
	keys := []string{"validationClock"}
	items := []Value{StringValue(formatDate(in.Clock.UnixMilli()))}
	add := func(key string, v Value) { keys, items = append(keys, key), append(items, v) }
	if in.ValueSets != nil {
		add("valueSets", in.ValueSets.value)
	}
	for _, f := range []struct{ key, text string }{{"countryCode", in.Country}, {"region", in.Region}, {"issuerCountryCode", in.Issuer}, {"kid", in.KID}} {
		if f.text != "" {
			add(f.key, StringValue(f.text))
		}
	}
	for _, f := range []struct {
		key string
		at  time.Time
	}{{"iat", in.IssuedAt}, {"exp", in.Expires}} {
		if !f.at.IsZero() {
			add(f.key, StringValue(formatDate(f.at.UnixMilli())))
		}
	}
	return objectValue([]string{"payload", "external"}, []Value{in.Payload, objectValue(keys, items)})
}

// CertificateType returns the type of the certificate, or General if it holds
// no vaccination, test or recovery entry, or several kinds.
func (in *Input) CertificateType() CertificateType {
	found := General
	for _, t := range []struct {
		key string
		is  CertificateType
	}{{"v", Vaccination}, {"t", Test}, {"r", Recovery}} {
		if in.Payload.Field(t.key).Len() == 0 {
			continue
		}
		if found != General {
			return General
		}
		found = t.is
	}
	return found
}

// Selection returns the selection of the rules that concern the input.
func (in *Input) Selection() Selection {
	return Selection{Country: in.Country, Region: in.Region, Issuer: in.Issuer, CertificateType: in.CertificateType(), At: in.Clock}
}

func (in *Input) schema() (Version, error) {
	v, err := ParseVersion(in.Payload.Field("ver").Text())
	if err != nil {
		return v, errors.New("the certificate does not say its schema version (ver)")
	}
	return v, nil
}

// Outcome is what came of a rule.
type Outcome string

// A rule passed if its logic evaluated to true and failed if to a falsy value.
// Everything else is open: no decision, which is no acceptance.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
	Open   Outcome = "open"
)

// Result is what came of one rule.
type Result struct {
	Rule    *Rule
	Outcome Outcome
	// Value is what the logic evaluated to.
	Value Value
	// Err says why the rule is open.
	Err error
}

// Evaluate applies one rule to data as Input.Data makes it, whatever the rule's
// engine and schema versions are.
func (r *Rule) Evaluate(data Value) Result {
	return r.result(r.Logic.Evaluate(data))
}

func (r *Rule) result(v Value, err error) Result {
	if err != nil {
		return Result{Rule: r, Outcome: Open, Err: fmt.Errorf("rule %s: %w", r.Identifier, err)}
	}
	truthy, ok := v.truth()
	switch {
	case v.Bool():
		return Result{Rule: r, Outcome: Passed, Value: v}
	case ok && !truthy:
		return Result{Rule: r, Outcome: Failed, Value: v}
	}
	return Result{Rule: r, Outcome: Open, Value: v, Err: fmt.Errorf("rule %s: it evaluates to %s, not to a boolean", r.Identifier, v.kind)}
}

// Evaluate applies rules to a certificate. A rule for another engine, or for a
// schema that the certificate does not have, is open.
func Evaluate(rules []*Rule, in *Input) []Result {
	m := machine{data: in.Data()}
	schema, err := in.schema()
	out := make([]Result, len(rules))
	for i, r := range rules {
		why := err
		if why == nil {
			why = r.open(schema)
		}
		if why != nil {
			out[i] = Result{Rule: r, Outcome: Open, Err: fmt.Errorf("rule %s: %w", r.Identifier, why)}
			continue
		}
		m.steps = MaxSteps
		out[i] = r.result(r.Logic.eval(&m))
	}
	return out
}

// Accepted reports whether every rule passed. No rules accept.
func Accepted(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return r.Outcome != Passed })
}

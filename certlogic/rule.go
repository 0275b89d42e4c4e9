package certlogic

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RuleType says whose rule it is: a country of destination accepts, a country
// of issuance invalidates.
type RuleType string

// The types of rules.
const (
	Acceptance   RuleType = "Acceptance"
	Invalidation RuleType = "Invalidation"
)

// CertificateType is the type of certificate that a rule is about.
type CertificateType string

// The types of certificates. A General rule is about each of them.
const (
	General     CertificateType = "General"
	Vaccination CertificateType = "Vaccination"
	Test        CertificateType = "Test"
	Recovery    CertificateType = "Recovery"
)

// Version is a version x.y.z.
type Version [3]int

// supportedEngine is the newest engine version whose rules are evaluated: the
// version of the specification that is implemented.
func supportedEngine() Version { return Version{1, 3, 3} }

// ParseVersion reads x.y.z.
func ParseVersion(s string) (Version, error) {
	var v Version
	parts := strings.Split(s, ".")
	if len(parts) != len(v) {
		return v, fmt.Errorf("version %q is not of the form x.y.z", clip(s))
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || len(p) > 9 || p[0] == '+' {
			return v, fmt.Errorf("version %q is not of the form x.y.z", clip(s))
		}
		v[i] = n
	}
	return v, nil
}

// Compare orders versions.
func (v Version) Compare(w Version) int { return slices.Compare(v[:], w[:]) }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// Description is a rule's text for people in one language.
type Description struct {
	Language string `json:"lang"`
	Text     string `json:"desc"`
}

// Rule is a business rule. It must not be changed.
type Rule struct {
	Identifier      string
	Type            RuleType
	Country         string
	Region          string // "" is the whole country
	Version         Version
	SchemaVersion   Version // of the DCC schema that it was written for
	Engine          string
	EngineVersion   Version
	CertificateType CertificateType
	Descriptions    []Description
	ValidFrom       time.Time
	ValidTo         time.Time
	AffectedFields  []string
	Logic           *Expr
}

// LogicError says that a rule's logic has problems. Rule is the rule with its
// logic parsed tolerantly, for verifiers who must apply it nevertheless: it is
// open wherever a problem is in the way.
type LogicError struct {
	Rule     *Rule
	Problems Problems
}

func (e *LogicError) Error() string {
	return fmt.Sprintf("rule %q: logic: %v", clip(e.Rule.Identifier), e.Problems)
}

func (e *LogicError) Unwrap() error { return e.Problems }

// ParseRule reads a rule from the JSON that its country signed. If only its
// logic has problems, the error is a *LogicError; their places count from the
// beginning of the logic.
func ParseRule(src []byte) (*Rule, error) {
	if len(src) > MaxSource {
		return nil, fmt.Errorf("the rule is over %d bytes", MaxSource)
	}
	var raw struct {
		Identifier, Type, Country, Region, Version, SchemaVersion string
		Engine, EngineVersion, CertificateType                    string
		ValidFrom, ValidTo                                        string
		Description                                               []Description
		AffectedFields                                            []string
		Logic                                                     json.RawMessage
	}
	if err := json.Unmarshal(src, &raw); err != nil {
		return nil, fmt.Errorf("the rule does not have a rule's form: %w", err)
	}
	r := &Rule{Identifier: raw.Identifier, Type: RuleType(raw.Type), Country: strings.ToUpper(raw.Country), Region: raw.Region,
		Engine: raw.Engine, CertificateType: CertificateType(raw.CertificateType), Descriptions: raw.Description, AffectedFields: raw.AffectedFields}
	fail := func(err error) (*Rule, error) {
		return nil, fmt.Errorf("rule %q: %w", clip(raw.Identifier), err)
	}
	switch {
	case r.Identifier == "":
		return nil, errors.New("the rule has no Identifier")
	case r.Type != Acceptance && r.Type != Invalidation:
		return fail(fmt.Errorf("type %q is neither Acceptance nor Invalidation", clip(raw.Type)))
	case !slices.Contains([]CertificateType{General, Vaccination, Test, Recovery}, r.CertificateType):
		return fail(fmt.Errorf("certificate type %q is unknown", clip(raw.CertificateType)))
	case len(r.Country) != 2:
		return fail(errors.New("country is not a code of two letters"))
	case raw.Logic == nil:
		return fail(errors.New("it has no Logic"))
	}
	var err error
	for _, v := range []struct {
		name, text string
		into       *Version
	}{{"Version", raw.Version, &r.Version}, {"SchemaVersion", raw.SchemaVersion, &r.SchemaVersion}, {"EngineVersion", raw.EngineVersion, &r.EngineVersion}} {
		if *v.into, err = ParseVersion(v.text); err != nil {
			return fail(fmt.Errorf("%s: %w", v.name, err))
		}
	}
	for _, d := range []struct {
		name, text string
		into       *time.Time
	}{{"ValidFrom", raw.ValidFrom, &r.ValidFrom}, {"ValidTo", raw.ValidTo, &r.ValidTo}} {
		ms, err := parseDate(d.text)
		if err != nil {
			return fail(fmt.Errorf("%s is %w", d.name, err))
		}
		*d.into = time.UnixMilli(ms).UTC()
	}
	var problems Problems
	if r.Logic, problems, err = ParseTolerant(raw.Logic); err != nil {
		return fail(fmt.Errorf("logic: %w", err))
	}
	if len(problems) > 0 {
		return nil, &LogicError{Rule: r, Problems: problems}
	}
	return r, nil
}

// Describe returns the rule's text in the first of the languages that it has
// one in, whatever the region (fr-BE takes fr, and the reverse), else in
// English, else in the first language there is.
func (r *Rule) Describe(languages ...string) string {
	for _, want := range append(slices.Clone(languages), "en") {
		for _, d := range r.Descriptions {
			if strings.EqualFold(d.Language, want) {
				return d.Text
			}
		}
		base, _, _ := strings.Cut(want, "-")
		for _, d := range r.Descriptions {
			if have, _, _ := strings.Cut(d.Language, "-"); strings.EqualFold(have, base) {
				return d.Text
			}
		}
	}
	if len(r.Descriptions) > 0 {
		return r.Descriptions[0].Text
	}
	return ""
}

// open says why the engine must not decide the rule about a certificate of the
// schema version, or nil.
func (r *Rule) open(schema Version) error {
	switch {
	case r.Engine != "CERTLOGIC":
		return fmt.Errorf("engine %q is not CERTLOGIC", clip(r.Engine))
	case r.EngineVersion.Compare(supportedEngine()) > 0:
		return fmt.Errorf("engine version %s is above %s", r.EngineVersion, supportedEngine())
	case schema[0] != r.SchemaVersion[0] || schema.Compare(r.SchemaVersion) < 0:
		return fmt.Errorf("the rule is for schema %s, the certificate has schema %s", r.SchemaVersion, schema)
	}
	return nil
}

// RuleSet is a set of rules, of one country or many. It is immutable and safe
// for concurrent use.
type RuleSet struct{ rules []*Rule }

// NewRuleSet returns a set of rules, ordered by identifier, newest version
// first.
func NewRuleSet(rules ...*Rule) *RuleSet {
	s := &RuleSet{slices.Clone(rules)}
	slices.SortStableFunc(s.rules, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Identifier, b.Identifier), cmp.Compare(a.Region, b.Region), b.Version.Compare(a.Version))
	})
	return s
}

// Rules returns all rules of the set.
func (s *RuleSet) Rules() []*Rule { return slices.Clone(s.rules) }

// Selection says for what rules are wanted.
type Selection struct {
	// Country is the country of destination; its acceptance rules are selected.
	Country string
	// Region selects the rules of a region of it besides those of the whole
	// country; "" selects the latter only.
	Region string
	// Issuer is the country of issuance; its invalidation rules are selected.
	// "" selects none.
	Issuer string
	// CertificateType selects the rules for a type of certificate, and the
	// General ones; "" or General selects all types.
	CertificateType CertificateType
	// At is the validation clock.
	At time.Time
}

// Select returns the rules to apply: of each identifier (in each region) the
// highest version that is valid at the time.
func (s *RuleSet) Select(sel Selection) []*Rule {
	var out []*Rule
	for _, r := range s.rules {
		if !sel.wants(r) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Country == r.Country && out[n-1].Identifier == r.Identifier && strings.EqualFold(out[n-1].Region, r.Region) {
			continue // a lower version
		}
		out = append(out, r)
	}
	return out
}

func (sel Selection) wants(r *Rule) bool {
	switch r.Type {
	case Acceptance:
		if !strings.EqualFold(r.Country, sel.Country) || r.Region != "" && !strings.EqualFold(r.Region, sel.Region) {
			return false
		}
	case Invalidation:
		if sel.Issuer == "" || !strings.EqualFold(r.Country, sel.Issuer) {
			return false
		}
	default:
		return false
	}
	if t := sel.CertificateType; t != "" && t != General && r.CertificateType != General && r.CertificateType != t {
		return false
	}
	return !sel.At.Before(r.ValidFrom) && !sel.At.After(r.ValidTo)
}

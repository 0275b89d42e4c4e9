package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"verdant/certlogic"
)

// rule is a business rule as a country uploads it.
type rule struct {
	Identifier      string
	Type            string
	Country         string
	Region          string
	Version         string
	SchemaVersion   string
	Engine          string
	EngineVersion   string
	CertificateType string
	Description     []struct {
		Lang string `json:"lang"`
		Desc string `json:"desc"`
	}
	ValidFrom      string
	ValidTo        string
	AffectedFields []string
	Logic          map[string]json.RawMessage

	from, to time.Time
	version  semver
}

var (
	ruleID      = regexp.MustCompile(`^(GR|VR|TR|RR|IR)-([A-Z]{2})-\d{4}$`)
	semverShape = regexp.MustCompile(`^\d{1,9}\.\d{1,9}\.\d{1,9}$`)
	ruleDate    = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)$`)
	ruleRegion  = regexp.MustCompile(`^\w{1,100}$`)
	ruleEngine  = regexp.MustCompile(`^[A-Z]{1,50}$`)
	ruleLang    = regexp.MustCompile(`^[a-z]{2}(-[A-Z]{2})?$`)
)

var ruleFields = []string{"Identifier", "Type", "Country", "Version", "SchemaVersion", "Engine", "EngineVersion", "CertificateType", "Description", "ValidFrom", "ValidTo", "AffectedFields", "Logic"}

// parseRule reads the JSON of a rule and checks it against the schema of the
// gateway: names in their exact spelling, none missing, none unknown, nothing
// after the object.
func parseRule(content []byte) (*rule, error) {
	if !utf8.Valid(content) {
		return nil, errors.New("the rule is not UTF-8")
	}
	var names map[string]json.RawMessage
	if err := json.Unmarshal(content, &names); err != nil {
		return nil, fmt.Errorf("the rule is not one JSON object: %w", err)
	}
	for name := range names {
		if name != "Region" && !slices.Contains(ruleFields, name) {
			return nil, fmt.Errorf("field %.40q is unknown", name)
		}
	}
	for _, name := range ruleFields {
		if raw, ok := names[name]; !ok || bytes.Equal(raw, []byte("null")) {
			return nil, fmt.Errorf("field %s is missing", name)
		}
	}
	r := new(rule)
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("the rule does not fit its schema: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the rule")
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, checkLogic(content)
}

// checkLogic refuses logic that is not CertLogic, with the place in the rule:
// every member state would have to treat it as undecided.
func checkLogic(content []byte) error {
	dec := json.NewDecoder(bytes.NewReader(content))
	if _, err := dec.Token(); err != nil { // the object's beginning
		return fmt.Errorf("the rule is not one JSON object: %w", err)
	}
	seen := map[json.Token]bool{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fmt.Errorf("the rule is not one JSON object: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("field %.40q is there twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("field %.40q: %w", name, err)
		}
		if name == "Logic" {
			if err := logicProblem(content, value, int(dec.InputOffset())-len(value)); err != nil {
				return err
			}
		}
	}
	return nil
}

func logicProblem(content, logic []byte, offset int) error {
	_, err := certlogic.Parse(logic)
	var problems certlogic.Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		if err != nil {
			return fmt.Errorf("field Logic: %w", err)
		}
		return nil
	}
	p := problems[0]
	before := content[:min(offset+p.Offset, len(content))]
	line, column := bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n')
	more := ""
	if n := len(problems) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more problems)", n)
	}
	return fmt.Errorf("field Logic at line %d, column %d of the rule (%s): %s%s", line, column, p.Path, p.Message, more)
}

// check holds the fields against the schema.
func (r *rule) check() error {
	for name, ok := range map[string]bool{
		"Identifier":      ruleID.MatchString(r.Identifier),
		"Type":            r.Type == "Acceptance" || r.Type == "Invalidation",
		"Country":         len(r.Country) == 2 && r.Country == strings.ToUpper(r.Country),
		"Region":          r.Region == "" || ruleRegion.MatchString(r.Region),
		"Version":         semverShape.MatchString(r.Version),
		"SchemaVersion":   semverShape.MatchString(r.SchemaVersion),
		"Engine":          ruleEngine.MatchString(r.Engine),
		"EngineVersion":   semverShape.MatchString(r.EngineVersion),
		"CertificateType": slices.Contains([]string{"General", "Test", "Vaccination", "Recovery"}, r.CertificateType),
		"ValidFrom":       ruleDate.MatchString(r.ValidFrom),
		"ValidTo":         ruleDate.MatchString(r.ValidTo),
		"AffectedFields":  len(r.AffectedFields) > 0 && !slices.Contains(r.AffectedFields, ""),
		"Logic":           len(r.Logic) > 0,
	} {
		if !ok {
			return fmt.Errorf("field %s has a value that the schema does not allow", name)
		}
	}
	english := false
	for _, d := range r.Description {
		if !ruleLang.MatchString(d.Lang) || utf8.RuneCountInString(d.Desc) < 20 {
			return errors.New("field Description needs a language and at least 20 characters in each entry")
		}
		english = english || d.Lang == "en"
	}
	if !english {
		return errors.New("field Description lacks an entry in English (en)")
	}
	var err error
	if r.from, err = time.Parse(time.RFC3339, r.ValidFrom); err != nil {
		return errors.New("field ValidFrom is no date")
	}
	if r.to, err = time.Parse(time.RFC3339, r.ValidTo); err != nil {
		return errors.New("field ValidTo is no date")
	}
	r.version = parseSemver(r.Version)
	return nil
}

// checkID holds the identifier against the type of rule and of certificate.
func (r *rule) checkID() error {
	prefix := r.Identifier[:2]
	if (prefix == "IR") != (r.Type == "Invalidation") {
		return fmt.Errorf("an identifier begins with IR exactly for invalidation rules")
	}
	want := map[string]string{"TR": "Test", "VR": "Vaccination", "RR": "Recovery", "GR": "General"}[prefix]
	if prefix != "IR" && r.CertificateType != want {
		return fmt.Errorf("an identifier %s is for certificate type %s", prefix, want)
	}
	return nil
}

// checkTimes holds the validity against the gateway's terms of notice.
func (r *rule) checkTimes(now time.Time, previousFrom time.Time) error {
	const day = 24 * time.Hour
	switch {
	case !r.to.After(r.from):
		return errors.New("ValidTo must be after ValidFrom")
	case r.from.After(now.Add(14 * day)):
		return errors.New("ValidFrom must be within 14 days")
	case r.Type == "Acceptance" && r.from.Before(now.Add(48*time.Hour)):
		return errors.New("ValidFrom of an acceptance rule must be at least 48 hours from now")
	case r.Type == "Invalidation" && r.from.Before(now):
		return errors.New("ValidFrom of an invalidation rule must not be in the past")
	case r.to.Sub(r.from) < 72*time.Hour:
		return errors.New("a rule must be valid for at least 72 hours")
	case r.from.Before(previousFrom):
		return errors.New("ValidFrom must not be before that of the previous version")
	}
	return nil
}

// semver is a version x.y.z.
type semver [3]int

func parseSemver(s string) (v semver) {
	for i, part := range strings.SplitN(s, ".", 3) {
		v[i], _ = strconv.Atoi(part)
	}
	return v
}

func (v semver) after(o semver) bool { return slices.Compare(v[:], o[:]) > 0 }

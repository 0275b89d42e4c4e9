package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"verdant/certlogic"
)

// ruleService answers as the business rule service does.
type ruleService map[string][]byte

func (s ruleService) get(path string) ([]byte, error) {
	if body, ok := s[path]; ok {
		return body, nil
	}
	return nil, errors.New("not found")
}

func (s ruleService) add(list, id, body string) {
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	var items []map[string]string
	if s[list] != nil {
		_ = json.Unmarshal(s[list], &items)
	}
	items = append(items, map[string]string{"identifier": id, "id": id, "version": "1.0.0", "hash": hash})
	s[list], _ = json.Marshal(items)
	s[list+"/"+hash] = []byte(body)
}

func rule(id, country, kind, logic string) string {
	return fmt.Sprintf(`{"Identifier": %q, "Type": %q, "Country": %q, "Version": "1.0.0", "SchemaVersion": "1.0.0", "Engine": "CERTLOGIC", "EngineVersion": "0.7.5",
		"CertificateType": "Vaccination", "Description": [{"lang": "en", "desc": "The text of %s."}, {"lang": "ga", "desc": "Téacs %s."}],
		"ValidFrom": "2021-06-01T00:00:00Z", "ValidTo": "2030-06-01T00:00:00Z", "AffectedFields": ["v.0"], "Logic": %s}`, id, kind, country, id, id, logic)
}

func newRuleService() ruleService {
	s := ruleService{"/rules/FR": []byte("[]"), "/rules/DE": []byte("[]")}
	s.add("/rules/IE", "VR-IE-0001", rule("VR-IE-0001", "IE", "Acceptance", `{"not-before": [{"plusTime": [{"var": "external.validationClock"}, 0, "day"]}, {"plusTime": [{"var": "payload.v.0.dt"}, 14, "day"]}]}`))
	s.add("/rules/IE", "VR-IE-0002", rule("VR-IE-0002", "IE", "Acceptance", `{"in": [{"var": "payload.v.0.mp"}, {"var": "external.valueSets.vaccines"}]}`))
	s.add("/valuesets", "vaccines", `{"valueSetId": "vaccines", "valueSetValues": {"EU/1/20/1528": {}}}`)
	return s
}

func report(t *testing.T, s ruleService, flags ruleFlags, when string) (*certlogic.Report, string) {
	t.Helper()
	payload, err := certlogic.FromJSON([]byte(`{"ver": "1.3.0", "v": [{"dt": "2021-07-01", "mp": "EU/1/20/1528"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	clock, err := time.Parse(time.RFC3339, when)
	if err != nil {
		t.Fatal(err)
	}
	book, err := readRuleBook(s.get, flags.country, "DE")
	if err != nil {
		t.Fatal(err)
	}
	r := book.judge(&certlogic.Input{Payload: payload, Clock: clock, ValueSets: book.values, Country: flags.country, Issuer: "DE"}, flags)
	var out bytes.Buffer
	writeRules(&out, r, flags.explain, time.Time{})
	return r, out.String()
}

// under is a valid certificate's verdict under a report.
func under(r *certlogic.Report) verdict {
	v := verdict{Valid: true, Kind: "vaccination", Issuer: "DE"}
	v.under(r)
	return v
}

func TestRulesAreAppliedAndExplained(t *testing.T) {
	s := newRuleService()
	r, text := report(t, s, ruleFlags{country: "IE", explain: true, language: "ga"}, "2021-07-10T00:00:00Z")
	want := `Business rules of IE: 1 of 2 passed.
  VR-IE-0001 failed: Téacs VR-IE-0001.
    because external.validationClock not-before payload.v.0.dt + 14 days does not hold: external.validationClock is "2021-07-10T00:00:00.000Z", payload.v.0.dt is "2021-07-01"
    it will pass from 2021-07-15T00:00:00Z.
`
	if text != want || r.State != certlogic.StateRefused || r.Refusers() != "rule VR-IE-0001" {
		t.Errorf("got\n%s%v %s\nwant\n%s", text, r.State, r.Refusers(), want)
	}
	r, text = report(t, s, ruleFlags{country: "IE", language: "en"}, "2021-07-20T00:00:00Z")
	if r.State != certlogic.StateAccepted || text != "Business rules of IE: 2 of 2 passed.\n" {
		t.Errorf("later: got %v %s", r.State, text)
	}
	r, text = report(t, s, ruleFlags{country: "FR"}, "2021-07-20T00:00:00Z")
	if v := under(r); r.State != certlogic.StateNotChecked || !strings.HasPrefix(v.String(), "NOT CHECKED: no rules known for FR: not checked; the certificate itself is genuine") || !errors.Is(v.exit(), exitError(3)) || v.Valid {
		t.Errorf("no rules: got %v %s", r.State, text)
	}
	r, text = report(t, s, ruleFlags{country: "IE"}, "2021-01-01T00:00:00Z")
	if v := under(r); r.State != certlogic.StateNotChecked || !strings.Contains(v.String(), "none of the 2 rules of IE is about this type") || !errors.Is(v.exit(), exitError(3)) {
		t.Errorf("none in force: got %v %s", r.State, text)
	}
	s.add("/rules/DE", "IR-DE-0001", rule("IR-DE-0001", "DE", "Invalidation", `false`))
	if r, text = report(t, s, ruleFlags{country: "IE"}, "2021-07-20T00:00:00Z"); under(r).Valid || r.Refusers() != "rule IR-DE-0001" {
		t.Errorf("invalidated by its issuer: got %v %s", r.State, text)
	}
}

func TestWhenARuleWillPassIsSaidToTheMillisecond(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2021, 7, d, 0, 0, 0, 0, time.UTC) }
	for want, o := range map[string]certlogic.Judgement{
		"it will pass from 2021-07-15T00:00:00Z to 2021-07-19T23:59:59.999Z.":                                        {TimeKnown: true, Earliest: day(15), Until: day(20)},
		"it will pass from 2021-07-15T00:00:00.001Z.":                                                                {TimeKnown: true, Earliest: day(15).Add(time.Millisecond)},
		"it would pass from 2021-07-26T00:00:00Z, but the certificate expires before that, at 2021-07-25T00:00:00Z.": {TimeKnown: true, Earliest: day(26)},
		"it will not pass at any later time with this certificate.":                                                  {TimeKnown: true},
		"whether it will pass later cannot be told from the rule.":                                                   {},
	} {
		o.Outcome = certlogic.Failed
		var out bytes.Buffer
		writeJudgement(&out, o, true, day(25))
		if !strings.Contains(out.String(), "    "+want+"\n") {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}

func TestARuleThatCannotBeAppliedAcceptsNothing(t *testing.T) {
	for name, body := range map[string]string{
		"malformed logic": rule("VR-IE-0003", "IE", "Acceptance", `{"or": [1, 2]}`),
		"an error":        rule("VR-IE-0003", "IE", "Acceptance", `{"in": [1, 2]}`),
		"no rule":         `{"Identifier": "VR-IE-0003"}`,
	} {
		s := newRuleService()
		s.add("/rules/IE", "VR-IE-0003", body)
		if r, text := report(t, s, ruleFlags{country: "IE"}, "2021-07-20T00:00:00Z"); r.State == certlogic.StateAccepted || under(r).NotChecked {
			t.Errorf("%s: accepted: %s", name, text)
		}
	}
}

func TestWhatTheHashDoesNotNameIsRefused(t *testing.T) {
	for _, prefix := range []string{"/rules/IE/", "/valuesets/"} {
		s := newRuleService()
		for path := range s {
			if strings.HasPrefix(path, prefix) {
				s[path] = append(s[path], ' ')
			}
		}
		if b, err := readRuleBook(s.get, "IE", "IE"); err == nil {
			t.Errorf("%s: got %v", prefix, b)
		}
	}
}

func TestRuleFlagsAreChecked(t *testing.T) {
	for _, args := range [][]string{
		{"cert", "verify", "--rules", "IRL", "HC1:X"}, {"cert", "verify", "--rules", "1E", "HC1:X"}, {"cert", "verify", "--explain", "HC1:X"},
		{"rules", "conformance"}, {"rules", "nothing"}, {"certlogic", "conformance", "-o", "yaml", "."},
	} {
		if got := run(t.Context(), args); got != 2 {
			t.Errorf("%v: got exit code %d, want 2", args, got)
		}
	}
	if got := run(t.Context(), []string{"rules", "conformance", t.TempDir()}); got != 1 {
		t.Errorf("a directory without tests: got exit code %d, want 1", got)
	}
}

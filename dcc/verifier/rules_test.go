package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"verdant/certlogic"
	"verdant/dcc/connector"
	"verdant/dcc/wire"
	"verdant/hcert"
)

// ruleSource gives the rules that a test sets.
type ruleSource struct {
	rules map[string][]connector.Rule
	sets  map[string]json.RawMessage
	err   error
	asked int
}

func (s *ruleSource) Rules(_ context.Context, country string) ([]connector.Rule, error) {
	s.asked++
	return s.rules[country], s.err
}

func (s *ruleSource) ValueSets(context.Context) (map[string]json.RawMessage, error) {
	return s.sets, s.err
}

func aRule(id, country, kind, region, logic string) connector.Rule {
	return connector.Rule{JSON: fmt.Appendf(nil, `{"Identifier": %q, "Type": %q, "Country": %q, "Region": %q, "Version": "1.0.0", "SchemaVersion": "1.0.0", "Engine": "CERTLOGIC", "EngineVersion": "0.7.5",
		"CertificateType": "Vaccination", "Description": [{"lang": "en", "desc": "The text of %s."}, {"lang": "fr", "desc": "Le texte de %s."}],
		"ValidFrom": "2021-06-01T00:00:00Z", "ValidTo": "2030-06-01T00:00:00Z", "AffectedFields": ["v.0"], "Logic": %s}`, id, kind, country, region, id, id, logic)}
}

const sixMonths = `{"not-after": [{"plusTime": [{"var": "external.validationClock"}, 0, "day"]}, {"plusTime": [{"var": "payload.v.0.dt"}, 240, "day"]}]}`

func (w *world) ask(in wire.VerifyRequest) (int, wire.VerifyResult, string) {
	w.t.Helper()
	body, _ := json.Marshal(in)
	got := w.call("POST", "/verify", string(body))
	var out wire.VerifyResult
	if err := json.Unmarshal([]byte(got.body), &out); err != nil {
		w.t.Fatalf("got %d %s: %v", got.status, got.body, err)
	}
	return got.status, out, got.body
}

func TestBusinessRulesAreAppliedAndExplained(t *testing.T) {
	w := newWorld(t)
	source := &ruleSource{rules: map[string][]connector.Rule{
		"FR": {aRule("VR-FR-0001", "FR", "Acceptance", "", sixMonths), aRule("VR-FR-0002", "FR", "Acceptance", "Corse", `{"===": [{"var": "payload.v.0.dn"}, 3]}`)},
		"AT": {aRule("VR-AT-0001", "AT", "Acceptance", "", `{"in": [{"var": "payload.v.0.mp"}, {"var": "external.valueSets.vaccines-covid-19-names"}]}`)},
		"DE": {{JSON: []byte(`{"Identifier": "VR-DE-0001"}`)}},
		"IE": {},
	}, sets: map[string]json.RawMessage{"x": []byte("no set")}}
	w.server.rules = newRuleBook(source, 5*time.Minute, w.clock, w.server.log)
	d := w.dsc(0)
	w.sync(d)
	hc1 := w.issue(d)
	for _, c := range []struct {
		name   string
		in     wire.VerifyRequest
		valid  bool
		state  certlogic.State
		reason string
		says   []string
	}{
		{"no country", wire.VerifyRequest{}, true, "", "", nil},
		{"all rules pass", wire.VerifyRequest{Country: "fr"}, true, certlogic.StateAccepted, "", nil},
		{"the gateway's sets lack one that is built in", wire.VerifyRequest{Country: "AT"}, true, certlogic.StateAccepted, "", nil},
		{"a region's rule does not", wire.VerifyRequest{Country: "FR", Region: "Corse", Language: "fr-BE"}, false, certlogic.StateRefused, "not accepted by rule VR-FR-0002", []string{"Le texte de VR-FR-0002.", `"condition"`, "payload.v.0.dn"}},
		{"no rules are known", wire.VerifyRequest{Country: "XY"}, false, certlogic.StateNotChecked, "no rules known for XY: not checked", nil},
		{"a rule that cannot be read", wire.VerifyRequest{Country: "DE"}, false, certlogic.StateRefused, "1 rules that cannot be read", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.HC1 = hc1
			status, out, body := w.ask(c.in)
			if status != 200 || out.Valid != c.valid || out.Profile != string(hcert.ProfileDCC) {
				t.Fatalf("got %d %s", status, body)
			}
			if (out.Rules == nil) != (c.state == "") || out.Rules != nil && out.Rules.State != c.state {
				t.Errorf("got %+v, want %s", out.Rules, c.state)
			}
			if c.reason != "" && (len(out.Reasons) != 1 || out.Reasons[0].Stage != "rules" || !strings.Contains(out.Reasons[0].Detail, c.reason)) {
				t.Errorf("got %v, want %s", out.Reasons, c.reason)
			}
			for _, s := range c.says {
				if !strings.Contains(body, s) {
					t.Errorf("got %s, want %s in it", body, s)
				}
			}
		})
	}
	if strings.Contains(w.log.String(), "2021-06-11") {
		t.Error("the log holds a value of the certificate")
	}
}

func TestTheIssuersInvalidationsCount(t *testing.T) {
	w := newWorld(t)
	source := &ruleSource{rules: map[string][]connector.Rule{
		"FR": {aRule("VR-FR-0001", "FR", "Acceptance", "", sixMonths)}, "IE": {aRule("IR-IE-0001", "IE", "Invalidation", "", `{"===": [{"var": "payload.v.0.dn"}, 1]}`)},
	}}
	w.server.rules = newRuleBook(source, 5*time.Minute, w.clock, w.server.log)
	d := w.dsc(0)
	w.sync(d)
	if _, out, body := w.ask(wire.VerifyRequest{HC1: w.issue(d), Country: "FR"}); out.Valid || out.Rules.Refusers() != "rule IR-IE-0001" {
		t.Errorf("got %s", body)
	}
}

func TestRulesThatCannotBeHadAcceptNothing(t *testing.T) {
	w := newWorld(t)
	d := w.dsc(0)
	w.sync(d)
	hc1 := w.issue(d)
	if _, out, body := w.ask(wire.VerifyRequest{HC1: hc1, Country: "FR"}); out.Valid || out.Rules.State != certlogic.StateNotChecked {
		t.Errorf("no source: got %s", body)
	}
	source := &ruleSource{err: errors.New("the gateway is away")}
	w.server.rules = newRuleBook(source, 5*time.Minute, w.clock, w.server.log)
	if _, out, body := w.ask(wire.VerifyRequest{HC1: hc1, Country: "FR"}); out.Valid || out.Rules.State != certlogic.StateNotChecked || strings.Contains(body, "away") {
		t.Errorf("no rules: got %s", body)
	}
	w.ask(wire.VerifyRequest{HC1: hc1, Country: "FR"})
	if source.asked != 1 {
		t.Errorf("the gateway was asked %d times at once", source.asked)
	}
	source.err, source.rules = nil, map[string][]connector.Rule{"FR": {aRule("VR-FR-0001", "FR", "Acceptance", "", sixMonths)}}
	w.pass(askAgainAfter)
	if _, out, body := w.ask(wire.VerifyRequest{HC1: hc1, Country: "FR"}); !out.Valid {
		t.Errorf("after the gateway came back: got %s", body)
	}
	// What is known stays when the gateway goes away again.
	source.err = errors.New("the gateway is away")
	w.pass(time.Hour)
	if _, out, body := w.ask(wire.VerifyRequest{HC1: hc1, Country: "FR"}); !out.Valid {
		t.Errorf("with the gateway away again: got %s", body)
	}
	if _, out, body := w.ask(wire.VerifyRequest{HC1: "HC1:X", Country: "FR"}); out.Valid || out.Rules != nil {
		t.Errorf("rules on an unproven certificate: got %s", body)
	}
}

func TestRequestsThatAskTheImpossibleAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, in := range map[string]wire.VerifyRequest{
		"three letters": {Country: "FRA"}, "digits": {Country: "1F"}, "a region without country": {Region: "Corse"}, "a language without country": {Language: "fr"},
		"a long region": {Country: "FR", Region: strings.Repeat("x", 101)},
	} {
		body, _ := json.Marshal(in)
		if got := w.call("POST", "/verify", string(body)); got.status != 400 {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
	}
}

func TestStrictVerificationRefusesWhatIsDoubtful(t *testing.T) {
	w := newWorld(t)
	d := w.dsc(0)
	w.sync(d)
	hc1 := w.issue(d) // its second dose is fine, its UVCI has no check character
	if _, out, body := w.ask(wire.VerifyRequest{HC1: hc1, Strict: true}); !out.Valid {
		t.Errorf("a proper certificate: got %s", body)
	}
	payload, err := hcert.ParseDCC([]byte(strings.Replace(vaccination, "EU/1/20/1528", "EU/1/30/9999", 1)))
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: d.cert, Signer: d.key})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := issuer.Issue(t.Context(), payload, began, began.AddDate(0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, out, body := w.ask(wire.VerifyRequest{HC1: cert.Text}); !out.Valid || len(out.Findings) == 0 {
		t.Errorf("an unknown code: got %s", body)
	}
	if _, out, body := w.ask(wire.VerifyRequest{HC1: cert.Text, Strict: true}); out.Valid || len(out.Reasons) == 0 || out.Reasons[0].Code != "code-missing" {
		t.Errorf("an unknown code, strictly: got %s", body)
	}
}

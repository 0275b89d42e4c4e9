package dcc

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verdant/certlogic"
	"verdant/dcc/wire"
	"verdant/hcert/valueset"
	"verdant/trustlist"
)

// uploadRule publishes a rule on the gateway, signed with the upload
// certificate.
func (m *member) uploadRule(t *testing.T, rule []byte) {
	t.Helper()
	up := &trustlist.CMSSigner{Certificate: m.upload, Key: m.uploadKey, Now: time.Now}
	body, err := up.SignBase64(t.Context(), rule)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.front.URL+"/rules", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cms-text")
	resp, err := m.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		t.Fatalf("upload of a rule: got %s %s", resp.Status, answer)
	}
}

// fetchRules is what a verifier does: the list, then each rule by its hash.
func (m *member) fetchRules(t *testing.T, country string) []*certlogic.Rule {
	t.Helper()
	var list []wire.RuleItem
	call(t, "GET", m.rules.URL+"/rules/"+country, "", "", &list)
	var rules []*certlogic.Rule
	for _, item := range list {
		var src json.RawMessage
		call(t, "GET", m.rules.URL+"/rules/"+country+"/"+item.Hash, "", "", &src)
		r, err := certlogic.ParseRule(src)
		if err != nil {
			t.Fatal(err)
		}
		if r.Identifier != item.Identifier || r.Version.String() != item.Version {
			t.Errorf("%s %s: got rule %s %s", item.Identifier, item.Version, r.Identifier, r.Version)
		}
		rules = append(rules, r)
	}
	return rules
}

func (m *member) fetchValueSets(t *testing.T) *certlogic.ValueSets {
	t.Helper()
	var list []wire.ValueSetItem
	call(t, "GET", m.rules.URL+"/valuesets", "", "", &list)
	var parsed []*valueset.Set
	for _, item := range list {
		var src json.RawMessage
		call(t, "GET", m.rules.URL+"/valuesets/"+item.Hash, "", "", &src)
		set, err := valueset.Parse(src)
		if err != nil || string(set.ID()) != item.ID {
			t.Fatalf("value set %s: got %v, %v", item.ID, set, err)
		}
		parsed = append(parsed, set)
	}
	sets, err := certlogic.NewValueSets(valueset.New(parsed...).Codes())
	if err != nil {
		t.Fatal(err)
	}
	return sets
}

// TestIrelandsRulesGoThroughTheGatewayAndDecide: the sixteen rules that the
// reference architecture uploads are signed by Ireland, proven by its business
// rule service, and decide about a certificate, with the reason in words.
func TestIrelandsRulesGoThroughTheGatewayAndDecide(t *testing.T) {
	files, _ := filepath.Glob("../../../shared/data/ie-rules/*/rule.json")
	if len(files) == 0 {
		t.Skip("public test data is not beside the repository")
	}
	m := newMember(t, database)
	from := time.Now().Add(49 * time.Hour).Truncate(time.Second).UTC()
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var rule map[string]any
		if err := json.Unmarshal(src, &rule); err != nil {
			t.Fatal(err)
		}
		rule["ValidFrom"], rule["ValidTo"] = from.Format(time.RFC3339), from.AddDate(1, 0, 0).Format(time.RFC3339)
		if src, err = json.Marshal(rule); err != nil {
			t.Fatal(err)
		}
		m.uploadRule(t, src)
	}
	if err := m.ruleServer.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	set, values := certlogic.NewRuleSet(m.fetchRules(t, "IE")...), m.fetchValueSets(t)
	if got := len(set.Rules()); got != 16 {
		t.Fatalf("got %d rules, want 16", got)
	}
	dt := from.AddDate(0, 0, -3)
	vaccinated := func(clock time.Time) *certlogic.Input {
		payload, err := certlogic.FromJSON([]byte(strings.Replace(payload, "2021-06-11", dt.Format(time.DateOnly), 1)))
		if err != nil {
			t.Fatal(err)
		}
		return &certlogic.Input{Payload: payload, Clock: clock, ValueSets: values, Country: "IE", Issuer: "IE"}
	}
	in := vaccinated(from)
	if rules := set.Select(vaccinated(from.Add(-time.Second)).Selection()); len(rules) != 0 {
		t.Errorf("before they are in force: got %d rules", len(rules))
	}
	rules := set.Select(in.Selection())
	var failed []string
	var earliest time.Time
	for _, r := range certlogic.Evaluate(rules, in) {
		if r.Outcome == certlogic.Passed {
			continue
		}
		failed = append(failed, r.Rule.Identifier+" "+string(r.Outcome)+": "+r.Rule.Describe("en"))
		ex := r.Rule.Explain(in)
		if len(ex.Reasons) != 1 || !strings.Contains(ex.Reasons[0].String(), `payload.v.0.dt is "`+dt.Format(time.DateOnly)+`"`) {
			t.Errorf("reasons: got %v", ex.Reasons)
		}
		earliest = ex.Earliest
	}
	if len(failed) != 1 || !strings.HasPrefix(failed[0], "VR-IE-0003 failed: Vaccine certificate is invalid") {
		t.Fatalf("three days after the dose: got %q of %d rules", failed, len(rules))
	}
	if want := dt.Truncate(24*time.Hour).AddDate(0, 0, 7); !earliest.Equal(want) {
		t.Errorf("earliest: got %v, want %v", earliest, want)
	}
	if later := certlogic.Evaluate(rules, vaccinated(earliest)); !certlogic.Accepted(later) {
		t.Errorf("at the earliest time: got %v", later)
	}
	if before := certlogic.Evaluate(rules, vaccinated(earliest.Add(-time.Millisecond))); certlogic.Accepted(before) {
		t.Error("a millisecond before it was accepted")
	}
}

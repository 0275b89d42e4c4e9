package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"verdant/dcc/wire"
	"verdant/trustlist"
)

func ruleJSON(changes map[string]any) string {
	r := map[string]any{
		"Identifier": "VR-IE-0001", "Type": "Acceptance", "Country": "IE", "Version": "1.0.0", "SchemaVersion": "1.0.0",
		"Engine": "CERTLOGIC", "EngineVersion": "1.0.0", "CertificateType": "Vaccination",
		"Description": []any{map[string]any{"lang": "en", "desc": "The vaccination must be complete."}},
		"ValidFrom":   began.Add(49 * time.Hour).Format(time.RFC3339), "ValidTo": began.AddDate(1, 0, 0).Format(time.RFC3339),
		"AffectedFields": []any{"v.0.dn"}, "Logic": map[string]any{"and": []any{true, true}},
	}
	maps.Copy(r, changes)
	maps.DeleteFunc(r, func(_ string, v any) bool { return v == nil })
	b, _ := json.Marshal(r)
	return string(b)
}

func TestLogicThatIsNoCertLogicIsRefusedWithItsPlace(t *testing.T) {
	w := newWorld(t)
	rule := strings.Replace(ruleJSON(nil), `"Logic":{"and":[true,true]}`, "\n\"Logic\": {\"and\": [true,\n  {\"==\": [1, 1]}, {\"var\": 1}]}", 1)
	got := w.call(w.ie, "POST", "/rules", w.cms(w.ie, []byte(rule)), "Content-Type", "application/cms-text")
	var p wire.ProblemReport
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != 400 || p.Code != "0x200" {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	for _, want := range []string{"line 3, column 3", "$.and[1]", `"==" is not an operation`, "1 more problems"} {
		if !strings.Contains(p.Details, want) {
			t.Errorf("got %q, want %q in it", p.Details, want)
		}
	}
	for name, content := range map[string]string{
		"the logic is not CertLogic": ruleJSON(map[string]any{"Logic": map[string]any{"and": []any{true}}}),
		"the logic is twice":         strings.TrimSuffix(ruleJSON(nil), "}") + `,"Logic":{"and":[true,true]}}`,
	} {
		if _, err := parseRule([]byte(content)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestARuleIsCheckedInOrderAndListedByCountry(t *testing.T) {
	w := newWorld(t)
	at := func(d time.Duration) string { return began.Add(d).Format(time.RFC3339) }
	day := 24 * time.Hour
	for _, tt := range []struct {
		name    string
		content string
		status  int
		code    string
	}{
		{"an unknown field", ruleJSON(map[string]any{"identifier": "x"}), 400, "0x200"},
		{"a missing field", ruleJSON(map[string]any{"Logic": nil}), 400, "0x200"},
		{"an empty logic", ruleJSON(map[string]any{"Logic": map[string]any{}}), 400, "0x200"},
		{"no English description", ruleJSON(map[string]any{"Description": []any{map[string]any{"lang": "de", "desc": "Die Impfung muss vollständig sein."}}}), 400, "0x200"},
		{"a short description", ruleJSON(map[string]any{"Description": []any{map[string]any{"lang": "en", "desc": "short"}}}), 400, "0x200"},
		{"a date with fractions", ruleJSON(map[string]any{"ValidFrom": "2022-01-12T13:00:00.5Z"}), 400, "0x200"},
		{"something after the object", ruleJSON(nil) + "1", 400, "0x200"},
		{"an identifier for another type", ruleJSON(map[string]any{"Identifier": "TR-IE-0001"}), 400, "0x250"},
		{"IR for an acceptance rule", ruleJSON(map[string]any{"Identifier": "IR-IE-0001"}), 400, "0x250"},
		{"another country", ruleJSON(map[string]any{"Country": "DE"}), 403, "0x210"},
		{"another country in the identifier", ruleJSON(map[string]any{"Identifier": "VR-DE-0001"}), 403, "0x210"},
		{"an end before the beginning", ruleJSON(map[string]any{"ValidTo": at(0)}), 400, "0x240"},
		{"a beginning in 15 days", ruleJSON(map[string]any{"ValidFrom": at(15 * day)}), 400, "0x240"},
		{"a beginning in 47 hours", ruleJSON(map[string]any{"ValidFrom": at(47 * time.Hour)}), 400, "0x240"},
		{"a validity of 71 hours", ruleJSON(map[string]any{"ValidFrom": at(50 * time.Hour), "ValidTo": at(121 * time.Hour)}), 400, "0x240"},
		{"a good rule", ruleJSON(nil), 201, ""},
		{"the same version", ruleJSON(nil), 400, "0x220"},
		{"an earlier beginning than the version before", ruleJSON(map[string]any{"Version": "1.0.1", "ValidFrom": at(48 * time.Hour)}), 400, "0x240"},
		{"a next version", ruleJSON(map[string]any{"Version": "1.0.10", "ValidFrom": at(5 * day)}), 201, ""},
		{"a version that is only lexically higher", ruleJSON(map[string]any{"Version": "1.0.9", "ValidFrom": at(6 * day)}), 400, "0x220"},
	} {
		if got := w.call(w.ie, "POST", "/rules", w.cms(w.ie, []byte(tt.content)), "Content-Type", "application/cms-text"); got.status != tt.status || got.code() != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
	}
	if got := w.call(w.ie, "POST", "/rules", w.cms(w.de, []byte(ruleJSON(nil)))); got.status != 400 || got.code() != "0x230" {
		t.Errorf("another country's certificate: got %d %s", got.status, got.body)
	}

	versions := func() (out []string) {
		t.Helper()
		var rules map[string][]wire.RuleVersion
		if err := json.Unmarshal([]byte(w.call(w.de, "GET", "/rules/ie", "").body), &rules); err != nil {
			t.Fatal(err)
		}
		for _, v := range rules["VR-IE-0001"] {
			out = append(out, v.Version)
		}
		return out
	}
	if got := versions(); len(got) != 2 || got[0] != "1.0.10" {
		t.Errorf("both to come: got %v", got)
	}
	w.clock.Add(int64(3 * day / time.Microsecond))
	if got := versions(); len(got) != 2 {
		t.Errorf("first in force: got %v", got)
	}
	w.clock.Add(int64(3 * day / time.Microsecond))
	if got := versions(); len(got) != 1 || got[0] != "1.0.10" {
		t.Errorf("second in force: got %v", got)
	}
	if got := w.call(w.de, "GET", "/rules/XX", ""); got.status != 200 || got.body != "{}" {
		t.Errorf("unknown country: got %d %s", got.status, got.body)
	}

	for _, tt := range []struct {
		c      *country
		id     string
		status int
		code   string
	}{
		{w.ie, "VRIE", 400, "0x250"}, {w.de, "VR-IE-0001", 403, "0x210"}, {w.ie, "VR-IE-0002", 404, "0x270"}, {w.ie, "VR-IE-0001", 204, ""}, {w.ie, "VR-IE-0001", 404, "0x270"},
	} {
		if got := w.call(tt.c, "DELETE", "/rules", w.cms(tt.c, []byte(tt.id))); got.status != tt.status || got.code() != tt.code {
			t.Errorf("delete %s as %s: got %d %s", tt.id, tt.c.code, got.status, got.body)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add([]byte(ruleJSON(nil)))
	f.Add([]byte(`{"Identifier":"VR-IE-0001"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRule(b)
		if err == nil {
			_ = r.checkID()
			_ = r.checkTimes(began, time.Time{})
		}
	})
}

func FuzzCountryOfDN(f *testing.F) {
	for _, s := range []string{"C=IE", `CN=x,C="IE"`, "%43%3DIE", "/C=IE", "C=IE=DE", ",,="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dn string) {
		if c, ok := countryOfDN(dn); ok && (len(c) != 2 || c[0] < 'A' || c[0] > 'Z' || c[1] < 'A' || c[1] > 'Z') {
			t.Errorf("%q: got %q", dn, c)
		}
	})
}

func FuzzThumbprint(f *testing.F) {
	f.Add("ab")
	f.Fuzz(func(t *testing.T, v string) {
		if got, ok := normaliseThumbprint(v); ok && len(got) != 64 {
			t.Errorf("%q: got %q", v, got)
		}
	})
}

func FuzzReadSignerCMS(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := trustlist.NewUpload(f.Context(), trustlist.Authority{Key: key}, &key.PublicKey, trustlist.Subject{Country: "IE", CommonName: "UP"}, began)
	cert := parse(f, der, err)
	f.Add(signed(f, cert, key, cert.Raw))
	f.Add(signed(f, cert, key, []byte("VR-IE-0001")))
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", "/signerCertificate", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/cms")
		env, cert, err := readSignerCMS(r)
		if err == nil && (env == nil || cert == nil) {
			t.Error("neither an error nor a certificate")
		}
		var p *problem
		if err != nil && (!errors.As(err, &p) || p.Code != "0x402" || p.status != 400) {
			t.Errorf("got %v", err)
		}
	})
}

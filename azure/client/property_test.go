package client

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The table of Spring Cloud Azure's documentation, the seed's names, and what
// is easily mistaken.
func TestAPropertyIsTheSecretThatSpringWouldRead(t *testing.T) {
	for property, want := range map[string]string{
		"acme.my-project.person.first-name":       "acme-myproject-person-firstname",
		"acme.myProject.person.firstName":         "acme-myproject-person-firstname",
		"acme.my_project.person.first_name":       "acme-myproject-person-firstname",
		"ACME_MYPROJECT_PERSON_FIRSTNAME":         "acme-myproject-person-firstname",
		"acme-myproject-person-firstname":         "acme-myproject-person-firstname",
		"Acme-MyProject-Person-FirstName":         "acme-myproject-person-firstname",
		"dgc.trustAnchor.certificateAlias":        "dgc-trustanchor-certificatealias",
		"dgc.trust-anchor.certificate-alias":      "dgc-trustanchor-certificatealias",
		"DGC_TRUSTANCHOR_CERTIFICATEALIAS":        "dgc-trustanchor-certificatealias",
		"dgc.gateway.connector.tlsKeyStore.alias": "dgc-gateway-connector-tlskeystore-alias",
		"issuance.certAlias":                      "issuance-certalias",
		"spring.datasource.url":                   "spring-datasource-url",
		"first_name":                              "firstname", // mixed forms are not environment variables
		"PORT8080":                                "port8080",
	} {
		if got := SecretName(property); got != want {
			t.Errorf("%s: got %s, want %s", property, got, want)
		}
	}
}

// secretVault answers the secrets of one vault in pages of two.
type secretVault struct {
	host    string
	mu      sync.Mutex
	values  map[string]string
	attrs   map[string]map[string]any
	managed map[string]bool
	denied  map[string]bool
	away    bool
	reads   map[string]int
}

func (v *secretVault) set(name, value string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.values[name] = value
}

func (v *secretVault) Do(r *http.Request) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	answer := func(status int, body any) (*http.Response, error) {
		raw, _ := json.Marshal(body)
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: readCloser(raw), Request: r}, nil
	}
	refuse := func(status int, code, inner string) (*http.Response, error) {
		return answer(status, map[string]any{"error": map[string]any{"code": code, "message": "because", "innererror": map[string]any{"code": inner}}})
	}
	if v.away {
		return refuse(http.StatusBadRequest, "Away", "")
	}
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/secrets"), "/")
	bundle := func(name string) map[string]any {
		return map[string]any{"id": "https://" + v.host + "/secrets/" + name, "attributes": v.attrs[name], "managed": v.managed[name]}
	}
	if name == "" {
		names := slices.Sorted(maps.Keys(v.values))
		var from int
		_, _ = fmt.Sscan(r.URL.Query().Get("from"), &from)
		page := map[string]any{}
		var items []any
		for _, n := range names[from:min(from+2, len(names))] {
			items = append(items, bundle(n))
		}
		page["value"] = items
		if from+2 < len(names) {
			page["nextLink"] = fmt.Sprintf("https://%s/secrets?api-version=7.4&from=%d", v.host, from+2)
		}
		return answer(http.StatusOK, page)
	}
	v.reads[name]++
	value, ok := v.values[strings.ToLower(name)]
	switch enabled, set := v.attrs[name]["enabled"].(bool); {
	case v.denied[name]:
		return refuse(http.StatusForbidden, "Forbidden", "ForbiddenByRbac")
	case !ok:
		return refuse(http.StatusNotFound, "SecretNotFound", "")
	case set && !enabled:
		return refuse(http.StatusForbidden, "Forbidden", "SecretDisabled")
	}
	b := bundle(name)
	b["value"] = value
	return answer(http.StatusOK, b)
}

func (v *secretVault) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Request: r,
			Header: http.Header{"Www-Authenticate": {`Bearer authorization="https://login.verdant.localhost/t", resource="https://vault.azure.net"`}}}, nil
	}
	return v.Do(r)
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

func readCloser(raw []byte) body { return body{strings.NewReader(string(raw))} }

func newSecretVault(t *testing.T, host string, values map[string]string) (*secretVault, *Vault) {
	t.Helper()
	d := &secretVault{host: host, values: values, attrs: map[string]map[string]any{}, managed: map[string]bool{}, denied: map[string]bool{}, reads: map[string]int{}}
	p, err := New(Config{VaultURL: "https://" + host}, WithCredential(&staticCredential{}), WithHTTPClient(&http.Client{Transport: d}))
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Vault("")
	if err != nil {
		t.Fatal(err)
	}
	return d, v
}

func TestWhatAVaultListsAreTheProperties(t *testing.T) {
	now := time.Now()
	d, v := newSecretVault(t, "one.vault.azure.net", map[string]string{"a": "1", "b-c": "2", "disabled": "x", "expired": "x", "early": "x",
		"valid": "3", "tls-key-store": "PRIVATE KEY", "somebody-elses": "x", "z-last": "4"})
	d.attrs["disabled"] = map[string]any{"enabled": false}
	d.attrs["expired"] = map[string]any{"enabled": true, "exp": now.Add(-time.Hour).Unix()}
	d.attrs["early"] = map[string]any{"enabled": true, "nbf": now.Add(time.Hour).Unix()}
	d.attrs["valid"] = map[string]any{"enabled": true, "nbf": now.Add(-time.Hour).Unix(), "exp": now.Add(time.Hour).Unix()}
	d.managed["tls-key-store"], d.denied["somebody-elses"] = true, true
	p, err := LoadProperties(t.Context(), PropertiesConfig{Sources: []PropertySource{{Vault: v}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Names(), " "); got != "a b-c b.c valid z-last z.last" {
		t.Errorf("got %q", got)
	}
	if got, ok := p.Get("b.c"); !ok || got != "2" {
		t.Errorf("b.c: got %q, %v", got, ok)
	}
	for _, name := range []string{"disabled", "expired", "early", "tls-key-store"} {
		if d.reads[name] != 0 {
			t.Errorf("%s was read", name)
		}
	}
}

func TestNamedPropertiesAreReadWithoutAList(t *testing.T) {
	d, v := newSecretVault(t, "one.vault.azure.net", map[string]string{"dgc-trustanchor-certificatealias": "trustanchor", "off": "x", "other": "x", "old": "x"})
	d.attrs["off"] = map[string]any{"enabled": false}
	d.attrs["old"] = map[string]any{"enabled": true, "exp": 1}
	keys := []string{"dgc.trustAnchor.certificateAlias", "absent", "off", "old"}
	p, err := LoadProperties(t.Context(), PropertiesConfig{Sources: []PropertySource{{Vault: v, SecretKeys: keys}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Names(), " "); got != "dgc-trustanchor-certificatealias dgc.trustanchor.certificatealias" {
		t.Errorf("got %q", got)
	}
	if d.reads["other"] != 0 || p.GetOr("absent", "b") != "b" || p.GetOr("DGC_TRUSTANCHOR_CERTIFICATEALIAS", "b") != "trustanchor" {
		t.Error("got another's secret, or not its own")
	}
	d.denied["other"] = true
	if _, err := LoadProperties(t.Context(), PropertiesConfig{Sources: []PropertySource{{Vault: v, SecretKeys: []string{"other"}}}}); err == nil || !strings.Contains(err.Error(), "ForbiddenByRbac") {
		t.Errorf("a refused one: got %v", err)
	}
	for _, bad := range []string{"", "a/b", "a b", strings.Repeat("a", 128), "a[0]"} {
		if _, err := LoadProperties(t.Context(), PropertiesConfig{Sources: []PropertySource{{Vault: v, SecretKeys: []string{bad}}}}); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
}

func TestTheFirstVaultThatHasAPropertyWins(t *testing.T) {
	_, one := newSecretVault(t, "one.vault.azure.net", map[string]string{"a": "1"})
	_, two := newSecretVault(t, "two.vault.azure.net", map[string]string{"a": "2", "b": "3", "mixed-case": "4"})
	p, err := LoadProperties(t.Context(), PropertiesConfig{Sources: []PropertySource{{Vault: one}, {Vault: two, CaseSensitive: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := p.Get("a"); a != "1" {
		t.Errorf("a: got %q", a)
	}
	if b, _ := p.Get("b"); b != "3" {
		t.Errorf("b: got %q", b)
	}
	if _, ok := p.Get("mixed.case"); ok {
		t.Error("a case-sensitive source answered a relaxed name")
	}
	if _, ok := p.Get("Mixed-Case"); ok {
		t.Error("a case-sensitive source answered another case")
	}
	if v, _ := p.Get("mixed-case"); v != "4" {
		t.Errorf("mixed-case: got %q", v)
	}
}

func TestARefreshTellsWhatChangedAndKeepsWhatItCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, one := newSecretVault(t, "one.vault.azure.net", map[string]string{"a": "1", "b": "2", "c": "3"})
		e, two := newSecretVault(t, "two.vault.azure.net", map[string]string{"x": "9"})
		var told []string
		var log strings.Builder
		p, err := LoadProperties(t.Context(), PropertiesConfig{Sources: []PropertySource{{Vault: one}, {Vault: two}},
			Changed: func(s []string) { told = append(told, strings.Join(s, " ")) }, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		pass := func() { time.Sleep(defaultRefresh); synctest.Wait() }
		pass()
		if len(told) != 0 {
			t.Errorf("nothing changed: told %v", told)
		}
		d.set("a", "one")
		d.mu.Lock()
		delete(d.values, "b")
		d.mu.Unlock()
		d.set("d", "4")
		pass()
		if len(told) != 1 || told[0] != "a b d" {
			t.Errorf("told %v", told)
		}
		// One vault is away: its values stay, the other's move on.
		d.mu.Lock()
		d.away = true
		d.mu.Unlock()
		e.set("x", "10")
		pass()
		if a, _ := p.Get("a"); a != "one" || len(told) != 2 || told[1] != "x" || !strings.Contains(log.String(), "one.vault.azure.net") {
			t.Errorf("a=%q, told %v, log %s", a, told, log.String())
		}
		if strings.Contains(log.String(), "token:") {
			t.Error("the log holds a token")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if p, err := LoadProperties(t.Context(), PropertiesConfig{}); err != nil || len(p.Names()) != 0 {
		t.Errorf("no source: %v", err)
	}
}

func FuzzSecretNameIsStable(f *testing.F) {
	for _, s := range []string{"dgc.trustAnchor.certificateAlias", "A_B", "", "a[0]", "É"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, property string) {
		name := SecretName(property)
		if (PropertySource{}).checks(name) && SecretName(name) != name {
			t.Errorf("%q: %q is the secret of another property, %q", property, name, SecretName(name))
		}
	})
}

func (s PropertySource) checks(name string) bool {
	_, err := s.secretName(name)
	return err == nil
}

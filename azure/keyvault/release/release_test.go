package release

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const confidential = `{"version":"1.0.0","anyOf":[
	{"authority":"https://eus.attest.example/","allOf":[{"claim":"x-ms-attestation-type","equals":"sevsnpvm"},{"claim":"x-ms-isolation-tee.svn","equals":3}]},
	{"authority":"https://weu.attest.example","anyOf":[{"claim":"a","equals":true},{"allOf":[{"claim":"b","equals":"x"},{"claim":"c","equals":"y"}]}]}]}`

func claims(t *testing.T, text string) map[string]any {
	c, err := claimsOf([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAPolicyAllowsWhatItsAuthorityAttests(t *testing.T) {
	policy, err := ParsePolicy([]byte(confidential))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(policy.Authorities()); got != "[https://eus.attest.example https://weu.attest.example]" {
		t.Errorf("got authorities %s", got)
	}
	const east, west = "https://eus.attest.example", "https://weu.attest.example"
	for name, c := range map[string]struct {
		authority, claims string
		want              bool
	}{
		"all conditions met":                 {east, `{"x-ms-attestation-type":"sevsnpvm","x-ms-isolation-tee":{"svn":3}}`, true},
		"a number written otherwise":         {east, `{"x-ms-attestation-type":"sevsnpvm","x-ms-isolation-tee":{"svn":3.0}}`, true},
		"a number as text":                   {east, `{"x-ms-attestation-type":"sevsnpvm","x-ms-isolation-tee":{"svn":"3"}}`, true},
		"one condition not met":              {east, `{"x-ms-attestation-type":"sevsnpvm","x-ms-isolation-tee":{"svn":2}}`, false},
		"a claim missing":                    {east, `{"x-ms-isolation-tee":{"svn":3}}`, false},
		"a nested claim at the top":          {east, `{"x-ms-attestation-type":"sevsnpvm","x-ms-isolation-tee.svn":3}`, false},
		"a nested claim in a list":           {east, `{"x-ms-attestation-type":"sevsnpvm","x-ms-isolation-tee":[{"svn":3}]}`, false},
		"a huge number":                      {east, `{"x-ms-attestation-type":"sevsnpvm","x-ms-isolation-tee":{"svn":1e999999999}}`, false},
		"another letter case":                {east, `{"x-ms-attestation-type":"SEVSNPVM","x-ms-isolation-tee":{"svn":3}}`, false},
		"the other authority's conditions":   {east, `{"a":true}`, false},
		"any: the first":                     {west, `{"a":true}`, true},
		"any: true as text":                  {west, `{"a":"true"}`, true},
		"any: all of the inner list":         {west, `{"b":"x","c":"y"}`, true},
		"any: half of the inner list":        {west, `{"b":"x"}`, false},
		"any: none":                          {west, `{}`, false},
		"any: null":                          {west, `{"a":null}`, false},
		"an authority that is not named":     {"https://attest.example", `{"a":true}`, false},
		"an authority in another's name":     {"https://weu.attest.example.evil", `{"a":true}`, false},
		"the authority with a slash is none": {west + "/", `{"a":true}`, false},
	} {
		if got := policy.Allows(&Assertion{authority: c.authority, claims: claims(t, c.claims)}); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestAPolicyThatCouldBeMisreadIsRefused(t *testing.T) {
	ok := func(condition string) string {
		return `{"version":"1.0.0","anyOf":[{"authority":"https://a.example","allOf":[` + condition + `]}]}`
	}
	deep := func(n int) string {
		return strings.Repeat(`{"anyOf":[`, n) + `{"claim":"c","equals":"v"}` + strings.Repeat(`]}`, n)
	}
	for name, text := range map[string]string{
		"a good one":                     ok(`{"claim":"c","equals":"v"}`),
		"other letter case in names":     `{"VERSION":"1.0.0","anyof":[{"Authority":"https://a.example","allof":[{"claim":"c","equals":1}]}]}`,
		"conditions as deep as they may": ok(deep(maxDepth - 1)),
	} {
		if _, err := ParsePolicy([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"nothing":                        ``,
		"null":                           `null`,
		"a list":                         `[]`,
		"cut short":                      confidential[:200],
		"two policies":                   ok(`{"claim":"c","equals":"v"}`) + `{}`,
		"no version":                     `{"anyOf":[{"authority":"https://a.example","allOf":[{"claim":"c","equals":"v"}]}]}`,
		"another version":                strings.Replace(ok(`{"claim":"c","equals":"v"}`), "1.0.0", "1.0.1", 1),
		"a member twice":                 `{"version":"1.0.0","version":"1.0.0","anyOf":[{"authority":"https://a.example","allOf":[{"claim":"c","equals":"v"}]}]}`,
		"a member in two letter cases":   ok(`{"claim":"c","equals":"v","Equals":"w"}`),
		"an unknown member":              ok(`{"claim":"c","equals":"v","or":true}`),
		"allOf at the top":               `{"version":"1.0.0","allOf":[{"authority":"https://a.example","allOf":[{"claim":"c","equals":"v"}]}]}`,
		"no authority":                   `{"version":"1.0.0","anyOf":[]}`,
		"an authority without one":       `{"version":"1.0.0","anyOf":[{"allOf":[{"claim":"c","equals":"v"}]}]}`,
		"an authority over http":         strings.Replace(ok(`{"claim":"c","equals":"v"}`), "https", "http", 1),
		"an authority with a path":       strings.Replace(ok(`{"claim":"c","equals":"v"}`), "a.example", "a.example/tenant", 1),
		"an authority with a query":      strings.Replace(ok(`{"claim":"c","equals":"v"}`), "a.example", "a.example?x", 1),
		"an authority with a password":   strings.Replace(ok(`{"claim":"c","equals":"v"}`), "a.example", "u:p@a.example", 1),
		"no conditions":                  ok(``),
		"anyOf and allOf":                `{"version":"1.0.0","anyOf":[{"authority":"https://a.example","allOf":[{"claim":"c","equals":"v"}],"anyOf":[{"claim":"c","equals":"v"}]}]}`,
		"a condition that is empty":      ok(`{}`),
		"a claim without a value":        ok(`{"claim":"c"}`),
		"a value without a claim":        ok(`{"equals":"v"}`),
		"a claim and a list":             ok(`{"claim":"c","equals":"v","anyOf":[{"claim":"c","equals":"v"}]}`),
		"null for a value":               ok(`{"claim":"c","equals":null}`),
		"an object for a value":          ok(`{"claim":"c","equals":{"a":1}}`),
		"a list for a value":             ok(`{"claim":"c","equals":[1]}`),
		"the operator notEquals":         ok(`{"claim":"c","notEquals":"v"}`),
		"the operator exists":            ok(`{"claim":"c","exists":true}`),
		"conditions nested too deep":     ok(deep(maxDepth)),
		"conditions nested far too deep": ok(deep(2000)),
		"too many conditions":            ok(strings.Repeat(`{"claim":"c","equals":"v"},`, maxConditions) + `{"claim":"c","equals":"v"}`),
		"too long":                       ok(`{"claim":"` + strings.Repeat("c", maxPolicy) + `","equals":"v"}`),
	} {
		if p, err := ParsePolicy([]byte(text)); !errors.Is(err, ErrPolicy) || p != nil {
			t.Errorf("%s: got %v, want ErrPolicy", name, err)
		}
	}
}

// authorityServer is an authority whose answers a test may change.
type authorityServer struct {
	*httptest.Server
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	asked  atomic.Int32
	config func() (int, string)
	keys   func() string
}

func newAuthorityServer(t testing.TB) *authorityServer {
	a := &authorityServer{}
	var err error
	if a.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if a.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		a.asked.Add(1)
		status, body := a.config()
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	mux.HandleFunc("GET /certs", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(a.keys())) })
	a.Server = httptest.NewTLSServer(mux)
	t.Cleanup(a.Close)
	a.config = func() (int, string) {
		return 200, `{"issuer":"` + a.URL + `","jwks_uri":"` + a.URL + `/certs"}`
	}
	a.keys = func() string {
		set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &a.rsa.PublicKey, KeyID: "r", Use: "sig"}, {Key: &a.ec.PublicKey, KeyID: "e", Use: "sig"}, {Key: &a.ec.PublicKey, KeyID: "enc", Use: "enc"}}})
		return string(set)
	}
	return a
}

func (a *authorityServer) token(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, now time.Time) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(map[string]any{"iss": a.URL, "exp": now.Unix() + 60, "x-ms-runtime": map[string]any{"keys": []any{
		map[string]any{"kty": "RSA", "kid": "t", "key_use": "enc", "n": base64.RawURLEncoding.EncodeToString(a.rsa.N.Bytes()), "e": "AQAB"}}}})
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestATokenIsBelievedWithAKeyThatItsAuthorityPublishes(t *testing.T) {
	a := newAuthorityServer(t)
	now := time.Unix(1_800_000_000, 0)
	v, err := NewVerifier([]string{a.URL}, a.Client(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[jose.SignatureAlgorithm]any{jose.RS256: a.rsa, jose.PS384: a.rsa, jose.ES256: a.ec} {
		kid := "r"
		if key == any(a.ec) {
			kid = "e"
		}
		got, err := v.Verify(t.Context(), a.token(t, alg, key, kid, now))
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if key, id := got.Key(); id != "t" || !key.Equal(&a.rsa.PublicKey) || got.authority != a.URL {
			t.Errorf("%s: got key %q of %s", alg, id, got.authority)
		}
	}
	if n := a.asked.Load(); n != 1 {
		t.Errorf("the authority was asked %d times, want 1", n)
	}
	if _, err := v.Verify(t.Context(), a.token(t, jose.ES256, a.ec, "enc", now)); !errors.Is(err, ErrAssertion) {
		t.Errorf("signed with a key for encryption: got %v", err)
	}
	// Invented key ids ask the authority once in keysPause; a rotated key is
	// found after it.
	for range 5 {
		if _, err := v.Verify(t.Context(), a.token(t, jose.RS256, a.rsa, "new", now)); !errors.Is(err, ErrAssertion) {
			t.Errorf("an unknown key: got %v", err)
		}
	}
	if n := a.asked.Load(); n != 1 {
		t.Errorf("the authority was asked %d times, want 1", n)
	}
	now = now.Add(keysPause)
	a.keys = func() string {
		set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &a.rsa.PublicKey, KeyID: "new"}}})
		return string(set)
	}
	if _, err := v.Verify(t.Context(), a.token(t, jose.RS256, a.rsa, "new", now)); err != nil {
		t.Errorf("a rotated key: %v", err)
	}
	if _, err := v.Verify(t.Context(), a.token(t, jose.RS256, a.rsa, "r", now)); !errors.Is(err, ErrAssertion) {
		t.Errorf("a key that was taken away: got %v", err)
	}
	// Microsoft's service publishes certificates and nothing of their keys.
	now = now.Add(keysPause)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attest"}, NotAfter: now}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.rsa.PublicKey, a.rsa)
	if err != nil {
		t.Fatal(err)
	}
	a.keys = func() string {
		return `{"keys":[{"kty":"RSA","kid":"c","x5c":["` + base64.StdEncoding.EncodeToString(der) + `"]}]}`
	}
	if _, err := v.Verify(t.Context(), a.token(t, jose.RS256, a.rsa, "c", now)); err != nil {
		t.Errorf("a certificate: %v", err)
	}
}

func TestAnAuthorityLeadsNowhereElse(t *testing.T) {
	a, elsewhere := newAuthorityServer(t), newAuthorityServer(t)
	elsewhere.rsa = a.rsa // would verify
	for name, config := range map[string]func() (int, string){
		"keys on another host": func() (int, string) {
			return 200, `{"issuer":"` + a.URL + `","jwks_uri":"` + elsewhere.URL + `/certs"}`
		},
		"keys on a host of its name": func() (int, string) { return 200, `{"issuer":"` + a.URL + `","jwks_uri":"` + a.URL + `.evil/certs"}` },
		"keys over http": func() (int, string) {
			return 200, `{"issuer":"` + a.URL + `","jwks_uri":"http` + a.URL[5:] + `/certs"}`
		},
		"metadata of another issuer": func() (int, string) {
			return 200, `{"issuer":"` + elsewhere.URL + `","jwks_uri":"` + a.URL + `/certs"}`
		},
		"an error":     func() (int, string) { return 500, `{}` },
		"no JSON":      func() (int, string) { return 200, `<html>` },
		"far too much": func() (int, string) { return 200, `{"issuer":"` + strings.Repeat("x", maxKeys) + `"}` },
	} {
		a.config = config
		v, err := NewVerifier([]string{a.URL}, a.Client(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), a.token(t, jose.RS256, a.rsa, "r", time.Now())); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: got %v, want ErrUnreachable", name, err)
		}
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
	redirecting := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL+"/.well-known/openid-configuration", http.StatusFound))
	defer redirecting.Close()
	a.URL = redirecting.URL
	v, err := NewVerifier([]string{redirecting.URL}, redirecting.Client(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), a.token(t, jose.RS256, a.rsa, "r", time.Now())); !errors.Is(err, ErrUnreachable) || elsewhere.asked.Load() != 0 {
		t.Errorf("a redirect: got %v, %d requests elsewhere", err, elsewhere.asked.Load())
	}
	none, err := NewVerifier(nil, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Verify(t.Context(), a.token(t, jose.RS256, a.rsa, "r", time.Now())); !errors.Is(err, ErrAssertion) || none.Trusts(a.URL) {
		t.Errorf("no authority at all: got %v", err)
	}
	if _, err := NewVerifier([]string{a.URL}, nil, time.Now); err == nil {
		t.Error("an authority without a client to reach it is accepted")
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(confidential), []byte(`{"a":true}`))
	f.Add([]byte(`{"version":"1.0.0","anyOf":[{"authority":"https://a","allOf":[{"claim":"a.b","equals":1e5}]}]}`), []byte(`{"a":{"b":100000}}`))
	f.Fuzz(func(t *testing.T, data, attested []byte) {
		p, err := ParsePolicy(data)
		if (p == nil) == (err == nil) || err != nil && !errors.Is(err, ErrPolicy) {
			t.Fatalf("got %v, %v", p, err)
		}
		if err != nil {
			return
		}
		if !json.Valid(data) || len(p.Authorities()) == 0 {
			t.Error("accepted what is no policy")
		}
		if p.Allows(&Assertion{authority: p.Authorities()[0], claims: map[string]any{}}) {
			t.Error("an environment that attests nothing is allowed")
		}
		c, err := claimsOf(attested)
		if err == nil && p.Allows(&Assertion{authority: "https://nobody", claims: c}) {
			t.Error("an authority that is not named is believed")
		}
	})
}

func FuzzToken(f *testing.F) {
	a := newAuthorityServer(f)
	now := time.Unix(1_800_000_000, 0)
	v, err := NewVerifier([]string{a.URL}, a.Client(), func() time.Time { return now })
	if err != nil {
		f.Fatal(err)
	}
	good := a.token(f, jose.RS256, a.rsa, "r", now)
	if _, err := v.Verify(context.Background(), good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(a.token(f, jose.ES256, a.ec, "e", now))
	f.Add("..")
	f.Add(strings.Replace(good, ".", "..", 1))
	signed := func(token string) string { // what the signature is over, in bytes
		i := strings.LastIndexByte(token, '.')
		return token[:max(i, 0)]
	}
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), token)
		if (got == nil) == (err == nil) {
			t.Fatalf("got %v, %v", got, err)
		}
		if err == nil && signed(token) != signed(good) && !strings.HasPrefix(token, "eyJhbGciOiJFUzI1NiI") {
			t.Errorf("believed %q", token)
		}
	})
}

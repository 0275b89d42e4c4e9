package client

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

type authorityDouble struct {
	keys  atomic.Pointer[jose.JSONWebKeySet]
	down  atomic.Bool
	asked atomic.Int64
}

func (a *authorityDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	if r.URL.Path != "/tid/discovery/v2.0/keys" || a.down.Load() {
		http.Error(w, "", http.StatusServiceUnavailable)
		return
	}
	_ = json.NewEncoder(w).Encode(a.keys.Load())
}

func TestTokensAreVerifiedWithTheAuthoritysKeys(t *testing.T) {
	w := newWorld(t)
	newKey := func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k1, k2 := newKey(), newKey()
	set := func(keys map[string]*rsa.PrivateKey) *jose.JSONWebKeySet {
		s := &jose.JSONWebKeySet{}
		for kid, k := range keys {
			s.Keys = append(s.Keys, jose.JSONWebKey{Key: &k.PublicKey, KeyID: kid, Use: "sig", Algorithm: "RS256"})
		}
		return s
	}
	a := &authorityDouble{}
	a.keys.Store(set(map[string]*rsa.PrivateKey{"k1": k1}))
	w.serve("login.verdant.localhost", a, tls.NoClientCert)

	var clock atomic.Int64
	clock.Store(1_800_000_000)
	now := func() time.Time { return time.Unix(clock.Load(), 0) }
	v := w.platform(WithClock(now)).TokenVerifier("api://app")
	token := func(key *rsa.PrivateKey, kid, issuer string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := json.Marshal(map[string]any{"iss": issuer, "aud": "api://app", "exp": clock.Load() + 3600, "oid": "o", "tid": "tid"})
		jws, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := jws.CompactSerialize()
		return s
	}
	const issuer = "https://login.verdant.localhost/tid/v2.0"
	check := func(step, tok string, want bool, asked int64) {
		t.Helper()
		_, err := v.Verify(t.Context(), tok)
		if (err == nil) != want || a.asked.Load() != asked {
			t.Errorf("%s: accepted %v (%v) after %d questions, want %v after %d", step, err == nil, err, a.asked.Load(), want, asked)
		}
	}
	check("first token", token(k1, "k1", issuer), true, 1)
	check("second token", token(k1, "k1", "https://login.verdant.localhost/tid/"), true, 1)
	check("another issuer", token(k1, "k1", "https://login.evil/tid/"), false, 1)
	check("unknown key at once", token(k2, "k2", issuer), false, 1)
	clock.Add(11)
	check("unknown key later", token(k2, "k2", issuer), false, 2)
	check("unknown key again", token(k2, "k3", issuer), false, 2)
	a.keys.Store(set(map[string]*rsa.PrivateKey{"k1": k1, "k2": k2}))
	clock.Add(11)
	check("rolled over", token(k2, "k2", issuer), true, 3)
	a.down.Store(true)
	clock.Add(int64(keysAge / time.Second))
	check("authority down a day later", token(k1, "k1", issuer), true, 4)
	a.down.Store(false)
	a.keys.Store(set(map[string]*rsa.PrivateKey{"k2": k2}))
	clock.Add(11)
	check("key withdrawn", token(k1, "k1", issuer), false, 5)
}

func TestTheVolumeIsSealedWithTheKeyOfItsDescriptor(t *testing.T) {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(fds[1]), "w")
	if _, err := w.Write(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	p, err := New(Config{StateDir: t.TempDir(), VolumeKeyFD: fds[0]}, WithCredential(&staticCredential{}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the descriptor is read only once
		dir, err := p.Volume()
		if err != nil {
			t.Fatal(err)
		}
		if err := dir.Write("list", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	p, _ = New(Config{StateDir: t.TempDir()}, WithCredential(&staticCredential{}))
	if _, err := p.Volume(); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("without a key: got %v", err)
	}
}

func TestABadEnvironmentIsRefusedByName(t *testing.T) {
	for _, bad := range []string{"x", "70000", "-1", "3 "} {
		if _, err := FromEnv(func(k string) string { return map[string]string{"MYSQL_PORT": bad}[k] }); err == nil {
			t.Errorf("MYSQL_PORT=%q: got no error", bad)
		}
	}
	if _, err := FromEnv(func(k string) string { return map[string]string{"SSL_CERT_FILE": "/nonexistent"}[k] }); err == nil {
		t.Error("missing SSL_CERT_FILE: got no error")
	}
}

func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[null,1,{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parseKeySet(body)
		if err == nil && len(keys) == 0 {
			t.Error("no key and no error")
		}
	})
}

package rest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"verdant/internal/route"
)

type oneKey struct {
	kid string
	key *rsa.PublicKey
}

func (k oneKey) TokenKey(_ context.Context, kid string) (*rsa.PublicKey, error) {
	if kid != k.kid {
		return nil, errors.New("unknown key")
	}
	return k.key, nil
}

func sign(t *testing.T, key any, alg jose.SignatureAlgorithm, kid string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(claims)
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokensAreAcceptedOnlyWhole(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	v := &Verifier{Issuers: []string{"https://login/t/"}, Audiences: []string{"https://vault.azure.net"},
		Keys: oneKey{"k1", &key.PublicKey}, Now: func() time.Time { return now }}
	good := map[string]any{"iss": "https://login/t/", "aud": "https://vault.azure.net/", "exp": now.Unix() + 60,
		"nbf": now.Unix(), "tid": "t", "oid": "o", "appid": "a", "groups": []string{"g"}}
	with := func(name string, value any) map[string]any {
		c := maps.Clone(good)
		c[name] = value
		return c
	}

	caller, err := v.Verify(t.Context(), sign(t, key, jose.RS256, "k1", good))
	if err != nil || caller.ObjectID != "o" || caller.AppID != "a" || len(caller.Groups) != 1 {
		t.Fatalf("good token: got %+v, %v", caller, err)
	}

	refused := map[string]string{
		"signed by a stranger":       sign(t, stranger, jose.RS256, "k1", good),
		"signed with an unknown kid": sign(t, key, jose.RS256, "k2", good),
		"signed with HS256":          sign(t, []byte(strings.Repeat("k", 32)), jose.HS256, "k1", good),
		"signed with PS256":          sign(t, key, jose.PS256, "k1", good),
		"of another issuer":          sign(t, key, jose.RS256, "k1", with("iss", "https://evil/t/")),
		"for another audience":       sign(t, key, jose.RS256, "k1", with("aud", "https://vault.azure.net.evil")),
		"expired":                    sign(t, key, jose.RS256, "k1", with("exp", now.Add(-Skew).Unix())),
		"not valid yet":              sign(t, key, jose.RS256, "k1", with("nbf", now.Add(Skew+time.Second).Unix())),
		"without an oid":             sign(t, key, jose.RS256, "k1", with("oid", "")),
		"not a JWT":                  "abc",
		"empty":                      "",
		"far too long":               strings.Repeat("a", maxToken+1),
	}
	for name, token := range refused {
		if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrToken) {
			t.Errorf("token %s: got %v, want ErrToken", name, err)
		}
	}
	if _, err := (&Verifier{}).Verify(t.Context(), sign(t, key, jose.RS256, "k1", good)); !errors.Is(err, ErrToken) {
		t.Errorf("zero verifier: got %v, want ErrToken", err)
	}
}

func TestTheApiVersionIsRequiredAndKnown(t *testing.T) {
	for query, ok := range map[string]bool{"api-version=7.4": true, "api%2Dversion=7.4": true, "API-Version=7.4": true, "": false, "api-version=7.3x": false} {
		err := CheckVersion(httptest.NewRequest("GET", "/keys?"+query, nil), route.Versions{"7.4"})
		if (err == nil) != ok {
			t.Errorf("%q: got %v, want ok=%v", query, err, ok)
		}
	}
}

func TestAnErrorWithoutACodeKeepsItsTextToItself(t *testing.T) {
	rec := httptest.NewRecorder()
	WriteError(rec, errors.New("password is hunter2"), "cid-1")
	if body := rec.Body.String(); rec.Code != 500 || strings.Contains(body, "hunter2") || !strings.Contains(body, "cid-1") {
		t.Fatalf("got %d %s", rec.Code, body)
	}
}

package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

const kekID = "https://kv.vault.azure.net/keys/mysql-encryption-key"

// kekDouble is a vault with one RSA key: challenge, get, wrapKey, unwrapKey.
type kekDouble struct {
	key  *rsa.PrivateKey
	gets atomic.Int64

	mu      sync.Mutex
	version string
	expires *time.Time
	answer  http.HandlerFunc // replaces the answer to authenticated requests
}

func (d *kekDouble) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *kekDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.verdant.localhost/tid", resource="https://vault.azure.net"`)
		vaultError(http.StatusUnauthorized, "Unauthorized", "")(w, r)
		return
	}
	d.mu.Lock()
	version, expires, answer := d.version, d.expires, d.answer
	d.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // keys/name/version/op
	for len(parts) < 4 {
		parts = append(parts, "")
	}
	if parts[2] == "wrapkey" { // keys/name//wrapkey and keys/name/wrapkey both name the newest version
		parts[2], parts[3] = "", "wrapkey"
	}
	kid := kekID + "/" + version
	var in struct{ Alg, Value string }
	_ = json.NewDecoder(r.Body).Decode(&in)
	value, _ := raw64.DecodeString(in.Value)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodGet:
		d.gets.Add(1)
		attributes := map[string]any{"enabled": true}
		if expires != nil {
			attributes["exp"] = expires.Unix()
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"key": map[string]any{"kid": kid, "kty": "RSA-HSM"}, "attributes": attributes})
	case parts[3] == "wrapkey" && in.Alg == "RSA-OAEP-256":
		out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &d.key.PublicKey, value, nil)
		if err != nil {
			vaultError(http.StatusBadRequest, "BadParameter", "")(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kid": kid, "value": raw64.EncodeToString(out)})
	case parts[3] == "unwrapkey" && in.Alg == "RSA-OAEP-256" && parts[2] == version:
		out, err := rsa.DecryptOAEP(sha256.New(), nil, d.key, value, nil)
		if err != nil {
			vaultError(http.StatusBadRequest, "BadParameter", "")(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kid": kid, "value": raw64.EncodeToString(out)})
	default:
		vaultError(http.StatusNotFound, "KeyNotFound", "")(w, r)
	}
}

func vaultError(status int, code, inner string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":"because","innererror":{"code":%q}}}`, code, inner)
	}
}

func newKEKDouble(t *testing.T) (*kekDouble, *world) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	d := &kekDouble{key: key, version: "v1"}
	w.serve("kv.vault.azure.net", d, tls.NoClientCert)
	return d, w
}

func newKEK(t *testing.T, c azcore.TokenCredential, client *http.Client, now func() time.Time) *KEK {
	t.Helper()
	k, err := NewKEK(KEKConfig{KeyID: kekID, Credential: c, HTTP: client, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestADataKeyIsWrappedUnderTheNewestVersionAndComesBack(t *testing.T) {
	d, w := newKEKDouble(t)
	k := newKEK(t, &staticCredential{}, w.platform().HTTPClient(), time.Now)
	want := bytes.Repeat([]byte{7}, 32)
	kid, wrapped, err := k.Wrap(t.Context(), want)
	if err != nil || kid != kekID+"/v1" {
		t.Fatalf("got %q, %v", kid, err)
	}
	got, err := k.Unwrap(t.Context(), kid, wrapped)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %x, %v; want %x", got, err, want)
	}
	d.set(func() { d.version = "v2" })
	if kid, err := k.Current(t.Context()); err != nil || kid != kekID+"/v2" {
		t.Errorf("got %q, %v", kid, err)
	}
}

func TestAKeyThatExpiresIsRefusedAlthoughTheVaultUnwraps(t *testing.T) {
	d, w := newKEKDouble(t)
	now := time.Now()
	k := newKEK(t, &staticCredential{}, w.platform().HTTPClient(), func() time.Time { return now })
	kid, wrapped, err := k.Wrap(t.Context(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	unwrap := func() error { _, err := k.Unwrap(t.Context(), kid, wrapped); return err }
	if err := unwrap(); err != nil {
		t.Fatal(err)
	}
	expires := now.Add(2 * lifetimeStale).Truncate(time.Second)
	d.set(func() { d.expires = &expires })
	now = expires.Add(-time.Second)
	if err := unwrap(); err != nil {
		t.Errorf("a second before: %v", err)
	}
	before := d.gets.Load()
	now = expires
	var refused *KeyError
	if err := unwrap(); !errors.As(err, &refused) || !refused.KeyRefused() || !strings.Contains(err.Error(), "expired") {
		t.Errorf("at the date: got %v, want a refusal that says expired", err)
	}
	if got := d.gets.Load() - before; got != 0 {
		t.Errorf("the date was asked for %d times again within %s", got, lifetimeStale)
	}
	d.set(func() { d.expires = nil })
	now = now.Add(lifetimeStale)
	if err := unwrap(); err != nil {
		t.Errorf("after the date was taken away: %v", err)
	}
}

// closedPort returns an address on loopback where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func dialing(dial func(ctx context.Context) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
}

type failingCredential struct{ err error }

func (c failingCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, c.err
}

func TestOnlyADefiniteRefusalOfTheVaultCounts(t *testing.T) {
	d, w := newKEKDouble(t)
	_, other := newKEKDouble(t)
	other.refuse.Store(true)
	good := w.platform().HTTPClient()
	closed := closedPort(t)
	noToken := &azidentity.AuthenticationFailedError{RawResponse: &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(strings.NewReader("")), Request: &http.Request{}}}
	for name, c := range map[string]struct {
		answer     http.HandlerFunc
		client     *http.Client
		credential azcore.TokenCredential
		refused    bool
		says       string
	}{
		"the role was taken away":         {answer: vaultError(403, "Forbidden", "ForbiddenByRbac"), refused: true, says: "403 Forbidden (ForbiddenByRbac)"},
		"the endpoint is not approved":    {answer: vaultError(403, "Forbidden", "ForbiddenByConnection"), refused: true, says: "ForbiddenByConnection"},
		"the firewall was closed":         {answer: vaultError(403, "Forbidden", "ForbiddenByFirewall"), refused: true, says: "ForbiddenByFirewall"},
		"the key is disabled":             {answer: vaultError(403, "Forbidden", "KeyDisabled"), refused: true, says: "KeyDisabled"},
		"unwrapKey left key_ops":          {answer: vaultError(403, "KeyOperationForbidden", ""), refused: true, says: "KeyOperationForbidden"},
		"the key was deleted":             {answer: vaultError(404, "KeyNotFound", ""), refused: true, says: "KeyNotFound"},
		"the token is not understood":     {answer: vaultError(401, "Unauthorized", ""), says: "401"},
		"the vault is throttling":         {answer: vaultError(429, "Throttled", ""), says: "429"},
		"the vault is broken":             {answer: vaultError(500, "InternalServerError", ""), says: "500"},
		"the vault is starting":           {answer: vaultError(503, "ServiceUnavailable", ""), says: "503"},
		"the request is bad":              {answer: vaultError(400, "BadParameter", ""), says: "400"},
		"the key is being recovered":      {answer: vaultError(409, "Conflict", "ObjectIsBeingRecovered"), says: "409"},
		"a 404 that is not about the key": {answer: http.NotFound, says: "404"},
		"a 403 that is not the vault's":   {answer: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "blocked", http.StatusForbidden) }, says: "403"},
		"an answer without a value":       {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, says: "lacks"},
		"an answer that is cut off":       {answer: func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, says: "EOF"},
		"the vault is silent":             {answer: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, says: "deadline"},
		"the connection is refused":       {client: dialing(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", closed) }), says: "connection refused"},
		"the name does not resolve": {client: dialing(func(context.Context) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}), says: "no such host"},
		"a proxy in between refuses":       {client: other.platform().HTTPClient(), says: "Bad Gateway"},
		"another server has the name":      {client: dialing(func(ctx context.Context) (net.Conn, error) { return w.dialDirect(ctx) }), says: "certificate"},
		"the identity gives no token":      {credential: failingCredential{noToken}, says: "token"},
		"the identity service is silent":   {credential: failingCredential{context.DeadlineExceeded}, says: "deadline"},
		"nothing is wrong with the answer": {},
	} {
		t.Run(name, func(t *testing.T) {
			client, credential := c.client, c.credential
			if client == nil {
				client = good
			}
			if credential == nil {
				credential = &staticCredential{}
			}
			k := newKEK(t, credential, client, time.Now)
			d.set(func() { d.answer = nil })
			_, wrapped, err := newKEK(t, &staticCredential{}, good, time.Now).Wrap(t.Context(), make([]byte, 32))
			if err != nil {
				t.Fatal(err)
			}
			d.set(func() { d.answer = c.answer })
			patience := time.Minute
			if c.says == "deadline" { // only silence is to be cut short
				patience = 750 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			dek, err := k.Unwrap(ctx, kekID+"/v1", wrapped)
			if c.says == "" {
				if err != nil || len(dek) != 32 {
					t.Errorf("got %d bytes, %v", len(dek), err)
				}
				return
			}
			var got *KeyError
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want a *KeyError", err)
			}
			if got.KeyRefused() != c.refused {
				t.Errorf("refused: got %t, want %t (%v)", got.KeyRefused(), c.refused, err)
			}
			if !strings.Contains(err.Error(), kekID) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q names not both the key and %q", err, c.says)
			}
		})
	}
}

// dialDirect reaches the vault without the proxy, with a client that does not
// know the world's CA.
func (w *world) dialDirect(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	addr := w.names["kv.vault.azure.net:443"]
	w.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func TestAKeyIDMustBeAVersionlessHTTPSOne(t *testing.T) {
	for _, id := range []string{"", "http://kv.vault.azure.net/keys/k", kekID + "/v1", "https://kv.vault.azure.net/secrets/k", "https://kv.vault.azure.net/keys/",
		"https://u@kv.vault.azure.net/keys/k", kekID + "?x=y", "https:///keys/k", "%"} {
		if _, err := NewKEK(KEKConfig{KeyID: id, Credential: &staticCredential{}, HTTP: http.DefaultClient, Now: time.Now}); !errors.Is(err, ErrNotConfigured) {
			t.Errorf("%q: got %v, want ErrNotConfigured", id, err)
		}
	}
}

func TestAWrappedKeyOfAnotherVaultIsNotSentToOurs(t *testing.T) {
	k := newKEK(t, &staticCredential{}, dialing(func(context.Context) (net.Conn, error) {
		t.Error("a request was sent")
		return nil, io.EOF
	}), time.Now)
	for _, kid := range []string{kekID, "https://other.vault.azure.net/keys/mysql-encryption-key/v1", "https://kv.vault.azure.net/keys/aks-encryption-key/v1"} {
		if _, err := k.Unwrap(t.Context(), kid, make([]byte, 256)); err == nil {
			t.Errorf("%s: unwrapped", kid)
		}
	}
}

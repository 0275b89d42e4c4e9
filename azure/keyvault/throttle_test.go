package keyvault_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/conninfo"
	"verdant/internal/journal"
	"verdant/internal/sqlstore"
)

// inProcess carries requests to a vault without a network, so that a bubble of
// synctest has all of it.
type inProcess struct {
	handler http.Handler
	info    conninfo.Info

	mu       sync.Mutex
	statuses []int
	waits    []string
}

func (p *inProcess) Do(r *http.Request) (*http.Response, error) {
	in := r.Clone(conninfo.With(r.Context(), p.info))
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	p.handler.ServeHTTP(rec, in)
	resp := rec.Result()
	resp.Request = r
	p.mu.Lock()
	defer p.mu.Unlock()
	p.statuses = append(p.statuses, resp.StatusCode)
	if resp.StatusCode == http.StatusTooManyRequests {
		p.waits = append(p.waits, resp.Header.Get("Retry-After"))
	}
	return resp, nil
}

// TestStockClientsWaitAndSucceedWhenThrottled runs the clients as they come,
// with their own retries, on a clock that jumps.
func TestStockClientsWaitAndSucceedWhenThrottled(t *testing.T) {
	issuerKey() // outside the bubble
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, signer: issuerKey(), policy: rbac.NewPolicy(rbac.BuiltIn(), nil), clock: &clock{now: time.Now()}}
		w.grant(vaultID, rbac.KeyVaultAdministrator, admin)
		token, err := hsm.OpenSoftware(t.Context(), filepath.Join(dir, "token"), [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		db, err := sqlstore.Open(t.Context(), filepath.Join(dir, "vault.db"), [32]byte{2}, keyvault.Schema)
		if err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(context.Background(), filepath.Join(dir, "journal"), journal.Options{Key: [32]byte{3}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(db.Close(), j.Close()); err != nil {
				t.Error(err)
			}
		}()
		w.journal = j
		vault, err := keyvault.New(keyvault.Config{Name: vaultName, ResourceID: vaultID, Location: "westeurope", TenantID: tenant, Authority: authority, RetentionDays: 7,
			Limits: keyvault.Limits{EC: keyvault.KeyLimit{HSM: 2, Software: 4}, Create: keyvault.KeyLimit{HSM: 1, Software: 2}, SecretCreate: 1, Other: 1000}},
			keyvault.Deps{Token: token, DB: db, Audit: j, Policy: w.policy, Now: time.Now,
				Verifier: &rest.Verifier{Issuers: []string{issuer}, Audiences: []string{"https://vault.azure.net"}, Keys: w, Now: time.Now}})
		if err != nil {
			t.Fatal(err)
		}
		way := &inProcess{handler: vault.Handler(), info: conninfo.Info{Kind: conninfo.PrivateEndpoint}}
		options := azcore.ClientOptions{Transport: way}
		keys := must(azkeys.NewClient(vaultURL, w.as(admin), &azkeys.ClientOptions{ClientOptions: options}))(t)
		secrets := must(azsecrets.NewClient(vaultURL, w.as(admin), &azsecrets.ClientOptions{ClientOptions: options}))(t)
		began := time.Now()
		step := func(what string, elapsed time.Duration, throttled int, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if got := time.Since(began); got != elapsed || len(way.waits) != throttled {
				t.Errorf("%s: took %v with %v, want %v with %d refusals", what, got, way.waits, elapsed, throttled)
			}
			began, way.waits = time.Now(), nil
		}
		create := func(name string, kty azkeys.KeyType) error {
			_, err := keys.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: &kty, Curve: to.Ptr(azkeys.CurveNameP256)}, nil)
			return err
		}
		sign := func(name string) error {
			_, err := keys.Sign(t.Context(), name, "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: make([]byte, 32)}, nil)
			return err
		}
		set := func() error {
			_, err := secrets.SetSecret(t.Context(), "s", azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil)
			return err
		}
		step("the first key", 0, 0, create("h", azkeys.KeyTypeECHSM))
		step("a key in software, of half the weight", 5*time.Second, 1, create("s", azkeys.KeyTypeEC))
		step("two signatures in hardware", 0, 0, errors.Join(sign("h"), sign("h")))
		step("one more in software", 2500*time.Millisecond+500*time.Millisecond, 1, sign("s"))
		step("the first secret", 0, 0, set())
		step("the second secret", 10*time.Second, 1, set())
		step("reading is another class", 0, 0, func() error { _, err := secrets.GetSecret(t.Context(), "s", "", nil); return err }())

		// Strangers use up nothing.
		for range 50 {
			r := httptest.NewRequestWithContext(conninfo.With(t.Context(), way.info), "PUT", vaultURL+"/secrets/s?api-version=7.4", nil)
			r.Header.Set("Authorization", "Bearer "+w.mint(map[string]any{"oid": pod}))
			rec := httptest.NewRecorder()
			vault.Handler().ServeHTTP(rec, r)
			if rec.Code != http.StatusForbidden {
				t.Fatalf("a stranger: got %d", rec.Code)
			}
		}
		time.Sleep(10 * time.Second)
		began = time.Now()
		step("after strangers came", 0, 0, set())

		refused := 0
		for _, r := range w.records() {
			if p := r["properties"].(map[string]any); p["httpStatusCode"] == 429.0 {
				refused++
				if r["resultType"] != "Failed" {
					t.Errorf("a refusal's record: %v", r)
				}
			}
		}
		if refused != 3 {
			t.Errorf("the audit has %d refusals, want 3", refused)
		}
	})
}

func TestLimitsAreAzuresAndOffByDefault(t *testing.T) {
	l := keyvault.AzureLimits()
	if l.RSA2048 != (keyvault.KeyLimit{HSM: 2000, Software: 4000}) || l.RSA4096 != (keyvault.KeyLimit{HSM: 250, Software: 500}) || l.SecretCreate != 300 {
		t.Errorf("got %+v", l)
	}
	w := newWorld(t) // no limits
	for range 30 {
		if r := w.adminRaw("PUT", "/secrets/s", `{"value":"v"}`); r.status != http.StatusOK {
			t.Fatalf("got %d %s", r.status, r.text)
		}
	}
	w = newWorld(t, func(w *world) { w.cfg.Limits = keyvault.Limits{Other: 2} })
	for i, want := range []int{200, 200, 429, 429} {
		r := w.adminRaw("GET", "/secrets", "")
		if code, _ := r.code(); r.status != want || want == 429 && (code != "Throttled" || r.header.Get("Retry-After") != "5") {
			t.Errorf("request %d: got %d %s after %s", i, r.status, code, r.header.Get("Retry-After"))
		}
	}
	w.clock.Advance(5 * time.Second)
	if r := w.adminRaw("GET", "/secrets", ""); r.status != http.StatusOK {
		t.Errorf("after Retry-After: got %d", r.status)
	}
}

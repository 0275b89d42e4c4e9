package entra_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"verdant/azure/entra"
	"verdant/azure/rest"
	"verdant/internal/sqlstore"
	"verdant/internal/telemetry"
)

const (
	tenantID     = "11111111-1111-4111-8111-111111111111"
	loginHost    = "login.verdant.localhost"
	portalID     = "22222222-2222-4222-8222-222222222222"
	portalSecret = "portal-secret-portal-secret-portal-secret"
	portalURI    = "api://dgca-issuance-web"
	portalBack   = "https://portal.test/signin/callback"
	robotID      = "33333333-3333-4333-8333-333333333333"
	issuanceID   = "44444444-4444-4444-8444-444444444444"
	identityID   = "55555555-5555-4555-8555-555555555555" // principal
	identityApp  = "66666666-6666-4666-8666-666666666666" // client
	nurseID      = "77777777-7777-4777-8777-777777777777"
	citizenID    = "88888888-8888-4888-8888-888888888888"
	nursesID     = "99999999-9999-4999-8999-999999999999"
	identityARM  = "/subscriptions/s/resourceGroups/eudcc-ie/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"
	nurse        = "nurse@verdant.localhost"
	citizen      = "citizen@verdant.localhost"
	password     = "correct horse battery"
)

// signingKey is made once: key generation is slow.
var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// rows is a sink that remembers.
type rows struct {
	mu   sync.Mutex
	kept []kept
	fail error
}

type kept struct {
	table string
	telemetry.Row
}

func (r *rows) Emit(_ context.Context, table string, rows ...telemetry.Row) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	for _, row := range rows {
		r.kept = append(r.kept, kept{table, row})
	}
	return nil
}

func (r *rows) last(t *testing.T) kept {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) == 0 {
		t.Fatal("no sign-in row was written")
	}
	return r.kept[len(r.kept)-1]
}

func (r *rows) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)
}

// world is a tenant with a clock that only the test moves.
type world struct {
	*entra.Server
	db   *sql.DB
	rows *rows
	// issuers are the trusted ones.
	issuers entra.TrustedIssuers
	mu      sync.Mutex
	time    time.Time
	// calls counts requests, by path.
	calls map[string]int
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

func tenantConfig() entra.Config {
	portal, _ := entra.NewSecret(portalSecret)
	return entra.Config{
		TenantID: tenantID, TenantName: "Verdant Health", Domain: "verdant.localhost",
		Hosts: []string{loginHost, loginHost + ":8443"},
		Users: []entra.User{
			{ObjectID: nurseID, UPN: nurse, DisplayName: "Niamh Nurse", Groups: []string{nursesID}, Password: password},
			{ObjectID: citizenID, UPN: citizen, DisplayName: "Ciara Citizen", Password: password},
		},
		Groups: []entra.Group{{ObjectID: nursesID, DisplayName: "nurses"}},
		Apps: []entra.App{
			{ClientID: portalID, Name: "Issuance portal", IdentifierURIs: []string{portalURI}, RedirectURIs: []string{portalBack},
				Secrets: []entra.Secret{portal}, Roles: []string{"Certificate.Issuer"}, AssignmentRequired: true,
				Assignments: []entra.Assignment{{PrincipalID: nursesID, Role: "Certificate.Issuer"}}},
			{ClientID: issuanceID, Name: "Issuance service", IdentifierURIs: []string{"api://dgca-issuance-service"}},
			{ClientID: robotID, Name: "Robot", Secrets: []entra.Secret{portal}},
			{ClientID: entra.AzureCLI, Name: "Azure CLI", Public: true, FirstParty: true, RedirectURIs: []string{"http://localhost"}},
		},
		ManagedIdentities: []entra.ManagedIdentity{{Name: "web", ResourceID: identityARM, ClientID: identityApp, PrincipalID: identityID, Location: "northeurope"}},
	}
}

func newWorld(t testing.TB, change ...func(*entra.Config)) *world {
	t.Helper()
	w := &world{rows: &rows{}, time: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), calls: map[string]int{}}
	var err error
	w.db, err = sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "entra.db"), [32]byte{1}, entra.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.start(t, change...)
	return w
}

// start makes the server anew on the same database, as a restart would.
func (w *world) start(t testing.TB, change ...func(*entra.Config)) {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	cfg := tenantConfig()
	for _, c := range change {
		c(&cfg)
	}
	if w.issuers == nil {
		w.issuers = entra.TrustedIssuers{}
	}
	w.Server, err = entra.New(cfg, entra.Deps{Signer: key, DB: w.db, Sink: w.rows, Now: w.now, Issuers: w.issuers})
	if err != nil {
		t.Fatal(err)
	}
}

// RoundTrip answers requests in process, as if the network led to the server.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	return inProcess(w.Handler(), r)
}

func inProcess(h http.Handler, r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	in.RemoteAddr = "192.0.2.7:1234"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, in)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

// Do implements policy.Transporter for Azure SDK clients.
func (w *world) Do(r *http.Request) (*http.Response, error) { return w.RoundTrip(r) }

// browser follows redirects only within the login host and keeps cookies.
func (w *world) browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: w, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) post(t *testing.T, path string, form url.Values) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+loginHost+"/"+tenantID+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := w.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, decode(t, resp)
}

func decode(t *testing.T, resp *http.Response) map[string]any {
	t.Helper()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatalf("not JSON: %s", raw)
	}
	return body
}

func errorCode(body map[string]any) int {
	codes, _ := body["error_codes"].([]any)
	if len(codes) != 1 {
		return 0
	}
	code, _ := codes[0].(float64)
	return int(code)
}

// verify checks a token as a service of the platform does.
func (w *world) verify(t *testing.T, token, audience string) rest.Caller {
	t.Helper()
	v := &rest.Verifier{Issuers: w.Issuers(), Audiences: []string{audience}, Keys: w.Server, Now: w.now}
	caller, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatalf("token for %s: %v: %v", audience, err, claimsOf(t, token))
	}
	return caller
}

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

package keyvault_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/go-jose/go-jose/v4"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/conninfo"
	"verdant/internal/httpserve"
	"verdant/internal/journal"
	"verdant/internal/sqlstore"
	"verdant/internal/telemetry"
)

// The estate of the tests: one vault behind TLS on loopback, reached through
// what the test says is a private endpoint, with stock clients.

const (
	tenant    = "11111111-1111-1111-1111-111111111111"
	authority = "https://login.verdant.localhost/" + tenant
	issuer    = "https://login.verdant.localhost/" + tenant + "/"
	vaultName = "eudcc-ie-kv-g1"
	vaultID   = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/eudcc-ie/providers/Microsoft.KeyVault/vaults/" + vaultName
	vaultURL  = "https://" + vaultName + ".vault.azure.net"
	admin     = "aaaaaaaa-0000-0000-0000-000000000001"
)

type world struct {
	t      testing.TB
	dir    string
	policy *rbac.Policy
	clock  *clock
	sink   *memorySink
	signer *rsa.PrivateKey

	vault   *keyvault.Server
	journal keyvault.Journal
	token   *hsm.Software
	kept    keyvault.Store
	addr    string
	http    *http.Client
	info    conninfo.Info
	from    atomic.Pointer[conninfo.Info] // takes the place of info for new connections
	cfg     keyvault.Config
	deps    keyvault.Deps
	close   func()
	bare    bool // the administrator of a managed HSM may not use keys
	// backing opens the store and the token; nil is SQLite and files in dir.
	backing func(context.Context, *world) (keyvault.Store, *hsm.Software, func() error)
	// still keeps the vault's background work from running.
	still bool
	// certificate is the server's, in DER.
	certificate []byte
}

type clock struct {
	mu   sync.Mutex
	now  time.Time
	real bool
}

func (c *clock) Now() time.Time {
	if c.real {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// memorySink keeps rows; fail makes it refuse.
type memorySink struct {
	mu    sync.Mutex
	rows  []telemetry.Row
	table string
	fail  error
	grew  chan struct{}
}

func (m *memorySink) Emit(_ context.Context, table string, rows ...telemetry.Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.table, m.rows = table, append(m.rows, rows...)
	close(m.grew)
	m.grew = make(chan struct{})
	return nil
}

// wait returns the rows when there are at least n.
func (m *memorySink) wait(t testing.TB, n int) []telemetry.Row {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		m.mu.Lock()
		rows, grew := slices.Clone(m.rows), m.grew
		m.mu.Unlock()
		if len(rows) >= n {
			return rows
		}
		select {
		case <-grew:
		case <-deadline:
			t.Fatalf("the sink has %d rows, want %d", len(rows), n)
		}
	}
}

type option func(*world)

// issuerKey signs the tokens of every world; making it takes its time.
var issuerKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newWorld(t testing.TB, options ...option) *world {
	t.Helper()
	w := &world{t: t, signer: issuerKey(), policy: rbac.NewPolicy(rbac.BuiltIn(), nil),
		clock: &clock{now: time.Unix(1_800_000_000, 0)}, sink: &memorySink{grew: make(chan struct{})},
		info: conninfo.Info{Kind: conninfo.PrivateEndpoint, VNet: "eudcc-ie", PrivateEndpoint: vaultID + "-pe", Source: netip.MustParseAddrPort("192.168.4.20:40000")},
		cfg:  keyvault.Config{Name: vaultName, ResourceID: vaultID, Location: "westeurope", TenantID: tenant, Authority: authority, RetentionDays: 7}}
	for _, o := range options {
		o(w)
	}
	if w.dir == "" {
		w.dir = t.TempDir()
	}
	w.grant(vaultID, rbac.KeyVaultAdministrator, admin)
	w.start()
	t.Cleanup(func() { w.close() })
	if w.cfg.ManagedHSM && !w.bare {
		w.user(admin)
	}
	return w
}

// start opens the vault from the world's directory and serves it.
func (w *world) start() {
	t := w.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if w.backing == nil {
		w.backing = sqlite
	}
	store, token, closeStore := w.backing(ctx, w)
	j, err := journal.Open(ctx, filepath.Join(w.dir, "journal"), journal.Options{Key: [32]byte{3}})
	if err != nil {
		t.Fatal(err)
	}
	w.token, w.journal, w.kept = token, j, store
	deps := w.deps
	deps.Token, deps.Store, deps.Policy, deps.Sink, deps.Now = token, store, w.policy, w.sink, w.clock.Now
	if w.deps.Sink != nil {
		deps.Sink = w.deps.Sink
	}
	if deps.Audit == nil {
		deps.Audit = j
	} else if f, ok := deps.Audit.(*failingJournal); ok {
		f.Journal = j
	}
	deps.Verifier = &rest.Verifier{Issuers: []string{issuer}, Audiences: []string{"https://vault.azure.net"}, Keys: w, Now: w.clock.Now}
	if w.vault, err = keyvault.New(w.cfg, deps); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	cert, roots := serverCertificate(t)
	w.http, w.certificate = client(w.addr, roots), cert.Certificate[0]
	done := make(chan error, 2)
	go func() {
		done <- httpserve.Run(ctx, &endpoint{ln, w}, &tls.Config{Certificates: []tls.Certificate{cert}}, w.vault.Handler())
	}()
	go func() {
		if w.still {
			done <- nil
			return
		}
		done <- w.vault.Run(ctx)
	}()
	w.close = func() {
		w.http.CloseIdleConnections()
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(closeStore(), j.Close()); err != nil {
			t.Error(err)
		}
		w.close = func() {}
	}
}

// replica is a second server on the world's store and token; it answers with a
// status.
func (w *world) replica() func(method, pathAndQuery, token string) int {
	w.t.Helper()
	deps := w.deps
	deps.Token, deps.Store, deps.Policy, deps.Sink, deps.Now, deps.Audit = w.token, w.kept, w.policy, w.sink, w.clock.Now, w.journal
	deps.Verifier = &rest.Verifier{Issuers: []string{issuer}, Audiences: []string{"https://vault.azure.net"}, Keys: w, Now: w.clock.Now}
	s, err := keyvault.New(w.cfg, deps)
	if err != nil {
		w.t.Fatal(err)
	}
	return func(method, pathAndQuery, token string) int {
		r := httptest.NewRequest(method, vaultURL+pathAndQuery, nil)
		r = r.WithContext(conninfo.With(r.Context(), w.info))
		r.Header.Set("Authorization", "Bearer "+token)
		rec := httptest.NewRecorder()
		s.Handler().ServeHTTP(rec, r)
		return rec.Code
	}
}

func (w *world) restart() {
	w.close()
	w.start()
}

func (w *world) store() keyvault.Store { return w.kept }

// sqlite is a store and a token that only this vault has open.
func sqlite(ctx context.Context, w *world) (keyvault.Store, *hsm.Software, func() error) {
	db := must(sqlstore.Open(ctx, filepath.Join(w.dir, "vault.db"), [32]byte{2}, keyvault.Schema))(w.t)
	return keyvault.NewSQLStore(db, vaultName), must(hsm.OpenSoftware(ctx, filepath.Join(w.dir, "token"), [32]byte{1}))(w.t), db.Close
}

// endpoint is a listener whose connections carry the world's evidence.
type endpoint struct {
	net.Listener
	w *world
}

type evident struct {
	net.Conn
	info conninfo.Info
}

func (e *evident) ConnInfo() conninfo.Info { return e.info }

func (e *endpoint) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	info := e.w.info
	if from := e.w.from.Load(); from != nil {
		info = *from
	}
	if err != nil || info.Kind == "" {
		return c, err
	}
	return &evident{c, info}, nil
}

func serverCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"*.vault.azure.net"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// TokenKey makes the world the key source of its own tokens.
func (w *world) TokenKey(_ context.Context, kid string) (*rsa.PublicKey, error) {
	if kid != "k1" {
		return nil, errors.New("unknown key")
	}
	return &w.signer.PublicKey, nil
}

func (w *world) mint(claims map[string]any) string {
	w.t.Helper()
	now := w.clock.Now().Unix()
	all := map[string]any{"iss": issuer, "aud": "https://vault.azure.net", "tid": tenant, "nbf": now, "exp": now + 3600, "appid": "bbbbbbbb-0000-0000-0000-000000000001", "idtyp": "app"}
	for k, v := range claims {
		all[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: w.signer}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		w.t.Fatal(err)
	}
	payload, _ := json.Marshal(all)
	jws, err := signer.Sign(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *world) grant(scope, role, principal string) string {
	id := scope + "/providers/Microsoft.Authorization/roleAssignments/" + strings.ToLower(role[:8]+"-"+principal[len(principal)-12:])
	w.policy.Put(rbac.Assignment{ID: id, RoleDefinitionID: role, PrincipalID: principal, Scope: scope})
	return id
}

// who is a credential for a principal. It notes what it was asked for.
type who struct {
	w      *world
	oid    string
	mu     sync.Mutex
	scopes []string
	tenant string
}

func (p *who) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scopes, p.tenant = o.Scopes, o.TenantID
	return azcore.AccessToken{Token: p.w.mint(map[string]any{"oid": p.oid}), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (w *world) as(oid string) *who { return &who{w: w, oid: oid} }

// client reaches addr whatever host name is asked for.
func client(addr string, roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (w *world) options() azcore.ClientOptions {
	return azcore.ClientOptions{Transport: w.http, Retry: policy.RetryOptions{MaxRetries: -1}}
}

func (w *world) keys(oid string) *azkeys.Client {
	w.t.Helper()
	c, err := azkeys.NewClient(vaultURL, w.as(oid), &azkeys.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) secrets(oid string) *azsecrets.Client {
	w.t.Helper()
	c, err := azsecrets.NewClient(vaultURL, w.as(oid), &azsecrets.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) certificates(oid string) *azcertificates.Client {
	w.t.Helper()
	c, err := azcertificates.NewClient(vaultURL, w.as(oid), &azcertificates.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// reply is a raw answer.
type reply struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (r reply) code() (code, inner string) {
	e, _ := r.body["error"].(map[string]any)
	code, _ = e["code"].(string)
	i, _ := e["innererror"].(map[string]any)
	inner, _ = i["code"].(string)
	return code, inner
}

func (r reply) message() string {
	e, _ := r.body["error"].(map[string]any)
	m, _ := e["message"].(string)
	return m
}

// raw sends a request as it is; token "" sends none.
func (w *world) raw(method, pathAndQuery, token, body string) reply {
	w.t.Helper()
	req, err := http.NewRequest(method, vaultURL+pathAndQuery, bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	out := reply{status: res.StatusCode, header: res.Header, text: string(data)}
	_ = json.Unmarshal(data, &out.body)
	return out
}

// rawFrom is raw over a new connection with other evidence.
func (w *world) rawFrom(info conninfo.Info, method, pathAndQuery, token, body string) reply {
	w.t.Helper()
	w.http.CloseIdleConnections()
	w.from.Store(&info)
	return w.raw(method, pathAndQuery, token, body)
}

// adminRaw sends a request as the administrator, with the newest version.
func (w *world) adminRaw(method, path, body string) reply {
	w.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return w.raw(method, path+sep+"api-version=7.4", w.mint(map[string]any{"oid": admin}), body)
}

// refused checks the status and codes of a client's error.
func refused(t testing.TB, err error, status int, code string) {
	t.Helper()
	var re *azcore.ResponseError
	if !errors.As(err, &re) || re.StatusCode != status || re.ErrorCode != code {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// records returns the audit records in the journal.
func (w *world) records() []map[string]any {
	w.t.Helper()
	var all []map[string]any
	err := w.journal.Read(context.Background(), 1, func(_ uint64, record []byte) error {
		var m map[string]any
		if err := json.Unmarshal(record, &m); err != nil {
			return err
		}
		all = append(all, m)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// failingJournal refuses to append while broken is set.
type failingJournal struct {
	keyvault.Journal
	mu     sync.Mutex
	broken bool
}

func (f *failingJournal) set(broken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = broken
}

func (f *failingJournal) Append(ctx context.Context, records ...[]byte) (uint64, error) {
	f.mu.Lock()
	broken := f.broken
	f.mu.Unlock()
	if broken {
		return 0, errors.New("no space left on device")
	}
	return f.Journal.Append(ctx, records...)
}

// tokenKeys counts the keys in the world's token.
func (w *world) tokenKeys() int {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "token"))
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if !strings.Contains(e.Name(), ".") {
			n++
		}
	}
	return n
}

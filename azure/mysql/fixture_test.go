package mysql

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	driver "github.com/go-sql-driver/mysql"

	"verdant/azure/rest"
	"verdant/cmk"
	"verdant/internal/conninfo"
	"verdant/internal/telemetry"
)

const (
	issuer     = "https://login.verdant.localhost/tid/"
	serverName = "eudcc-ie-mysql.mysql.database.azure.com"
	issuanceID = "11111111-0000-0000-0000-000000000001"
	verifierID = "11111111-0000-0000-0000-000000000002"
	adminID    = "11111111-0000-0000-0000-000000000003"
)

// fixture is a server on loopback with an issuer, a CA and a guard.
type fixture struct {
	*Server
	t     testing.TB
	dir   string
	addr  string
	guard *memoryGuard
	sink  *memorySink
	roots *x509.CertPool
	caPEM string
	key   *rsa.PrivateKey
}

// memoryGuard is a Guard in memory that tests open and close.
type memoryGuard struct {
	mu      sync.Mutex
	state   cmk.State
	changed chan struct{}
}

func newGuard() *memoryGuard {
	return &memoryGuard{state: cmk.State{Available: true}, changed: make(chan struct{})}
}

func (g *memoryGuard) Key() ([32]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.state.Available {
		return [32]byte{}, fmt.Errorf("%w: %s", cmk.ErrInaccessible, g.state.Reason)
	}
	return [32]byte{1, 2, 3}, nil
}

func (g *memoryGuard) Watch() (cmk.State, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state, g.changed
}

func (g *memoryGuard) set(state cmk.State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = state
	close(g.changed)
	g.changed = make(chan struct{})
}

// memorySink keeps the audit rows.
type memorySink struct {
	mu   sync.Mutex
	rows []telemetry.Row
	fail error
}

func (s *memorySink) Emit(_ context.Context, table string, rows ...telemetry.Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if table != auditTable {
		return errors.New("unexpected table " + table)
	}
	if s.fail != nil {
		return s.fail
	}
	s.rows = append(s.rows, rows...)
	return nil
}

func (s *memorySink) all() []telemetry.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]telemetry.Row(nil), s.rows...)
}

// endpointListener hands out connections as the network does.
type endpointListener struct {
	net.Listener
	kind conninfo.Kind
}

type endpointConn struct {
	net.Conn
	info conninfo.Info
}

func (c endpointConn) ConnInfo() conninfo.Info { return c.info }

func (l endpointListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.kind == "" {
		return c, err
	}
	return endpointConn{c, conninfo.Info{Kind: l.kind, VNet: "eudcc-ie", PrivateEndpoint: "pe", Source: c.RemoteAddr().(*net.TCPAddr).AddrPort()}}, nil
}

// TokenKey makes the fixture its own issuer's key source.
func (f *fixture) TokenKey(context.Context, string) (*rsa.PublicKey, error) {
	return &f.key.PublicKey, nil
}

var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// token is an access token of a principal; change, if not nil, edits its
// claims.
func (f *fixture) token(objectID string, change func(map[string]any)) string {
	f.t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{"iss": issuer, "aud": Audience, "iat": now, "nbf": now, "exp": now + 3600, "tid": "tid", "oid": objectID, "idtyp": "app",
		"filler": strings.Repeat("x", 1500)} // as long as real ones are
	if change != nil {
		change(claims)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: f.key}, (&jose.SignerOptions{}).WithHeader("kid", "k").WithType("JWT"))
	if err != nil {
		f.t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		f.t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

type option func(*Config, *Deps)

func newFixture(t testing.TB, options ...option) *fixture {
	t.Helper()
	key, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: t.TempDir(), guard: newGuard(), sink: &memorySink{}, key: key}
	f.build(options...)
	l := f.listen(conninfo.PrivateEndpoint)
	f.addr = l
	return f
}

func (f *fixture) build(options ...option) {
	f.t.Helper()
	verifier := &rest.Verifier{Issuers: []string{issuer}, Audiences: []string{Audience}, Keys: f, Now: time.Now}
	cfg := Config{Name: "eudcc-ie-mysql", ResourceID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.DBforMySQL/flexibleServers/eudcc-ie-mysql",
		Databases: []string{"issuance-service", "verifier-service"}, TLS: f.certificate(),
		Accounts: []Account{{Name: "issuance", ObjectID: issuanceID, Databases: []string{"issuance-service"}},
			{Name: "verifier", ObjectID: verifierID, Databases: []string{"verifier-service"}}, {Name: "mysql-aadadmin", ObjectID: adminID, Admin: true}}}
	deps := Deps{Verifier: verifier, Guard: f.guard, Dir: f.dir, Sink: f.sink, Now: time.Now}
	for _, o := range options {
		o(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Server = s
	f.background(func(ctx context.Context) error { return s.Run(ctx) })
}

// background runs a task until the test ends.
func (f *fixture) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			f.t.Error(err)
		}
	})
}

// listen opens another listener of the kind; "" hands out connections without
// evidence.
func (f *fixture) listen(kind conninfo.Kind) (addr string) {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	s := f.Server
	f.background(func(ctx context.Context) error { return s.Serve(ctx, endpointListener{l, kind}) })
	return l.Addr().String()
}

func (f *fixture) certificate() *tls.Config {
	f.t.Helper()
	config, err := selfSigned(f)
	if err != nil {
		f.t.Fatal(err)
	}
	f.caPEM = filepath.Join(f.t.TempDir(), "ca.pem")
	if err := os.WriteFile(f.caPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: config.Certificates[0].Certificate[0]}), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return config
}

// selfSigned makes a server's certificate and puts it into the roots.
func selfSigned(f *fixture) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName, "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	f.roots = x509.NewCertPool()
	f.roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

// dsn is a stock client's configuration, as package client makes it.
func (f *fixture) dsn(user, objectID, database string) *driver.Config {
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "tcp", f.addr, user, database
	cfg.Passwd = f.token(objectID, nil)
	cfg.TLS = &tls.Config{RootCAs: f.roots, ServerName: serverName}
	cfg.AllowCleartextPasswords, cfg.AllowNativePasswords = true, false
	cfg.Logger = log{}
	return cfg
}

// log swallows the driver's own log.
type log struct{}

func (log) Print(...any) {}

func (f *fixture) openDSN(cfg *driver.Config) *sql.DB {
	f.t.Helper()
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	f.t.Cleanup(func() { _ = db.Close() })
	return db
}

// open connects as the issuance service.
func (f *fixture) open() *sql.DB {
	f.t.Helper()
	db := f.openDSN(f.dsn("issuance", issuanceID, "issuance-service"))
	if err := db.Ping(); err != nil {
		f.t.Fatal(err)
	}
	return db
}

func mustExec(t testing.TB, db interface {
	Exec(string, ...any) (sql.Result, error)
}, query string, args ...any) sql.Result {
	t.Helper()
	r, err := db.Exec(query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return r
}

// code is the MySQL error number in err; 0 for none.
func code(err error) uint16 {
	var e *driver.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for range 2000 {
		if condition() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

func readFile(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wrongAudience is a verifier that was configured for another service.
type wrongAudience struct{ TokenVerifier }

func (w wrongAudience) Verify(ctx context.Context, token string) (rest.Caller, error) {
	c, err := w.TokenVerifier.Verify(ctx, token)
	c.Audience = "https://vault.azure.net"
	return c, err
}

func readOnly() *sql.TxOptions { return &sql.TxOptions{ReadOnly: true} }

// anybody verifies every token as the issuance service's.
type anybody struct{}

func (anybody) Verify(context.Context, string) (rest.Caller, error) {
	return rest.Caller{ObjectID: issuanceID, Audience: Audience}, nil
}

// insecureDSN does not verify the server: its certificate is another one each
// time.
func insecureDSN(addr string) *driver.Config {
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName, cfg.Passwd = "tcp", addr, "issuance", "issuance-service", "token"
	cfg.TLS = &tls.Config{InsecureSkipVerify: true} // loopback, in a test of durability
	cfg.AllowCleartextPasswords = true
	cfg.Logger = log{}
	return cfg
}

// nopConn is a connection of which only the deadline is used.
type nopConn struct{ net.Conn }

func (nopConn) SetWriteDeadline(time.Time) error { return nil }

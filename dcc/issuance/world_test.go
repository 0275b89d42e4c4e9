package issuance

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	_ "github.com/ncruces/go-sqlite3/driver" // stands in for MySQL

	"verdant/azure/rest"
	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/trustlist"
)

var began = time.Date(2022, 1, 10, 12, 0, 0, 0, time.UTC)

// world is an issuance service with a document signer, a database and an
// identity provider of its own.
type world struct {
	t        testing.TB
	clock    atomic.Int64
	path     string
	db       *sql.DB
	tokenKey *rsa.PrivateKey
	dscKey   crypto.Signer
	csca     trustlist.Authority
	dsc      *x509.Certificate
	log      safeBuffer
}

// safeBuffer is a log that several requests write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, tokenKey: rsaKey(), path: filepath.Join(t.TempDir(), "issuance.db")}
	w.clock.Store(began.UnixMicro())
	w.db = w.openDB()
	w.csca = trustlist.Authority{Key: w.newKey()}
	der, err := trustlist.NewCSCA(t.Context(), w.csca.Key, trustlist.Subject{Country: "IE", CommonName: "CSCA"}, began.AddDate(0, -1, 0))
	w.csca.Certificate = w.parse(der, err)
	w.newDSC(w.newKey(), 0)
	return w
}

func (w *world) openDB() *sql.DB {
	w.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+w.path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_txlock=immediate")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (w *world) now() time.Time { return time.UnixMicro(w.clock.Load()).UTC() }

func (w *world) pass(d time.Duration) { w.clock.Add(d.Microseconds()) }

func (w *world) newKey() *ecdsa.PrivateKey {
	w.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) parse(der []byte, err error) *x509.Certificate {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// newDSC gives the service a document signer with this key.
func (w *world) newDSC(key crypto.Signer, usage hcert.Usage) {
	w.t.Helper()
	der, err := trustlist.NewDSC(w.t.Context(), w.csca, key.Public(), trustlist.Subject{Country: "IE", CommonName: "DSC"}, usage, began.AddDate(0, 0, -1))
	w.dscKey, w.dsc = key, w.parse(der, err)
}

// TokenKey implements rest.KeySource.
func (w *world) TokenKey(context.Context, string) (*rsa.PublicKey, error) {
	return &w.tokenKey.PublicKey, nil
}

// token is an access token for an audience and an object id.
func (w *world) token(audience, oid string) string {
	w.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: w.tokenKey}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	payload, _ := json.Marshal(map[string]any{"iss": "https://login/t/", "aud": audience, "oid": oid, "tid": "t", "exp": w.now().Unix() + 3600})
	jws, err := s.Sign(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

const (
	audience = "api://dgca-issuance-service"
	portal   = "11111111-1111-1111-1111-111111111111"
)

// make makes the service; change may alter what it is made of.
func (w *world) make(role Role, change func(*Config, *Deps)) (*Server, error) {
	cfg := Config{Role: role, Country: "IE", Callers: []string{portal}}
	deps := Deps{DB: w.db, Now: w.now, Log: slog.New(slog.NewJSONHandler(&w.log, nil))}
	if role == Private {
		deps.DSC, deps.Signer = w.dsc, w.dscKey
		deps.Tokens = &rest.Verifier{Issuers: []string{"https://login/t/"}, Audiences: []string{audience}, Keys: w, Now: w.now}
	}
	if change != nil {
		change(&cfg, &deps)
	}
	return New(w.t.Context(), cfg, deps)
}

// server serves what make makes.
func (w *world) server(role Role, change func(*Config, *Deps)) (*httptest.Server, error) {
	s, err := w.make(role, change)
	if err != nil {
		return nil, err
	}
	h, err := s.Handler()
	if err != nil {
		return nil, err
	}
	ts := httptest.NewServer(h)
	w.t.Cleanup(ts.Close)
	return ts, nil
}

func (w *world) serve(role Role, change func(*Config, *Deps)) *httptest.Server {
	w.t.Helper()
	ts, err := w.server(role, change)
	if err != nil {
		w.t.Fatal(err)
	}
	return ts
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(r.body), &p)
	return p.Code
}

func (r reply) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil || r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.body)
	}
}

// send sends a request; an empty token sends none.
// professionalID is on whose behalf the test's portal asks.
const professionalID = "7d3b2c61-5f0a-4a8e-9c1d-0123456789ab"

func (w *world) send(ts *httptest.Server, method, path, token, body string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, ts.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set(wire.ProfessionalHeader, professionalID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(raw)}
}

// issue sends a payload as the portal.
func (w *world) issue(ts *httptest.Server, body string) reply {
	w.t.Helper()
	return w.send(ts, "PUT", "/dgci/issue", w.token(audience, portal), body)
}

func (w *world) rows() (n int) {
	w.t.Helper()
	if err := w.db.QueryRowContext(w.t.Context(), `SELECT COUNT(*) FROM dgci`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// failingSigner is a key that the vault refuses to use.
type failingSigner struct {
	crypto.Signer
	err error
}

func (f failingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, f.err }

var errBoom = errors.New("boom")

const vaccination = `{"ver":"1.3.0","nam":{"fn":"Murphy-Secret","fnt":"MURPHY<SECRET","gn":"Saoirse","gnt":"SAOIRSE"},"dob":"1987-02-03",
"v":[{"tg":"840539006","vp":"1119349007","mp":"EU/1/20/1528","ma":"ORG-100030215","dn":2,"sd":2,"dt":"2021-06-11","co":"IE","is":"HSE","ci":"anything"}]}`

const test = `{"ver":"1.3.0","nam":{"fn":"Murphy-Secret","fnt":"MURPHY<SECRET"},"dob":"1987-02","t":[{"tg":"840539006","tt":"LP6464-4","nm":"PCR","sc":"2022-01-09T10:00:00Z","tr":"260415000","tc":"Centre","co":"IE","is":"HSE"}]}`

const recovery = `{"ver":"1.3.0","nam":{"fn":"Murphy-Secret","fnt":"MURPHY<SECRET"},"dob":"1987","r":[{"tg":"840539006","fr":"2021-12-01","df":"2021-12-12","du":"2022-05-30","co":"IE","is":"HSE"}]}`

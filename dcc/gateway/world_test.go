package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // stands in for MySQL

	"verdant/hcert"
	"verdant/trustlist"
)

// country is a member state with its keys, as a test plays it.
type country struct {
	code                   string
	authKey, uploadKey     *ecdsa.PrivateKey
	auth, upload, cscaCert *x509.Certificate
	csca                   trustlist.Authority
}

// world is a gateway over a database of its own, with IE and DE onboarded.
type world struct {
	t         testing.TB
	clock     atomic.Int64
	db        *sql.DB
	dir       string // the onboarding directory
	anchorKey *ecdsa.PrivateKey
	anchor    *x509.Certificate
	ie, de    *country
	server    *Server
	http      *httptest.Server
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parse(t testing.TB, der []byte, err error) *x509.Certificate {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var began = time.Date(2022, 1, 10, 12, 0, 0, 0, time.UTC)

func openDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), anchorKey: newKey(t)}
	w.clock.Store(began.UnixMicro())
	w.db = openDB(t, filepath.Join(t.TempDir(), "dgc.db"))
	der, err := trustlist.NewAnchorCertificate(t.Context(), w.anchorKey, trustlist.Subject{Country: "EU", CommonName: "Trust Anchor"}, began.AddDate(-1, 0, 0))
	w.anchor = parse(t, der, err)
	w.ie, w.de = w.country("IE"), w.country("DE")
	w.start()
	return w
}

func (w *world) now() time.Time { return time.UnixMicro(w.clock.Load()).UTC() }

// start makes the server as a start of the pod would.
func (w *world) start() {
	w.t.Helper()
	s, err := New(w.t.Context(), Config{Ingress: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, OnboardingDir: w.dir},
		Deps{DB: w.db, Anchor: w.anchor, AnchorKey: w.anchorKey, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := s.Handler()
	if err != nil {
		w.t.Fatal(err)
	}
	w.server, w.http = s, httptest.NewServer(h)
	w.t.Cleanup(w.http.Close)
}

// country makes a country's keys and puts its certificates up for onboarding.
func (w *world) country(code string) *country {
	w.t.Helper()
	from := began.AddDate(0, -1, 0)
	c := &country{code: code, authKey: newKey(w.t), uploadKey: newKey(w.t)}
	cscaKey := newKey(w.t)
	sub := func(cn string) trustlist.Subject {
		return trustlist.Subject{Country: code, Organization: "Health", CommonName: cn + " " + code}
	}
	der, err := trustlist.NewCSCA(w.t.Context(), cscaKey, sub("CSCA"), from)
	c.cscaCert = parse(w.t, der, err)
	c.csca = trustlist.Authority{Certificate: c.cscaCert, Key: cscaKey}
	der, err = trustlist.NewAuthentication(w.t.Context(), trustlist.Authority{Key: c.authKey}, &c.authKey.PublicKey, sub("Auth"), from)
	c.auth = parse(w.t, der, err)
	der, err = trustlist.NewUpload(w.t.Context(), trustlist.Authority{Key: c.uploadKey}, &c.uploadKey.PublicKey, sub("Upload"), from)
	c.upload = parse(w.t, der, err)
	for name, cert := range map[string]*x509.Certificate{"auth": c.auth, "upload": c.upload, "csca": c.cscaCert} {
		w.onboard(code, name+".pem", cert)
	}
	return c
}

func (w *world) onboard(code, name string, cert *x509.Certificate) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Join(w.dir, code), 0o700); err != nil {
		w.t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := os.WriteFile(filepath.Join(w.dir, code, name), block, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// dsc makes a document signer of the country.
func (w *world) dsc(c *country) *x509.Certificate {
	w.t.Helper()
	k := newKey(w.t)
	der, err := trustlist.NewDSC(w.t.Context(), c.csca, &k.PublicKey, trustlist.Subject{Country: c.code, CommonName: "DSC"}, hcert.Usage(0), began.AddDate(0, 0, -1))
	return parse(w.t, der, err)
}

// cms wraps content as the country's upload, in base64.
func (w *world) cms(c *country, content []byte) string {
	w.t.Helper()
	return signed(w.t, c.upload, c.uploadKey, content)
}

func signed(t testing.TB, cert *x509.Certificate, key *ecdsa.PrivateKey, content []byte) string {
	t.Helper()
	body, err := (&trustlist.CMSSigner{Certificate: cert, Key: key, Now: func() time.Time { return began }}).SignBase64(context.Background(), content)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

type reply struct {
	status int
	header http.Header
	body   string
}

// code is the code of a ProblemReport.
func (r reply) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(r.body), &p)
	return p.Code
}

func (r reply) items(t *testing.T) []trustlist.Item {
	t.Helper()
	var items []trustlist.Item
	if err := json.Unmarshal([]byte(r.body), &items); err != nil || r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.body)
	}
	return items
}

// call sends a request as a country through the ingress.
func (w *world) call(c *country, method, path, body string, header ...string) reply {
	w.t.Helper()
	sum := sha256.Sum256(c.auth.Raw)
	h := []string{headerThumbprint, base64.StdEncoding.EncodeToString(sum[:]), headerSubject, "CN=Auth,C=" + c.code}
	if body != "" {
		h = append(h, "Content-Type", "application/cms")
	}
	return w.raw(method, path, body, append(h, header...)...)
}

func (w *world) raw(method, path, body string, header ...string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.http.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
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

// ingress is a TLS front that proves possession of the client's key and hands
// the certificate on in the headers, as the estate's ingress does.
func (w *world) ingress(h http.Handler) *httptest.Server {
	w.t.Helper()
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		cert := r.TLS.PeerCertificates[0]
		sum := sha256.Sum256(cert.Raw)
		r.Header.Set(headerThumbprint, base64.StdEncoding.EncodeToString(sum[:]))
		r.Header.Set(headerSubject, cert.Subject.String())
		h.ServeHTTP(rw, r)
	}))
	front.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	front.StartTLS()
	w.t.Cleanup(front.Close)
	return front
}

func (w *world) scalar(query string, args ...any) (n int) {
	w.t.Helper()
	if err := w.db.QueryRowContext(w.t.Context(), query, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

package verifier

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // stands in for MySQL

	"verdant/dcc/connector"
	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/trustlist"
)

var began = time.Date(2022, 1, 10, 12, 0, 0, 0, time.UTC)

// world is a verifier service over a trust list that the test sets.
type world struct {
	t      *testing.T
	upload *trustlist.CMSSigner
	csca   trustlist.Authority
	fixed  []trustlist.Item
	anchor *trustlist.Anchor
	path   string
	log    bytes.Buffer

	mu      sync.Mutex
	now     time.Time
	current *connector.Snapshot
	next    *connector.Snapshot // what a refresh brings
	err     error               // or fails with
	asked   int

	server *Server
	http   *httptest.Server
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parse(t *testing.T, der []byte, err error) *x509.Certificate {
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

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: began, path: filepath.Join(t.TempDir(), "verifier.db")}
	clock := func() time.Time { return began }
	from := began.AddDate(0, -1, 0)
	ak, uk, ck := newKey(t), newKey(t), newKey(t)
	der, err := trustlist.NewAnchorCertificate(t.Context(), ak, trustlist.Subject{Country: "EU", CommonName: "TA"}, from)
	anchor := &trustlist.CMSSigner{Certificate: parse(t, der, err), Key: ak, Now: clock}
	w.anchor = trustlist.NewAnchor(anchor.Certificate)
	der, err = trustlist.NewUpload(t.Context(), trustlist.Authority{Key: uk}, &uk.PublicKey, trustlist.Subject{Country: "IE", CommonName: "UP"}, from)
	w.upload = &trustlist.CMSSigner{Certificate: parse(t, der, err), Key: uk, Now: clock}
	der, err = trustlist.NewCSCA(t.Context(), ck, trustlist.Subject{Country: "IE", CommonName: "CSCA"}, from)
	w.csca = trustlist.Authority{Certificate: parse(t, der, err), Key: ck}
	for typ, c := range map[trustlist.CertificateType]*x509.Certificate{trustlist.Upload: w.upload.Certificate, trustlist.CSCA: w.csca.Certificate} {
		item, err := trustlist.SignParty(t.Context(), anchor, typ, c)
		if err != nil {
			t.Fatal(err)
		}
		w.fixed = append(w.fixed, item)
	}
	w.current = &connector.Snapshot{List: trustlist.NewList(), Parties: trustlist.NewParties()}
	w.start()
	return w
}

// start makes the server as a start of the pod would.
func (w *world) start() {
	w.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+w.path+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = db.Close() })
	w.server, err = New(w.t.Context(), Config{}, Deps{DB: db, Source: w, Log: slog.New(slog.NewJSONHandler(&w.log, nil)), Now: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := w.server.Handler()
	if err != nil {
		w.t.Fatal(err)
	}
	w.http = httptest.NewServer(h)
	w.t.Cleanup(w.http.Close)
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) pass(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.now = w.now.Add(d) }

// world is a Source.

func (w *world) Current() *connector.Snapshot { w.mu.Lock(); defer w.mu.Unlock(); return w.current }

func (w *world) KeysFor(kid hcert.KID) []*hcert.Key { return w.Current().List.KeysFor(kid) }

func (w *world) Refresh(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.err == nil && w.next != nil {
		w.current, w.next = w.next, nil
	}
	return w.err
}

func (w *world) RefreshIfOlder(ctx context.Context, _ time.Duration) error { return w.Refresh(ctx) }

// dsc is a document signer with its key.
type dsc struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (w *world) dsc(usage hcert.Usage) dsc {
	w.t.Helper()
	k := newKey(w.t)
	der, err := trustlist.NewDSC(w.t.Context(), w.csca, &k.PublicKey, trustlist.Subject{Country: "IE", CommonName: "DSC"}, usage, began.AddDate(0, 0, -1))
	return dsc{parse(w.t, der, err), k}
}

// list is a trust list of these signers as the connector would prove it.
func (w *world) list(signers ...dsc) *connector.Snapshot {
	w.t.Helper()
	items := slices.Clone(w.fixed)
	parties := w.anchor.Verify(items).Parties
	for _, d := range signers {
		text, err := w.upload.SignBase64(w.t.Context(), d.cert.Raw)
		if err != nil {
			w.t.Fatal(err)
		}
		env, err := trustlist.ParseCMSBase64(text)
		if err != nil {
			w.t.Fatal(err)
		}
		_, item, err := parties.VerifyUpload(env, "IE", began)
		if err != nil {
			w.t.Fatal(err)
		}
		items = append(items, item)
	}
	v := w.anchor.Verify(items)
	return &connector.Snapshot{List: v.List, Parties: v.Parties, At: w.clock()}
}

// sync has a refresh bring a list of these signers.
func (w *world) sync(signers ...dsc) {
	w.t.Helper()
	next := w.list(signers...)
	w.mu.Lock()
	w.next = next
	w.mu.Unlock()
	if err := w.server.Sync(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

const vaccination = `{"ver":"1.3.0","nam":{"fn":"Murphy-Secret","fnt":"MURPHY<SECRET"},"dob":"1987-02-03",
"v":[{"tg":"840539006","vp":"1119349007","mp":"EU/1/20/1528","ma":"ORG-100030215","dn":2,"sd":2,"dt":"2021-06-11","co":"IE","is":"HSE","ci":"URN:UVCI:01:IE:X"}]}`

// issue makes a certificate that is valid for a day.
func (w *world) issue(d dsc) string {
	w.t.Helper()
	payload, err := hcert.ParseDCC([]byte(vaccination))
	if err != nil {
		w.t.Fatal(err)
	}
	// The certificate may say what its signer may not sign: any key makes it.
	plain := *d.cert
	plain.ExtKeyUsage, plain.UnknownExtKeyUsage = nil, nil
	issuer, err := hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: &plain, Signer: d.key})
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := issuer.Issue(w.t.Context(), payload, began, began.AddDate(0, 0, 1))
	if err != nil {
		w.t.Fatal(err)
	}
	return out.Text
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (w *world) call(method, path, body string, header ...string) reply {
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

func (w *world) verify(hc1, at string) wire.VerifyResult {
	w.t.Helper()
	body, _ := json.Marshal(wire.VerifyRequest{HC1: hc1, At: at})
	got := w.call("POST", "/verify", string(body))
	var out wire.VerifyResult
	if err := json.Unmarshal([]byte(got.body), &out); err != nil || got.status != 200 {
		w.t.Fatalf("got %d %s", got.status, got.body)
	}
	return out
}

func TestACertificateIsVerifiedWithTheReasonIfItIsNot(t *testing.T) {
	w := newWorld(t)
	good, unknown, testsOnly := w.dsc(0), w.dsc(0), w.dsc(hcert.UsageTest)
	w.sync(good, testsOnly)
	hc1 := w.issue(good)
	var d hcert.Decoder
	u, err := d.Decode(hc1)
	if err != nil {
		t.Fatal(err)
	}
	changed := []byte(u.COSE)
	changed[bytes.Index(changed, []byte("Murphy"))] ^= 1
	for _, tt := range []struct{ name, hc1, at, code, stage string }{
		{"a good one", hc1, "", "", ""},
		{"one changed bit", reencode(t, changed), "", "bad-signature", "signature"},
		{"an unknown signer", w.issue(unknown), "", "unknown-signer", "signer"},
		{"expired", hc1, "2022-01-12T00:00:00Z", "expired", "validity"},
		{"before it was issued", hc1, "2022-01-10T13:00:00+02:00", "not-yet-valid", "validity"},
		{"a signer of tests only", w.issue(testsOnly), "", "wrong-key-usage", "key usage"},
		{"another text", "HELLO", "", "wrong-prefix", "prefix"},
		{"broken base45", "HC1:abc", "", "bad-base45", "base45"},
		{"nothing", "", "", "wrong-prefix", "prefix"},
	} {
		got := w.verify(tt.hc1, tt.at)
		switch {
		case tt.code == "" && (!got.Valid || len(got.Reasons) != 0 || got.Kind != "vaccination" || got.Country != "IE" || got.SchemaRelease == "" || got.SignersKnown != 2):
			t.Errorf("%s: got %+v", tt.name, got)
		case tt.code != "" && (got.Valid || len(got.Reasons) != 1 || got.Reasons[0].Code != tt.code || got.Reasons[0].Stage != tt.stage || got.Reasons[0].Detail == ""):
			t.Errorf("%s: got %+v, want %s", tt.name, got, tt.code)
		}
	}
	for _, body := range []string{"", "[]", `{"hc1":"x","at":"yesterday"}`} {
		if got := w.call("POST", "/verify", body); got.status != 400 {
			t.Errorf("%q: got %d", body, got.status)
		}
	}
	file, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"log": w.log.String(), "database": string(file)} {
		if strings.Contains(text, "Murphy") || strings.Contains(text, "UVCI") || strings.Contains(text, "HC1:") {
			t.Errorf("%s holds something of the certificate", where)
		}
	}
}

// reencode makes a text of a COSE message.
func reencode(t *testing.T, cose []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(cose); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return hcert.Prefix + hcert.EncodeBase45(b.Bytes())
}

func TestASignerPublishedAMomentAgoIsFound(t *testing.T) {
	w := newWorld(t)
	first, second := w.dsc(0), w.dsc(0)
	w.sync(first)
	next := w.list(first, second)
	w.mu.Lock()
	w.next = next
	w.mu.Unlock()
	if got := w.verify(w.issue(second), ""); !got.Valid {
		t.Errorf("got %+v", got)
	}
	w.mu.Lock()
	w.err = errors.New("gateway is away")
	w.mu.Unlock()
	if got := w.verify(w.issue(w.dsc(0)), ""); got.Valid || got.Reasons[0].Code != "unknown-signer" {
		t.Errorf("with the gateway away: got %+v", got)
	}
}

func TestTheFirstCallerDoesNotGetAnEmptyTrustList(t *testing.T) {
	w := newWorld(t)
	w.next = w.list(w.dsc(0))
	var list []wire.DocumentSigner
	if got := w.call("GET", "/trustlist", ""); json.Unmarshal([]byte(got.body), &list) != nil || len(list) != 1 {
		t.Errorf("got %s", got.body)
	}
	w.call("GET", "/trustlist", "")
	if w.asked != 1 {
		t.Errorf("the gateway was asked %d times", w.asked)
	}
}

func TestAppsDownloadEverySignerByResumeToken(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.dsc(0), w.dsc(0), w.dsc(0)
	w.sync(a, b)
	download := func(token string) (kids []string, last string) {
		t.Helper()
		for {
			got := w.call("GET", "/signercertificateUpdate", "", "X-RESUME-TOKEN", token)
			if got.status == 204 {
				return kids, token
			}
			der, err := base64.StdEncoding.DecodeString(got.body)
			if err != nil || got.status != 200 || hcert.KIDOf(der).String() != got.header.Get("X-KID") {
				t.Fatalf("got %d %q", got.status, got.body)
			}
			token = got.header.Get("X-RESUME-TOKEN")
			kids = append(kids, got.header.Get("X-KID"))
		}
	}
	kids, last := download("")
	if len(kids) != 2 {
		t.Fatalf("got %v", kids)
	}
	w.sync(a, b, c)
	if more, _ := download(last); len(more) != 1 || more[0] != hcert.KIDOf(c.cert.Raw).String() {
		t.Errorf("resumed: got %v", more)
	}
	w.sync(c)
	if left, _ := download(""); len(left) != 1 {
		t.Errorf("after two deletions: got %v", left)
	}
	w.http.Close()
	w.start()
	if left, _ := download(""); len(left) != 1 {
		t.Errorf("after a restart: got %v", left)
	}
	w.sync(c, a)
	if again, _ := download(last); len(again) != 2 {
		t.Errorf("a signer that came back: got %v, want it behind the old token", again)
	}
	for _, bad := range []string{"x", "-1", "99999999999999999999"} {
		if got := w.call("GET", "/signercertificateUpdate", "", "X-RESUME-TOKEN", bad); got.status != 400 {
			t.Errorf("token %q: got %d", bad, got.status)
		}
	}
	if got := w.call("GET", "/signercertificateUpdate", "", "X-RESUME-TOKEN", "9223372036854775807"); got.status != 204 {
		t.Errorf("last token there is: got %d", got.status)
	}
}

func TestTheStatusAndItsDeltaFollowTheList(t *testing.T) {
	w := newWorld(t)
	a, b := w.dsc(0), w.dsc(0)
	kid := func(d dsc) string { return hcert.KIDOf(d.cert.Raw).String() }
	w.sync(a, b)
	w.pass(time.Hour)
	changed := w.clock()
	w.sync(b)
	var status []string
	got := w.call("GET", "/signercertificateStatus", "")
	if err := json.Unmarshal([]byte(got.body), &status); err != nil || len(status) != 1 || status[0] != kid(b) {
		t.Errorf("status: got %s", got.body)
	}
	if again := w.call("GET", "/signercertificateStatus", "", "If-None-Match", got.header.Get("ETag")); again.status != 304 {
		t.Errorf("unchanged: got %d", again.status)
	}
	for name, tt := range map[string]struct {
		since            string
		updated, deleted int
	}{
		"ever":                     {"", 1, 1},
		"since the deletion":       {changed.Format(time.RFC3339), 0, 1},
		"in the form of RFC 9110":  {changed.Format(http.TimeFormat), 0, 1},
		"after the deletion":       {changed.Add(time.Second).Format(time.RFC3339), 0, 0},
		"before anything happened": {began.Add(-time.Hour).Format(time.RFC3339), 1, 1},
	} {
		var h []string
		if tt.since != "" {
			h = []string{"If-Modified-Since", tt.since}
		}
		var d wire.SignerDelta
		got := w.call("GET", "/signercertificateStatus/delta", "", h...)
		if err := json.Unmarshal([]byte(got.body), &d); err != nil || len(d.Updated) != tt.updated || len(d.Deleted) != tt.deleted {
			t.Errorf("%s: got %s", name, got.body)
		}
	}
	// A kid that a trusted signer has is not reported as deleted, whoever had
	// it before.
	if _, err := w.server.store.db.ExecContext(t.Context(), `INSERT INTO signer_information VALUES (99, 'other', ?, 'DE', 1, ?, '')`, kidToHex(hcert.KIDOf(b.cert.Raw)), changed.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	if err := w.server.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.call("GET", "/signercertificateStatus/delta", ""); strings.Count(got.body, kid(b)) != 1 {
		t.Errorf("a shared kid: got %s", got.body)
	}
	if got := w.call("GET", "/signercertificateStatus/delta", "", "If-Modified-Since", "20220101"); got.status != 400 {
		t.Errorf("a date of another form: got %d", got.status)
	}
	var bulk map[string][]wire.DocumentSigner
	got = w.call("POST", "/signercertificateUpdate", `["`+kid(a)+`","`+kid(b)+`","nothing"]`)
	if err := json.Unmarshal([]byte(got.body), &bulk); err != nil || len(bulk) != 1 || len(bulk["IE"]) != 1 || bulk["IE"][0].KID != kid(b) {
		t.Errorf("bulk: got %s", got.body)
	}
	if got := w.call("POST", "/signercertificateUpdate", `{}`); got.status != 400 {
		t.Errorf("bulk of an object: got %d", got.status)
	}
	var list []wire.DocumentSigner
	got = w.call("GET", "/trustlist", "")
	if err := json.Unmarshal([]byte(got.body), &list); err != nil || len(list) != 1 || list[0].Country != "IE" || list[0].RawData != base64.StdEncoding.EncodeToString(b.cert.Raw) {
		t.Errorf("trust list: got %s", got.body)
	}
}

func TestAnErrorLeavesTheSignersInPlace(t *testing.T) {
	w := newWorld(t)
	w.sync(w.dsc(0))
	w.err = errors.New("gateway is away")
	if err := w.server.Sync(t.Context()); err == nil {
		t.Error("got no error")
	}
	w.mu.Lock()
	w.current = &connector.Snapshot{List: trustlist.NewList(), Parties: trustlist.NewParties()} // a connector that never had a list
	w.mu.Unlock()
	w.http.Close()
	w.start()
	if err := w.server.Sync(t.Context()); err == nil {
		t.Error("after a restart: got no error")
	}
	if n := len(w.server.known.Load().live); n != 1 {
		t.Errorf("%d signers left", n)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(`{"hc1":"HC1:abc"}`)
	f.Add(`{"hc1":"HC1:NCF","at":"2022-01-01T00:00:00Z"}`)
	s := &Server{now: func() time.Time { return began }, source: &world{current: &connector.Snapshot{List: trustlist.NewList()}, err: errors.New("x")},
		log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1)}
	f.Fuzz(func(t *testing.T, body string) {
		rec := httptest.NewRecorder()
		s.verify(rec, httptest.NewRequest("POST", "/verify", strings.NewReader(body)))
		if rec.Code != 200 && rec.Code != 400 {
			t.Errorf("got %d", rec.Code)
		}
	})
}

package connector

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"verdant/trustlist"
)

var began = time.Date(2022, 1, 10, 12, 0, 0, 0, time.UTC)

// memory is a volume in memory.
type memory map[string][]byte

func (m memory) Read(name string) ([]byte, error) {
	if b, ok := m[name]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (m memory) Write(name string, b []byte) error { m[name] = b; return nil }

// union is the EU as a test plays it: an anchor, one country, and a gateway
// that answers what the test says.
type union struct {
	t      *testing.T
	anchor *trustlist.CMSSigner
	upload *trustlist.CMSSigner
	csca   trustlist.Authority
	fixed  []trustlist.Item // the parties
	answer func(w http.ResponseWriter, r *http.Request)
	asked  atomic.Int64
	server *httptest.Server
	volume memory
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func cert(t *testing.T, der []byte, err error) *x509.Certificate {
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

func clock() time.Time { return began }

func newUnion(t *testing.T) *union {
	t.Helper()
	u := &union{t: t, volume: memory{}}
	from := began.AddDate(0, -1, 0)
	ak, uk, ck := newKey(t), newKey(t), newKey(t)
	der, err := trustlist.NewAnchorCertificate(t.Context(), ak, trustlist.Subject{Country: "EU", CommonName: "TA"}, from)
	u.anchor = &trustlist.CMSSigner{Certificate: cert(t, der, err), Key: ak, Now: clock}
	der, err = trustlist.NewUpload(t.Context(), trustlist.Authority{Key: uk}, &uk.PublicKey, trustlist.Subject{Country: "IE", CommonName: "UP"}, from)
	u.upload = &trustlist.CMSSigner{Certificate: cert(t, der, err), Key: uk, Now: clock}
	der, err = trustlist.NewCSCA(t.Context(), ck, trustlist.Subject{Country: "IE", CommonName: "CSCA"}, from)
	u.csca = trustlist.Authority{Certificate: cert(t, der, err), Key: ck}
	for typ, c := range map[trustlist.CertificateType]*x509.Certificate{trustlist.Upload: u.upload.Certificate, trustlist.CSCA: u.csca.Certificate} {
		item, err := trustlist.SignParty(t.Context(), u.anchor, typ, c)
		if err != nil {
			t.Fatal(err)
		}
		u.fixed = append(u.fixed, item)
	}
	u.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { u.asked.Add(1); u.answer(w, r) }))
	t.Cleanup(u.server.Close)
	return u
}

func (u *union) dsc() trustlist.Item {
	u.t.Helper()
	k := newKey(u.t)
	der, err := trustlist.NewDSC(u.t.Context(), u.csca, &k.PublicKey, trustlist.Subject{Country: "IE", CommonName: "DSC"}, 0, began.AddDate(0, 0, -1))
	if err != nil {
		u.t.Fatal(err)
	}
	text, err := u.upload.SignBase64(u.t.Context(), der)
	if err != nil {
		u.t.Fatal(err)
	}
	env, err := trustlist.ParseCMSBase64(text)
	if err != nil {
		u.t.Fatal(err)
	}
	var parties []*trustlist.Party
	for _, i := range u.fixed {
		p, err := trustlist.NewAnchor(u.anchor.Certificate).VerifyParty(i)
		if err != nil {
			u.t.Fatal(err)
		}
		parties = append(parties, p)
	}
	_, item, err := trustlist.NewParties(parties...).VerifyUpload(env, "IE", began)
	if err != nil {
		u.t.Fatal(err)
	}
	return item
}

func (u *union) connector() *Connector {
	u.t.Helper()
	c, err := New(Config{Gateway: u.server.URL}, Deps{HTTP: u.server.Client(), Anchor: u.anchor.Certificate, Volume: u.volume, Now: clock})
	if err != nil {
		u.t.Fatal(err)
	}
	return c
}

// list makes the gateway answer with the parties, the signers, and in a delta
// the tombstones.
func (u *union) list(tombstones []trustlist.Item, signers ...trustlist.Item) {
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		items := append(append([]trustlist.Item{}, u.fixed...), signers...)
		if r.Header.Get("If-Modified-Since") != "" {
			for _, i := range tombstones {
				items = append(items, i.Tombstone())
			}
		}
		_ = json.NewEncoder(w).Encode(items)
	}
}

func TestNoErrorReplacesTheLastGoodList(t *testing.T) {
	u := newUnion(t)
	a, b, c := u.dsc(), u.dsc(), u.dsc()
	u.list(nil, a, b, c)
	con := u.connector()
	if err := con.Refresh(t.Context()); err != nil || len(con.Current().List.DSCs()) != 3 {
		t.Fatalf("first list: %d signers, %v", len(con.Current().List.DSCs()), err)
	}
	say := func(status int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = w.Write([]byte(body)) }
	}
	broken := map[string]func(){
		"a server error":           func() { u.answer = say(500, `{"code":"0x008"}`) },
		"a refusal":                func() { u.answer = say(401, `{"code":"0x402"}`) },
		"no content":               func() { u.answer = say(204, "") },
		"something else than JSON": func() { u.answer = say(200, "<html>") },
		"an object":                func() { u.answer = say(200, "{}") },
		"half a list":              func() { u.answer = say(200, `[{"kid":"AAAA"`) },
		"an answer that breaks off": func() {
			u.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "9999")
				_, _ = w.Write([]byte("["))
			}
		},
		"a redirect":             func() { u.answer = say(302, "") },
		"an empty list":          func() { u.answer = say(200, "[]") },
		"a list without signers": func() { u.list(nil) },
		"a list that lost most":  func() { u.list(nil, a) },
		"a list without its parties": func() {
			u.answer = func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode([]trustlist.Item{a, b, c}) }
		},
	}
	for name, set := range broken {
		set()
		if err := con.Refresh(t.Context()); err == nil || len(con.Current().List.DSCs()) != 3 {
			t.Errorf("%s: error %v, %d signers", name, err, len(con.Current().List.DSCs()))
		}
	}
	u.list([]trustlist.Item{b}, a)
	if err := con.Refresh(t.Context()); !errors.Is(err, ErrShrunk) {
		t.Errorf("two lost, one explained: got %v", err)
	}
	u.list(nil, a, b)
	if err := con.Refresh(t.Context()); err != nil || len(con.Current().List.DSCs()) != 2 {
		t.Errorf("one of three withdrawn: %d signers, %v", len(con.Current().List.DSCs()), err)
	}
	u.list([]trustlist.Item{a, b})
	if err := con.Refresh(t.Context()); err != nil || len(con.Current().List.DSCs()) != 0 {
		t.Errorf("all deleted: %d signers, %v", len(con.Current().List.DSCs()), err)
	}
}

func TestTheLastGoodListSurvivesARestartAndIsProvenAgain(t *testing.T) {
	u := newUnion(t)
	u.list(nil, u.dsc())
	if err := u.connector().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.server.Close()
	con := u.connector()
	if n := len(con.Current().List.DSCs()); n != 1 || con.Current().At.IsZero() {
		t.Fatalf("after a restart without gateway: %d signers", n)
	}
	other := newUnion(t)
	other.volume = u.volume
	if n := len(other.connector().Current().List.DSCs()); n != 0 {
		t.Errorf("under another anchor: %d signers", n)
	}
	u.volume[stateFile] = []byte("{")
	if n := len(u.connector().Current().List.DSCs()); n != 0 {
		t.Errorf("from a broken file: %d signers", n)
	}
}

func TestEntriesThatDoNotLeadToTheAnchorAreLeftOut(t *testing.T) {
	u, evil := newUnion(t), newUnion(t)
	good, bad, moved := u.dsc(), evil.dsc(), u.dsc()
	moved.Country = "DE"
	u.list(nil, good, bad, moved)
	con := u.connector()
	if err := con.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := con.Current().List.DSCs(); len(got) != 1 || got[0].Thumbprint() != good.Thumbprint {
		t.Errorf("got %d signers", len(got))
	}
	if len(con.KeysFor(con.Current().List.DSCs()[0].KID())) != 1 {
		t.Error("the key is not found by its kid")
	}
}

func TestAnUnknownSignerAsksTheGatewayOnlyNowAndThen(t *testing.T) {
	u := newUnion(t)
	u.list(nil)
	con := u.connector()
	for range 3 {
		if err := con.RefreshIfOlder(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if n := u.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestRulesOfAnotherSignerOrNameAreNotUsed(t *testing.T) {
	u, evil := newUnion(t), newUnion(t)
	u.list(nil)
	con := u.connector()
	if err := con.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	rule := func(by *union, id, version string) string {
		s, err := by.upload.SignBase64(t.Context(), []byte(`{"Identifier":"`+id+`","Version":"`+version+`","Country":"IE"}`))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	entry := func(cms string) any {
		return []any{map[string]string{"version": "1.0.0", "cms": cms}}
	}
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"VR-IE-0001": entry(rule(u, "VR-IE-0001", "1.0.0")),
			"VR-IE-0002": entry(rule(evil, "VR-IE-0002", "1.0.0")),
			"VR-IE-0003": entry(rule(u, "VR-IE-0001", "1.0.0")),
			"VR-IE-0004": entry(rule(u, "VR-IE-0004", "2.0.0")),
			"VR-IE-0005": entry("junk"),
		})
	}
	rules, err := con.Rules(t.Context(), "IE")
	if err != nil || len(rules) != 1 || rules[0].Identifier != "VR-IE-0001" {
		t.Errorf("got %v, %v", rules, err)
	}
	u.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
	if rules, err := con.Rules(t.Context(), "IE"); err == nil || rules != nil {
		t.Errorf("an error must not look like no rules: got %v, %v", rules, err)
	}
}

func TestAConnectorNeedsAnHTTPSGateway(t *testing.T) {
	for _, bad := range []string{"", "http://gateway", "gateway"} {
		if _, err := New(Config{Gateway: bad}, Deps{HTTP: http.DefaultClient, Anchor: &x509.Certificate{}}); err == nil || !strings.Contains(err.Error(), "https") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

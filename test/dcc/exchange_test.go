// Package dcc drives the DCC services together, in one process and over their
// real interfaces: a certificate is issued, its document signer published,
// the trust list downloaded and proven, and the certificate verified.
package dcc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	_ "github.com/ncruces/go-sqlite3/driver" // stands in for MySQL

	"verdant/azure/rest"
	"verdant/dcc/businessrule"
	"verdant/dcc/connector"
	"verdant/dcc/gateway"
	"verdant/dcc/issuance"
	"verdant/dcc/verifier"
	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/trustlist"
)

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

func database(t *testing.T, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), name)+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func serve(t *testing.T, h http.Handler, err error) *httptest.Server {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	return ts
}

// oneKey is an authority with one signing key.
type oneKey struct{ key *rsa.PrivateKey }

func (k oneKey) TokenKey(context.Context, string) (*rsa.PublicKey, error) {
	return &k.key.PublicKey, nil
}

func (k oneKey) token(t *testing.T, oid string) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: k.key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(map[string]any{"iss": "https://login/t/", "aud": "api://dgca-issuance-service", "oid": oid, "tid": "t", "exp": time.Now().Unix() + 600})
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// member is Ireland with its services, and the gateway it talks to.
type member struct {
	anchor                            *x509.Certificate
	front                             *httptest.Server
	auth, upload                      *x509.Certificate
	authKey, uploadKey                *ecdsa.PrivateKey
	issuance, public, verifier, rules *httptest.Server
	verifierServer                    *verifier.Server
	ruleServer                        *businessrule.Server
	publish                           func(context.Context) error
	authority                         oneKey
	dsc                               *x509.Certificate
}

// client is an HTTP client with the member state's certificate.
func (m *member) client(t *testing.T) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(m.front.Certificate())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{m.auth.Raw}, PrivateKey: m.authKey}}}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (m *member) connector(t *testing.T) *connector.Connector {
	t.Helper()
	c, err := connector.New(connector.Config{Gateway: m.front.URL}, connector.Deps{HTTP: m.client(t), Anchor: m.anchor,
		Uploader: &trustlist.CMSSigner{Certificate: m.upload, Key: m.uploadKey, Now: time.Now}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newMember(t *testing.T, database func(*testing.T, string) *sql.DB) *member {
	t.Helper()
	ctx, from := t.Context(), time.Now().Add(-time.Hour)
	m := &member{authKey: newKey(t), uploadKey: newKey(t)}
	anchorKey, cscaKey, dscKey := newKey(t), newKey(t), newKey(t)
	sub := func(cn string) trustlist.Subject { return trustlist.Subject{Country: "IE", CommonName: cn} }
	der, err := trustlist.NewAnchorCertificate(ctx, anchorKey, trustlist.Subject{Country: "EU", CommonName: "Trust Anchor"}, from)
	m.anchor = parse(t, der, err)
	der, err = trustlist.NewCSCA(ctx, cscaKey, sub("CSCA"), from)
	csca := trustlist.Authority{Certificate: parse(t, der, err), Key: cscaKey}
	der, err = trustlist.NewAuthentication(ctx, trustlist.Authority{Key: m.authKey}, &m.authKey.PublicKey, sub("AUTH"), from)
	m.auth = parse(t, der, err)
	der, err = trustlist.NewUpload(ctx, trustlist.Authority{Key: m.uploadKey}, &m.uploadKey.PublicKey, sub("UPLOAD"), from)
	m.upload = parse(t, der, err)
	der, err = trustlist.NewDSC(ctx, csca, &dscKey.PublicKey, sub("DSC"), 0, from)
	m.dsc = parse(t, der, err)

	onboarding := filepath.Join(t.TempDir(), "onboarding")
	if err := os.MkdirAll(filepath.Join(onboarding, "IE"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*x509.Certificate{"auth": m.auth, "upload": m.upload, "csca": csca.Certificate} {
		if err := os.WriteFile(filepath.Join(onboarding, "IE", name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gw, err := gateway.New(ctx, gateway.Config{Ingress: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, OnboardingDir: onboarding},
		gateway.Deps{DB: database(t, "dgc"), Anchor: m.anchor, AnchorKey: anchorKey})
	if err != nil {
		t.Fatal(err)
	}
	gwHandler, err := gw.Handler()
	if err != nil {
		t.Fatal(err)
	}
	m.front = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.TLS.PeerCertificates[0]
		sum := sha256.Sum256(c.Raw)
		r.Header.Set("X-SSL-Client-SHA256", base64.StdEncoding.EncodeToString(sum[:]))
		r.Header.Set("X-SSL-Client-DN", c.Subject.String())
		gwHandler.ServeHTTP(w, r)
	}))
	m.front.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	m.front.StartTLS()
	t.Cleanup(m.front.Close)

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	m.authority = oneKey{rsaKey}
	issuanceDB := database(t, "issuance-service")
	iss, err := issuance.New(ctx, issuance.Config{Role: issuance.Private, Country: "IE", Callers: []string{"portal"}}, issuance.Deps{
		DB: issuanceDB, DSC: m.dsc, Signer: dscKey, Publisher: m.connector(t),
		Tokens: &rest.Verifier{Issuers: []string{"https://login/t/"}, Audiences: []string{"api://dgca-issuance-service"}, Keys: m.authority, Now: time.Now}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := iss.Handler()
	m.issuance, m.publish = serve(t, h, err), iss.Run
	pub, err := issuance.New(ctx, issuance.Config{Role: issuance.Public, Country: "IE"}, issuance.Deps{DB: issuanceDB})
	if err != nil {
		t.Fatal(err)
	}
	h, err = pub.Handler()
	m.public = serve(t, h, err)
	if m.verifierServer, err = verifier.New(ctx, verifier.Config{}, verifier.Deps{DB: database(t, "verifier-service"), Source: m.connector(t)}); err != nil {
		t.Fatal(err)
	}
	h, err = m.verifierServer.Handler()
	m.verifier = serve(t, h, err)
	if m.ruleServer, err = businessrule.New(ctx, businessrule.Config{}, businessrule.Deps{DB: database(t, "businessrule-service"), Source: m.connector(t)}); err != nil {
		t.Fatal(err)
	}
	h, err = m.ruleServer.Handler()
	m.rules = serve(t, h, err)
	return m
}

func call(t *testing.T, method, url, token, body string, out any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			t.Fatalf("%s %s: %d %s", method, url, resp.StatusCode, raw)
		}
	}
	return resp.StatusCode
}

const payload = `{"ver":"1.3.0","nam":{"fn":"Byrne","fnt":"BYRNE"},"dob":"1987-02-03","v":[{"tg":"840539006","vp":"1119349007","mp":"EU/1/20/1528","ma":"ORG-100030215","dn":2,"sd":2,"dt":"2021-06-11","co":"IE","is":"HSE"}]}`

func TestACertificateGoesFromTheIssuerToTheVerifierThroughTheGateway(t *testing.T) {
	exchange(t, newMember(t, database))
}

// exchange sends one certificate the whole way, and claims it.
func exchange(t *testing.T, m *member) {
	t.Helper()
	var issued wire.Issued
	if status := call(t, "PUT", m.issuance.URL+"/dgci/issue", m.authority.token(t, "portal"), payload, &issued); status != 200 {
		t.Fatalf("issue: got %d", status)
	}
	verify := func() (r wire.VerifyResult) {
		t.Helper()
		body, _ := json.Marshal(wire.VerifyRequest{HC1: issued.QRCode})
		if status := call(t, "POST", m.verifier.URL+"/verify", "", string(body), &r); status != 200 {
			t.Fatalf("verify: got %d", status)
		}
		return r
	}
	if r := verify(); r.Valid || r.Reasons[0].Code != "unknown-signer" {
		t.Errorf("before the document signer is published: got %+v", r)
	}
	if err := m.publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.verifierServer.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := verify(); !r.Valid || r.Country != "IE" || r.Kind != "vaccination" {
		t.Errorf("after: got %+v", r)
	}
	var list []wire.DocumentSigner
	if call(t, "GET", m.verifier.URL+"/trustlist", "", "", &list); len(list) != 1 || list[0].RawData != base64.StdEncoding.EncodeToString(m.dsc.Raw) {
		t.Errorf("trust list of the verifier: got %+v", list)
	}
	if err := m.ruleServer.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var sets []wire.ValueSetItem
	if call(t, "GET", m.rules.URL+"/valuesets", "", "", &sets); len(sets) != 8 {
		t.Errorf("value sets: got %+v", sets)
	}
	if status := call(t, "PUT", m.issuance.URL+"/dgci/issue", m.authority.token(t, "somebody"), payload, nil); status != 403 {
		t.Errorf("somebody else issues: got %d", status)
	}

	token := m.authority.token(t, "portal")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if status := call(t, "PUT", m.issuance.URL+"/dgci/issue", token, payload, nil); status != 200 {
				t.Errorf("one of many at a time: got %d", status)
			}
		})
	}
	wg.Wait()

	for range 4 {
		if status := claim(t, m, issued, "WRONGTAN"); status != 400 {
			t.Errorf("a wrong TAN: got %d", status)
		}
	}
	if status := claim(t, m, issued, issued.TAN); status != 400 {
		t.Errorf("the right TAN after four wrong ones: got %d", status)
	}
	call(t, "PUT", m.issuance.URL+"/dgci/issue", token, payload, &issued)
	for _, want := range []int{200, 400} { // a TAN serves once
		if status := claim(t, m, issued, issued.TAN); status != want {
			t.Errorf("claim: got %d, want %d", status, want)
		}
	}

	if err := m.withdraw(t); err != nil {
		t.Fatal(err)
	}
	if err := m.verifierServer.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := verify(); r.Valid || r.Reasons[0].Code != "unknown-signer" {
		t.Errorf("after the document signer was withdrawn: got %+v", r)
	}
	if status := call(t, "PUT", m.issuance.URL+"/dgci/certPublish", token, "", nil); status != 204 {
		t.Errorf("publish again: got %d", status)
	}
	if err := m.verifierServer.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := verify(); !r.Valid {
		t.Errorf("after it was published again: got %+v", r)
	}
}

// claim claims a certificate with a fresh wallet key.
func claim(t *testing.T, m *member, issued wire.Issued, tan string) int {
	t.Helper()
	var d hcert.Decoder
	u, err := d.Decode(issued.QRCode)
	if err != nil {
		t.Fatal(err)
	}
	hash, tanHash := u.Sign1.Hash(), sha256.Sum256([]byte(tan))
	key := newKey(t)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	c := wire.Claim{DGCI: issued.DGCI, CertHash: b64(hash[:]), TANHash: b64(tanHash[:]), PublicKey: wire.WalletKey{Type: "EC", Value: b64(spki)}, SigAlg: "SHA256withECDSA"}
	digest := sha256.Sum256([]byte(c.TANHash + c.CertHash + c.PublicKey.Value))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = b64(sig)
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return call(t, "POST", m.public.URL+"/dgci/wallet/claim", "", string(body), nil)
}

// withdraw takes the document signer off the trust list.
func (m *member) withdraw(t *testing.T) error {
	t.Helper()
	up := &trustlist.CMSSigner{Certificate: m.upload, Key: m.uploadKey, Now: time.Now}
	body, err := up.SignBase64(t.Context(), m.dsc.Raw)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.front.URL+"/signerCertificate/delete", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/cms")
	resp, err := m.client(t).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return errors.New(resp.Status)
	}
	return nil
}

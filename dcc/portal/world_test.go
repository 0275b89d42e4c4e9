package portal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"verdant/azure/rest"
	"verdant/dcc/wire"
	"verdant/hcert"
)

const (
	clientID     = "22222222-2222-4222-8222-222222222222"
	clientSecret = "client-secret-client-secret-client-secret"
	nurseID      = "77777777-7777-4777-8777-777777777777"
	clerkID      = "88888888-8888-4888-8888-888888888888"
	tenantID     = "11111111-1111-4111-8111-111111111111"
)

// world is the portal between an identity service and an issuance service of
// the test's own.
type world struct {
	*Server
	url   string // of the portal
	login string // authority
	key   *rsa.PrivateKey
	log   strings.Builder

	mu       sync.Mutex
	now      time.Time
	secret   string         // what the vault holds
	user     map[string]any // claims of who signs in
	refuse   string         // error of the authorization endpoint
	codes    map[string]url.Values
	secrets  int // reads of the vault
	requests []received
	answer   func(w http.ResponseWriter, payload []byte) // of the issuance service
	noToken  error
}

type received struct {
	professional, authorization string
	payload                     hcert.DCC
}

func nurse() map[string]any {
	return map[string]any{"oid": nurseID, "name": "Niamh Professional", "preferred_username": "professional@verdant.localhost", "roles": []string{"Certificate.Issuer"}}
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), secret: clientSecret, user: nurse(), codes: map[string]url.Values{}}
	var err error
	if w.key, err = rsaKey(); err != nil {
		t.Fatal(err)
	}
	issuer := newIssuer(t, w.now)
	w.answer = func(rw http.ResponseWriter, payload []byte) { w.issueFor(rw, payload, issuer) }

	op := httptest.NewTLSServer(http.HandlerFunc(w.serveLogin))
	t.Cleanup(op.Close)
	issuance := httptest.NewServer(http.HandlerFunc(w.serveIssuance))
	t.Cleanup(issuance.Close)
	var portal http.Handler
	front := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { portal.ServeHTTP(rw, r) }))
	t.Cleanup(front.Close)
	w.url, w.login = front.URL, op.URL+"/"+tenantID
	w.Server, err = New(Config{URL: w.url, ClientID: clientID, Authority: w.login, Issuance: issuance.URL,
		IssuanceAudience: "api://dgca-issuance-service", Country: "IE"}, Deps{
		Tokens: w, HTTP: &http.Client{Transport: insecure(), CheckRedirect: noRedirect}, Now: w.time,
		IDTokens: w.verifier(clientID), AccessTokens: w.verifier(Audience),
		Secret: func(context.Context) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.secrets++
			return w.secret, nil
		},
		Log: slog.New(slog.NewJSONHandler(lockedWriter{w}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	portal = w.Handler()
	return w
}

type lockedWriter struct{ w *world }

func (l lockedWriter) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(p)
}

func insecure() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // the test's own servers on loopback
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Token implements TokenSource.
func (w *world) Token(_ context.Context, resource string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return "token-for-" + resource, w.noToken
}

// TokenKey implements rest.KeySource.
func (w *world) TokenKey(context.Context, string) (*rsa.PublicKey, error) {
	return &w.key.PublicKey, nil
}

func (w *world) verifier(audience string) *rest.Verifier {
	return &rest.Verifier{Issuers: []string{"https://issuer/"}, Audiences: []string{audience}, Keys: w, Now: w.time}
}

func (w *world) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	token, err := w.sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (w *world) sign(claims map[string]any) (string, error) {
	now := w.time()
	all := map[string]any{"iss": "https://issuer/", "tid": tenantID, "exp": now.Add(time.Hour).Unix(), "nbf": now.Unix()}
	for k, v := range claims {
		all[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: w.key}, nil)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// serveLogin is the identity service: whoever comes is w.user.
func (w *world) serveLogin(rw http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(rw, err.Error(), 400)
		return
	}
	switch strings.TrimPrefix(r.URL.Path, "/"+tenantID) {
	case "/oauth2/v2.0/authorize":
		w.mu.Lock()
		defer w.mu.Unlock()
		back := url.Values{"state": {r.Form.Get("state")}}
		if w.refuse != "" {
			back.Set("error", "access_denied")
			back.Set("error_description", w.refuse)
		} else {
			code := random()
			w.codes[code] = r.Form
			back.Set("code", code)
		}
		http.Redirect(rw, r, r.Form.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	case "/oauth2/v2.0/token":
		w.serveCode(rw, r)
	case "/oauth2/v2.0/logout":
		http.Redirect(rw, r, r.Form.Get("post_logout_redirect_uri"), http.StatusFound)
	default:
		http.NotFound(rw, r)
	}
}

func (w *world) serveCode(rw http.ResponseWriter, r *http.Request) {
	fail := func(code, text string) {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(401)
		_ = json.NewEncoder(rw).Encode(map[string]string{"error": code, "error_description": text})
	}
	w.mu.Lock()
	secret, asked, user := w.secret, w.codes[r.PostForm.Get("code")], w.user
	w.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	switch {
	case r.PostForm.Get("client_id") != clientID || r.PostForm.Get("client_secret") != secret:
		fail("invalid_client", "AADSTS7000215: wrong secret")
		return
	case asked == nil || asked.Get("redirect_uri") != r.PostForm.Get("redirect_uri") || asked.Get("code_challenge_method") != "S256" ||
		asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]):
		fail("invalid_grant", "AADSTS501481: PKCE")
		return
	}
	claims := map[string]any{"aud": clientID, "nonce": asked.Get("nonce")}
	for k, v := range user {
		claims[k] = v
	}
	token, err := w.sign(claims)
	if err != nil {
		fail("server_error", err.Error())
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]string{"id_token": token, "token_type": "Bearer"})
}

func (w *world) serveIssuance(rw http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPut || r.URL.Path != "/dgci/issue" {
		http.NotFound(rw, r)
		return
	}
	got := received{professional: r.Header.Get(wire.ProfessionalHeader), authorization: r.Header.Get("Authorization")}
	_ = json.Unmarshal(payload, &got.payload)
	w.mu.Lock()
	w.requests = append(w.requests, got)
	answer := w.answer
	w.mu.Unlock()
	answer(rw, payload)
}

func (w *world) received() []received {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]received(nil), w.requests...)
}

// issueFor issues for real, as the issuance service does.
func (w *world) issueFor(rw http.ResponseWriter, payload []byte, issuer *hcert.Issuer) {
	rw.Header().Set("Content-Type", "application/json")
	fail := func(err error) {
		problem := wire.IssueProblem{ProblemReport: wire.ProblemReport{Code: "InvalidDCC", Problem: "The certificate's data was refused", Details: "correct the fields"}}
		var schema *hcert.SchemaError
		if errors.As(err, &schema) {
			for _, i := range schema.Issues {
				problem.Fields = append(problem.Fields, wire.FieldError{Field: i.Path, Why: i.Why})
			}
		} else {
			problem.Details = err.Error()
		}
		rw.WriteHeader(400)
		_ = json.NewEncoder(rw).Encode(problem)
	}
	uvci, err := hcert.NewUVCI("IE", rand.Reader)
	if err != nil {
		fail(err)
		return
	}
	var loose hcert.DCC
	if err := json.Unmarshal(payload, &loose); err != nil {
		fail(errors.New("the body is not a DCC payload"))
		return
	}
	loose.SetID(uvci)
	whole, err := json.Marshal(loose)
	if err != nil {
		fail(err)
		return
	}
	dcc, err := hcert.ParseDCC(whole)
	if err != nil {
		fail(err)
		return
	}
	now := w.time()
	cert, err := issuer.Issue(context.Background(), dcc, now, now.AddDate(1, 0, 0))
	if err != nil {
		fail(err)
		return
	}
	_ = json.NewEncoder(rw).Encode(wire.Issued{DGCI: uvci, QRCode: cert.Text, TAN: "ABCD2345"})
}

func newIssuer(t *testing.T, now time.Time) *hcert.Issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "DSC", Country: []string{"IE"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(2, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: cert, Signer: key})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// browser keeps cookies and follows redirects, also to the identity service.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: insecure(), Jar: jar}
}

type page struct {
	status int
	url    string
	body   string
	header http.Header
}

func visit(t *testing.T, c *http.Client, u string) page {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, c, r)
}

func do(t *testing.T, c *http.Client, r *http.Request) page {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return page{resp.StatusCode, resp.Request.URL.String(), string(body), resp.Header}
}

func submit(t *testing.T, c *http.Client, u string, form url.Values, header ...string) page {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, c, r)
}

var formID = regexp.MustCompile(`name="form" value="([^"]+)"`)

// filled opens the form and fills it in.
func (w *world) filled(t *testing.T, c *http.Client) url.Values {
	t.Helper()
	p := visit(t, c, w.url+"/vaccination")
	m := formID.FindStringSubmatch(p.body)
	if m == nil {
		t.Fatalf("no form at %s: %d %s", p.url, p.status, p.body)
	}
	return url.Values{"form": {m[1]}, inGiven: {"Saoirse"}, inFamily: {"Ní Bhriain-Müller"}, "dob.day": {"12"}, "dob.month": {"4"}, "dob.year": {"1988"},
		inDisease: {"840539006"}, inProduct: {"EU/1/20/1528"}, inDose: {"2"}, inDoses: {"2"},
		"v.dt.day": {"1"}, "v.dt.month": {"2"}, "v.dt.year": {"2026"}, inCountry: {"IE"}, inIssuer: {"Health Service Executive"}}
}

package entra_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"html"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"verdant/azure/entra"
)

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// signInForm fetches the sign-in page and returns its form, filled.
func signInForm(t *testing.T, c *http.Client, authURL, user, password string) url.Values {
	t.Helper()
	status, body, _ := get(t, c, authURL)
	if status != 200 || !strings.Contains(body, "<h1>Sign in</h1>") {
		t.Fatalf("sign-in page: got %d %s", status, body)
	}
	form := url.Values{"username": {user}, "password": {password}}
	for _, m := range hiddenField.FindAllStringSubmatch(body, -1) {
		form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	return form
}

func get(t *testing.T, c *http.Client, u string) (int, string, *url.URL) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", u, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, c, r)
}

func submit(t *testing.T, c *http.Client, form url.Values) (int, string, *url.URL) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+loginHost+"/"+tenantID+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return do(t, c, r)
}

func do(t *testing.T, c *http.Client, r *http.Request) (int, string, *url.URL) {
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
	location, err := resp.Location()
	if err != nil {
		location = &url.URL{}
	}
	return resp.StatusCode, string(body), location
}

// portal is a relying party made of libraries that are not ours.
type portal struct {
	ctx      context.Context
	provider *oidc.Provider
	oauth2.Config
}

func newPortal(t *testing.T, w *world) *portal {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), &http.Client{Transport: w})
	provider, err := oidc.NewProvider(ctx, "https://"+loginHost+"/"+tenantID+"/v2.0")
	if err != nil {
		t.Fatal(err)
	}
	return &portal{ctx, provider, oauth2.Config{ClientID: portalID, ClientSecret: portalSecret, Endpoint: provider.Endpoint(),
		RedirectURL: portalBack, Scopes: []string{"openid", "profile", "offline_access"}}}
}

func TestAnIndependentRelyingPartySignsANurseIn(t *testing.T) {
	w := newWorld(t)
	p, c := newPortal(t, w), w.browser(t)
	verifier := oauth2.GenerateVerifier()
	auth := p.AuthCodeURL("state-1", oauth2.S256ChallengeOption(verifier), oidc.Nonce("nonce-1"))

	status, body, back := submit(t, c, signInForm(t, c, auth, nurse, password))
	if status != http.StatusSeeOther || !strings.HasPrefix(back.String(), portalBack+"?") || back.Query().Get("state") != "state-1" {
		t.Fatalf("after sign-in: got %d %s %s", status, back, body)
	}
	token, err := p.Exchange(p.ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := p.provider.VerifierContext(p.ctx, &oidc.Config{ClientID: portalID, Now: w.now}).Verify(p.ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		OID, TID, Name, Ver string
		Preferred           string `json:"preferred_username"`
		Roles               []string
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if id.Nonce != "nonce-1" || claims.OID != nurseID || claims.TID != tenantID || claims.Ver != "2.0" || claims.Preferred != nurse ||
		claims.Name != "Niamh Nurse" || len(claims.Roles) != 1 || claims.Roles[0] != "Certificate.Issuer" {
		t.Errorf("got ID token %+v, nonce %q", claims, id.Nonce)
	}
	if info, _ := token.Extra("client_info").(string); info == "" {
		t.Error("no client_info, which MSAL needs")
	}
	row := w.rows.last(t)
	if row.table != "SigninLogs" || row.Row["UserId"] != nurseID || row.Row["IPAddress"] != "192.0.2.7" || row.Row["UniqueTokenIdentifier"] != claimsOf(t, token.AccessToken)["uti"] || w.rows.count() != 1 {
		t.Errorf("got %d rows, last %v", w.rows.count(), row)
	}

	// The second sign-in of the same browser needs no page, unless asked for.
	status, _, back = get(t, c, p.AuthCodeURL("state-2", oauth2.SetAuthURLParam("prompt", "none")))
	if status != http.StatusFound || back.Query().Get("code") == "" {
		t.Errorf("prompt=none with a session: got %d %s", status, back)
	}
	if status, body, _ = get(t, c, p.AuthCodeURL("state-3", oauth2.SetAuthURLParam("prompt", "login"))); status != 200 || !strings.Contains(body, "<h1>Sign in</h1>") {
		t.Errorf("prompt=login: got %d, want the page", status)
	}
	if status, _, back = get(t, c, p.AuthCodeURL("state-4", oauth2.SetAuthURLParam("prompt", "none"), oauth2.SetAuthURLParam("login_hint", citizen))); back.Query().Get("error") != "login_required" {
		t.Errorf("prompt=none for another user: got %d %s", status, back)
	}
	// After signing out, silence is no longer enough.
	if status, body, _ := get(t, c, "https://"+loginHost+"/"+tenantID+"/oauth2/v2.0/logout"); status != 200 || !strings.Contains(body, "signed out") {
		t.Errorf("logout: got %d", status)
	}
	_, _, back = get(t, c, p.AuthCodeURL("state-5", oauth2.SetAuthURLParam("prompt", "none")))
	if back.Query().Get("error") != "login_required" || !strings.HasPrefix(back.Query().Get("error_description"), "AADSTS50058") {
		t.Errorf("prompt=none after logout: got %s", back)
	}
}

// signedIn returns a code for the portal.
func signedIn(t *testing.T, w *world, p *portal, verifier string) string {
	t.Helper()
	c := w.browser(t)
	_, body, back := submit(t, c, signInForm(t, c, p.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), nurse, password))
	code := back.Query().Get("code")
	if code == "" {
		t.Fatalf("no code: %s %s", back, body)
	}
	return code
}

func oauthCode(err error) string {
	var failed *oauth2.RetrieveError
	if errors.As(err, &failed) {
		code, _, _ := strings.Cut(failed.ErrorDescription, ":")
		return code
	}
	return ""
}

func TestACodeIsRedeemedOnceAlsoAcrossARestartAndAMob(t *testing.T) {
	w := newWorld(t)
	p := newPortal(t, w)
	verifier := oauth2.GenerateVerifier()
	code := signedIn(t, w, p, verifier)
	w.start(t)

	const mob = 8
	tokens, errs := make([]*oauth2.Token, mob), make([]error, mob)
	var wg sync.WaitGroup
	for i := range mob {
		wg.Go(func() { tokens[i], errs[i] = p.Exchange(p.ctx, code, oauth2.VerifierOption(verifier)) })
	}
	wg.Wait()
	won := 0
	for i := range mob {
		if errs[i] == nil {
			won++
			// That it was presented again revoked what the winner got.
			if _, err := p.TokenSource(p.ctx, &oauth2.Token{RefreshToken: tokens[i].RefreshToken}).Token(); oauthCode(err) != "AADSTS70000" {
				t.Errorf("the winner's refresh token: got %v, want AADSTS70000", err)
			}
		} else if got := oauthCode(errs[i]); got != "AADSTS54005" {
			t.Errorf("loser: got %v, want AADSTS54005", errs[i])
		}
	}
	// If a loser came before the winner had its refresh token, nobody wins.
	if won > 1 {
		t.Errorf("%d callers redeemed one code", won)
	}
	w.start(t)
	if _, err := p.Exchange(p.ctx, code, oauth2.VerifierOption(verifier)); oauthCode(err) != "AADSTS54005" {
		t.Errorf("after a restart: got %v, want AADSTS54005", err)
	}
}

func TestUsingACodeTwiceRevokesItsRefreshTokens(t *testing.T) {
	w := newWorld(t)
	p := newPortal(t, w)
	verifier := oauth2.GenerateVerifier()
	code := signedIn(t, w, p, verifier)
	token, err := p.Exchange(p.ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Exchange(p.ctx, code, oauth2.VerifierOption(verifier)); oauthCode(err) != "AADSTS54005" {
		t.Fatalf("second use: got %v", err)
	}
	if _, err := p.TokenSource(p.ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token(); oauthCode(err) != "AADSTS70000" {
		t.Errorf("refresh after it: got %v, want AADSTS70000", err)
	}
}

func TestRefreshTokensRotateAndAReusedOneEndsItsFamily(t *testing.T) {
	w := newWorld(t)
	p := newPortal(t, w)
	verifier := oauth2.GenerateVerifier()
	first, err := p.Exchange(p.ctx, signedIn(t, w, p, verifier), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	use := func(token string) (*oauth2.Token, error) {
		return p.TokenSource(p.ctx, &oauth2.Token{RefreshToken: token}).Token()
	}
	second, err := use(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if second.RefreshToken == first.RefreshToken {
		t.Fatal("the refresh token did not rotate")
	}
	if row := w.rows.last(t); row.table != "AADNonInteractiveUserSignInLogs" || row.Row["UserId"] != nurseID {
		t.Errorf("got row %v", row)
	}
	third, err := use(second.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := use(first.RefreshToken); oauthCode(err) != "AADSTS54005" {
		t.Errorf("a used token: got %v, want AADSTS54005", err)
	}
	if _, err := use(third.RefreshToken); oauthCode(err) != "AADSTS70000" {
		t.Errorf("its family: got %v, want AADSTS70000", err)
	}
}

func TestCodesAreRefusedToTheWrongPeople(t *testing.T) {
	w := newWorld(t)
	p := newPortal(t, w)
	verifier := oauth2.GenerateVerifier()
	for name, c := range map[string]struct {
		change func(url.Values)
		code   int
	}{
		"without the verifier":      {func(f url.Values) { f.Del("code_verifier") }, 501481},
		"with another verifier":     {func(f url.Values) { f.Set("code_verifier", oauth2.GenerateVerifier()) }, 501481},
		"with another redirect":     {func(f url.Values) { f.Set("redirect_uri", "https://evil.test/") }, 70000},
		"by another client":         {func(f url.Values) { f.Set("client_id", robotID) }, 70000},
		"with an invented code":     {func(f url.Values) { f.Set("code", "x") }, 70000},
		"too late":                  {func(url.Values) { w.pass(10 * time.Minute) }, 70008},
		"for another app's API":     {func(f url.Values) { f.Set("scope", "https://vault.azure.net/.default") }, 65001},
		"for a scope that is not":   {func(f url.Values) { f.Set("scope", portalURI+"/nothing") }, 70011},
		"with no secret at all":     {func(f url.Values) { f.Del("client_secret") }, 7000218},
		"without redirect_uri":      {func(f url.Values) { f.Del("redirect_uri") }, 70000},
		"with an empty grant (bad)": {func(f url.Values) { f.Del("code") }, 900144},
	} {
		form := url.Values{"grant_type": {"authorization_code"}, "client_id": {portalID}, "client_secret": {portalSecret}, "redirect_uri": {portalBack},
			"code": {signedIn(t, w, p, verifier)}, "code_verifier": {verifier}}
		c.change(form)
		status, body := w.post(t, "/oauth2/v2.0/token", form)
		if status == 200 || errorCode(body) != c.code {
			t.Errorf("%s: got %d %v, want code %d", name, status, body, c.code)
		}
	}
}

func TestTheAuthorizeEndpointRedirectsOnlyToRegisteredAddresses(t *testing.T) {
	w := newWorld(t)
	challenge := sha256.Sum256([]byte("v"))
	good := func() url.Values {
		return url.Values{"client_id": {portalID}, "redirect_uri": {portalBack}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"},
			"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"}}
	}
	for name, c := range map[string]struct {
		change map[string]string
		page   string // expected on a page, else
		error  string // sent to the client
	}{
		"an unknown client":                      {map[string]string{"client_id": "x"}, "AADSTS700016", ""},
		"no client":                              {map[string]string{"client_id": ""}, "AADSTS900144", ""},
		"another redirect address":               {map[string]string{"redirect_uri": "https://evil.test/"}, "AADSTS50011", ""},
		"a longer redirect address":              {map[string]string{"redirect_uri": portalBack + "/x"}, "AADSTS50011", ""},
		"no redirect address":                    {map[string]string{"redirect_uri": ""}, "AADSTS900971", ""},
		"a token instead of a code":              {map[string]string{"response_type": "token"}, "", "unsupported_response_type"},
		"PKCE in the clear":                      {map[string]string{"code_challenge_method": "plain"}, "", "invalid_request"},
		"PKCE without method":                    {map[string]string{"code_challenge_method": ""}, "", "invalid_request"},
		"a public client without PKCE":           {map[string]string{"client_id": entra.AzureCLI, "redirect_uri": "http://localhost:5000", "code_challenge": ""}, "", "invalid_request"},
		"an unknown prompt":                      {map[string]string{"prompt": "dance"}, "", "invalid_request"},
		"no scope":                               {map[string]string{"scope": ""}, "", "invalid_request"},
		"an unknown resource":                    {map[string]string{"scope": "api://none/.default"}, "", "invalid_resource"},
		"an unknown response mode":               {map[string]string{"response_mode": "web_message"}, "", "invalid_request"},
		"nobody signed in, fragment":             {map[string]string{"prompt": "none", "response_mode": "fragment"}, "", "login_required"},
		"a loopback address of another app":      {map[string]string{"redirect_uri": "http://localhost:5000"}, "AADSTS50011", ""},
		"a loopback address with other path":     {map[string]string{"client_id": entra.AzureCLI, "redirect_uri": "http://localhost:5000/x"}, "AADSTS50011", ""},
		"a loopback address with other host":     {map[string]string{"client_id": entra.AzureCLI, "redirect_uri": "http://localhost.evil.test:5000"}, "AADSTS50011", ""},
		"a loopback address with user info":      {map[string]string{"client_id": entra.AzureCLI, "redirect_uri": "http://localhost:5000@evil.test"}, "AADSTS50011", ""},
		"a loopback address over another schema": {map[string]string{"client_id": entra.AzureCLI, "redirect_uri": "https://localhost:5000"}, "AADSTS50011", ""},
	} {
		form := good()
		for k, v := range c.change {
			form.Set(k, v)
			if v == "" {
				form.Del(k)
			}
		}
		status, body, back := get(t, w.browser(t), "https://"+loginHost+"/"+tenantID+"/oauth2/v2.0/authorize?"+form.Encode())
		if c.page != "" {
			if status != 400 || back.Host != "" || !strings.Contains(body, c.page) {
				t.Errorf("%s: got %d to %s, want a page with %s", name, status, back, c.page)
			}
			continue
		}
		values := back.Query()
		if form.Get("response_mode") == "fragment" {
			values, _ = url.ParseQuery(back.Fragment)
		}
		if status != http.StatusFound || values.Get("error") != c.error || values.Get("state") != "s" {
			t.Errorf("%s: got %d to %s, want error %s", name, status, back, c.error)
		}
	}
}

func TestErrorsArePostedWhereTheClientWantsAPost(t *testing.T) {
	w := newWorld(t)
	p := newPortal(t, w)
	status, body, _ := get(t, w.browser(t), p.AuthCodeURL(`"><script>`, oauth2.SetAuthURLParam("prompt", "none"), oauth2.SetAuthURLParam("response_mode", "form_post")))
	if status != 200 || !strings.Contains(body, `action="`+portalBack+`"`) || !strings.Contains(body, `value="login_required"`) || strings.Contains(body, "<script>\"") || strings.Contains(body, `"><script>`) {
		t.Errorf("got %d %s", status, body)
	}
}

func TestAUserWithoutAssignmentIsToldSoAndGetsNoCode(t *testing.T) {
	w := newWorld(t)
	p, c := newPortal(t, w), w.browser(t)
	status, body, back := submit(t, c, signInForm(t, c, p.AuthCodeURL("s", oauth2.S256ChallengeOption("v")), citizen, password))
	if status != http.StatusForbidden || back.Host != "" || !strings.Contains(body, "AADSTS50105") || !strings.Contains(body, "another account") {
		t.Errorf("got %d %s %s", status, back, body)
	}
	if row := w.rows.last(t); row.Row["ResultType"] != "50105" || row.Row["UserId"] != citizenID {
		t.Errorf("got row %v", row)
	}
	_, _, back = get(t, c, p.AuthCodeURL("s", oauth2.SetAuthURLParam("prompt", "none")))
	if back.Query().Get("error") != "access_denied" {
		t.Errorf("silently: got %s, want access_denied", back)
	}
}

func TestTheSignInFormIsBoundToItsBrowserAndItsRequest(t *testing.T) {
	w := newWorld(t)
	p, c := newPortal(t, w), w.browser(t)
	form := signInForm(t, c, p.AuthCodeURL("s"), nurse, password)
	if status, body, back := submit(t, w.browser(t), form); status != 400 || back.Host != "" || !strings.Contains(body, "AADSTS90014") {
		t.Errorf("posted from another browser: got %d %s", status, back)
	}
	changed := url.Values{}
	for k, v := range form {
		changed[k] = v
	}
	changed.Set("request", strings.Replace(form.Get("request"), "state=s", "state=evil", 1))
	if status, _, back := submit(t, c, changed); status != 400 || back.Host != "" {
		t.Errorf("with another request: got %d %s", status, back)
	}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+loginHost+"/"+tenantID+"/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if status, _, back := do(t, c, r); status != 400 || back.Host != "" {
		t.Errorf("posted by another site: got %d %s", status, back)
	}
	if status, _, back := submit(t, c, form); status != http.StatusSeeOther || back.Query().Get("code") == "" {
		t.Errorf("as it should be: got %d %s", status, back)
	}
}

func TestGuessingPasswordsLocksTheAccount(t *testing.T) {
	w := newWorld(t)
	p, c := newPortal(t, w), w.browser(t)
	form := signInForm(t, c, p.AuthCodeURL("s"), nurse, "guess")
	for i := range 10 {
		status, body, _ := submit(t, c, form)
		if status != http.StatusForbidden || !strings.Contains(body, "AADSTS50126") || strings.Contains(body, "guess") {
			t.Fatalf("guess %d: got %d", i+1, status)
		}
	}
	form.Set("password", password)
	w.start(t) // a restart does not forget
	status, body, _ := submit(t, c, form)
	if status != http.StatusTooManyRequests || !strings.Contains(body, "AADSTS50053") {
		t.Fatalf("the right password after 10 guesses: got %d, want it locked", status)
	}
	if row := w.rows.last(t); row.Row["ResultType"] != "50053" || row.Row["UserPrincipalName"] != nurse {
		t.Errorf("got row %v", row)
	}
	w.pass(time.Minute)
	if status, _, back := submit(t, c, form); back.Query().Get("code") == "" {
		t.Errorf("after a minute: got %d %s", status, back)
	}
	form.Set("username", "hunter2 typed in the wrong field")
	if status, _, _ := submit(t, c, form); status != http.StatusForbidden {
		t.Errorf("an unknown name: got %d", status)
	}
	if row := w.rows.last(t); row.Row["ResultType"] != "50126" || row.Row["UserPrincipalName"] != nil {
		t.Errorf("row of an unknown name: got %v", row)
	}
}

func TestPasswordsAreHashedOnceAndTheHashWins(t *testing.T) {
	w := newWorld(t)
	read := func() (hash string) {
		if err := w.db.QueryRow(`SELECT hash FROM entra_password WHERE user = ?`, nurseID).Scan(&hash); err != nil {
			t.Fatal(err)
		}
		return hash
	}
	first := read()
	w.start(t, func(c *entra.Config) { c.Users[0].Password = "another one" })
	if read() != first || !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(first, password) {
		t.Errorf("got %s, then %s", first, read())
	}
}

func TestStockCertificateCredentialSignsItsRequest(t *testing.T) {
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "robot"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	request := func(w *world) error {
		cred, err := azidentity.NewClientCertificateCredential(tenantID, robotID, []*x509.Certificate{cert}, key, &azidentity.ClientCertificateCredentialOptions{
			ClientOptions: azureOptions(w), DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
		if err != nil {
			return err
		}
		if got := claimsOf(t, token.Token)["appidacr"]; got != "2" {
			t.Errorf("appidacr: got %v, want 2", got)
		}
		return nil
	}
	known := newWorld(t, func(c *entra.Config) { c.Apps[2].Certificates = []*x509.Certificate{cert} })
	// The SDK dates its assertion by the machine's clock.
	known.pass(time.Since(known.now()))
	if err := request(known); err != nil {
		t.Error(err)
	}
	if row := known.rows.last(t); row.Row["ClientCredentialType"] != "clientAssertion" || len(row.Row["ServicePrincipalCredentialThumbprint"].(string)) != 40 {
		t.Errorf("got row %v", row)
	}
	if err := request(newWorld(t)); err == nil || !strings.Contains(err.Error(), "AADSTS700027") {
		t.Errorf("unknown certificate: got %v, want AADSTS700027", err)
	}
	known.pass(24 * time.Hour)
	if err := request(known); err == nil || !strings.Contains(err.Error(), "AADSTS700024") {
		t.Errorf("old assertion: got %v, want AADSTS700024", err)
	}
}

func TestStockInteractiveClientSignsInThroughALoopbackAddress(t *testing.T) {
	w := newWorld(t)
	w.pass(time.Since(w.now())) // MSAL compares with the machine's clock
	app, err := public.New(entra.AzureCLI, public.WithAuthority("https://"+loginHost+"/"+tenantID), public.WithHTTPClient(&http.Client{Transport: w}), public.WithInstanceDiscovery(false))
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	result, err := app.AcquireTokenInteractive(t.Context(), []string{"https://vault.azure.net/.default"}, public.WithOpenURL(func(u string) error {
		go func() { opened <- postBack(t, w, u) }()
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.verify(t, result.AccessToken, "https://vault.azure.net")
	if result.Account.PreferredUsername != nurse || result.Account.HomeAccountID != nurseID+"."+tenantID {
		t.Errorf("got account %+v", result.Account)
	}
	silent, err := app.AcquireTokenSilent(t.Context(), []string{"https://management.azure.com/.default"}, public.WithSilentAccount(result.Account))
	if err != nil {
		t.Fatal(err)
	}
	w.verify(t, silent.AccessToken, "https://management.azure.com")
}

// postBack is what a browser does with the address that MSAL opens.
func postBack(t *testing.T, w *world, authURL string) error {
	c := w.browser(t)
	status, body, _ := submit(t, c, signInForm(t, c, authURL, nurse, password))
	action := regexp.MustCompile(`action="(http://localhost:\d+/?)"`).FindStringSubmatch(body)
	if status != 200 || action == nil {
		return errors.New("no form to post back: " + body)
	}
	form := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(body, -1) {
		form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	resp, err := http.PostForm(action[1], form)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func TestDiscoveryKeepsToOneIssuer(t *testing.T) {
	w := newWorld(t)
	c := &http.Client{Transport: w}
	for u, want := range map[string]struct {
		status           int
		issuer, endpoint string
	}{
		"https://" + loginHost + "/" + tenantID + "/v2.0":      {200, "https://" + loginHost + "/" + tenantID + "/v2.0", "https://" + loginHost + "/" + tenantID + "/oauth2/v2.0/token"},
		"https://" + loginHost + ":8443/" + tenantID + "/v2.0": {200, "https://" + loginHost + "/" + tenantID + "/v2.0", "https://" + loginHost + ":8443/" + tenantID + "/oauth2/v2.0/token"},
		"https://" + loginHost + ":443/verdant.localhost":      {200, "https://" + loginHost + "/" + tenantID + "/", "https://" + loginHost + "/" + tenantID + "/oauth2/token"},
		"https://" + loginHost + "/common/v2.0":                {200, "https://" + loginHost + "/{tenantid}/v2.0", "https://" + loginHost + "/common/oauth2/v2.0/token"},
		"https://evil.test/" + tenantID + "/v2.0":              {400, "", ""},
		"https://" + loginHost + ":9999/" + tenantID + "/v2.0": {400, "", ""},
		"https://" + loginHost + "/someone-else.test/v2.0":     {400, "", ""},
	} {
		resp, err := c.Get(u + "/.well-known/openid-configuration")
		if err != nil {
			t.Fatal(err)
		}
		body := decode(t, resp)
		issuer, _ := body["issuer"].(string)
		endpoint, _ := body["token_endpoint"].(string)
		if resp.StatusCode != want.status || issuer != want.issuer || endpoint != want.endpoint {
			t.Errorf("%s: got %d %q %q, want %+v", u, resp.StatusCode, issuer, endpoint, want)
		}
	}
	for endpoint, want := range map[string]int{
		"https://" + loginHost + "/" + tenantID + "/oauth2/v2.0/authorize": 200,
		"https://login.evil.test/common/oauth2/v2.0/authorize":             400,
		"": 400,
	} {
		resp, err := c.Get("https://" + loginHost + "/common/discovery/instance?api-version=1.1&authorization_endpoint=" + url.QueryEscape(endpoint))
		if err != nil {
			t.Fatal(err)
		}
		if body := decode(t, resp); resp.StatusCode != want || (want == 400 && body["error"] != "invalid_instance") {
			t.Errorf("instance of %q: got %d %v", endpoint, resp.StatusCode, body)
		}
	}
}

// refreshOnce signs in and uses the refresh token.
func refreshOnce(t *testing.T, w *world, p *portal) {
	t.Helper()
	verifier := oauth2.GenerateVerifier()
	token, err := p.Exchange(p.ctx, signedIn(t, w, p, verifier), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.TokenSource(p.ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token(); err != nil {
		t.Fatal(err)
	}
}

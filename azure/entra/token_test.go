package entra_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"verdant/azure/entra"
)

func azureOptions(w *world) azcore.ClientOptions {
	return azcore.ClientOptions{Transport: w, Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://" + loginHost + "/"}}
}

func TestStockClientSecretCredentialGetsATokenForTheVault(t *testing.T) {
	w := newWorld(t)
	cred, err := azidentity.NewClientSecretCredential(tenantID, robotID, portalSecret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azureOptions(w), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	caller := w.verify(t, token.Token, "https://vault.azure.net")
	if caller.ObjectID != robotID || caller.AppID != robotID || !caller.App {
		t.Errorf("got caller %+v, want the app itself", caller)
	}
	c := claimsOf(t, token.Token)
	for name, want := range map[string]any{"iss": "https://" + loginHost + "/" + tenantID + "/", "ver": "1.0", "appidacr": "1", "idtyp": "app", "tid": tenantID} {
		if c[name] != want {
			t.Errorf("claim %s: got %v, want %v", name, c[name], want)
		}
	}
	row := w.rows.last(t)
	if row.table != "AADServicePrincipalSignInLogs" || row.Row["UniqueTokenIdentifier"] != c["uti"] || row.Row["ResultType"] != "0" || row.Row["ClientCredentialType"] != "clientSecret" {
		t.Errorf("got row %v", row)
	}
}

func TestStockClientIsToldWhyItsSecretIsRefused(t *testing.T) {
	w := newWorld(t)
	cred, err := azidentity.NewClientSecretCredential(tenantID, robotID, "wrong", &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azureOptions(w), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse.StatusCode != 401 || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Fatalf("got %v, want AADSTS7000215", err)
	}
	if row := w.rows.last(t); row.Row["ResultType"] != "7000215" {
		t.Errorf("got row %v", row)
	}
}

func TestStockManagedIdentityCredentialGetsATokenFromIMDS(t *testing.T) {
	w := newWorld(t)
	imds := w.IMDS(identityID)
	transport := transportFunc(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "169.254.169.254" {
			t.Errorf("asked %s", r.URL)
		}
		return inProcess(imds, r)
	})
	for name, id := range map[string]azidentity.ManagedIDKind{
		"without selector": nil, "by client id": azidentity.ClientID(identityApp),
		"by resource id": azidentity.ResourceID(identityARM), "by object id": azidentity.ObjectID(identityID)} {
		// The SDK caches by identity and resource for the whole process.
		audience := map[string]string{"without selector": "https://vault.azure.net", "by client id": "https://ossrdbms-aad.database.windows.net",
			"by resource id": "api://dgca-issuance-service", "by object id": "https://management.azure.com/"}[name]
		cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ClientOptions: azcore.ClientOptions{Transport: transport}, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		caller := w.verify(t, token.Token, audience)
		if caller.ObjectID != identityID || caller.MIResource != identityARM || caller.AppID != identityApp {
			t.Errorf("%s: got caller %+v", name, caller)
		}
		if got := caller.Expires.Sub(w.now()); got != 24*time.Hour {
			t.Errorf("%s: token lives %v, want 24h", name, got)
		}
	}
	if row := w.rows.last(t); row.table != "AADManagedIdentitySignInLogs" || row.Row["ServicePrincipalId"] != identityID || row.Row["ResourceDisplayName"] == "" {
		t.Errorf("got row %v", row)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

func TestStockCredentialFailsAtOnceForAnIdentityThatThePodLacks(t *testing.T) {
	w := newWorld(t)
	calls := 0
	transport := transportFunc(func(r *http.Request) (*http.Response, error) {
		calls++
		return inProcess(w.IMDS(identityID), r)
	})
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: azcore.ClientOptions{Transport: transport}, ID: azidentity.ClientID("00000000-0000-4000-8000-000000000000")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}); err == nil || !strings.Contains(err.Error(), "Identity not found") {
		t.Errorf("got %v, want Identity not found", err)
	}
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
}

func TestStockManagedIdentityCredentialGetsATokenTheAppServiceWay(t *testing.T) {
	w := newWorld(t)
	srv := httptest.NewServer(w.AppService("header-secret", identityID))
	defer srv.Close()
	t.Setenv("IDENTITY_ENDPOINT", srv.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", "header-secret")
	get := func(audience string) error {
		cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(identityApp)})
		if err != nil {
			t.Fatal(err)
		}
		token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		if err == nil {
			w.verify(t, token.Token, audience)
		}
		return err
	}
	if err := get("https://monitor.azure.com"); err != nil {
		t.Error(err)
	}
	t.Setenv("IDENTITY_HEADER", "guess")
	if err := get("https://graph.microsoft.com"); err == nil {
		t.Error("a wrong header got a token")
	}
}

func TestIdentityEndpointRefusesWhatItShould(t *testing.T) {
	w := newWorld(t)
	const good = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
	for name, c := range map[string]struct {
		path   string
		header map[string]string
		status int
	}{
		"the good request":               {good, nil, 200},
		"the path in other case":         {strings.Replace(good, "/metadata", "/Metadata", 1), nil, 200},
		"without the Metadata header":    {good, map[string]string{"Metadata": ""}, 400},
		"forwarded by somebody":          {good, map[string]string{"X-Forwarded-For": "10.0.0.1"}, 400},
		"without api-version":            {"/metadata/identity/oauth2/token?resource=https%3A%2F%2Fvault.azure.net", nil, 400},
		"without resource":               {"/metadata/identity/oauth2/token?api-version=2018-02-01", nil, 400},
		"for a resource nobody knows":    {strings.Replace(good, "vault", "nowhere", 1), nil, 400},
		"for an identity of another pod": {good + "&client_id=" + portalID, nil, 400},
		"for two selectors that differ":  {good + "&client_id=" + identityApp + "&object_id=" + portalID, nil, 400},
		"instance metadata":              {"/metadata/instance/compute?api-version=2021-02-01", nil, 200},
	} {
		r := httptest.NewRequest("GET", "http://169.254.169.254"+c.path, nil)
		r.Header.Set("Metadata", "true")
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		rec := httptest.NewRecorder()
		w.IMDS(identityID).ServeHTTP(rec, r)
		if rec.Code != c.status {
			t.Errorf("%s: got %d %s, want %d", name, rec.Code, rec.Body, c.status)
		}
	}
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://169.254.169.254"+good, nil)
	r.Header.Set("Metadata", "true")
	w.IMDS().ServeHTTP(rec, r)
	if rec.Code != 400 {
		t.Errorf("a pod without identity: got %d, want 400", rec.Code)
	}
}

func TestTokenRequestsAreRefusedWithEntrasCodes(t *testing.T) {
	w := newWorld(t)
	good := func() url.Values {
		return url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {portalSecret}, "scope": {"https://vault.azure.net/.default"}}
	}
	if status, body := w.post(t, "/oauth2/v2.0/token", good()); status != 200 || body["expires_in"].(float64) < 3600 {
		t.Fatalf("good request: got %d %v", status, body)
	}
	if status, body := w.post(t, "/oauth2/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {portalSecret}, "resource": {"https://vault.azure.net"}}); status != 200 || body["resource"] != "https://vault.azure.net" || body["expires_on"].(string) == "" {
		t.Fatalf("good v1 request: got %d %v", status, body)
	}
	for name, c := range map[string]struct {
		change map[string]string
		status int
		error  string
		code   int
	}{
		"no grant_type":                          {map[string]string{"grant_type": ""}, 400, "invalid_request", 900144},
		"an unknown grant_type":                  {map[string]string{"grant_type": "magic"}, 400, "unsupported_grant_type", 70003},
		"no client_id":                           {map[string]string{"client_id": ""}, 400, "invalid_request", 900144},
		"an unknown client":                      {map[string]string{"client_id": "x"}, 400, "unauthorized_client", 700016},
		"no secret":                              {map[string]string{"client_secret": ""}, 401, "invalid_client", 7000218},
		"a wrong secret":                         {map[string]string{"client_secret": "nope"}, 401, "invalid_client", 7000215},
		"a public client with a secret":          {map[string]string{"client_id": entra.AzureCLI}, 401, "invalid_client", 700025},
		"a scope without .default":               {map[string]string{"scope": "https://vault.azure.net/x"}, 400, "invalid_scope", 1002012},
		"two resources":                          {map[string]string{"scope": "https://vault.azure.net/.default https://monitor.azure.com/.default"}, 400, "invalid_scope", 700022},
		"an unknown resource":                    {map[string]string{"scope": "https://nowhere.test/.default"}, 400, "invalid_resource", 500011},
		"only OpenID scopes":                     {map[string]string{"scope": "openid profile"}, 400, "invalid_scope", 1002012},
		"an app that requires assignment":        {map[string]string{"scope": portalURI + "/.default"}, 400, "invalid_grant", 501051},
		"a secret and an assertion":              {map[string]string{"client_assertion": "x"}, 400, "invalid_request", 9002313},
		"extra OpenID scopes, which are dropped": {map[string]string{"scope": "https://vault.azure.net/.default openid offline_access profile"}, 200, "", 0},
	} {
		form := good()
		for k, v := range c.change {
			form.Set(k, v)
			if v == "" {
				form.Del(k)
			}
		}
		status, body := w.post(t, "/oauth2/v2.0/token", form)
		oauth, _ := body["error"].(string)
		if status != c.status || oauth != c.error || errorCode(body) != c.code {
			t.Errorf("%s: got %d %v", name, status, body)
		}
	}
	form := good()
	form["scope"] = append(form["scope"], "again")
	if status, body := w.post(t, "/oauth2/v2.0/token", form); status != 400 || errorCode(body) != 9002313 {
		t.Errorf("a repeated parameter: got %d %v", status, body)
	}
	if got := w.tenantStatus(t, "common"); got != 50194 {
		t.Errorf("single-tenant app at /common: got %d, want 50194", got)
	}
	if got := w.tenantStatus(t, "nobody.test"); got != 90002 {
		t.Errorf("unknown tenant: got %d, want 90002", got)
	}
	if got := w.tenantStatus(t, "verdant.localhost"); got != 0 {
		t.Errorf("tenant by domain: got %d, want a token", got)
	}
}

func (w *world) tenantStatus(t *testing.T, tenant string) int {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {portalSecret}, "scope": {"https://vault.azure.net/.default"}}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+loginHost+"/"+tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := w.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return errorCode(decode(t, resp))
}

func TestATokenThatCannotBeRecordedIsNotIssued(t *testing.T) {
	w := newWorld(t)
	w.rows.fail = errors.New("disk full")
	status, body := w.post(t, "/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {portalSecret}, "scope": {"https://vault.azure.net/.default"}})
	if status != 503 || body["access_token"] != nil || strings.Contains(body["error_description"].(string), "disk") {
		t.Errorf("got %d %v, want 503 and no token", status, body)
	}
	if _, _, err := w.MintIdentity(t.Context(), identityID, "https://vault.azure.net"); err == nil {
		t.Error("managed identity got a token")
	}
}

func TestAnApplicationThatAsksAgainWithinAMinuteGetsTheSameToken(t *testing.T) {
	w := newWorld(t)
	get := func() string {
		token, _, err := w.MintIdentity(t.Context(), identityID, "https://vault.azure.net")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	first := get()
	w.pass(59 * time.Second)
	if get() != first || w.rows.count() != 1 {
		t.Errorf("within a minute: got another token or %d rows", w.rows.count())
	}
	w.pass(time.Second)
	if get() == first || w.rows.count() != 2 {
		t.Errorf("after a minute: got the same token or %d rows", w.rows.count())
	}
}

func TestMintUserChecksWhatABrowserSignInWould(t *testing.T) {
	w := newWorld(t)
	token, expires, err := w.MintUser(t.Context(), "NURSE@verdant.localhost", portalURI, entra.AzureCLI)
	if err != nil {
		t.Fatal(err)
	}
	caller := w.verify(t, token, portalURI)
	if caller.ObjectID != nurseID || caller.App || len(caller.Roles) != 1 || caller.Roles[0] != "Certificate.Issuer" || len(caller.Groups) != 1 {
		t.Errorf("got caller %+v", caller)
	}
	if life := expires.Sub(w.now()); life < 60*time.Minute || life > 90*time.Minute {
		t.Errorf("token lives %v, want 60 to 90 minutes", life)
	}
	if row := w.rows.last(t); row.table != "SigninLogs" || row.Row["UserPrincipalName"] != nurse {
		t.Errorf("got row %v", row)
	}
	for name, c := range map[string]struct{ user, resource, client, want string }{
		"a user without assignment":   {citizen, portalURI, entra.AzureCLI, "AADSTS50105"},
		"a user that is not":          {"nobody", portalURI, entra.AzureCLI, "AADSTS50034"},
		"a client that is not":        {nurse, portalURI, "x", "AADSTS700016"},
		"a client without permission": {nurse, "https://vault.azure.net", portalID, "AADSTS65001"},
		"a resource that is not":      {nurse, "api://nothing", entra.AzureCLI, "AADSTS500011"},
	} {
		if _, _, err := w.MintUser(t.Context(), c.user, c.resource, c.client); err == nil || !strings.HasPrefix(err.Error(), c.want+":") {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

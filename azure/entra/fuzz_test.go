package entra_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"verdant/azure/entra"
)

// FuzzAuthorizeNeverLeadsElsewhere holds the authorization endpoint to its
// promise: whatever the query says, a browser is sent to a registered address
// or nowhere.
func FuzzAuthorizeNeverLeadsElsewhere(f *testing.F) {
	f.Add("client_id=" + portalID + "&redirect_uri=" + url.QueryEscape(portalBack) + "&response_type=code&scope=openid&prompt=none")
	f.Add("client_id=" + entra.AzureCLI + "&redirect_uri=http://localhost:5000/&response_type=code&scope=openid&code_challenge=" + strings.Repeat("a", 43) + "&code_challenge_method=S256")
	f.Add("client_id=" + entra.AzureCLI + "&redirect_uri=http://localhost:80@evil.test&response_type=code&scope=openid")
	f.Add("redirect_uri=%00&client_id=" + portalID)
	w := quickWorld(f)
	f.Fuzz(func(t *testing.T, query string) {
		if _, err := url.ParseRequestURI("/?" + query); err != nil || strings.ContainsAny(query, " \r\n") {
			t.Skip()
		}
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "https://"+loginHost+"/"+tenantID+"/oauth2/v2.0/authorize", nil)
		r.URL.RawQuery = query
		w.Handler().ServeHTTP(rec, r)
		to := rec.Header().Get("Location")
		if to == "" {
			return
		}
		u, err := url.Parse(to)
		if err != nil || (u.Host != "portal.test" && u.Hostname() != "localhost") {
			t.Fatalf("led to %q", to)
		}
		if u.Query().Get("code") != "" {
			t.Fatalf("a code for nobody: %q", to)
		}
	})
}

// FuzzTokenRequestsWithoutACredentialGetNothing sends forms that hold neither
// a secret nor a code that was ever issued.
func FuzzTokenRequestsWithoutACredentialGetNothing(f *testing.F) {
	f.Add("grant_type=client_credentials&client_id=" + robotID + "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=eyJhbGciOiJub25lIn0.e30.&scope=https://vault.azure.net/.default")
	f.Add("grant_type=authorization_code&client_id=" + entra.AzureCLI + "&code=x&redirect_uri=http://localhost")
	f.Add("grant_type=refresh_token&client_id=" + entra.AzureCLI + "&refresh_token=%ff")
	w := quickWorld(f)
	f.Fuzz(func(t *testing.T, form string) {
		if strings.Contains(form, "portal-secret") {
			t.Skip()
		}
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "https://"+loginHost+"/"+tenantID+"/oauth2/v2.0/token", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w.Handler().ServeHTTP(rec, r)
		if rec.Code < 400 || rec.Code == 500 || strings.Contains(rec.Body.String(), "access_token") {
			t.Fatalf("got %d %s", rec.Code, rec.Body)
		}
	})
}

// quickWorld has no passwords: hashing them would take longer than everything
// else.
func quickWorld(f *testing.F) *world {
	return newWorld(f, func(c *entra.Config) {
		for i := range c.Users {
			c.Users[i].Password = ""
		}
	})
}

package entra

import (
	"net/http"
	"net/url"
	"strings"
)

// serveConfiguration answers OpenID Connect Discovery for version 1 or 2. The
// issuer is the tokens' own; the endpoints are at the host that was asked.
func (s *Server) serveConfiguration(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := exchangeOf(r)
		t, err := s.tenantOf(r)
		if err != nil {
			s.writeFailure(w, e, err)
			return
		}
		name, issuerTenant := s.cfg.TenantID, s.cfg.TenantID
		if t == anyTenant {
			name, issuerTenant = strings.ToLower(r.PathValue("tenant")), "{tenantid}"
		}
		base := "https://" + e.authority + "/" + name
		issuer := "https://" + s.host() + "/" + issuerTenant + "/"
		v := ""
		if version == 2 {
			issuer += "v2.0"
			v = "/v2.0"
		}
		openToScripts(w)
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer":                                           issuer,
			"authorization_endpoint":                           base + "/oauth2" + v + "/authorize",
			"token_endpoint":                                   base + "/oauth2" + v + "/token",
			"end_session_endpoint":                             base + "/oauth2" + v + "/logout",
			"jwks_uri":                                         base + "/discovery" + v + "/keys",
			"response_types_supported":                         []string{"code"},
			"response_modes_supported":                         []string{"query", "fragment", "form_post"},
			"grant_types_supported":                            []string{"authorization_code", "refresh_token", "client_credentials"},
			"subject_types_supported":                          []string{"pairwise"},
			"scopes_supported":                                 []string{"openid", "profile", "email", "offline_access"},
			"code_challenge_methods_supported":                 []string{"S256"},
			"id_token_signing_alg_values_supported":            []string{"RS256"},
			"token_endpoint_auth_methods_supported":            []string{"client_secret_post", "client_secret_basic", "private_key_jwt"},
			"token_endpoint_auth_signing_alg_values_supported": []string{"RS256", "PS256"},
			"claims_supported":                                 []string{"sub", "iss", "aud", "exp", "iat", "nbf", "auth_time", "nonce", "name", "preferred_username", "oid", "tid", "ver", "roles"},
			"request_uri_parameter_supported":                  false,
			"frontchannel_logout_supported":                    false,
			"tenant_region_scope":                              "EU",
			"cloud_instance_name":                              s.host(),
		})
	}
}

func (s *Server) serveKeys(w http.ResponseWriter, r *http.Request) {
	if _, err := s.tenantOf(r); err != nil {
		s.writeFailure(w, exchangeOf(r), err)
		return
	}
	openToScripts(w)
	writeJSON(w, http.StatusOK, s.keys.set)
}

// serveInstance answers a client that asks whether an authority is genuine.
// The answer keeps the tenant that the client asked about, because the Azure
// CLI goes on with it.
func (s *Server) serveInstance(w http.ResponseWriter, r *http.Request) {
	e := exchangeOf(r)
	unknown := fail("invalid_instance", 50049, "Unknown or invalid instance.")
	endpoint, err := url.Parse(r.URL.Query().Get("authorization_endpoint"))
	if err != nil {
		s.writeFailure(w, e, unknown)
		return
	}
	host := strings.TrimSuffix(strings.ToLower(endpoint.Host), ":443")
	name, _, _ := strings.Cut(strings.TrimPrefix(endpoint.Path, "/"), "/")
	known := false
	for _, h := range s.cfg.Hosts {
		known = known || h == host
	}
	if !known || endpoint.Scheme != "https" || s.tenant(name) == noTenant {
		s.writeFailure(w, e, unknown)
		return
	}
	openToScripts(w)
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": "https://" + host + "/" + name + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata": []any{map[string]any{
			"preferred_network": s.host(), "preferred_cache": s.host(), "aliases": s.cfg.Hosts}},
	})
}

// openToScripts lets scripts of every origin read a public document.
func openToScripts(w http.ResponseWriter) { w.Header().Set("Access-Control-Allow-Origin", "*") }

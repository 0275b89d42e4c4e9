package entra

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// client is an authenticated client of the token endpoint.
type client struct {
	app        *App
	credential string // as in principal
	thumb      string // of the certificate used
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// client authenticates the app that makes a token request: by secret in the
// body or by HTTP Basic, or by an assertion signed with its certificate's key.
// app is set in a refusal where it is known.
func (s *Server) client(_ context.Context, r *http.Request, e exchange, t tenant) (client, error) {
	form := r.PostForm
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		// RFC 6749 section 2.3.1: both are form-encoded before Basic.
		basicID, err1 := url.QueryUnescape(user)
		basicSecret, err2 := url.QueryUnescape(password)
		if err1 != nil || err2 != nil || secret != "" || (id != "" && !strings.EqualFold(id, basicID)) {
			return client{}, fail("invalid_client", 9002313, "Invalid request. Request is malformed or invalid: the client is named twice.").withStatus(http.StatusUnauthorized)
		}
		id, secret = basicID, basicSecret
	}
	if id == "" {
		return client{}, fail("invalid_request", 900144, "The request body must contain the following parameter: 'client_id'.")
	}
	app := s.dir.apps[strings.ToLower(id)]
	if app == nil {
		return client{}, s.unknownApp(id)
	}
	c := client{app: app, credential: "0"}
	if t == anyTenant && !app.FirstParty {
		return c, singleTenant(app)
	}
	assertion := form.Get("client_assertion")
	switch {
	case app.Public && (secret != "" || assertion != ""):
		return c, fail("invalid_client", 700025, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.").withStatus(http.StatusUnauthorized)
	case app.Public:
		return c, nil
	case secret != "" && assertion != "":
		return c, fail("invalid_request", 9002313, "Invalid request. Request is malformed or invalid: both 'client_assertion' and 'client_secret' are present.")
	case assertion != "":
		return s.clientByAssertion(c, e, form.Get("client_assertion_type"), strings.TrimSpace(assertion))
	case secret != "":
		return c.bySecret(secret, e.at)
	}
	return c, fail("invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.").withStatus(http.StatusUnauthorized)
}

func (s *Server) unknownApp(id string) *failure {
	return fail("unauthorized_client", 700016, "Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.", clip(id, 64), s.cfg.TenantName)
}

func singleTenant(a *App) *failure {
	return fail("invalid_request", 50194, "Application '%s'(%s) is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps. Use a tenant-specific endpoint.", a.ClientID, a.Name)
}

func (c client) bySecret(secret string, now time.Time) (client, error) {
	digest := sha256.Sum256([]byte(secret))
	found, expired := 0, false
	for _, known := range c.app.Secrets {
		if subtle.ConstantTimeCompare(digest[:], known.Digest[:]) == 1 {
			found = 1
			expired = !known.Expires.IsZero() && !now.Before(known.Expires)
		}
	}
	c.credential = "1"
	switch {
	case found == 0:
		return c, fail("invalid_client", 7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", c.app.ClientID).withStatus(http.StatusUnauthorized)
	case expired:
		return c, fail("invalid_client", 7000222, "The provided client secret keys for app '%s' are expired.", c.app.ClientID).withStatus(http.StatusUnauthorized)
	}
	return c, nil
}

func (s *Server) clientByAssertion(c client, e exchange, kind, assertion string) (client, error) {
	c.credential = "2"
	invalid := func(code int, why string) (client, error) {
		return c, fail("invalid_client", code, "Client assertion failed validation: %s", why).withStatus(http.StatusUnauthorized)
	}
	if kind != assertionType {
		return invalid(7000218, "'client_assertion_type' must be "+assertionType+".")
	}
	jws, err := jose.ParseSignedCompact(assertion, []jose.SignatureAlgorithm{jose.RS256, jose.PS256})
	if err != nil || len(jws.Signatures) != 1 {
		return invalid(50027, "it is not a JWT signed with RS256 or PS256.")
	}
	payload, thumb := []byte(nil), ""
	for _, cert := range c.app.Certificates {
		key, ok := cert.PublicKey.(*rsa.PublicKey)
		if !ok || !named(jws.Signatures[0].Protected, cert) {
			continue
		}
		if p, err := jws.Verify(key); err == nil {
			sum := sha1.Sum(cert.Raw)
			payload, thumb = p, strings.ToUpper(hex.EncodeToString(sum[:]))
			break
		}
	}
	if payload == nil {
		return invalid(700027, "the key was not found or the signature is not valid for the app.")
	}
	c.thumb = thumb
	var claims struct {
		Issuer    string   `json:"iss"`
		Subject   string   `json:"sub"`
		Audience  audience `json:"aud"`
		Expires   float64  `json:"exp"`
		NotBefore float64  `json:"nbf"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return invalid(50027, "its claims are not well formed.")
	}
	now := float64(e.at.Unix())
	const skew, longest = 300, 24 * 3600
	switch {
	case claims.Issuer != c.app.ClientID || claims.Subject != c.app.ClientID:
		return invalid(700021, "issuer and subject must be the client id.")
	case !slices.ContainsFunc(claims.Audience, s.isTokenEndpoint):
		return invalid(700023, "the audience is not this token endpoint.")
	case claims.Expires <= 0 || claims.Expires+skew <= now || claims.NotBefore > now+skew || claims.Expires > now+longest:
		return invalid(700024, "it is not within its valid time range.")
	}
	return c, nil
}

// named reports whether the assertion's header names the certificate, or
// names none. Clients spell thumbprints in base64 of either alphabet, with and
// without padding, and in hexadecimal.
func named(header jose.Header, cert *x509.Certificate) bool {
	one, two := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw)
	names := []string{header.KeyID}
	for _, field := range []jose.HeaderKey{"x5t", "x5t#S256"} {
		if v, ok := header.ExtraHeaders[field].(string); ok {
			names = append(names, v)
		}
	}
	named := false
	for _, name := range names {
		if name == "" {
			continue
		}
		named = true
		plain := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(name), "=")
		sum, err := base64.RawURLEncoding.DecodeString(plain)
		if err == nil && (bytes.Equal(sum, one[:]) || bytes.Equal(sum, two[:])) {
			return true
		}
		sum, err = hex.DecodeString(name)
		if err == nil && (bytes.Equal(sum, one[:]) || bytes.Equal(sum, two[:])) {
			return true
		}
	}
	return !named
}

// isTokenEndpoint reports whether an assertion's audience means this service.
func (s *Server) isTokenEndpoint(aud string) bool {
	u, err := url.Parse(aud)
	if err != nil || u.Scheme != "https" || !slices.Contains(s.cfg.Hosts, strings.TrimSuffix(strings.ToLower(u.Host), ":443")) {
		return false
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return s.tenant(name) != noTenant && slices.Contains([]string{"oauth2/v2.0/token", "oauth2/token", "v2.0", ""}, rest)
}

// audience is a JWT's aud: one string or several.
type audience []string

// UnmarshalJSON reads either form.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil {
		return err
	}
	*a = many
	return nil
}

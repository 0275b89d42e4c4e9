package entra

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	codeLife    = 10 * time.Minute
	refreshLife = 90 * 24 * time.Hour
)

// answer is a token endpoint's success.
type answer struct {
	minted
	ask
	refresh, idToken string
	user             *User
}

// serveToken answers the token endpoint of version 1 or 2.
func (s *Server) serveToken(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := exchangeOf(r)
		a, err := s.token(r, e, version)
		if err != nil {
			s.writeFailure(w, e, err)
			return
		}
		writeJSON(w, http.StatusOK, s.tokenBody(e, a, version))
	}
}

func (s *Server) token(r *http.Request, e exchange, version int) (answer, error) {
	t, err := s.tenantOf(r)
	if err != nil {
		return answer{}, err
	}
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return answer{}, err
		}
		return answer{}, fail("invalid_request", 9002313, "Invalid request. Request is malformed or invalid: the body is not a form.")
	}
	for name, values := range r.PostForm {
		if len(values) > 1 {
			return answer{}, fail("invalid_request", 9002313, "Invalid request. Request is malformed or invalid: the parameter '%s' is repeated.", clip(name, 40))
		}
	}
	kind := r.PostForm.Get("grant_type")
	if kind == "" {
		return answer{}, fail("invalid_request", 900144, "The request body must contain the following parameter: 'grant_type'.")
	}
	ctx := r.Context()
	if m := s.federated(r.PostForm.Get("client_id")); m != nil && t != anyTenant {
		return s.byFederation(ctx, r, e, m, version)
	}
	c, err := s.client(ctx, r, e, t)
	if err != nil {
		if c.app == nil || c.app.Public {
			return answer{}, err
		}
		return answer{}, s.refused(ctx, e, signIn{table: tableApp, principal: principal{app: c.app, credential: c.credential}, thumb: c.thumb}, err)
	}
	switch kind {
	case "client_credentials":
		return s.byClientCredentials(ctx, r, e, c, version)
	case "authorization_code":
		return s.byCode(ctx, r, e, c, version)
	case "refresh_token":
		return s.byRefresh(ctx, r, e, c, version)
	}
	return answer{}, fail("unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", clip(kind, 100))
}

// askOf reads what the token is asked for: scope in version 2, resource in
// version 1, which fall back to what was authorised.
func (s *Server) askOf(r *http.Request, g grant, application bool, version int) (ask, error) {
	scope, res := r.PostForm.Get("scope"), r.PostForm.Get("resource")
	if version == 1 {
		if res == "" {
			res = g.Resource
		}
		return s.parseResource(res)
	}
	if scope == "" {
		scope = g.Scope
	}
	if scope == "" && g.Resource != "" {
		scope = strings.TrimRight(g.Resource, "/") + "/.default openid profile offline_access"
	}
	return s.parseScope(scope, application)
}

func (s *Server) byClientCredentials(ctx context.Context, r *http.Request, e exchange, c client, version int) (answer, error) {
	in := signIn{table: tableApp, principal: principal{app: c.app, credential: c.credential}, thumb: c.thumb}
	if c.app.Public {
		return answer{}, fail("invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.").withStatus(http.StatusUnauthorized)
	}
	a, err := s.askOf(r, grant{}, true, version)
	if err != nil {
		return answer{}, s.refused(ctx, e, in, err)
	}
	a.openid, a.offline = false, false
	in.resource = a.resource
	m, err := s.accessToken(ctx, e, in.principal, a)
	if err != nil {
		return answer{}, s.refused(ctx, e, in, err)
	}
	if in.tokenID = m.id; m.fresh {
		if err := s.record(ctx, e, in); err != nil {
			return answer{}, err
		}
	}
	return answer{minted: m, ask: a}, nil
}

func (s *Server) byCode(ctx context.Context, r *http.Request, e exchange, c client, version int) (answer, error) {
	code := r.PostForm.Get("code")
	if code == "" {
		return answer{}, fail("invalid_request", 900144, "The request body must contain the following parameter: 'code'.")
	}
	g, err := s.store.useCode(ctx, code, c.app.ClientID, e.at)
	if err != nil {
		return answer{}, asGrantFailure(err)
	}
	verifier := r.PostForm.Get("code_verifier")
	switch {
	case g.RedirectURI != r.PostForm.Get("redirect_uri"):
		return answer{}, fail("invalid_grant", 70000, "The provided value for the input parameter 'redirect_uri' is not valid. The expected value is the one of the authorization request.")
	case g.Challenge == "" && verifier != "":
		return answer{}, fail("invalid_grant", 501481, "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
	case g.Challenge != "" && verifier == "":
		return answer{}, fail("invalid_grant", 501481, "The request body must contain the following parameter: 'code_verifier'.")
	case g.Challenge != "" && !verifies(verifier, g.Challenge):
		return answer{}, fail("invalid_grant", 501481, "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
	}
	out, p, err := s.forUser(ctx, r, e, c, g, version, tableUser)
	if err != nil {
		return answer{}, err
	}
	if out.openid {
		if out.idToken, err = s.idToken(e, p, out.ask, version, g.Nonce); err != nil {
			return answer{}, err
		}
	}
	if out.offline {
		out.refresh = s.secret()
		g.Challenge, g.RedirectURI, g.Nonce, g.TokenID = "", "", "", ""
		if err := s.store.addRefresh(ctx, out.refresh, code, c.app.ClientID, g, e.at, refreshLife); err != nil {
			return answer{}, asGrantFailure(err)
		}
	}
	return out, nil
}

func (s *Server) byRefresh(ctx context.Context, r *http.Request, e exchange, c client, version int) (answer, error) {
	old := r.PostForm.Get("refresh_token")
	if old == "" {
		return answer{}, fail("invalid_request", 900144, "The request body must contain the following parameter: 'refresh_token'.")
	}
	g, err := s.store.refresh(ctx, old, c.app.ClientID, e.at)
	if err != nil {
		return answer{}, asGrantFailure(err)
	}
	out, p, err := s.forUser(ctx, r, e, c, g, version, tableRefresh)
	if err != nil {
		return answer{}, err
	}
	if out.openid {
		if out.idToken, err = s.idToken(e, p, out.ask, version, ""); err != nil {
			return answer{}, err
		}
	}
	// The old token ends in the same transaction that makes the new one; of
	// two callers with the same token only one gets here.
	out.refresh = s.secret()
	if err := s.store.rotate(ctx, old, out.refresh, c.app.ClientID, g, e.at, refreshLife); err != nil {
		return answer{}, asGrantFailure(err)
	}
	return out, nil
}

// forUser makes the access token of a user's grant and records it, unless the
// sign-in's own row announced it already. It looks at
// the user, the assignment and the permission again: they may have changed
// since the sign-in.
func (s *Server) forUser(ctx context.Context, r *http.Request, e exchange, c client, g grant, version int, table string) (answer, principal, error) {
	user := s.dir.usersByID[g.User]
	p := principal{user: user, app: c.app, credential: c.credential, authTime: g.AuthTime, tokenID: g.TokenID}
	in := signIn{table: table, principal: p, session: g.Session, protocol: "oAuth2"}
	refuse := func(err error) (answer, principal, error) { return answer{}, p, s.refused(ctx, e, in, err) }
	if user == nil {
		return refuse(fail("invalid_grant", 50173, "The provided grant has expired due to it being revoked: the user no longer exists."))
	}
	a, err := s.askOf(r, g, false, version)
	if err != nil {
		return refuse(err)
	}
	in.resource = a.resource
	if err := s.mayHave(p, a.resource); err != nil {
		return refuse(err)
	}
	m, err := s.accessToken(ctx, e, p, a)
	if err != nil {
		return refuse(err)
	}
	if in.tokenID = m.id; m.id != g.TokenID {
		if err := s.record(ctx, e, in); err != nil {
			return answer{}, p, err
		}
	}
	return answer{minted: m, ask: a, user: user}, p, nil
}

// mayHave decides whether the app may have a token for the resource on behalf
// of the user.
func (s *Server) mayHave(p principal, r *resource) error {
	if p.user.Disabled {
		return fail("invalid_grant", 50057, "The user account is disabled.")
	}
	if _, ok := p.app.rolesOf(p.user.principals()...); !ok && p.app.AssignmentRequired {
		return notAssigned(p.app)
	}
	if !p.app.mayAsk(r) {
		return fail("invalid_grant", 65001, "The user or administrator has not consented to use the application with ID '%s' named '%s'. Send an interactive authorization request for this user and resource.", p.app.ClientID, p.app.Name)
	}
	_, err := s.assigned(p, r)
	return err
}

func asGrantFailure(err error) error {
	switch {
	case errors.Is(err, errNoGrant):
		return fail("invalid_grant", 70000, "The provided value for the input parameter 'code' or 'refresh_token' is not valid.")
	case errors.Is(err, errGrantExpired):
		return fail("invalid_grant", 70008, "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.")
	case errors.Is(err, errGrantReused):
		return fail("invalid_grant", 54005, "OAuth2 Authorization code or refresh token was already redeemed, please retry with a new valid one.")
	}
	return err
}

// secret is a new code, refresh token or session id: 256 random bits.
func (s *Server) secret() string { return base64.RawURLEncoding.EncodeToString(s.random(32)) }

// verifies checks a PKCE verifier against an S256 challenge (RFC 7636 section
// 4.6).
func verifies(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}

// tokenBody writes an answer as the endpoint's version does: version 1 has
// numbers as strings.
func (s *Server) tokenBody(e exchange, a answer, version int) map[string]any {
	left := a.seconds(e.at)
	body := map[string]any{"token_type": "Bearer", "access_token": a.token}
	if version == 1 {
		body["expires_in"], body["ext_expires_in"] = strconv.FormatInt(left, 10), strconv.FormatInt(left, 10)
		body["expires_on"], body["not_before"] = strconv.FormatInt(a.expires.Unix(), 10), strconv.FormatInt(a.from.Unix(), 10)
		body["resource"] = a.audience
		if a.user != nil {
			body["scope"] = strings.Join(a.permissions, " ")
		}
	} else {
		body["expires_in"], body["ext_expires_in"] = left, left
		if a.user != nil {
			body["scope"] = strings.Join(slices.DeleteFunc(strings.Fields(a.text), func(f string) bool {
				return strings.EqualFold(f, "offline_access") && a.refresh == ""
			}), " ")
		}
	}
	if a.refresh != "" {
		body["refresh_token"] = a.refresh
	}
	if a.idToken != "" {
		body["id_token"] = a.idToken
	}
	if a.user != nil {
		info, err := json.Marshal(map[string]string{"uid": a.user.ObjectID, "utid": s.cfg.TenantID})
		if err == nil {
			body["client_info"] = base64.RawURLEncoding.EncodeToString(info)
		}
	}
	return body
}

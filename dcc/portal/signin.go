package portal

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// attempt is what a browser carries through a sign-in, sealed, as the OpenID
// state: the portal keeps nothing for a sign-in that may never end.
type attempt struct {
	Browser  []byte    `json:"b"` // digest of the sign-in cookie
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"` // PKCE
	Return   string    `json:"r"`
	Started  time.Time `json:"t"`
}

const attemptLife = 30 * time.Minute

func (s *Server) sealAttempt(a attempt) (string, error) {
	plain, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, s.seal.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(s.seal.Seal(nonce, nonce, plain, nil)), nil
}

var errAttempt = errors.New("sign-in was not begun in this browser, or too long ago")

func (s *Server) openAttempt(state, cookie string) (attempt, error) {
	var a attempt
	raw, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil || len(raw) < s.seal.NonceSize() {
		return a, errAttempt
	}
	plain, err := s.seal.Open(nil, raw[:s.seal.NonceSize()], raw[s.seal.NonceSize():], nil)
	if err != nil || json.Unmarshal(plain, &a) != nil {
		return a, errAttempt
	}
	sum := sha256.Sum256([]byte(cookie))
	if !hmac.Equal(sum[:], a.Browser) || s.now().Sub(a.Started) > attemptLife {
		return a, errAttempt
	}
	return a, nil
}

// localPath keeps a return address inside the portal.
func localPath(p string) string {
	u, err := url.Parse(p)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\r\n") {
		return "/vaccination"
	}
	return p
}

// login sends the browser to the identity service.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	cookie := ""
	// One cookie serves every tab: each has its own state.
	if c, err := r.Cookie(signInCookie); err == nil && len(c.Value) == 43 {
		cookie = c.Value
	} else {
		cookie = random()
		setCookie(w, signInCookie, cookie)
	}
	browser := sha256.Sum256([]byte(cookie))
	a := attempt{Browser: browser[:], Nonce: random(), Verifier: random(), Return: localPath(r.URL.Query().Get("return")), Started: s.now()}
	state, err := s.sealAttempt(a)
	if err != nil {
		s.problemPage(w, r, http.StatusInternalServerError, "The sign-in could not be started", "Try again.", "")
		return
	}
	challenge := sha256.Sum256([]byte(a.Verifier))
	query := url.Values{
		"client_id": {s.cfg.ClientID}, "response_type": {"code"}, "response_mode": {"query"}, "redirect_uri": {s.cfg.URL + "/auth/callback"},
		"scope": {"openid profile"}, "state": {state}, "nonce": {a.Nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	if r.URL.Query().Get("prompt") == "login" {
		query.Set("prompt", "login")
	}
	http.Redirect(w, r, s.cfg.Authority+"/oauth2/v2.0/authorize?"+query.Encode(), http.StatusFound)
}

var aadsts = regexp.MustCompile(`^AADSTS\d{1,9}`)

// callback takes the code, redeems it and begins the session.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if !q.Has("state") && !q.Has("code") && !q.Has("error") {
		http.Redirect(w, r, "/?signed-out", http.StatusSeeOther) // back from signing out
		return
	}
	cookie, err := r.Cookie(signInCookie)
	if err != nil {
		s.problemPage(w, r, http.StatusBadRequest, "We could not sign you in", "The sign-in was not begun in this browser, or too long ago. Sign in again.", "")
		return
	}
	a, err := s.openAttempt(q.Get("state"), cookie.Value)
	if err != nil {
		s.problemPage(w, r, http.StatusBadRequest, "We could not sign you in", "The sign-in was not begun in this browser, or too long ago. Sign in again.", "")
		return
	}
	if q.Get("error") != "" {
		// The text beside the code came with the address, so anybody could
		// have written it: it is not shown.
		s.problemPage(w, r, http.StatusForbidden, "We could not sign you in", "The identity service refused the sign-in.", aadsts.FindString(q.Get("error_description")))
		return
	}
	p, err := s.redeem(r.Context(), q.Get("code"), a)
	if err != nil {
		s.log.Error("sign-in failed", "why", err.Error())
		s.problemPage(w, r, http.StatusBadGateway, "We could not sign you in", "The identity service did not confirm the sign-in. Try again.", codeOf(err))
		return
	}
	if old, err := r.Cookie(sessionCookie); err == nil {
		s.sessions.end(old.Value)
	}
	id := random()
	s.sessions.add(id, p, random(), s.now())
	setCookie(w, sessionCookie, id)
	s.log.Info("signed in", "professional", p.objectID, "mayIssue", s.mayIssue(p.roles))
	http.Redirect(w, r, a.Return, http.StatusSeeOther)
}

// tokenError is a refusal of the identity service's token endpoint.
type tokenError struct {
	status int
	code   string // OAuth error
	aadsts string
}

func (e *tokenError) Error() string {
	return fmt.Sprintf("the identity service answered %d %s %s", e.status, e.code, e.aadsts)
}

func codeOf(err error) string {
	var t *tokenError
	if errors.As(err, &t) {
		return t.aadsts
	}
	return ""
}

// redeem exchanges the code for an ID token and checks it.
func (s *Server) redeem(ctx context.Context, code string, a attempt) (person, error) {
	if code == "" {
		return person{}, errors.New("the identity service sent no code")
	}
	idToken, err := s.exchange(ctx, code, a, false)
	var refused *tokenError
	if errors.As(err, &refused) && refused.code == "invalid_client" {
		// The secret may have been replaced since it was read. The identity
		// service looks at the client before the code, so the code still is
		// good.
		idToken, err = s.exchange(ctx, code, a, true)
	}
	if err != nil {
		return person{}, err
	}
	caller, err := s.deps.IDTokens.Verify(ctx, idToken)
	if err != nil {
		return person{}, fmt.Errorf("ID token: %w", err)
	}
	// The signature is verified; these two claims are not the verifier's
	// business.
	var claims struct {
		Nonce string `json:"nonce"`
		Name  string `json:"name"`
	}
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return person{}, errors.New("ID token: not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return person{}, errors.New("ID token: claims are not well formed")
	}
	if !hmac.Equal([]byte(claims.Nonce), []byte(a.Nonce)) {
		return person{}, errors.New("ID token: nonce is another sign-in's")
	}
	p := person{objectID: caller.ObjectID, name: claims.Name, upn: caller.Name, roles: caller.Roles}
	if p.name == "" {
		p.name = p.upn
	}
	return p, nil
}

func (s *Server) exchange(ctx context.Context, code string, a attempt, fresh bool) (idToken string, err error) {
	secret, err := s.clientSecret(ctx, fresh)
	if err != nil {
		return "", fmt.Errorf("client secret: %w", err)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {s.cfg.ClientID}, "client_secret": {secret}, "code": {code},
		"redirect_uri": {s.cfg.URL + "/auth/callback"}, "code_verifier": {a.Verifier}, "scope": {"openid profile"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.BackAuthority+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.deps.HTTP.Do(req)
	if err != nil {
		return "", fmt.Errorf("token endpoint: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("token endpoint: %w", err)
	}
	var body struct {
		IDToken     string `json:"id_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return "", fmt.Errorf("token endpoint answered %d without JSON", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK || body.IDToken == "" {
		return "", &tokenError{resp.StatusCode, clip(body.Error, 40), aadsts.FindString(body.Description)}
	}
	return body.IDToken, nil
}

// clientSecret returns the secret as last read, or reads it.
func (s *Server) clientSecret(ctx context.Context, fresh bool) (string, error) {
	s.mu.Lock()
	known := s.secret
	s.mu.Unlock()
	if known != "" && !fresh {
		return known, nil
	}
	secret, err := s.deps.Secret(ctx)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	s.secret = secret
	s.mu.Unlock()
	return secret, nil
}

// logout ends the session here and goes on to end it at the identity service.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		s.problemPage(w, r, http.StatusForbidden, "You are still signed in", "The request to sign out came from another site.", "")
		return
	}
	if c, err := r.Cookie(sessionCookie); err == nil {
		s.sessions.end(c.Value)
	}
	setCookie(w, sessionCookie, "")
	// The one address of the portal that the identity service knows.
	back := url.Values{"post_logout_redirect_uri": {s.cfg.URL + "/auth/callback"}}
	http.Redirect(w, r, s.cfg.Authority+"/oauth2/v2.0/logout?"+back.Encode(), http.StatusSeeOther)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

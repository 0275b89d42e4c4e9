package entra

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authRequest is a checked authorization request.
type authRequest struct {
	version  int
	app      *App
	redirect string
	mode     string // query, fragment or form_post
	state    string
	nonce    string
	scope    string
	resource string // version 1
	// challenge is the S256 code challenge; empty for a client that keeps a
	// credential and sent none.
	challenge string
	prompt    string
	hint      string
	maxAge    time.Duration // negative: none
	asked     *resource
}

// authParameters are what of a request travels through the sign-in form.
var authParameters = []string{"client_id", "redirect_uri", "response_type", "response_mode", "scope", "resource", "state", "nonce",
	"code_challenge", "code_challenge_method", "prompt", "login_hint", "max_age"}

// serveAuthorize begins a sign-in: with a session it answers at once, else it
// shows the sign-in page.
func (s *Server) serveAuthorize(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := exchangeOf(r)
		if err := r.ParseForm(); err != nil {
			s.errorPage(w, e, fail("invalid_request", 9002313, "Invalid request. Request is malformed or invalid."))
			return
		}
		q, err := s.parseAuthorize(r, r.Form, version)
		if err != nil {
			s.refuseAuthorize(w, r, q, err)
			return
		}
		sess, known, err := s.browserSession(r)
		if err != nil {
			s.refuseAuthorize(w, r, q, err)
			return
		}
		user := s.dir.usersByID[sess.user]
		fits := known && user != nil && !user.Disabled &&
			(q.hint == "" || strings.EqualFold(q.hint, user.UPN)) && (q.maxAge < 0 || e.at.Sub(sess.since) <= q.maxAge)
		switch {
		case q.prompt == "none" && !fits:
			s.refuseAuthorize(w, r, q, fail("login_required", 50058, "A silent sign-in request was sent but no user is signed in."))
		case fits && q.prompt != "login" && q.prompt != "select_account":
			s.finishAuthorize(w, r, q, user, sess.since)
		default:
			s.showSignIn(w, r, q, http.StatusOK, q.hint, nil)
		}
	}
}

// parseAuthorize checks a request. With an error, q.redirect is set if the
// error may be sent to the client; otherwise it is shown to the person.
func (s *Server) parseAuthorize(r *http.Request, form url.Values, version int) (q authRequest, err error) {
	q = authRequest{version: version, maxAge: -1}
	malformed := func(code int, format string, args ...any) (authRequest, error) {
		return q, fail("invalid_request", code, format, args...)
	}
	t, err := s.tenantOf(r)
	if err != nil {
		return q, err
	}
	for _, name := range authParameters {
		if len(form[name]) > 1 {
			return malformed(9002313, "Invalid request. Request is malformed or invalid: the parameter '%s' is repeated.", name)
		}
	}
	id, redirect := form.Get("client_id"), form.Get("redirect_uri")
	if id == "" {
		return malformed(900144, "The request must contain the following parameter: 'client_id'.")
	}
	app := s.dir.apps[strings.ToLower(id)]
	switch {
	case app == nil:
		return q, s.unknownApp(id)
	case t == anyTenant && !app.FirstParty:
		return q, singleTenant(app)
	case redirect == "":
		return malformed(900971, "No reply address provided.")
	case !slices.ContainsFunc(app.RedirectURIs, func(known string) bool { return sameRedirect(known, redirect) }):
		return malformed(50011, "The redirect URI '%s' specified in the request does not match the redirect URIs configured for the application '%s'.", clip(redirect, 200), app.ClientID)
	}
	// From here on the client learns of errors.
	q.app, q.redirect, q.state = app, redirect, form.Get("state")
	if q.mode = form.Get("response_mode"); q.mode == "" {
		q.mode = "query"
	}
	if !slices.Contains([]string{"query", "fragment", "form_post"}, q.mode) {
		mode := q.mode
		q.mode = "query"
		return malformed(900561, "The response_mode '%s' is not supported.", clip(mode, 40))
	}
	switch form.Get("response_type") {
	case "code":
	case "":
		return malformed(900144, "The request must contain the following parameter: 'response_type'.")
	default:
		return q, fail("unsupported_response_type", 700051, "response_type '%s' is not enabled for the application.", clip(form.Get("response_type"), 40))
	}
	return s.parseAuthorizeDetails(q, form)
}

var challengePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

func (s *Server) parseAuthorizeDetails(q authRequest, form url.Values) (authRequest, error) {
	q.challenge = form.Get("code_challenge")
	method := form.Get("code_challenge_method")
	switch {
	case q.challenge == "" && q.app.Public:
		return q, fail("invalid_request", 50147, "Proof Key for Code Exchange is required for public clients: the request must contain 'code_challenge' with the method S256.")
	case q.challenge != "" && (method != "S256" || !challengePattern.MatchString(q.challenge)):
		return q, fail("invalid_request", 50147, "The code challenge is not valid: the method must be S256 and the challenge the unpadded base64url SHA-256 of the verifier.")
	}
	q.nonce, q.hint = clip(form.Get("nonce"), 512), clip(form.Get("login_hint"), 256)
	q.prompt = form.Get("prompt")
	if !slices.Contains([]string{"", "none", "login", "select_account", "consent"}, q.prompt) {
		return q, fail("invalid_request", 90023, "Unsupported 'prompt' value.")
	}
	if raw := form.Get("max_age"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 0 || n > 1<<30 {
			return q, fail("invalid_request", 9002313, "Invalid request. Request is malformed or invalid: 'max_age' is not a number of seconds.")
		}
		q.maxAge = time.Duration(n) * time.Second
	}
	q.scope, q.resource = form.Get("scope"), form.Get("resource")
	var a ask
	var err error
	switch {
	case q.version == 1 && q.resource != "":
		a, err = s.parseResource(q.resource)
	case q.version == 1:
		q.scope = "openid profile"
		a, err = s.parseScope(q.scope, false)
	default:
		a, err = s.parseScope(q.scope, false)
	}
	q.asked = a.resource
	return q, err
}

// sameRedirect compares a registered redirect address with a request's. They
// must be equal, except that a loopback address matches with any port
// (RFC 8252 section 7.3).
func sameRedirect(known, got string) bool {
	if known == got {
		return true
	}
	k, err1 := url.Parse(known)
	g, err2 := url.Parse(got)
	if err1 != nil || err2 != nil || k.Scheme != "http" || g.Scheme != "http" || !loopback(k.Hostname()) {
		return false
	}
	path := func(u *url.URL) string { return "/" + strings.TrimPrefix(u.EscapedPath(), "/") }
	return k.Hostname() == g.Hostname() && path(k) == path(g) && k.RawQuery == g.RawQuery &&
		g.Fragment == "" && !strings.Contains(got, "#") && g.User == nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// finishAuthorize records the sign-in and sends the browser back with a code.
func (s *Server) finishAuthorize(w http.ResponseWriter, r *http.Request, q authRequest, user *User, since time.Time) {
	e := exchangeOf(r)
	code, err := s.newCode(r.Context(), e, q, user, since)
	if err != nil {
		s.refuseAuthorize(w, r, q, err)
		return
	}
	s.reply(w, r, q, url.Values{"code": {code}})
}

func (s *Server) newCode(ctx context.Context, e exchange, q authRequest, user *User, since time.Time) (string, error) {
	p := principal{user: user, app: q.app, credential: "0", tokenID: s.newTokenID()}
	in := signIn{table: tableUser, principal: p, resource: q.asked, session: s.guid(), protocol: "oAuth2"}
	if err := s.mayHave(p, q.asked); err != nil {
		return "", s.refused(ctx, e, in, err)
	}
	if err := s.record(ctx, e, in); err != nil {
		return "", err
	}
	code := s.secret()
	return code, s.store.addCode(ctx, code, q.app.ClientID, grant{User: user.ObjectID, RedirectURI: q.redirect, Challenge: q.challenge,
		Nonce: q.nonce, Scope: q.scope, Resource: q.resource, AuthTime: since, Session: in.session, TokenID: p.tokenID}, e.at, codeLife)
}

// refuseAuthorize sends an error to the client, or shows it where there is no
// client to send it to or where only the person can do something about it.
func (s *Server) refuseAuthorize(w http.ResponseWriter, r *http.Request, q authRequest, err error) {
	e := exchangeOf(r)
	s.report(e, "authorization request", err)
	f := asFailure(err)
	switch {
	case q.redirect == "":
		s.errorPage(w, e, f)
		return
	case f.code == 50105 && q.prompt != "none":
		s.errorPageWith(w, e, f, q.app.Name, s.asAnother(r, q))
		return
	}
	s.reply(w, r, q, url.Values{"error": {f.oauth}, "error_description": {f.description(e)},
		"error_uri": {"https://" + s.host() + "/error?code=" + strconv.Itoa(f.code)}})
}

// asAnother is the address at which the same request asks for another account.
func (s *Server) asAnother(r *http.Request, q authRequest) string {
	values, err := url.ParseQuery(requestOf(r, q))
	if err != nil {
		return ""
	}
	values.Del("version")
	values.Set("prompt", "login")
	path := "/oauth2/v2.0/authorize?"
	if q.version == 1 {
		path = "/oauth2/authorize?"
	}
	return "/" + s.cfg.TenantID + path + values.Encode()
}

// reply sends the browser to the client's redirect address with values, in the
// way the client asked for.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, q authRequest, values url.Values) {
	if q.state != "" {
		values.Set("state", q.state)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	if q.mode == "form_post" {
		s.pages.show(w, http.StatusOK, "formpost.html", originOf(q.redirect), map[string]any{"Action": q.redirect, "Values": values})
		return
	}
	to, err := url.Parse(q.redirect)
	if err != nil {
		s.errorPage(w, exchangeOf(r), err)
		return
	}
	if q.mode == "fragment" {
		h.Set("Location", q.redirect+"#"+values.Encode())
	} else {
		if to.RawQuery != "" {
			to.RawQuery += "&"
		}
		to.RawQuery += values.Encode()
		h.Set("Location", to.String())
	}
	status := http.StatusFound
	if r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	w.WriteHeader(status)
}

// originOf is the origin of a redirect address, for the content security
// policy: browsers hold form-action against redirects too.
func originOf(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

const (
	sessionCookie = "__Host-ESTSAUTH"
	formCookie    = "__Host-signin"
	sessionLife   = 24 * time.Hour
)

func (s *Server) browserSession(r *http.Request) (session, bool, error) {
	c, err := r.Cookie(sessionCookie)
	if errors.Is(err, http.ErrNoCookie) || c.Value == "" {
		return session{}, false, nil
	}
	return s.store.session(r.Context(), c.Value, s.now())
}

func setCookie(w http.ResponseWriter, name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

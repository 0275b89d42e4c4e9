package entra

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// The sign-in form carries the authorization request with it, so the server
// keeps nothing for a page that may never come back. A code binds the form to
// the browser that it was shown in (a cookie that scripts and other sites
// cannot read) and to the request.

func (s *Server) formCode(cookie, request string) string {
	mac := hmac.New(sha256.New, s.csrf)
	mac.Write([]byte(cookie + "\x00" + request))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// showSignIn shows the sign-in page; problem is what went wrong with the last
// try.
func (s *Server) showSignIn(w http.ResponseWriter, r *http.Request, q authRequest, status int, name string, problem *failure) {
	cookie := ""
	if c, err := r.Cookie(formCookie); err == nil && len(c.Value) == 43 {
		cookie = c.Value
	} else {
		cookie = s.secret()
		setCookie(w, formCookie, cookie)
	}
	request := requestOf(r, q)
	data := map[string]any{
		"Organisation": s.cfg.TenantName, "App": q.app.Name, "Name": name, "Request": request, "Code": s.formCode(cookie, request),
		"Action": "/" + s.cfg.TenantID + "/login", "Trace": exchangeOf(r).trace,
	}
	if problem != nil {
		data["Problem"] = problemText(problem)
		data["ProblemCode"] = problem.code
	}
	s.pages.show(w, status, "signin.html", originOf(q.redirect), data)
}

// requestOf is the authorization request as the form carries it.
func requestOf(r *http.Request, q authRequest) string {
	if r.PostForm.Has("request") {
		return r.PostForm.Get("request")
	}
	values := url.Values{"version": {"2"}}
	if q.version == 1 {
		values.Set("version", "1")
	}
	for _, name := range authParameters {
		if v := r.Form.Get(name); v != "" {
			values.Set(name, v)
		}
	}
	return values.Encode()
}

// problemText says what the person can do; the codes stay beside it for the
// help desk.
func problemText(f *failure) string {
	switch f.code {
	case 50126:
		return "Your sign-in name or password is incorrect. Check both and try again."
	case 50053:
		return "You have tried too often with an incorrect name or password. Wait a few minutes and try again."
	case 50057:
		return "Your account is disabled. Contact your administrator."
	}
	return "Something went wrong on our side. Try again."
}

// serveSignIn takes the form.
func (s *Server) serveSignIn(w http.ResponseWriter, r *http.Request) {
	e := exchangeOf(r)
	expired := fail("invalid_request", 90014, "This sign-in page is no longer valid, or it was not opened in this browser. Go back to the application and sign in again.")
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		s.errorPage(w, e, expired)
		return
	}
	if err := r.ParseForm(); err != nil {
		s.errorPage(w, e, fail("invalid_request", 9002313, "Invalid request. Request is malformed or invalid."))
		return
	}
	cookie, err := r.Cookie(formCookie)
	request := r.PostForm.Get("request")
	if err != nil || cookie.Value == "" || !hmac.Equal([]byte(r.PostForm.Get("code")), []byte(s.formCode(cookie.Value, request))) {
		s.errorPage(w, e, expired)
		return
	}
	values, err := url.ParseQuery(request)
	if err != nil {
		s.errorPage(w, e, expired)
		return
	}
	version := 2
	if values.Get("version") == "1" {
		version = 1
	}
	q, err := s.parseAuthorize(r, values, version)
	if err != nil {
		s.refuseAuthorize(w, r, q, err)
		return
	}
	name := strings.TrimSpace(r.PostForm.Get("username"))
	user, err := s.authenticate(r.Context(), name, r.PostForm.Get("password"))
	if err != nil {
		s.report(e, "sign-in", err)
		in := signIn{table: tableUser, principal: principal{user: user, app: q.app, credential: "0"}, resource: q.asked, protocol: "oAuth2"}
		problem := asFailure(s.refused(r.Context(), e, in, err))
		status := http.StatusForbidden
		if problem.status != 0 {
			status = problem.status
		}
		s.showSignIn(w, r, q, status, clip(name, 256), problem)
		return
	}
	if old, err := r.Cookie(sessionCookie); err == nil {
		if err := s.store.endSession(r.Context(), old.Value); err != nil {
			s.refuseAuthorize(w, r, q, err)
			return
		}
	}
	id := s.secret()
	if err := s.store.addSession(r.Context(), id, user.ObjectID, e.at, sessionLife); err != nil {
		s.refuseAuthorize(w, r, q, err)
		return
	}
	setCookie(w, sessionCookie, id)
	s.finishAuthorize(w, r, q, user, e.at)
}

// serveLogout ends the browser's session. It goes on to
// post_logout_redirect_uri if an app has registered that address.
func (s *Server) serveLogout(w http.ResponseWriter, r *http.Request) {
	e := exchangeOf(r)
	if _, err := s.tenantOf(r); err != nil {
		s.errorPage(w, e, err)
		return
	}
	if c, err := r.Cookie(sessionCookie); err == nil {
		if err := s.store.endSession(r.Context(), c.Value); err != nil {
			s.report(e, "sign-out", err)
			s.errorPage(w, e, err)
			return
		}
	}
	setCookie(w, sessionCookie, "")
	w.Header().Set("Cache-Control", "no-store")
	to := r.URL.Query().Get("post_logout_redirect_uri")
	if to != "" {
		for i := range s.cfg.Apps {
			for _, known := range s.cfg.Apps[i].RedirectURIs {
				if !sameRedirect(known, to) {
					continue
				}
				if state := r.URL.Query().Get("state"); state != "" {
					sep := "?"
					if strings.Contains(to, "?") {
						sep = "&"
					}
					to += sep + url.Values{"state": {state}}.Encode()
				}
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusFound)
				return
			}
		}
	}
	s.pages.show(w, http.StatusOK, "signedout.html", "", map[string]any{"Organisation": s.cfg.TenantName})
}

// errorPage shows an error that no client can be told of.
func (s *Server) errorPage(w http.ResponseWriter, e exchange, err error) {
	s.errorPageWith(w, e, err, "", "")
}

// errorPageWith also names the app that was signed in to and offers again, an
// address to sign in at as somebody else.
func (s *Server) errorPageWith(w http.ResponseWriter, e exchange, err error, app, again string) {
	f := asFailure(err)
	status := f.status
	switch {
	case f.code == 50105:
		status = http.StatusForbidden
	case status == 0:
		status = http.StatusBadRequest
	}
	s.pages.show(w, status, "error.html", "", map[string]any{
		"Organisation": s.cfg.TenantName, "Code": f.code, "Text": f.text, "Denied": f.code == 50105, "App": app, "Again": again,
		"Trace": e.trace, "Correlation": e.correlation, "Time": stamp(e.at)})
}

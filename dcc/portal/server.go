package portal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"verdant/azure/rest"
	"verdant/internal/route"
)

// Config configures the portal.
type Config struct {
	// URL is the portal as browsers see it, "https://host[:port]".
	URL string
	// ClientID is the portal's application id.
	ClientID string
	// Authority is the tenant at the identity service as browsers see it,
	// "https://login.example:8443/<tenant>".
	Authority string
	// BackAuthority is the same tenant as the pod reaches it; default
	// Authority.
	BackAuthority string
	// Role is the app role that lets a person issue; default
	// "Certificate.Issuer".
	Role string
	// Issuance is the issuance service, "http://host:port".
	Issuance string
	// IssuanceAudience is the audience of the tokens that it accepts.
	IssuanceAudience string
	// Country is the country that new certificates name, two capitals.
	Country string
	// Issuer is the certificate issuer that the form suggests; default "Health
	// Service Executive".
	Issuer string
}

// TokenSource gives access tokens of the pod's own identity.
type TokenSource interface {
	Token(ctx context.Context, resource string) (string, error)
}

// TokenVerifier checks tokens of the tenant for one audience.
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (rest.Caller, error)
}

// Doer makes HTTP requests; *http.Client is one. It must not follow redirects.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Deps are what the portal works with.
type Deps struct {
	// Tokens gives tokens for the issuance service.
	Tokens TokenSource
	// IDTokens checks ID tokens: audience ClientID.
	IDTokens TokenVerifier
	// AccessTokens checks the tokens of API callers.
	AccessTokens TokenVerifier
	// Secret returns the portal's client secret. It is asked again when the
	// identity service refuses the last answer.
	Secret func(ctx context.Context) (string, error)
	// HTTP reaches the identity service and the issuance service.
	HTTP Doer
	Log  *slog.Logger
	Now  func() time.Time
}

// Server is the portal. It is safe for concurrent use.
type Server struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	now      func() time.Time
	sessions *sessions
	pages    *pages
	seal     cipher.AEAD // seals what a browser carries through a sign-in
	handler  http.Handler

	mu     sync.Mutex
	secret string // last answer of deps.Secret
}

// New makes the portal. It reaches for nothing yet.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg.URL, cfg.Authority = strings.TrimRight(cfg.URL, "/"), strings.TrimRight(cfg.Authority, "/")
	cfg.BackAuthority, cfg.Issuance = strings.TrimRight(cfg.BackAuthority, "/"), strings.TrimRight(cfg.Issuance, "/")
	if cfg.BackAuthority == "" {
		cfg.BackAuthority = cfg.Authority
	}
	if cfg.Role == "" {
		cfg.Role = "Certificate.Issuer"
	}
	if cfg.Issuer == "" {
		cfg.Issuer = "Health Service Executive"
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	if deps.Tokens == nil || deps.IDTokens == nil || deps.AccessTokens == nil || deps.Secret == nil || deps.HTTP == nil {
		return nil, errors.New("portal: Tokens, IDTokens, AccessTokens, Secret and HTTP are needed")
	}
	s := &Server{cfg: cfg, deps: deps, log: deps.Log, now: deps.Now, sessions: newSessions()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	if s.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	if s.pages, err = newPages(originOf(cfg.Authority)); err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	mux, err := route.New(s.Routes(), nil)
	if err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	s.handler = s.secured(mux)
	return s, nil
}

func (c *Config) check() error {
	for name, raw := range map[string]string{"URL": c.URL, "Authority": c.Authority, "BackAuthority": c.BackAuthority} {
		if u, err := url.Parse(raw); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%s %q is not an https URL", name, raw)
		}
	}
	if u, err := url.Parse(c.Issuance); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("issuance service %q is not an http URL", c.Issuance)
	}
	if c.ClientID == "" || c.IssuanceAudience == "" {
		return errors.New("ClientID and IssuanceAudience are needed")
	}
	if len(c.Country) != 2 || strings.ToUpper(c.Country) != c.Country {
		return fmt.Errorf("country %q is not a code of two capitals", c.Country)
	}
	return nil
}

// Handler answers browsers and API callers.
func (s *Server) Handler() http.Handler { return s.handler }

// Routes lists the portal's operations. Their handlers decide about the
// caller, since a browser is sent to sign in where an API caller is refused.
func (s *Server) Routes() []route.Route {
	r := func(name, method, path string, action route.Action, body int64, h http.HandlerFunc) route.Route {
		audit := route.AuditNone
		if action == route.Decided {
			audit = route.AuditCall
		}
		return route.Route{Name: name, Method: method, Path: path, Versions: route.AnyVersion, Action: action, MaxBody: body,
			Timeout: 45 * time.Second, Audit: audit, Handler: h}
	}
	const maxBody = 64 << 10
	return []route.Route{
		r("health", http.MethodGet, "/healthz", route.Anyone, route.NoBody, s.health),
		r("page assets", http.MethodGet, "/assets/{file}", route.Anyone, route.NoBody, s.pages.asset),
		r("start page", http.MethodGet, "/{$}", route.Anyone, route.NoBody, s.start),
		r("sign in", http.MethodGet, "/auth/login", route.Anyone, route.NoBody, s.login),
		r("come back from sign-in", http.MethodGet, "/auth/callback", route.Anyone, route.NoBody, s.callback),
		r("sign out", http.MethodPost, "/auth/logout", route.Decided, maxBody, s.logout),
		r("vaccination form", http.MethodGet, "/vaccination", route.Decided, route.NoBody, s.vaccinationForm),
		r("issue from the vaccination form", http.MethodPost, "/vaccination", route.Decided, maxBody, s.vaccinationSubmit),
		r("who am I", http.MethodGet, "/api/me", route.Decided, route.NoBody, s.me),
		r("issue", http.MethodPost, "/api/certificates", route.Decided, maxBody, s.issueAPI),
	}
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// secured sets the headers that every answer has. A host of this machine
// (.localhost) is not pinned to TLS: another estate with another root may have
// the name tomorrow, and browsers let nobody past a pinned name.
func (s *Server) secured(next http.Handler) http.Handler {
	u, err := url.Parse(s.cfg.URL)
	pinned := err == nil && !strings.HasSuffix(u.Hostname(), ".localhost")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		if pinned {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

const (
	sessionCookie = "__Host-portal"
	signInCookie  = "__Host-portal-signin"
)

// session returns the browser's session, or nil.
func (s *Server) session(r *http.Request) *session {
	c, err := r.Cookie(sessionCookie)
	if err != nil || c.Value == "" {
		return nil
	}
	return s.sessions.get(c.Value, s.now())
}

// mayIssue reports whether roles hold the issuer role.
func (s *Server) mayIssue(roles []string) bool { return slices.Contains(roles, s.cfg.Role) }

func setCookie(w http.ResponseWriter, name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// random is 256 random bits for a cookie or a form.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

package entra

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"verdant/internal/conninfo"
	"verdant/internal/route"
	"verdant/internal/telemetry"
)

// Deps are what the service needs from its surroundings.
type Deps struct {
	// Signer holds the RSA key that tokens are signed with.
	Signer crypto.Signer
	// Published are further keys that the key set lists: the next one, or the
	// last one while its tokens live.
	Published []*rsa.PublicKey
	// Issuers holds the keys of the issuers that federated credentials name.
	Issuers TrustedIssuers
	// DB is a database opened with Schema.
	DB *sql.DB
	// Sink takes the sign-in rows; nil keeps none.
	Sink telemetry.Sink
	// Log takes errors that callers are not told about; nil drops them.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Rand is the source of randomness; nil is crypto/rand.
	Rand io.Reader
}

// Server is the identity service. It is safe for concurrent use.
type Server struct {
	cfg     Config
	issuers TrustedIssuers
	dir     *directory
	keys    *keyRing
	store   *store
	mint    *mintCache
	pages   *pages
	check   chan struct{} // bounds password checks running at once
	sink    telemetry.Sink
	log     *slog.Logger
	now     func() time.Time
	rand    io.Reader
	csrf    []byte

	handler http.Handler
}

// passwordChecks is how many password hashes are computed at once: each takes
// 19 MiB.
const passwordChecks = 2

// New makes the service. On the first start it hashes the initial passwords,
// which takes some 30 ms each; later starts find the hashes in the database.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg = cfg.clone()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("identity service: %w", err)
	}
	if deps.DB == nil || deps.Signer == nil {
		return nil, errors.New("identity service: DB and Signer are needed")
	}
	s := &Server{cfg: cfg, issuers: deps.Issuers, store: &store{deps.DB}, mint: newMintCache(), check: make(chan struct{}, passwordChecks),
		sink: deps.Sink, log: deps.Log, now: deps.Now, rand: deps.Rand}
	if s.sink == nil {
		s.sink = telemetry.Discard{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	var err error
	if s.dir, err = newDirectory(&s.cfg); err != nil {
		return nil, fmt.Errorf("identity service: %w", err)
	}
	if s.keys, err = newKeyRing(deps.Signer, deps.Published); err != nil {
		return nil, fmt.Errorf("identity service: %w", err)
	}
	if s.pages, err = newPages(); err != nil {
		return nil, fmt.Errorf("identity service: %w", err)
	}
	ctx := context.Background()
	if s.csrf, err = s.store.formKey(ctx, s.rand); err != nil {
		return nil, fmt.Errorf("identity service: %w", err)
	}
	if err := s.initialPasswords(ctx); err != nil {
		return nil, fmt.Errorf("identity service: %w", err)
	}
	mux, err := route.New(s.Routes(), nil)
	if err != nil {
		return nil, fmt.Errorf("identity service: %w", err)
	}
	s.handler = s.atOwnHost(mux)
	return s, nil
}

func (c Config) clone() Config {
	c.Hosts = slices.Clone(c.Hosts)
	c.Users = slices.Clone(c.Users)
	c.Groups = slices.Clone(c.Groups)
	c.Apps = slices.Clone(c.Apps)
	c.ManagedIdentities = slices.Clone(c.ManagedIdentities)
	return c
}

// Handler answers for the hosts of the configuration.
func (s *Server) Handler() http.Handler { return s.handler }

// host is the canonical host.
func (s *Server) host() string { return s.cfg.Hosts[0] }

// Issuers are the iss values of the tokens that the service makes: version 1,
// then version 2.
func (s *Server) Issuers() []string { return []string{s.issuer(1), s.issuer(2)} }

func (s *Server) issuer(version int) string {
	base := "https://" + s.host() + "/" + s.cfg.TenantID + "/"
	if version == 2 {
		return base + "v2.0"
	}
	return base
}

// TokenKey implements rest.KeySource.
func (s *Server) TokenKey(_ context.Context, kid string) (*rsa.PublicKey, error) {
	return s.keys.public(kid)
}

// exchange is one request as the records of it see it.
type exchange struct {
	at                 time.Time
	trace, correlation string
	ip, agent          string
	// authority is the host name that the request was made to.
	authority string
}

type exchangeKey struct{}

func exchangeOf(r *http.Request) exchange {
	e, _ := r.Context().Value(exchangeKey{}).(exchange)
	return e
}

// newExchange gives a request or a call in process its ids.
func (s *Server) newExchange() exchange {
	e := exchange{at: s.now(), trace: s.guid(), authority: s.host()}
	e.correlation = e.trace
	return e
}

// atOwnHost refuses host names that are not the service's: what it says about
// endpoints is made from them.
func (s *Server) atOwnHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := s.newExchange()
		e.authority = strings.TrimSuffix(strings.ToLower(r.Host), ":443")
		e.agent = clip(r.UserAgent(), 512)
		if info, ok := conninfo.From(r.Context()); ok {
			e.ip = info.Source.Addr().String()
		} else if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
			e.ip = host
		}
		if id := strings.ToLower(r.Header.Get("client-request-id")); guidPattern.MatchString(id) {
			e.correlation = id
		}
		h := w.Header()
		h.Set("x-ms-request-id", e.trace)
		h.Set("client-request-id", e.correlation)
		h.Set("X-Content-Type-Options", "nosniff")
		if host, _, _ := strings.Cut(e.authority, ":"); !strings.HasSuffix(host, ".localhost") {
			// Of a name of this machine browsers would remember it beyond the
			// estate and its TLS root.
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if !slices.Contains(s.cfg.Hosts, e.authority) {
			s.writeFailure(w, e, fail("invalid_request", 50049, "Unknown or invalid instance: this identity service does not answer for the host name of the request."))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e)))
	})
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// random returns n random bytes. Without randomness there is no safe way on.
func (s *Server) random(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.rand, b); err != nil {
		panic("identity service: no randomness: " + err.Error())
	}
	return b
}

func (s *Server) guid() string {
	b := s.random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// tenant says what a tenant in a path means: the tenant itself, or one of the
// names that stand for any tenant.
type tenant int

const (
	noTenant  tenant = iota
	ours             // the GUID or the domain
	anyTenant        // "common" or "organizations"
)

func (s *Server) tenant(name string) tenant {
	switch {
	case strings.EqualFold(name, s.cfg.TenantID), strings.EqualFold(name, s.cfg.Domain) && name != "":
		return ours
	case strings.EqualFold(name, "common"), strings.EqualFold(name, "organizations"):
		return anyTenant
	}
	return noTenant
}

// tenantOf reads the tenant in the request's path.
func (s *Server) tenantOf(r *http.Request) (tenant, error) {
	name := r.PathValue("tenant")
	t := s.tenant(name)
	if t == noTenant {
		return t, fail("invalid_request", 90002, "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", clip(name, 64))
	}
	return t, nil
}

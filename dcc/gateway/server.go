package gateway

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"verdant/internal/route"
	"verdant/trustlist"
)

// Config configures a gateway.
type Config struct {
	// Ingress lists the addresses from which the headers with the client
	// certificate are believed. None means that nobody can authenticate.
	Ingress []netip.Addr
	// IngressSecret must come with those headers too, in X-Ingress-Secret,
	// where the address alone is no proof; empty where it is.
	IngressSecret string
	// OnboardingDir holds the certificates of member states to onboard at
	// start, <CC>/{auth,upload,csca}*.pem, and value sets, valuesets/<id>.json.
	// Empty means none.
	OnboardingDir string
	// TombstoneAge is how long the deletion of a document signer is listed;
	// default 14 days.
	TombstoneAge time.Duration
}

// Deps are what a gateway works with.
type Deps struct {
	// DB is the database dgc.
	DB *sql.DB
	// Anchor is the trust anchor's certificate.
	Anchor *x509.Certificate
	// AnchorKey signs trusted parties at onboarding; it may be nil where
	// OnboardingDir is empty.
	AnchorKey crypto.Signer
	// Log receives one record a request; default none.
	Log *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Server is the gateway. It is safe for concurrent use.
type Server struct {
	cfg       Config
	store     *store
	trust     *trust
	anchor    *trustlist.Anchor
	anchorKey crypto.Signer
	log       *slog.Logger
	now       func() time.Time
}

// New opens the gateway over its database, creates missing tables and
// onboards what Config says.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	if deps.DB == nil || deps.Anchor == nil {
		return nil, errors.New("the gateway needs a database and the trust anchor's certificate")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if cfg.TombstoneAge == 0 {
		cfg.TombstoneAge = 14 * 24 * time.Hour
	}
	st, err := openStore(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	anchor := trustlist.NewAnchor(deps.Anchor)
	s := &Server{cfg: cfg, store: st, anchor: anchor, anchorKey: deps.AnchorKey, log: deps.Log, now: deps.Now,
		trust: &trust{store: st, anchor: anchor, log: deps.Log, now: deps.Now}}
	if err := s.onboard(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// maxCMS bounds an upload: a DSC is about 1 kB, a rule about 10 kB.
const maxCMS = 256 << 10

// Routes lists the gateway's interface.
func (s *Server) Routes() []route.Route {
	const read, write = route.Action("trusted-party/read"), route.Action("trusted-party/write")
	get := func(name, path string, h handler) route.Route {
		return s.route(name, http.MethodGet, path, read, route.NoBody, h)
	}
	put := func(name, method, path string, h handler) route.Route {
		return s.route(name, method, path, write, maxCMS, h)
	}
	return []route.Route{
		s.route("health", http.MethodGet, "/healthz", route.Anyone, route.NoBody, s.health),
		get("download trust list", "/trustList", s.getTrustList),
		get("download trust list by type", "/trustList/{type}", s.getTrustList),
		get("download trust list by type and country", "/trustList/{type}/{country}", s.getTrustList),
		get("download trusted issuers", "/trustList/issuers", s.getIssuers),
		put("upload signer certificate", http.MethodPost, "/signerCertificate", s.postSigner),
		put("delete signer certificate", http.MethodDelete, "/signerCertificate", s.deleteSigner),
		put("delete signer certificate", http.MethodPost, "/signerCertificate/delete", s.deleteSigner),
		get("download country list", "/countrylist", s.getCountries),
		get("download rules", "/rules/{country}", s.getRules),
		put("upload rule", http.MethodPost, "/rules", s.postRule),
		put("delete rule", http.MethodDelete, "/rules", s.deleteRule),
		put("delete rule", http.MethodPost, "/rules/delete", s.deleteRule),
		get("download value set ids", "/valuesets", s.getValueSets),
		get("download value set", "/valuesets/{id}", s.getValueSet),
	}
}

// Handler answers the gateway's interface.
func (s *Server) Handler() (http.Handler, error) { return route.New(s.Routes(), s.guard) }

// handler answers or returns the error to answer with.
type handler func(http.ResponseWriter, *http.Request) error

func (s *Server) route(name, method, path string, action route.Action, maxBody int64, h handler) route.Route {
	audit := route.AuditNone
	if action == "trusted-party/write" {
		audit = route.AuditCall
	}
	return route.Route{Name: name, Method: method, Path: path, Versions: route.AnyVersion, Action: action, MaxBody: maxBody,
		Timeout: 30 * time.Second, Audit: audit,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})}
}

// fail answers with err; what is nobody's mistake but ours is logged under the
// id that the caller sees.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if writeError(w, r, err) == http.StatusInternalServerError {
		id, _ := r.Context().Value(requestID{}).(string)
		s.log.Error("request failed", "id", id, "method", r.Method, "route", r.Pattern, "why", err.Error())
	}
}

// guard authenticates the member state on every route that is not for anyone,
// and logs the call.
func (s *Server) guard(rt route.Route, next http.Handler) http.Handler {
	if rt.Action == route.Anyone {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.now()
		id := newID()
		ctx := withRequestID(r.Context(), id)
		r = r.WithContext(ctx)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		who, err := s.authenticate(r)
		if err != nil {
			s.fail(rec, r, err)
		} else {
			next.ServeHTTP(rec, r.WithContext(context.WithValue(ctx, callerKey{}, who)))
		}
		s.log.Info("request", "id", id, "operation", rt.Name, "status", rec.status, "country", who.country,
			"client", who.thumbprint, "ms", s.now().Sub(began).Milliseconds())
	})
}

// recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// health answers 200 if the trust list can be read.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.trust.current(r.Context()); err != nil {
		s.log.Error("not healthy", "why", err.Error())
		return problemf(http.StatusServiceUnavailable, "0x008", "Not ready", "", "the database does not answer")
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// Run forgets old tombstones until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := s.store.purge(ctx, s.now().Add(-s.cfg.TombstoneAge)); err != nil && ctx.Err() == nil {
			s.log.Error("old tombstones were not forgotten", "why", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// newID returns 128 random bits in hex.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

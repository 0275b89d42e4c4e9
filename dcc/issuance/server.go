package issuance

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"time"

	"verdant/azure/rest"
	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/internal/route"
)

// Role chooses what an instance offers.
type Role string

const (
	// Private issues and publishes; nobody outside the region reaches it.
	Private Role = "private"
	// Public lets wallets claim. It needs no signing key and has none.
	Public Role = "public"
)

// Config configures the service.
type Config struct {
	Role Role
	// Country is the issuing country, two capitals.
	Country string
	// Callers are the object ids that may issue and publish. None means nobody.
	Callers []string
	// FrontendIssuing offers issuing by hash. See the package comment before
	// turning it on. Default off.
	FrontendIssuing bool
	// Strict refuses also what is doubtful about a payload, such as a code that
	// its value set does not have. Default off.
	Strict bool
	// Validity is how long a certificate of a type is technically valid from
	// the moment of issue; default 365 days, tests 60. Whether it entitles to
	// anything is for business rules to say.
	Validity map[wire.GreenCertificateType]time.Duration
	// TANValidity bounds the first claim; default 48 hours.
	TANValidity time.Duration
}

// Publisher puts a document signer on the trust list; the connector is one.
type Publisher interface {
	Upload(ctx context.Context, dsc *x509.Certificate) error
}

// Deps are what the service works with. Signer, DSC, Tokens and Publisher
// belong to the private role only.
type Deps struct {
	DB *sql.DB
	// DSC is the document signer certificate and Signer its key.
	DSC    *x509.Certificate
	Signer crypto.Signer
	// Tokens checks callers' access tokens.
	Tokens *rest.Verifier
	// Publisher publishes the DSC; nil refuses to.
	Publisher Publisher
	Log       *slog.Logger
	Now       func() time.Time
	Rand      io.Reader
}

// Server is the issuance service. It is safe for concurrent use.
type Server struct {
	cfg       Config
	store     *store
	issuer    *hcert.Issuer // nil in the public role
	signer    crypto.Signer
	dsc       *x509.Certificate
	tokens    *rest.Verifier
	publisher Publisher
	log       *slog.Logger
	now       func() time.Time
	rand      io.Reader
}

// New opens the service over its database and creates missing tables.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	if deps.DB == nil {
		return nil, errors.New("the issuance service needs a database")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Rand == nil {
		deps.Rand = rand.Reader
	}
	if cfg.TANValidity == 0 {
		cfg.TANValidity = 48 * time.Hour
	}
	const day = 24 * time.Hour
	validity := map[wire.GreenCertificateType]time.Duration{wire.Vaccination: 365 * day, wire.Recovery: 365 * day, wire.Test: 60 * day}
	for kind, d := range cfg.Validity {
		if validity[kind] == 0 || d <= 0 {
			return nil, fmt.Errorf("validity of %q: the types are Vaccination, Test and Recovery, and each must be valid for some time", kind)
		}
		validity[kind] = d
	}
	cfg.Validity = validity
	s := &Server{cfg: cfg, tokens: deps.Tokens, publisher: deps.Publisher, log: deps.Log, now: deps.Now, rand: deps.Rand}
	switch cfg.Role {
	case Private:
		if deps.Tokens == nil {
			return nil, errors.New("the private issuance service needs a verifier of access tokens")
		}
		issuer, err := hcert.NewIssuer(hcert.IssuerConfig{Country: cfg.Country, Certificate: deps.DSC, Signer: deps.Signer})
		if err != nil {
			return nil, fmt.Errorf("document signer: %w", err)
		}
		s.issuer, s.signer, s.dsc = issuer, deps.Signer, deps.DSC
	case Public:
		if deps.Signer != nil {
			return nil, errors.New("the public issuance service must not have a signing key")
		}
	default:
		return nil, fmt.Errorf("role %q: the roles are private and public", cfg.Role)
	}
	var err error
	s.store, err = openStore(ctx, deps.DB)
	return s, err
}

const maxBody = 64 << 10

// issue is the action of those who may issue.
const issue = route.Action("dgci/issue")

// Routes lists what the instance's role offers.
func (s *Server) Routes() []route.Route {
	routes := []route.Route{
		s.route("health", http.MethodGet, "/healthz", route.Anyone, route.NoBody, s.health),
		s.route("DID document", http.MethodGet, "/dgci/{hash}", route.Anyone, route.NoBody, s.did),
		s.route("DGCI status", http.MethodHead, "/dgci/{hash}", route.Anyone, route.NoBody, s.status),
	}
	if s.cfg.Role == Public {
		return append(routes, s.route("wallet claim", http.MethodPost, "/dgci/wallet/claim", route.Anyone, maxBody, s.claim))
	}
	routes = append(routes,
		s.route("issue", http.MethodPut, "/dgci/issue", issue, maxBody, s.issue),
		s.route("publish document signer", http.MethodPut, "/dgci/certPublish", issue, maxBody, s.certPublish))
	if s.cfg.FrontendIssuing {
		routes = append(routes,
			s.route("issue by hash: reserve", http.MethodPost, "/dgci/issue", issue, maxBody, s.reserve),
			s.route("issue by hash: sign", http.MethodPut, "/dgci/issue/{id}", issue, maxBody, s.finish))
	}
	return routes
}

// Handler answers the interface of the instance's role.
func (s *Server) Handler() (http.Handler, error) { return route.New(s.Routes(), s.guard) }

// handler answers or returns the error to answer with.
type handler func(http.ResponseWriter, *http.Request) error

func (s *Server) route(name, method, path string, action route.Action, maxBody int64, h handler) route.Route {
	audit := route.AuditCall
	if action == route.Anyone {
		audit = route.AuditNone
	}
	return route.Route{Name: name, Method: method, Path: path, Versions: route.AnyVersion, Action: action, MaxBody: maxBody,
		Timeout: 30 * time.Second, Audit: audit,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})}
}

// guard lets only configured callers issue, and logs who did what with which
// result; never about whom.
func (s *Server) guard(rt route.Route, next http.Handler) http.Handler {
	if rt.Audit == route.AuditNone {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		caller, err := s.authorise(r)
		if err != nil {
			s.fail(rec, r, err)
		} else {
			note(rec, "professional", professional(r))
			next.ServeHTTP(rec, r)
		}
		s.log.Info("request", append([]any{"operation", rt.Name, "status", rec.status, "caller", caller, "ms", s.now().Sub(began).Milliseconds()}, rec.notes...)...)
	})
}

var objectID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// professional is the object id of the person for whom the caller asks. What
// is no object id is not logged: the header is the caller's to fill.
func professional(r *http.Request) string {
	if id := r.Header.Get(wire.ProfessionalHeader); objectID.MatchString(id) {
		return id
	}
	return ""
}

// authorise returns the object id of a caller who may issue.
func (s *Server) authorise(r *http.Request) (string, error) {
	token, ok := rest.Bearer(r)
	if !ok {
		return "", problemf(http.StatusUnauthorized, "Unauthorized", "No access token", "send an access token of the tenant for this service")
	}
	caller, err := s.tokens.Verify(r.Context(), token)
	if err != nil {
		return "", problemf(http.StatusUnauthorized, "Unauthorized", "Access token refused", "%v", err)
	}
	if !slices.Contains(s.cfg.Callers, caller.ObjectID) {
		return caller.ObjectID, problemf(http.StatusForbidden, "Forbidden", "Caller may not issue", "object id %s is not among the issuers", caller.ObjectID)
	}
	return caller.ObjectID, nil
}

// recorder remembers the status, and what a handler notes, for the log.
type recorder struct {
	http.ResponseWriter
	status int
	notes  []any
}

// note adds attributes to the log record of the request that w answers.
func note(w http.ResponseWriter, attributes ...any) {
	if rec, ok := w.(*recorder); ok {
		rec.notes = append(rec.notes, attributes...)
	}
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// health answers 200 if the database answers.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	if err := s.store.db.PingContext(r.Context()); err != nil {
		return storeFailure(err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

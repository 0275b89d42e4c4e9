package arm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/telemetry"
)

// Config describes what the control plane serves.
type Config struct {
	TenantID   string
	TenantName string
	// Domain is the tenant's default domain.
	Domain string
	// Authority is the identity service, "https://login.example" without a
	// trailing slash.
	Authority string
	// Host is the control plane's own host name, with a port where it is not
	// 443.
	Host string
	// Subscriptions are the ids of the tenant's subscriptions.
	Subscriptions []string
	// Resources are served as they are, but for what Changes lets callers
	// change. Resource groups are resources of the type
	// Microsoft.Resources/resourceGroups.
	Resources []rest.Resource
	// Changes are the resource types of which something can be changed, by
	// lower-case type. What was changed is stored and takes the place of what
	// Resources says.
	Changes map[string]Change
	// Assignments are made when they are first seen in a database. One that
	// was deleted since stays deleted.
	Assignments []rbac.Assignment
	// PrincipalType tells what a principal of the tenant is: User, Group or
	// ServicePrincipal, and "" for one that it does not know. nil knows none.
	PrincipalType func(objectID string) string
	// Suffixes are the DNS suffixes that the cloud's metadata names, such as
	// "keyVaultDns"; nil means Azure's.
	Suffixes map[string]string
}

// Deps are what the service needs from its surroundings.
type Deps struct {
	// DB is a database opened with Schema.
	DB *sql.DB
	// Policy holds the role definitions. New puts the stored assignments into
	// it, and writes keep it up to date.
	Policy *rbac.Policy
	// Verifier checks callers' tokens.
	Verifier *rest.Verifier
	// Sink takes AzureActivity rows; nil keeps none.
	Sink telemetry.Sink
	// Log takes errors that callers are not told about; nil drops them.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Server is the control plane. It is safe for concurrent use.
type Server struct {
	cfg       Config
	policy    *rbac.Policy
	verifier  *rest.Verifier
	sink      telemetry.Sink
	log       *slog.Logger
	now       func() time.Time
	resources atomic.Pointer[resourceSet]
	handler   http.Handler

	// writing is held over a change, from the look at what is there to its
	// taking effect. One control plane writes to a database.
	writing sync.Mutex
	store   *store
}

// New makes the control plane and puts the stored role assignments into the
// policy.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.DB == nil || deps.Policy == nil || deps.Verifier == nil {
		return nil, errors.New("control plane: DB, Policy and Verifier are needed")
	}
	s := &Server{cfg: cfg, policy: deps.Policy, verifier: deps.Verifier, sink: deps.Sink, log: deps.Log, now: deps.Now,
		store: &store{deps.DB}}
	if s.sink == nil {
		s.sink = telemetry.Discard{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	base, err := newResourceSet(cfg.Resources)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	s.resources.Store(base)
	if err := s.loadState(context.Background()); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	handler, err := s.dispatcher(s.Routes())
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	s.handler = handler
	return s, nil
}

// Handler answers the control plane's operations.
func (s *Server) Handler() http.Handler { return s.handler }

// Resource returns a resource as it is now.
func (s *Server) Resource(id string) (rest.Resource, bool) {
	res, ok := s.resources.Load().byID[strings.ToLower(id)]
	return res, ok
}

// loadState plants the initial assignments and takes over what is stored.
func (s *Server) loadState(ctx context.Context) error {
	var seeds []assignment
	for _, a := range s.cfg.Assignments {
		if _, known := s.policy.Role(a.RoleDefinitionID); !known {
			return fmt.Errorf("initial assignment %s: role %s is not defined", a.ID, a.RoleDefinitionID)
		}
		seed := assignment{Assignment: a, PrincipalType: s.principalType(a.PrincipalID), UpdatedOn: a.CreatedOn}
		if seed.PrincipalType == "" {
			seed.PrincipalType = "ServicePrincipal"
		}
		if seed.CreatedOn.IsZero() {
			seed.CreatedOn, seed.UpdatedOn = s.now(), s.now()
		}
		seeds = append(seeds, seed)
	}
	if err := s.store.plant(ctx, seeds); err != nil {
		return fmt.Errorf("initial role assignments: %w", err)
	}
	stored, err := s.store.load(ctx)
	if err != nil {
		return fmt.Errorf("stored state: %w", err)
	}
	snapshot := stored.snapshot(s.policy.Roles())
	snapshot.Assignments = append(s.policy.List(""), snapshot.Assignments...)
	snapshot.Denials = append(s.policy.Denials(), snapshot.Denials...)
	s.policy.Replace(snapshot)
	set := s.resources.Load()
	for _, res := range stored.changed(s.cfg.Resources) {
		set = set.with(res)
	}
	s.resources.Store(set)
	return nil
}

func (s *Server) principalType(objectID string) string {
	if s.cfg.PrincipalType == nil {
		return ""
	}
	return s.cfg.PrincipalType(objectID)
}

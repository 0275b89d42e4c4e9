package arm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
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
	// Resources are served as they are; they do not change while the server
	// lives. Resource groups are resources of the type
	// Microsoft.Resources/resourceGroups.
	Resources []rest.Resource
	// Assignments are made when they are first seen in a database. One that
	// was deleted since stays deleted.
	Assignments []rbac.Assignment
	// PrincipalType tells what the principal of such an assignment is: User,
	// Group or ServicePrincipal. nil means ServicePrincipal.
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
	resources []rest.Resource          // sorted by id
	byID      map[string]rest.Resource // by lower-case id
	handler   http.Handler

	// writing is held over a change of assignments, from the look at what is
	// there to the policy's update.
	writing sync.Mutex
	store   *assignmentStore
}

// New makes the control plane and puts the stored role assignments into the
// policy.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.DB == nil || deps.Policy == nil || deps.Verifier == nil {
		return nil, errors.New("control plane: DB, Policy and Verifier are needed")
	}
	s := &Server{cfg: cfg, policy: deps.Policy, verifier: deps.Verifier, sink: deps.Sink, log: deps.Log, now: deps.Now,
		byID: map[string]rest.Resource{}, store: &assignmentStore{deps.DB}}
	if s.sink == nil {
		s.sink = telemetry.Discard{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, r := range cfg.Resources {
		key := strings.ToLower(r.ID)
		if _, twice := s.byID[key]; twice || !strings.HasPrefix(key, "/subscriptions/") {
			return nil, fmt.Errorf("control plane: resource id %q is in use or not an ARM id", r.ID)
		}
		s.byID[key] = r
	}
	for _, key := range slices.Sorted(maps.Keys(s.byID)) {
		s.resources = append(s.resources, s.byID[key])
	}
	if err := s.loadAssignments(context.Background()); err != nil {
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

func (s *Server) loadAssignments(ctx context.Context) error {
	var seeds []assignment
	for _, a := range s.cfg.Assignments {
		if _, known := s.policy.Role(a.RoleDefinitionID); !known {
			return fmt.Errorf("initial assignment %s: role %s is not defined", a.ID, a.RoleDefinitionID)
		}
		seed := assignment{Assignment: a, PrincipalType: "ServicePrincipal", UpdatedOn: a.CreatedOn}
		if s.cfg.PrincipalType != nil {
			seed.PrincipalType = s.cfg.PrincipalType(a.PrincipalID)
		}
		if seed.CreatedOn.IsZero() {
			seed.CreatedOn, seed.UpdatedOn = s.now(), s.now()
		}
		seeds = append(seeds, seed)
	}
	stored, err := s.store.load(ctx, seeds)
	if err != nil {
		return fmt.Errorf("role assignments: %w", err)
	}
	for _, a := range stored {
		s.policy.Put(a.Assignment)
	}
	return nil
}

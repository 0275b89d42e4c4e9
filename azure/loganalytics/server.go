// Package loganalytics is a Log Analytics service: workspaces that take rows
// of Azure Monitor's standard tables in and answer queries over them, in
// process and over the query API (api.loganalytics.azure.com/v1, version
// 2022-10-27 of the data plane: query, metadata, $batch).
//
// It promises:
//   - A row is durable when Emit returns: it is in the workspace's encrypted
//     write-ahead log and visible to the next query. kill -9 loses nothing.
//   - Nothing rests in plaintext: the log and the column segments are sealed
//     with AES-256-GCM under keys derived from the given one.
//   - Rows fit their table: an unknown column is refused by name, a value of
//     another type is converted or stored as null, standard columns
//     (TimeGenerated, TenantId, Type, _ResourceId, _BilledSize, …) are the
//     workspace's to fill.
//   - Memory is bounded: by Config.MemoryBytes for rows that are not sealed,
//     by row and byte limits for answers. A workspace opens without reading
//     its sealed rows.
//   - A query is answered by the columnar evaluator of package kql over batches
//     of columns straight from memory and segments. (Decided for the first
//     slice: one evaluator in Go, no cgo; other engines go behind kql.Plan.)
//   - A query needs a token for the API and Microsoft.OperationalInsights/
//     workspaces/query/read on every workspace that it touches.
//
// It refuses what the query language's first slice does not have, by name and
// position, rather than answer wrongly.
package loganalytics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/route"
	"verdant/internal/telemetry"
)

// Workspace is one workspace.
type Workspace struct {
	// Name is how people address it, such as "eudcc-ie".
	Name string
	// CustomerID is the GUID that clients address it by.
	CustomerID string
	// ResourceID is its ARM id: the scope of role assignments.
	ResourceID string
	// Location is the region, for LAQueryLogs; may be empty.
	Location string
	// RetentionDays is how long rows are kept; 0 means 30.
	RetentionDays int
	// AuditQueries writes an LAQueryLogs row for every query.
	AuditQueries bool
}

// Config describes the service. Zero values mean the defaults named.
type Config struct {
	Workspaces []Workspace
	// MemoryBytes is about how much of a workspace's newest rows are kept in
	// memory before they are sealed: default 16 MiB.
	MemoryBytes int64
	// MaxRows and MaxBytes bound a query's answer: default 500,000 rows and
	// 64 MiB. An answer that is over is cut and marked partial.
	MaxRows  int
	MaxBytes int64
	// QueryBytes is the memory that one query may hold: default 256 MiB. Over
	// it the query is refused.
	QueryBytes int64
	// Timeout is a query's time without a Prefer: wait, default 3 minutes;
	// MaxTimeout is the most that a caller may ask for, default 10 minutes.
	Timeout, MaxTimeout time.Duration
	// Concurrent is how many queries of one caller run at a time (default 5),
	// Queue how many more may wait (default 200), QueueWait how long (default
	// 3 minutes).
	Concurrent, Queue int
	QueueWait         time.Duration
	// Requests is how many requests a caller may make in 30 seconds: default
	// 200.
	Requests int
}

// Deps are what the service needs from others.
type Deps struct {
	// Dir is the data directory; it belongs to this service alone.
	Dir string
	// Key is the root of the keys that seal what is in Dir.
	Key [32]byte
	// Verifier checks tokens; its audiences are https://api.loganalytics.io
	// and https://api.loganalytics.azure.com.
	Verifier *rest.Verifier
	// Policy decides who may query.
	Policy *rbac.Policy
	Now    func() time.Time
}

// ErrWorkspace: there is no such workspace.
var ErrWorkspace = errors.New("no such workspace")

// Server is the service.
type Server struct {
	config     Config
	deps       Deps
	workspaces []*workspace
	gate       *gate
	handler    http.Handler
}

// workspace is a configured workspace and its rows.
type workspace struct {
	Workspace
	store *store
}

var guidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	setTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.MaxRows, 500_000)
	set(&c.Concurrent, 5)
	set(&c.Queue, 200)
	set(&c.Requests, 200)
	setTime(&c.Timeout, 3*time.Minute)
	setTime(&c.MaxTimeout, 10*time.Minute)
	setTime(&c.QueueWait, 3*time.Minute)
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = 16 << 20
	}
	if c.QueryBytes <= 0 {
		c.QueryBytes = 256 << 20
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 64 << 20
	}
	return c
}

// New opens the workspaces' directories. Close gives them up.
func New(config Config, deps Deps) (*Server, error) {
	if deps.Dir == "" || deps.Verifier == nil || deps.Policy == nil || deps.Now == nil {
		return nil, errors.New("log analytics needs Dir, Verifier, Policy and Now")
	}
	s := &Server{config: config.withDefaults(), deps: deps}
	s.gate = newGate(s.config, deps.Now)
	tables, err := schemas()
	if err != nil {
		return nil, err
	}
	for _, w := range config.Workspaces {
		w.CustomerID = strings.ToLower(w.CustomerID)
		if w.RetentionDays <= 0 {
			w.RetentionDays = 30
		}
		if err := s.open(w, tables); err != nil {
			return nil, errors.Join(fmt.Errorf("workspace %s: %w", w.Name, err), s.Close())
		}
	}
	if s.handler, err = route.New(s.Routes(), s.guard); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(w Workspace, tables map[string]*table) error {
	switch {
	case w.Name == "":
		return errors.New("it has no name")
	case !guidForm.MatchString(w.CustomerID):
		return fmt.Errorf("its customer id %q is not a GUID", w.CustomerID)
	case !strings.HasPrefix(w.ResourceID, "/subscriptions/"):
		return fmt.Errorf("its resource id %q is not an ARM id", w.ResourceID)
	}
	for _, id := range []string{w.Name, w.CustomerID, w.ResourceID} {
		if _, err := s.workspace(id); err == nil {
			return fmt.Errorf("%q names two workspaces", id)
		}
	}
	st, err := openStore(context.Background(), storeOptions{dir: filepath.Join(s.deps.Dir, w.CustomerID), id: w.CustomerID,
		key: s.deps.Key, tables: tables, limit: s.config.MemoryBytes, now: s.deps.Now})
	if err != nil {
		return err
	}
	s.workspaces = append(s.workspaces, &workspace{w, st})
	return nil
}

// workspace finds a workspace by GUID, name, sub/group/name or ARM id.
func (s *Server) workspace(id string) (*workspace, error) {
	for _, w := range s.workspaces {
		if strings.EqualFold(id, w.CustomerID) || strings.EqualFold(id, w.Name) ||
			strings.EqualFold(strings.Trim(id, "/"), strings.Trim(w.ResourceID, "/")) || strings.EqualFold(id, w.qualifiedName()) {
			return w, nil
		}
	}
	return nil, fmt.Errorf("%w: %.100q", ErrWorkspace, id)
}

// qualifiedName is subscription/group/name, the last form in which queries
// may address a workspace; empty if the ARM id has another shape.
func (w *workspace) qualifiedName() string {
	p := strings.Split(strings.Trim(w.ResourceID, "/"), "/")
	if len(p) != 8 {
		return ""
	}
	return p[1] + "/" + p[3] + "/" + p[7]
}

// Sink takes rows for the named workspace. An unknown name is an error at the
// first Emit.
func (s *Server) Sink(workspace string) telemetry.Sink { return sink{s, workspace} }

type sink struct {
	server    *Server
	workspace string
}

// Emit implements telemetry.Sink.
func (k sink) Emit(ctx context.Context, table string, rows ...telemetry.Row) error {
	w, err := k.server.workspace(k.workspace)
	if err != nil {
		return err
	}
	if err := w.store.emit(ctx, table, rows); err != nil {
		return fmt.Errorf("workspace %s: %w", w.Name, err)
	}
	return nil
}

// tick is how often Run looks at the clock.
const tick = 10 * time.Second

// Run seals rows that have been in memory long enough or are too many,
// removes what is past retention and reports usage, until ctx ends. What goes
// wrong is tried again at the next tick; rows stay safe in the log meanwhile.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range s.workspaces {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	return nil
}

func (w *workspace) run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := "" // an error that persists is reported once
	for {
		if err := w.maintain(ctx); err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			// If that fails too, whoever emits is told: ErrFull in the end.
			_ = w.store.emit(ctx, "Operation", []telemetry.Row{{"OperationCategory": "Storage", "OperationStatus": "Error",
				"Solution": "LogManagement", "OperationKey": "MaintenanceFailed", "_ResourceId": w.ResourceID, "Detail": last}})
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-w.store.full:
		}
	}
}

// maintain does what is due now.
func (w *workspace) maintain(ctx context.Context) error {
	errs := []error{w.store.report(ctx, w.ResourceID)}
	if w.store.due() {
		errs = append(errs, w.store.seal(ctx))
	}
	errs = append(errs, w.store.retain(w.store.now().AddDate(0, 0, -w.RetentionDays)))
	return errors.Join(errs...)
}

// Close gives the data directory up. Rows that were acknowledged are in the
// log and come back with the next New.
func (s *Server) Close() error {
	var errs []error
	for _, w := range s.workspaces {
		errs = append(errs, w.store.close())
	}
	return errors.Join(errs...)
}

// Handler answers the query API.
func (s *Server) Handler() http.Handler { return s.handler }

package businessrule

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"verdant/dcc/connector"
	"verdant/dcc/wire"
	"verdant/internal/route"
)

// Source gives rules and value sets; the connector is one.
type Source interface {
	Refresh(ctx context.Context) error
	Countries(ctx context.Context) ([]string, error)
	Rules(ctx context.Context, country string) ([]connector.Rule, error)
	ValueSets(ctx context.Context) (map[string]json.RawMessage, error)
}

// Config configures the service.
type Config struct {
	// Interval is the time between two downloads; default five minutes.
	Interval time.Duration
}

// Deps are what the service works with.
type Deps struct {
	DB     *sql.DB
	Source Source
	Log    *slog.Logger
}

// Server is the business rule service. It is safe for concurrent use.
type Server struct {
	cfg    Config
	store  *store
	source Source
	log    *slog.Logger

	known atomic.Pointer[content]
}

// content is what the service knows at one time. It does not change.
type content struct {
	countries, rules, sets []byte            // lists, encoded
	byCountry              map[string][]byte // lists of rules, encoded
	rule                   map[string][]byte // by country, "/" and hash
	set                    map[string][]byte // by hash
}

// New opens the service over its database and creates missing tables.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	if deps.DB == nil || deps.Source == nil {
		return nil, errors.New("the business rule service needs a database and a source of rules")
	}
	if cfg.Interval == 0 {
		cfg.Interval = 5 * time.Minute
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	st, err := openStore(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, store: st, source: deps.Source, log: deps.Log}
	return s, s.reload(ctx)
}

// reload reads what the database knows.
func (s *Server) reload(ctx context.Context) error {
	rules, err := s.store.rules(ctx)
	if err != nil {
		return err
	}
	sets, err := s.store.sets(ctx)
	if err != nil {
		return err
	}
	countries, err := s.store.countries(ctx)
	if err != nil {
		return err
	}
	c := &content{byCountry: map[string][]byte{}, rule: map[string][]byte{}, set: map[string][]byte{}}
	list, byCountry := []wire.RuleItem{}, map[string][]wire.RuleItem{}
	for _, r := range rules {
		item := wire.RuleItem{Identifier: r.identifier, Version: r.version, Country: r.country, Hash: r.hash}
		list, byCountry[r.country] = append(list, item), append(byCountry[r.country], item)
		c.rule[r.country+"/"+r.hash] = r.json
	}
	items := []wire.ValueSetItem{}
	for _, v := range sets {
		items = append(items, wire.ValueSetItem{ID: v.id, Hash: v.hash})
		c.set[v.hash] = v.json
	}
	if countries == nil {
		countries = []string{}
	}
	// Slices of strings always encode.
	c.rules, _ = json.Marshal(list)
	c.sets, _ = json.Marshal(items)
	c.countries, _ = json.Marshal(countries)
	for country, list := range byCountry {
		c.byCountry[country], _ = json.Marshal(list)
	}
	s.known.Store(c)
	return nil
}

// Sync downloads everything and takes over what came. The error says what did
// not; that part stays as it was.
func (s *Server) Sync(ctx context.Context) error {
	// Rules are proven with the trust list. With one that cannot be refreshed
	// a new upload certificate would look like a forgery, and its rules like
	// deleted ones.
	if err := s.source.Refresh(ctx); err != nil {
		return fmt.Errorf("trust list: %w", err)
	}
	var d download
	var errs []error
	countries, err := s.source.Countries(ctx)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("country list: %w", err))
	case len(countries) == 0:
		errs = append(errs, errors.New("country list: it is empty"))
	default:
		d.countries = countries
	}
	d.rules = map[string][]connector.Rule{}
	for _, c := range d.countries {
		rules, err := s.source.Rules(ctx, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("rules of %s: %w", c, err))
			continue
		}
		d.rules[c] = rules
	}
	sets, err := s.source.ValueSets(ctx)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("value sets: %w", err))
	case len(sets) == 0:
		errs = append(errs, errors.New("value sets: there are none"))
	default:
		d.sets = map[string][]byte{}
		for id, body := range sets {
			d.sets[id] = body
		}
	}
	if err := s.store.put(ctx, d); err != nil {
		return errors.Join(append(errs, fmt.Errorf("store what was downloaded: %w", err))...)
	}
	return errors.Join(append(errs, s.reload(ctx))...)
}

// Run keeps rules and value sets current until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	pause := time.Second
	for {
		wait := s.cfg.Interval
		if err := s.Sync(ctx); err == nil {
			pause = time.Second
		} else if ctx.Err() == nil {
			s.log.Warn("rules or value sets were not refreshed; what is known stays", "why", err.Error())
			wait, pause = min(pause, wait), 2*pause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Routes lists the service's interface.
func (s *Server) Routes() []route.Route {
	get := func(name, path string, h http.HandlerFunc) route.Route {
		return route.Route{Name: name, Method: http.MethodGet, Path: path, Versions: route.AnyVersion, Action: route.Anyone, MaxBody: route.NoBody,
			Timeout: 10 * time.Second, Audit: route.AuditNone, Handler: h}
	}
	return []route.Route{
		get("health", "/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		get("rules", "/rules", func(w http.ResponseWriter, r *http.Request) { send(w, r, s.known.Load().rules) }),
		get("rules of a country", "/rules/{country}", s.rulesOf),
		get("rule", "/rules/{country}/{hash}", s.rule),
		get("value sets", "/valuesets", func(w http.ResponseWriter, r *http.Request) { send(w, r, s.known.Load().sets) }),
		get("value set", "/valuesets/{hash}", s.valueSet),
		get("countries", "/countrylist", func(w http.ResponseWriter, r *http.Request) { send(w, r, s.known.Load().countries) }),
		get("public key", "/publickey", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
	}
}

// Handler answers the service's interface.
func (s *Server) Handler() (http.Handler, error) { return route.New(s.Routes(), nil) }

func country(r *http.Request) (string, bool) {
	c := strings.ToUpper(r.PathValue("country"))
	return c, len(c) == 2 && c[0] >= 'A' && c[0] <= 'Z' && c[1] >= 'A' && c[1] <= 'Z'
}

func (s *Server) rulesOf(w http.ResponseWriter, r *http.Request) {
	c, ok := country(r)
	if !ok {
		problem(w, http.StatusBadRequest, "0x004", "the country has two letters")
		return
	}
	list := s.known.Load().byCountry[c]
	if list == nil {
		list = []byte("[]")
	}
	send(w, r, list)
}

func (s *Server) rule(w http.ResponseWriter, r *http.Request) {
	c, ok := country(r)
	if !ok {
		problem(w, http.StatusBadRequest, "0x004", "the country has two letters")
		return
	}
	hash := strings.TrimSpace(r.PathValue("hash"))
	if hash == "" {
		problem(w, http.StatusBadRequest, "0x005", "the hash is blank")
		return
	}
	body, ok := s.known.Load().rule[c+"/"+strings.ToLower(hash)]
	if !ok {
		problem(w, http.StatusNotFound, "0x006", "no rule of this country has this hash")
		return
	}
	send(w, r, body)
}

func (s *Server) valueSet(w http.ResponseWriter, r *http.Request) {
	body, ok := s.known.Load().set[strings.ToLower(r.PathValue("hash"))]
	if !ok {
		problem(w, http.StatusNotFound, "0x001", "no value set has this hash")
		return
	}
	send(w, r, body)
}

// send answers with JSON under its hash as entity tag.
func send(w http.ResponseWriter, r *http.Request, body []byte) {
	h := w.Header()
	h.Set("ETag", `"`+hashOf(body)[:32]+`"`)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func problem(w http.ResponseWriter, status int, code, details string) {
	body, _ := json.Marshal(wire.ProblemReport{Code: code, Problem: http.StatusText(status), Details: details}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

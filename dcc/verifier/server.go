package verifier

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verdant/dcc/connector"
	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/internal/route"
	"verdant/trustlist"
)

// Source gives the trust list; the connector is one.
type Source interface {
	hcert.KeySource
	Current() *connector.Snapshot
	Refresh(ctx context.Context) error
	RefreshIfOlder(ctx context.Context, age time.Duration) error
}

// Config configures the service.
type Config struct {
	// Interval is the time between two downloads of the trust list; default
	// 15 seconds. A list that did not change costs an empty answer.
	Interval time.Duration
	// RuleInterval is the time after which the rules of a country are
	// downloaded again when they are asked for; default five minutes.
	RuleInterval time.Duration
}

// Deps are what the service works with.
type Deps struct {
	DB     *sql.DB
	Source Source
	// Rules gives business rules; nil means that none can be asked for.
	Rules RuleSource
	Log   *slog.Logger
	Now   func() time.Time
}

// Server is the verifier service. It is safe for concurrent use.
type Server struct {
	cfg    Config
	store  *store
	source Source
	log    *slog.Logger
	now    func() time.Time
	wake   chan struct{}

	decoder hcert.Decoder
	rules   *ruleBook
	known   atomic.Pointer[signers]

	syncing sync.Mutex
	applied *trustlist.List // under syncing
}

// signers is what the service knows at one time. It does not change.
type signers struct {
	all  []signer // by position, deleted ones too
	live []signer // by position

	trustlist, status document
}

// document is an encoded answer with its strong entity tag.
type document struct {
	body []byte
	etag string
}

// New opens the service over its database and creates missing tables.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	if deps.DB == nil || deps.Source == nil {
		return nil, errors.New("the verifier service needs a database and a source of trust lists")
	}
	if cfg.Interval == 0 {
		cfg.Interval = 15 * time.Second
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if cfg.RuleInterval == 0 {
		cfg.RuleInterval = 5 * time.Minute
	}
	st, err := openStore(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, store: st, source: deps.Source, log: deps.Log, now: deps.Now, wake: make(chan struct{}, 1)}
	if deps.Rules != nil {
		s.rules = newRuleBook(deps.Rules, cfg.RuleInterval, deps.Now, deps.Log)
	}
	return s, s.reload(ctx)
}

// reload reads what the database knows.
func (s *Server) reload(ctx context.Context) error {
	all, err := s.store.all(ctx)
	if err != nil {
		return err
	}
	k := &signers{all: all}
	kids, list := []string{}, []wire.DocumentSigner{}
	for _, r := range all {
		if r.deleted.IsZero() {
			k.live = append(k.live, r)
			kids = append(kids, r.KID)
			list = append(list, r.DocumentSigner)
		}
	}
	slices.Sort(kids)
	k.status, k.trustlist = newDocument(slices.Compact(kids)), newDocument(list)
	s.known.Store(k)
	return nil
}

func newDocument(v any) document {
	body, _ := json.Marshal(v) // slices of strings always encode
	sum := sha256.Sum256(body)
	return document{body, `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// Sync downloads the trust list and takes over what changed. On an error what
// was known stays.
func (s *Server) Sync(ctx context.Context) error {
	err := s.source.Refresh(ctx)
	return errors.Join(err, s.apply(ctx))
}

// apply takes over the source's list if it is another than the last one.
func (s *Server) apply(ctx context.Context) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	current := s.source.Current()
	if current.At.IsZero() || current.List == s.applied {
		return nil
	}
	if err := s.store.apply(ctx, current.List, s.now()); err != nil {
		return err
	}
	if err := s.reload(ctx); err != nil {
		return err
	}
	s.applied = current.List
	return nil
}

// Run keeps the document signers current until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	pause := time.Second
	for {
		wait := s.cfg.Interval
		if err := s.Sync(ctx); err == nil {
			pause = time.Second
		} else if ctx.Err() == nil {
			s.log.Warn("document signers were not refreshed; what is known stays", "why", err.Error(), "signers", len(s.known.Load().live))
			wait, pause = min(pause, wait), 2*pause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.wake:
			timer.Stop()
		}
	}
}

// Routes lists the service's interface.
func (s *Server) Routes() []route.Route {
	get := func(name, path string, h http.HandlerFunc) route.Route {
		return s.route(name, http.MethodGet, path, route.NoBody, h)
	}
	return []route.Route{
		get("health", "/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		get("next signer certificate", "/signercertificateUpdate", s.next),
		s.route("signer certificates by kid", http.MethodPost, "/signercertificateUpdate", 1<<20, s.bulk),
		get("valid kids", "/signercertificateStatus", func(w http.ResponseWriter, r *http.Request) { send(w, r, s.known.Load().status) }),
		get("changed kids", "/signercertificateStatus/delta", s.delta),
		get("trust list", "/trustlist", s.trustlist),
		s.route("verify", http.MethodPost, "/verify", 64<<10, s.verify),
	}
}

// route is open to anyone: document signers are public, and who may reach the
// service is for the network to say.
func (s *Server) route(name, method, path string, maxBody int64, h http.HandlerFunc) route.Route {
	return route.Route{Name: name, Method: method, Path: path, Versions: route.AnyVersion, Action: route.Anyone, MaxBody: maxBody,
		Timeout: 30 * time.Second, Audit: route.AuditNone, Handler: h}
}

// Handler answers the service's interface.
func (s *Server) Handler() (http.Handler, error) { return route.New(s.Routes(), nil) }

// next answers GET /signercertificateUpdate: the first signer after the
// caller's resume token, or 204 if there is none.
func (s *Server) next(w http.ResponseWriter, r *http.Request) {
	after, err := parseToken(r.Header.Get("X-RESUME-TOKEN"))
	if err != nil {
		problem(w, http.StatusBadRequest, "0x001", err.Error())
		return
	}
	live := s.known.Load().live
	i, _ := slices.BinarySearchFunc(live, after+1, func(a signer, position int64) int { return int(min(1, max(-1, a.position-position))) })
	if i == len(live) || after+1 < 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("X-RESUME-TOKEN", strconv.FormatInt(live[i].position, 10))
	h.Set("X-KID", live[i].KID)
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write([]byte(live[i].RawData))
}

// maxKids bounds one bulk download.
const maxKids = 10_000

// trustlist answers GET /trustlist with every trusted document signer. While
// there is none the gateway is asked at once, so that the first caller after
// the first start does not get an empty list for lack of patience.
func (s *Server) trustlist(w http.ResponseWriter, r *http.Request) {
	if len(s.known.Load().live) == 0 {
		err := s.source.RefreshIfOlder(r.Context(), askAgainAfter)
		if err = errors.Join(err, s.apply(r.Context())); err != nil {
			s.log.Warn("there is no trust list yet", "why", err.Error())
		}
	}
	send(w, r, s.known.Load().trustlist)
}

// bulk answers POST /signercertificateUpdate: the signers with the given kids,
// by country. Several may share a kid.
func (s *Server) bulk(w http.ResponseWriter, r *http.Request) {
	var kids []string
	if !decode(w, r, &kids) {
		return
	}
	if len(kids) > maxKids {
		problem(w, http.StatusBadRequest, "0x001", "ask for at most 10000 kids at once")
		return
	}
	wanted := make(map[string]bool, len(kids))
	for _, k := range kids {
		wanted[k] = true
	}
	out := map[string][]wire.DocumentSigner{}
	for _, d := range s.known.Load().live {
		if wanted[d.KID] {
			out[d.Country] = append(out[d.Country], wire.DocumentSigner{KID: d.KID, RawData: d.RawData})
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// delta answers GET /signercertificateStatus/delta: what was added and what
// was deleted since a time, or ever.
func (s *Server) delta(w http.ResponseWriter, r *http.Request) {
	var since time.Time
	if v := r.Header.Get("If-Modified-Since"); v != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, v); err != nil {
			since, err = http.ParseTime(v)
		}
		if err != nil {
			http.Error(w, "If-Modified-Since must be a date and time with an offset (ISO 8601) or in the form of RFC 9110", http.StatusBadRequest)
			return
		}
	}
	since = since.Truncate(time.Second)
	out := wire.SignerDelta{Updated: []string{}, Deleted: []string{}}
	k := s.known.Load()
	trusted := map[string]bool{}
	for _, d := range k.live {
		trusted[d.KID] = true
		if !d.created.Before(since) {
			out.Updated = append(out.Updated, d.KID)
		}
	}
	for _, d := range k.all {
		// A kid that another signer still has is not gone.
		if !d.deleted.IsZero() && !d.deleted.Before(since) && !trusted[d.KID] {
			out.Deleted = append(out.Deleted, d.KID)
		}
	}
	slices.Sort(out.Updated)
	slices.Sort(out.Deleted)
	out.Updated, out.Deleted = slices.Compact(out.Updated), slices.Compact(out.Deleted)
	writeJSON(w, http.StatusOK, out)
}

// send answers with a document, or with 304 if the caller has it.
func send(w http.ResponseWriter, r *http.Request, d document) {
	h := w.Header()
	h.Set("ETag", d.etag)
	h.Set("Cache-Control", "no-cache")
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(tag), "W/") == d.etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", "application/json")
	_, _ = w.Write(d.body)
}

func problem(w http.ResponseWriter, status int, code, details string) {
	writeJSON(w, status, wire.ProblemReport{Code: code, Problem: http.StatusText(status), Details: details})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":"0x500","problem":"Internal error","sendValue":"","details":""}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// decode reads a JSON body, or answers why not.
func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	err := json.NewDecoder(r.Body).Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		problem(w, http.StatusRequestEntityTooLarge, "0x001", "the body is too large")
	case err != nil:
		problem(w, http.StatusBadRequest, "0x001", "the body is not JSON of the documented form")
	}
	return err == nil
}

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func kidToHex(k hcert.KID) string { return hex.EncodeToString([]byte(k)) }

func kidFromHex(s string) string {
	b, _ := hex.DecodeString(s) // written by kidToHex
	return hcert.KID(b).String()
}

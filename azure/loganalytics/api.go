package loganalytics

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/route"
)

// Actions on a workspace. The first is what a query needs, the second what
// reading the list of tables needs.
const (
	actionQuery = "Microsoft.OperationalInsights/workspaces/query/read"
	actionRead  = "Microsoft.OperationalInsights/workspaces/read"
)

// maxQueryBody bounds a request; the query's own length is bounded by the
// language package.
const maxQueryBody = 2 << 20

// maxWorkspaces is how many workspaces one query may name.
const maxWorkspaces = 100

// Routes lists the query API. Who may query which workspace is decided by the
// handlers, because batches and cross-workspace queries name the workspaces in
// their bodies; the guard has checked the token before.
func (s *Server) Routes() []route.Route {
	timeout := s.config.MaxTimeout + s.config.QueueWait
	r := func(name, method, path string, body int64, h func(http.ResponseWriter, *http.Request) error) route.Route {
		return route.Route{Name: name, Method: method, Path: path, Versions: route.AnyVersion, Action: route.Decided,
			MaxBody: body, Timeout: timeout, Audit: route.AuditCall, Handler: s.handle(h)}
	}
	return []route.Route{
		r("Query", "GET", "/v1/workspaces/{workspace}/query", route.NoBody, s.getQuery),
		r("Query", "POST", "/v1/workspaces/{workspace}/query", maxQueryBody, s.postQuery),
		r("Metadata", "GET", "/v1/workspaces/{workspace}/metadata", route.NoBody, s.metadata),
		r("Metadata", "POST", "/v1/workspaces/{workspace}/metadata", maxQueryBody, s.metadata),
		r("ResourceQuery", "GET", "/v1/subscriptions/{rest...}", route.NoBody, s.resource),
		r("ResourceQuery", "POST", "/v1/subscriptions/{rest...}", maxQueryBody, s.resource),
		r("Batch", "POST", "/v1/$batch", maxQueryBody, s.batch),
		r("not found", "GET", "/", maxQueryBody, s.nowhere),
		r("not found", "POST", "/", maxQueryBody, s.nowhere),
	}
}

func (s *Server) nowhere(http.ResponseWriter, *http.Request) error { return pathNotFound() }

type correlationKey struct{}

// correlation is the id under which an answer can be found again.
func correlation(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}

func newCorrelation() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand does not return an error
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return guidText(id)
}

// guard verifies the caller's token and counts the request.
func (s *Server) guard(_ route.Route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := newCorrelation()
		w.Header().Set("x-ms-correlation-request-id", id)
		w.Header().Set("x-ms-request-id", id)
		caller, err := s.authenticate(r)
		if err == nil {
			err = s.gate.admit(caller.ObjectID)
		}
		if err != nil {
			writeFailure(w, err, id)
			return
		}
		ctx := rest.WithCaller(context.WithValue(r.Context(), correlationKey{}, id), caller)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Server) authenticate(r *http.Request) (rest.Caller, error) {
	token, ok := rest.Bearer(r)
	if !ok {
		return rest.Caller{}, &failure{status: http.StatusUnauthorized, Code: "AuthenticationFailed",
			Message: "Authentication failed. The 'Authorization' header is missing.", header: s.challenge()}
	}
	caller, err := s.deps.Verifier.Verify(r.Context(), token)
	if err == nil {
		return caller, nil
	}
	// The verifier checks the audience after the signature and the issuer: a
	// token that it would take for another audience is a genuine one.
	if strings.Contains(err.Error(), "audience") {
		return rest.Caller{}, &failure{status: http.StatusForbidden, Code: "InvalidAuthenticationTokenAudience",
			Message: "The access token has been obtained for wrong audience or resource. It should exactly match one of the allowed audiences '" + strings.Join(s.deps.Verifier.Audiences, "','") + "'."}
	}
	if strings.Contains(err.Error(), "expired") {
		// 401 makes a client that caches tokens fetch a new one.
		return rest.Caller{}, &failure{status: http.StatusUnauthorized, Code: "ExpiredAuthenticationToken",
			Message: "The access token expired.", header: s.challenge()}
	}
	return rest.Caller{}, &failure{status: http.StatusForbidden, Code: "InvalidTokenError",
		Message: "The provided authentication is not valid for this resource",
		Inner:   &inner{Code: "SignatureVerificationFailed", Message: "Could not validate the request"}}
}

func (s *Server) challenge() []string {
	authority := ""
	if len(s.deps.Verifier.Issuers) > 0 {
		authority = s.deps.Verifier.Issuers[0]
	}
	return []string{"WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%q, resource_id=%q", authority, "https://api.loganalytics.io")}
}

// handle answers with h's error.
func (s *Server) handle(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			writeFailure(w, err, correlation(r.Context()))
		}
	})
}

// request is one query as a client asks it.
type request struct {
	workspace string
	query     string
	timespans []string // all given; the query is about their intersection
	others    []string // further workspaces
	prefer    prefer
	client    string // for the audit row
}

// prefer holds the options of the Prefer header.
type prefer struct {
	wait               time.Duration // 0: not given
	statistics, render bool
	sources            bool
}

// parsePrefer reads "wait=30, include-statistics=true, …". Preferences that it
// does not know are ignored, as RFC 7240 section 2 says.
func parsePrefer(values []string) prefer {
	var p prefer
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, value, _ := strings.Cut(part, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		on := value == "" || strings.EqualFold(value, "true")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "wait":
			if n, err := strconv.Atoi(value); err == nil && n > 0 && n < 1e6 {
				p.wait = time.Duration(n) * time.Second
			}
		case "include-statistics":
			p.statistics = on
		case "include-render":
			p.render = on
		case "include-datasources":
			p.sources = on
		}
	}
	return p
}

// body is the JSON of a query.
type body struct {
	Query      *string  `json:"query"`
	Timespan   *string  `json:"timespan"`
	Workspaces []string `json:"workspaces"`
}

func (s *Server) getQuery(w http.ResponseWriter, r *http.Request) error {
	return s.get(w, r, r.PathValue("workspace"))
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, workspace string) error {
	q := r.URL.Query()
	return s.answer(w, r, request{workspace: workspace, query: q.Get("query"), timespans: q["timespan"],
		others: splitList(q.Get("workspaces")), prefer: parsePrefer(r.Header.Values("Prefer")), client: r.Header.Get("x-ms-app")})
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func (s *Server) postQuery(w http.ResponseWriter, r *http.Request) error {
	return s.post(w, r, r.PathValue("workspace"))
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, workspace string) error {
	var b body
	empty, err := decodeBody(r, &b)
	if err != nil {
		return err
	}
	if empty {
		// The real service answers a POST without JSON, or without saying that
		// it is JSON, with 200 and nothing.
		w.WriteHeader(http.StatusOK)
		return nil
	}
	q := b.request(workspace)
	q.timespans = append(q.timespans, r.URL.Query()["timespan"]...)
	q.prefer = parsePrefer(r.Header.Values("Prefer"))
	q.client = r.Header.Get("x-ms-app")
	return s.answer(w, r, q)
}

func (b body) request(workspace string) request {
	q := request{workspace: workspace, others: b.Workspaces}
	if b.Query != nil {
		q.query = *b.Query
	}
	if b.Timespan != nil {
		q.timespans = []string{*b.Timespan}
	}
	return q
}

// decodeBody reads a JSON body; empty is true if there is none.
func decodeBody(r *http.Request, v any) (empty bool, err error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return false, err
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" || len(raw) == 0 {
		return true, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, badArgument("QueryValidationError", "Failed parsing the query",
			map[string]any{"code": "InvalidJsonBody", "message": "The body is not the JSON that this operation takes", "target": nil})
	}
	return false, nil
}

// resource answers queries that address a workspace by its ARM id, with
// /query behind it.
func (s *Server) resource(w http.ResponseWriter, r *http.Request) error {
	path := strings.TrimPrefix(r.URL.Path, "/v1")
	id, ok := cutSuffixFold(path, "/query")
	if !ok {
		return pathNotFound()
	}
	if id2, ok := cutSuffixFold(id, "/api"); ok { // the control plane's form
		id = id2
	}
	if r.Method == http.MethodGet {
		return s.get(w, r, id)
	}
	return s.post(w, r, id)
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if len(s) < len(suffix) || !strings.EqualFold(s[len(s)-len(suffix):], suffix) {
		return s, false
	}
	return s[:len(s)-len(suffix)], true
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, q request) error {
	res, err := s.ask(r.Context(), q)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(res)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	rest.WriteJSON(w, http.StatusOK, json.RawMessage(raw))
	return nil
}

// ask authorises q for the caller in ctx, waits for its turn and runs it.
func (s *Server) ask(ctx context.Context, q request) (*Result, error) {
	caller, ok := rest.CallerFrom(ctx)
	if !ok {
		return nil, insufficientAccess()
	}
	ws, err := s.authorised(caller, actionQuery, append([]string{q.workspace}, q.others...))
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(q.query) == "" {
		return nil, badArgument("QueryValidationError", "Failed parsing the query",
			map[string]any{"code": "MissingQuery", "message": "The query is missing or empty", "target": "query"})
	}
	r := allTime
	for _, span := range q.timespans {
		one, err := parseTimespan(span, s.deps.Now())
		if err != nil {
			return nil, badArgument("QueryValidationError", "Failed parsing the query",
				map[string]any{"code": "InvalidTimespan", "message": fmt.Sprintf("The timespan is %v", err), "target": "timespan"})
		}
		r = r.intersect(one)
	}
	timeout := s.config.Timeout
	if q.prefer.wait > 0 {
		timeout = min(q.prefer.wait, s.config.MaxTimeout)
	}
	leave, err := s.gate.enter(ctx, caller.ObjectID)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	allowed := func(name string) (*workspace, error) {
		ws, err := s.authorised(caller, actionQuery, []string{name})
		if err != nil {
			return nil, err
		}
		return ws[0], nil
	}
	return s.run(ctx, job{request: q, correlation: correlation(ctx), caller: caller, workspaces: ws, resolve: allowed, span: r})
}

// authorised finds workspaces and checks that the caller may do action on each
// of them.
func (s *Server) authorised(caller rest.Caller, action string, names []string) ([]*workspace, error) {
	if len(names) > maxWorkspaces {
		return nil, badArgument("QueryValidationError", fmt.Sprintf("A query may name at most %d workspaces", maxWorkspaces))
	}
	var out []*workspace
	for _, name := range names {
		w, err := s.workspace(strings.TrimSpace(name))
		if errors.Is(err, ErrWorkspace) {
			return nil, unresolved()
		}
		if err != nil {
			return nil, err
		}
		d := s.deps.Policy.Check(rbac.Principal{ObjectID: caller.ObjectID, Groups: caller.Groups}, action, false, w.ResourceID)
		if !d.Allowed {
			return nil, insufficientAccess()
		}
		out = append(out, w)
	}
	return out, nil
}

// metadata lists the tables of a workspace and their columns.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request) error {
	caller, _ := rest.CallerFrom(r.Context())
	ws, err := s.authorised(caller, actionRead, []string{r.PathValue("workspace")})
	if err != nil {
		return err
	}
	rest.WriteJSON(w, http.StatusOK, ws[0].describe())
	return nil
}

package arm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"crypto/rand"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/conninfo"
	"verdant/internal/route"
)

// call is one request on its way through an operation.
type call struct {
	route  route.Route
	params map[string]string
	caller rest.Caller
	// scope is the ARM id in the request's spelling that action is checked at.
	action, scope string
	// wanted and stored are what a request about a role assignment wants to
	// write, and what is there; nil if there is nothing.
	wanted        *assignmentBody
	stored        *assignment
	at            time.Time
	id            string // x-ms-request-id
	correlation   string
	source, agent string
}

type callKey struct{}

func callOf(r *http.Request) *call {
	c, _ := r.Context().Value(callKey{}).(*call)
	return c
}

// operation is a route of the table with the handler made of it.
type operation struct {
	route.Route
	pattern []string
	serve   http.Handler
}

// dispatcher finds the operation of a request. ARM paths compare without
// regard to case and have a scope of any length in front, which
// http.ServeMux cannot say; each operation still goes through route.New and
// so through its policy.
func (s *Server) dispatcher(routes []route.Route) (http.Handler, error) {
	operations := make([]operation, 0, len(routes))
	for _, r := range routes {
		alone := r
		alone.Path = "/{path...}"
		mux, err := route.New([]route.Route{alone}, s.guard)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Path, err)
		}
		operations = append(operations, operation{r, segments(r.Path), mux})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := s.newCall(w, r)
		path := segments(r.URL.Path)
		pathKnown := false
		for _, op := range operations {
			params, ok := match(op.pattern, path)
			if !ok {
				continue
			}
			pathKnown = true
			if op.Method != r.Method && (op.Method != http.MethodGet || r.Method != http.MethodHead) {
				continue
			}
			c.route, c.params = op.Route, params
			op.serve.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
			return
		}
		if pathKnown {
			rest.WriteError(w, rest.Errorf(http.StatusMethodNotAllowed, "HttpMethodNotSupported",
				"The control plane does not answer %s here: it changes role and deny assignments, custom roles and what it says of a resource.", r.Method), c.id)
			return
		}
		rest.WriteError(w, rest.Errorf(http.StatusNotFound, "InvalidResourceType", "The path does not name a resource type that this control plane knows."), c.id)
	}), nil
}

func (s *Server) newCall(w http.ResponseWriter, r *http.Request) *call {
	c := &call{at: s.now(), id: newGUID(), agent: r.UserAgent()}
	c.correlation = c.id
	if id := strings.ToLower(r.Header.Get("x-ms-correlation-request-id")); guidPattern.MatchString(id) {
		c.correlation = id
	}
	if info, ok := conninfo.From(r.Context()); ok {
		c.source = info.Source.Addr().String()
	} else if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		c.source = host
	}
	w.Header().Set("x-ms-request-id", c.id)
	w.Header().Set("x-ms-correlation-request-id", c.correlation)
	return c
}

func segments(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// match holds a path against a pattern: literals without regard to case,
// {name} for one segment, and a leading {scope...} or a trailing {rest...}
// for any number of them.
func match(pattern, path []string) (map[string]string, bool) {
	params := map[string]string{}
	if len(pattern) > 0 && pattern[0] == "{scope...}" {
		n := len(path) - (len(pattern) - 1)
		if n < 0 {
			return nil, false
		}
		params["scope"] = strings.Join(path[:n], "/")
		if n > 0 {
			params["scope"] = "/" + params["scope"]
		}
		pattern, path = pattern[1:], path[n:]
	}
	if n := len(pattern); n > 0 && pattern[n-1] == "{rest...}" {
		if len(path) < n {
			return nil, false
		}
		params["rest"] = strings.Join(path[n-1:], "/")
		pattern, path = pattern[:n-1], path[:n-1]
	}
	if len(pattern) != len(path) {
		return nil, false
	}
	for i, p := range pattern {
		if strings.HasPrefix(p, "{") {
			params[strings.Trim(p, "{}")] = path[i]
			continue
		}
		if !strings.EqualFold(p, path[i]) {
			return nil, false
		}
	}
	return params, true
}

// guard authenticates, checks the api-version and authorises.
func (s *Server) guard(r route.Route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c := callOf(req)
		if c == nil {
			rest.WriteError(w, errors.New("request did not come through the dispatcher"), "")
			return
		}
		if err := checkVersion(req, r.Versions); err != nil {
			rest.WriteError(w, err, c.id)
			return
		}
		if r.Action == route.Anyone {
			next.ServeHTTP(w, req)
			return
		}
		token, ok := rest.Bearer(req)
		if !ok {
			rest.WriteError(w, s.challenge("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."), c.id)
			return
		}
		caller, err := s.verifier.Verify(req.Context(), token)
		if err != nil {
			code := "InvalidAuthenticationToken"
			if strings.Contains(err.Error(), "audience") {
				code = "InvalidAuthenticationTokenAudience"
			}
			rest.WriteError(w, s.challenge(code, "The access token is invalid: "+strings.TrimPrefix(err.Error(), rest.ErrToken.Error()+": ")+"."), c.id)
			return
		}
		if caller.TenantID != s.cfg.TenantID {
			rest.WriteError(w, s.challenge("InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer."), c.id)
			return
		}
		c.caller = caller
		c.scope = scopeOf(c.params)
		if r.Action == route.Decided {
			next.ServeHTTP(w, req)
			return
		}
		c.action = string(r.Action)
		attributes, err := s.attributes(req, c)
		if err != nil {
			s.fail(w, c, err)
			return
		}
		if !s.policy.CheckWith(c.principal(), c.action, false, c.scope, attributes).Allowed {
			s.deny(w, req, c)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// scopeOf is the scope that the request's path names.
func scopeOf(params map[string]string) string {
	if scope, ok := params["scope"]; ok {
		if scope == "" {
			return "/"
		}
		return scope
	}
	scope := "/subscriptions/" + params["subscription"]
	if group, ok := params["group"]; ok {
		scope += "/resourceGroups/" + group
	}
	return scope
}

func (c *call) principal() rbac.Principal {
	return rbac.Principal{ObjectID: c.caller.ObjectID, Groups: c.caller.Groups}
}

func (s *Server) may(c *call, action, scope string) bool {
	return s.policy.Check(c.principal(), action, false, scope).Allowed
}

// fail answers an error of the control plane's own; what is behind an internal
// one goes to the log.
func (s *Server) fail(w http.ResponseWriter, c *call, err error) {
	if rest.AsError(err, c.id).Status == http.StatusInternalServerError {
		s.log.Error("control plane", "operation", c.route.Name, "request", c.id, "error", err.Error())
	}
	rest.WriteError(w, err, c.id)
}

// deny answers 403; a refused write leaves a row.
func (s *Server) deny(w http.ResponseWriter, req *http.Request, c *call) {
	err := s.forbidden(c, c.action, c.scope)
	if c.route.Audit == route.AuditCall {
		s.activity(req, c, c.scope, "Failure", err)
	}
	rest.WriteError(w, err, c.id)
}

func (s *Server) forbidden(c *call, action, scope string) *rest.Error {
	name := c.caller.Name
	if name == "" {
		name = c.caller.AppID
	}
	if deny := s.policy.Check(c.principal(), action, false, scope).DenyAssignmentID; deny != "" {
		return rest.Errorf(http.StatusForbidden, "DenyAssignmentAuthorizationFailed",
			"The client '%s' with object id '%s' has permission to perform action '%s' on scope '%s'; however, the access is denied because of the deny assignment with name '%s' and Id '%s' at scope '%s'.",
			name, c.caller.ObjectID, action, scope, s.denialName(deny), guidOf(deny), strings.TrimSuffix(deny, "/providers/"+denialType+"/"+guidOf(deny)))
	}
	return rest.Errorf(http.StatusForbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
		name, c.caller.ObjectID, action, scope)
}

func (s *Server) challenge(code, message string) *rest.Error {
	e := rest.Errorf(http.StatusUnauthorized, code, "%s", message)
	e.Header = http.Header{"Www-Authenticate": {fmt.Sprintf("Bearer authorization_uri=%q, error=\"invalid_token\", error_description=%q", s.cfg.Authority+"/"+s.cfg.TenantID, message)}}
	return e
}

var (
	guidPattern    = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	versionPattern = regexp.MustCompile(`^20\d\d-\d\d-\d\d(-preview)?$`)
)

// checkVersion refuses a missing or unknown api-version in ARM's words. The
// versions of resource types are many; where any is accepted it must at least
// look like one.
func checkVersion(r *http.Request, known route.Versions) error {
	got := ""
	for name, values := range r.URL.Query() {
		if strings.EqualFold(name, "api-version") && len(values) > 0 {
			got = values[0]
		}
	}
	switch {
	case got == "":
		return rest.Errorf(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	case known.Accepts("*") && !versionPattern.MatchString(got):
		return rest.Errorf(http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version %.40q is invalid. It is a date such as 2022-09-01.", got)
	case !known.Accepts(got):
		return rest.Errorf(http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version %.40q is invalid. The supported versions are '%s'.", got, strings.Join(known, ","))
	}
	return nil
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

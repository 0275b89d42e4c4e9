package keyvault

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/conninfo"
	"verdant/internal/route"
)

// call is one request on its way through the vault: what is known about it so
// far, and its answer, which waits in memory until the audit record is
// durable.
type call struct {
	id    string // x-ms-request-id and the audit record's correlation id
	start time.Time
	op    string // operation name of the audit record
	api   string // api-version, if it is one of Versions
	answer

	info    conninfo.Info
	known   bool // info is evidence
	caller  rest.Caller
	token   bool // caller is verified
	network bool // the network path was checked and is allowed
	// addressKind says by which rule it is.
	addressKind string
	checked     bool // the role check was made
	decision    rbac.Decision
	name        string // object name and version in the path
	version     string
	objectID    string // full identifier for the audit record
	algorithm   string
	key         *keyProperties
	failure     *rest.Error // what went wrong, for the audit record
	cause       error       // and why, if the wire error does not say so
	// only asks, inside the transaction, whether what the vault does by itself is
	// still to be done; nil for what somebody asked for.
	only func(Tx) error

	address string     // what source found
	event   auditEvent // the audit record
	claim   auditClaim // its caller
	encoded []byte     // its JSON
}

// answer buffers a response: its body, and its headers in the map that
// net/http sends with the first byte.
type answer struct {
	header http.Header
	status int
	body   []byte
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *answer) reset() {
	clear(a.header)
	clear(a.body)
	a.status, a.body = 0, a.body[:0]
}

// maxKeptBody bounds a body's buffer that is kept for a later request.
const maxKeptBody = 16 << 10

// begin is a new call. Its memory is used again: nothing may hold a call, or
// what it points into, after end.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) *call {
	c, _ := s.calls.Get().(*call)
	if c == nil {
		c = new(call)
	}
	c.id, c.start, c.op, c.api, c.header = uuid(), s.now(), "Unknown", apiVersion(r.URL.RawQuery), w.Header()
	c.info, c.known = conninfo.From(r.Context())
	return c
}

// end gives a call's memory back, without what was in it.
func (s *Server) end(c *call) {
	if cap(c.body) > maxKeptBody {
		return
	}
	clear(c.body)
	*c = call{answer: answer{body: c.body[:0]}, encoded: c.encoded[:0]}
	s.calls.Put(c)
}

// callOf is the call whose answer w is: every handler of the vault gets it.
func callOf(w http.ResponseWriter) *call { return w.(*call) }

// uuid is a random (version 4) UUID.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never returns an error (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var text [36]byte
	for i, at := 0, 0; i < len(b); i, at = i+1, at+2 {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[at] = '-'
			at++
		}
		hex.Encode(text[at:at+2], b[i:i+1])
	}
	return string(text[:])
}

// newVersion is a version id: 32 random hexadecimal digits.
func newVersion() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// serve answers a request: work it out, write the audit record, and only then
// let the answer out.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := s.begin(w, r)
	s.work(c, r)
	// Without the request's context: a client that goes away leaves a record.
	if err := s.record(context.Background(), c, r); err != nil {
		// The result does not leave without its record.
		c.reset()
		rest.WriteError(&c.answer, rest.Errorf(http.StatusInternalServerError, "InternalServerError",
			"The audit record of this request could not be written, so its result is withheld. Correlation id: %s.", c.id), c.id)
	}
	s.flush(c, w)
	s.end(c)
}

// work runs the route, and turns a panic in it, which would be our defect,
// into an error of this request only.
func (s *Server) work(c *call, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			c.reset()
			c.fail(fmt.Errorf("panic: %v", p))
		}
	}()
	path, plain := normalise(r.URL.Path)
	if path = rewrite(path); path != r.URL.Path || r.URL.RawPath != "" {
		r = r.WithContext(r.Context()) // a copy: the record tells the address as it came
		r.URL = &url.URL{Path: path, RawQuery: r.URL.RawQuery}
	}
	if !plain {
		s.unknown(c, r)
		return
	}
	s.mux.ServeHTTP(c, r)
}

// normalise takes out empty path elements, which some clients send ("//name",
// and a missing version as a trailing slash). plain is false for a path with
// dot segments: no object is called that.
func normalise(path string) (clean string, plain bool) {
	if len(path) > 1 && path[0] == '/' && path[len(path)-1] != '/' && !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path, true // as nearly every client sends it
	}
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "":
		case ".", "..":
			return "/", false
		default:
			parts = append(parts, part)
		}
	}
	return "/" + strings.Join(parts, "/"), true
}

// flush sends the buffered answer. Header names are written as net/http would
// make them canonical, which saves it the work.
func (s *Server) flush(c *call, w http.ResponseWriter) {
	h := c.header
	maps.Copy(h, s.fixed)
	values := [3]string{c.id, c.networkInfo()}
	h["X-Ms-Request-Id"] = values[0:1:1]
	h["X-Ms-Keyvault-Network-Info"] = values[1:2:2]
	if c.decision.Allowed {
		values[2] = assignmentGUID(c.decision.AssignmentID)
		h["X-Ms-Keyvault-Rbac-Assignment-Id"] = values[2:3:3]
	}
	if c.status == 0 {
		c.status = http.StatusOK
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(c.body) // a client that went away is not our error
}

// fixedHeaders are on every answer of the vault.
func fixedHeaders(location string) http.Header {
	h := http.Header{}
	h.Set("Cache-Control", "no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "-1")
	h.Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Ms-Keyvault-Region", location)
	h.Set("X-Ms-Keyvault-Service-Version", "1.9.0.0")
	return h
}

func (c *call) networkInfo() string {
	kind := "Unknown"
	switch {
	case c.known && c.info.Kind == conninfo.PrivateEndpoint:
		kind = "PrivateLink"
	case c.known:
		kind = "Ipv4"
	}
	family := "InterNetwork"
	if addr := c.info.Source.Addr(); addr.Is6() && !addr.Is4In6() {
		family = "InterNetworkV6"
	}
	return "conn_type=" + kind + ";addr=" + c.source("") + ";act_addr_fam=" + family + ";"
}

// source is the caller's address without its port.
func (c *call) source(remote string) string {
	if c.address != "" {
		return c.address
	}
	if c.info.Source.IsValid() {
		c.address = c.info.Source.Addr().Unmap().String()
		return c.address
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return ""
	}
	return host
}

// assignmentGUID is the last element of an assignment's ARM id.
func assignmentGUID(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// fail makes err the answer and the audit record's result.
func (c *call) fail(err error) {
	c.failure = rest.AsError(err, c.id)
	if c.failure.Status >= 500 {
		c.cause = err
	}
	rest.WriteError(&c.answer, c.failure, c.id)
}

// guard is what every operation shares: who asks, from where, and whether a
// role lets them.
func (s *Server) guard(rt route.Route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callOf(w)
		c.op, c.name, c.version = rt.Name, r.PathValue("name"), r.PathValue("version")
		if err := s.admit(c, r, rt); err != nil {
			c.fail(err)
			return
		}
		next.ServeHTTP(c, r)
	})
}

func (s *Server) admit(c *call, r *http.Request, rt route.Route) error {
	if err := s.identify(c, r); err != nil {
		return err
	}
	// The address that a long-running operation answers with has no version.
	if following := s.local != nil && r.URL.RawQuery == "" && strings.HasSuffix(rt.Path, "/pending"); !following && !rt.Versions.Accepts(c.api) {
		return rest.CheckVersion(r, rt.Versions)
	}
	if limit := max(rt.MaxBody, 0); r.ContentLength > limit {
		return rest.Errorf(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is over %d bytes.", limit)
	}
	if err := c.checkNames(r); err != nil {
		return err
	}
	if s.local != nil {
		return s.authoriseLocally(r.Context(), c, rt)
	}
	if err := s.authorise(c, rt); err != nil {
		return err
	}
	return s.meterOperation(rt.Name) // last, so that strangers use up nothing
}

// checkNames refuses names and versions that no object can have, before they
// become part of a scope.
func (c *call) checkNames(r *http.Request) error {
	if r.PathValue("name") != "" && !validName(c.name) {
		return badParameter("The request URI contains an invalid name: %s", shorten(c.name))
	}
	if c.version != "" && !validVersion(c.version) {
		return badParameter("The request URI contains an invalid version: %s", shorten(c.version))
	}
	return nil
}

// identify is the part of admission that does not depend on the operation:
// token, then network.
func (s *Server) identify(c *call, r *http.Request) error {
	raw, ok := rest.Bearer(r)
	if !ok {
		c.op = "Authentication"
		return s.challenge("", "AKV10000: Request is missing a Bearer or PoP token.")
	}
	caller, err := s.verify.Verify(r.Context(), raw)
	if err == nil && !strings.EqualFold(caller.TenantID, s.cfg.TenantID) {
		err = fmt.Errorf("%w: issued for another tenant than the vault's", rest.ErrToken)
	}
	if err != nil {
		c.op = "Authentication"
		if !errors.Is(err, rest.ErrToken) {
			return err // the verifier could not do its work; that is no verdict on the token
		}
		return s.challenge("invalid_token", "AKV10032: "+capital(strings.TrimPrefix(err.Error(), rest.ErrToken.Error()+": "))+".")
	}
	c.caller, c.token = caller, true
	return s.admitNetwork(c)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// challenge tells a client where to get which token. The Go clients split it
// at blanks and take the tenant out of the authorization address.
func (s *Server) challenge(code, message string) error {
	value := fmt.Sprintf("Bearer authorization=%q, resource=%q", strings.TrimRight(s.cfg.Authority, "/"), "https://"+s.cfg.Suffix)
	if code != "" {
		value += fmt.Sprintf(", error=%q", code)
	}
	return &rest.Error{Status: http.StatusUnauthorized, Code: "Unauthorized", Message: message, Header: http.Header{"Www-Authenticate": {value}}}
}

// publicOperations need no more than the public key, so that whoever may read
// the key may do them. That is a vault's rule, which has asymmetric keys only:
// an auditor of a managed HSM reads keys and uses none.
var publicOperations = map[string]bool{"KeyEncrypt": true, "KeyWrap": true, "KeyVerify": true}

// authorise asks for the role. The scope is the object in the path, or the
// vault for operations on a collection.
func (s *Server) authorise(c *call, rt route.Route) error {
	scope := s.cfg.ResourceID
	if kind, _, ok := strings.Cut(strings.TrimPrefix(rt.Path, "/"), "/"); ok && c.name != "" {
		scope += "/" + strings.TrimPrefix(kind, "deleted") + "/" + c.name
	}
	who := rbac.Principal{ObjectID: c.caller.ObjectID, Groups: c.caller.Groups}
	c.checked = true
	c.decision = s.policy.Check(who, string(rt.Action), true, scope)
	if c.decision.Reason == rbac.ReasonNoneSeen && publicOperations[rt.Name] {
		c.decision = s.policy.Check(who, actionKeys+"read", true, scope)
	}
	if c.decision.Allowed {
		return nil
	}
	if c.decision.Reason == rbac.ReasonStale {
		return &rest.Error{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Header: http.Header{"Retry-After": {"1"}},
			Message: "This replica of the vault does not know at the moment who may do what. Ask again."}
	}
	return s.noRole(c, rt.Action, scope)
}

func (s *Server) noRole(c *call, action route.Action, scope string) error {
	denied := "null"
	if c.decision.DenyAssignmentID != "" {
		denied = "'" + c.decision.DenyAssignmentID + "'"
	}
	return &rest.Error{Status: http.StatusForbidden, Code: "Forbidden", Inner: "ForbiddenByRbac",
		Message: "Caller is not authorized to perform action on resource.\r\n" +
			"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n" +
			c.who() + "Action: '" + string(action) + "'\r\nResource: '" + scope + "'\r\n" +
			"Assignment: (not found)\r\nDenyAssignmentId: " + denied + "\r\nDecisionReason: '" + c.decision.Reason + "' \r\n" +
			"Vault: " + s.cfg.Name + ";location=" + s.cfg.Location + "\r\n"}
}

func (c *call) who() string {
	return "Caller: appid=" + c.caller.AppID + ";oid=" + c.caller.ObjectID + ";iss=" + c.caller.Issuer + "\r\n"
}

// unknown answers what no route does; it tells nothing to those who may not
// ask.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	c := callOf(w)
	if err := s.identify(c, r); err != nil {
		c.fail(err)
		return
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if _, pattern := s.mux.Handler(&http.Request{Method: method, URL: r.URL}); pattern != "/" {
			c.fail(rest.Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The requested resource does not support http method '%s'.", shorten(r.Method)))
			return
		}
	}
	c.fail(rest.Errorf(http.StatusNotFound, "NotFound", "The requested resource was not found in this key vault."))
}

func tlsVersion(state *tls.ConnectionState) string {
	if state == nil {
		return ""
	}
	switch state.Version {
	case tls.VersionTLS12:
		return "TLS1_2"
	case tls.VersionTLS13:
		return "TLS1_3"
	}
	return tls.VersionName(state.Version)
}

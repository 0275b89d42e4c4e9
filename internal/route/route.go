// Package route makes an HTTP route a value that carries its policy.
//
// A service lists its routes; New turns the list into a handler. There are no
// defaults: a route that leaves a policy field zero is a start-up error, so a
// route cannot be reachable without somebody having written down who may call
// it, how large its body may be, how long it may take and how it is audited.
// The documentation's compatibility tables are printed from the same lists.
package route

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Action is what the caller must be allowed to do, in the service's own terms
// (for Azure services a data action such as
// "Microsoft.KeyVault/vaults/keys/sign/action").
type Action string

const (
	// Anyone marks a route that needs no caller identity.
	Anyone Action = "anyone"
	// Decided marks a route whose handler decides about the caller itself.
	Decided Action = "decided-by-handler"
)

// Audit says how a call of the route is recorded.
type Audit string

const (
	// AuditNone: calls leave no audit record (static pages, health).
	AuditNone Audit = "none"
	// AuditCall: every call, refusals too, leaves a record.
	AuditCall Audit = "call"
)

// NoBody is the MaxBody of a route that accepts no request body.
const NoBody int64 = -1

// AnyVersion is the Versions of a route that has no api-version.
var AnyVersion = Versions{"*"}

// Versions lists the values of the api-version parameter a route answers to.
type Versions []string

// Accepts reports whether v is one of the versions.
func (vs Versions) Accepts(v string) bool {
	for _, known := range vs {
		if known == "*" || known == v {
			return true
		}
	}
	return false
}

// Route is one operation of a service.
type Route struct {
	// Name is the operation's name as the real service's audit log spells it,
	// or a lower-case phrase for operations of our own.
	Name string
	// Method and Path form an http.ServeMux pattern.
	Method, Path string
	// Versions are the api-versions answered; AnyVersion if there are none.
	Versions Versions
	// Action is the permission the caller needs.
	Action Action
	// MaxBody bounds the request body in bytes; NoBody refuses one.
	MaxBody int64
	// Timeout bounds the handler.
	Timeout time.Duration
	// Audit says how calls are recorded.
	Audit Audit
	// Handler answers. It runs inside the service's guard.
	Handler http.Handler
}

// Guard wraps the handler of a route with what all routes of a service share:
// authentication, authorisation, audit. It sees the route's policy.
type Guard func(Route, http.Handler) http.Handler

// ErrIncomplete is wrapped by the error of New for a route without a policy.
var ErrIncomplete = errors.New("route has no complete policy")

// New builds the handler for routes. guard may be nil only if every route's
// Action is Anyone or Decided. Unknown paths answer 404 and unknown methods
// 405, as http.ServeMux does.
func New(routes []Route, guard Guard) (*http.ServeMux, error) {
	mux := http.NewServeMux()
	var errs []error
	for _, r := range routes {
		if err := r.check(guard != nil); err != nil {
			errs = append(errs, err)
			continue
		}
		h := bounded(r)
		if guard != nil {
			h = guard(r, h)
		}
		if err := register(mux, r, h); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return mux, nil
}

// register reports a conflict between two patterns as an error, since a table
// of routes is configuration and http.ServeMux panics.
func register(mux *http.ServeMux, r Route, h http.Handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("route %s %s: %v", r.Method, r.Path, p)
		}
	}()
	mux.Handle(r.Method+" "+r.Path, h)
	return nil
}

func (r Route) check(guarded bool) error {
	var missing []string
	need := func(ok bool, field string) {
		if !ok {
			missing = append(missing, field)
		}
	}
	need(r.Name != "", "Name")
	need(r.Method != "", "Method")
	need(strings.HasPrefix(r.Path, "/"), "Path")
	need(len(r.Versions) > 0, "Versions")
	need(r.Action != "", "Action")
	need(r.MaxBody != 0, "MaxBody")
	need(r.Timeout > 0, "Timeout")
	need(r.Audit != "", "Audit")
	need(r.Handler != nil, "Handler")
	if !guarded && r.Action != "" && r.Action != Anyone && r.Action != Decided {
		missing = append(missing, "a guard for its Action")
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s %s %q lacks %s", ErrIncomplete, r.Method, r.Path, r.Name, strings.Join(missing, ", "))
	}
	return nil
}

// bounded applies the body limit and the timeout of the route's policy.
func bounded(r Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		limit := r.MaxBody
		if limit == NoBody {
			limit = 0
		}
		if req.ContentLength > limit {
			http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
			return
		}
		if req.Body != nil && req.Body != http.NoBody {
			req.Body = http.MaxBytesReader(w, req.Body, limit)
		}
		ctx := withTimeout(req.Context(), r.Timeout)
		defer ctx.end()
		r.Handler.ServeHTTP(w, req.WithContext(ctx))
	})
}

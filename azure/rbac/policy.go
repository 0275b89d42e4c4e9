// Package rbac decides what a principal may do: role definitions, assignments
// at a scope, deny assignments, conditions, and the question whether all of
// them together allow an action on a resource. It follows Azure RBAC
// ("Understand role definitions", "Understand scope for Azure RBAC",
// "Understand deny assignments", "Azure role assignment condition format and
// syntax").
//
// It promises that nothing is allowed which no assignment allows, that a deny
// assignment wins over every role, that an assignment covers its scope and
// what lies below it and nothing beside it, that a role's NotActions and
// NotDataActions take away inside that role only, and that a change takes
// effect for every Check that starts after the method that made it returned.
// Ids, scopes and actions compare without regard to case.
//
// It refuses by granting nothing: an assignment of an unknown role or outside
// the role's assignable scopes, with a scope that is not a path, or under a
// condition that is not met, cannot be parsed, or hangs on something that is
// not known of the request.
//
// It does no I/O; keeping assignments is the control plane's affair. A policy
// that follows one kept elsewhere is leased: past the lease nothing is
// allowed, because what was taken away meanwhile is not known.
package rbac

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Assignment gives a principal a role at a scope.
type Assignment struct {
	// ID is the assignment's ARM id.
	ID string
	// RoleDefinitionID is the role's GUID; a full ARM id is accepted too.
	RoleDefinitionID string
	// PrincipalID is the object id of a user, group, service principal or
	// managed identity.
	PrincipalID string
	// Scope is an ARM id from "/" or a subscription down to a single object,
	// such as …/vaults/V/keys/NAME.
	Scope string
	// Condition is an ABAC condition that restricts the assignment.
	Condition string
	// CreatedOn is kept for the control plane.
	CreatedOn time.Time
}

// Principal is who asks: an object id and the groups it belongs to.
type Principal struct {
	ObjectID string
	Groups   []string
}

// Decision is the answer to a Check.
type Decision struct {
	Allowed bool
	// AssignmentID and RoleDefinitionID say which assignment allowed it.
	AssignmentID, RoleDefinitionID string
	// DenyAssignmentID says which deny assignment forbade it.
	DenyAssignmentID string
	// Reason is a word for logs and error messages.
	Reason string
}

// Reasons of a decision, spelled as Azure's messages spell them.
const (
	ReasonAllowed  = "Allowed"
	ReasonNoneSeen = "DeniedWithNoValidRBAC"
	ReasonDenied   = "DeniedByDenyAssignment"
	// ReasonStale: the policy's lease is over. It is no verdict on the caller,
	// who may ask again.
	ReasonStale = "PolicyNotCurrent"
)

// Policy is a set of role definitions, assignments and deny assignments. It is
// safe for concurrent use, and a Check waits for nobody; the zero value denies
// everything.
type Policy struct {
	writing sync.Mutex
	current atomic.Pointer[state]
	lease   atomic.Pointer[lease]
}

// state is immutable once it is the policy's current one.
type state struct {
	roles       map[string]*role   // by lower-case GUID
	assignments map[string]*grant  // by folded assignment id
	byPrincipal map[string]grants  // by lower-case object id
	denials     map[string]*denial // by folded id
	denying     []*denial          // sorted by id
	definitions []RoleDefinition   // in the order they were given
}

// grants are one principal's assignments by their folded scope, so that a
// check looks at the object and what lies above it however many there are.
type grants map[string][]*grant

type lease struct {
	until time.Time
	now   func() time.Time
}

type grant struct {
	Assignment
	scope     string // folded
	role      string // folded GUID
	principal string // folded
	condition *Condition
}

// Snapshot is everything that a policy holds.
type Snapshot struct {
	Roles       []RoleDefinition
	Assignments []Assignment
	Denials     []DenyAssignment
}

// NewPolicy makes a policy of role definitions and assignments.
func NewPolicy(definitions []RoleDefinition, assignments []Assignment) *Policy {
	p := &Policy{}
	p.Replace(Snapshot{Roles: definitions, Assignments: assignments})
	return p
}

// Replace takes everything out and puts a snapshot in, at once.
func (p *Policy) Replace(s Snapshot) {
	next := emptyState()
	for _, d := range s.Roles {
		next.putRole(d)
	}
	for _, a := range s.Assignments {
		next.put(a)
	}
	for _, d := range s.Denials {
		next.denials[foldScope(d.ID)] = compileDenial(d)
	}
	next.sortDenials()
	p.writing.Lock()
	defer p.writing.Unlock()
	p.current.Store(next)
}

// Lease says until when the policy is known to be what it follows; later
// Checks allow nothing until it is leased anew. A policy that was never leased
// is its own.
func (p *Policy) Lease(until time.Time, now func() time.Time) { p.lease.Store(&lease{until, now}) }

func emptyState() *state {
	return &state{roles: map[string]*role{}, assignments: map[string]*grant{}, byPrincipal: map[string]grants{}, denials: map[string]*denial{}}
}

// read returns the current state, which must not be changed.
func (p *Policy) read() *state {
	if s := p.current.Load(); s != nil {
		return s
	}
	return emptyState()
}

// change makes the next state out of a copy of the current one.
func (p *Policy) change(fn func(*state)) {
	p.writing.Lock()
	defer p.writing.Unlock()
	now := p.read()
	next := &state{roles: maps.Clone(now.roles), assignments: maps.Clone(now.assignments), byPrincipal: maps.Clone(now.byPrincipal),
		denials: maps.Clone(now.denials), definitions: slices.Clone(now.definitions)}
	fn(next)
	next.sortDenials()
	p.current.Store(next)
}

func (s *state) sortDenials() {
	s.denying = slices.SortedFunc(maps.Values(s.denials), func(a, b *denial) int { return cmp.Compare(a.ID, b.ID) })
}

// PutRole adds a role definition or replaces the one with the same id.
func (p *Policy) PutRole(d RoleDefinition) { p.change(func(s *state) { s.putRole(d) }) }

func (s *state) putRole(d RoleDefinition) {
	s.deleteRole(guidOf(d.ID))
	s.definitions = append(s.definitions, d)
	s.roles[guidOf(d.ID)] = compile(d)
}

// DeleteRole removes a role definition, given by its GUID or ARM id, and
// reports whether it was there. Its assignments, if any are left, grant
// nothing.
func (p *Policy) DeleteRole(id string) (existed bool) {
	p.change(func(s *state) { existed = s.deleteRole(guidOf(id)) })
	return existed
}

func (s *state) deleteRole(id string) bool {
	if _, known := s.roles[id]; !known {
		return false
	}
	delete(s.roles, id)
	s.definitions = slices.DeleteFunc(s.definitions, func(o RoleDefinition) bool { return guidOf(o.ID) == id })
	return true
}

// Role returns the definition with the given GUID or ARM id.
func (p *Policy) Role(id string) (RoleDefinition, bool) {
	r, ok := p.read().roles[guidOf(id)]
	if !ok {
		return RoleDefinition{}, false
	}
	return r.RoleDefinition, true
}

// Roles lists the definitions.
func (p *Policy) Roles() []RoleDefinition { return slices.Clone(p.read().definitions) }

// Put adds an assignment or replaces the one with the same id.
func (p *Policy) Put(a Assignment) { p.change(func(s *state) { s.put(a) }) }

func (s *state) put(a Assignment) {
	g := &grant{Assignment: a, scope: foldScope(a.Scope), role: guidOf(a.RoleDefinitionID), principal: strings.ToLower(a.PrincipalID), condition: compileCondition(a.Condition)}
	s.remove(foldScope(a.ID))
	s.assignments[foldScope(a.ID)] = g
	if !strings.HasPrefix(g.scope, "/") {
		return // no path: it reaches nothing
	}
	// Copied, so that a Check that holds the old ones is undisturbed.
	own := maps.Clone(s.byPrincipal[g.principal])
	if own == nil {
		own = grants{}
	}
	own[g.scope] = append(slices.Clip(own[g.scope]), g)
	s.byPrincipal[g.principal] = own
}

// Delete removes the assignment with the given ARM id and reports whether it
// was there.
func (p *Policy) Delete(id string) (existed bool) {
	p.change(func(s *state) { existed = s.remove(foldScope(id)) })
	return existed
}

func (s *state) remove(id string) bool {
	g, ok := s.assignments[id]
	if !ok {
		return false
	}
	delete(s.assignments, id)
	own := maps.Clone(s.byPrincipal[g.principal])
	own[g.scope] = slices.DeleteFunc(slices.Clone(own[g.scope]), func(o *grant) bool { return o == g })
	if len(own[g.scope]) == 0 {
		delete(own, g.scope)
	}
	s.byPrincipal[g.principal] = own
	if len(own) == 0 {
		delete(s.byPrincipal, g.principal)
	}
	return true
}

// PutDenial adds a deny assignment or replaces the one with the same id.
func (p *Policy) PutDenial(d DenyAssignment) {
	p.change(func(s *state) { s.denials[foldScope(d.ID)] = compileDenial(d) })
}

// DeleteDenial removes the deny assignment with the given ARM id and reports
// whether it was there.
func (p *Policy) DeleteDenial(id string) (existed bool) {
	p.change(func(s *state) {
		_, existed = s.denials[foldScope(id)]
		delete(s.denials, foldScope(id))
	})
	return existed
}

// Denials lists the deny assignments, sorted by id.
func (p *Policy) Denials() []DenyAssignment {
	var all []DenyAssignment
	for _, d := range p.read().denying {
		all = append(all, d.DenyAssignment)
	}
	return all
}

// Get returns the assignment with the given ARM id.
func (p *Policy) Get(id string) (Assignment, bool) {
	g, ok := p.read().assignments[foldScope(id)]
	if !ok {
		return Assignment{}, false
	}
	return g.Assignment, true
}

// List returns the assignments at scope or below it, sorted by id. An empty
// scope or "/" means all of them.
func (p *Policy) List(scope string) []Assignment {
	at := foldScope(scope)
	var found []Assignment
	for _, g := range p.read().assignments {
		if at == "" || covers(at, g.scope) {
			found = append(found, g.Assignment)
		}
	}
	slices.SortFunc(found, func(a, b Assignment) int { return cmp.Compare(a.ID, b.ID) })
	return found
}

// Check decides whether principal may perform action on the resource at
// scope. data says whether it is a data action. The assignment named in the
// decision is one that allows: the principal's own before its groups', and the
// closest to the resource first.
func (p *Policy) Check(who Principal, action string, data bool, scope string) Decision {
	return p.CheckWith(who, action, data, scope, Attributes{})
}

// CheckWith is Check with what conditions may want to know of the request.
func (p *Policy) CheckWith(who Principal, action string, data bool, scope string, attributes Attributes) Decision {
	if l := p.lease.Load(); l != nil && !l.now().Before(l.until) {
		return Decision{Reason: ReasonStale}
	}
	s := p.read()
	scope = trimScope(scope)
	for _, d := range s.denying {
		if d.denies(who, action, data, scope, attributes) {
			return Decision{DenyAssignmentID: d.ID, Reason: ReasonDenied}
		}
	}
	var short [512]byte
	at := foldInto(short[:0], scope)
	if who.ObjectID != "" {
		if d, ok := s.allows(who.ObjectID, action, data, at, attributes); ok {
			return d
		}
	}
	for _, group := range who.Groups {
		if d, ok := s.allows(group, action, data, at, attributes); ok {
			return d
		}
	}
	return Decision{Reason: ReasonNoneSeen}
}

// trimScope is foldScope without the folding.
func trimScope(s string) string {
	trimmed := strings.TrimRight(s, "/")
	if trimmed == "" && s != "" {
		return "/"
	}
	return trimmed
}

// allows looks from the folded scope upwards for an assignment that allows.
func (s *state) allows(id, action string, data bool, scope []byte, attributes Attributes) (Decision, bool) {
	own := s.byPrincipal[strings.ToLower(id)]
	if id == "" || len(own) == 0 || len(scope) == 0 || scope[0] != '/' {
		return Decision{}, false
	}
	for end := len(scope); end > 0; end-- {
		if end < len(scope) && scope[end] != '/' {
			continue
		}
		if d, ok := s.anyAllows(own[string(scope[:end])], action, data, attributes); ok {
			return d, true
		}
	}
	return s.anyAllows(own["/"], action, data, attributes)
}

func (s *state) anyAllows(own []*grant, action string, data bool, attributes Attributes) (Decision, bool) {
	for _, g := range own {
		r, ok := s.roles[g.role]
		if ok && r.assignableAt(g.scope) && r.holds(action, data) && r.condition.met(action, attributes) == yes && g.condition.met(action, attributes) == yes {
			return Decision{Allowed: true, AssignmentID: g.ID, RoleDefinitionID: g.role, Reason: ReasonAllowed}, true
		}
	}
	return Decision{}, false
}

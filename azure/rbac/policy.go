// Package rbac decides what a principal may do: role definitions, assignments
// at a scope, and the question whether one of them allows an action on a
// resource. It follows Azure RBAC ("Understand role definitions", "Understand
// scope for Azure RBAC").
//
// It promises that nothing is allowed which no assignment allows, that an
// assignment covers its scope and what lies below it and nothing beside it,
// that a role's NotActions and NotDataActions take away inside that role only,
// and that a change takes effect for every Check that starts after Put or
// Delete returned. Ids, scopes and actions compare without regard to case.
//
// It refuses by granting nothing: an assignment of an unknown role, with a
// scope that is not a path, or with a condition (conditions are not evaluated
// yet, so what they would restrict is not given at all).
//
// It does no I/O; keeping assignments is the control plane's affair.
package rbac

import (
	"cmp"
	"slices"
	"strings"
	"sync"
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
	// Condition is an ABAC condition; an assignment that has one grants
	// nothing.
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
	// Reason is a word for logs and error messages.
	Reason string
}

// Reasons of a decision, spelled as Azure's messages spell them.
const (
	ReasonAllowed  = "Allowed"
	ReasonNoneSeen = "DeniedWithNoValidRBAC"
)

// Policy is a set of role definitions and assignments. It is safe for
// concurrent use; the zero value denies everything.
type Policy struct {
	mu          sync.RWMutex
	roles       map[string]*role    // by lower-case GUID
	assignments map[string]*grant   // by lower-case assignment id
	byPrincipal map[string][]*grant // by lower-case object id
	definitions []RoleDefinition    // in the order they were given
}

type grant struct {
	Assignment
	scope     string // folded
	role      string // folded GUID
	principal string // folded
}

// NewPolicy makes a policy of role definitions and assignments.
func NewPolicy(definitions []RoleDefinition, assignments []Assignment) *Policy {
	p := &Policy{}
	for _, d := range definitions {
		p.PutRole(d)
	}
	for _, a := range assignments {
		p.Put(a)
	}
	return p
}

// PutRole adds a role definition or replaces the one with the same id.
func (p *Policy) PutRole(d RoleDefinition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.roles == nil {
		p.roles = map[string]*role{}
	}
	id := guidOf(d.ID)
	if _, known := p.roles[id]; known {
		p.definitions = slices.DeleteFunc(p.definitions, func(o RoleDefinition) bool { return guidOf(o.ID) == id })
	}
	p.definitions = append(p.definitions, d)
	p.roles[id] = compile(d)
}

// Role returns the definition with the given GUID or ARM id.
func (p *Policy) Role(id string) (RoleDefinition, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	r, ok := p.roles[guidOf(id)]
	if !ok {
		return RoleDefinition{}, false
	}
	return r.RoleDefinition, true
}

// Roles lists the definitions.
func (p *Policy) Roles() []RoleDefinition {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Clone(p.definitions)
}

// Put adds an assignment or replaces the one with the same id.
func (p *Policy) Put(a Assignment) {
	g := &grant{Assignment: a, scope: foldScope(a.Scope), role: guidOf(a.RoleDefinitionID), principal: strings.ToLower(a.PrincipalID)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.assignments == nil {
		p.assignments, p.byPrincipal = map[string]*grant{}, map[string][]*grant{}
	}
	p.remove(foldScope(a.ID))
	p.assignments[foldScope(a.ID)] = g
	// Copied, so that a Check that holds the old slice is undisturbed.
	p.byPrincipal[g.principal] = append(slices.Clone(p.byPrincipal[g.principal]), g)
}

// Delete removes the assignment with the given ARM id and reports whether it
// was there.
func (p *Policy) Delete(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remove(foldScope(id))
}

func (p *Policy) remove(id string) bool {
	g, ok := p.assignments[id]
	if !ok {
		return false
	}
	delete(p.assignments, id)
	rest := slices.DeleteFunc(slices.Clone(p.byPrincipal[g.principal]), func(o *grant) bool { return o == g })
	if len(rest) == 0 {
		delete(p.byPrincipal, g.principal)
	} else {
		p.byPrincipal[g.principal] = rest
	}
	return true
}

// Get returns the assignment with the given ARM id.
func (p *Policy) Get(id string) (Assignment, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	g, ok := p.assignments[foldScope(id)]
	if !ok {
		return Assignment{}, false
	}
	return g.Assignment, true
}

// List returns the assignments at scope or below it, sorted by id. An empty
// scope or "/" means all of them.
func (p *Policy) List(scope string) []Assignment {
	at := foldScope(scope)
	p.mu.RLock()
	defer p.mu.RUnlock()
	var found []Assignment
	for _, g := range p.assignments {
		if at == "" || covers(at, g.scope) {
			found = append(found, g.Assignment)
		}
	}
	slices.SortFunc(found, func(a, b Assignment) int { return cmp.Compare(a.ID, b.ID) })
	return found
}

// Check decides whether principal may perform action on the resource at
// scope. data says whether it is a data action. The assignment named in the
// decision is the first that allows, the principal's own before its groups'.
func (p *Policy) Check(who Principal, action string, data bool, scope string) Decision {
	action, scope = strings.ToLower(action), foldScope(scope)
	p.mu.RLock()
	defer p.mu.RUnlock()
	if who.ObjectID != "" {
		if d, ok := p.allows(who.ObjectID, action, data, scope); ok {
			return d
		}
	}
	for _, group := range who.Groups {
		if d, ok := p.allows(group, action, data, scope); ok {
			return d
		}
	}
	return Decision{Reason: ReasonNoneSeen}
}

func (p *Policy) allows(id, action string, data bool, scope string) (Decision, bool) {
	for _, g := range p.byPrincipal[strings.ToLower(id)] {
		if g.Condition != "" || !covers(g.scope, scope) {
			continue
		}
		if r, ok := p.roles[g.role]; ok && r.allows(action, data) {
			return Decision{Allowed: true, AssignmentID: g.ID, RoleDefinitionID: g.role, Reason: ReasonAllowed}, true
		}
	}
	return Decision{}, false
}

// Finding is what one assignment has to say about an action on a resource.
type Finding struct {
	Assignment
	// Why is "" if the assignment allows the action, else why it does not.
	Why string
}

// Explain weighs every assignment of the given principals, or of everybody if
// none is given, for action at scope, as Check would: those that allow come
// first, and among equals the order is by id. It is for administrators'
// questions; decisions are Check's.
func (p *Policy) Explain(action string, data bool, scope string, principals ...string) []Finding {
	action, scope = strings.ToLower(action), foldScope(scope)
	p.mu.RLock()
	defer p.mu.RUnlock()
	var found []Finding
	for _, g := range p.assignments {
		if len(principals) > 0 && !slices.ContainsFunc(principals, func(id string) bool { return strings.EqualFold(id, g.principal) }) {
			continue
		}
		r, known := p.roles[g.role]
		f := Finding{Assignment: g.Assignment}
		switch {
		case !known:
			f.Why = "its role is not defined"
		case !r.allows(action, data):
			f.Why = "the role does not contain the action"
		case !covers(g.scope, scope):
			f.Why = "its scope does not reach the object"
		case g.Condition != "":
			f.Why = "it has a condition, and conditional assignments grant nothing"
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b Finding) int {
		if (a.Why == "") != (b.Why == "") {
			if a.Why == "" {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return found
}

// covers reports whether the folded scope reaches the folded resource: it is
// the same or lies above it. A scope that is no path reaches nothing.
func covers(scope, resource string) bool {
	if scope == "/" {
		return strings.HasPrefix(resource, "/")
	}
	if !strings.HasPrefix(scope, "/") {
		return false
	}
	rest, ok := strings.CutPrefix(resource, scope)
	return ok && (rest == "" || rest[0] == '/')
}

// foldScope makes scopes comparable: lower case and no trailing slash, except
// that the root is "/".
func foldScope(s string) string {
	trimmed := strings.TrimRight(s, "/")
	if trimmed == "" && s != "" {
		return "/"
	}
	return strings.ToLower(trimmed)
}

// guidOf takes a role's GUID out of a GUID or an ARM id.
func guidOf(id string) string {
	id = strings.TrimRight(id, "/")
	return strings.ToLower(id[strings.LastIndexByte(id, '/')+1:])
}

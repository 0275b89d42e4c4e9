package rbac

import "slices"

// RoleDefinition is a set of permissions under a name. Patterns may hold "*",
// which stands for any run of characters, slashes included.
type RoleDefinition struct {
	ID          string // GUID
	Name        string
	Description string
	// Actions are control-plane operations; NotActions are taken away from
	// them, in this role only.
	Actions, NotActions []string
	// DataActions and NotDataActions are the same for the data plane.
	DataActions, NotDataActions []string
	// Condition restricts every permission of the role; one that cannot be
	// parsed gives none.
	Condition string
	// AssignableScopes are where the role may be assigned, each with all below
	// it; none means everywhere.
	AssignableScopes []string
	// Custom tells a tenant's own role from a built-in one.
	Custom bool
}

// role is a definition with its patterns prepared.
type role struct {
	RoleDefinition
	actions, notActions, dataActions, notDataActions []pattern
	condition                                        *Condition
	assignable                                       []string // folded
}

func compile(d RoleDefinition) *role {
	r := &role{RoleDefinition: d, actions: patterns(d.Actions), notActions: patterns(d.NotActions),
		dataActions: patterns(d.DataActions), notDataActions: patterns(d.NotDataActions), condition: compileCondition(d.Condition)}
	for _, scope := range d.AssignableScopes {
		r.assignable = append(r.assignable, foldScope(scope))
	}
	return r
}

// holds reports whether the role contains the action, whatever its condition.
func (r *role) holds(action string, data bool) bool {
	if data {
		return anyMatches(r.dataActions, action) && !anyMatches(r.notDataActions, action)
	}
	return anyMatches(r.actions, action) && !anyMatches(r.notActions, action)
}

// assignableAt reports whether an assignment at the folded scope is one that
// the definition permits.
func (r *role) assignableAt(scope string) bool {
	return len(r.assignable) == 0 || slices.ContainsFunc(r.assignable, func(s string) bool { return covers(s, scope) })
}

// AssignableAt reports whether the role may be assigned at a scope.
func (d RoleDefinition) AssignableAt(scope string) bool {
	scope = foldScope(scope)
	return len(d.AssignableScopes) == 0 || slices.ContainsFunc(d.AssignableScopes, func(s string) bool { return covers(foldScope(s), scope) })
}

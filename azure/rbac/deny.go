package rbac

import (
	"slices"
	"strings"
	"time"
)

// Everyone is the principal of a deny assignment that stands for all of them.
const Everyone = "00000000-0000-0000-0000-000000000000"

// DenyAssignment takes actions away from principals at a scope, whatever roles
// they have.
type DenyAssignment struct {
	// ID is the ARM id.
	ID                string
	Name, Description string
	// Actions and DataActions are denied, but for NotActions and
	// NotDataActions.
	Actions, NotActions, DataActions, NotDataActions []string
	// Scope is where it applies, with all below it unless
	// DoNotApplyToChildScopes.
	Scope                   string
	DoNotApplyToChildScopes bool
	// Principals are object ids, of groups too, or Everyone; those in
	// ExcludePrincipals are spared.
	Principals, ExcludePrincipals []string
	// Condition restricts it. Where it cannot be decided the assignment
	// denies.
	Condition string
	// SystemProtected and CreatedOn are kept for the control plane.
	SystemProtected bool
	CreatedOn       time.Time
}

type denial struct {
	DenyAssignment
	scope                                            string
	principals, excluded                             []string // lower case
	everyone                                         bool
	actions, notActions, dataActions, notDataActions []pattern
	condition                                        *Condition
}

func compileDenial(d DenyAssignment) *denial {
	c := &denial{DenyAssignment: d, scope: foldScope(d.Scope), actions: patterns(d.Actions), notActions: patterns(d.NotActions),
		dataActions: patterns(d.DataActions), notDataActions: patterns(d.NotDataActions), condition: compileCondition(d.Condition)}
	for _, id := range d.Principals {
		c.principals = append(c.principals, strings.ToLower(id))
	}
	for _, id := range d.ExcludePrincipals {
		c.excluded = append(c.excluded, strings.ToLower(id))
	}
	c.everyone = slices.Contains(c.principals, Everyone)
	return c
}

func (d *denial) reaches(scope string) bool {
	if d.DoNotApplyToChildScopes {
		return equalFold(strings.TrimRight(scope, "/"), strings.TrimRight(d.scope, "/"))
	}
	return covers(d.scope, scope)
}

func (d *denial) holds(action string, data bool) bool {
	if data {
		return anyMatches(d.dataActions, action) && !anyMatches(d.notDataActions, action)
	}
	return anyMatches(d.actions, action) && !anyMatches(d.notActions, action)
}

// concerns reports whether it is about a principal.
func (d *denial) concerns(who Principal) bool {
	among := func(ids []string) bool {
		return containsFold(ids, who.ObjectID) || slices.ContainsFunc(who.Groups, func(g string) bool { return containsFold(ids, g) })
	}
	return (d.everyone || among(d.principals)) && !among(d.excluded)
}

func containsFold(folded []string, id string) bool {
	return slices.ContainsFunc(folded, func(s string) bool { return equalFold(id, s) })
}

func (d *denial) denies(who Principal, action string, data bool, scope string, attributes Attributes) bool {
	return d.reaches(scope) && d.holds(action, data) && d.concerns(who) && d.condition.met(action, attributes) != no
}

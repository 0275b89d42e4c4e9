package rbac

import "strings"

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
	// ConditionalActions are actions that the role gives under its own
	// Condition only. They are listed so that the definition is whole, and
	// grant nothing as long as conditions are not evaluated.
	ConditionalActions []string
	Condition          string
}

// role is a definition with its patterns prepared.
type role struct {
	RoleDefinition
	actions, notActions, dataActions, notDataActions []pattern
}

func compile(d RoleDefinition) *role {
	return &role{RoleDefinition: d, actions: patterns(d.Actions), notActions: patterns(d.NotActions),
		dataActions: patterns(d.DataActions), notDataActions: patterns(d.NotDataActions)}
}

func (r *role) allows(action string, data bool) bool {
	if data {
		return anyMatches(r.dataActions, action) && !anyMatches(r.notDataActions, action)
	}
	return anyMatches(r.actions, action) && !anyMatches(r.notActions, action)
}

// pattern is a lower-case action pattern cut at its stars.
type pattern []string

func patterns(ss []string) []pattern {
	ps := make([]pattern, len(ss))
	for i, s := range ss {
		ps[i] = strings.Split(strings.ToLower(s), "*")
	}
	return ps
}

func anyMatches(ps []pattern, action string) bool {
	for _, p := range ps {
		if p.matches(action) {
			return true
		}
	}
	return false
}

// matches places the pieces between the stars from left to right; the first
// is anchored at the start, the last at the end.
func (p pattern) matches(s string) bool {
	if len(p) == 1 {
		return s == p[0]
	}
	s, ok := strings.CutPrefix(s, p[0])
	if !ok {
		return false
	}
	for _, piece := range p[1 : len(p)-1] {
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return strings.HasSuffix(s, p[len(p)-1])
}

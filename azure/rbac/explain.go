package rbac

import (
	"cmp"
	"slices"
	"strings"
)

// Finding is what one assignment has to say about an action on a resource.
type Finding struct {
	Assignment
	// Why is "" if the assignment allows the action, else why it does not.
	Why string
	// If is the condition on which it does, where that hangs on what the
	// request contains.
	If string
}

// Explain weighs every assignment of the given principals, or of everybody if
// none is given, for action at scope, as Check would but for deny assignments:
// those that allow come first, and among equals the order is by id. It is for
// administrators' questions; decisions are Check's.
func (p *Policy) Explain(action string, data bool, scope string, principals ...string) []Finding {
	scope = trimScope(scope)
	s := p.read()
	var found []Finding
	for _, g := range s.assignments {
		if len(principals) > 0 && !slices.ContainsFunc(principals, func(id string) bool { return equalFold(id, g.principal) }) {
			continue
		}
		f := Finding{Assignment: g.Assignment}
		f.Why, f.If = s.explain(g, action, data, scope)
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

func (s *state) explain(g *grant, action string, data bool, scope string) (why, condition string) {
	r, known := s.roles[g.role]
	switch {
	case !known:
		return "its role is not defined", ""
	case !r.holds(action, data):
		return "the role does not contain the action", ""
	case !covers(g.scope, scope):
		return "its scope does not reach the object", ""
	case !r.assignableAt(g.scope):
		return "its scope is outside the role's assignable scopes", ""
	}
	var conditions []string
	for _, c := range []struct {
		parsed     *Condition
		text, whom string
	}{{r.condition, r.Condition, "the role's"}, {g.condition, g.Condition, "its"}} {
		switch c.parsed.met(action, Attributes{}) {
		case no:
			return c.whom + " condition excludes the action", ""
		case unknown:
			if !tellsAttributes(action) || !parses(c.text) {
				return c.whom + " condition hangs on something that requests do not tell", ""
			}
			conditions = append(conditions, c.text)
		}
	}
	return "", strings.Join(conditions, " AND ")
}

// tellsAttributes reports whether a request for the action carries attributes
// that conditions know.
func tellsAttributes(action string) bool {
	return equalFold(action, "microsoft.authorization/roleassignments/write") || equalFold(action, "microsoft.authorization/roleassignments/delete")
}

func parses(condition string) bool {
	_, err := ParseCondition(condition)
	return err == nil
}

// Denied lists the deny assignments that forbid action at scope to the given
// principal, or to anybody if it has no object id, sorted by id.
func (p *Policy) Denied(who Principal, action string, data bool, scope string) []DenyAssignment {
	scope = trimScope(scope)
	var found []DenyAssignment
	for _, d := range p.read().denying {
		applies := d.denies(who, action, data, scope, Attributes{})
		if who.ObjectID == "" {
			applies = d.reaches(scope) && d.holds(action, data) && d.condition.met(action, Attributes{}) != no
		}
		if applies {
			found = append(found, d.DenyAssignment)
		}
	}
	return found
}

// Concerns reports whether the deny assignment is about a principal.
func (d DenyAssignment) Concerns(who Principal) bool { return compileDenial(d).concerns(who) }

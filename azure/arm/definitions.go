package arm

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"verdant/azure/rbac"
	"verdant/azure/rest"
)

const definitionType = "Microsoft.Authorization/roleDefinitions"

func definitionWire(d definition, scope string) map[string]any {
	permission := map[string]any{"actions": list(d.Actions), "notActions": list(d.NotActions),
		"dataActions": list(d.DataActions), "notDataActions": list(d.NotDataActions)}
	if d.Condition != "" {
		permission["condition"], permission["conditionVersion"] = d.Condition, "2.0"
	}
	kind, scopes := "BuiltInRole", []string{"/"}
	if d.Custom {
		kind, scopes = "CustomRole", d.AssignableScopes
	}
	properties := map[string]any{"roleName": d.Name, "type": kind, "description": d.Description, "assignableScopes": scopes,
		"permissions": []any{permission}}
	if !d.CreatedOn.IsZero() {
		properties["createdOn"], properties["updatedOn"] = timestamp(d.CreatedOn), timestamp(d.UpdatedOn)
		properties["createdBy"], properties["updatedBy"] = orNull(d.CreatedBy), orNull(d.UpdatedBy)
	}
	return map[string]any{"id": definitionID(scope, d.ID), "name": d.ID, "type": definitionType, "properties": properties}
}

func definitionID(scope, name string) string {
	return strings.TrimRight(scope, "/") + "/providers/" + definitionType + "/" + name
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// mayReadDefinitions: the built-in roles are public knowledge, so that asking
// for them at the root takes no role; at a scope it takes one, since the
// answer says that the scope exists.
func (s *Server) mayReadDefinitions(c *call) bool {
	return c.scope == "/" || s.may(c, actionDefinitionRead, c.scope)
}

// seesDefinition: of custom roles a caller sees those that it may read
// somewhere where they can be assigned.
func (s *Server) seesDefinition(c *call, d rbac.RoleDefinition) bool {
	return !d.Custom || slices.ContainsFunc(d.AssignableScopes, func(scope string) bool { return s.may(c, actionDefinitionRead, scope) })
}

// definitionScope is where a definition's id is shown: its subscription.
func definitionScope(scope string) string {
	if sub := rest.Subscription(scope); sub != "" {
		return "/subscriptions/" + sub
	}
	return ""
}

func (s *Server) getDefinition(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	if !s.mayReadDefinitions(c) {
		rest.WriteError(w, s.forbidden(c, actionDefinitionRead, c.scope), c.id)
		return
	}
	d, ok := s.policy.Role(c.params["name"])
	if !ok || !s.seesDefinition(c, d) {
		rest.WriteError(w, rest.Errorf(http.StatusNotFound, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%.64s' does not exist.", c.params["name"]), c.id)
		return
	}
	shown, err := s.whole(r, d)
	if err != nil {
		s.fail(w, c, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, definitionWire(shown, definitionScope(c.scope)))
}

// whole adds to a definition what is stored of it.
func (s *Server) whole(r *http.Request, d rbac.RoleDefinition) (definition, error) {
	if !d.Custom {
		return definition{RoleDefinition: d}, nil
	}
	stored, ok, err := getDocument[definition](r.Context(), s.store.db, kindDefinition, d.ID)
	if err != nil || !ok {
		return definition{RoleDefinition: d}, err
	}
	return stored, nil
}

var (
	roleNameFilter = regexp.MustCompile(`(?i)^roleName\s+eq\s+'([^']*)'$`)
	roleTypeFilter = regexp.MustCompile(`(?i)^type\s+eq\s+'(BuiltInRole|CustomRole)'$`)
	andFilter      = regexp.MustCompile(`(?i)\s+and\s+`)
)

// definitionFilter reads $filter: terms joined with "and".
func definitionFilter(filter string) (func(rbac.RoleDefinition) bool, error) {
	tests := []func(rbac.RoleDefinition) bool{}
	for _, term := range andFilter.Split(strings.TrimSpace(filter), -1) {
		name, typ := roleNameFilter.FindStringSubmatch(term), roleTypeFilter.FindStringSubmatch(term)
		switch {
		case name != nil:
			tests = append(tests, func(d rbac.RoleDefinition) bool { return strings.EqualFold(d.Name, name[1]) })
		case typ != nil:
			tests = append(tests, func(d rbac.RoleDefinition) bool { return d.Custom == strings.EqualFold(typ[1], "CustomRole") })
		case term == "", strings.EqualFold(term, "atScope()"), strings.EqualFold(term, "atScopeAndBelow()"):
		default:
			return nil, rest.Errorf(http.StatusBadRequest, "UnsupportedQuery", "The filter is not supported: use roleName eq '{name}' or type eq 'CustomRole'.")
		}
	}
	return func(d rbac.RoleDefinition) bool {
		return !slices.ContainsFunc(tests, func(test func(rbac.RoleDefinition) bool) bool { return !test(d) })
	}, nil
}

// listDefinitions lists the roles that can be assigned at the scope.
func (s *Server) listDefinitions(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	if !s.mayReadDefinitions(c) {
		rest.WriteError(w, s.forbidden(c, actionDefinitionRead, c.scope), c.id)
		return
	}
	filter := r.URL.Query().Get("$filter")
	keep, err := definitionFilter(filter)
	if err != nil {
		rest.WriteError(w, err, c.id)
		return
	}
	below := strings.Contains(strings.ToLower(filter), "below")
	value := []any{}
	for _, d := range s.policy.Roles() {
		at := d.AssignableAt(c.scope) || below && slices.ContainsFunc(d.AssignableScopes, func(scope string) bool { return reaches(c.scope, scope) })
		if !keep(d) || !at || !s.seesDefinition(c, d) {
			continue
		}
		shown, err := s.whole(r, d)
		if err != nil {
			s.fail(w, c, err)
			return
		}
		value = append(value, definitionWire(shown, definitionScope(c.scope)))
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"value": value})
}

package arm

import (
	"net/http"
	"regexp"
	"strings"

	"verdant/azure/rbac"
	"verdant/azure/rest"
)

const definitionType = "Microsoft.Authorization/roleDefinitions"

func definitionWire(d rbac.RoleDefinition, scope string) map[string]any {
	permission := map[string]any{"actions": list(d.Actions), "notActions": list(d.NotActions),
		"dataActions": list(d.DataActions), "notDataActions": list(d.NotDataActions)}
	return map[string]any{
		"id": strings.TrimRight(scope, "/") + "/providers/" + definitionType + "/" + d.ID, "name": d.ID, "type": definitionType,
		"properties": map[string]any{"roleName": d.Name, "type": "BuiltInRole", "description": d.Description,
			"assignableScopes": []string{"/"}, "permissions": []any{permission}},
	}
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
	if !ok {
		rest.WriteError(w, rest.Errorf(http.StatusNotFound, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%.64s' does not exist.", c.params["name"]), c.id)
		return
	}
	rest.WriteJSON(w, http.StatusOK, definitionWire(d, definitionScope(c.scope)))
}

var roleNameFilter = regexp.MustCompile(`(?i)^(?:atScope\(\)\s+and\s+)?roleName\s+eq\s+'([^']*)'$`)

func (s *Server) listDefinitions(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	if !s.mayReadDefinitions(c) {
		rest.WriteError(w, s.forbidden(c, actionDefinitionRead, c.scope), c.id)
		return
	}
	name, filter := "", strings.TrimSpace(r.URL.Query().Get("$filter"))
	switch m := roleNameFilter.FindStringSubmatch(filter); {
	case m != nil:
		name = m[1]
	case filter == "", strings.EqualFold(filter, "atScope()"), strings.EqualFold(filter, "type eq 'BuiltInRole'"):
	default:
		rest.WriteError(w, rest.Errorf(http.StatusBadRequest, "UnsupportedQuery", "The filter is not supported: use roleName eq '{name}'."), c.id)
		return
	}
	value := []any{}
	for _, d := range s.policy.Roles() {
		if name == "" || strings.EqualFold(d.Name, name) {
			value = append(value, definitionWire(d, definitionScope(c.scope)))
		}
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"value": value})
}

package arm

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
)

// Custom roles: a tenant's own role definitions.

// definitionBody is the body of a PUT.
type definitionBody struct {
	Properties struct {
		RoleName         string           `json:"roleName"`
		Type             string           `json:"type"`
		Description      string           `json:"description"`
		AssignableScopes []string         `json:"assignableScopes"`
		Permissions      []permissionBody `json:"permissions"`
	} `json:"properties"`
}

type permissionBody struct {
	Actions          []string `json:"actions"`
	NotActions       []string `json:"notActions"`
	DataActions      []string `json:"dataActions"`
	NotDataActions   []string `json:"notDataActions"`
	Condition        string   `json:"condition"`
	ConditionVersion string   `json:"conditionVersion"`
}

const (
	maxPatterns = 2048
	maxScopes   = 2000
)

// actionPattern: a provider and a path below it, in which a segment may be or
// hold a star; or a star and what follows it, as in */read.
var actionPattern = regexp.MustCompile(`^(\*|(\*|[A-Za-z][A-Za-z0-9*]*(\.[A-Za-z0-9*]+)+)(/[A-Za-z0-9._*-]+)+)$`)

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func (p permissionBody) check() error {
	total := 0
	for _, set := range []struct {
		name     string
		patterns []string
		star     bool
	}{{"ActionOrNotAction", p.Actions, true}, {"ActionOrNotAction", p.NotActions, true}, {"DataActionOrNotDataAction", p.DataActions, false}, {"DataActionOrNotDataAction", p.NotDataActions, false}} {
		for _, pattern := range set.patterns {
			if len(pattern) > 256 || !actionPattern.MatchString(pattern) || pattern == "*" && !set.star {
				return rest.Errorf(http.StatusBadRequest, "Invalid"+set.name, "'%.256s' does not match any of the actions supported by the providers.", pattern)
			}
		}
		total += len(set.patterns)
	}
	if total > maxPatterns {
		return rest.Errorf(http.StatusBadRequest, "RoleDefinitionTooManyActions", "A role definition has at most %d actions.", maxPatterns)
	}
	return checkCondition(p.Condition, p.ConditionVersion)
}

// readDefinition checks a PUT's body and makes the custom role of it.
func (s *Server) readDefinition(r *http.Request, c *call) (definition, error) {
	var d definition
	name := strings.ToLower(c.params["name"])
	if !guidPattern.MatchString(name) {
		return d, rest.Errorf(http.StatusBadRequest, "InvalidRoleDefinitionId", "The role definition ID '%.64s' is not valid. The role definition ID must be a GUID.", c.params["name"])
	}
	var body definitionBody
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return d, unreadable(err)
	}
	p := body.Properties
	if p.RoleName == "" || len(p.RoleName) > 512 || len(p.Description) > 2048 {
		return d, rest.Errorf(http.StatusBadRequest, "RoleDefinitionNameNullOrEmpty", "The role name must have 1 to 512 characters and the description at most 2048.")
	}
	if p.Type != "" && !strings.EqualFold(p.Type, "CustomRole") {
		return d, rest.Errorf(http.StatusBadRequest, "InvalidRoleDefinitionType", "The role type must be CustomRole.")
	}
	if len(p.Permissions) != 1 {
		return d, rest.Errorf(http.StatusBadRequest, "InvalidRoleDefinitionPermissions", "A custom role has exactly one element of permissions.")
	}
	permission := p.Permissions[0]
	if err := permission.check(); err != nil {
		return d, err
	}
	scopes, err := s.assignableScopes(c.scope, p.AssignableScopes)
	if err != nil {
		return d, err
	}
	return definition{RoleDefinition: rbac.RoleDefinition{ID: name, Name: p.RoleName, Description: p.Description, Actions: permission.Actions,
		NotActions: permission.NotActions, DataActions: permission.DataActions, NotDataActions: permission.NotDataActions,
		Condition: permission.Condition, AssignableScopes: scopes, Custom: true},
		CreatedOn: c.at, UpdatedOn: c.at, CreatedBy: c.caller.ObjectID, UpdatedBy: c.caller.ObjectID}, nil
}

// assignableScopes brings them into canonical spelling. The scope that the
// request names must be among them, and none may be the root, which belongs
// to built-in roles.
func (s *Server) assignableScopes(at string, wanted []string) ([]string, error) {
	if len(wanted) == 0 || len(wanted) > maxScopes {
		return nil, rest.Errorf(http.StatusBadRequest, "MissingAssignableScopes", "A custom role has 1 to %d assignable scopes.", maxScopes)
	}
	var scopes []string
	found := false
	for _, scope := range wanted {
		canonical, err := s.underKnown(scope)
		if err != nil {
			return nil, rest.Errorf(http.StatusBadRequest, "InvalidAssignableScope", "'%.300s' is not a scope at which a role of this tenant could be assigned.", scope)
		}
		found = found || rest.SameID(strings.TrimRight(canonical, "/"), strings.TrimRight(at, "/"))
		scopes = append(scopes, canonical)
	}
	if !found {
		return nil, rest.Errorf(http.StatusBadRequest, "RoleDefinitionScopeNotAssignable", "The scope of the request, '%.300s', is not among the role's assignable scopes.", at)
	}
	return scopes, nil
}

// everywhere reports whether the caller has the request's permission at every
// scope at which the role could give something: a role may not be made, or
// changed, for places where one does not manage roles.
func (s *Server) everywhere(c *call, scopes []string) error {
	for _, scope := range scopes {
		if !s.may(c, c.action, scope) {
			return s.forbidden(c, c.action, scope)
		}
	}
	return nil
}

func (s *Server) putDefinition(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	d, err := s.define(r, c)
	id := definitionID(c.scope, strings.ToLower(c.params["name"]))
	if err != nil {
		s.failChange(w, r, c, id, err)
		return
	}
	s.activity(r, c, id, "Success", nil)
	rest.WriteJSON(w, http.StatusCreated, definitionWire(d, definitionScope(c.scope))) // Azure answers 201 to an update too
}

// define makes or updates a custom role. When it returns, the change is on
// disk and in effect for everybody who has the role.
func (s *Server) define(r *http.Request, c *call) (definition, error) {
	d, err := s.readDefinition(r, c)
	if err != nil {
		return d, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	scopes := d.AssignableScopes
	if old, exists := s.policy.Role(d.ID); exists {
		if !old.Custom {
			return d, rest.Errorf(http.StatusForbidden, "CannotChangeBuiltInRole", "The role %q is built in and cannot be changed.", old.Name)
		}
		scopes = append(append([]string{}, scopes...), old.AssignableScopes...)
		stored, ok, err := getDocument[definition](r.Context(), s.store.db, kindDefinition, d.ID)
		if err != nil {
			return d, err
		}
		if ok {
			d.CreatedOn, d.CreatedBy = stored.CreatedOn, stored.CreatedBy
		}
	}
	if err := s.everywhere(c, scopes); err != nil {
		return d, err
	}
	for _, other := range s.policy.Roles() {
		if strings.EqualFold(other.Name, d.Name) && !strings.EqualFold(other.ID, d.ID) {
			return d, rest.Errorf(http.StatusConflict, "RoleDefinitionWithSameNameExists", "A role definition cannot be created or updated with the same name as another one: %q.", d.Name)
		}
	}
	for _, a := range s.assignmentsOf(d.ID) {
		if !d.AssignableAt(a.Scope) {
			return d, rest.Errorf(http.StatusBadRequest, "RoleDefinitionHasAssignmentsOutsideScopes", "The role is assigned at '%.300s', which the new assignable scopes do not reach.", a.Scope)
		}
	}
	if err := s.announce(r, c, definitionID(c.scope, d.ID)); err != nil {
		return d, err
	}
	if err := s.store.put(r.Context(), kindDefinition, d.ID, d); err != nil {
		return d, err
	}
	s.policy.PutRole(d.RoleDefinition)
	return d, nil
}

func (s *Server) assignmentsOf(role string) []rbac.Assignment {
	var found []rbac.Assignment
	for _, a := range s.policy.List("") {
		if guidOf(a.RoleDefinitionID) == guidOf(role) {
			found = append(found, a)
		}
	}
	return found
}

func (s *Server) deleteDefinition(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	d, existed, err := s.undefine(r, c)
	id := definitionID(c.scope, strings.ToLower(c.params["name"]))
	switch {
	case err != nil:
		s.failChange(w, r, c, id, err)
	case !existed:
		w.WriteHeader(http.StatusNoContent)
	default:
		s.activity(r, c, id, "Success", nil)
		rest.WriteJSON(w, http.StatusOK, definitionWire(d, definitionScope(c.scope)))
	}
}

// undefine deletes a custom role that nobody has.
func (s *Server) undefine(r *http.Request, c *call) (d definition, existed bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	role, exists := s.policy.Role(c.params["name"])
	if !exists {
		return d, false, nil
	}
	if !role.Custom {
		return d, true, rest.Errorf(http.StatusForbidden, "CannotDeleteBuiltInRole", "The role %q is built in and cannot be deleted.", role.Name)
	}
	if d, err = s.whole(r, role); err != nil {
		return d, true, err
	}
	if err := s.everywhere(c, role.AssignableScopes); err != nil {
		return d, true, err
	}
	if used := s.assignmentsOf(role.ID); len(used) > 0 {
		return d, true, rest.Errorf(http.StatusBadRequest, "RoleDefinitionHasAssignments", "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments): %d of them.", len(used))
	}
	if err := s.announce(r, c, definitionID(c.scope, role.ID)); err != nil {
		return d, true, err
	}
	if err := s.store.delete(r.Context(), kindDefinition, role.ID); err != nil {
		return d, true, err
	}
	s.policy.DeleteRole(role.ID)
	return d, true, nil
}

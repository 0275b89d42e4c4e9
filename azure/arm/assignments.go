package arm

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"verdant/azure/rbac"
	"verdant/azure/rest"
)

const assignmentType = "Microsoft.Authorization/roleAssignments"

// assignmentBody is the body of a PUT.
type assignmentBody struct {
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		PrincipalType    string `json:"principalType"`
		Description      string `json:"description"`
		Condition        string `json:"condition"`
		ConditionVersion string `json:"conditionVersion"`
	} `json:"properties"`
}

// wire is an assignment as ARM shows it.
func (s *Server) wire(a assignment) map[string]any {
	definitionScope := ""
	if sub := rest.Subscription(a.Scope); sub != "" {
		definitionScope = "/subscriptions/" + sub
	}
	properties := map[string]any{
		"roleDefinitionId": definitionScope + "/providers/" + definitionType + "/" + guidOf(a.RoleDefinitionID),
		"principalId":      a.PrincipalID, "scope": a.Scope, "principalType": a.PrincipalType,
		"condition": orNull(a.Condition), "conditionVersion": orNull(a.ConditionVersion), "description": orNull(a.Description),
		"createdOn": a.CreatedOn.UTC().Format("2006-01-02T15:04:05.0000000Z"), "updatedOn": a.UpdatedOn.UTC().Format("2006-01-02T15:04:05.0000000Z"),
		"createdBy": orNull(a.CreatedBy), "updatedBy": orNull(a.UpdatedBy), "delegatedManagedIdentityResourceId": nil,
	}
	return map[string]any{"id": a.ID, "name": a.ID[strings.LastIndex(a.ID, "/")+1:], "type": assignmentType, "properties": properties}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func guidOf(id string) string { return strings.ToLower(id[strings.LastIndex(id, "/")+1:]) }

func assignmentID(scope, name string) string {
	return strings.TrimRight(scope, "/") + "/providers/" + assignmentType + "/" + strings.ToLower(name)
}

// readAssignment checks a PUT's body and makes the assignment of it.
func (s *Server) readAssignment(r *http.Request, c *call) (assignment, error) {
	var a assignment
	name := strings.ToLower(c.params["name"])
	if !guidPattern.MatchString(name) {
		return a, rest.Errorf(http.StatusBadRequest, "InvalidRoleAssignmentId", "The role assignment ID '%.64s' is not valid. The role assignment ID must be a GUID.", c.params["name"])
	}
	scope, err := s.underKnown(c.scope)
	if err != nil {
		return a, err
	}
	var body assignmentBody
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return a, err
		}
		return a, rest.Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	p := body.Properties
	principal := strings.ToLower(p.PrincipalID)
	if !guidPattern.MatchString(principal) {
		return a, rest.Errorf(http.StatusBadRequest, "InvalidPrincipalId", "A valid principal ID must be provided for role assignment: properties.principalId is the object id of a user, a group or a service principal.")
	}
	role, known := s.policy.Role(p.RoleDefinitionID)
	if !known || p.RoleDefinitionID == "" {
		return a, rest.Errorf(http.StatusBadRequest, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%.64s' does not exist.", guidOf(p.RoleDefinitionID))
	}
	if p.PrincipalType != "" && !slices.Contains([]string{"User", "Group", "ServicePrincipal", "ForeignGroup", "Device"}, p.PrincipalType) {
		return a, rest.Errorf(http.StatusBadRequest, "InvalidPrincipalType", "The principal type %q is not valid.", p.PrincipalType)
	}
	if p.PrincipalType == "" {
		p.PrincipalType = "ServicePrincipal"
	}
	return assignment{
		Assignment: rbac.Assignment{ID: assignmentID(scope, name), RoleDefinitionID: strings.ToLower(role.ID), PrincipalID: principal,
			Scope: scope, Condition: p.Condition, CreatedOn: c.at},
		PrincipalType: p.PrincipalType, Description: p.Description, ConditionVersion: p.ConditionVersion,
		CreatedBy: c.caller.ObjectID, UpdatedOn: c.at, UpdatedBy: c.caller.ObjectID,
	}, nil
}

func (s *Server) putAssignment(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	a, created, err := s.assign(r, c)
	if err != nil {
		s.failChange(w, r, c, err)
		return
	}
	s.activity(r, c, a.ID, "Success", nil)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	rest.WriteJSON(w, status, s.wire(a))
}

// assign makes or updates an assignment. When it returns, the change is on
// disk and in the policy.
func (s *Server) assign(r *http.Request, c *call) (a assignment, created bool, err error) {
	if a, err = s.readAssignment(r, c); err != nil {
		return a, false, err
	}
	ctx := r.Context()
	s.writing.Lock()
	defer s.writing.Unlock()
	old, exists, err := s.store.get(ctx, a.ID)
	if err != nil {
		return a, false, err
	}
	if exists {
		if guidOf(old.RoleDefinitionID) != guidOf(a.RoleDefinitionID) || !strings.EqualFold(old.PrincipalID, a.PrincipalID) {
			return a, false, rest.Errorf(http.StatusConflict, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
		}
		a.CreatedOn, a.CreatedBy = old.CreatedOn, old.CreatedBy
	}
	for _, other := range s.policy.List(a.Scope) {
		if !rest.SameID(other.ID, a.ID) && rest.SameID(other.Scope, a.Scope) && strings.EqualFold(other.PrincipalID, a.PrincipalID) &&
			guidOf(other.RoleDefinitionID) == guidOf(a.RoleDefinitionID) {
			return a, false, rest.Errorf(http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists. The ID of the existing role assignment is %s.", strings.ReplaceAll(other.ID[strings.LastIndex(other.ID, "/")+1:], "-", ""))
		}
	}
	if err := s.announce(r, c, a.ID); err != nil {
		return a, false, err
	}
	if err := s.store.put(ctx, a); err != nil {
		return a, false, err
	}
	s.policy.Put(a.Assignment)
	return a, !exists, nil
}

func (s *Server) deleteAssignment(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	a, existed, err := s.unassign(r, c)
	switch {
	case err != nil:
		s.failChange(w, r, c, err)
	case !existed:
		w.WriteHeader(http.StatusNoContent)
	default:
		s.activity(r, c, a.ID, "Success", nil)
		rest.WriteJSON(w, http.StatusOK, s.wire(a))
	}
}

// unassign deletes an assignment. When it returns, it is gone from disk and
// from the policy.
func (s *Server) unassign(r *http.Request, c *call) (a assignment, existed bool, err error) {
	ctx := r.Context()
	s.writing.Lock()
	defer s.writing.Unlock()
	id := assignmentID(c.scope, c.params["name"])
	a, existed, err = s.store.get(ctx, id)
	if err != nil || !existed {
		return a, false, err
	}
	if err := s.announce(r, c, a.ID); err != nil {
		return a, true, err
	}
	if err := s.store.delete(ctx, a.ID); err != nil {
		return a, true, err
	}
	s.policy.Delete(a.ID)
	return a, true, nil
}

func (s *Server) failChange(w http.ResponseWriter, r *http.Request, c *call, err error) {
	e := rest.AsError(err, c.id)
	if e.Status == http.StatusInternalServerError {
		s.log.Error("role assignment", "method", r.Method, "request", c.id, "error", err.Error())
	}
	s.activity(r, c, assignmentID(c.scope, c.params["name"]), "Failure", e)
	rest.WriteError(w, e, c.id)
}

func (s *Server) getAssignment(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	a, ok, err := s.store.get(r.Context(), assignmentID(c.scope, c.params["name"]))
	if err != nil {
		s.log.Error("read role assignment", "request", c.id, "error", err.Error())
		rest.WriteError(w, err, c.id)
		return
	}
	if !ok {
		rest.WriteError(w, rest.Errorf(http.StatusNotFound, "RoleAssignmentNotFound", "The role assignment '%.64s' is not found.", c.params["name"]), c.id)
		return
	}
	rest.WriteJSON(w, http.StatusOK, s.wire(a))
}

var (
	principalFilter = regexp.MustCompile(`(?i)^(principalId\s+eq\s+'([^']*)'|assignedTo\('([^']*)'\))$`)
	atScopeFilter   = regexp.MustCompile(`(?i)^atScope\(\)(\s+and\s+(.*))?$`)
)

// listAssignments lists what is assigned at the scope, above it and below it;
// with atScope() not below. A principal can be asked for.
func (s *Server) listAssignments(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	below, principal := true, ""
	filter := strings.TrimSpace(r.URL.Query().Get("$filter"))
	if m := atScopeFilter.FindStringSubmatch(filter); m != nil {
		below, filter = false, strings.TrimSpace(m[2])
	}
	if filter != "" {
		m := principalFilter.FindStringSubmatch(filter)
		if m == nil {
			rest.WriteError(w, rest.Errorf(http.StatusBadRequest, "UnsupportedQuery", "The filter is not supported: use atScope(), principalId eq '{id}' or assignedTo('{id}')."), c.id)
			return
		}
		principal = m[2] + m[3]
	}
	value := []any{}
	for _, found := range s.policy.List("") {
		above := reaches(found.Scope, c.scope)
		if !above && (!below || !reaches(c.scope, found.Scope)) {
			continue
		}
		if principal != "" && !strings.EqualFold(principal, found.PrincipalID) {
			continue
		}
		a, ok, err := s.store.get(r.Context(), found.ID)
		if err != nil {
			s.log.Error("list role assignments", "request", c.id, "error", err.Error())
			rest.WriteError(w, err, c.id)
			return
		}
		if ok {
			value = append(value, s.wire(a))
		}
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"value": value})
}

// reaches reports whether scope is id or lies above it.
func reaches(scope, id string) bool {
	scope, id = strings.ToLower(strings.TrimRight(scope, "/")), strings.ToLower(strings.TrimRight(id, "/"))
	return scope == id || strings.HasPrefix(id, scope+"/")
}

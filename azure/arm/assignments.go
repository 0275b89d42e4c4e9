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
		RoleDefinitionID                   string `json:"roleDefinitionId"`
		PrincipalID                        string `json:"principalId"`
		PrincipalType                      string `json:"principalType"`
		Description                        string `json:"description"`
		Condition                          string `json:"condition"`
		ConditionVersion                   string `json:"conditionVersion"`
		DelegatedManagedIdentityResourceID string `json:"delegatedManagedIdentityResourceId"`
	} `json:"properties"`
	problem error // why the body cannot be used, said once the caller may hear it
}

// attributes are what conditions may know of a request: the role assignment
// that it would write, and the one that is there. They are worked out before
// anything is decided, so they must not answer: a body that cannot be read has
// no attributes.
func (s *Server) attributes(r *http.Request, c *call) (rbac.Attributes, error) {
	var known rbac.Attributes
	if c.action != actionAssignmentWrite && c.action != actionAssignmentDelete {
		return known, nil
	}
	stored, exists, err := getDocument[assignment](r.Context(), s.store.db, kindAssignment, assignmentID(c.scope, c.params["name"]))
	if err != nil {
		return known, err
	}
	if exists {
		c.stored = &stored
		known.Resource = rbac.AssignmentAttributes(stored.RoleDefinitionID, stored.PrincipalID, s.trueType(stored.PrincipalID, stored.PrincipalType))
	}
	if c.action == actionAssignmentDelete {
		return known, nil
	}
	c.wanted = &assignmentBody{}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(c.wanted); err != nil {
		*c.wanted = assignmentBody{problem: err}
		return known, nil
	}
	p := c.wanted.Properties
	// Of a principal that the tenant does not know, the type is what the
	// caller says and not known.
	known.Request = rbac.AssignmentAttributes(p.RoleDefinitionID, p.PrincipalID, s.principalType(strings.ToLower(p.PrincipalID)))
	return known, nil
}

// trueType is what the tenant says a principal is, else what was stored of it.
func (s *Server) trueType(objectID, stored string) string {
	if known := s.principalType(objectID); known != "" {
		return known
	}
	return stored
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
		"createdOn": timestamp(a.CreatedOn), "updatedOn": timestamp(a.UpdatedOn),
		"createdBy": orNull(a.CreatedBy), "updatedBy": orNull(a.UpdatedBy), "delegatedManagedIdentityResourceId": orNull(a.DelegatedManagedIdentityResourceID),
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
func (s *Server) readAssignment(c *call) (assignment, error) {
	var a assignment
	name := strings.ToLower(c.params["name"])
	if !guidPattern.MatchString(name) {
		return a, rest.Errorf(http.StatusBadRequest, "InvalidRoleAssignmentId", "The role assignment ID '%.64s' is not valid. The role assignment ID must be a GUID.", c.params["name"])
	}
	scope, err := s.underKnown(c.scope)
	if err != nil {
		return a, err
	}
	if c.wanted.problem != nil {
		return a, unreadable(c.wanted.problem)
	}
	p := c.wanted.Properties
	principal := strings.ToLower(p.PrincipalID)
	if !guidPattern.MatchString(principal) {
		return a, rest.Errorf(http.StatusBadRequest, "InvalidPrincipalId", "A valid principal ID must be provided for role assignment: properties.principalId is the object id of a user, a group or a service principal.")
	}
	role, known := s.policy.Role(p.RoleDefinitionID)
	if !known || p.RoleDefinitionID == "" {
		return a, rest.Errorf(http.StatusBadRequest, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%.64s' does not exist.", guidOf(p.RoleDefinitionID))
	}
	if !role.AssignableAt(scope) {
		return a, rest.Errorf(http.StatusBadRequest, "RoleAssignmentScopeNotAssignableToRoleDefinition", "The role %q may not be assigned at '%.300s': it is outside its assignable scopes.", role.Name, scope)
	}
	if p.PrincipalType, err = s.checkPrincipalType(principal, p.PrincipalType); err != nil {
		return a, err
	}
	if err := checkCondition(p.Condition, p.ConditionVersion); err != nil {
		return a, err
	}
	return assignment{
		Assignment: rbac.Assignment{ID: assignmentID(scope, name), RoleDefinitionID: strings.ToLower(role.ID), PrincipalID: principal,
			Scope: scope, Condition: p.Condition, CreatedOn: c.at},
		PrincipalType: p.PrincipalType, Description: p.Description, ConditionVersion: p.ConditionVersion,
		DelegatedManagedIdentityResourceID: p.DelegatedManagedIdentityResourceID,
		CreatedBy:                          c.caller.ObjectID, UpdatedOn: c.at, UpdatedBy: c.caller.ObjectID,
	}, nil
}

func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return rest.Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
}

// checkPrincipalType holds a stated type against what the tenant knows.
func (s *Server) checkPrincipalType(principal, stated string) (string, error) {
	if stated != "" && !slices.Contains([]string{"User", "Group", "ServicePrincipal", "ForeignGroup", "Device"}, stated) {
		return "", rest.Errorf(http.StatusBadRequest, "InvalidPrincipalType", "The principal type %.40q is not valid.", stated)
	}
	switch known := s.principalType(principal); {
	case known != "" && stated != "" && known != stated:
		return "", rest.Errorf(http.StatusBadRequest, "UnmatchedPrincipalType", "The PrincipalId '%s' has type '%s', which is different from specified PrincipalType '%s'.", principal, known, stated)
	case known != "":
		return known, nil
	case stated != "":
		return stated, nil
	}
	return "ServicePrincipal", nil
}

// checkCondition refuses a condition that could not be evaluated: it would
// grant nothing, and nobody would know why.
func checkCondition(condition, version string) error {
	if condition == "" {
		return nil
	}
	if version != "2.0" {
		return rest.Errorf(http.StatusBadRequest, "InvalidConditionVersion", "The given condition is invalid: conditionVersion must be \"2.0\".")
	}
	if _, err := rbac.ParseCondition(condition); err != nil {
		return rest.Errorf(http.StatusBadRequest, "InvalidCondition", "The given condition is invalid: %s.", strings.TrimPrefix(err.Error(), "condition, "))
	}
	return nil
}

func (s *Server) putAssignment(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	a, created, err := s.assign(r, c)
	if err != nil {
		s.failChange(w, r, c, assignmentID(c.scope, c.params["name"]), err)
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
	if a, err = s.readAssignment(c); err != nil {
		return a, false, err
	}
	ctx := r.Context()
	s.writing.Lock()
	defer s.writing.Unlock()
	old, exists, err := getDocument[assignment](ctx, s.store.db, kindAssignment, a.ID)
	if err != nil {
		return a, false, err
	}
	if err := c.unchanged(old, exists); err != nil {
		return a, false, err
	}
	if _, known := s.policy.Role(a.RoleDefinitionID); !known { // deleted since
		return a, false, rest.Errorf(http.StatusBadRequest, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%.64s' does not exist.", a.RoleDefinitionID)
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
	if err := s.store.put(ctx, kindAssignment, a.ID, a); err != nil {
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
		s.failChange(w, r, c, assignmentID(c.scope, c.params["name"]), err)
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
	a, existed, err = getDocument[assignment](ctx, s.store.db, kindAssignment, id)
	if err != nil || !existed {
		return a, false, err
	}
	if err := c.unchanged(a, true); err != nil {
		return a, true, err
	}
	if err := s.announce(r, c, a.ID); err != nil {
		return a, true, err
	}
	if err := s.store.delete(ctx, kindAssignment, a.ID); err != nil {
		return a, true, err
	}
	s.policy.Delete(a.ID)
	return a, true, nil
}

// unchanged refuses to act on another assignment than the one that the
// caller's permission was held against.
func (c *call) unchanged(now assignment, exists bool) error {
	seen := c.stored
	if exists == (seen != nil) && (seen == nil || guidOf(seen.RoleDefinitionID) == guidOf(now.RoleDefinitionID) && strings.EqualFold(seen.PrincipalID, now.PrincipalID)) {
		return nil
	}
	return rest.Errorf(http.StatusConflict, "Conflict", "The role assignment was changed by somebody else at the same time. Try again.")
}

// failChange answers a change that was not made, and leaves its row.
func (s *Server) failChange(w http.ResponseWriter, r *http.Request, c *call, id string, err error) {
	e := rest.AsError(err, c.id)
	if e.Status == http.StatusInternalServerError {
		s.log.Error(c.route.Name, "method", r.Method, "request", c.id, "error", err.Error())
	}
	s.activity(r, c, id, "Failure", e)
	rest.WriteError(w, e, c.id)
}

func (s *Server) getAssignment(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	a, ok, err := getDocument[assignment](r.Context(), s.store.db, kindAssignment, assignmentID(c.scope, c.params["name"]))
	if err != nil {
		s.fail(w, c, err)
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

// scopeFilter reads the $filter of a list of assignments of either kind.
func scopeFilter(r *http.Request) (below bool, principal string, err error) {
	below = true
	filter := strings.TrimSpace(r.URL.Query().Get("$filter"))
	if m := atScopeFilter.FindStringSubmatch(filter); m != nil {
		below, filter = false, strings.TrimSpace(m[2])
	}
	if filter == "" {
		return below, "", nil
	}
	m := principalFilter.FindStringSubmatch(filter)
	if m == nil {
		return false, "", rest.Errorf(http.StatusBadRequest, "UnsupportedQuery", "The filter is not supported: use atScope(), principalId eq '{id}' or assignedTo('{id}').")
	}
	return below, m[2] + m[3], nil
}

// listAssignments lists what is assigned at the scope, above it and below it;
// with atScope() not below. A principal can be asked for.
func (s *Server) listAssignments(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	below, principal, err := scopeFilter(r)
	if err != nil {
		rest.WriteError(w, err, c.id)
		return
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
		a, ok, err := getDocument[assignment](r.Context(), s.store.db, kindAssignment, found.ID)
		if err != nil {
			s.fail(w, c, err)
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

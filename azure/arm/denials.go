package arm

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"verdant/azure/rbac"
	"verdant/azure/rest"
)

const denialType = "Microsoft.Authorization/denyAssignments"

// denialBody is the body of a PUT.
type denialBody struct {
	Properties struct {
		Name                    string           `json:"denyAssignmentName"`
		Description             string           `json:"description"`
		Permissions             []permissionBody `json:"permissions"`
		DoNotApplyToChildScopes bool             `json:"doNotApplyToChildScopes"`
		Principals              []principalBody  `json:"principals"`
		ExcludePrincipals       []principalBody  `json:"excludePrincipals"`
		IsSystemProtected       bool             `json:"isSystemProtected"`
	} `json:"properties"`
}

type principalBody struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// maxDenied bounds the principals of a deny assignment: each is looked at on
// every request below its scope.
const maxDenied = 64

func denialID(scope, name string) string {
	return strings.TrimRight(scope, "/") + "/providers/" + denialType + "/" + strings.ToLower(name)
}

func (s *Server) denialWire(d rbac.DenyAssignment) map[string]any {
	principals := func(ids []string) []any {
		out := []any{}
		for _, id := range ids {
			typ := s.principalType(id)
			if id == rbac.Everyone {
				typ = "SystemDefined"
			}
			out = append(out, map[string]any{"id": id, "type": typ})
		}
		return out
	}
	permission := map[string]any{"actions": list(d.Actions), "notActions": list(d.NotActions), "dataActions": list(d.DataActions), "notDataActions": list(d.NotDataActions)}
	if d.Condition != "" {
		permission["condition"], permission["conditionVersion"] = d.Condition, "2.0"
	}
	return map[string]any{"id": d.ID, "name": guidOf(d.ID), "type": denialType, "properties": map[string]any{
		"denyAssignmentName": d.Name, "description": d.Description, "scope": d.Scope, "doNotApplyToChildScopes": d.DoNotApplyToChildScopes,
		"permissions": []any{permission}, "principals": principals(d.Principals), "excludePrincipals": principals(d.ExcludePrincipals),
		"isSystemProtected": d.SystemProtected, "createdOn": timestamp(d.CreatedOn),
	}}
}

func (s *Server) denialName(id string) string {
	for _, d := range s.policy.Denials() {
		if rest.SameID(d.ID, id) {
			return d.Name
		}
	}
	return ""
}

func (s *Server) readDenial(r *http.Request, c *call) (rbac.DenyAssignment, error) {
	var d rbac.DenyAssignment
	if !guidPattern.MatchString(strings.ToLower(c.params["name"])) {
		return d, rest.Errorf(http.StatusBadRequest, "InvalidDenyAssignmentId", "The deny assignment ID '%.64s' is not valid. The deny assignment ID must be a GUID.", c.params["name"])
	}
	scope, err := s.underKnown(c.scope)
	if err != nil {
		return d, err
	}
	var body denialBody
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return d, unreadable(err)
	}
	p := body.Properties
	if p.Name == "" || len(p.Name) > 512 || len(p.Description) > 2048 || len(p.Permissions) != 1 || p.IsSystemProtected {
		return d, rest.Errorf(http.StatusBadRequest, "InvalidDenyAssignment", "A deny assignment has a denyAssignmentName, exactly one element of permissions, and is not system protected.")
	}
	permission := p.Permissions[0]
	if err := permission.check(); err != nil {
		return d, err
	}
	d = rbac.DenyAssignment{ID: denialID(scope, c.params["name"]), Name: p.Name, Description: p.Description, Actions: permission.Actions,
		NotActions: permission.NotActions, DataActions: permission.DataActions, NotDataActions: permission.NotDataActions,
		Scope: scope, DoNotApplyToChildScopes: p.DoNotApplyToChildScopes, Condition: permission.Condition, CreatedOn: c.at}
	for _, list := range []struct {
		from []principalBody
		to   *[]string
	}{{p.Principals, &d.Principals}, {p.ExcludePrincipals, &d.ExcludePrincipals}} {
		for _, principal := range list.from {
			id := strings.ToLower(principal.ID)
			if !guidPattern.MatchString(id) {
				return d, rest.Errorf(http.StatusBadRequest, "InvalidPrincipalId", "A principal's id is its object id, or %s for everyone.", rbac.Everyone)
			}
			*list.to = append(*list.to, id)
		}
	}
	if len(d.Principals) == 0 || len(d.Principals)+len(d.ExcludePrincipals) > maxDenied || slices.Contains(d.ExcludePrincipals, rbac.Everyone) {
		return d, rest.Errorf(http.StatusBadRequest, "InvalidDenyAssignmentPrincipals", "A deny assignment names 1 to %d principals in all, and does not exclude everyone.", maxDenied)
	}
	return d, nil
}

func (s *Server) putDenial(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	d, err := s.readDenial(r, c)
	if err == nil {
		err = s.changeDenial(r, c, d.ID, func() error {
			if err := s.store.put(r.Context(), kindDenial, d.ID, d); err != nil {
				return err
			}
			s.policy.PutDenial(d)
			return nil
		})
	}
	if err != nil {
		s.failChange(w, r, c, denialID(c.scope, c.params["name"]), err)
		return
	}
	s.activity(r, c, d.ID, "Success", nil)
	rest.WriteJSON(w, http.StatusCreated, s.denialWire(d))
}

func (s *Server) changeDenial(r *http.Request, c *call, id string, change func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.announce(r, c, id); err != nil {
		return err
	}
	return change()
}

func (s *Server) deleteDenial(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	d, existed := s.denial(c)
	if !existed {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	err := s.changeDenial(r, c, d.ID, func() error {
		if d.SystemProtected {
			return rest.Errorf(http.StatusForbidden, "DenyAssignmentIsSystemProtected", "The deny assignment is protected by the system.")
		}
		if err := s.store.delete(r.Context(), kindDenial, d.ID); err != nil {
			return err
		}
		s.policy.DeleteDenial(d.ID)
		return nil
	})
	if err != nil {
		s.failChange(w, r, c, d.ID, err)
		return
	}
	s.activity(r, c, d.ID, "Success", nil)
	rest.WriteJSON(w, http.StatusOK, s.denialWire(d))
}

// denial finds the deny assignment that the request names.
func (s *Server) denial(c *call) (rbac.DenyAssignment, bool) {
	id := denialID(c.scope, c.params["name"])
	for _, d := range s.policy.Denials() {
		if rest.SameID(d.ID, id) {
			return d, true
		}
	}
	return rbac.DenyAssignment{}, false
}

func (s *Server) getDenial(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	d, ok := s.denial(c)
	if !ok {
		rest.WriteError(w, rest.Errorf(http.StatusNotFound, "DenyAssignmentNotFound", "The deny assignment '%.64s' is not found.", c.params["name"]), c.id)
		return
	}
	rest.WriteJSON(w, http.StatusOK, s.denialWire(d))
}

// listDenials lists what is denied at the scope, above it and below it; with
// atScope() not below. A principal can be asked for.
func (s *Server) listDenials(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	below, principal, err := scopeFilter(r)
	if err != nil {
		rest.WriteError(w, err, c.id)
		return
	}
	value := []any{}
	for _, d := range s.policy.Denials() {
		if !reaches(d.Scope, c.scope) && (!below || !reaches(c.scope, d.Scope)) {
			continue
		}
		if principal == "" || slices.Contains(d.Principals, strings.ToLower(principal)) {
			value = append(value, s.denialWire(d))
		}
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"value": value})
}

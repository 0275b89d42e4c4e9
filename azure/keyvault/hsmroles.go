package keyvault

import (
	"cmp"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/route"
)

const (
	authorization    = "/providers/Microsoft.Authorization/"
	definitionType   = "Microsoft.Authorization/roleDefinitions"
	assignmentType   = "Microsoft.Authorization/roleAssignments"
	definitionPrefix = "Microsoft.KeyVault" + authorization + "roleDefinitions/"

	// Bounds of what one HSM keeps, well over what the real service takes.
	maxCustomRoles      = 200
	maxLocalAssignments = 2000
)

// permission is one entry of a role. What its not-lists take away, they take
// away in this entry only.
type permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
}

// customRole is a role definition that an HSM's administrators made.
type customRole struct {
	Name        string       `json:"name"` // GUID
	RoleName    string       `json:"roleName"`
	Description string       `json:"description"`
	Permissions []permission `json:"permissions"`
}

// effective are the data actions that the entries give together.
func (r customRole) effective() []string {
	var out []string
	for _, p := range r.Permissions {
		for _, action := range p.DataActions {
			if !slices.ContainsFunc(p.NotDataActions, func(not string) bool { return strings.EqualFold(not, action) }) {
				out = append(out, action)
			}
		}
	}
	return out
}

// localAssignment gives a principal a role at "/", "/keys" or "/keys/NAME".
type localAssignment struct {
	Name      string `json:"name"` // GUID
	Role      string `json:"role"` // GUID
	Principal string `json:"principal"`
	Scope     string `json:"scope"`
}

func (a localAssignment) id() string {
	return strings.TrimRight(a.Scope, "/") + authorization + "roleAssignments/" + a.Name
}

func (a localAssignment) administers() bool {
	return a.Role == rbac.ManagedHSMAdministrator && a.Scope == "/"
}

type roleDefinitionOut struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Properties roleProperties `json:"properties"`
}

type roleProperties struct {
	RoleName         string       `json:"roleName"`
	Type             string       `json:"type"`
	Description      string       `json:"description"`
	Permissions      []permission `json:"permissions"`
	AssignableScopes []string     `json:"assignableScopes"`
}

type roleAssignmentOut struct {
	ID         string               `json:"id"`
	Name       string               `json:"name"`
	Type       string               `json:"type"`
	Properties assignmentProperties `json:"properties"`
}

type assignmentProperties struct {
	Scope     string `json:"scope,omitempty"`
	Role      string `json:"roleDefinitionId"`
	Principal string `json:"principalId"`
}

func showRole(r customRole, kind string) roleDefinitionOut {
	permissions := make([]permission, len(r.Permissions))
	for i, p := range r.Permissions {
		permissions[i] = permission{Actions: orEmpty(p.Actions), NotActions: orEmpty(p.NotActions), DataActions: orEmpty(p.DataActions), NotDataActions: orEmpty(p.NotDataActions)}
	}
	return roleDefinitionOut{ID: definitionPrefix + r.Name, Name: r.Name, Type: definitionType, Properties: roleProperties{RoleName: r.RoleName, Type: kind,
		Description: r.Description, Permissions: permissions, AssignableScopes: []string{"/"}}}
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func builtInRoles() []roleDefinitionOut {
	var out []roleDefinitionOut
	for _, d := range rbac.ManagedHSM() {
		out = append(out, showRole(customRole{Name: d.ID, RoleName: d.Name, Permissions: []permission{{DataActions: d.DataActions}}}, "AKVBuiltInRole"))
	}
	return out
}

func showAssignment(a localAssignment) roleAssignmentOut {
	return roleAssignmentOut{ID: a.id(), Name: a.Name, Type: assignmentType,
		Properties: assignmentProperties{Scope: a.Scope, Role: definitionPrefix + a.Role, Principal: a.Principal}}
}

// roleRoutes adds the HSM's own access control, for each kind of scope.
func (s *Server) roleRoutes(add adder) {
	for _, scope := range []string{"", "/keys", "/keys/{name}"} {
		const definitions, assignments = actionsHSM + "roleDefinitions/", actionsHSM + "roleAssignments/"
		path := scope + authorization + "roleDefinitions"
		add("RoleDefinitionList", http.MethodGet, path, definitions+"read/action", route.NoBody, quick, s.listRoles)
		add("RoleDefinitionGet", http.MethodGet, path+"/{guid}", definitions+"read/action", route.NoBody, quick, s.getRole)
		add("RoleDefinitionSet", http.MethodPut, path+"/{guid}", definitions+"write/action", normalBody, quick, s.setRole)
		add("RoleDefinitionDelete", http.MethodDelete, path+"/{guid}", definitions+"delete/action", smallBody, quick, s.deleteRole)
		path = scope + authorization + "roleAssignments"
		add("RoleAssignmentList", http.MethodGet, path, assignments+"read/action", route.NoBody, quick, s.listAssignments)
		add("RoleAssignmentGet", http.MethodGet, path+"/{guid}", assignments+"read/action", route.NoBody, quick, s.getAssignment)
		add("RoleAssignmentCreate", http.MethodPut, path+"/{guid}", assignments+"write/action", normalBody, quick, s.createAssignment)
		add("RoleAssignmentDelete", http.MethodDelete, path+"/{guid}", assignments+"delete/action", smallBody, quick, s.deleteAssignment)
	}
}

// scopeOf is the scope in a role operation's path.
func (c *call) scopeOf(r *http.Request) string {
	switch {
	case c.name != "":
		return "/keys/" + c.name
	case strings.HasPrefix(r.URL.Path, "/keys/"):
		return "/keys"
	}
	return "/"
}

var guidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func roleNotFound() error {
	return rest.Errorf(http.StatusNotFound, "RoleDefinitionNotFound", "Requested role definition not found")
}

func assignmentNotFound() error {
	return rest.Errorf(http.StatusNotFound, "RoleAssignmentNotFound", "Requested role assignment not found")
}

type valueList[V any] struct {
	Value []V `json:"value"`
}

var roleFilter = regexp.MustCompile(`(?i)^type eq '(AKVBuiltInRole|CustomRole)'$`)

func (s *Server) listRoles(_ *call, r *http.Request) (int, any, error) {
	v, err := s.view(r.Context())
	if err != nil {
		return 0, nil, err
	}
	all := builtInRoles()
	for _, custom := range v.roles {
		all = append(all, showRole(custom, "CustomRole"))
	}
	filter := r.URL.Query().Get("$filter")
	if m := roleFilter.FindStringSubmatch(filter); m != nil {
		all = slices.DeleteFunc(all, func(d roleDefinitionOut) bool { return !strings.EqualFold(d.Properties.Type, m[1]) })
	} else if filter != "" && filter != "atScopeAndBelow()" {
		return 0, nil, badParameter("The $filter parameter is not supported: use type eq 'CustomRole' or atScopeAndBelow().")
	}
	return http.StatusOK, valueList[roleDefinitionOut]{all}, nil
}

func (v *localView) role(guid string) (roleDefinitionOut, bool) {
	for _, d := range builtInRoles() {
		if strings.EqualFold(d.Name, guid) {
			return d, true
		}
	}
	for _, custom := range v.roles {
		if strings.EqualFold(custom.Name, guid) {
			return showRole(custom, "CustomRole"), true
		}
	}
	return roleDefinitionOut{}, false
}

func (s *Server) getRole(_ *call, r *http.Request) (int, any, error) {
	v, err := s.view(r.Context())
	if err != nil {
		return 0, nil, err
	}
	d, ok := v.role(r.PathValue("guid"))
	if !ok {
		return 0, nil, roleNotFound()
	}
	return http.StatusOK, d, nil
}

type roleIn struct {
	Properties *struct {
		RoleName         string       `json:"roleName"`
		Type             string       `json:"type"`
		Description      string       `json:"description"`
		Permissions      []permission `json:"permissions"`
		AssignableScopes []string     `json:"assignableScopes"`
	} `json:"properties"`
}

// role checks a definition. A custom role names data actions of the HSM one by
// one: patterns would give away what a later version adds.
func (in *roleIn) role(guid string) (customRole, error) {
	p := in.Properties
	if p == nil {
		return customRole{}, badParameter("Property properties is required.")
	}
	if p.Type != "" && !strings.EqualFold(p.Type, "CustomRole") {
		return customRole{}, badParameter("Property properties.type has an invalid value '%s': only a CustomRole can be written.", shorten(p.Type))
	}
	if len(p.RoleName) > 512 || len(p.Description) > 2048 || len(p.Permissions) > 16 {
		return customRole{}, badParameter("The role definition is too long.")
	}
	for _, scope := range p.AssignableScopes {
		if scope != "/" {
			return customRole{}, badParameter("Property properties.assignableScopes has an invalid value '%s': a managed HSM supports '/' only.", shorten(scope))
		}
	}
	known := rbac.ManagedHSMActions()
	for i, entry := range p.Permissions {
		if len(entry.Actions)+len(entry.NotActions) > 0 {
			return customRole{}, badParameter("Property properties.permissions has actions: a role of a managed HSM has dataActions only.")
		}
		for _, list := range []*[]string{&p.Permissions[i].DataActions, &p.Permissions[i].NotDataActions} {
			for j, action := range *list {
				at := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, action) })
				if at < 0 {
					return customRole{}, badParameter("Property properties.permissions has an unknown data action '%s'.", shorten(action))
				}
				(*list)[j] = known[at]
			}
		}
	}
	return customRole{Name: strings.ToLower(guid), RoleName: p.RoleName, Description: p.Description, Permissions: p.Permissions}, nil
}

func isBuiltIn(guid string) bool {
	return slices.ContainsFunc(rbac.ManagedHSM(), func(d rbac.RoleDefinition) bool { return strings.EqualFold(d.ID, guid) })
}

func (s *Server) setRole(c *call, r *http.Request) (int, any, error) {
	guid := r.PathValue("guid")
	if !guidPattern.MatchString(guid) {
		return 0, nil, badParameter("The role definition's name must be a GUID.")
	}
	if c.scopeOf(r) != "/" {
		return 0, nil, badParameter("Role definitions of a managed HSM have the scope '/' only.")
	}
	var in roleIn
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	role, err := in.role(guid)
	if err != nil {
		return 0, nil, err
	}
	if isBuiltIn(guid) {
		return 0, nil, forbidden("", "A built-in role cannot be changed.")
	}
	c.objectID = s.url("providers", "Microsoft.Authorization", "roleDefinitions", role.Name)
	err = s.changeOn(r.Context(), func(v *localView, tx Tx, _ *hsmState) error {
		if _, there := v.role(guid); !there && len(v.roles) >= maxCustomRoles {
			return conflict("RoleDefinitionLimitExceeded", "The managed HSM has %d custom roles, which is as many as it keeps.", maxCustomRoles)
		}
		return putRecord(tx, kindRole, role.Name, role)
	})
	return http.StatusCreated, showRole(role, "CustomRole"), err
}

func (s *Server) deleteRole(c *call, r *http.Request) (int, any, error) {
	guid := r.PathValue("guid")
	switch {
	case !guidPattern.MatchString(guid) || c.scopeOf(r) != "/":
		return 0, nil, roleNotFound()
	case isBuiltIn(guid):
		return 0, nil, forbidden("", "A built-in role cannot be deleted.")
	}
	c.objectID = s.url("providers", "Microsoft.Authorization", "roleDefinitions", strings.ToLower(guid))
	var gone customRole
	err := s.changeOn(r.Context(), func(v *localView, tx Tx, _ *hsmState) (err error) {
		if gone, err = getRecord[customRole](tx, kindRole, guid); err != nil {
			return err
		}
		if slices.ContainsFunc(v.assignments, func(a localAssignment) bool { return a.Role == gone.Name }) {
			return conflict("RoleDefinitionHasAssignments", "The role definition is assigned: delete its assignments first.")
		}
		return tx.Delete(kindRole, guid)
	})
	if errors.Is(err, ErrNoObject) {
		err = roleNotFound()
	}
	return http.StatusOK, showRole(gone, "CustomRole"), err
}

var (
	principalFilter = regexp.MustCompile(`(?i)^principalId eq '?([0-9a-f-]{36})'?$`)
	atScope         = "atScope()"
)

func (s *Server) listAssignments(c *call, r *http.Request) (int, any, error) {
	v, err := s.view(r.Context())
	if err != nil {
		return 0, nil, err
	}
	filter, scope := r.URL.Query().Get("$filter"), c.scopeOf(r)
	m := principalFilter.FindStringSubmatch(filter)
	if filter != "" && m == nil && !strings.EqualFold(filter, atScope) {
		return 0, nil, badParameter("The $filter parameter is not supported: use atScope() or principalId eq {id}.")
	}
	out := []roleAssignmentOut{}
	for _, a := range v.assignments {
		above, below := reaches(a.Scope, scope), reaches(scope, a.Scope)
		if above || below && !strings.EqualFold(filter, atScope) {
			if m == nil || strings.EqualFold(m[1], a.Principal) {
				out = append(out, showAssignment(a))
			}
		}
	}
	slices.SortFunc(out, func(a, b roleAssignmentOut) int { return cmp.Compare(a.ID, b.ID) })
	return http.StatusOK, valueList[roleAssignmentOut]{out}, nil
}

// reaches reports whether one scope is another or lies above it.
func reaches(scope, other string) bool {
	scope, other = strings.ToLower(strings.TrimRight(scope, "/")), strings.ToLower(strings.TrimRight(other, "/"))
	return other == scope || strings.HasPrefix(other, scope+"/")
}

func (s *Server) getAssignment(c *call, r *http.Request) (int, any, error) {
	v, err := s.view(r.Context())
	if err != nil {
		return 0, nil, err
	}
	guid, scope := r.PathValue("guid"), c.scopeOf(r)
	for _, a := range v.assignments {
		if strings.EqualFold(a.Name, guid) && strings.EqualFold(a.Scope, scope) {
			return http.StatusOK, showAssignment(a), nil
		}
	}
	return 0, nil, assignmentNotFound()
}

// newAssignment checks the body of a create.
func (v *localView) newAssignment(guid, scope string, in assignmentProperties) (localAssignment, error) {
	if !guidPattern.MatchString(in.Principal) {
		return localAssignment{}, badParameter("Property properties.principalId must be an object id.")
	}
	role := in.Role[strings.LastIndexByte(in.Role, '/')+1:]
	d, ok := v.role(role)
	if !ok {
		return localAssignment{}, roleNotFound()
	}
	a := localAssignment{Name: strings.ToLower(guid), Role: d.Name, Principal: strings.ToLower(in.Principal), Scope: scope}
	for _, other := range v.assignments {
		if other.Role == a.Role && strings.EqualFold(other.Scope, scope) && other.Principal == a.Principal {
			return localAssignment{}, conflict("RoleAssignmentExists", "The role assignment already exists.")
		}
	}
	if len(v.assignments) >= maxLocalAssignments {
		return localAssignment{}, conflict("RoleAssignmentLimitExceeded", "The managed HSM has %d role assignments, which is as many as it keeps.", maxLocalAssignments)
	}
	return a, nil
}

func (s *Server) createAssignment(c *call, r *http.Request) (int, any, error) {
	guid := r.PathValue("guid")
	if !guidPattern.MatchString(guid) {
		return 0, nil, badParameter("The role assignment's name must be a GUID.")
	}
	var in struct {
		Properties *assignmentProperties `json:"properties"`
	}
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if in.Properties == nil {
		return 0, nil, badParameter("Property properties is required.")
	}
	var a localAssignment
	err := s.changeOn(r.Context(), func(v *localView, tx Tx, st *hsmState) (err error) {
		if a, err = v.newAssignment(guid, c.scopeOf(r), *in.Properties); err != nil {
			return err
		}
		switch _, err := tx.Object(kindAssignment, a.Name); {
		case err == nil:
			return conflict("RoleAssignmentExists", "A role assignment with this name exists.")
		case !errors.Is(err, ErrNoObject):
			return err
		}
		if a.administers() {
			st.Administrators = append(st.Administrators, a.Name)
		}
		return putRecord(tx, kindAssignment, a.Name, a)
	})
	if err != nil {
		return 0, nil, err
	}
	c.objectID = "https://" + s.host + a.id()
	return http.StatusCreated, showAssignment(a), nil
}

func (s *Server) deleteAssignment(c *call, r *http.Request) (int, any, error) {
	guid, scope := r.PathValue("guid"), c.scopeOf(r)
	if !guidPattern.MatchString(guid) {
		return 0, nil, assignmentNotFound()
	}
	var gone localAssignment
	err := s.changeState(r.Context(), func(tx Tx, st *hsmState) (err error) {
		if gone, err = getRecord[localAssignment](tx, kindAssignment, guid); err != nil {
			return err
		}
		if !strings.EqualFold(gone.Scope, scope) {
			return ErrNoObject
		}
		if gone.administers() {
			left := slices.DeleteFunc(slices.Clone(st.Administrators), func(name string) bool { return name == gone.Name })
			if len(left) == 0 {
				return conflict("LastAdministrator", "This is the last assignment of the role Managed HSM Administrator at '/': without it nobody could ever manage the HSM again.")
			}
			st.Administrators = left
		}
		return tx.Delete(kindAssignment, guid)
	})
	if errors.Is(err, ErrNoObject) {
		return 0, nil, assignmentNotFound()
	}
	if err != nil {
		return 0, nil, err
	}
	c.objectID = "https://" + s.host + gone.id()
	return http.StatusOK, showAssignment(gone), nil
}

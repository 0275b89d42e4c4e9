package arm

import (
	"net/http"
	"time"

	"verdant/internal/route"
)

// Actions of Microsoft.Authorization.
const (
	actionAssignmentRead   = "Microsoft.Authorization/roleAssignments/read"
	actionAssignmentWrite  = "Microsoft.Authorization/roleAssignments/write"
	actionAssignmentDelete = "Microsoft.Authorization/roleAssignments/delete"
	actionDefinitionRead   = "Microsoft.Authorization/roleDefinitions/read"
	actionDefinitionWrite  = "Microsoft.Authorization/roleDefinitions/write"
	actionDefinitionDelete = "Microsoft.Authorization/roleDefinitions/delete"
	actionDenialRead       = "Microsoft.Authorization/denyAssignments/read"
	actionDenialWrite      = "Microsoft.Authorization/denyAssignments/write"
	actionDenialDelete     = "Microsoft.Authorization/denyAssignments/delete"
)

const (
	requestTimeout = 15 * time.Second
	maxBody        = 64 << 10
	assignments    = "/{scope...}/providers/Microsoft.Authorization/roleAssignments"
	definitions    = "/{scope...}/providers/Microsoft.Authorization/roleDefinitions"
	denials        = "/{scope...}/providers/Microsoft.Authorization/denyAssignments"
)

// Routes lists the operations. {scope...} stands for a scope of any length;
// the order matters where two patterns match.
func (s *Server) Routes() []route.Route {
	authorization := route.Versions{"2015-07-01", "2018-01-01-preview", "2018-07-01", "2020-04-01-preview", "2020-08-01-preview", "2020-10-01-preview", "2022-04-01", "2022-05-01-preview"}
	denying := route.Versions{"2018-07-01-preview", "2022-04-01", "2024-07-01-preview"}
	get := func(name, path string, versions route.Versions, action route.Action, h http.HandlerFunc) route.Route {
		return route.Route{Name: name, Method: http.MethodGet, Path: path, Versions: versions, Action: action,
			MaxBody: route.NoBody, Timeout: requestTimeout, Audit: route.AuditNone, Handler: h}
	}
	change := func(name, method, path string, versions route.Versions, action route.Action, h http.HandlerFunc) route.Route {
		body := int64(maxBody)
		if method == http.MethodDelete {
			body = route.NoBody
		}
		return route.Route{Name: name, Method: method, Path: path, Versions: versions, Action: action,
			MaxBody: body, Timeout: requestTimeout, Audit: route.AuditCall, Handler: h}
	}
	return []route.Route{
		get("Metadata", "/metadata/endpoints", route.AnyVersion, route.Anyone, s.serveMetadata),
		get("List tenants", "/tenants", route.AnyVersion, route.Decided, s.listTenants),
		get("List subscriptions", "/subscriptions", route.AnyVersion, route.Decided, s.listSubscriptions),
		change("Create role assignment", http.MethodPut, assignments+"/{name}", authorization, actionAssignmentWrite, s.putAssignment),
		change("Delete role assignment", http.MethodDelete, assignments+"/{name}", authorization, actionAssignmentDelete, s.deleteAssignment),
		change("Create or update role definition", http.MethodPut, definitions+"/{name}", authorization, actionDefinitionWrite, s.putDefinition),
		change("Delete role definition", http.MethodDelete, definitions+"/{name}", authorization, actionDefinitionDelete, s.deleteDefinition),
		change("Create deny assignment", http.MethodPut, denials+"/{name}", denying, actionDenialWrite, s.putDenial),
		change("Delete deny assignment", http.MethodDelete, denials+"/{name}", denying, actionDenialDelete, s.deleteDenial),
		get("Get deny assignment", denials+"/{name}", denying, actionDenialRead, s.getDenial),
		get("List deny assignments", denials, denying, actionDenialRead, s.listDenials),
		get("Get role assignment", assignments+"/{name}", authorization, actionAssignmentRead, s.getAssignment),
		get("List role assignments", assignments, authorization, actionAssignmentRead, s.listAssignments),
		get("Get role definition", definitions+"/{name}", authorization, route.Decided, s.getDefinition),
		get("List role definitions", definitions, authorization, route.Decided, s.listDefinitions),
		get("Get subscription", "/subscriptions/{subscription}", route.AnyVersion, route.Decided, s.getSubscription),
		get("List resource groups", "/subscriptions/{subscription}/resourceGroups", route.AnyVersion, route.Decided, s.listGroups),
		get("List resources of a subscription", "/subscriptions/{subscription}/resources", route.AnyVersion, route.Decided, s.listAll),
		get("List resources of a group", "/subscriptions/{subscription}/resourceGroups/{group}/resources", route.AnyVersion, route.Decided, s.listAll),
		get("Get or list resources", "/subscriptions/{rest...}", route.AnyVersion, route.Decided, s.getOrList),
		change("Replace resource", http.MethodPut, "/subscriptions/{rest...}", route.AnyVersion, route.Decided, s.changeResource),
		change("Update resource", http.MethodPatch, "/subscriptions/{rest...}", route.AnyVersion, route.Decided, s.changeResource),
	}
}

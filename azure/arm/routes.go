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
)

const (
	requestTimeout = 15 * time.Second
	maxBody        = 64 << 10
	assignments    = "/{scope...}/providers/Microsoft.Authorization/roleAssignments"
	definitions    = "/{scope...}/providers/Microsoft.Authorization/roleDefinitions"
)

// Routes lists the operations. {scope...} stands for a scope of any length;
// the order matters where two patterns match.
func (s *Server) Routes() []route.Route {
	authorization := route.Versions{"2015-07-01", "2018-01-01-preview", "2018-07-01", "2020-04-01-preview", "2020-08-01-preview", "2020-10-01-preview", "2022-04-01", "2022-05-01-preview"}
	get := func(name, path string, versions route.Versions, action route.Action, h http.HandlerFunc) route.Route {
		return route.Route{Name: name, Method: http.MethodGet, Path: path, Versions: versions, Action: action,
			MaxBody: route.NoBody, Timeout: requestTimeout, Audit: route.AuditNone, Handler: h}
	}
	change := func(name, method, action string, body int64, h http.HandlerFunc) route.Route {
		return route.Route{Name: name, Method: method, Path: assignments + "/{name}", Versions: authorization, Action: route.Action(action),
			MaxBody: body, Timeout: requestTimeout, Audit: route.AuditCall, Handler: h}
	}
	return []route.Route{
		get("Metadata", "/metadata/endpoints", route.AnyVersion, route.Anyone, s.serveMetadata),
		get("List tenants", "/tenants", route.AnyVersion, route.Decided, s.listTenants),
		get("List subscriptions", "/subscriptions", route.AnyVersion, route.Decided, s.listSubscriptions),
		change("Create role assignment", http.MethodPut, actionAssignmentWrite, maxBody, s.putAssignment),
		change("Delete role assignment", http.MethodDelete, actionAssignmentDelete, route.NoBody, s.deleteAssignment),
		get("Get role assignment", assignments+"/{name}", authorization, actionAssignmentRead, s.getAssignment),
		get("List role assignments", assignments, authorization, actionAssignmentRead, s.listAssignments),
		get("Get role definition", definitions+"/{name}", authorization, route.Decided, s.getDefinition),
		get("List role definitions", definitions, authorization, route.Decided, s.listDefinitions),
		get("Get subscription", "/subscriptions/{subscription}", route.AnyVersion, route.Decided, s.getSubscription),
		get("List resource groups", "/subscriptions/{subscription}/resourceGroups", route.AnyVersion, route.Decided, s.listGroups),
		get("List resources of a subscription", "/subscriptions/{subscription}/resources", route.AnyVersion, route.Decided, s.listAll),
		get("List resources of a group", "/subscriptions/{subscription}/resourceGroups/{group}/resources", route.AnyVersion, route.Decided, s.listAll),
		get("Get or list resources", "/subscriptions/{rest...}", route.AnyVersion, route.Decided, s.getOrList),
	}
}

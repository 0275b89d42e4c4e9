package arm

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"verdant/azure/rest"
)

const groupType = "Microsoft.Resources/resourceGroups"

// readAction is the permission to read a resource of a type.
func readAction(typ string) string {
	if strings.EqualFold(typ, groupType) {
		return "Microsoft.Resources/subscriptions/resourceGroups/read"
	}
	return typ + "/read"
}

// getOrList answers for one resource, or for those of one type at a place:
// the path's own form tells which.
func (s *Server) getOrList(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	id := "/" + strings.Trim(r.URL.Path, "/")
	typ, name, ok := typeOf(id)
	if !ok {
		rest.WriteError(w, rest.Errorf(http.StatusNotFound, "InvalidResourceType", "The path does not name a resource type that this control plane knows."), c.id)
		return
	}
	if name == "" {
		parent := segments(id)
		parent = parent[:len(parent)-1]
		if n := len(parent); n >= 2 && strings.EqualFold(parent[n-2], "providers") {
			parent = parent[:n-2] // …/providers/Namespace
		}
		s.writeList(w, c, "/"+strings.Join(parent, "/"), readAction(typ), func(res rest.Resource) bool { return strings.EqualFold(res.Type, typ) })
		return
	}
	if !s.may(c, readAction(typ), id) {
		rest.WriteError(w, s.forbidden(c, readAction(typ), id), c.id)
		return
	}
	res, found := s.Resource(id)
	if !found {
		rest.WriteError(w, notFound(id, typ, name), c.id)
		return
	}
	rest.WriteJSON(w, http.StatusOK, res)
}

// notFound is ARM's answer for a resource that is not there.
func notFound(id, typ, name string) *rest.Error {
	group := rest.ResourceGroup(id)
	if strings.EqualFold(typ, groupType) {
		return rest.Errorf(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%.90s' could not be found.", name)
	}
	return rest.Errorf(http.StatusNotFound, "ResourceNotFound", "The Resource '%.200s/%.90s' under resource group '%.90s' was not found.", typ, name, group)
}

// typeOf reads the resource type out of an ARM id: of the last provider in it,
// or a resource group. name is empty for the path of a collection.
func typeOf(id string) (typ, name string, ok bool) {
	parts := segments(id)
	last := -1
	for i, p := range parts {
		if strings.EqualFold(p, "providers") && i%2 == 0 {
			last = i
		}
	}
	if slices.Contains(parts, "") {
		return "", "", false
	}
	if last < 0 {
		if len(parts) == 4 && strings.EqualFold(parts[2], "resourceGroups") {
			return groupType, parts[3], true
		}
		return "", "", false
	}
	parts = parts[last+1:]
	if len(parts) < 2 {
		return "", "", false
	}
	typ = parts[0]
	for i := 1; i < len(parts); i += 2 {
		typ += "/" + parts[i]
		name = ""
		if i+1 < len(parts) {
			name = parts[i+1]
		}
	}
	return typ, name, true
}

// writeList answers with those resources below parent that keep holds for and
// the caller may read. A caller who may read none of them, nor the place
// itself, is refused rather than shown an empty list.
func (s *Server) writeList(w http.ResponseWriter, c *call, parent, action string, keep func(rest.Resource) bool) {
	prefix := strings.ToLower(strings.TrimRight(parent, "/")) + "/"
	value := []rest.Resource{}
	for _, res := range s.resources.Load().sorted {
		if strings.HasPrefix(strings.ToLower(res.ID), prefix) && keep(res) && s.may(c, readAction(res.Type), res.ID) {
			value = append(value, res)
		}
	}
	if len(value) == 0 && !s.may(c, action, parent) {
		rest.WriteError(w, s.forbidden(c, action, parent), c.id)
		return
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"value": value})
}

var typeFilter = regexp.MustCompile(`(?i)^\s*resourceType\s+eq\s+'([^']+)'\s*$`)

// listAll lists the resources of a subscription or a group, by type if
// $filter says so.
func (s *Server) listAll(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	typ := ""
	if filter := r.URL.Query().Get("$filter"); filter != "" {
		m := typeFilter.FindStringSubmatch(filter)
		if m == nil {
			rest.WriteError(w, rest.Errorf(http.StatusBadRequest, "InvalidFilterInQueryString", "The filter is not supported: use resourceType eq 'Namespace/type'."), c.id)
			return
		}
		typ = m[1]
	}
	s.writeList(w, c, c.scope, "Microsoft.Resources/subscriptions/resources/read", func(res rest.Resource) bool {
		return !strings.EqualFold(res.Type, groupType) && (typ == "" || strings.EqualFold(res.Type, typ))
	})
}

func (s *Server) listGroups(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	s.writeList(w, c, c.scope, readAction(groupType), func(res rest.Resource) bool { return strings.EqualFold(res.Type, groupType) })
}

// sees reports whether the caller has any role at or below a subscription:
// then it may know that the subscription is there.
func (s *Server) sees(c *call, subscription string) bool {
	if s.may(c, "Microsoft.Resources/subscriptions/read", subscription) {
		return true
	}
	for _, a := range s.policy.List(subscription) {
		if strings.EqualFold(a.PrincipalID, c.caller.ObjectID) || slices.ContainsFunc(c.caller.Groups, func(g string) bool { return strings.EqualFold(g, a.PrincipalID) }) {
			return true
		}
	}
	return false
}

func (s *Server) subscriptionBody(id string) map[string]any {
	return map[string]any{
		"id": "/subscriptions/" + id, "subscriptionId": id, "tenantId": s.cfg.TenantID, "displayName": s.cfg.TenantName,
		"state": "Enabled", "authorizationSource": "RoleBased", "managedByTenants": []any{},
		"subscriptionPolicies": map[string]any{"locationPlacementId": "Internal_2014-09-01", "quotaId": "Internal_2014-09-01", "spendingLimit": "Off"},
	}
}

func (s *Server) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	value := []any{}
	for _, sub := range s.cfg.Subscriptions {
		if s.sees(c, "/subscriptions/"+sub) {
			value = append(value, s.subscriptionBody(sub))
		}
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"value": value, "count": map[string]any{"type": "Total", "value": len(value)}})
}

func (s *Server) getSubscription(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	for _, sub := range s.cfg.Subscriptions {
		if strings.EqualFold(sub, c.params["subscription"]) && s.sees(c, c.scope) {
			rest.WriteJSON(w, http.StatusOK, s.subscriptionBody(sub))
			return
		}
	}
	rest.WriteError(w, rest.Errorf(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%.40s' could not be found.", c.params["subscription"]), c.id)
}

func (s *Server) listTenants(w http.ResponseWriter, _ *http.Request) {
	rest.WriteJSON(w, http.StatusOK, map[string]any{"value": []any{map[string]any{
		"id": "/tenants/" + s.cfg.TenantID, "tenantId": s.cfg.TenantID, "displayName": s.cfg.TenantName, "defaultDomain": s.cfg.Domain,
		"domains": []string{s.cfg.Domain}, "tenantCategory": "Home", "tenantType": "AAD",
	}}})
}

// serveMetadata describes the cloud to clients, as one object; the version of
// 2015 has fewer and other names.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	manager := "https://" + s.cfg.Host
	authentication := map[string]any{"loginEndpoint": s.cfg.Authority + "/", "tenant": "common", "identityProvider": "AAD",
		"audiences": []string{"https://management.core.windows.net/", "https://management.azure.com/"}}
	if r.URL.Query().Get("api-version") == "2015-01-01" {
		rest.WriteJSON(w, http.StatusOK, map[string]any{"galleryEndpoint": manager, "graphEndpoint": "https://graph.microsoft.com/",
			"graphAudience": "https://graph.microsoft.com/", "portalEndpoint": manager, "authentication": authentication})
		return
	}
	suffixes := s.cfg.Suffixes
	if suffixes == nil {
		suffixes = map[string]string{"keyVaultDns": "vault.azure.net", "acrLoginServer": "azurecr.io", "mysqlServerEndpoint": "mysql.database.azure.com", "storage": "core.windows.net"}
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{
		"name": "AzureCloud", "portal": manager, "authentication": authentication, "resourceManager": manager, "media": "", "suffixes": suffixes,
		"graph": "https://graph.microsoft.com/", "graphAudience": "https://graph.microsoft.com/", "microsoftGraphResourceId": "https://graph.microsoft.com/",
		"logAnalyticsResourceId": "https://api.loganalytics.io", "ossrDbmsResourceId": "https://ossrdbms-aad.database.windows.net",
		"activeDirectoryDataLake": "", "batch": "", "sqlManagement": manager, "gallery": manager,
	})
}

// underKnown reports whether a scope lies at, above or below something that
// exists: a subscription, or a resource with any object below it. It returns
// the scope in canonical spelling as far as that is known.
func (s *Server) underKnown(scope string) (string, error) {
	parts := segments(scope)
	for n := len(parts); n >= 4; n-- {
		res, ok := s.Resource("/" + strings.Join(parts[:n], "/"))
		if !ok {
			continue
		}
		if rest := parts[n:]; len(rest) > 0 {
			if strings.EqualFold(res.Type, groupType) {
				break // a resource of the group that is not there
			}
			return res.ID + "/" + strings.Join(rest, "/"), nil
		}
		return res.ID, nil
	}
	if len(parts) == 2 && strings.EqualFold(parts[0], "subscriptions") {
		for _, sub := range s.cfg.Subscriptions {
			if strings.EqualFold(sub, parts[1]) {
				return "/subscriptions/" + sub, nil
			}
		}
	}
	typ, name, ok := typeOf(scope)
	if !ok || name == "" {
		return "", rest.Errorf(http.StatusBadRequest, "InvalidScope", "The scope %q is not a subscription, a resource group or a resource.", fmt.Sprintf("%.200s", scope))
	}
	return "", notFound(scope, typ, name)
}

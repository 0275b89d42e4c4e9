package entra

import (
	"slices"
	"strings"
)

// ask is what a client asked a token for.
type ask struct {
	// audience is the resource in the client's own spelling.
	audience string
	resource *resource
	// permissions are the delegated permissions asked for, in the resource's
	// spelling; all of them for ".default".
	permissions []string
	openid      bool
	profile     bool
	offline     bool
	// text is the client's own scope string, which the answer repeats: some
	// clients compare it word by word.
	text string
}

var oidcScopes = []string{"openid", "profile", "email", "offline_access"}

// parseScope reads a version 2 scope string. An application's own request
// (no user) must ask for "<resource>/.default"; OpenID scopes that clients add
// to it mean nothing and are dropped.
func (s *Server) parseScope(text string, application bool) (ask, error) {
	fields := strings.Fields(text)
	a := ask{text: strings.Join(fields, " ")}
	if len(fields) == 0 {
		return a, fail("invalid_request", 900144, "The request body must contain the following parameter: 'scope'.")
	}
	for _, field := range fields {
		if i := slices.Index(oidcScopes, strings.ToLower(field)); i >= 0 {
			a.openid, a.profile, a.offline = a.openid || i == 0, a.profile || i == 1, a.offline || i == 3
			continue
		}
		audience, name := "https://graph.microsoft.com", field
		if i := strings.LastIndex(field, "/"); i >= 0 {
			audience, name = field[:i], field[i+1:]
		}
		if application && name != ".default" {
			return a, fail("invalid_scope", 1002012, "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", clip(field, 200))
		}
		if err := s.addScope(&a, audience, name, field); err != nil {
			return a, err
		}
	}
	if a.resource == nil {
		if application {
			return a, fail("invalid_scope", 1002012, "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", clip(a.text, 200))
		}
		a.audience, a.resource = graphAppID, s.dir.resource(graphAppID)
		if a.resource == nil {
			return a, fail("invalid_scope", 70011, "The provided request must include a 'scope' input parameter that names a resource.")
		}
	}
	return a, nil
}

func (s *Server) addScope(a *ask, audience, name, field string) error {
	r := s.dir.resource(audience)
	switch {
	case r == nil:
		return s.unknownResource(audience)
	case a.resource != nil && a.resource != r:
		return fail("invalid_scope", 700022, "The provided value for the input parameter scope is not valid because it contains more than one resource.")
	}
	if a.resource == nil {
		a.audience, a.resource = audience, r
	}
	if name == ".default" {
		a.permissions = r.scopes
		return nil
	}
	i := slices.IndexFunc(r.scopes, func(known string) bool { return strings.EqualFold(known, name) })
	if i < 0 {
		return fail("invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid. The scope %s does not exist on the resource.", clip(field, 200))
	}
	if !slices.Contains(a.permissions, r.scopes[i]) {
		a.permissions = append(a.permissions, r.scopes[i])
	}
	return nil
}

// parseResource reads a version 1 "resource".
func (s *Server) parseResource(audience string) (ask, error) {
	if audience == "" {
		return ask{}, fail("invalid_request", 900144, "The request body must contain the following parameter: 'resource'.")
	}
	r := s.dir.resource(audience)
	if r == nil {
		return ask{}, s.unknownResource(audience)
	}
	return ask{audience: audience, resource: r, permissions: r.scopes, openid: true, profile: true, offline: true}, nil
}

func (s *Server) unknownResource(audience string) error {
	return fail("invalid_resource", 500011, "The resource principal named %s was not found in the tenant named %s. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.", clip(audience, 200), s.cfg.TenantName)
}

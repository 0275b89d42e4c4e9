package entra

import (
	"net/http"
	"time"

	"verdant/internal/route"
)

const (
	requestTimeout = 15 * time.Second
	maxForm        = 64 << 10
)

// Routes lists the operations of the service. Handlers decide about their
// callers themselves: they are what decides.
func (s *Server) Routes() []route.Route {
	public := func(name, path string, h http.HandlerFunc) route.Route {
		return route.Route{Name: name, Method: http.MethodGet, Path: path, Versions: route.AnyVersion, Action: route.Anyone,
			MaxBody: route.NoBody, Timeout: requestTimeout, Audit: route.AuditNone, Handler: h}
	}
	decided := func(name, method, path string, h http.HandlerFunc) route.Route {
		body := route.NoBody
		if method == http.MethodPost {
			body = maxForm
		}
		return route.Route{Name: name, Method: method, Path: path, Versions: route.AnyVersion, Action: route.Decided,
			MaxBody: body, Timeout: requestTimeout, Audit: route.AuditCall, Handler: h}
	}
	routes := []route.Route{
		public("discovery v2", "/{tenant}/v2.0/.well-known/openid-configuration", s.serveConfiguration(2)),
		public("discovery v1", "/{tenant}/.well-known/openid-configuration", s.serveConfiguration(1)),
		public("keys v2", "/{tenant}/discovery/v2.0/keys", s.serveKeys),
		public("keys v1", "/{tenant}/discovery/keys", s.serveKeys),
		public("instance discovery", "/common/discovery/instance", s.serveInstance),
		public("page assets", "/assets/{file}", s.pages.serveAsset),
		decided("sign-in form", http.MethodPost, "/{tenant}/login", s.serveSignIn),
	}
	for version, v := range []string{1: "", 2: "/v2.0"} {
		if version == 0 {
			continue
		}
		routes = append(routes,
			decided("authorize"+v, http.MethodGet, "/{tenant}/oauth2"+v+"/authorize", s.serveAuthorize(version)),
			decided("authorize by form"+v, http.MethodPost, "/{tenant}/oauth2"+v+"/authorize", s.serveAuthorize(version)),
			decided("token"+v, http.MethodPost, "/{tenant}/oauth2"+v+"/token", s.serveToken(version)),
			decided("logout"+v, http.MethodGet, "/{tenant}/oauth2"+v+"/logout", s.serveLogout))
	}
	return routes
}

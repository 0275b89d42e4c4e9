package entra

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"verdant/azure/rest"
)

// IMDS returns the handler for one pod's 169.254.169.254: the token endpoint
// of the Instance Metadata Service and the little of instance metadata that
// SDKs read. The identities, by principal id, are those assigned to the pod;
// whoever reaches the handler gets their tokens, so it belongs on a listener
// that nobody else can reach. Unknown identities answer 400, never 404:
// clients retry a 404 for half a minute.
func (s *Server) IMDS(principalIDs ...string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata/identity/oauth2/token", func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains([]string{"2018-02-01", "2019-08-01", "2019-11-01", "2020-06-01", "2021-02-01"}, r.URL.Query().Get("api-version")) {
			identityError(w, http.StatusBadRequest, "invalid_request", "Required query variable 'api-version' is missing or not supported: use 2018-02-01.")
			return
		}
		s.serveIdentityToken(w, r, principalIDs)
	})
	mux.HandleFunc("GET /metadata/instance", func(w http.ResponseWriter, _ *http.Request) {
		rest.WriteJSON(w, http.StatusOK, map[string]any{"compute": s.compute(principalIDs)})
	})
	mux.HandleFunc("GET /metadata/instance/compute", func(w http.ResponseWriter, _ *http.Request) {
		rest.WriteJSON(w, http.StatusOK, s.compute(principalIDs))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "":
			// A forwarded request is somebody else's: a server that was made
			// to fetch a URL.
			identityError(w, http.StatusBadRequest, "invalid_request", "Forwarded requests are not answered.")
		case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
			identityError(w, http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
		default:
			r2 := r.Clone(r.Context())
			if len(r.URL.Path) > len("/metadata") && strings.EqualFold(r.URL.Path[:len("/metadata")], "/metadata") {
				r2.URL.Path = strings.TrimRight("/metadata"+r.URL.Path[len("/metadata"):], "/")
			}
			mux.ServeHTTP(w, r2)
		}
	})
}

// AppService returns the handler of an App Service style identity endpoint
// (IDENTITY_ENDPOINT), for pods without an address of their own for IMDS.
// secret is the pod's IDENTITY_HEADER.
func (s *Server) AppService(secret string, principalIDs ...string) http.Handler {
	want := sha256.Sum256([]byte(secret))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("X-IDENTITY-HEADER")))
		switch {
		case r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "":
			identityError(w, http.StatusBadRequest, "invalid_request", "Forwarded requests are not answered.")
		case secret == "" || subtle.ConstantTimeCompare(got[:], want[:]) != 1:
			identityError(w, http.StatusUnauthorized, "unauthorized", "The X-IDENTITY-HEADER header does not match IDENTITY_HEADER.")
		case r.Method != http.MethodGet:
			identityError(w, http.StatusMethodNotAllowed, "invalid_request", "Only GET is answered.")
		case r.URL.Query().Get("api-version") != "2019-08-01":
			identityError(w, http.StatusBadRequest, "invalid_request", "The api-version must be 2019-08-01.")
		default:
			s.serveIdentityToken(w, r, principalIDs)
		}
	})
}

func (s *Server) serveIdentityToken(w http.ResponseWriter, r *http.Request, principalIDs []string) {
	query := r.URL.Query()
	audience := query.Get("resource")
	if audience == "" {
		identityError(w, http.StatusBadRequest, "invalid_request", "Required query variable 'resource' is missing")
		return
	}
	identity, err := s.pickIdentity(query, principalIDs)
	if err != nil {
		identityError(w, http.StatusBadRequest, "invalid_request", err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	e := s.newExchange()
	e.agent = clip(r.UserAgent(), 512)
	m, err := s.mintIdentity(ctx, e, identity, audience)
	if err != nil {
		f := asFailure(err)
		s.report(e, "managed identity token", err)
		status := f.status
		if status == 0 {
			status = http.StatusBadRequest
		}
		identityError(w, status, f.oauth, f.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"access_token": m.token, "refresh_token": "", "token_type": "Bearer", "resource": audience, "client_id": identity.ClientID,
		"expires_in": strconv.FormatInt(m.seconds(e.at), 10), "ext_expires_in": strconv.FormatInt(m.seconds(e.at), 10),
		"expires_on": strconv.FormatInt(m.expires.Unix(), 10), "not_before": strconv.FormatInt(m.from.Unix(), 10),
	})
}

// errNoIdentity has the text that azidentity's users search for.
//
//lint:ignore ST1005 the wire's spelling
var errNoIdentity = errors.New("Identity not found")

// pickIdentity finds the identity that the request selects among those
// assigned.
func (s *Server) pickIdentity(query map[string][]string, principalIDs []string) (*ManagedIdentity, error) {
	var assigned []*ManagedIdentity
	for _, id := range principalIDs {
		if m := s.dir.identities[id]; m != nil {
			assigned = append(assigned, m)
		}
	}
	first := func(names ...string) string {
		for _, name := range names {
			if v := query[name]; len(v) > 0 && v[0] != "" {
				return v[0]
			}
		}
		return ""
	}
	clientID, objectID := first("client_id"), first("object_id", "principal_id")
	resourceID := first("msi_res_id", "mi_res_id")
	if clientID == "" && objectID == "" && resourceID == "" {
		if len(assigned) == 1 {
			return assigned[0], nil
		}
		if len(assigned) > 1 {
			return nil, errors.New("multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request")
		}
		return nil, errNoIdentity
	}
	for _, m := range assigned {
		if (clientID == "" || strings.EqualFold(clientID, m.ClientID)) &&
			(objectID == "" || strings.EqualFold(objectID, m.PrincipalID)) &&
			(resourceID == "" || rest.SameID(resourceID, m.ResourceID)) {
			return m, nil
		}
	}
	return nil, errNoIdentity
}

func (s *Server) mintIdentity(ctx context.Context, e exchange, m *ManagedIdentity, audience string) (minted, error) {
	in := signIn{table: tableIdentity, principal: principal{identity: m, credential: "2"}}
	a, err := s.parseResource(audience)
	if err != nil {
		return minted{}, s.refused(ctx, e, in, err)
	}
	in.resource = a.resource
	token, err := s.accessToken(ctx, e, in.principal, a)
	if err != nil {
		return minted{}, s.refused(ctx, e, in, err)
	}
	if in.tokenID = token.id; token.fresh {
		if err := s.record(ctx, e, in); err != nil {
			return minted{}, err
		}
	}
	return token, nil
}

// MintIdentity returns a token of a managed identity, for services of the
// platform that run in this process.
func (s *Server) MintIdentity(ctx context.Context, principalID, resource string) (token string, expires time.Time, err error) {
	m := s.dir.identities[principalID]
	if m == nil {
		return "", time.Time{}, fmt.Errorf("managed identity %s is not in the directory", principalID)
	}
	t, err := s.mintIdentity(ctx, s.newExchange(), m, resource)
	return t.token, t.expires, err
}

// Credential returns a managed identity as a credential of the Azure SDK, for
// services of the platform that run in this process.
func (s *Server) Credential(principalID string) azcore.TokenCredential {
	return identityCredential{s, principalID}
}

type identityCredential struct {
	server      *Server
	principalID string
}

// GetToken implements azcore.TokenCredential.
func (c identityCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 {
		return azcore.AccessToken{}, fmt.Errorf("managed identity %s: ask for one scope, not %d", c.principalID, len(o.Scopes))
	}
	token, expires, err := c.server.MintIdentity(ctx, c.principalID, strings.TrimSuffix(o.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, err
}

// MintUser signs a user in on behalf of the estate's own command line and
// returns an access token for resource. user is an object id or a sign-in
// name, clientID the app that signs in; assignment and permission are checked
// as for a browser, and the sign-in is recorded.
func (s *Server) MintUser(ctx context.Context, user, resource, clientID string) (token string, expires time.Time, err error) {
	e := s.newExchange()
	e.agent = "verdant"
	app, u := s.dir.apps[clientID], s.dir.user(user)
	switch {
	case app == nil:
		return "", time.Time{}, s.unknownApp(clientID)
	case u == nil:
		return "", time.Time{}, fail("invalid_grant", 50034, "The user account does not exist in the %s directory.", s.cfg.TenantName)
	}
	in := signIn{table: tableUser, principal: principal{user: u, app: app, credential: "0", authTime: e.at}, protocol: "none"}
	a, err := s.parseResource(resource)
	if err != nil {
		return "", time.Time{}, s.refused(ctx, e, in, err)
	}
	in.resource = a.resource
	if err := s.mayHave(in.principal, a.resource); err != nil {
		return "", time.Time{}, s.refused(ctx, e, in, err)
	}
	m, err := s.accessToken(ctx, e, in.principal, a)
	if err != nil {
		return "", time.Time{}, s.refused(ctx, e, in, err)
	}
	in.tokenID = m.id
	if err := s.record(ctx, e, in); err != nil {
		return "", time.Time{}, err
	}
	return m.token, m.expires, nil
}

func (s *Server) compute(principalIDs []string) map[string]any {
	out := map[string]any{"azEnvironment": "AzurePublicCloud", "provider": "Microsoft.Compute"}
	for _, id := range principalIDs {
		if m := s.dir.identities[id]; m != nil {
			out["location"], out["name"] = m.Location, m.Name
			out["resourceGroupName"], out["subscriptionId"] = rest.ResourceGroup(m.ResourceID), rest.Subscription(m.ResourceID)
			break
		}
	}
	return out
}

func identityError(w http.ResponseWriter, status int, code, description string) {
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}

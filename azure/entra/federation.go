package entra

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"verdant/azure/rest"
)

// Workload identity federation: a token of another issuer, such as a cluster's
// token of a pod's service account, stands for a managed identity that trusts
// it. No secret is stored anywhere.

// FederatedCredential says which tokens of another issuer stand for a managed
// identity. Issuer, subject and audience must be equal to the token's.
type FederatedCredential struct {
	Issuer, Subject string
	// Audience is api://AzureADTokenExchange if empty.
	Audience string
}

const federatedAudience = "api://AzureADTokenExchange"

func (c FederatedCredential) audience() string {
	if c.Audience == "" {
		return federatedAudience
	}
	return c.Audience
}

// TrustedIssuers are the signing keys of the issuers that federated credentials name,
// by issuer.
type TrustedIssuers map[string]rest.KeySource

// federated is the managed identity with that client id, if it has federated
// credentials: then it may come to the token endpoint. Others get their tokens
// from the metadata service alone.
func (s *Server) federated(clientID string) *ManagedIdentity {
	for _, m := range s.dir.identities {
		if strings.EqualFold(m.ClientID, clientID) && len(m.Federated) > 0 {
			return m
		}
	}
	return nil
}

// byFederation answers a token request of a managed identity.
func (s *Server) byFederation(ctx context.Context, r *http.Request, e exchange, m *ManagedIdentity, version int) (answer, error) {
	in := signIn{table: tableIdentity, principal: principal{identity: m, credential: "2"}}
	if kind := r.PostForm.Get("grant_type"); kind != "client_credentials" {
		return answer{}, fail("unauthorized_client", 700016, "The identity '%s' is a managed identity: only the grant 'client_credentials' is for it.", m.ClientID)
	}
	if err := s.checkFederated(ctx, r, e, m); err != nil {
		return answer{}, s.refused(ctx, e, in, err)
	}
	a, err := s.askOf(r, grant{}, true, version)
	if err != nil {
		return answer{}, s.refused(ctx, e, in, err)
	}
	a.openid, a.offline = false, false
	in.resource = a.resource
	token, err := s.accessToken(ctx, e, in.principal, a)
	if err != nil {
		return answer{}, s.refused(ctx, e, in, err)
	}
	if in.tokenID = token.id; token.fresh {
		if err := s.record(ctx, e, in); err != nil {
			return answer{}, err
		}
	}
	return answer{minted: token, ask: a}, nil
}

// checkFederated decides whether the request's assertion stands for the
// identity.
func (s *Server) checkFederated(ctx context.Context, r *http.Request, e exchange, m *ManagedIdentity) error {
	form := r.PostForm
	invalid := func(code int, format string, args ...any) error {
		return fail("invalid_client", code, format, args...).withStatus(http.StatusUnauthorized)
	}
	if form.Get("client_secret") != "" || r.Header.Get("Authorization") != "" {
		return invalid(7000215, "A managed identity has no client secret.")
	}
	if form.Get("client_assertion_type") != assertionType || form.Get("client_assertion") == "" {
		return invalid(7000218, "The request body must contain the following parameter: 'client_assertion' of the type %s.", assertionType)
	}
	jws, err := jose.ParseSignedCompact(strings.TrimSpace(form.Get("client_assertion")), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(jws.Signatures) != 1 {
		return invalid(50027, "The assertion is not a JWT signed with RS256.")
	}
	var claims struct {
		Issuer    string   `json:"iss"`
		Subject   string   `json:"sub"`
		Audience  audience `json:"aud"`
		Expires   float64  `json:"exp"`
		NotBefore float64  `json:"nbf"`
	}
	// Before the signature is checked, the claims only choose the key.
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		return invalid(50027, "The assertion's claims are not well formed.")
	}
	trusted := func(same func(FederatedCredential) bool) bool { return slices.ContainsFunc(m.Federated, same) }
	keys := s.issuers[claims.Issuer]
	if keys == nil || !trusted(func(c FederatedCredential) bool { return c.Issuer == claims.Issuer }) {
		return invalid(700211, "No matching federated identity record found for presented assertion issuer '%s'.", clip(claims.Issuer, 200))
	}
	key, err := keys.TokenKey(ctx, jws.Signatures[0].Protected.KeyID)
	if err != nil {
		return invalid(50013, "Assertion failed signature validation: the issuer has no such key.")
	}
	if _, err := jws.Verify(key); err != nil {
		return invalid(50013, "Assertion failed signature validation.")
	}
	now := float64(e.at.Unix())
	const skew = 300
	switch {
	case !trusted(func(c FederatedCredential) bool { return c.Issuer == claims.Issuer && c.Subject == claims.Subject }):
		return invalid(700213, "No matching federated identity record found for presented assertion subject '%s'.", clip(claims.Subject, 200))
	case !trusted(func(c FederatedCredential) bool {
		return c.Issuer == claims.Issuer && c.Subject == claims.Subject && slices.Contains(claims.Audience, c.audience())
	}):
		return invalid(700212, "No matching federated identity record found for presented assertion audience.")
	case claims.Expires <= 0 || claims.Expires+skew <= now || claims.NotBefore > now+skew:
		return invalid(700024, "Client assertion is not within its valid time range.")
	}
	return nil
}

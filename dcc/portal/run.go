package portal

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"verdant/azure/client"
	"verdant/internal/httpserve"
)

// clientSecretName is the vault secret that holds the portal's client secret.
const clientSecretName = "msal-authentication-client-secret"

// Audience is the audience of the access tokens that the API accepts.
const Audience = "api://dgca-issuance-web"

// Run serves the portal in a pod as its environment describes it, until ctx
// ends: PORTAL_URL, PORTAL_AUTHORITY, PORTAL_CLIENT_ID, PORTAL_ROLE (default
// Certificate.Issuer), PORTAL_ISSUER, ISSUANCE_SERVICE_URL, ISSUANCE_AUDIENCE,
// COUNTRY, and the client secret in the pod's key store under
// msal-authentication-client-secret.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	p, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	keys, err := p.KeyStore()
	if err != nil {
		return err
	}
	log := p.Logger(stdout)
	cfg := Config{
		URL: getenv("PORTAL_URL"), ClientID: getenv("PORTAL_CLIENT_ID"), Authority: getenv("PORTAL_AUTHORITY"),
		BackAuthority: strings.TrimRight(getenv("AZURE_AUTHORITY_HOST"), "/") + "/" + getenv("AZURE_TENANT_ID"),
		Role:          getenv("PORTAL_ROLE"), Issuer: getenv("PORTAL_ISSUER"),
		Issuance: getenv("ISSUANCE_SERVICE_URL"), IssuanceAudience: getenv("ISSUANCE_AUDIENCE"), Country: getenv("COUNTRY"),
	}
	s, err := New(cfg, Deps{Tokens: p, IDTokens: p.TokenVerifier(cfg.ClientID), AccessTokens: p.TokenVerifier(Audience),
		Secret: func(ctx context.Context) (string, error) { return keys.Secret(ctx, clientSecretName) },
		HTTP:   p.HTTPClient(), Log: log})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", getenv("LISTEN_ADDR"))
	if err != nil {
		return fmt.Errorf("listen on LISTEN_ADDR: %w", err)
	}
	log.Info("issuance portal is ready")
	return httpserve.Run(ctx, ln, nil, s.Handler())
}

package connector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"verdant/azure/client"
	"verdant/trustlist"
)

// Options say what a pod needs of the connector.
type Options struct {
	// Gateway is the gateway's address (DGC_GATEWAY_ENDPOINT).
	Gateway string
	// Upload asks for the upload key too.
	Upload bool
	Log    *slog.Logger
}

// Open makes the connector of a pod from what its vault holds: the TLS client
// certificate (property dgc.gateway.connector.tlskeystore.alias names it), the
// trust store for the gateway's own certificate, the trust anchor, and the
// upload certificate if asked for. The last good list is kept in the pod's
// volume if it has one.
func Open(ctx context.Context, p *client.Platform, o Options) (*Connector, error) {
	vault, err := p.Vault("")
	if err != nil {
		return nil, err
	}
	anchor, err := trustAnchor(ctx, vault)
	if err != nil {
		return nil, err
	}
	httpClient, err := gatewayClient(ctx, p, vault)
	if err != nil {
		return nil, err
	}
	deps := Deps{HTTP: httpClient, Anchor: anchor, Log: o.Log}
	if o.Upload {
		name, err := property(ctx, vault, "dgc.gateway.connector.uploadkeystore.alias", "upload-key-store")
		if err != nil {
			return nil, err
		}
		key, cert, err := vault.Signer(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("upload certificate: %w", err)
		}
		if cert == nil {
			return nil, fmt.Errorf("upload certificate %s: the vault holds only a key of that name", name)
		}
		deps.Uploader = &trustlist.CMSSigner{Certificate: cert, Key: key, Now: time.Now}
	}
	switch v, err := p.Volume(); {
	case err == nil:
		deps.Volume = v
	case !errors.Is(err, client.ErrNotConfigured):
		return nil, err
	}
	return New(Config{Gateway: o.Gateway}, deps)
}

// property reads a property of the vault; absent means fallback.
func property(ctx context.Context, v *client.Vault, name, fallback string) (string, error) {
	value, ok, err := v.Properties().Get(ctx, name)
	if err != nil {
		return "", err
	}
	if !ok {
		return fallback, nil
	}
	return value, nil
}

// gatewayClient makes the HTTP client whose certificate's key stays in the
// vault. It trusts the certificates of tls-trust-store-content and no others.
func gatewayClient(ctx context.Context, p *client.Platform, v *client.Vault) (*http.Client, error) {
	name, err := property(ctx, v, "dgc.gateway.connector.tlskeystore.alias", "tls-key-store")
	if err != nil {
		return nil, err
	}
	cert, err := v.TLSCertificate(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("TLS client certificate: %w", err)
	}
	roots, err := trustStore(ctx, v, "tls-trust-store-content", "dgc.gateway.connector.tlstruststore.password")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	return &http.Client{
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:               func(r *http.Request) (*url.URL, error) { return p.Proxy(r.URL) },
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{*cert}},
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 30 * time.Second,
			IdleConnTimeout:     90 * time.Second,
		},
	}, nil
}

// trustAnchor reads the EU's trust anchor. If the store holds several
// certificates, the alias must be the common name of one.
func trustAnchor(ctx context.Context, v *client.Vault) (*x509.Certificate, error) {
	certs, err := trustStore(ctx, v, "trustanchor-content", "dgc.gateway.connector.trustanchor.password")
	if err != nil {
		return nil, err
	}
	if len(certs) == 1 {
		return certs[0], nil
	}
	alias, err := property(ctx, v, "dgc.gateway.connector.trustanchor.alias", "")
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		if alias != "" && c.Subject.CommonName == alias {
			return c, nil
		}
	}
	return nil, fmt.Errorf("secret trustanchor-content holds %d certificates and none is named %q", len(certs), alias)
}

// trustStore reads a PKCS #12 trust store (RFC 7292), base64 in a secret,
// opened with the password in another.
func trustStore(ctx context.Context, v *client.Vault, secret, passwordProperty string) ([]*x509.Certificate, error) {
	content, err := v.Secret(ctx, secret)
	if err != nil {
		return nil, err
	}
	password, err := property(ctx, v, passwordProperty, "")
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(content)
	if err != nil {
		return nil, fmt.Errorf("secret %s is not base64", secret)
	}
	certs, err := pkcs12.DecodeTrustStore(der, password)
	if err != nil {
		return nil, fmt.Errorf("secret %s is not a PKCS #12 trust store under the password of %s: %w", secret, passwordProperty, err)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("secret %s holds no certificate", secret)
	}
	return certs, nil
}

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
	// Properties holds at least PropertyNames(Upload).
	Properties *client.Properties
	Log        *slog.Logger
}

// The connector's properties.
const (
	anchorPassword = "dgc.gateway.connector.trustanchor.password"
	anchorAlias    = "dgc.gateway.connector.trustanchor.alias"
	storePassword  = "dgc.gateway.connector.tlstruststore.password"
	tlsAlias       = "dgc.gateway.connector.tlskeystore.alias"
	uploadAlias    = "dgc.gateway.connector.uploadkeystore.alias"
)

// PropertyNames lists the properties that Open reads.
func PropertyNames(upload bool) []string {
	names := []string{anchorPassword, anchorAlias, storePassword, tlsAlias}
	if upload {
		names = append(names, uploadAlias)
	}
	return names
}

// Open makes the connector of a pod from its properties and its key store: the
// TLS client certificate (tlskeystore.alias names it), the trust store for the
// gateway's own certificate, the trust anchor, and the upload certificate if
// asked for. The last good list is kept in the pod's volume if it has one.
func Open(ctx context.Context, p *client.Platform, o Options) (*Connector, error) {
	keys, err := p.KeyStore()
	if err != nil {
		return nil, err
	}
	anchor, err := trustAnchor(ctx, keys, o.Properties)
	if err != nil {
		return nil, err
	}
	httpClient, err := gatewayClient(ctx, p, keys, o.Properties)
	if err != nil {
		return nil, err
	}
	deps := Deps{HTTP: httpClient, Anchor: anchor, Log: o.Log}
	if o.Upload {
		key, cert, err := keys.Signer(ctx, o.Properties.GetOr(uploadAlias, "upload-key-store"))
		if err != nil {
			return nil, fmt.Errorf("upload certificate: %w", err)
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

// gatewayClient makes the HTTP client with the country's certificate. It trusts
// the certificates of tls-trust-store-content and no others.
func gatewayClient(ctx context.Context, p *client.Platform, keys client.KeyStore, props *client.Properties) (*http.Client, error) {
	certificate, err := keys.ClientCertificate(ctx, props.GetOr(tlsAlias, "tls-key-store"))
	if err != nil {
		return nil, fmt.Errorf("TLS client certificate: %w", err)
	}
	roots, err := trustStore(ctx, keys, "tls-trust-store-content", storePassword, props)
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
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, GetClientCertificate: certificate},
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 30 * time.Second,
			IdleConnTimeout:     90 * time.Second,
		},
	}, nil
}

// trustAnchor reads the EU's trust anchor. If the store holds several
// certificates, the alias must be the common name of one.
func trustAnchor(ctx context.Context, keys client.KeyStore, props *client.Properties) (*x509.Certificate, error) {
	certs, err := trustStore(ctx, keys, "trustanchor-content", anchorPassword, props)
	if err != nil {
		return nil, err
	}
	if len(certs) == 1 {
		return certs[0], nil
	}
	alias := props.GetOr(anchorAlias, "")
	for _, c := range certs {
		if alias != "" && c.Subject.CommonName == alias {
			return c, nil
		}
	}
	return nil, fmt.Errorf("secret trustanchor-content holds %d certificates and none is named %q", len(certs), alias)
}

// trustStore reads a PKCS #12 trust store (RFC 7292), base64 in a secret,
// opened with the password in another.
func trustStore(ctx context.Context, keys client.KeyStore, secret, passwordProperty string, props *client.Properties) ([]*x509.Certificate, error) {
	content, err := keys.Secret(ctx, secret)
	if err != nil {
		return nil, err
	}
	password := props.GetOr(passwordProperty, "")
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

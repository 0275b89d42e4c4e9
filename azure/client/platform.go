package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"golang.org/x/net/http/httpproxy"
)

// Config is a pod's environment. FromEnv reads it.
type Config struct {
	// Pod is the pod's name, as it appears in its logs (VERDANT_POD).
	Pod string
	// Region is the region's name, such as eudcc-ie (VERDANT_REGION).
	Region string
	// TenantID is the tenant that issues the tokens the pod accepts
	// (AZURE_TENANT_ID).
	TenantID string
	// ClientID is the client id of the pod's managed identity
	// (AZURE_CLIENT_ID).
	ClientID string
	// AuthorityHost is the identity service, https://host/ (AZURE_AUTHORITY_HOST).
	AuthorityHost string
	// TokenIssuers are further iss values accepted beside those that
	// AuthorityHost produces; comma separated in AZURE_TOKEN_ISSUERS.
	TokenIssuers []string
	// CertFile is a PEM file of the roots trusted instead of the system's
	// (SSL_CERT_FILE).
	CertFile string
	// VaultURL is the region's vault (KEYVAULT_URL).
	VaultURL string
	// MySQL names the pod's database (MYSQL_HOST, _PORT, _DATABASE, _USER).
	MySQL MySQL
	// StateDir is where the pod's volume is mounted (VERDANT_STATE_DIR).
	StateDir string
	// VolumeKeyFD is the file descriptor from which the volume's key is read
	// once; 0 means that there is none (VERDANT_VOLUME_KEY_FD).
	VolumeKeyFD int
	// SecretsDir is where the pod's keys and bundles are mounted as files; empty
	// means that they stay in the vault (SECRETS_STORE_DIR).
	SecretsDir string
	// HTTPSProxy, HTTPProxy and NoProxy say how https URLs and the database,
	// and plain http URLs, are reached where the network is not the pod's own
	// (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
	HTTPSProxy, HTTPProxy, NoProxy string
}

// Platform reaches the platform as one pod. It is safe for concurrent use.
type Platform struct {
	cfg   Config
	cred  azcore.TokenCredential
	http  *http.Client
	roots *x509.CertPool
	proxy func(*url.URL) (*url.URL, error)
	now   func() time.Time

	volume volumeKey

	mu     sync.Mutex
	vaults map[string]*Vault
	keys   *keySet
}

// Option changes how a Platform is built; tests and the estate use them.
type Option func(*Platform)

// WithCredential replaces the managed identity.
func WithCredential(c azcore.TokenCredential) Option { return func(p *Platform) { p.cred = c } }

// WithHTTPClient replaces the HTTP client that the environment describes.
func WithHTTPClient(c *http.Client) Option { return func(p *Platform) { p.http = c } }

// WithClock replaces time.Now.
func WithClock(now func() time.Time) Option { return func(p *Platform) { p.now = now } }

// FromEnv builds the Platform that the pod's environment describes.
func FromEnv(getenv func(string) string) (*Platform, error) {
	cfg, err := configFromEnv(getenv)
	if err != nil {
		return nil, err
	}
	return New(cfg)
}

func configFromEnv(getenv func(string) string) (Config, error) {
	cfg := Config{
		Pod: getenv("VERDANT_POD"), Region: getenv("VERDANT_REGION"),
		TenantID: getenv("AZURE_TENANT_ID"), ClientID: getenv("AZURE_CLIENT_ID"),
		AuthorityHost: getenv("AZURE_AUTHORITY_HOST"), TokenIssuers: List(getenv("AZURE_TOKEN_ISSUERS")),
		CertFile: getenv("SSL_CERT_FILE"), VaultURL: getenv("KEYVAULT_URL"),
		MySQL:    MySQL{Host: getenv("MYSQL_HOST"), Database: getenv("MYSQL_DATABASE"), User: getenv("MYSQL_USER")},
		StateDir: getenv("VERDANT_STATE_DIR"), SecretsDir: getenv("SECRETS_STORE_DIR"),
		HTTPSProxy: getenv("HTTPS_PROXY"), HTTPProxy: getenv("HTTP_PROXY"), NoProxy: getenv("NO_PROXY"),
	}
	var err error
	if cfg.MySQL.Port, err = intEnv(getenv, "MYSQL_PORT"); err != nil {
		return Config{}, err
	}
	if cfg.VolumeKeyFD, err = intEnv(getenv, "VERDANT_VOLUME_KEY_FD"); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// New builds a Platform from cfg. It opens no connection.
func New(cfg Config, opts ...Option) (*Platform, error) {
	p := &Platform{cfg: cfg, now: time.Now, vaults: map[string]*Vault{}}
	p.proxy = (&httpproxy.Config{HTTPSProxy: cfg.HTTPSProxy, HTTPProxy: cfg.HTTPProxy, NoProxy: cfg.NoProxy}).ProxyFunc()
	if cfg.CertFile != "" {
		pem, err := os.ReadFile(cfg.CertFile)
		if err != nil {
			return nil, fmt.Errorf("read the trusted roots named by SSL_CERT_FILE: %w", err)
		}
		p.roots = x509.NewCertPool()
		if !p.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the trusted roots named by SSL_CERT_FILE: %s holds no PEM certificate", cfg.CertFile)
		}
	}
	for _, opt := range opts {
		opt(p)
	}
	if p.http == nil {
		p.http = &http.Client{Transport: p.transport(), CheckRedirect: noRedirect}
	}
	if p.cred == nil {
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: policy.ClientOptions{Transport: p.http}}
		if cfg.ClientID != "" {
			o.ID = azidentity.ClientID(cfg.ClientID)
		}
		cred, err := azidentity.NewManagedIdentityCredential(o)
		if err != nil {
			return nil, fmt.Errorf("managed identity %s: %w", cfg.ClientID, err)
		}
		p.cred = cred
	}
	return p, nil
}

// noRedirect keeps a redirect from carrying a bearer token to another place.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (p *Platform) transport() *http.Transport {
	return &http.Transport{
		Proxy:                 func(r *http.Request) (*url.URL, error) { return p.proxy(r.URL) },
		TLSClientConfig:       p.TLSConfig(),
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}
}

// Config returns the environment the Platform was built from.
func (p *Platform) Config() Config { return p.cfg }

// Credential returns the pod's managed identity, for stock SDK clients.
func (p *Platform) Credential() azcore.TokenCredential { return p.cred }

// HTTPClient returns the client that trusts the platform's roots and goes
// through its proxy. It follows no redirect.
func (p *Platform) HTTPClient() *http.Client { return p.http }

// TLSConfig returns a fresh TLS client configuration with the platform's
// roots.
func (p *Platform) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.roots}
}

// Proxy says through which proxy u is reached; nil means directly.
func (p *Platform) Proxy(u *url.URL) (*url.URL, error) { return p.proxy(u) }

// clientOptions are the options of every SDK client: our transport, no
// telemetry of the pod's environment, and our repeating of requests instead of
// the SDK's.
func (p *Platform) clientOptions() policy.ClientOptions {
	return policy.ClientOptions{
		Transport:       p.http,
		Telemetry:       policy.TelemetryOptions{Disabled: true},
		Retry:           policy.RetryOptions{MaxRetries: -1},
		PerCallPolicies: []policy.Policy{retryPolicy{p.now}},
	}
}

// Logger returns the pod's logger: one JSON line a record on w, with the
// pod's and the region's name. Callers never give it personal data, tokens or
// certificates.
func (p *Platform) Logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, nil)).With("pod", p.cfg.Pod, "region", p.cfg.Region)
}

// Token returns an access token of the pod's identity for a resource or app,
// such as "api://dgca-issuance-service".
func (p *Platform) Token(ctx context.Context, resource string) (string, error) {
	t, err := p.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{strings.TrimRight(resource, "/") + "/.default"}})
	if err != nil {
		return "", fmt.Errorf("token of the pod's identity for %s: %w", resource, identityError(err))
	}
	return t.Token, nil
}

// ErrNotConfigured is wrapped when the pod's environment lacks what a call
// needs.
var ErrNotConfigured = errors.New("not configured")

func intEnv(getenv func(string) string, name string) (int, error) {
	s := getenv(name)
	if s == "" {
		return 0, nil
	}
	n := 0
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || n < 0 || n > 65535 || fmt.Sprint(n) != s {
		return 0, fmt.Errorf("environment variable %s=%q is not a number from 0 to 65535", name, s)
	}
	return n, nil
}

// List splits a comma-separated environment value; blanks are dropped.
func List(s string) []string {
	var out []string
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

package estate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/hsm/signer"
	"verdant/internal/conninfo"
	"verdant/internal/httpserve"
	"verdant/internal/journal"
	"verdant/internal/lifecycle"
	"verdant/internal/sqlstore"
)

// MeasuredVault is a vault on loopback for measurements: the estate's vault
// code with TLS, token check, roles and durable audit, on a listener whose
// connections count as a private endpoint's, and without the network driver
// and the log store, which are measured elsewhere. Beside it the same server
// answers constants.
type MeasuredVault struct {
	// Client reaches the vault at VaultHost and the constants at ConstantHost.
	Client *http.Client

	hardware *signer.Signer // nil if the keys are in software
	host     string
	token    string
	mu       sync.RWMutex
	constant map[string]*kept // by path
	stop     context.CancelFunc
	done     chan error
	closers  []func() error
}

// kept is an answer that the server of constants gives.
type kept struct {
	header http.Header
	body   []byte
}

const (
	measuredName   = "verdant-bench-kv"
	measuredCaller = "00000000-0000-0000-0000-0000000000b1"
	constantHost   = "constant.vault.azure.net"
)

// OpenMeasuredVault starts one whose state is in dir, which is empty, that of
// one before it, or made. Close ends it. Its keys are in the PKCS #11 token of
// the URI, behind a signer process, or in software where the URI is empty.
func OpenMeasuredVault(ctx context.Context, dir, hsmURI string) (m *MeasuredVault, err error) {
	m = &MeasuredVault{host: measuredName + ".vault.azure.net", constant: map[string]*kept{}, stop: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, err
	}
	root, err := measuredRoots(dir)
	if err != nil {
		return m, err
	}
	token, err := hsm.OpenSoftware(ctx, filepath.Join(dir, "hsm"), root[0])
	if err != nil {
		return m, err
	}
	db, err := sqlstore.Open(ctx, filepath.Join(dir, "vault.db"), root[1], keyvault.Schema)
	if err != nil {
		return m, err
	}
	m.closers = append(m.closers, db.Close)
	audit, err := journal.Open(ctx, filepath.Join(dir, "audit"), journal.Options{Key: root[2]})
	if err != nil {
		return m, err
	}
	m.closers = append(m.closers, audit.Close)
	authority, issuing, err := measuredKeys(ctx, dir, token)
	if err != nil {
		return m, err
	}
	cfg := measuredConfig()
	issuer := cfg.Authority + "/"
	policy := rbac.NewPolicy(rbac.BuiltIn(), []rbac.Assignment{{ID: cfg.ResourceID + "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-0000000000b2",
		RoleDefinitionID: rbac.KeyVaultAdministrator, PrincipalID: measuredCaller, Scope: cfg.ResourceID}})
	keys := hsm.Token(token)
	if hsmURI != "" {
		if m.hardware, err = startSigner(ctx, hsmURI); err != nil {
			return m, err
		}
		m.closers = append(m.closers, m.hardware.Close)
		keys = hsm.Split(m.hardware, token)
	}
	vault, err := keyvault.New(cfg, keyvault.Deps{Token: keys, DB: db, Audit: audit, Policy: policy, Now: time.Now,
		Verifier: &rest.Verifier{Issuers: []string{issuer}, Audiences: []string{vaultAudience}, Keys: oneKey{issuing.Public().(*rsa.PublicKey)}, Now: time.Now}})
	if err != nil {
		return m, err
	}
	if m.token, err = measuredToken(issuing, issuer, cfg.TenantID); err != nil {
		return m, err
	}
	return m, m.serve(ctx, authority, vault)
}

func measuredConfig() keyvault.Config {
	variables := DefaultVariables()
	return keyvault.Config{Name: measuredName, Location: "westeurope", TenantID: variables.TenantID,
		ResourceID: "/subscriptions/" + variables.SubscriptionID + "/resourceGroups/bench/providers/Microsoft.KeyVault/vaults/" + measuredName,
		Authority:  "https://login.verdant.localhost/" + variables.TenantID}
}

// measuredKeys makes the keys of the TLS server and of the token issuer.
func measuredKeys(ctx context.Context, dir string, token *hsm.Software) (*authority, crypto.Signer, error) {
	ec := hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}
	root, err := token.EnsureSigner(ctx, "tls-root", ec)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := token.EnsureSigner(ctx, "tls-server", ec)
	if err != nil {
		return nil, nil, err
	}
	issuing, err := token.EnsureSigner(ctx, "token-signing", hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		return nil, nil, err
	}
	a, err := newAuthority(dir, root, leaf, time.Now)
	return a, issuing, err
}

// serve listens with both servers and makes the client.
func (m *MeasuredVault) serve(ctx context.Context, a *authority, vault *keyvault.Server) error {
	var listeners [2]net.Listener
	for i := range listeners {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listeners[i] = privateListener{ln}
		m.closers = append(m.closers, func() error { _ = ln.Close(); return nil }) // closed twice after serving
	}
	ctx, m.stop = context.WithCancel(ctx)
	m.done = make(chan error, 1)
	go func() {
		m.done <- lifecycle.Run(ctx, 5*time.Second,
			lifecycle.Task{Name: "vault", Run: vault.Run},
			lifecycle.Task{Name: "vault's server", Run: func(ctx context.Context) error {
				return httpserve.Run(ctx, listeners[0], a.config(m.host), vault.Handler())
			}},
			lifecycle.Task{Name: "server of constants", Run: func(ctx context.Context) error {
				return httpserve.Run(ctx, listeners[1], a.config(constantHost), http.HandlerFunc(m.answerConstant))
			}})
	}()
	var dialer net.Dialer
	m.Client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			i := 0
			if strings.HasPrefix(address, constantHost) {
				i = 1
			}
			return dialer.DialContext(ctx, "tcp", listeners[i].Addr().String())
		},
		// Without ForceAttemptHTTP2 the client speaks HTTP/1.1.
		TLSClientConfig: &tls.Config{RootCAs: a.roots(), MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 256,
	}}
	return nil
}

// Do sends a request to the vault and returns the answer's body; constant
// sends it to the server of constants instead.
func (m *MeasuredVault) Do(ctx context.Context, constant bool, method, path, body string) ([]byte, error) {
	out, _, err := m.do(ctx, constant, method, path, body)
	return out, err
}

func (m *MeasuredVault) do(ctx context.Context, constant bool, method, path, body string) ([]byte, http.Header, error) {
	host := m.host
	if constant {
		host = constantHost
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+host+path+"?api-version=7.4", strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := m.Client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return out, resp.Header, err
}

// Keep asks the vault once and has the server of constants give that answer,
// headers and body, from now on.
func (m *MeasuredVault) Keep(ctx context.Context, method, path, body string) ([]byte, error) {
	out, header, err := m.do(ctx, false, method, path, body)
	if err != nil {
		return nil, err
	}
	header.Del("Date")
	header.Del("Content-Length")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.constant[path] = &kept{header, out}
	return out, nil
}

func (m *MeasuredVault) answerConstant(w http.ResponseWriter, r *http.Request) {
	m.mu.RLock()
	k := m.constant[r.URL.Path]
	m.mu.RUnlock()
	if _, err := io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20)); err != nil || k == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	maps.Copy(w.Header(), k.header)
	_, _ = io.Copy(w, bytes.NewReader(k.body))
}

// Close ends the servers and closes the state; dir is the caller's.
func (m *MeasuredVault) Close() error {
	var errs []error
	if m.Client != nil {
		m.Client.CloseIdleConnections()
	}
	m.stop()
	if m.done != nil {
		errs = append(errs, <-m.done)
	}
	for i := len(m.closers) - 1; i >= 0; i-- {
		errs = append(errs, m.closers[i]())
	}
	return errors.Join(errs...)
}

// oneKey is an issuer with one key.
type oneKey struct{ key *rsa.PublicKey }

// TokenKey returns the key, whose id is "bench".
func (k oneKey) TokenKey(_ context.Context, kid string) (*rsa.PublicKey, error) {
	if kid != "bench" {
		return nil, errors.New("unknown key")
	}
	return k.key, nil
}

// measuredToken is an access token of a managed identity for the vault.
func measuredToken(key crypto.Signer, issuer, tenant string) (string, error) {
	now := time.Now().Unix()
	claims, err := json.Marshal(map[string]any{"iss": issuer, "aud": vaultAudience, "tid": tenant, "oid": measuredCaller, "idtyp": "app",
		"appid": "00000000-0000-0000-0000-0000000000b3", "nbf": now, "exp": now + 24*3600,
		"xms_mirid": "/subscriptions/bench/resourcegroups/bench/providers/Microsoft.ManagedIdentity/userAssignedIdentities/bench"})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT","kid":"bench"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return "", err
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// privateListener says of its connections what a private endpoint says.
type privateListener struct{ net.Listener }

// Accept attaches the evidence.
func (l privateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	source, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return &privateConn{c, conninfo.Info{Kind: conninfo.PrivateEndpoint, VNet: "bench", PrivateEndpoint: measuredName + "-pe", Source: source}}, nil
}

type privateConn struct {
	net.Conn
	info conninfo.Info
}

// ConnInfo is the evidence.
func (c *privateConn) ConnInfo() conninfo.Info { return c.info }

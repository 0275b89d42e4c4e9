//go:build linux

package keyvault_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/conninfo"
	"verdant/internal/httpserve"
	"verdant/internal/journal"
	"verdant/internal/sqlstore"
)

const (
	port         = "8443"
	identityPort = "8081"

	vaultZone       = "vault.verdant.test"
	hsmZone         = "managedhsm.verdant.test"
	vaultHost       = "kv1." + vaultZone
	hsmHost         = "hsm1." + hsmZone
	loginHost       = "login.verdant.test"
	attestationHost = "attest.verdant.test"

	tenant    = "11111111-1111-1111-1111-111111111111"
	principal = "aaaaaaaa-0000-0000-0000-000000000001"
	issuer    = "https://" + loginHost + ":" + port + "/" + tenant + "/"
	group     = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/live/providers/Microsoft.KeyVault/"
)

// platform is what the clients need besides the vaults: tokens, and an
// attestation service.
type platform struct {
	t      *testing.T
	signer *rsa.PrivateKey
}

// startPlatform serves a vault, a managed HSM, a token service and an
// attestation service on loopback, and returns the file with the CA.
func startPlatform(t *testing.T, dir string) (roots string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{t: t, signer: key}
	cert, roots := p.certificate(dir)
	hosts := map[string]http.Handler{
		vaultHost: p.vault(dir, keyvault.Config{Name: "kv1", ResourceID: group + "vaults/kv1", Suffix: vaultZone + ":" + port}),
		hsmHost:   p.vault(dir, keyvault.Config{Name: "hsm1", ResourceID: group + "managedHSMs/hsm1", ManagedHSM: true, Suffix: hsmZone + ":" + port}),
		loginHost: p.login(), attestationHost: p.attestation(),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	p.serve(func(ctx context.Context) error {
		return httpserve.Run(ctx, privateLink{ln}, &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.Host)
			if h := hosts[host]; h != nil {
				h.ServeHTTP(w, r)
				return
			}
			http.NotFound(w, r)
		}))
	})
	identity, err := net.Listen("tcp", "127.0.0.1:"+identityPort)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: p.identity(), ReadHeaderTimeout: 5 * time.Second}
	p.serve(func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		if err := srv.Serve(identity); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return roots
}

// serve runs fn until the test ends.
func (p *platform) serve(fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
}

// privateLink says of every connection that it came over a private endpoint.
type privateLink struct{ net.Listener }

type linked struct{ net.Conn }

func (linked) ConnInfo() conninfo.Info {
	return conninfo.Info{Kind: conninfo.PrivateEndpoint, VNet: "live", PrivateEndpoint: group + "pe", Source: netip.MustParseAddrPort("10.0.0.4:40000")}
}

func (l privateLink) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return linked{c}, nil
}

func (p *platform) certificate(dir string) (tls.Certificate, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "live suites"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{vaultHost, hsmHost, loginHost, attestationHost}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func (p *platform) vault(dir string, cfg keyvault.Config) http.Handler {
	cfg.Location, cfg.TenantID, cfg.Authority, cfg.RetentionDays = "westeurope", tenant, "https://"+loginHost+":"+port+"/"+tenant, 7
	dir, ctx := filepath.Join(dir, cfg.Name+".state"), context.Background()
	if err := os.Mkdir(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	token, err := hsm.OpenSoftware(ctx, filepath.Join(dir, "token"), [32]byte{1})
	if err != nil {
		p.t.Fatal(err)
	}
	db, err := sqlstore.Open(ctx, filepath.Join(dir, "vault.db"), [32]byte{2}, keyvault.Schema)
	if err != nil {
		p.t.Fatal(err)
	}
	audit, err := journal.Open(ctx, filepath.Join(dir, "journal"), journal.Options{Key: [32]byte{3}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := errors.Join(db.Close(), audit.Close()); err != nil {
			p.t.Error(err)
		}
	})
	policy := rbac.NewPolicy(rbac.BuiltIn(), []rbac.Assignment{{ID: cfg.ResourceID + "/providers/Microsoft.Authorization/roleAssignments/a",
		RoleDefinitionID: rbac.KeyVaultAdministrator, PrincipalID: principal, Scope: cfg.ResourceID}})
	s, err := keyvault.New(cfg, keyvault.Deps{Token: token, DB: db, Audit: audit, Policy: policy,
		Verifier: &rest.Verifier{Issuers: []string{issuer}, Audiences: []string{"https://" + cfg.Suffix}, Keys: p, Now: time.Now}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.serve(s.Run)
	return s.Handler()
}

// TokenKey makes the platform the key source of its own tokens.
func (p *platform) TokenKey(_ context.Context, kid string) (*rsa.PublicKey, error) {
	if kid != "k1" {
		return nil, errors.New("unknown key")
	}
	return &p.signer.PublicKey, nil
}

func (p *platform) sign(claims map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: p.signer}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		panic(err) // the key is ours
	}
	payload, _ := json.Marshal(claims)
	jws, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

func (p *platform) token(audience string) string {
	now := time.Now().Unix()
	return p.sign(map[string]any{"iss": issuer, "aud": audience, "tid": tenant, "oid": principal, "appid": principal, "idtyp": "app", "nbf": now - 60, "exp": now + 3600})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// identity is the App Service managed identity endpoint.
func (p *platform) identity() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resource := r.URL.Query().Get("resource")
		answer(w, map[string]string{"access_token": p.token(resource), "resource": resource, "token_type": "Bearer",
			"expires_on": strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)})
	})
}

// login is an authority in the manner of AD FS: the client library asks it for
// its own metadata and no public name for anything.
func (p *platform) login() http.Handler {
	const base = "https://" + loginHost + ":" + port + "/adfs"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /adfs/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": base, "authorization_endpoint": base + "/oauth2/authorize", "token_endpoint": base + "/oauth2/token"})
	})
	mux.HandleFunc("POST /adfs/oauth2/token", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"access_token": p.token("https://" + vaultZone + ":" + port), "token_type": "Bearer", "expires_in": 3600})
	})
	return mux
}

// attestation is the test attestation service of the clients' pipelines.
func (p *platform) attestation() http.Handler {
	const base = "https://" + attestationHost + ":" + port
	mux := http.NewServeMux()
	mux.HandleFunc("GET /generate-test-token", func(w http.ResponseWriter, _ *http.Request) {
		pub, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		now := time.Now().Unix()
		answer(w, map[string]string{"token": p.sign(map[string]any{"iss": base, "iat": now, "nbf": now - 60, "exp": now + 3600, "sdk-test": "true",
			"x-ms-runtime": map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "fake-release-key", "key_use": "enc", "key_ops": []string{"encrypt"},
				"n": base64.RawURLEncoding.EncodeToString(pub.N.Bytes()), "e": "AQAB"}}}})})
	})
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": base, "jwks_uri": base + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.signer.PublicKey, KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	})
	return mux
}

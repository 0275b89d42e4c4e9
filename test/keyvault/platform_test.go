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
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	// reach is how the vaults reach the attestation service. It believes the CA
	// once serveHosts has made it.
	reach http.Transport
}

// startPlatform serves a vault, a managed HSM, a token service and an
// attestation service on loopback, and returns the file with the CA.
func startPlatform(t *testing.T, dir string) (roots string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{t: t, signer: key}
	const attestation = "https://" + attestationHost + ":" + port
	vault := keyvault.Config{Name: "kv1", ResourceID: group + "vaults/kv1", Suffix: vaultZone + ":" + port}
	managed := keyvault.Config{Name: "hsm1", ResourceID: group + "managedHSMs/hsm1", ManagedHSM: true, Suffix: hsmZone + ":" + port}
	for _, cfg := range []*keyvault.Config{&vault, &managed} {
		cfg.Attestation = []string{attestation}
		cfg.TenantID, cfg.Authority = tenant, "https://"+loginHost+":"+port+"/"+tenant
	}
	verifier := func(cfg keyvault.Config) *rest.Verifier {
		return &rest.Verifier{Issuers: []string{issuer}, Audiences: []string{"https://" + cfg.Suffix}, Keys: p, Now: time.Now}
	}
	roots = p.serveHosts(dir, port, map[string]http.Handler{
		vaultHost: p.vault(dir, vault, verifier(vault), principal), hsmHost: p.vault(dir, managed, verifier(managed), principal),
		loginHost: p.login(), attestationHost: p.attestation(attestation),
	})
	p.servePlain("127.0.0.1:"+identityPort, p.identity())
	return roots
}

// serveHosts serves each host name on loopback, over TLS and as if by a
// private endpoint, and returns the file with the CA.
func (p *platform) serveHosts(dir, port string, hosts map[string]http.Handler) (roots string) {
	cert, roots := p.certificate(dir, slices.Sorted(maps.Keys(hosts)))
	ca, err := os.ReadFile(roots)
	if err != nil {
		p.t.Fatal(err)
	}
	p.reach.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	p.reach.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca)
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		p.t.Fatal(err)
	}
	p.serve(func(ctx context.Context) error {
		return httpserve.Run(ctx, privateLink{ln}, &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if h := hosts[strings.TrimSuffix(r.Host, ":"+port)]; h != nil {
				h.ServeHTTP(w, r)
				return
			}
			http.NotFound(w, r)
		}))
	})
	return roots
}

// servePlain serves h without TLS, as identity endpoints are.
func (p *platform) servePlain(addr string, h http.Handler) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	p.serve(func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
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

// certificate makes a CA, which it writes to a file, and the server certificate
// of the names.
func (p *platform) certificate(dir string, names []string) (tls.Certificate, string) {
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client tests root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "client tests"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, rootKey)
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, rootDER}, PrivateKey: key}, file
}

// vault opens a vault that the principals administer.
func (p *platform) vault(dir string, cfg keyvault.Config, verifier *rest.Verifier, principals ...string) http.Handler {
	cfg.Location, cfg.RetentionDays = "westeurope", 7
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
	var administrators []rbac.Assignment
	for _, who := range principals {
		administrators = append(administrators, rbac.Assignment{ID: cfg.ResourceID + "/providers/Microsoft.Authorization/roleAssignments/" + who,
			RoleDefinitionID: rbac.KeyVaultAdministrator, PrincipalID: who, Scope: cfg.ResourceID})
	}
	deps := keyvault.Deps{Token: token, DB: db, Audit: audit, AttestationClient: &http.Client{Transport: &p.reach}, Policy: rbac.NewPolicy(rbac.BuiltIn(), administrators), Verifier: verifier}
	deps.Blobs, deps.StorageToken = &http.Client{Transport: &p.reach}, func(context.Context) (string, error) { return principals[len(principals)-1], nil }
	if cfg.ManagedHSM {
		cfg.InitialAdministrators = principals
	}
	if cfg.ManagedHSM && !cfg.NeedsActivation {
		p.assign(cfg, deps, principals, rbac.ManagedHSMCryptoUser, rbac.ManagedHSMCryptoOfficer)
	}
	s, err := keyvault.New(cfg, deps)
	if err != nil {
		p.t.Fatal(err)
	}
	p.serve(s.Run)
	return s.Handler()
}

// as is a verifier for whom every token is one of a principal.
type as string

func (who as) Verify(context.Context, string) (rest.Caller, error) {
	return rest.Caller{ObjectID: string(who), TenantID: tenant, Expires: time.Now().Add(time.Hour)}, nil
}

// assign gives principals roles of a managed HSM, as its administrator: being
// that alone lets nobody use a key.
func (p *platform) assign(cfg keyvault.Config, deps keyvault.Deps, principals []string, roles ...string) {
	deps.Verifier = as(principals[0])
	s, err := keyvault.New(cfg, deps)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, who := range principals {
		for _, role := range roles {
			name := fmt.Sprintf("%08d%s", i, role[8:len(role)-1]) + role[:1]
			r := httptest.NewRequest(http.MethodPut, "https://"+s.Host()+"/providers/Microsoft.Authorization/roleAssignments/"+name+"?api-version=7.4",
				strings.NewReader(`{"properties":{"roleDefinitionId":"`+role+`","principalId":"`+who+`"}}`))
			r = r.WithContext(conninfo.With(r.Context(), linked{}.ConnInfo()))
			r.Header.Set("Authorization", "Bearer t")
			w := httptest.NewRecorder()
			if s.Handler().ServeHTTP(w, r); w.Code != http.StatusCreated {
				p.t.Fatalf("assign role %s: got %d %s", role, w.Code, w.Body)
			}
		}
	}
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

// attestation is the test attestation service of the clients' pipelines, at
// the address base.
func (p *platform) attestation(base string) http.Handler {
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

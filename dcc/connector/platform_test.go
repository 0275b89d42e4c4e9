package connector

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"software.sslmate.com/src/go-pkcs12"

	"verdant/azure/client"
	"verdant/trustlist"
)

// vault speaks the part of Key Vault that Open uses.
type vault struct {
	keys    map[string]*ecdsa.PrivateKey
	certs   map[string]*x509.Certificate
	secrets map[string]string
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.verdant.localhost/t", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	name := parts[1]
	w.Header().Set("Content-Type", "application/json")
	switch {
	case parts[0] == "secrets" && v.secrets[name] != "":
		_ = json.NewEncoder(w).Encode(map[string]string{"value": v.secrets[name]})
	case parts[0] == "certificates" && v.certs[name] != nil:
		_ = json.NewEncoder(w).Encode(map[string]string{"kid": "https://kv.vault.azure.net/keys/" + name + "/1", "cer": base64.StdEncoding.EncodeToString(v.certs[name].Raw)})
	case parts[0] == "keys" && parts[len(parts)-1] == "sign":
		var in struct{ Value string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		digest, _ := base64.RawURLEncoding.DecodeString(in.Value)
		a, b, _ := ecdsa.Sign(rand.Reader, v.keys[name], digest)
		sig := append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
		_ = json.NewEncoder(w).Encode(map[string]string{"value": base64.RawURLEncoding.EncodeToString(sig)})
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"error":{"code":"NotFound","message":"no"}}`)
	}
}

type anyToken struct{}

func (anyToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func trustStoreOf(t *testing.T, password string, certs ...*x509.Certificate) string {
	t.Helper()
	p12, err := pkcs12.Modern.EncodeTrustStore(certs, password)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(p12)
}

func TestThePodsConnectorIsMadeOfWhatTheVaultHolds(t *testing.T) {
	u := newUnion(t)
	authKey, uploadKey := newKey(t), newKey(t)
	der, err := trustlist.NewAuthentication(t.Context(), trustlist.Authority{Key: authKey}, &authKey.PublicKey, trustlist.Subject{Country: "IE", CommonName: "AUTH"}, time.Now().Add(-time.Hour))
	auth := cert(t, der, err)
	der, err = trustlist.NewUpload(t.Context(), trustlist.Authority{Key: uploadKey}, &uploadKey.PublicKey, trustlist.Subject{Country: "IE", CommonName: "UPLOAD"}, time.Now().Add(-time.Hour))
	upload := cert(t, der, err)

	// The gateway takes only the client certificate of the vault.
	var seen, uploaded string
	gateway := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = trustlist.Thumbprint(r.TLS.PeerCertificates[0].Raw)
		if r.URL.Path == "/signerCertificate" {
			var body [8192]byte
			n, _ := r.Body.Read(body[:])
			env, err := trustlist.ParseCMSBase64(string(body[:n]))
			if err == nil {
				if opened, err := env.Open(); err == nil {
					uploaded = trustlist.Thumbprint(opened.Signer().Raw)
				}
			}
			w.WriteHeader(http.StatusCreated)
			return
		}
		u.list(nil, u.dsc())
		u.answer(w, r)
	}))
	gateway.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	gateway.StartTLS()
	defer gateway.Close()

	v := &vault{keys: map[string]*ecdsa.PrivateKey{"tls-key-store": authKey, "my-upload": uploadKey},
		certs: map[string]*x509.Certificate{"tls-key-store": auth, "my-upload": upload},
		secrets: map[string]string{
			"trustanchor-content": trustStoreOf(t, "one", u.anchor.Certificate), "dgc-gateway-connector-trustanchor-password": "one",
			"tls-trust-store-content": trustStoreOf(t, "two", gateway.Certificate()), "dgc-gateway-connector-tlstruststore-password": "two",
			"dgc-gateway-connector-uploadkeystore-alias": "my-upload",
		}}
	vs := httptest.NewTLSServer(v)
	defer vs.Close()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, vs.Listener.Addr().String())
	}}
	defer tr.CloseIdleConnections()
	// Each opening is that of a new pod, which has nothing cached.
	open := func() (*Connector, error) {
		p, err := client.New(client.Config{VaultURL: "https://kv.vault.azure.net"}, client.WithCredential(anyToken{}), client.WithHTTPClient(&http.Client{Transport: tr}))
		if err != nil {
			t.Fatal(err)
		}
		props, err := p.Properties(t.Context(), slog.New(slog.DiscardHandler), PropertyNames(true)...)
		if err != nil {
			return nil, err
		}
		return Open(t.Context(), p, Options{Gateway: gateway.URL, Upload: true, Properties: props})
	}
	con, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if err := con.Refresh(t.Context()); err != nil || len(con.Current().List.DSCs()) != 1 || seen != trustlist.Thumbprint(auth.Raw) {
		t.Errorf("%d signers, client %s, %v", len(con.Current().List.DSCs()), seen, err)
	}
	if err := con.Upload(t.Context(), u.csca.Certificate); err != nil || uploaded != trustlist.Thumbprint(upload.Raw) {
		t.Errorf("upload by %q: %v", uploaded, err)
	}

	// A gateway whose certificate is not in the trust store is refused.
	v.secrets["tls-trust-store-content"] = trustStoreOf(t, "two", auth)
	if con, err = open(); err != nil {
		t.Fatal(err)
	}
	if err := con.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another gateway: got %v", err)
	}
	secrets, certs := v.secrets, v.certs
	for name, breakIt := range map[string]func(){
		"a trust store under another password": func() { v.secrets["dgc-gateway-connector-tlstruststore-password"] = "three" },
		"a trust store that is none":           func() { v.secrets["tls-trust-store-content"] = "AAAA" },
		"no base64":                            func() { v.secrets["tls-trust-store-content"] = "?" },
		"no anchor":                            func() { delete(v.secrets, "trustanchor-content") },
		"no client certificate":                func() { delete(v.certs, "tls-key-store") },
	} {
		v.secrets, v.certs = maps.Clone(secrets), maps.Clone(certs)
		breakIt()
		if _, err := open(); err == nil || strings.Contains(err.Error(), "three") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

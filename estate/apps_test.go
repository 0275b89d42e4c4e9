package estate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"verdant/azure/client"
)

// What azure/client offers to applications, against the real vault.

func TestAnApplicationSignsAndDecryptsWithKeysThatStayInTheVault(t *testing.T) {
	w := newWire(t, CustodyDirect)
	v := w.vault(IE, DeploymentIdentity)
	for name, kty := range map[string]string{"rsa": "RSA", "rsa-hsm": "RSA-HSM"} {
		w.admin(IE, http.MethodPost, "/keys/"+name+"/create", map[string]any{"kty": kty, "key_size": 2048})
		d, err := v.Decrypter(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		public := d.Public().(*rsa.PublicKey)
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
			sealed, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public, []byte("data key"), nil)
			if err != nil {
				t.Fatal(err)
			}
			var decrypter crypto.Decrypter = d
			if got, err := decrypter.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: hash}); err != nil || string(got) != "data key" {
				t.Errorf("%s, OAEP with %v: got %q, %v", name, hash, got, err)
			}
			sealed[10] ^= 1
			if _, err := decrypter.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: hash}); err == nil {
				t.Errorf("%s: a changed ciphertext decrypts", name)
			}
		}
		full := make([]byte, public.Size())
		//lint:ignore SA1019 that it is refused is the point
		pkcs1 := &rsa.PKCS1v15DecryptOptions{}
		for what, opts := range map[string]crypto.DecrypterOpts{"PKCS #1 v1.5": pkcs1, "no options": nil,
			"a label": &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("x")}, "two hashes": &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1},
			"SHA-512": &rsa.OAEPOptions{Hash: crypto.SHA512}} {
			if _, err := d.Decrypt(nil, full, opts); err == nil {
				t.Errorf("%s: got a plaintext", what)
			}
		}
		if _, err := d.Decrypt(nil, full[1:], &rsa.OAEPOptions{Hash: crypto.SHA256}); err == nil {
			t.Error("a short ciphertext: got a plaintext")
		}
		s, _, err := v.Signer(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte("x"))
		pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		if sig, err := s.Sign(nil, digest[:], pss); err != nil || rsa.VerifyPSS(public, crypto.SHA256, digest[:], sig, pss) != nil {
			t.Errorf("%s: PSS: %v", name, err)
		}
		if sig, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil || rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil {
			t.Errorf("%s: PKCS #1: %v", name, err)
		}
	}
	w.admin(IE, http.MethodPost, "/keys/ec/create", map[string]any{"kty": "EC-HSM", "crv": "P-384"})
	if _, err := v.Decrypter(t.Context(), "ec"); err == nil {
		t.Error("an elliptic curve key: got a decrypter")
	}
	// A role that is missing is the vault's own refusal.
	var refusal *client.Refusal
	if _, err := w.vault(IE, "dgca-verifier-service").Decrypter(t.Context(), "rsa"); !errors.As(err, &refusal) || refusal.Inner != "ForbiddenByRbac" {
		t.Errorf("another's key: got %v", err)
	}
}

// testAuthority signs certificates for requests.
type testAuthority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newTestAuthority(t *testing.T) testAuthority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return testAuthority{key, cert}
}

// certify has the vault make a request and merges what the authority signs.
func (a testAuthority) certify(w *wire, name string, serial int64) {
	w.t.Helper()
	body := w.admin(IE, http.MethodPost, "/certificates/"+name+"/create", map[string]any{"policy": map[string]any{
		"issuer": map[string]string{"name": "Unknown"}, "key_props": map[string]any{"kty": "EC-HSM", "crv": "P-256", "exportable": false, "reuse_key": false},
		"secret_props": map[string]string{"contentType": "application/x-pem-file"}, "x509_props": map[string]any{"subject": "CN=" + name}}})
	var pending struct{ CSR []byte }
	if err := json.Unmarshal(body, &pending); err != nil {
		w.t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(pending.CSR)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, request.PublicKey, a.key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.admin(IE, http.MethodPost, "/certificates/"+name+"/pending/merge", map[string]any{"x5c": [][]byte{der, a.cert.Raw}})
}

func TestAClientCertificateInTheVaultFollowsItsRenewal(t *testing.T) {
	w := newWire(t, CustodyDirect)
	authority := newTestAuthority(t)
	authority.certify(w, "client", 1)

	// A server that wants a certificate of the authority, and says which it saw.
	roots := x509.NewCertPool()
	roots.AddCert(authority.cert)
	serverKey, err := w.authority.certificate("server.test")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*serverKey}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		serial int64
		chain  int
	}
	served := make(chan seen)
	go func() { // Ends when the listener is closed.
		defer close(served)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			tc := c.(*tls.Conn)
			s := seen{}
			if err := tc.Handshake(); err == nil {
				peer := tc.ConnectionState().PeerCertificates
				s = seen{peer[0].SerialNumber.Int64(), len(peer)}
			}
			_ = c.Close()
			served <- s
		}
	}()
	defer func() { _ = ln.Close() }()

	var ahead time.Duration
	v := w.vault(IE, DeploymentIdentity, client.WithClock(func() time.Time { return time.Now().Add(ahead) }))
	key := v.TLSKey("client")
	handshake := func() seen {
		t.Helper()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		c := tls.Client(conn, &tls.Config{RootCAs: w.authority.roots(), ServerName: "server.test", GetClientCertificate: key.GetClientCertificate})
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		return <-served
	}
	if got, want := handshake(), (seen{1, 2}); got != want {
		t.Errorf("the server saw %+v, want %+v: certificate and issuer", got, want)
	}
	authority.certify(w, "client", 2)
	if got := handshake(); got.serial != 1 {
		t.Errorf("at once: the server saw %+v", got)
	}
	ahead = 6 * time.Minute
	if got, want := handshake(), (seen{2, 2}); got != want {
		t.Errorf("after the renewal was noticed: the server saw %+v, want %+v", got, want)
	}
}

func TestAVaultIsAPropertySourceForWhoMayReadIt(t *testing.T) {
	w := newWire(t, CustodyMounted)
	if err := w.bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	for i := range 60 { // three pages
		w.admin(EU, http.MethodPut, fmt.Sprintf("/secrets/app-list-%02d", i), map[string]string{"value": fmt.Sprint(i)})
	}
	for name, attributes := range map[string]any{"app-off": map[string]any{"enabled": false}, "app-old": map[string]any{"exp": now - 10, "nbf": now - 20}, "app-early": map[string]any{"nbf": now + 1000}} {
		w.admin(EU, http.MethodPut, "/secrets/"+name, map[string]any{"value": "x", "attributes": attributes})
	}
	load := func(s client.PropertySource, changed func([]string)) *client.Properties {
		t.Helper()
		p, err := client.LoadProperties(t.Context(), client.PropertiesConfig{Sources: []client.PropertySource{s}, Changed: changed})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var told []string
	all := load(client.PropertySource{Vault: w.vault(EU, DeploymentIdentity)}, func(s []string) { told = s })
	if got, ok := all.Get("app.list.59"); !ok || got != "59" {
		t.Errorf("on the last page: got %q, %v", got, ok)
	}
	for _, absent := range []string{"app.off", "app.old", "app.early", "trustanchor"} {
		if value, ok := all.Get(absent); ok {
			t.Errorf("%s: got %.10q", absent, value)
		}
	}
	// The gateway is Reader of the vault and may read one secret: that is its
	// only property.
	mine := load(client.PropertySource{Vault: w.vault(EU, "dgc-gateway")}, nil)
	if got := mine.Names(); !slices.Equal(got, []string{"dgc-trustanchor-certificatealias", "dgc.trustanchor.certificatealias"}) {
		t.Errorf("the gateway's: got %v", got)
	}
	if got := mine.GetOr("DGC_TRUSTANCHOR_CERTIFICATEALIAS", ""); got != "trustanchor" {
		t.Errorf("got %q", got)
	}
	// An identity without Reader cannot list, but can name its secrets.
	web := w.vault(IE, "dgca-issuance-web")
	if _, err := client.LoadProperties(t.Context(), client.PropertiesConfig{Sources: []client.PropertySource{{Vault: web}}}); err == nil || !strings.Contains(err.Error(), "ForbiddenByRbac") {
		t.Errorf("a list without the role: got %v", err)
	}
	if got := load(client.PropertySource{Vault: web, SecretKeys: []string{"msal.authentication.client.secret"}}, nil).GetOr("msal-authentication-client-secret", ""); len(got) < 32 {
		t.Error("the portal's secret was not read by its name")
	}
	w.admin(EU, http.MethodPut, "/secrets/app-list-00", map[string]string{"value": "changed"})
	w.admin(EU, http.MethodDelete, "/secrets/app-list-01", nil)
	if err := all.Refresh(t.Context()); err != nil || !slices.Equal(told, []string{"app-list-00", "app-list-01"}) {
		t.Errorf("told %v, %v", told, err)
	}
}

func TestTheServicesReadThePropertiesOfTheSeedFromTheirVault(t *testing.T) {
	w := newWire(t, CustodyDirect)
	if err := w.bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for identity, names := range map[string][]string{
		"dgc-gateway":           {"dgc-trustanchor-certificatealias"},
		"dgca-issuance-service": {"dgc-gateway-connector-trustanchor-password", "dgc-gateway-connector-trustanchor-alias", "dgc-gateway-connector-tlstruststore-password", "dgc-gateway-connector-tlskeystore-alias", "dgc-gateway-connector-uploadkeystore-alias", "issuance-certalias"},
		"dgca-verifier-service": {"dgc-gateway-connector-trustanchor-password", "dgc-gateway-connector-trustanchor-alias", "dgc-gateway-connector-tlstruststore-password", "dgc-gateway-connector-tlskeystore-alias"},
	} {
		r := IE
		if identity == "dgc-gateway" {
			r = EU
		}
		p, err := client.LoadProperties(t.Context(), client.PropertiesConfig{Sources: []client.PropertySource{{Vault: w.vault(r, identity), SecretKeys: names}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got := p.GetOr(name, ""); got != w.secret(r, name) {
				t.Errorf("%s: %s is not the vault's", identity, name)
			}
		}
		// Of the seed's items these are the ones in the property source scheme.
		for _, item := range slices.Concat(EUVaultTable(), IEVaultTable()) {
			if slices.Contains(names, item.Name) && item.Scheme != PropertySource {
				t.Errorf("%s is no property", item.Name)
			}
		}
	}
}

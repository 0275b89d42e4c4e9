package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

var raw64 = base64.RawURLEncoding

// vaultDouble speaks the part of the Key Vault protocol that the client uses:
// challenge, certificates, keys, secrets, sign.
type vaultDouble struct {
	w       *world
	signers map[string]crypto.Signer // by name; those in certs have certificates too
	certs   map[string][]byte
	secrets map[string]string
	denied  map[string]bool
	// version is every object's; exportable says what certificates' policies
	// say, and bundles are the secrets behind them.
	version    string
	exportable bool
	bundles    map[string]string
	asked      atomic.Int64
	away       atomic.Bool
	busy       atomic.Int64 // how many requests are still answered 429
	signed     atomic.Int64
}

func (v *vaultDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, code, inner string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":"because","innererror":{"code":%q}}}`, code, inner)
	}
	if r.Header.Get("Authorization") != "Bearer token:https://vault.azure.net/.default" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.verdant.localhost/tid", resource="https://vault.azure.net"`)
		fail(http.StatusUnauthorized, "Unauthorized", "")
		return
	}
	if v.busy.Add(-1) >= 0 {
		w.Header().Set("Retry-After-Ms", "1")
		fail(http.StatusTooManyRequests, "Throttled", "")
		return
	}
	if v.away.Load() {
		fail(http.StatusBadRequest, "Away", "")
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	kind, name := parts[0], parts[1]
	if v.denied[name] {
		fail(http.StatusForbidden, "Forbidden", "ForbiddenByRbac")
		return
	}
	id := "https://kv.vault.azure.net/" + kind + "/" + name + "/" + v.version
	w.Header().Set("Content-Type", "application/json")
	switch {
	case kind == "secrets" && v.secrets[name] != "":
		_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "value": v.secrets[name]})
	case kind == "certificates" && v.certs[name] != nil:
		v.asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "kid": "https://kv.vault.azure.net/keys/" + name + "/" + v.version, "sid": "https://kv.vault.azure.net/secrets/" + name + "/" + v.version,
			"cer": base64.StdEncoding.EncodeToString(v.certs[name]), "policy": map[string]any{"key_props": map[string]any{"exportable": v.exportable}}})
	case kind == "secrets" && v.bundles[name] != "" && len(parts) == 3 && parts[2] == v.version:
		_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "value": v.bundles[name], "managed": true})
	case kind == "keys" && v.signers[name] != nil && len(parts) == 4 && parts[2] == v.version && parts[3] == "sign":
		v.sign(w, r, v.signers[name])
	case kind == "keys" && v.signers[name] != nil && r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(map[string]any{"key": jwkOf(id, v.signers[name].Public())})
	default:
		fail(http.StatusNotFound, "NotFound", "")
	}
}

func jwkOf(id string, public any) map[string]any {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		point, _ := k.Bytes()
		n := (len(point) - 1) / 2
		return map[string]any{"kid": id, "kty": "EC-HSM", "crv": k.Params().Name, "x": raw64.EncodeToString(point[1 : 1+n]), "y": raw64.EncodeToString(point[1+n:])}
	case *rsa.PublicKey:
		return map[string]any{"kid": id, "kty": "RSA-HSM", "n": raw64.EncodeToString(k.N.Bytes()), "e": "AQAB"}
	}
	return nil
}

func (v *vaultDouble) sign(w http.ResponseWriter, r *http.Request, s crypto.Signer) {
	v.signed.Add(1)
	var in struct{ Alg, Value string }
	_ = json.NewDecoder(r.Body).Decode(&in)
	digest, _ := raw64.DecodeString(in.Value)
	var sig []byte
	switch k := s.(type) {
	case *ecdsa.PrivateKey:
		a, b, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			v.w.t.Error(err)
		}
		n := (k.Curve.Params().BitSize + 7) / 8
		sig = append(a.FillBytes(make([]byte, n)), b.FillBytes(make([]byte, n))...)
	case *rsa.PrivateKey:
		if in.Alg == "PS256" {
			sig, _ = rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, _ = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest)
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"kid": "k", "value": raw64.EncodeToString(sig)})
}

func newVault(t *testing.T) (*vaultDouble, *Vault) {
	t.Helper()
	w := newWorld(t)
	d := &vaultDouble{w: w, version: "v1", bundles: map[string]string{}, signers: map[string]crypto.Signer{}, certs: map[string][]byte{}, secrets: map[string]string{}, denied: map[string]bool{}}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "bare": elliptic.P256(), "tls-key-store": elliptic.P256()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		d.signers[name] = k
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d.signers["rsa"], d.signers["barersa"] = k, k
	for _, name := range []string{"p256", "p384", "rsa", "tls-key-store"} {
		d.certs[name] = w.certificate(name, d.signers[name].Public()).Raw
	}
	w.serve("kv.vault.azure.net", d, tls.NoClientCert)
	v, err := w.platform().Vault("")
	if err != nil {
		t.Fatal(err)
	}
	return d, v
}

func TestAVaultKeySignsWhatItsPublicPartVerifies(t *testing.T) {
	d, v := newVault(t)
	d.busy.Store(1) // the first signature meets a busy vault, which says when to come back
	sum256, sum384 := sha256.Sum256([]byte("certificate")), sha512.Sum384([]byte("certificate"))
	ec := func(digest []byte) func(crypto.PublicKey, []byte) bool {
		return func(p crypto.PublicKey, sig []byte) bool { return ecdsa.VerifyASN1(p.(*ecdsa.PublicKey), digest, sig) }
	}
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	pkcs := func(p crypto.PublicKey, sig []byte) bool {
		return rsa.VerifyPKCS1v15(p.(*rsa.PublicKey), crypto.SHA256, sum256[:], sig) == nil
	}
	for _, tt := range []struct {
		name   string
		digest []byte
		opts   crypto.SignerOpts
		check  func(crypto.PublicKey, []byte) bool
	}{
		{"p256", sum256[:], crypto.SHA256, ec(sum256[:])},
		{"p384", sum384[:], crypto.SHA384, ec(sum384[:])},
		{"bare", sum256[:], crypto.SHA256, ec(sum256[:])},
		{"rsa", sum256[:], crypto.SHA256, pkcs},
		{"barersa", sum256[:], crypto.SHA256, pkcs},
		{"rsa", sum256[:], pss, func(p crypto.PublicKey, sig []byte) bool {
			return rsa.VerifyPSS(p.(*rsa.PublicKey), crypto.SHA256, sum256[:], sig, pss) == nil
		}},
	} {
		s, cert, err := v.Signer(t.Context(), tt.name)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if (cert != nil) != (d.certs[tt.name] != nil) {
			t.Errorf("%s: certificate present is %v", tt.name, cert != nil)
		}
		sig, err := s.Sign(rand.Reader, tt.digest, tt.opts)
		if err != nil || !tt.check(d.signers[tt.name].Public(), sig) || !tt.check(s.Public(), sig) {
			t.Errorf("%s with %v: signature does not verify, err %v", tt.name, tt.opts.HashFunc(), err)
		}
	}
}

func TestADigestThatTheKeyCannotSignNeverReachesTheVault(t *testing.T) {
	d, v := newVault(t)
	for name, c := range map[string]struct {
		key    string
		digest []byte
		opts   crypto.SignerOpts
	}{
		"a digest of another length": {"p256", make([]byte, 31), crypto.SHA256},
		"SHA-384 with P-256":         {"p256", make([]byte, 48), crypto.SHA384},
		"SHA-1":                      {"rsa", make([]byte, 20), crypto.SHA1},
		"no hash":                    {"p256", make([]byte, 32), crypto.Hash(0)},
		"a PSS salt of 20":           {"rsa", make([]byte, 32), &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256}},
	} {
		s, _, err := v.Signer(t.Context(), c.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(nil, c.digest, c.opts); err == nil {
			t.Errorf("%s: got a signature", name)
		}
	}
	if n := d.signed.Load(); n != 0 {
		t.Errorf("the vault was asked %d times", n)
	}
}

func TestARefusalNamesTheVaultsOwnCode(t *testing.T) {
	d, v := newVault(t)
	s, _, err := v.Signer(t.Context(), "p256")
	if err != nil {
		t.Fatal(err)
	}
	d.denied["p256"] = true
	_, err = s.Sign(nil, make([]byte, 32), crypto.SHA256)
	var r *Refusal
	if !errors.As(err, &r) || r.Status != 403 || r.Code != "Forbidden" || r.Inner != "ForbiddenByRbac" {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "token:") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error prints the exchange: %q", err)
	}
	d.certs["waiting"] = []byte{} // its issuer has not signed it yet
	for _, name := range []string{"nothing", "waiting"} {
		_, _, err := v.Signer(t.Context(), name)
		_, _, errCert := v.Certificate(t.Context(), name)
		if !errors.Is(err, ErrNotFound) || !errors.Is(errCert, ErrNotFound) {
			t.Errorf("%s: got %v and %v, want ErrNotFound", name, err, errCert)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.In(ctx).Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, context.Canceled) {
		t.Errorf("signer bound to an ended context: got %v", err)
	}
}

func TestAClientCertificateWhoseKeyStaysInTheVaultAuthenticates(t *testing.T) {
	d, v := newVault(t)
	d.w.serve("gateway.localhost", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}), tls.RequireAndVerifyClientCert)
	cert, err := v.TLSKey("tls-key-store").Certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := d.w.platform()
	tr := p.transport()
	tr.TLSClientConfig.Certificates = []tls.Certificate{*cert}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://gateway.localhost/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "tls-key-store" {
		t.Errorf("got %q", body)
	}
	if _, err := p.HTTPClient().Get("https://gateway.localhost/"); err == nil {
		t.Error("without a certificate: got an answer")
	}
	if _, err := v.TLSKey("bare").Certificate(t.Context()); err == nil {
		t.Error("a key without a certificate: got one")
	}
}

func TestAPublicPartIsKnownForAWhile(t *testing.T) {
	d, _ := newVault(t)
	now := time.Unix(1_800_000_000, 0)
	v, err := d.w.platform(WithClock(func() time.Time { return now })).Vault("")
	if err != nil {
		t.Fatal(err)
	}
	signer := func() (*Signer, error) { s, _, err := v.Signer(t.Context(), "p256"); return s, err }
	version := func(want string, asked int64) {
		t.Helper()
		if s, err := signer(); err != nil || s.Version() != want || d.asked.Load() != asked {
			t.Fatalf("got %v, %v after %d questions; want version %s after %d", s, err, d.asked.Load(), want, asked)
		}
	}
	version("v1", 1)
	version("v1", 1)
	d.version = "v2"
	version("v1", 1)
	now = now.Add(publicAge)
	version("v2", 2)
	// The vault is away: what is known serves, but not for ever.
	d.away.Store(true)
	now = now.Add(publicAge)
	version("v2", 2)
	now = now.Add(publicStale)
	if _, err := signer(); err == nil {
		t.Error("an hour without the vault: got a signer")
	}
	// A refusal ends it at once.
	d.away.Store(false)
	version("v2", 3)
	d.denied["p256"] = true
	now = now.Add(publicAge)
	if _, err := signer(); err == nil {
		t.Error("refused: got a signer")
	}
	// Absence is not remembered.
	if _, _, err := v.Signer(t.Context(), "later"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	d.signers["later"] = d.signers["p256"]
	if _, _, err := v.Signer(t.Context(), "later"); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestTheChainComesFromASecretThatHoldsNoKey(t *testing.T) {
	d, _ := newVault(t)
	now := time.Unix(1_800_000_000, 0)
	v, err := d.w.platform(WithClock(func() time.Time { return now })).Vault("")
	if err != nil {
		t.Fatal(err)
	}
	pemOf := func(raw []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
	}
	key := v.TLSKey("tls-key-store")
	length := func(name string, want int) {
		t.Helper()
		c, err := key.Certificate(t.Context())
		if err != nil || len(c.Certificate) != want {
			t.Errorf("%s: got %v, %v, want %d certificates", name, c, err, want)
		}
	}
	length("a secret that may not be read", 1)
	d.version, now = "v2", now.Add(publicAge)
	d.bundles["tls-key-store"] = pemOf(d.certs["tls-key-store"]) + pemOf(d.w.ca.Raw)
	length("PEM with the issuer", 2)
	trust, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{d.w.ca}, "")
	if err != nil {
		t.Fatal(err)
	}
	d.version, now = "v3", now.Add(publicAge)
	d.bundles["tls-key-store"] = base64.StdEncoding.EncodeToString(trust)
	length("PKCS #12 with the issuer", 2)
	d.version, now, d.exportable = "v4", now.Add(publicAge), true
	length("a secret with the private key", 1)
}

func TestEveryURLGoesThroughItsProxyButTheExceptions(t *testing.T) {
	p, err := New(Config{HTTPSProxy: "http://127.0.0.1:1", HTTPProxy: "http://127.0.0.1:2", NoProxy: "127.0.0.0/8"}, WithCredential(&staticCredential{}))
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		"https://kv.vault.azure.net/":      "127.0.0.1:1",
		"https://192.168.4.20/":            "127.0.0.1:1",
		"http://192.168.4.20:8080/":        "127.0.0.1:2",
		"http://127.0.0.1:40945/msi/token": "",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if proxy, err := p.Proxy(u); err != nil {
			t.Errorf("%s: %v", raw, err)
		} else if proxy != nil {
			got = proxy.Host
		}
		if got != want {
			t.Errorf("%s: goes to %q, want %q", raw, got, want)
		}
	}
}

func TestTheVaultMustBeHTTPS(t *testing.T) {
	for _, u := range []string{"http://kv.vault.azure.net", "kv", "https://"} {
		if _, err := newWorld(t).platform().Vault(u); !errors.Is(err, ErrNotConfigured) {
			t.Errorf("%q: got %v", u, err)
		}
	}
}

func TestShortSignatureNumbersKeepTheirPlace(t *testing.T) {
	raw := make([]byte, 64)
	raw[31], raw[32] = 5, 0x80
	der, err := encodeECDSA(raw, 32)
	if err != nil {
		t.Fatal(err)
	}
	want := new(big.Int).Lsh(big.NewInt(0x80), 248)
	if !strings.HasSuffix(string(der), string(want.Bytes())) || der[4] != 5 {
		t.Errorf("got %x", der)
	}
	if _, err := encodeECDSA(raw[:63], 32); err == nil {
		t.Error("63 bytes: got no error")
	}
}

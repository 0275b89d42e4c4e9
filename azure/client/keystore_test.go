package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

func TestMountedFilesAreAKeyStore(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := w.certificate("dsc", &key.PublicKey)
	pfx, err := pkcs12.Modern.Encode(key, cert, []*x509.Certificate{w.ca}, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"dsc-key-store.p12": pfx, "broken.p12": []byte("x"), "msal": []byte("secret")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	p, err := New(Config{SecretsDir: dir}, WithCredential(&staticCredential{}))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := p.KeyStore()
	if err != nil {
		t.Fatal(err)
	}
	signer, got, err := keys.Signer(t.Context(), "dsc-key-store")
	if err != nil || !got.Equal(cert) {
		t.Fatalf("got %v, %v", got, err)
	}
	sum := sha256.Sum256([]byte("x"))
	if sig, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil || !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
		t.Errorf("signature: %v", err)
	}
	get, err := keys.ClientCertificate(t.Context(), "dsc-key-store")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := get(&tls.CertificateRequestInfo{}); err != nil || len(c.Certificate) != 2 {
		t.Errorf("got %v, %v", c, err)
	}
	if s, err := keys.Secret(t.Context(), "msal"); err != nil || s != "secret" {
		t.Errorf("got %q, %v", s, err)
	}
	for _, name := range []string{"absent", "../dsc-key-store", "/etc/passwd"} {
		if _, err := keys.Secret(t.Context(), name); err == nil {
			t.Errorf("%s: got a secret", name)
		}
	}
	if _, err := keys.Secret(t.Context(), "absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, _, err := keys.Signer(t.Context(), "broken"); err == nil {
		t.Error("a broken bundle: got a signer")
	}
}

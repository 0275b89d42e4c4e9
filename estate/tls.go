package estate

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"verdant/internal/durable"
)

const (
	rootLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour
	leafRenewal  = 30 * 24 * time.Hour
)

// authority is the estate's own TLS certification authority. It certifies the
// real names of the services (a vault's is under vault.azure.net), which is
// why its root is trusted by the estate's pods and clients and by nobody else.
type authority struct {
	root *x509.Certificate
	key  crypto.Signer
	leaf crypto.Signer
	now  func() time.Time

	mu     sync.Mutex
	issued map[string]*tls.Certificate
}

// The files with the root certificate in a data directory: one for most
// programs, one for Java.
const (
	rootPEM    = "ca.pem"
	rootPKCS12 = "ca.p12"
)

// newAuthority loads the root certificate from dir, or makes it for key.
func newAuthority(dir string, key, leaf crypto.Signer, now func() time.Time) (*authority, error) {
	a := &authority{key: key, leaf: leaf, now: now, issued: map[string]*tls.Certificate{}}
	if err := a.open(filepath.Join(dir, rootPEM)); err != nil {
		return nil, err
	}
	// Nothing in it is secret, and Java reads it without a password.
	store, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{a.root}, "")
	if err != nil {
		return nil, fmt.Errorf("trust store with the estate's root: %w", err)
	}
	return a, durable.WriteFile(filepath.Join(dir, rootPKCS12), store)
}

// open loads the root certificate from file, or makes it.
func (a *authority) open(file string) error {
	if raw, err := os.ReadFile(file); err == nil {
		block, _ := pem.Decode(raw)
		if block == nil {
			return fmt.Errorf("%s holds no certificate; delete it to have it made again", file)
		}
		if a.root, err = x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if public, ok := a.key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(a.root.PublicKey) {
			return fmt.Errorf("%s is not for this estate's key; delete it to have it made again", file)
		}
		return nil
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Verdant estate root", Organization: []string{"Verdant"}},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(rootLifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("certify the estate's root: %w", err)
	}
	if a.root, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return durable.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// config serves the given host names, and no other.
func (a *authority) config(hosts ...string) *tls.Config {
	known := map[string]bool{}
	for _, h := range hosts {
		known[strings.ToLower(h)] = true
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := strings.ToLower(hello.ServerName)
			if name == "" && len(hosts) == 1 {
				name = strings.ToLower(hosts[0])
			}
			if !known[name] {
				return nil, fmt.Errorf("no service has the name %.80q", name)
			}
			return a.certificate(name)
		},
	}
}

// roots is the pool that trusts this authority alone.
func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// certificate returns the certificate for a host, certified when it is first
// asked for and again before it ends.
func (a *authority) certificate(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.issued[host]; ok && a.now().Before(c.Leaf.NotAfter.Add(-leafRenewal)) {
		return c, nil
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(leafLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, a.leaf.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("certify %s: %w", host, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der, a.root.Raw}, PrivateKey: a.leaf, Leaf: leaf}
	a.issued[host] = c
	return c, nil
}

func newSerial() (*big.Int, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw), nil
}

// TrustedRoots reads the estate's root from its data directory, for clients
// on the host.
func TrustedRoots(dataDir string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, rootPEM))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, errors.New(rootPEM + " holds no certificate")
	}
	return pool, nil
}

// digest is the SHA-256 of a certificate in DER.
func digest(der []byte) [sha256.Size]byte { return sha256.Sum256(der) }

package client

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"software.sslmate.com/src/go-pkcs12"
)

// KeyStore is where a pod's keys and bundles are. There are two, by the
// estate's key custody: the vault, where a key stays (direct), and files that
// the Secrets Store CSI provider mounted (mounted).
type KeyStore interface {
	// Signer returns the private key of a certificate, and the certificate.
	Signer(ctx context.Context, name string) (crypto.Signer, *x509.Certificate, error)
	// ClientCertificate returns a certificate for tls.Config's
	// GetClientCertificate. It fails if there is none that can be used now.
	ClientCertificate(ctx context.Context, name string) (func(*tls.CertificateRequestInfo) (*tls.Certificate, error), error)
	// Secret returns a secret's value.
	Secret(ctx context.Context, name string) (string, error)
}

// KeyStore returns the pod's: the files below SECRETS_STORE_DIR if that is
// set, else the region's vault.
func (p *Platform) KeyStore() (KeyStore, error) {
	if p.cfg.SecretsDir != "" {
		return mountedStore{os.DirFS(p.cfg.SecretsDir), p.cfg.SecretsDir}, nil
	}
	v, err := p.Vault("")
	if err != nil {
		return nil, err
	}
	return vaultStore{v}, nil
}

// vaultStore is a vault as a KeyStore.
type vaultStore struct{ vault *Vault }

func (s vaultStore) Signer(ctx context.Context, name string) (crypto.Signer, *x509.Certificate, error) {
	signer, cert, err := s.vault.Signer(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if cert == nil {
		return nil, nil, fmt.Errorf("certificate %s: the vault holds only a key of that name", name)
	}
	return signer, cert, nil
}

func (s vaultStore) ClientCertificate(ctx context.Context, name string) (func(*tls.CertificateRequestInfo) (*tls.Certificate, error), error) {
	key := s.vault.TLSKey(name)
	if _, err := key.Certificate(ctx); err != nil {
		return nil, err
	}
	return key.GetClientCertificate, nil
}

func (s vaultStore) Secret(ctx context.Context, name string) (string, error) {
	return s.vault.Secret(ctx, name)
}

// mountedStore is a directory of mounted files: a secret is a file of its
// name, a certificate with its key a PKCS #12 file without a password, its name
// followed by ".p12". Here private keys are in the pod's own memory: that is
// what custody "mounted" means. What rotates reaches the pod at its next
// start.
type mountedStore struct {
	dir  fs.FS
	path string
}

func (s mountedStore) Signer(_ context.Context, name string) (crypto.Signer, *x509.Certificate, error) {
	made, err := s.keyPair(name)
	if err != nil {
		return nil, nil, err
	}
	return made.PrivateKey.(crypto.Signer), made.Leaf, nil // keyPair has looked
}

func (s mountedStore) ClientCertificate(_ context.Context, name string) (func(*tls.CertificateRequestInfo) (*tls.Certificate, error), error) {
	made, err := s.keyPair(name)
	if err != nil {
		return nil, err
	}
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return made, nil }, nil
}

func (s mountedStore) Secret(_ context.Context, name string) (string, error) {
	value, err := s.read(name)
	return string(value), err
}

func (s mountedStore) keyPair(name string) (*tls.Certificate, error) {
	pfx, err := s.read(name + ".p12")
	if err != nil {
		return nil, err
	}
	defer clear(pfx)
	private, cert, chain, err := pkcs12.DecodeChain(pfx, "")
	if err != nil {
		return nil, fmt.Errorf("mounted certificate %s: not a PKCS #12 bundle of a certificate and its key: %w", name, err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("mounted certificate %s: a key of type %T cannot sign", name, private)
	}
	made := &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: signer, Leaf: cert}
	for _, c := range chain {
		made.Certificate = append(made.Certificate, c.Raw)
	}
	return made, nil
}

func (s mountedStore) read(name string) ([]byte, error) {
	content, err := fs.ReadFile(s.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("mounted file %s in %s: %w", name, s.path, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("mounted file %s in %s: %w", name, s.path, err)
	}
	return content, nil
}

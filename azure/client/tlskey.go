package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
)

// TLSKey is a certificate for crypto/tls whose private key stays in the vault.
// Its methods fit tls.Config's GetClientCertificate and GetCertificate. A
// renewed certificate is used from the first handshake after it was noticed
// (publicAge at most); connections that stand keep theirs. It is safe for
// concurrent use.
type TLSKey struct {
	vault *Vault
	name  string

	mu      sync.Mutex
	current *tls.Certificate
	version string
}

// TLSKey returns the vault's certificate called name for use in handshakes. It
// asks nothing yet; Certificate shows whether it can be used.
func (v *Vault) TLSKey(name string) *TLSKey { return &TLSKey{vault: v, name: name} }

// Certificate returns the certificate that is current now, with the chain that
// the vault knows and a Signer as private key.
func (k *TLSKey) Certificate(ctx context.Context) (*tls.Certificate, error) {
	part, err := k.vault.publicPart(ctx, k.name)
	if err != nil {
		return nil, err
	}
	if part.cert == nil {
		return nil, fmt.Errorf("certificate %s: the vault holds a key of that name, but no certificate", k.name)
	}
	k.mu.Lock()
	current, version := k.current, k.version
	k.mu.Unlock()
	if current != nil && version == part.version {
		return current, nil
	}
	signer, err := newSigner(k.vault.keys, k.name, part.version, part.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", k.name, err)
	}
	chain, err := k.vault.chain(ctx, k.name, part)
	if err != nil {
		return nil, err
	}
	made := &tls.Certificate{Certificate: [][]byte{part.cert.Raw}, PrivateKey: signer, Leaf: part.cert}
	for _, c := range chain {
		made.Certificate = append(made.Certificate, c.Raw)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current, k.version = made, part.version
	return made, nil
}

// GetClientCertificate is for tls.Config.GetClientCertificate.
func (k *TLSKey) GetClientCertificate(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return k.Certificate(info.Context())
}

// GetCertificate is for tls.Config.GetCertificate.
func (k *TLSKey) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.Certificate(hello.Context())
}

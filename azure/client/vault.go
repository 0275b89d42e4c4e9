package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// Vault is one key vault as seen by the pod. It is safe for concurrent use. It
// keeps connections, tokens and public parts, and no secret.
type Vault struct {
	url     string
	now     func() time.Time
	public  publicCache
	keys    *azkeys.Client
	secrets *azsecrets.Client
	certs   *azcertificates.Client
}

// Vault returns the vault at rawURL; the empty string means the region's own
// (KEYVAULT_URL). The URL must be https.
func (p *Platform) Vault(rawURL string) (*Vault, error) {
	if rawURL == "" {
		rawURL = p.cfg.VaultURL
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("vault %q: %w: give KEYVAULT_URL=https://<vault>.vault.azure.net", rawURL, ErrNotConfigured)
	}
	base := u.Scheme + "://" + u.Host

	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.vaults[base]; v != nil {
		return v, nil
	}
	v := &Vault{url: base, now: p.now}
	if v.keys, err = azkeys.NewClient(base, p.cred, &azkeys.ClientOptions{ClientOptions: p.clientOptions()}); err != nil {
		return nil, fmt.Errorf("vault %s: %w", base, err)
	}
	if v.secrets, err = azsecrets.NewClient(base, p.cred, &azsecrets.ClientOptions{ClientOptions: p.clientOptions()}); err != nil {
		return nil, fmt.Errorf("vault %s: %w", base, err)
	}
	if v.certs, err = azcertificates.NewClient(base, p.cred, &azcertificates.ClientOptions{ClientOptions: p.clientOptions()}); err != nil {
		return nil, fmt.Errorf("vault %s: %w", base, err)
	}
	p.vaults[base] = v
	return v, nil
}

// URL returns the vault's address.
func (v *Vault) URL() string { return v.url }

// Keys, Secrets and Certificates return the stock clients.
func (v *Vault) Keys() *azkeys.Client { return v.keys }

// Secrets returns the stock client for secrets.
func (v *Vault) Secrets() *azsecrets.Client { return v.secrets }

// Certificates returns the stock client for certificates.
func (v *Vault) Certificates() *azcertificates.Client { return v.certs }

// PublicKey asks for the public part of a version of a key, and says which
// version that is. The empty version is the current one.
func (v *Vault) PublicKey(ctx context.Context, name, version string) (public crypto.PublicKey, found string, err error) {
	r, err := v.keys.GetKey(ctx, name, version, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil, "", fmt.Errorf("certificate or key %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, "", fmt.Errorf("key %s: %w", name, AsRefusal(err))
	}
	if public, err = publicKey(r.Key); err != nil {
		return nil, "", fmt.Errorf("key %s: %w", name, err)
	}
	return public, r.Key.KID.Version(), nil
}

// ErrNotFound is wrapped when the vault holds no such object.
var ErrNotFound = errors.New("no such object in the vault")

// Secret returns the value of the secret's current version.
func (v *Vault) Secret(ctx context.Context, name string) (string, error) {
	r, err := v.secrets.GetSecret(ctx, name, "", nil)
	if isStatus(err, http.StatusNotFound) {
		return "", fmt.Errorf("secret %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", name, AsRefusal(err))
	}
	if r.Value == nil {
		return "", fmt.Errorf("secret %s: the vault sent no value", name)
	}
	return *r.Value, nil
}

// Certificate returns the public part of a vault certificate, and the
// version-pinned identifier of its key.
func (v *Vault) Certificate(ctx context.Context, name string) (cert *x509.Certificate, keyID string, err error) {
	r, err := v.certs.GetCertificate(ctx, name, "", nil)
	if isStatus(err, http.StatusNotFound) || err == nil && unsigned(r.CertificateBundle) {
		return nil, "", fmt.Errorf("certificate %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, "", fmt.Errorf("certificate %s: %w", name, AsRefusal(err))
	}
	return readCertificate(name, r.CertificateBundle)
}

// unsigned reports whether a certificate is still waiting for its issuer: the
// vault shows its policy, and there is no certificate yet.
func unsigned(b azcertificates.CertificateBundle) bool { return len(b.CER) == 0 }

// Signer returns a signer whose key stays in the vault, with the certificate
// of the same name. A name that only names a key has a nil certificate. The
// signer is pinned to one version, the current one as of at most five minutes
// ago, so that certificate and signature match across a rollover; ask again to
// follow one.
func (v *Vault) Signer(ctx context.Context, name string) (*Signer, *x509.Certificate, error) {
	part, err := v.publicPart(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	s, err := newSigner(v.keys, name, part.version, part.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate or key %s: %w", name, err)
	}
	return s, part.cert, nil
}

func publicKey(jwk *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	if jwk == nil || jwk.Kty == nil || jwk.KID == nil {
		return nil, errors.New("the vault sent no public key")
	}
	switch *jwk.Kty {
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		curve := map[azkeys.CurveName]elliptic.Curve{azkeys.CurveNameP256: elliptic.P256(), azkeys.CurveNameP384: elliptic.P384(), azkeys.CurveNameP521: elliptic.P521()}
		if jwk.Crv == nil || curve[*jwk.Crv] == nil {
			return nil, errors.New("the key is on a curve that is not supported")
		}
		c := curve[*jwk.Crv]
		size := (c.Params().BitSize + 7) / 8
		if len(jwk.X) > size || len(jwk.Y) > size {
			return nil, errors.New("the key's point is malformed")
		}
		point := make([]byte, 1+2*size)
		point[0] = 4
		copy(point[1+size-len(jwk.X):], jwk.X)
		copy(point[1+2*size-len(jwk.Y):], jwk.Y)
		return ecdsa.ParseUncompressedPublicKey(c, point)
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		e := new(big.Int).SetBytes(jwk.E)
		if len(jwk.N) < 256 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, errors.New("the RSA key is malformed or shorter than 2048 bits")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(jwk.N), E: int(e.Int64())}, nil
	}
	return nil, fmt.Errorf("the key is of type %s and cannot sign", *jwk.Kty)
}

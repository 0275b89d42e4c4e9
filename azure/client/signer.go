package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// SignTimeout bounds a signature that was asked for without a context, the
// SDK's retries included.
const SignTimeout = 15 * time.Second

// Signer signs with a key that stays in the vault. It implements
// crypto.Signer: ECDSA signatures are ASN.1, RSA signatures are PKCS #1 v1.5
// or, with *rsa.PSSOptions, PSS with a salt as long as the hash. It is safe
// for concurrent use.
type Signer struct {
	keys    *azkeys.Client
	name    string
	version string
	public  crypto.PublicKey
}

func newSigner(keys *azkeys.Client, name, version string, public crypto.PublicKey) (*Signer, error) {
	switch public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
		return &Signer{keys: keys, name: name, version: version, public: public}, nil
	}
	return nil, fmt.Errorf("a key of type %T cannot sign here", public)
}

// Public returns the public key, known since the Signer was made.
func (s *Signer) Public() crypto.PublicKey { return s.public }

// Name returns the key's name in the vault.
func (s *Signer) Name() string { return s.name }

// Version returns the key version that the Signer is pinned to.
func (s *Signer) Version() string { return s.version }

// Sign asks the vault to sign digest. The vault brings its own randomness, so
// rand is not read.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), SignTimeout)
	defer cancel()
	return s.SignContext(ctx, digest, opts)
}

// SignContext is Sign within the bounds of ctx.
func (s *Signer) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg, err := s.algorithm(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", s.name, err)
	}
	r, err := s.keys.Sign(ctx, s.name, s.version, azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", s.name, AsRefusal(err))
	}
	if key, ok := s.public.(*ecdsa.PublicKey); ok {
		sig, err := encodeECDSA(r.Result, (key.Curve.Params().BitSize+7)/8)
		if err != nil {
			return nil, fmt.Errorf("sign with key %s: %w", s.name, err)
		}
		return sig, nil
	}
	return r.Result, nil
}

// In returns the signer bound to ctx, for libraries that take a crypto.Signer
// and pass no context on. It must not outlive the request that ctx belongs to.
func (s *Signer) In(ctx context.Context) crypto.Signer { return boundSigner{ctx, s} }

// boundSigner is the one place that holds a context: it is a closure over the
// call that made it.
type boundSigner struct {
	ctx    context.Context
	signer *Signer
}

func (b boundSigner) Public() crypto.PublicKey { return b.signer.public }

func (b boundSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return b.signer.SignContext(b.ctx, digest, opts)
}

// algorithm chooses the vault's name for the signature that opts asks for.
func (s *Signer) algorithm(digest []byte, opts crypto.SignerOpts) (azkeys.SignatureAlgorithm, error) {
	hash := opts.HashFunc()
	if hash == 0 || !hash.Available() || len(digest) != hash.Size() {
		return "", fmt.Errorf("the digest is %d bytes long, which is not that of hash %v", len(digest), hash)
	}
	var byHash map[crypto.Hash]azkeys.SignatureAlgorithm
	switch key := s.public.(type) {
	case *ecdsa.PublicKey:
		// The vault ties each curve to one hash (RFC 7518 §3.4).
		want := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[key.Curve.Params().BitSize]
		if hash != want {
			return "", fmt.Errorf("an EC key of %d bits signs %v digests only", key.Curve.Params().BitSize, want)
		}
		byHash = map[crypto.Hash]azkeys.SignatureAlgorithm{crypto.SHA256: azkeys.SignatureAlgorithmES256, crypto.SHA384: azkeys.SignatureAlgorithmES384, crypto.SHA512: azkeys.SignatureAlgorithmES512}
	case *rsa.PublicKey:
		byHash = map[crypto.Hash]azkeys.SignatureAlgorithm{crypto.SHA256: azkeys.SignatureAlgorithmRS256, crypto.SHA384: azkeys.SignatureAlgorithmRS384, crypto.SHA512: azkeys.SignatureAlgorithmRS512}
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			if pss.SaltLength > 0 && pss.SaltLength != hash.Size() {
				return "", errors.New("the vault's PSS salt is as long as the hash")
			}
			byHash = map[crypto.Hash]azkeys.SignatureAlgorithm{crypto.SHA256: azkeys.SignatureAlgorithmPS256, crypto.SHA384: azkeys.SignatureAlgorithmPS384, crypto.SHA512: azkeys.SignatureAlgorithmPS512}
		}
	}
	alg, ok := byHash[hash]
	if !ok {
		return "", fmt.Errorf("hash %v is not one that the vault signs", hash)
	}
	return alg, nil
}

// encodeECDSA turns r || s, which the vault sends (RFC 7518 §3.4), into the
// ASN.1 that crypto.Signer promises.
func encodeECDSA(raw []byte, size int) ([]byte, error) {
	if len(raw) != 2*size {
		return nil, fmt.Errorf("the vault sent a signature of %d bytes, not %d", len(raw), 2*size)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:size]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[size:]))
	})
	return b.Bytes()
}

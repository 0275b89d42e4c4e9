package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Material is a private or symmetric key on its way into or out of a token. It
// shows nothing of itself when printed or marshalled; Wipe it after use.
type Material struct {
	spec KeySpec
	rsa  *rsa.PrivateKey
	ec   *ecdsa.PrivateKey
	k256 *secp256k1.PrivateKey // on P-256K
	oct  []byte
}

// String keeps key material out of logs.
func (m *Material) String() string { return "hsm.Material(" + string(m.spec.Type) + ")" }

// GoString keeps key material out of %#v.
func (m *Material) GoString() string { return m.String() }

// Format keeps key material out of every verb of package fmt.
func (m *Material) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(m.String())) }

// MarshalJSON refuses: key material is not JSON.
func (m *Material) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("marshal key material: %w", ErrNotExportable)
}

// Spec says what the key is; Exportable is false.
func (m *Material) Spec() KeySpec { return m.spec }

// Public returns the public part, or nil for an Oct key.
func (m *Material) Public() crypto.PublicKey {
	switch {
	case m.rsa != nil:
		return &m.rsa.PublicKey
	case m.ec != nil:
		return &m.ec.PublicKey
	case m.k256 != nil:
		return &PublicP256K{m.k256.PubKey()}
	}
	return nil
}

// Wipe overwrites what can be overwritten: symmetric keys, RSA integers
// and scalars on P-256K.
// Copies that the runtime or the crypto library made are beyond its reach.
func (m *Material) Wipe() {
	clear(m.oct)
	if m.rsa != nil {
		wipeInt(m.rsa.D)
		for _, p := range m.rsa.Primes {
			wipeInt(p)
		}
	}
	if m.k256 != nil {
		m.k256.Zero()
	}
	m.oct, m.rsa, m.ec, m.k256 = nil, nil, nil, nil
}

func wipeInt(n *big.Int) {
	if n != nil {
		clear(n.Bits())
	}
}

// FromPrivateKey takes an *rsa.PrivateKey, *ecdsa.PrivateKey or []byte (a
// symmetric key), which it checks. The Material shares memory with it.
func FromPrivateKey(key any) (*Material, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k == nil || k.N == nil || k.D == nil {
			break
		}
		m := &Material{spec: KeySpec{Type: RSA, Bits: k.N.BitLen()}, rsa: k}
		if err := m.spec.Check(); err != nil {
			return nil, err
		}
		if err := k.Validate(); err != nil {
			return nil, fmt.Errorf("%w: the parts of the RSA key do not belong together", ErrMaterial)
		}
		k.Precompute()
		return m, nil
	case *ecdsa.PrivateKey:
		if k == nil || k.Curve == nil {
			break
		}
		m := &Material{spec: KeySpec{Type: EC, Curve: Curve(k.Curve.Params().Name)}, ec: k}
		if err := m.spec.Check(); err != nil {
			return nil, err
		}
		raw, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("%w: the EC key is not on its curve", ErrMaterial)
		}
		defer clear(raw)
		if again, err := ecdsa.ParseRawPrivateKey(k.Curve, raw); err != nil || !again.PublicKey.Equal(&k.PublicKey) {
			return nil, fmt.Errorf("%w: the EC key's private and public parts do not belong together", ErrMaterial)
		}
		return m, nil
	case []byte:
		m := &Material{spec: KeySpec{Type: Oct, Bits: 8 * len(k)}}
		if err := m.spec.Check(); err != nil {
			return nil, err
		}
		m.oct = bytes.Clone(k)
		return m, nil
	}
	return nil, fmt.Errorf("%w: a key of type %T is not supported", ErrMaterial, key)
}

// JWK holds the private members of a JSON web key (RFC 7518 section 6), raw
// and big-endian.
type JWK struct {
	N, E, D, P, Q []byte // RSA
	Curve         Curve
	X, Y          []byte // EC, with D
	K             []byte // oct
}

// FromJWK takes a key apart into Material. An RSA key needs N, E, D and both
// primes; an EC key its curve, D, X and Y.
func FromJWK(t KeyType, k JWK) (*Material, error) {
	switch t {
	case RSA:
		return rsaFromJWK(k)
	case EC:
		return ecFromJWK(k)
	case Oct:
		return FromPrivateKey(k.K)
	}
	return nil, fmt.Errorf("%w: key type %q", ErrSpec, t)
}

func rsaFromJWK(k JWK) (*Material, error) {
	e := new(big.Int).SetBytes(k.E)
	const maxBytes = 4096/8 + 1 // a leading zero is tolerated
	for _, part := range [][]byte{k.N, k.D, k.P, k.Q} {
		if len(part) == 0 || len(part) > maxBytes {
			return nil, fmt.Errorf("%w: an RSA key needs n, e, d, p and q of at most 4096 bits", ErrMaterial)
		}
	}
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
		return nil, fmt.Errorf("%w: the RSA public exponent is out of range", ErrMaterial)
	}
	integer := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	return FromPrivateKey(&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: integer(k.N), E: int(e.Int64())},
		D: integer(k.D), Primes: []*big.Int{integer(k.P), integer(k.Q)}})
}

func ecFromJWK(k JWK) (*Material, error) {
	if k.Curve == P256K {
		return p256kFromJWK(k)
	}
	curve := k.Curve.elliptic()
	if curve == nil {
		return nil, fmt.Errorf("%w: curve %q", ErrSpec, k.Curve)
	}
	size := (curve.Params().BitSize + 7) / 8
	d, okD := fixed(k.D, size)
	x, okX := fixed(k.X, size)
	y, okY := fixed(k.Y, size)
	if !okD || !okX || !okY {
		return nil, fmt.Errorf("%w: an EC key on %s needs d, x and y of %d bytes", ErrMaterial, k.Curve, size)
	}
	defer clear(d)
	key, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil {
		return nil, fmt.Errorf("%w: d is not a key on %s", ErrMaterial, k.Curve)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil || !bytes.Equal(point[1:], append(x, y...)) {
		return nil, fmt.Errorf("%w: the EC key's d does not belong to its x and y", ErrMaterial)
	}
	return FromPrivateKey(key)
}

// fixed pads b with zeros in front to size; longer input must have zeros there.
func fixed(b []byte, size int) ([]byte, bool) {
	b = bytes.TrimLeft(b, "\x00")
	if len(b) == 0 || len(b) > size {
		return nil, false
	}
	out := make([]byte, size)
	copy(out[size-len(b):], b)
	return out, true
}

// FromPKCS8 takes a PKCS #8 key (RFC 5208).
func FromPKCS8(der []byte) (*Material, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		return FromPrivateKey(key)
	}
	if m, ok := p256kFromPKCS8(der); ok {
		return m, nil
	}
	return nil, fmt.Errorf("%w: not a PKCS #8 key", ErrMaterial)
}

// FromPFX takes a PKCS #12 bundle (RFC 7292) with one private key. The leaf
// certificate comes first.
func FromPFX(pfx []byte, password string) (m *Material, chain []*x509.Certificate, err error) {
	key, leaf, rest, err := pkcs12.DecodeChain(pfx, password)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, nil, fmt.Errorf("%w: the PFX password is not right", ErrMaterial)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: not a PFX with one key and its certificate", ErrMaterial)
	}
	if m, err = FromPrivateKey(key); err != nil {
		return nil, nil, err
	}
	return m, append([]*x509.Certificate{leaf}, rest...), nil
}

// FromPEM takes a PEM file with one PKCS #8 key and certificates, leaf first.
func FromPEM(data []byte) (m *Material, chain []*x509.Certificate, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			if m != nil {
				return nil, nil, fmt.Errorf("%w: more than one private key", ErrMaterial)
			}
			m, err = FromPKCS8(block.Bytes)
			clear(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				chain = append(chain, c)
			}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("PEM block %s: %w", block.Type, errors.Join(ErrMaterial, err))
		}
	}
	if m == nil || len(chain) == 0 {
		return nil, nil, fmt.Errorf("%w: a PEM file needs a PKCS #8 key (PRIVATE KEY) and a certificate", ErrMaterial)
	}
	return m, chain, nil
}

func (m *Material) private() any {
	if m.rsa != nil {
		return m.rsa
	}
	return m.ec
}

// PKCS8 encodes a private key (RFC 5208). The caller clears the bytes.
func (m *Material) PKCS8() ([]byte, error) {
	if m.k256 != nil {
		return p256kPKCS8(m.k256)
	}
	if m.rsa == nil && m.ec == nil {
		return nil, fmt.Errorf("%w: no private key", ErrOperation)
	}
	return x509.MarshalPKCS8PrivateKey(m.private())
}

// Octets is a copy of a symmetric key. The caller clears it.
func (m *Material) Octets() ([]byte, error) {
	if m.oct == nil {
		return nil, fmt.Errorf("%w: no symmetric key", ErrOperation)
	}
	return bytes.Clone(m.oct), nil
}

// PFX encodes the key with its certificates, leaf first, as PKCS #12.
func (m *Material) PFX(chain []*x509.Certificate, password string) ([]byte, error) {
	if m.rsa == nil && m.ec == nil || len(chain) == 0 {
		return nil, fmt.Errorf("%w: a PFX needs a private key and its certificate", ErrOperation)
	}
	return pkcs12.Modern.Encode(m.private(), chain[0], chain[1:], password)
}

func (c Curve) elliptic() elliptic.Curve {
	switch c {
	case P256:
		return elliptic.P256()
	case P384:
		return elliptic.P384()
	case P521:
		return elliptic.P521()
	}
	return nil
}

// generate makes new key material.
func generate(spec KeySpec) (*Material, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	m := &Material{spec: spec}
	var err error
	switch spec.Type {
	case RSA:
		m.rsa, err = rsa.GenerateKey(rand.Reader, spec.Bits)
	case EC:
		if spec.Curve == P256K {
			m.k256 = &secp256k1.PrivateKey{Key: *randomScalar()}
			break
		}
		m.ec, err = ecdsa.GenerateKey(spec.Curve.elliptic(), rand.Reader)
	case Oct:
		m.oct = make([]byte, spec.Bits/8)
		_, err = rand.Read(m.oct)
	}
	m.spec.Exportable = false
	return m, err
}

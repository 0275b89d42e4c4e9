package hsm

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// P256K is secp256k1 (SEC 2 section 2.4.1; ES256K of RFC 8812). Software
// tokens have it; crypto/ecdsa and most hardware do not.
const P256K Curve = "P-256K"

// kindP256K marks a key on P-256K in the file of a software token: its bytes
// are the scalar.
const kindP256K KeyType = "EC-P-256K"

// PublicP256K is a public key on P-256K.
type PublicP256K struct{ key *secp256k1.PublicKey }

// ParsePublicP256K takes a point's coordinates and refuses what is not on the
// curve.
func ParsePublicP256K(x, y []byte) (*PublicP256K, error) {
	x, okX := fixed(x, 32)
	y, okY := fixed(y, 32)
	if !okX || !okY {
		return nil, fmt.Errorf("%w: a point on P-256K has two coordinates of 32 bytes", ErrMaterial)
	}
	key, err := secp256k1.ParsePubKey(append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, fmt.Errorf("%w: the point is not on P-256K", ErrMaterial)
	}
	return &PublicP256K{key}, nil
}

// Bytes is the uncompressed point (SEC 1 section 2.3.3).
func (p *PublicP256K) Bytes() []byte { return p.key.SerializeUncompressed() }

// Verify checks a signature r || s of 64 bytes over a digest of 32.
func (p *PublicP256K) Verify(digest, sig []byte) bool {
	if len(sig) != 64 || len(digest) != 32 {
		return false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() {
		return false
	}
	return ecdsa.NewSignature(&r, &s).Verify(digest, p.key)
}

// p256kFromBytes takes a scalar of 32 bytes.
func p256kFromBytes(d []byte) (*Material, error) {
	k := new(secp256k1.PrivateKey)
	if len(d) != 32 || k.Key.SetByteSlice(d) || k.Key.IsZero() {
		return nil, fmt.Errorf("%w: d is not a key on %s", ErrMaterial, P256K)
	}
	return &Material{spec: KeySpec{Type: EC, Curve: P256K}, k256: k}, nil
}

func p256kFromJWK(k JWK) (*Material, error) {
	d, ok := fixed(k.D, 32)
	if !ok {
		return nil, fmt.Errorf("%w: an EC key on %s needs d, x and y of 32 bytes", ErrMaterial, P256K)
	}
	defer clear(d)
	m, err := p256kFromBytes(d)
	if err != nil {
		return nil, err
	}
	public, err := ParsePublicP256K(k.X, k.Y)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(public.Bytes(), m.k256.PubKey().SerializeUncompressed()) {
		return nil, fmt.Errorf("%w: the EC key's d does not belong to its x and y", ErrMaterial)
	}
	return m, nil
}

// randomScalar is uniform in 1 to the order less one.
func randomScalar() *secp256k1.ModNScalar {
	s := new(secp256k1.ModNScalar)
	for {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never returns an error (crypto/rand)
		over := s.SetBytes(&b)
		clear(b[:])
		if over == 0 && !s.IsZero() {
			return s
		}
	}
}

// blindBaseMult is k*G. The library's multiplication takes a time that depends
// on the scalar: it only sees a random share of k and what is left.
func blindBaseMult(k *secp256k1.ModNScalar) (point secp256k1.JacobianPoint) {
	share := randomScalar()
	left := new(secp256k1.ModNScalar).NegateVal(share).Add(k)
	var a, b secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(share, &a)
	secp256k1.ScalarBaseMultNonConst(left, &b)
	secp256k1.AddNonConst(&a, &b, &point)
	point.ToAffine()
	share.Zero()
	left.Zero()
	return point
}

// signP256K makes an ASN.1 ECDSA signature (FIPS 186-5 section 6.4.1) with a
// random nonce and s in the lower half. Sums and products of scalars take a
// constant time in the library; the multiplication of the base point and the
// inversion do not, so that they only see values that a fresh random blinds.
func signP256K(key *secp256k1.PrivateKey, digest []byte) ([]byte, error) {
	if len(digest) != 32 {
		return nil, fmt.Errorf("%w: %s signs a digest of 32 bytes", ErrOperation, P256K)
	}
	var e secp256k1.ModNScalar
	e.SetByteSlice(digest)
	for {
		k, blind := randomScalar(), randomScalar()
		point := blindBaseMult(k)
		var r, s secp256k1.ModNScalar
		r.SetByteSlice(point.X.Bytes()[:])
		inverse := new(secp256k1.ModNScalar).Mul2(k, blind).InverseNonConst().Mul(blind)
		s.Mul2(&r, &key.Key).Add(&e).Mul(inverse)
		k.Zero()
		inverse.Zero()
		if r.IsZero() || s.IsZero() {
			continue
		}
		if s.IsOverHalfOrder() {
			s.Negate()
		}
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, n := range []*secp256k1.ModNScalar{&r, &s} {
				raw := n.Bytes()
				addUnsigned(b, raw[:])
			}
		})
		return b.Bytes()
	}
}

func addUnsigned(b *cryptobyte.Builder, n []byte) {
	n = bytes.TrimLeft(n, "\x00")
	b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) {
		if n[0]&0x80 != 0 {
			b.AddUint8(0)
		}
		b.AddBytes(n)
	})
}

package hsm

import (
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for OAEP as vendors use it
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// WrapFor encrypts the key for the holder of an RSA key: a fresh AES-256 key
// under RSA-OAEP with hash, and behind it, under that key by RFC 5649, the key
// as PKCS #8 or the bytes of an Oct key (CKM_RSA_AES_KEY_WRAP of PKCS #11 2.40,
// section 2.1.21).
func (m *Material) WrapFor(pub *rsa.PublicKey, hash crypto.Hash) ([]byte, error) {
	if !hash.Available() {
		return nil, fmt.Errorf("wrap a key with %v: %w", hash, ErrOperation)
	}
	encode := m.PKCS8
	if m.spec.Type == Oct {
		encode = m.Octets
	}
	plain, err := encode()
	if err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	defer clear(plain)
	var key [32]byte
	_, _ = rand.Read(key[:]) // never returns an error (crypto/rand)
	defer clear(key[:])
	out, err := rsa.EncryptOAEP(hash.New(), rand.Reader, pub, key[:], nil)
	if err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	wrapped, err := WrapPad(once(block.Encrypt), plain)
	return append(out, wrapped...), err
}

// UnwrapTransfer takes what was wrapped for the RSA key kek as WrapFor does with
// SHA-1, which is how HSM vendors' tools hand keys over. Every failure of the
// ciphertext is ErrMaterial with one text.
func UnwrapTransfer(kek Key, t KeyType, wrapped []byte) (*Material, error) {
	spec := kek.Spec()
	size := spec.Bits / 8
	if spec.Type != RSA {
		return nil, fmt.Errorf("take a wrapped key with %s: %w", kek.ID(), ErrOperation)
	}
	refused := fmt.Errorf("%w: it was wrapped for another key, or changed, or is no key of type %s", ErrMaterial, t)
	if len(wrapped) < size+aes.BlockSize || len(wrapped) > size+maxTransfer {
		return nil, refused
	}
	key, err := kek.Decrypt(nil, wrapped[:size], &rsa.OAEPOptions{Hash: crypto.SHA1})
	if errors.Is(err, rsa.ErrDecryption) {
		return nil, refused
	}
	if err != nil {
		return nil, fmt.Errorf("take a wrapped key with %s: %w", kek.ID(), err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, refused
	}
	plain, err := UnwrapPad(once(block.Decrypt), wrapped[size:])
	if err != nil {
		return nil, refused
	}
	defer clear(plain)
	var m *Material
	if t == Oct {
		m, err = FromPrivateKey(plain)
	} else {
		m, err = FromPKCS8(plain)
	}
	if err != nil || m.spec.Type != t {
		return nil, refused
	}
	return m, nil
}

// maxTransfer bounds a wrapped key: RSA-4096 as PKCS #8 has 2.4 kB.
const maxTransfer = 8 << 10

// ecPKCS8 is a PKCS #8 key on a named curve (RFC 5958, RFC 5915).
type ecPKCS8 struct {
	Version   int
	Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
	Key       []byte
}

type ecPrivate struct {
	Version int
	Key     []byte
	Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	Public  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

func p256kNames() (key, curve asn1.ObjectIdentifier) {
	return asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 3, 132, 0, 10}
}

// p256kPKCS8 encodes a key on P-256K, which crypto/x509 does not.
func p256kPKCS8(k *secp256k1.PrivateKey) ([]byte, error) {
	d := k.Serialize()
	defer clear(d)
	public := k.PubKey().SerializeUncompressed()
	inner, err := asn1.Marshal(ecPrivate{Version: 1, Key: d, Public: asn1.BitString{Bytes: public, BitLength: 8 * len(public)}})
	if err != nil {
		return nil, err
	}
	defer clear(inner)
	out := ecPKCS8{Key: inner}
	out.Algorithm.Algorithm, out.Algorithm.Curve = p256kNames()
	return asn1.Marshal(out)
}

// p256kFromPKCS8 takes a key on P-256K; ok is false for what is no such key.
func p256kFromPKCS8(der []byte) (m *Material, ok bool) {
	var outer struct {
		Version   int
		Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
		Key       []byte
		Rest      []asn1.RawValue `asn1:"optional,omitempty,tag:0"`
	}
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, false
	}
	key, curve := p256kNames()
	if !outer.Algorithm.Algorithm.Equal(key) || !outer.Algorithm.Curve.Equal(curve) {
		return nil, false
	}
	defer clear(outer.Key)
	var inner ecPrivate
	if rest, err := asn1.Unmarshal(outer.Key, &inner); err != nil || len(rest) > 0 || inner.Version != 1 || len(inner.Curve) > 0 && !inner.Curve.Equal(curve) {
		return nil, false
	}
	defer clear(inner.Key)
	m, err := p256kFromBytes(inner.Key)
	if err != nil {
		return nil, false
	}
	if public := inner.Public.Bytes; len(public) > 0 {
		if p, err := secp256k1.ParsePubKey(public); err != nil || !p.IsEqual(m.k256.PubKey()) {
			return nil, false
		}
	}
	return m, true
}

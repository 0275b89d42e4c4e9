package keyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"verdant/hsm"
)

// signature is a signing algorithm of RFC 7518 section 3.
type signature struct {
	hash  crypto.Hash
	pss   bool   // RSASSA-PSS; else RSASSA-PKCS1-v1_5
	curve string // set for ECDSA: the only curve it goes with
}

// signatureOf finds an algorithm by its name.
func signatureOf(name string) (signature, bool) {
	switch name {
	case "RS256":
		return signature{hash: crypto.SHA256}, true
	case "RS384":
		return signature{hash: crypto.SHA384}, true
	case "RS512":
		return signature{hash: crypto.SHA512}, true
	case "PS256":
		return signature{hash: crypto.SHA256, pss: true}, true
	case "PS384":
		return signature{hash: crypto.SHA384, pss: true}, true
	case "PS512":
		return signature{hash: crypto.SHA512, pss: true}, true
	case "ES256":
		return signature{hash: crypto.SHA256, curve: "P-256"}, true
	case "ES384":
		return signature{hash: crypto.SHA384, curve: "P-384"}, true
	case "ES512":
		return signature{hash: crypto.SHA512, curve: "P-521"}, true
	case "ES256K": // RFC 8812
		return signature{hash: crypto.SHA256, curve: string(hsm.P256K)}, true
	}
	return signature{}, false
}

// fits checks that an algorithm goes with a key and a digest.
func (a signature) fits(k *keyRecord, alg string, digest []byte) error {
	if a.curve != k.Curve {
		return badParameter("The algorithm %s does not fit a key of type %s%s.", alg, k.Type, onCurve(k.Curve))
	}
	if len(digest) != a.hash.Size() {
		return badParameter("The digest has an invalid length for the algorithm %s: it must be %d bytes.", alg, a.hash.Size())
	}
	return nil
}

func onCurve(curve string) string {
	if curve == "" {
		return ""
	}
	return " on curve " + curve
}

// opts are what crypto.Signer takes.
func (a signature) opts() crypto.SignerOpts {
	if a.pss {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	return a.hash
}

// sign makes the signature as the wire has it: r || s for ECDSA.
func (a signature) sign(k hsm.Key, digest []byte) ([]byte, error) {
	sig, err := k.Sign(rand.Reader, digest, a.opts())
	if err != nil || a.curve == "" {
		return sig, err
	}
	return rawECDSA(sig, curveSize(a.curve))
}

// verify checks a signature as the wire has it.
func (a signature) verify(public crypto.PublicKey, digest, sig []byte) bool {
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		der, err := derECDSA(sig, curveSize(a.curve))
		return err == nil && ecdsa.VerifyASN1(pub, digest, der)
	case *hsm.PublicP256K:
		return pub.Verify(digest, sig)
	case *rsa.PublicKey:
		if a.pss {
			return rsa.VerifyPSS(pub, a.hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, a.hash, digest, sig) == nil
	}
	return false
}

func curveSize(name string) int {
	switch name {
	case "P-256", string(hsm.P256K):
		return 32
	case "P-384":
		return 48
	}
	return 66
}

var errECDSA = errors.New("malformed ECDSA signature")

// rawECDSA turns ASN.1 into r || s (RFC 7518 section 3.4).
func rawECDSA(der []byte, size int) ([]byte, error) {
	var seq cryptobyte.String
	in := cryptobyte.String(der)
	var r, s []byte // without leading zeros; negative numbers are refused
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&r) || !seq.ReadASN1Integer(&s) || !seq.Empty() ||
		len(r) > size || len(s) > size {
		return nil, errECDSA
	}
	out := make([]byte, 2*size)
	copy(out[size-len(r):], r)
	copy(out[2*size-len(s):], s)
	return out, nil
}

// derECDSA is the inverse of rawECDSA.
func derECDSA(raw []byte, size int) ([]byte, error) {
	if len(raw) != 2*size {
		return nil, errECDSA
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:size]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[size:]))
	})
	return b.Bytes()
}

// encryption is an RSA encryption algorithm of RFC 7518 section 4.
type encryption struct {
	oaep crypto.Hash // 0 is RSAES-PKCS1-v1_5
}

func encryptionOf(name string) (encryption, bool) {
	switch name {
	case "RSA1_5":
		return encryption{}, true
	case "RSA-OAEP":
		return encryption{crypto.SHA1}, true
	case "RSA-OAEP-256":
		return encryption{crypto.SHA256}, true
	}
	return encryption{}, false
}

// room is how many bytes fit under a modulus of the given bytes.
func (a encryption) room(modulus int) int {
	if a.oaep == 0 {
		return modulus - 11
	}
	return modulus - 2*a.oaep.Size() - 2
}

func (a encryption) encrypt(pub *rsa.PublicKey, plaintext []byte) ([]byte, error) {
	if a.oaep == 0 {
		//lint:ignore SA1019 the vault API has RSA1_5 for old clients
		return rsa.EncryptPKCS1v15(rand.Reader, pub, plaintext)
	}
	return rsa.EncryptOAEP(a.oaep.New(), rand.Reader, pub, plaintext, nil)
}

func (a encryption) decrypt(k hsm.Key, ciphertext []byte) ([]byte, error) {
	if a.oaep == 0 {
		return k.Decrypt(rand.Reader, ciphertext, nil)
	}
	return k.Decrypt(rand.Reader, ciphertext, &rsa.OAEPOptions{Hash: a.oaep})
}

// public rebuilds the public key of a record.
func (k *keyRecord) public() (crypto.PublicKey, error) {
	if len(k.N) > 0 {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(new(big.Int).SetBytes(k.E).Int64())}, nil
	}
	var curve elliptic.Curve
	switch k.Curve {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve = elliptic.P384()
	case "P-521":
		curve = elliptic.P521()
	case string(hsm.P256K):
		return hsm.ParsePublicP256K(k.X, k.Y)
	default:
		return nil, errors.New("stored key is on an unknown curve")
	}
	return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, k.X...), k.Y...))
}

//go:build cgo

package pkcs11

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
)

func elliptics() map[hsm.Curve]elliptic.Curve {
	return map[hsm.Curve]elliptic.Curve{hsm.P256: elliptic.P256(), hsm.P384: elliptic.P384(), hsm.P521: elliptic.P521()}
}

// curveNames are the curves as CKA_EC_PARAMS names them (RFC 5480, section
// 2.1.1.1), in DER.
func curveNames() map[hsm.Curve]string {
	return map[hsm.Curve]string{
		hsm.P256: "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
		hsm.P384: "\x06\x05\x2b\x81\x04\x00\x22",
		hsm.P521: "\x06\x05\x2b\x81\x04\x00\x23",
	}
}

func curveOf(params []byte) hsm.Curve {
	for curve, name := range curveNames() {
		if name == string(params) {
			return curve
		}
	}
	return ""
}

// Attributes that every key of ours has.
func publicTemplate(id hsm.KeyID, kind uint) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, kind),
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, false), p11.NewAttribute(p11.CKA_VERIFY, true),
		p11.NewAttribute(p11.CKA_ID, []byte(id)), p11.NewAttribute(p11.CKA_LABEL, string(id)),
	}
}

func privateTemplate(id hsm.KeyID, kind uint) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, kind),
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_SIGN, true), p11.NewAttribute(p11.CKA_DECRYPT, kind == p11.CKK_RSA),
		p11.NewAttribute(p11.CKA_ID, []byte(id)), p11.NewAttribute(p11.CKA_LABEL, string(id)),
	}
}

// secretTemplate lets a key wrap and unwrap besides: RFC 3394 is no mechanism of
// C_Encrypt in every token. No key of ours is one that could be wrapped.
func secretTemplate(id hsm.KeyID) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_ENCRYPT, true), p11.NewAttribute(p11.CKA_DECRYPT, true),
		p11.NewAttribute(p11.CKA_WRAP, true), p11.NewAttribute(p11.CKA_UNWRAP, true),
		p11.NewAttribute(p11.CKA_ID, []byte(id)), p11.NewAttribute(p11.CKA_LABEL, string(id)),
	}
}

// generation is how a new key is asked for.
func generation(id hsm.KeyID, spec hsm.KeySpec) (mechanism uint, public, private []*p11.Attribute) {
	if spec.Type == hsm.RSA {
		return p11.CKM_RSA_PKCS_KEY_PAIR_GEN, append(publicTemplate(id, p11.CKK_RSA), p11.NewAttribute(p11.CKA_ENCRYPT, true),
			p11.NewAttribute(p11.CKA_MODULUS_BITS, spec.Bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})), privateTemplate(id, p11.CKK_RSA)
	}
	return p11.CKM_EC_KEY_PAIR_GEN, append(publicTemplate(id, p11.CKK_EC),
		p11.NewAttribute(p11.CKA_EC_PARAMS, []byte(curveNames()[spec.Curve]))), privateTemplate(id, p11.CKK_EC)
}

// importation is how a key from outside is created. The caller wipes private.
func importation(id hsm.KeyID, key any) (public, private []*p11.Attribute, err error) {
	integer := func(name uint, n *big.Int) *p11.Attribute { return p11.NewAttribute(name, n.Bytes()) }
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if len(k.Primes) != 2 {
			return nil, nil, fmt.Errorf("%w: an RSA key of %d primes", hsm.ErrMaterial, len(k.Primes))
		}
		k.Precompute()
		shared := []*p11.Attribute{integer(p11.CKA_MODULUS, k.N), integer(p11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(k.E)))}
		public = append(append(publicTemplate(id, p11.CKK_RSA), p11.NewAttribute(p11.CKA_ENCRYPT, true)), shared...)
		private = append(append(privateTemplate(id, p11.CKK_RSA), shared...),
			integer(p11.CKA_PRIVATE_EXPONENT, k.D), integer(p11.CKA_PRIME_1, k.Primes[0]), integer(p11.CKA_PRIME_2, k.Primes[1]),
			integer(p11.CKA_EXPONENT_1, k.Precomputed.Dp), integer(p11.CKA_EXPONENT_2, k.Precomputed.Dq), integer(p11.CKA_COEFFICIENT, k.Precomputed.Qinv))
		return public, private, nil
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: the EC key is not on its curve", hsm.ErrMaterial)
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: the EC key is not on its curve", hsm.ErrMaterial)
		}
		wrapped, err := asn1.Marshal(point)
		if err != nil {
			return nil, nil, err
		}
		params := p11.NewAttribute(p11.CKA_EC_PARAMS, []byte(curveNames()[hsm.Curve(k.Curve.Params().Name)]))
		public = append(publicTemplate(id, p11.CKK_EC), params, p11.NewAttribute(p11.CKA_EC_POINT, wrapped))
		private = append(privateTemplate(id, p11.CKK_EC), params, p11.NewAttribute(p11.CKA_VALUE, d))
		return public, private, nil
	}
	return nil, nil, fmt.Errorf("%w: a key of type %T", hsm.ErrMaterial, key)
}

func wipe(template []*p11.Attribute) {
	for _, a := range template {
		clear(a.Value)
	}
}

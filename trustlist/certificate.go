package trustlist

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
)

// maxCertificate bounds a DER certificate; the gateway's column holds 4 kB.
const maxCertificate = 16 << 10

// tbsCertificate is RFC 5280, §4.1, up to the public key.
type tbsCertificate struct {
	Version   int `asn1:"optional,explicit,default:0,tag:0"`
	Serial    *big.Int
	Signature pkix.AlgorithmIdentifier
	Issuer    asn1.RawValue
	Validity  asn1.RawValue
	Subject   asn1.RawValue
	PublicKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
}

// ParseCertificate parses a DER certificate. An EC key with explicit
// parameters is refused with ExplicitParameters.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, refuse(NotCertificate, fmt.Sprintf("larger than %d bytes", maxCertificate))
	}
	if explicitParameters(der) {
		return nil, refuse(ExplicitParameters, "make the key with a named curve such as prime256v1")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, &Error{Reason: NotCertificate, Cause: err}
	}
	return cert, nil
}

func explicitParameters(der []byte) bool {
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if err := unmarshal(der, &outer); err != nil {
		return false
	}
	var tbs tbsCertificate
	if _, err := asn1.Unmarshal(outer.TBS.FullBytes, &tbs); err != nil {
		return false
	}
	alg := tbs.PublicKey.Algorithm
	return alg.Algorithm.String() == ecPublicKeyOID && alg.Parameters.Tag == asn1.TagSequence
}

// Thumbprint returns the lower-case hex SHA-256 of a DER certificate.
func Thumbprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// countryOf returns the one country of a subject, or "" if there is not
// exactly one.
func countryOf(cert *x509.Certificate) string {
	if len(cert.Subject.Country) != 1 {
		return ""
	}
	return cert.Subject.Country[0]
}

// checkKeyStrength refuses keys below 128 bits of security for EC and 112 for
// RSA (2048 bits, which document signers in circulation have).
func checkKeyStrength(pub any, rsaBits int) error {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return refuse(UnsupportedKey, "EC curve "+pub.Params().Name)
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < rsaBits {
			return refuse(UnsupportedKey, fmt.Sprintf("RSA key of %d bits, at least %d are needed", n, rsaBits))
		}
		return checkRSASize(pub)
	}
	return refuse(UnsupportedKey, fmt.Sprintf("type %T", pub))
}

// maxRSA bounds an RSA key. A certificate has room for one of 100,000 bits,
// and one verification with it takes a second.
const maxRSA = 8192

func checkRSASize(pub *rsa.PublicKey) error {
	if n := pub.N.BitLen(); n > maxRSA {
		return refuse(UnsupportedKey, fmt.Sprintf("RSA key of %d bits, at most %d are accepted", n, maxRSA))
	}
	return nil
}

package hcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// Usage is the set of certificate types that a document signer may sign. The
// zero value means all of them: the signer's certificate names none.
type Usage uint8

// The members of a Usage.
const (
	UsageTest Usage = 1 << iota
	UsageVaccination
	UsageRecovery
)

// Allows reports whether a certificate of this type may be signed.
func (u Usage) Allows(k Kind) bool {
	if u == 0 {
		return k != ""
	}
	switch k {
	case KindTest:
		return u&UsageTest != 0
	case KindVaccination:
		return u&UsageVaccination != 0
	case KindRecovery:
		return u&UsageRecovery != 0
	}
	return false
}

// OID returns the extended key usage (hcert-spec, "Key usage") that names one type, or
// nil for another value.
func (u Usage) OID() asn1.ObjectIdentifier {
	n := 0
	switch u {
	case UsageTest:
		n = 1
	case UsageVaccination:
		n = 2
	case UsageRecovery:
		n = 3
	default:
		return nil
	}
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 1847, 2021, 1, n}
}

// UsageOf reads the extended key usages of a certificate, in the form of the
// specification and in the older one with an extra 0 before 1847.
func UsageOf(cert *x509.Certificate) Usage {
	return usageOf(cert.UnknownExtKeyUsage)
}

func usageOf(oids []asn1.ObjectIdentifier) Usage {
	var u Usage
	for _, oid := range oids {
		for _, member := range []Usage{UsageTest, UsageVaccination, UsageRecovery} {
			want := member.OID()
			old := append(append(asn1.ObjectIdentifier{}, want[:6]...), 0)
			old = append(old, want[6:]...)
			if oid.Equal(want) || oid.Equal(old) {
				u |= member
			}
		}
	}
	return u
}

// Key is a document signer's key as a trust list gives it.
type Key struct {
	KID       KID
	Country   string // of the signer's subject, may be empty
	Public    crypto.PublicKey
	Usage     Usage
	NotBefore time.Time
	NotAfter  time.Time
}

// NewKey makes a Key of a document signer's certificate. It refuses keys that
// no supported algorithm takes. Whether the certificate is to be trusted is
// for the caller to know: package trustlist decides that.
func NewKey(cert *x509.Certificate) (*Key, error) {
	public := cert.PublicKey
	if public == nil {
		public = pssKey(cert.RawSubjectPublicKeyInfo)
	}
	if err := checkKeyType(public); err != nil {
		return nil, err
	}
	k := &Key{KID: KIDOf(cert.Raw), Public: public, Usage: UsageOf(cert),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
	if len(cert.Subject.Country) == 1 {
		k.Country = cert.Subject.Country[0]
	}
	return k, nil
}

func checkKeyType(public crypto.PublicKey) error {
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		if ecdsaSize(pub) == 0 {
			return refuse(StageSigner, UnsupportedKey, "EC key on a curve other than P-256 and P-384")
		}
		return nil
	case *rsa.PublicKey:
		return checkRSA(pub)
	}
	return refuse(StageSigner, UnsupportedKey, fmt.Sprintf("type %T", public))
}

type publicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// pssKey reads an RSA key that is marked for PSS only (RFC 4055, §1.2), which
// crypto/x509 leaves out. It returns nil if the key is another.
func pssKey(spki []byte) crypto.PublicKey {
	var info publicKeyInfo
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return nil
	}
	if !info.Algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}) {
		return nil
	}
	pub, err := x509.ParsePKCS1PublicKey(info.Key.RightAlign())
	if err != nil {
		return nil
	}
	return pub
}

// maxCertificate bounds a DER certificate; those of document signers have about
// 1 kB.
const maxCertificate = 64 << 10

// ParseKey makes a Key of a DER certificate. If crypto/x509 refuses the
// certificate for something that does not matter to a key, such as a negative
// serial number or a malformed extension, key, validity and usage are read
// without it. Trust lists should use NewKey: a certificate that is to be
// trusted must be a proper one.
func ParseKey(der []byte) (*Key, error) {
	if len(der) > maxCertificate {
		return nil, refuse(StageSigner, TooLarge, "certificate")
	}
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		return NewKey(cert)
	}
	k, ok := parseKeyOnly(der)
	if !ok {
		return nil, &Error{Stage: StageSigner, Reason: UnsupportedKey, Detail: "certificate", Cause: err}
	}
	return k, checkKeyType(k.Public)
}

// lenientCertificate is RFC 5280, §4.1, without a look at what a key does not
// need.
type lenientCertificate struct {
	TBS struct {
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Serial    asn1.RawValue
		Signature asn1.RawValue
		Issuer    asn1.RawValue
		Validity  struct{ NotBefore, NotAfter time.Time }
		Subject   asn1.RawValue
		PublicKey asn1.RawValue
		IssuerID  asn1.RawValue    `asn1:"optional,tag:1"`
		SubjectID asn1.RawValue    `asn1:"optional,tag:2"`
		Extra     []pkix.Extension `asn1:"optional,explicit,tag:3"`
	}
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

func parseKeyOnly(der []byte) (*Key, bool) {
	var c lenientCertificate
	if rest, err := asn1.Unmarshal(der, &c); err != nil || len(rest) > 0 {
		return nil, false
	}
	var public crypto.PublicKey
	public, err := x509.ParsePKIXPublicKey(c.TBS.PublicKey.FullBytes)
	if err != nil {
		if public = pssKey(c.TBS.PublicKey.FullBytes); public == nil {
			return nil, false
		}
	}
	k := &Key{KID: KIDOf(der), Public: public, NotBefore: c.TBS.Validity.NotBefore, NotAfter: c.TBS.Validity.NotAfter}
	for _, e := range c.TBS.Extra {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			continue
		}
		var oids []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(e.Value, &oids); err != nil || len(rest) > 0 {
			return nil, false
		}
		k.Usage |= usageOf(oids)
	}
	return k, true
}

// KeySource knows the document signers. KeysFor returns every trusted key with
// that kid; the caller must not change the slice.
type KeySource interface {
	KeysFor(KID) []*Key
}

// KeySet is a KeySource in memory.
type KeySet map[KID][]*Key

// NewKeySet indexes keys by kid.
func NewKeySet(keys ...*Key) KeySet {
	s := make(KeySet, len(keys))
	for _, k := range keys {
		s[k.KID] = append(s[k.KID], k)
	}
	return s
}

// KeysFor returns the keys with that kid.
func (s KeySet) KeysFor(kid KID) []*Key { return s[kid] }

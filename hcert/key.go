package hcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
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

// OID returns the extended key usage (hcert-spec §A.2) that names one type, or
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
	var u Usage
	for _, oid := range cert.UnknownExtKeyUsage {
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
	switch pub := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if ecdsaSize(pub) == 0 {
			return nil, refuse(StageSigner, UnsupportedKey, "EC key on a curve other than P-256 and P-384")
		}
	case *rsa.PublicKey:
		if err := checkRSA(pub); err != nil {
			return nil, err
		}
	default:
		return nil, refuse(StageSigner, UnsupportedKey, fmt.Sprintf("type %T", pub))
	}
	k := &Key{KID: KIDOf(cert.Raw), Public: cert.PublicKey, Usage: UsageOf(cert),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
	if len(cert.Subject.Country) == 1 {
		k.Country = cert.Subject.Country[0]
	}
	return k, nil
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

package trustlist

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"verdant/hcert"
)

// Validity periods of the templates, from the EU's certificate governance and
// the WHO's participant checks (signing authority 2 to 4 years, upload and TLS
// 1 to 2). A DSC outlives the certificates that it signs: at most a year of
// signing and a year of validity. There is no guidance for the anchor.
const (
	AnchorValidity         = 10 * year
	CSCAValidity           = 4 * year
	DSCValidity            = 2 * year
	UploadValidity         = 2 * year
	AuthenticationValidity = 1 * year

	year = 365 * 24 * time.Hour
)

// Subject names the holder of a certificate.
type Subject struct {
	Country      string // ISO 3166-1 alpha-2
	Organization string // may be empty
	CommonName   string
}

func (s Subject) name() pkix.Name {
	n := pkix.Name{Country: []string{s.Country}, CommonName: s.CommonName}
	if s.Organization != "" {
		n.Organization = []string{s.Organization}
	}
	return n
}

// Authority signs certificates. With a nil Certificate, the certificate that
// it makes is its own: self-signed.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NewAnchorCertificate makes a self-signed trust anchor, which signs CMS and
// no certificates. It returns DER, as all functions here do.
func NewAnchorCertificate(ctx context.Context, key crypto.Signer, s Subject, from time.Time) ([]byte, error) {
	t := template(s, from, AnchorValidity)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	return create(ctx, t, Authority{Key: key}, key.Public())
}

// NewCSCA makes a country's self-signed signing authority.
func NewCSCA(ctx context.Context, key crypto.Signer, s Subject, from time.Time) ([]byte, error) {
	t := template(s, from, CSCAValidity)
	t.IsCA = true
	t.MaxPathLenZero = true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return create(ctx, t, Authority{Key: key}, key.Public())
}

// NewUpload makes a country's upload certificate, self-signed or by an authority.
func NewUpload(ctx context.Context, by Authority, public crypto.PublicKey, s Subject, from time.Time) ([]byte, error) {
	t := template(s, from, UploadValidity)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	return create(ctx, t, by, public)
}

// NewAuthentication makes a country's TLS client certificate.
func NewAuthentication(ctx context.Context, by Authority, public crypto.PublicKey, s Subject, from time.Time) ([]byte, error) {
	t := template(s, from, AuthenticationValidity)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return create(ctx, t, by, public)
}

// NewDSC makes a document signer certificate for the given types of
// certificates; a zero usage makes one that may sign all of them and names
// each. Its validity ends with its authority's at the latest.
func NewDSC(ctx context.Context, csca Authority, public crypto.PublicKey, s Subject, usage hcert.Usage, from time.Time) ([]byte, error) {
	if csca.Certificate == nil {
		return nil, refuse(BadTemplate, "a document signer needs a signing authority")
	}
	if usage == 0 {
		usage = hcert.UsageTest | hcert.UsageVaccination | hcert.UsageRecovery
	}
	t := template(s, from, DSCValidity)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	for _, u := range []hcert.Usage{hcert.UsageTest, hcert.UsageVaccination, hcert.UsageRecovery} {
		if usage&u != 0 {
			t.UnknownExtKeyUsage = append(t.UnknownExtKeyUsage, asn1.ObjectIdentifier(u.OID()))
		}
	}
	return create(ctx, t, csca, public)
}

func template(s Subject, from time.Time, validity time.Duration) *x509.Certificate {
	from = from.UTC().Truncate(time.Second)
	return &x509.Certificate{
		Subject:               s.name(),
		NotBefore:             from,
		NotAfter:              from.Add(validity),
		BasicConstraintsValid: true,
	}
}

// create signs a template. New keys must be EC, or RSA of 3072 bits, as the
// WHO asks of participants; a document signer may have RSA 2048.
func create(ctx context.Context, t *x509.Certificate, by Authority, public crypto.PublicKey) ([]byte, error) {
	if len(t.Subject.Country[0]) != 2 || t.Subject.CommonName == "" {
		return nil, refuse(BadTemplate, "the subject needs a two-letter country and a common name")
	}
	if by.Key == nil {
		return nil, refuse(BadTemplate, "no signing key")
	}
	bits := 3072
	if len(t.UnknownExtKeyUsage) > 0 {
		bits = 2048
	}
	if err := checkKeyStrength(public, bits); err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, fmt.Errorf("make certificate serial: %w", err)
	}
	serial[0] &= 0x7F // positive
	serial[0] |= 0x40 // and always 16 bytes long
	t.SerialNumber = new(big.Int).SetBytes(serial)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, &Error{Reason: UnsupportedKey, Cause: err}
	}
	id := sha256.Sum256(spki)
	t.SubjectKeyId = id[:20] // RFC 7093, §2, method 1
	parent := t
	if by.Certificate != nil {
		parent = by.Certificate
		if t.NotBefore.Before(parent.NotBefore) || !t.NotBefore.Before(parent.NotAfter) {
			return nil, refuse(BadTemplate, "the authority is not valid at the start of the validity")
		}
		if t.NotAfter.After(parent.NotAfter) {
			t.NotAfter = parent.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, bindContext(ctx, by.Key))
	if err != nil {
		return nil, &Error{Reason: SignerFailed, Cause: err}
	}
	return der, nil
}

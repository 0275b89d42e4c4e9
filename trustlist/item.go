package trustlist

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"verdant/hcert"
)

// CertificateType is the role of a certificate in the network.
type CertificateType string

// The types of the EU gateway.
const (
	Authentication CertificateType = "AUTHENTICATION" // TLS client of a country's back end
	Upload         CertificateType = "UPLOAD"         // signs a country's uploads
	CSCA           CertificateType = "CSCA"           // signs a country's DSCs
	DSCType        CertificateType = "DSC"            // signs certificates
)

// Item is an entry of a gateway's trust list as its JSON has it: a claim, not
// a proof. Times are written to the second.
type Item struct {
	KID        string          `json:"kid"` // base64
	Timestamp  time.Time       `json:"timestamp"`
	Country    string          `json:"country"`
	Type       CertificateType `json:"certificateType"`
	Thumbprint string          `json:"thumbprint"` // hex
	Signature  string          `json:"signature"`  // base64 CMS, detached; "" if deleted
	RawData    string          `json:"rawData"`    // base64 DER; "" if deleted
}

// MarshalJSON writes an entry as the gateway does: null for the signature and
// data of a deleted one, times without fractions.
func (i Item) MarshalJSON() ([]byte, error) {
	type wire struct {
		KID        string          `json:"kid"`
		Timestamp  string          `json:"timestamp"`
		Country    string          `json:"country"`
		Type       CertificateType `json:"certificateType"`
		Thumbprint string          `json:"thumbprint"`
		Signature  *string         `json:"signature"`
		RawData    *string         `json:"rawData"`
	}
	w := wire{i.KID, i.Timestamp.Format(time.RFC3339), i.Country, i.Type, i.Thumbprint, nil, nil}
	if i.Signature != "" {
		w.Signature = &i.Signature
	}
	if i.RawData != "" {
		w.RawData = &i.RawData
	}
	return json.Marshal(w)
}

// Deleted reports whether the entry is the tombstone of a deleted DSC.
func (i Item) Deleted() bool { return i.Signature == "" && i.RawData == "" }

// Tombstone returns the entry as it is listed after its deletion.
func (i Item) Tombstone() Item {
	i.Signature, i.RawData = "", ""
	return i
}

func newItem(t CertificateType, country string, der, detached []byte, at time.Time) Item {
	return Item{
		KID:        hcert.KIDOf(der).String(),
		Timestamp:  at.Truncate(time.Second),
		Country:    country,
		Type:       t,
		Thumbprint: Thumbprint(der),
		Signature:  base64.StdEncoding.EncodeToString(detached),
		RawData:    base64.StdEncoding.EncodeToString(der),
	}
}

// SignParty makes the entry of a trusted party: the trust anchor signs the
// certificate. It refuses what VerifyParty would refuse.
func SignParty(ctx context.Context, anchor *CMSSigner, t CertificateType, cert *x509.Certificate) (Item, error) {
	if err := checkParty(t, countryOf(cert), cert); err != nil {
		return Item{}, err
	}
	sig, err := anchor.SignDetached(ctx, cert.Raw)
	if err != nil {
		return Item{}, err
	}
	return newItem(t, countryOf(cert), cert.Raw, sig, anchor.Now()), nil
}

// Anchor is the trust anchor's certificate, the one thing that a verifier is
// configured with.
type Anchor struct{ cert *x509.Certificate }

// NewAnchor makes an Anchor of a certificate that the caller trusts.
func NewAnchor(cert *x509.Certificate) *Anchor { return &Anchor{cert} }

// Certificate returns the anchor's certificate.
func (a *Anchor) Certificate() *x509.Certificate { return a.cert }

// Party is a trusted party whose certificate the trust anchor signed.
type Party struct {
	typ     CertificateType
	country string
	cert    *x509.Certificate
}

// Type returns the party's role.
func (p *Party) Type() CertificateType { return p.typ }

// Country returns the country that the certificate names.
func (p *Party) Country() string { return p.country }

// Certificate returns the party's certificate.
func (p *Party) Certificate() *x509.Certificate { return p.cert }

// Thumbprint returns the lower-case hex SHA-256 of the certificate.
func (p *Party) Thumbprint() string { return Thumbprint(p.cert.Raw) }

// KID returns the first 8 bytes of that hash.
func (p *Party) KID() hcert.KID { return hcert.KIDOf(p.cert.Raw) }

// VerifyParty checks an entry of type AUTHENTICATION, UPLOAD or CSCA: its
// certificate parses and names the entry's country, thumbprint and kid are its
// own, and its detached signature was made by exactly this anchor.
func (a *Anchor) VerifyParty(i Item) (*Party, error) {
	switch i.Type {
	case Authentication, Upload, CSCA:
	default:
		return nil, refuse(WrongType, string(i.Type)+" is no trusted party")
	}
	cert, env, err := i.parse()
	if err != nil {
		return nil, err
	}
	opened, err := env.OpenDetached(cert.Raw)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(opened.Signer().Raw, a.cert.Raw) {
		return nil, refuse(NotByAnchor, "the signer's certificate is another")
	}
	if err := checkParty(i.Type, i.Country, cert); err != nil {
		return nil, err
	}
	return &Party{typ: i.Type, country: i.Country, cert: cert}, nil
}

func checkParty(t CertificateType, country string, cert *x509.Certificate) error {
	switch t {
	case Authentication, Upload, CSCA:
	default:
		return refuse(WrongType, string(t)+" is no trusted party")
	}
	if country == "" || countryOf(cert) != country {
		return refuse(WrongCountry, "the subject must name "+orOne(country)+" as its only country (C)")
	}
	return checkKeyStrength(cert.PublicKey, 2048)
}

func orOne(country string) string {
	if country == "" {
		return "a country"
	}
	return country
}

// parse decodes certificate and signature and checks thumbprint and kid.
func (i Item) parse() (*x509.Certificate, *Envelope, error) {
	if i.Deleted() {
		return nil, nil, refuse(Tombstone, "")
	}
	der, err := base64.StdEncoding.DecodeString(i.RawData)
	if err != nil {
		return nil, nil, &Error{Reason: NotBase64, Detail: "rawData", Cause: err}
	}
	cert, err := ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	want := Thumbprint(der)
	if subtle.ConstantTimeCompare([]byte(strings.ToLower(i.Thumbprint)), []byte(want)) != 1 {
		return nil, nil, refuse(WrongThumbprint, "")
	}
	if i.KID != "" && i.KID != hcert.KIDOf(der).String() {
		return nil, nil, refuse(WrongKID, "")
	}
	env, err := ParseCMSBase64(i.Signature)
	if err != nil {
		return nil, nil, err
	}
	return cert, env, nil
}

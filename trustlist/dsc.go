package trustlist

import (
	"bytes"
	"crypto/x509"
	"time"

	"verdant/hcert"
)

// DSC is a document signer certificate that was uploaded by an upload
// certificate and signed by a signing authority of its country.
type DSC struct {
	key      *hcert.Key
	cert     *x509.Certificate
	uploader *Party
	csca     *Party
}

// Country returns the country that the certificate names.
func (d *DSC) Country() string { return d.csca.country }

// Certificate returns the document signer's certificate.
func (d *DSC) Certificate() *x509.Certificate { return d.cert }

// Key returns the key for package hcert.
func (d *DSC) Key() *hcert.Key { return d.key }

// KID returns the first 8 bytes of the certificate's SHA-256.
func (d *DSC) KID() hcert.KID { return d.key.KID }

// Thumbprint returns the lower-case hex SHA-256 of the certificate.
func (d *DSC) Thumbprint() string { return Thumbprint(d.cert.Raw) }

// Uploader returns the party whose upload certificate signed the upload.
func (d *DSC) Uploader() *Party { return d.uploader }

// CSCA returns the signing authority that signed the certificate.
func (d *DSC) CSCA() *Party { return d.csca }

// Parties are the trusted parties by country. It does not change after
// NewParties and is safe for concurrent use.
type Parties struct {
	uploaders map[string][]*Party
	cscas     map[string][]*Party
	auth      map[string][]*Party
}

// NewParties indexes verified parties.
func NewParties(parties ...*Party) *Parties {
	p := &Parties{map[string][]*Party{}, map[string][]*Party{}, map[string][]*Party{}}
	for _, party := range parties {
		m := p.index(party.typ)
		m[party.country] = append(m[party.country], party)
	}
	return p
}

func (p *Parties) index(t CertificateType) map[string][]*Party {
	switch t {
	case Upload:
		return p.uploaders
	case CSCA:
		return p.cscas
	}
	return p.auth
}

// Of returns a country's parties of one type. The caller must not change the slice.
func (p *Parties) Of(country string, t CertificateType) []*Party { return p.index(t)[country] }

// VerifyDSC checks an entry of type DSC: thumbprint and kid are the
// certificate's own, the detached signature was made by an upload certificate
// and the certificate signed by a CSCA, both of the country that the entry and
// the certificate name.
func (p *Parties) VerifyDSC(i Item) (*DSC, error) {
	if i.Type != DSCType {
		return nil, refuse(WrongType, string(i.Type)+" is no document signer")
	}
	cert, env, err := i.parse()
	if err != nil {
		return nil, err
	}
	opened, err := env.OpenDetached(cert.Raw)
	if err != nil {
		return nil, err
	}
	return p.verify(cert, opened.Signer(), i.Country)
}

// VerifyUpload checks the upload of a DSC by a country: an attached message
// around the DER certificate. It returns the entry that the gateway lists, its
// signature packed as detached, beside what was proven.
func (p *Parties) VerifyUpload(env *Envelope, country string, at time.Time) (*DSC, Item, error) {
	opened, err := env.Open()
	if err != nil {
		return nil, Item{}, err
	}
	cert, err := ParseCertificate(opened.Content())
	if err != nil {
		return nil, Item{}, err
	}
	d, err := p.verify(cert, opened.Signer(), country)
	if err != nil {
		return nil, Item{}, err
	}
	detached, err := env.DetachedDER()
	if err != nil {
		return nil, Item{}, err
	}
	return d, newItem(DSCType, country, cert.Raw, detached, at), nil
}

// VerifyUploader checks that an opened message was signed by an upload
// certificate of the country, for what is no certificate: rules, revocations,
// deletions.
func (p *Parties) VerifyUploader(o *Opened, country string) (*Party, error) {
	return p.uploader(o.signer, country)
}

func (p *Parties) uploader(signer *x509.Certificate, country string) (*Party, error) {
	for _, party := range p.uploaders[country] {
		if bytes.Equal(party.cert.Raw, signer.Raw) {
			return party, nil
		}
	}
	return nil, refuse(UnknownUploader, country)
}

func (p *Parties) verify(cert, signer *x509.Certificate, country string) (*DSC, error) {
	uploader, err := p.uploader(signer, country)
	if err != nil {
		return nil, err
	}
	if country == "" || countryOf(cert) != country {
		return nil, refuse(WrongCountry, "the subject must name "+orOne(country)+" as its only country (C)")
	}
	csca := p.issuerOf(cert, country)
	if csca == nil {
		return nil, refuse(UnknownCSCA, country)
	}
	key, err := hcert.NewKey(cert)
	if err != nil {
		return nil, &Error{Reason: UnsupportedKey, Cause: err}
	}
	key.Country = country
	return &DSC{key: key, cert: cert, uploader: uploader, csca: csca}, nil
}

// issuerOf finds the CSCA whose key signed the certificate. Names and basic
// constraints do not count, as they do not for the gateway; authorities with
// the right name are tried first, because a failed check costs as much as a
// successful one.
func (p *Parties) issuerOf(cert *x509.Certificate, country string) *Party {
	for _, named := range []bool{true, false} {
		for _, party := range p.cscas[country] {
			if bytes.Equal(party.cert.RawSubject, cert.RawIssuer) != named {
				continue
			}
			if party.cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil {
				return party
			}
		}
	}
	return nil
}

// List is a set of verified document signers. It is a hcert.KeySource, does
// not change and is safe for concurrent use.
type List struct {
	dscs []*DSC
	keys hcert.KeySet
}

// NewList indexes document signers by kid; several may share one.
func NewList(dscs ...*DSC) *List {
	l := &List{dscs: dscs, keys: make(hcert.KeySet, len(dscs))}
	for _, d := range dscs {
		l.keys[d.key.KID] = append(l.keys[d.key.KID], d.key)
	}
	return l
}

// KeysFor returns every trusted key with that kid.
func (l *List) KeysFor(kid hcert.KID) []*hcert.Key { return l.keys[kid] }

// DSCs returns the document signers. The caller must not change the slice.
func (l *List) DSCs() []*DSC { return l.dscs }

// Rejection is an entry that was not accepted, and why.
type Rejection struct {
	Item Item
	Err  error
}

// Verified is what came out of a whole trust list.
type Verified struct {
	Parties  *Parties
	List     *List
	Rejected []Rejection // tombstones are not among them
}

// Verify checks a whole trust list, parties first whatever the order of the
// entries. It never fails as a whole: what cannot be proven is rejected, and
// it is for the caller to refuse a list that lost too much.
func (a *Anchor) Verify(items []Item) *Verified {
	v := new(Verified)
	var parties []*Party
	for _, i := range items {
		if i.Type == DSCType {
			continue
		}
		p, err := a.VerifyParty(i)
		if err != nil {
			v.Rejected = append(v.Rejected, Rejection{i, err})
			continue
		}
		parties = append(parties, p)
	}
	v.Parties = NewParties(parties...)
	var dscs []*DSC
	for _, i := range items {
		if i.Type != DSCType || i.Deleted() {
			continue
		}
		d, err := v.Parties.VerifyDSC(i)
		if err != nil {
			v.Rejected = append(v.Rejected, Rejection{i, err})
			continue
		}
		dscs = append(dscs, d)
	}
	v.List = NewList(dscs...)
	return v
}

package keyvault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"verdant/hsm"
)

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
)

// template is the certificate that a policy describes, without its validity
// and serial number. A certificate that may sign certificates is a CA.
func (p *certPolicy) template() (*x509.Certificate, error) {
	x := p.X509
	usage, err := x.usage()
	if err != nil {
		return nil, err
	}
	oids, err := x.ekus()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{KeyUsage: usage, BasicConstraintsValid: true, IsCA: usage&x509.KeyUsageCertSign != 0, UnknownExtKeyUsage: oids, MaxPathLen: -1}
	if x.Basic != nil {
		t.IsCA = x.Basic.CA
		if x.Basic.CA && x.Basic.PathLen != nil {
			t.MaxPathLen, t.MaxPathLenZero = *x.Basic.PathLen, *x.Basic.PathLen == 0
		}
	}
	if t.RawSubject, err = parseDN(x.Subject); err != nil {
		return nil, badParameter("Property policy.x509_props.subject is not a distinguished name: %s.", err)
	}
	if err := x.SANs.apply(t); err != nil {
		return nil, err
	}
	if x.Subject == "" && len(t.DNSNames)+len(t.EmailAddresses)+len(t.IPAddresses)+len(t.URIs) == 0 {
		return nil, badParameter("The certificate policy needs a subject or a subject alternative name.")
	}
	return t, nil
}

// request makes a PKCS #10 request (RFC 2986) for a policy.
func (p *certPolicy) request(key hsm.Key) ([]byte, error) {
	t, err := p.template()
	if err != nil {
		return nil, err
	}
	extensions, err := requested(t)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: t.RawSubject, DNSNames: t.DNSNames,
		EmailAddresses: t.EmailAddresses, IPAddresses: t.IPAddresses, URIs: t.URIs, ExtraExtensions: extensions}, key)
}

// requested are the extensions a request asks for besides the names.
func requested(t *x509.Certificate) ([]pkix.Extension, error) {
	var out []pkix.Extension
	add := func(id asn1.ObjectIdentifier, critical bool, v any) error {
		der, err := asn1.Marshal(v)
		out = append(out, pkix.Extension{Id: id, Critical: critical, Value: der})
		return err
	}
	var errs []error
	if t.KeyUsage != 0 {
		errs = append(errs, add(oidKeyUsage, true, usageBits(t.KeyUsage)))
	}
	if len(t.UnknownExtKeyUsage) > 0 {
		errs = append(errs, add(oidExtKeyUsage, false, t.UnknownExtKeyUsage))
	}
	if t.IsCA {
		errs = append(errs, add(oidBasicConstraints, true, struct {
			CA bool
		}{true}))
	}
	return out, errors.Join(errs...)
}

// usageBits is the BIT STRING of RFC 5280 section 4.2.1.3: bit 0 comes first.
func usageBits(u x509.KeyUsage) asn1.BitString {
	b, n := make([]byte, 2), 0
	for i := range 9 {
		if u&(1<<i) != 0 {
			b[i/8] |= 0x80 >> (i % 8)
			n = i + 1
		}
	}
	return asn1.BitString{Bytes: b[:(n+7)/8], BitLength: n}
}

// backdate makes a new certificate valid for clocks that are a little behind.
const backdate = 10 * time.Minute

// selfSigned makes the certificate of an issuer "Self" policy.
func (p *certPolicy) selfSigned(key hsm.Key, now time.Time) (*x509.Certificate, error) {
	t, err := p.template()
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always of 16 bytes
	t.SerialNumber = new(big.Int).SetBytes(serial)
	t.NotBefore = now.Add(-backdate).UTC().Truncate(time.Second)
	t.NotAfter = t.NotBefore.AddDate(0, *p.X509.Validity, 0)
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// pending is a certificate operation: the last one of a name.
type pending struct {
	RequestID string     `json:"request_id"`
	CSR       []byte     `json:"csr"`
	Issuer    certIssuer `json:"issuer"`
	Status    string     `json:"status"`
	Cancelled bool       `json:"cancellation_requested"`
	Version   string     `json:"version"`
	// Token is the key that waits for its certificate; it belongs to the
	// operation until that is completed.
	Token      hsm.KeyID     `json:"token,omitempty"`
	Public     *keyRecord    `json:"public,omitempty"`
	Attributes *attributesIn `json:"attributes,omitempty"`
	Tags       tags          `json:"tags,omitempty"`
}

// Status of a pending operation.
const (
	inProgress = "inProgress"
	completed  = "completed"
	cancelled  = "cancelled"
)

type operationOut struct {
	ID        string     `json:"id"`
	Issuer    certIssuer `json:"issuer"`
	CSR       []byte     `json:"csr"`
	Cancelled bool       `json:"cancellation_requested"`
	Status    string     `json:"status"`
	Details   string     `json:"status_details,omitempty"`
	Target    string     `json:"target,omitempty"`
	RequestID string     `json:"request_id"`
}

func (s *Server) operationOut(name string, p *pending) operationOut {
	out := operationOut{ID: s.url("certificates", name, "pending"), Issuer: p.Issuer, CSR: p.CSR, Cancelled: p.Cancelled, Status: p.Status, RequestID: p.RequestID}
	switch p.Status {
	case completed:
		out.Target = s.url("certificates", name)
	case cancelled:
		out.Details = "The operation was cancelled on request."
	default:
		out.Details = "Pending certificate created. Please Perform Merge to complete the request."
		if strings.EqualFold(p.Issuer.Name, "Self") {
			out.Details = "Pending certificate created. Certificate request is in progress. This may take some time based on the issuer provider. Please check again later."
		}
	}
	return out
}

// certRecord is what the store keeps for a certificate version.
type certRecord struct {
	CER        []byte     `json:"cer"`
	Chain      [][]byte   `json:"chain,omitempty"` // issuers, as they were given
	X5T        b64        `json:"x5t"`
	Attributes attributes `json:"attributes"`
	Tags       tags       `json:"tags,omitempty"`
}

// certified is everything that a new certificate version consists of.
type certified struct {
	version string
	policy  *certPolicy
	chain   []*x509.Certificate // leaf first
	key     keyRecord           // public part and token id
	token   hsm.Key
	attrs   *attributesIn
	tags    tags
}

// publish writes a certificate version with its managed key and secret,
// inside a transaction. o is the certificate's object, with its Meta set.
func (s *Server) publish(ctx context.Context, tx Tx, o Object, c certified) (*certRecord, error) {
	leaf, now := c.chain[0], s.now().Unix()
	attrs := c.attrs.fresh(now)
	attrs.NotBefore, attrs.Expires = ptr(leaf.NotBefore.Unix()), ptr(leaf.NotAfter.Unix())
	thumb := sha1.Sum(leaf.Raw) // x5t is defined over SHA-1 (RFC 7517 section 4.8)
	record := &certRecord{CER: leaf.Raw, X5T: thumb[:], Attributes: attrs, Tags: c.tags}
	for _, issuer := range c.chain[1:] {
		record.Chain = append(record.Chain, issuer.Raw)
	}
	value, err := s.bundle(ctx, c)
	if err != nil {
		return nil, err
	}
	sealed, err := s.seal(ctx, Secrets, o.Name, c.version, value)
	if err != nil {
		return nil, err
	}
	v := Version{ID: c.version, Created: now}
	key := c.key
	key.Type, key.Managed, key.Exportable, key.Attributes, key.Tags = c.policy.Key.Type, true, *c.policy.Key.Exportable, attrs, c.tags
	if key.Ops, err = checkOps(nil, key.Type); err != nil {
		return nil, err
	}
	secret := secretRecord{ContentType: ptr(c.policy.Secret.ContentType), Attributes: attrs, Tags: c.tags, Managed: true, KID: s.url("keys", o.Name, v.ID), Previous: o.Current}
	return record, errors.Join(add(tx, o, v, record),
		add(tx, Object{Kind: Keys, Name: o.Name}, v, key),
		add(tx, Object{Kind: Secrets, Name: o.Name}, Version{ID: v.ID, Created: v.Created, Value: sealed}, secret))
}

// bundle is the value of the secret behind a certificate: the certificates,
// and the private key where the policy makes it exportable.
func (s *Server) bundle(ctx context.Context, c certified) (string, error) {
	var m *hsm.Material
	if *c.policy.Key.Exportable {
		var err error
		if m, err = s.token.Export(ctx, c.key.Token); err != nil {
			return "", err
		}
		defer m.Wipe()
	}
	if c.policy.Secret.ContentType == contentPEM {
		return pemBundle(m, c.chain)
	}
	var pfx []byte
	var err error
	if m != nil {
		pfx, err = m.PFX(c.chain, "")
	} else {
		pfx, err = pkcs12.Modern.EncodeTrustStore(c.chain, "")
	}
	defer clear(pfx)
	return base64.StdEncoding.EncodeToString(pfx), err
}

// pemOfPFX turns one form of bundle into the other.
func pemOfPFX(value string) (string, error) {
	pfx, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return "", err
	}
	defer clear(pfx)
	m, chain, err := hsm.FromPFX(pfx, "")
	if err != nil { // without a private key it is a trust store
		if chain, err = pkcs12.DecodeTrustStore(pfx, ""); err != nil {
			return "", err
		}
		return pemBundle(nil, chain)
	}
	defer m.Wipe()
	return pemBundle(m, chain)
}

func pemBundle(m *hsm.Material, chain []*x509.Certificate) (string, error) {
	var b bytes.Buffer
	if m != nil {
		der, err := m.PKCS8()
		if err != nil {
			return "", err
		}
		defer clear(der)
		if err := pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
			return "", err
		}
	}
	for _, c := range chain {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// keyForCertificate returns the key of a new version: the current one where
// the policy reuses it, else a new one, whose abandon must be called if no
// transaction gives it an owner.
func (s *Server) keyForCertificate(ctx context.Context, name string, p *certPolicy) (k hsm.Key, reused bool, abandon func(), err error) {
	spec, err := p.spec(s.cfg.SKU)
	if err != nil {
		return nil, false, nil, err
	}
	if *p.Key.Reuse {
		_, _, current, err := find[keyRecord](ctx, s, Keys, name, "")
		if err == nil && current.Managed {
			if k, err := s.tokenKey(ctx, current); err == nil && k.Spec() == spec {
				return k, true, func() {}, nil
			}
		}
	}
	k, abandon, err = s.newKey(ctx, func(id hsm.KeyID) (hsm.Key, error) { return s.token.Generate(ctx, id, spec) })
	return k, false, abandon, err
}

// certChain reads certificates and puts the one that belongs to public first.
func certChain(ders [][]byte, public crypto.PublicKey) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, badParameter("Property x5c holds something that is not an X.509 certificate.")
		}
		chain = append(chain, c)
	}
	leaf := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return samePublic(c.PublicKey, public) })
	if leaf < 0 {
		return nil, badParameter("The public key of the end-entity certificate in the specified X.509 certificate content does not match the public part of the specified private key. Please check if certificate is valid.")
	}
	return slices.Concat(chain[leaf:leaf+1], chain[:leaf], chain[leaf+1:]), nil
}

func samePublic(a, b crypto.PublicKey) bool {
	pub, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(b)
}

// x5c reads certificates in base64, standard or URL, as clients send both.
type x5c [][]byte

// UnmarshalJSON reads the list.
func (x *x5c) UnmarshalJSON(data []byte) error {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		return errBase64
	}
	if len(texts) > 32 {
		return fmt.Errorf("over 32 certificates")
	}
	for _, text := range texts {
		text = strings.NewReplacer("-", "+", "_", "/", "\r", "", "\n", "", "=", "").Replace(text)
		der, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil {
			return errBase64
		}
		*x = append(*x, der)
	}
	return nil
}

package trustlist

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sort"
	"time"

	_ "crypto/sha256" // the digests of digests below
	_ "crypto/sha512"

	"verdant/hcert"
)

func oid(arcs ...int) asn1.ObjectIdentifier { return arcs }

func oidData() asn1.ObjectIdentifier          { return oid(1, 2, 840, 113549, 1, 7, 1) }
func oidSignedData() asn1.ObjectIdentifier    { return oid(1, 2, 840, 113549, 1, 7, 2) }
func oidContentType() asn1.ObjectIdentifier   { return oid(1, 2, 840, 113549, 1, 9, 3) }
func oidMessageDigest() asn1.ObjectIdentifier { return oid(1, 2, 840, 113549, 1, 9, 4) }
func oidSigningTime() asn1.ObjectIdentifier   { return oid(1, 2, 840, 113549, 1, 9, 5) }

// Identifiers as text, for switches.
const (
	sha256OID      = "2.16.840.1.101.3.4.2.1"
	sha384OID      = "2.16.840.1.101.3.4.2.2"
	sha512OID      = "2.16.840.1.101.3.4.2.3"
	rsaOID         = "1.2.840.113549.1.1.1"
	pssOID         = "1.2.840.113549.1.1.10"
	rsaSHA256OID   = "1.2.840.113549.1.1.11"
	rsaSHA384OID   = "1.2.840.113549.1.1.12"
	rsaSHA512OID   = "1.2.840.113549.1.1.13"
	ecPublicKeyOID = "1.2.840.10045.2.1"
	ecdsaSHA256OID = "1.2.840.10045.4.3.2"
	ecdsaSHA384OID = "1.2.840.10045.4.3.3"
	ecdsaSHA512OID = "1.2.840.10045.4.3.4"
)

// contentInfo is the outermost element of CMS (RFC 5652, §3).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

// signedData is RFC 5652, §5.1.
type signedData struct {
	Version          int
	DigestAlgorithms asn1.RawValue
	Encapsulated     encapsulated
	Certificates     asn1.RawValue   `asn1:"optional,tag:0"`
	CRLs             asn1.RawValue   `asn1:"optional,tag:1"`
	Signers          []asn1.RawValue `asn1:"set"`
}

type encapsulated struct {
	Type    asn1.ObjectIdentifier
	Content []byte `asn1:"explicit,optional,omitempty,tag:0"`
}

// signerInfo is RFC 5652, §5.3.
type signerInfo struct {
	Version    int
	ID         asn1.RawValue // issuerAndSerialNumber or [0] subjectKeyIdentifier
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
	Unsigned   asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

// Envelope is a parsed CMS signed-data message with one certificate and one
// signer. Nothing about it is proven until Open or OpenDetached succeeds; and
// those prove only that the embedded certificate's key signed it, not that
// anyone should trust that certificate.
type Envelope struct {
	signer   *x509.Certificate
	content  []byte // nil if detached
	detached bool
	sd       signedData
	si       signerInfo
}

// Opened is the content of an Envelope whose signature was checked.
type Opened struct {
	content []byte
	signer  *x509.Certificate
}

// Content returns what was signed. The caller must not change it.
func (o *Opened) Content() []byte { return o.content }

// Signer returns the certificate whose key made the signature; trusting it is
// another question.
func (o *Opened) Signer() *x509.Certificate { return o.signer }

// ParseCMSBase64 parses the form that travels as an HTTP body and in JSON:
// standard base64 in one line.
func ParseCMSBase64(text string) (*Envelope, error) {
	if len(text) > maxCMS/3*4+4 {
		return nil, refuse(NotCMS, "larger than 1 MiB")
	}
	// The decoder ignores line breaks, which the gateway does not accept.
	for i := range len(text) {
		if text[i] == '\n' || text[i] == '\r' {
			return nil, refuse(NotBase64, "line breaks are not allowed")
		}
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, &Error{Reason: NotBase64, Cause: err}
	}
	return ParseCMS(der)
}

// ParseCMS parses a signed-data message in DER or BER. It refuses, in this
// order: what is not CMS, content of another type than data, any number of
// certificates but one, any number of signers but one.
func ParseCMS(data []byte) (*Envelope, error) {
	der, err := toDER(data)
	if err != nil {
		return nil, &Error{Reason: NotCMS, Cause: err}
	}
	var info contentInfo
	if err := unmarshal(der, &info); err != nil {
		return nil, &Error{Reason: NotCMS, Cause: err}
	}
	if !info.Type.Equal(oidSignedData()) {
		return nil, refuse(NotCMS, "another type of message")
	}
	e := new(Envelope)
	if err := unmarshal(info.Content.Bytes, &e.sd); err != nil {
		return nil, &Error{Reason: NotCMS, Cause: err}
	}
	if !e.sd.Encapsulated.Type.Equal(oidData()) {
		return nil, refuse(NotData, "")
	}
	e.content = e.sd.Encapsulated.Content
	e.detached = e.content == nil
	// A certificate that cannot be parsed is worth its own reason, so count
	// elements before parsing.
	certs, err := elements(e.sd.Certificates.Bytes)
	if err != nil {
		return nil, &Error{Reason: NotCMS, Cause: err}
	}
	if len(certs) != 1 {
		return nil, refuse(CertificateCount, fmt.Sprintf("it has %d", len(certs)))
	}
	if len(e.sd.Signers) != 1 {
		return nil, refuse(SignerCount, fmt.Sprintf("it has %d", len(e.sd.Signers)))
	}
	if err := unmarshal(e.sd.Signers[0].FullBytes, &e.si); err != nil {
		return nil, &Error{Reason: NotCMS, Detail: "signer", Cause: err}
	}
	if e.signer, err = ParseCertificate(certs[0]); err != nil {
		return nil, err
	}
	return e, nil
}

func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = errors.New("data after the structure")
	}
	return err
}

func elements(der []byte) ([][]byte, error) {
	var out [][]byte
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			return nil, err
		}
		out, der = append(out, v.FullBytes), rest
	}
	return out, nil
}

// Detached reports whether the message came without its content.
func (e *Envelope) Detached() bool { return e.detached }

// ClaimedSigner returns the embedded certificate, not proven to have signed.
func (e *Envelope) ClaimedSigner() *x509.Certificate { return e.signer }

// ClaimedContent returns the content, not proven to be signed; nil if detached.
func (e *Envelope) ClaimedContent() []byte { return e.content }

// Open checks the signature over the content that the message carries.
func (e *Envelope) Open() (*Opened, error) {
	if e.detached {
		return nil, refuse(NotData, "the message is detached")
	}
	return e.open(e.content)
}

// OpenDetached checks the signature of a detached message over content. A
// message that carries content itself is refused, because two contents could
// then be taken for the signed one.
func (e *Envelope) OpenDetached(content []byte) (*Opened, error) {
	if !e.detached {
		return nil, refuse(NotData, "the message should be detached but carries content")
	}
	return e.open(content)
}

func (e *Envelope) open(content []byte) (*Opened, error) {
	if !e.namesSigner() {
		return nil, refuse(BadSignature, "the signer is not the embedded certificate")
	}
	digest, ok := hashOf(e.si.Digest.Algorithm)
	if !ok {
		return nil, refuse(UnsupportedCMS, "digest "+e.si.Digest.Algorithm.String())
	}
	signed := content
	if len(e.si.Attributes.FullBytes) > 0 {
		if err := e.checkAttributes(digest, content); err != nil {
			return nil, err
		}
		// The signature covers the attributes under the tag of a SET
		// (RFC 5652, §5.4).
		signed = bytes.Clone(e.si.Attributes.FullBytes)
		signed[0] = 0x31
	}
	if err := e.checkSignature(digest, signed); err != nil {
		return nil, err
	}
	return &Opened{content: content, signer: e.signer}, nil
}

func (e *Envelope) namesSigner() bool {
	id := e.si.ID
	if id.Class == asn1.ClassContextSpecific && id.Tag == 0 {
		return len(id.Bytes) > 0 && bytes.Equal(id.Bytes, e.signer.SubjectKeyId)
	}
	var ias issuerAndSerial
	if err := unmarshal(id.FullBytes, &ias); err != nil || ias.Serial == nil {
		return false
	}
	return ias.Serial.Cmp(e.signer.SerialNumber) == 0 && bytes.Equal(ias.Issuer.FullBytes, e.signer.RawIssuer)
}

// checkAttributes requires the content type and the digest (RFC 5652, §11),
// each once.
func (e *Envelope) checkAttributes(digest crypto.Hash, content []byte) error {
	list, err := elements(e.si.Attributes.Bytes)
	if err != nil {
		return &Error{Reason: NotCMS, Detail: "signed attributes", Cause: err}
	}
	var contentTypes, digests int
	for _, der := range list {
		var a attribute
		if err := unmarshal(der, &a); err != nil {
			return &Error{Reason: NotCMS, Detail: "signed attributes", Cause: err}
		}
		switch {
		case a.Type.Equal(oidContentType()):
			contentTypes++
			var t asn1.ObjectIdentifier
			if err := unmarshal(a.Values.Bytes, &t); err != nil || !t.Equal(oidData()) {
				return refuse(NotData, "in the signed attributes")
			}
		case a.Type.Equal(oidMessageDigest()):
			digests++
			var got []byte
			if err := unmarshal(a.Values.Bytes, &got); err != nil {
				return &Error{Reason: NotCMS, Detail: "message digest", Cause: err}
			}
			h := digest.New()
			h.Write(content)
			if subtle.ConstantTimeCompare(h.Sum(nil), got) != 1 {
				return refuse(BadSignature, "the content is not the signed one")
			}
		}
	}
	if contentTypes != 1 || digests != 1 {
		return refuse(UnsupportedCMS, "content type and message digest must occur once in the signed attributes")
	}
	return nil
}

func hashOf(id asn1.ObjectIdentifier) (crypto.Hash, bool) {
	switch id.String() {
	case sha256OID, rsaSHA256OID, ecdsaSHA256OID:
		return crypto.SHA256, true
	case sha384OID, rsaSHA384OID, ecdsaSHA384OID:
		return crypto.SHA384, true
	case sha512OID, rsaSHA512OID, ecdsaSHA512OID:
		return crypto.SHA512, true
	}
	return 0, false
}

// pssParameters is RFC 4055, §3.1, as far as it decides what is verified.
type pssParameters struct {
	Hash pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:0"`
	MGF  pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:1"`
	Salt int                      `asn1:"explicit,optional,tag:2,default:20"`
	Tail int                      `asn1:"explicit,optional,tag:3,default:1"`
}

func (e *Envelope) checkSignature(digest crypto.Hash, signed []byte) error {
	alg := e.si.Algorithm.Algorithm.String()
	hash := digest
	if h, ok := hashOf(e.si.Algorithm.Algorithm); ok {
		hash = h
	}
	var salt int
	if alg == pssOID {
		var p pssParameters
		if err := unmarshal(e.si.Algorithm.Parameters.FullBytes, &p); err != nil {
			return &Error{Reason: UnsupportedCMS, Detail: "PSS parameters", Cause: err}
		}
		h, ok := hashOf(p.Hash.Algorithm)
		if !ok || p.Salt < 0 || p.Tail != 1 {
			return refuse(UnsupportedCMS, "PSS parameters")
		}
		hash, salt = h, p.Salt
	}
	h := hash.New()
	h.Write(signed)
	sum := h.Sum(nil)
	valid := false
	switch pub := e.signer.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch alg {
		case ecPublicKeyOID, ecdsaSHA256OID, ecdsaSHA384OID, ecdsaSHA512OID:
			valid = ecdsa.VerifyASN1(pub, sum, e.si.Signature)
		default:
			return refuse(UnsupportedCMS, "signature "+alg+" with an EC key")
		}
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return refuse(UnsupportedKey, fmt.Sprintf("RSA key of %d bits", pub.N.BitLen()))
		}
		if err := checkRSASize(pub); err != nil {
			return err
		}
		switch alg {
		case rsaOID, rsaSHA256OID, rsaSHA384OID, rsaSHA512OID:
			valid = rsa.VerifyPKCS1v15(pub, hash, sum, e.si.Signature) == nil
		case pssOID:
			valid = rsa.VerifyPSS(pub, hash, sum, e.si.Signature, &rsa.PSSOptions{SaltLength: salt}) == nil
		default:
			return refuse(UnsupportedCMS, "signature "+alg+" with an RSA key")
		}
	default:
		return refuse(UnsupportedKey, fmt.Sprintf("type %T", pub))
	}
	if !valid {
		return refuse(BadSignature, "")
	}
	return nil
}

// DetachedDER returns the same signature as a detached message in DER: what
// the gateway keeps of an upload.
func (e *Envelope) DetachedDER() ([]byte, error) { return e.marshal(nil) }

// AttachedDER returns the same signature around content in DER. Content that
// was not signed makes a message that Open refuses.
func (e *Envelope) AttachedDER(content []byte) ([]byte, error) {
	if content == nil {
		content = []byte{}
	}
	return e.marshal(content)
}

func (e *Envelope) marshal(content []byte) ([]byte, error) {
	sd := e.sd
	return marshalSignedData(sd, content)
}

func marshalSignedData(sd signedData, content []byte) ([]byte, error) {
	// encoding/asn1 takes an empty slice for an absent one, so the
	// encapsulated content is built by hand.
	type outerEncapsulated struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional"`
	}
	enc := outerEncapsulated{Type: oidData()}
	if content != nil {
		inner, err := asn1.Marshal(content)
		if err != nil {
			return nil, err
		}
		enc.Content = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}
	}
	body, err := asn1.Marshal(struct {
		Version          int
		DigestAlgorithms asn1.RawValue
		Encapsulated     outerEncapsulated
		Certificates     asn1.RawValue   `asn1:"optional"`
		CRLs             asn1.RawValue   `asn1:"optional"`
		Signers          []asn1.RawValue `asn1:"set"`
	}{sd.Version, sd.DigestAlgorithms, enc, sd.Certificates, sd.CRLs, sd.Signers})
	if err != nil {
		return nil, fmt.Errorf("encode CMS: %w", err)
	}
	return asn1.Marshal(contentInfo{Type: oidSignedData(),
		Content: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: body}})
}

// CMSSigner signs CMS messages with a certificate's private key.
type CMSSigner struct {
	Certificate *x509.Certificate
	// Key signs digests: ASN.1 for ECDSA, PKCS #1 v1.5 for RSA.
	Key crypto.Signer
	// Now gives the signing time.
	Now func() time.Time
}

// Sign returns a signed-data message in DER around content: SHA-256 with ECDSA
// or RSA (PKCS #1 v1.5), with signed attributes, as the gateway's tools write it.
func (s *CMSSigner) Sign(ctx context.Context, content []byte) ([]byte, error) {
	sd, err := s.sign(ctx, content)
	if err != nil {
		return nil, err
	}
	if content == nil {
		content = []byte{}
	}
	return marshalSignedData(*sd, content)
}

// SignDetached is Sign without the content in the message.
func (s *CMSSigner) SignDetached(ctx context.Context, content []byte) ([]byte, error) {
	sd, err := s.sign(ctx, content)
	if err != nil {
		return nil, err
	}
	return marshalSignedData(*sd, nil)
}

// SignBase64 is Sign in the form of an HTTP body.
func (s *CMSSigner) SignBase64(ctx context.Context, content []byte) (string, error) {
	der, err := s.Sign(ctx, content)
	return base64.StdEncoding.EncodeToString(der), err
}

func (s *CMSSigner) sign(ctx context.Context, content []byte) (*signedData, error) {
	if s.Certificate == nil || s.Key == nil || s.Now == nil {
		return nil, refuse(SignerFailed, "certificate, key or clock is not configured")
	}
	algorithm := pkix.AlgorithmIdentifier{}
	switch pub := s.Key.Public().(type) {
	case *ecdsa.PublicKey:
		if !pub.Equal(s.Certificate.PublicKey) {
			return nil, refuse(SignerFailed, "the key is not the certificate's")
		}
		algorithm.Algorithm = oid(1, 2, 840, 10045, 4, 3, 2)
	case *rsa.PublicKey:
		if !pub.Equal(s.Certificate.PublicKey) {
			return nil, refuse(SignerFailed, "the key is not the certificate's")
		}
		algorithm.Algorithm = oid(1, 2, 840, 113549, 1, 1, 11)
		algorithm.Parameters = asn1.NullRawValue
	default:
		return nil, refuse(UnsupportedKey, fmt.Sprintf("type %T", pub))
	}
	attrs, err := signedAttributes(content, s.Now().UTC())
	if err != nil {
		return nil, err
	}
	h := crypto.SHA256.New()
	h.Write(attrs)
	signature, err := bindContext(ctx, s.Key).Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	if err != nil {
		return nil, &Error{Reason: SignerFailed, Cause: err}
	}
	id, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: s.Certificate.RawIssuer}, s.Certificate.SerialNumber})
	if err != nil {
		return nil, fmt.Errorf("encode CMS: %w", err)
	}
	digest := pkix.AlgorithmIdentifier{Algorithm: oid(2, 16, 840, 1, 101, 3, 4, 2, 1)}
	implicit := bytes.Clone(attrs)
	implicit[0] = 0xA0
	signer, err := asn1.Marshal(struct {
		Version    int
		ID         asn1.RawValue
		Digest     pkix.AlgorithmIdentifier
		Attributes asn1.RawValue
		Algorithm  pkix.AlgorithmIdentifier
		Signature  []byte
	}{1, asn1.RawValue{FullBytes: id}, digest, asn1.RawValue{FullBytes: implicit}, algorithm, signature})
	if err != nil {
		return nil, fmt.Errorf("encode CMS: %w", err)
	}
	digests, err := asn1.MarshalWithParams([]pkix.AlgorithmIdentifier{digest}, "set")
	if err != nil {
		return nil, fmt.Errorf("encode CMS: %w", err)
	}
	return &signedData{
		Version:          1,
		DigestAlgorithms: asn1.RawValue{FullBytes: digests},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true,
			Bytes: s.Certificate.Raw},
		Signers: []asn1.RawValue{{FullBytes: signer}},
	}, nil
}

// signedAttributes returns the DER SET of content type, signing time and
// message digest.
func signedAttributes(content []byte, at time.Time) ([]byte, error) {
	h := crypto.SHA256.New()
	h.Write(content)
	var attrs [][]byte
	for _, a := range []struct {
		id    asn1.ObjectIdentifier
		value any
	}{{oidContentType(), oidData()}, {oidSigningTime(), at}, {oidMessageDigest(), h.Sum(nil)}} {
		value, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, fmt.Errorf("encode CMS attribute: %w", err)
		}
		der, err := asn1.Marshal(attribute{a.id, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}})
		if err != nil {
			return nil, fmt.Errorf("encode CMS attribute: %w", err)
		}
		attrs = append(attrs, der)
	}
	sort.Slice(attrs, func(i, j int) bool { return bytes.Compare(attrs[i], attrs[j]) < 0 })
	return asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: bytes.Join(attrs, nil)})
}

// bindContext gives a context to a signer for one signature.
func bindContext(ctx context.Context, s crypto.Signer) crypto.Signer { return boundSigner{ctx, s} }

// boundSigner lives for one call, which is why it may hold a context.
type boundSigner struct {
	ctx context.Context
	crypto.Signer
}

func (b boundSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if cs, ok := b.Signer.(hcert.ContextSigner); ok {
		return cs.SignContext(b.ctx, digest, opts)
	}
	if err := b.ctx.Err(); err != nil {
		return nil, err
	}
	return b.Signer.Sign(random, digest, opts)
}

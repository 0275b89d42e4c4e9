package hcert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ContextSigner is a crypto.Signer whose key is elsewhere. If an Issuer's
// signer has this method, it is called in place of Sign, so that the caller's
// deadline and trace reach the vault.
type ContextSigner interface {
	crypto.Signer
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// IssuerConfig configures an Issuer.
type IssuerConfig struct {
	// Country is the CWT issuer: ISO 3166-1 alpha-2, in capitals.
	Country string
	// Certificate is the document signer certificate (DSC). Its key selects the
	// algorithm: P-256 ES256, P-384 ES384, RSA PS256.
	Certificate *x509.Certificate
	// Signer holds the DSC's private key and signs digests: ASN.1 for ECDSA,
	// PSS with a salt of 32 bytes for RSA.
	Signer crypto.Signer
	// SelfCheck verifies each signature before the certificate is handed out.
	// It costs one verification, which is little beside a remote signer, and
	// keeps what a confused signer returned out of circulation.
	SelfCheck bool
}

// Issuer makes certificates with one document signer. It is safe for
// concurrent use if its Signer is.
type Issuer struct {
	country   string
	alg       Algorithm
	kid       KID
	cert      *x509.Certificate
	usage     Usage
	signer    crypto.Signer
	selfCheck bool
	protected string
	scratch   sync.Pool // of *scratch
}

// scratch is memory for what is not part of a result.
type scratch struct{ a, b []byte }

func (i *Issuer) getScratch() *scratch {
	if s, ok := i.scratch.Get().(*scratch); ok {
		return s
	}
	return &scratch{make([]byte, 0, 1024), make([]byte, 0, 1024)}
}

// putScratch gives memory back, without the personal data that was in it. What
// an unusually large document needed is not kept.
func (i *Issuer) putScratch(s *scratch) {
	if cap(s.a)+cap(s.b) > 64<<10 {
		return
	}
	clear(s.a)
	clear(s.b)
	s.a, s.b = s.a[:0], s.b[:0]
	i.scratch.Put(s)
}

// NewIssuer checks that signer and certificate belong together.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	fail := func(reason Reason, detail string) (*Issuer, error) {
		return nil, refuse(StageIssue, reason, detail)
	}
	if len(cfg.Country) != 2 || !capital(cfg.Country[0]) || !capital(cfg.Country[1]) {
		return fail(BadClaims, "the issuing country must be an ISO 3166-1 alpha-2 code in capitals")
	}
	if cfg.Certificate == nil || cfg.Signer == nil {
		return fail(SignerFailed, "no document signer certificate or no signing key is configured")
	}
	key, err := NewKey(cfg.Certificate)
	if err != nil {
		return nil, err
	}
	alg, err := AlgorithmFor(key.Public)
	if err != nil {
		return nil, err
	}
	pub, ok := key.Public.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(cfg.Signer.Public()) {
		return fail(SignerFailed, "the signing key is not the one in the document signer certificate")
	}
	i := &Issuer{country: cfg.Country, alg: alg, kid: key.KID, cert: cfg.Certificate,
		usage: key.Usage, signer: cfg.Signer, selfCheck: cfg.SelfCheck}
	b := appendHead(nil, cborMap, 2)
	b = appendInt(appendInt(b, headerAlg), int64(alg))
	b = appendBytes(appendInt(b, headerKID), []byte(key.KID))
	i.protected = string(b)
	return i, nil
}

// AlgorithmFor returns the algorithm that a document signer with this public
// key uses to issue.
func AlgorithmFor(pub crypto.PublicKey) (Algorithm, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch ecdsaSize(pub) {
		case 32:
			return ES256, nil
		case 48:
			return ES384, nil
		}
		return 0, refuse(StageIssue, UnsupportedKey, "EC key on a curve other than P-256 and P-384")
	case *rsa.PublicKey:
		return PS256, checkRSA(pub)
	}
	return 0, refuse(StageIssue, UnsupportedKey, fmt.Sprintf("type %T", pub))
}

// KID returns the identifier of the document signer.
func (i *Issuer) KID() KID { return i.kid }

// Algorithm returns the algorithm of the document signer.
func (i *Issuer) Algorithm() Algorithm { return i.alg }

// Country returns the issuing country.
func (i *Issuer) Country() string { return i.country }

// Draft is a certificate that lacks its signature. It serves issuing in two
// steps, where the party that holds the payload is not the one that signs.
type Draft struct {
	issuer  *Issuer
	payload []byte // the claims, the last part of sig
	sig     []byte // Sig_structure
	hash    [sha256.Size]byte
}

// Issued is a finished certificate.
type Issued struct {
	Text string            // "HC1:…", the content of the QR code
	COSE []byte            // the signed message, tagged 18
	Hash [sha256.Size]byte // SHA-256 of the Sig_structure: the EU's certhash
	KID  KID
}

// Draft checks a payload and builds what is to be signed. It refuses a payload
// that breaks its schema, a type that the document signer may not sign, and a
// validity that is empty or not inside the document signer's.
func (i *Issuer) Draft(dcc *DCC, issuedAt, expires time.Time) (*Draft, error) {
	tree := dcc.Tree()
	if err := ValidateDeclared(tree); err != nil {
		return nil, &Error{Stage: StageSchema, Reason: SchemaViolation, Cause: err}
	}
	return i.draft(SubclaimDCC, tree, dcc.Kind(), issuedAt, expires)
}

// DraftContent is Draft for a document of another profile than the DCC.
func (i *Issuer) DraftContent(c Content, issuedAt, expires time.Time) (*Draft, error) {
	if err := c.Check(); err != nil {
		return nil, &Error{Stage: StageSchema, Reason: SchemaViolation, Cause: err}
	}
	return i.draft(profileID(c.Profile()), c.Tree(), profileKind(c.Profile()), issuedAt, expires)
}

func (i *Issuer) draft(subclaim int64, tree any, kind Kind, issuedAt, expires time.Time) (*Draft, error) {
	if !i.usage.Allows(kind) {
		return nil, refuse(StageKeyUsage, WrongKeyUsage, "this one is a "+string(kind)+" certificate")
	}
	issuedAt, expires = issuedAt.Truncate(time.Second), expires.Truncate(time.Second)
	switch {
	case !issuedAt.Before(expires):
		return nil, refuse(StageIssue, Expired, "the expiry time is not after the issue time")
	case issuedAt.Unix() < 0 || expires.Unix() > maxNumericDate:
		return nil, refuse(StageIssue, BadClaims, "issue or expiry time out of range")
	case issuedAt.Before(i.cert.NotBefore):
		return nil, refuse(StageIssue, OutsideSignerValidity, "the signer is valid from "+i.cert.NotBefore.UTC().Format(time.RFC3339))
	case expires.After(i.cert.NotAfter):
		return nil, refuse(StageIssue, OutsideSignerValidity, "the signer is valid until "+i.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	mem := i.getScratch()
	defer i.putScratch(mem)
	b := appendHead(mem.a, cborMap, 4)
	b = appendText(appendInt(b, claimIssuer), i.country)
	b = appendInt(appendInt(b, claimExpires), expires.Unix())
	b = appendInt(appendInt(b, claimIssuedAt), issuedAt.Unix())
	b = appendHead(appendInt(b, claimHCert), cborMap, 1)
	b, err := appendTree(appendInt(b, subclaim), tree)
	if err != nil {
		return nil, &Error{Stage: StageIssue, Reason: BadCBOR, Cause: err}
	}
	mem.a = b
	sig := appendSigStructure(make([]byte, 0, len(b)+len(i.protected)+24), i.protected, b)
	return &Draft{issuer: i, payload: sig[len(sig)-len(b):], sig: sig, hash: sha256.Sum256(sig)}, nil
}

// Hash returns the SHA-256 of the Sig_structure: what ES256 and PS256 sign,
// and the certhash of the EU's wallet interface.
func (d *Draft) Hash() [sha256.Size]byte { return d.hash }

// Seal adds the raw signature (r‖s for ECDSA) and checks it first, so that a
// confused signer never puts an invalid certificate into circulation.
func (d *Draft) Seal(signature []byte) (*Issued, error) {
	i := d.issuer
	s := Sign1{Protected: i.protected, Algorithm: i.alg, KID: i.kid,
		Payload: string(d.payload), Signature: string(signature)}
	if err := s.CheckKey(i.cert.PublicKey); err != nil {
		return nil, &Error{Stage: StageIssue, Reason: SignerFailed, Cause: err,
			Detail: "the signature does not fit the document signer certificate"}
	}
	return d.seal(signature)
}

func (d *Draft) seal(signature []byte) (*Issued, error) {
	i := d.issuer
	msg := make([]byte, 0, len(d.payload)+len(i.protected)+len(signature)+16)
	msg = appendHead(msg, cborTag, tagCOSESign1)
	msg = appendHead(msg, cborArray, 4)
	msg = append(appendHead(msg, cborBytes, uint64(len(i.protected))), i.protected...)
	msg = appendHead(msg, cborMap, 0)
	msg = appendBytes(msg, d.payload)
	msg = appendBytes(msg, signature)
	mem := i.getScratch()
	defer i.putScratch(mem)
	var err error
	if mem.a, err = deflate(mem.a, msg); err != nil {
		return nil, &Error{Stage: StageIssue, Reason: BadZlib, Cause: err}
	}
	mem.b = appendBase45(append(mem.b, Prefix...), mem.a)
	return &Issued{Text: string(mem.b), COSE: msg, Hash: d.hash, KID: i.kid}, nil
}

// Issue makes a certificate. The times are cut to seconds.
func (i *Issuer) Issue(ctx context.Context, dcc *DCC, issuedAt, expires time.Time) (*Issued, error) {
	d, err := i.Draft(dcc, issuedAt, expires)
	if err != nil {
		return nil, err
	}
	return i.sign(ctx, d)
}

// IssueContent is Issue for a document of another profile than the DCC.
func (i *Issuer) IssueContent(ctx context.Context, c Content, issuedAt, expires time.Time) (*Issued, error) {
	d, err := i.DraftContent(c, issuedAt, expires)
	if err != nil {
		return nil, err
	}
	return i.sign(ctx, d)
}

func (i *Issuer) sign(ctx context.Context, d *Draft) (*Issued, error) {
	var digest []byte
	if i.alg == ES384 {
		sum := sha512.Sum384(d.sig)
		digest = sum[:]
	} else {
		digest = d.hash[:]
	}
	raw, err := SignDigest(ctx, i.signer, i.alg, digest)
	if err != nil {
		return nil, err
	}
	if i.selfCheck {
		return d.Seal(raw)
	}
	return d.seal(raw)
}

// SignDigest has a signer sign a digest as COSE wants the result: raw r‖s of
// fixed length for ECDSA (crypto.Signer gives ASN.1), PSS with a salt as long
// as the hash for RSA. The digest is SHA-384 for ES384, else SHA-256.
func SignDigest(ctx context.Context, signer crypto.Signer, alg Algorithm, digest []byte) ([]byte, error) {
	var opts crypto.SignerOpts
	switch alg {
	case ES256:
		opts = crypto.SHA256
	case ES384:
		opts = crypto.SHA384
	case PS256:
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	default:
		return nil, refuse(StageIssue, UnsupportedAlgorithm, alg.String())
	}
	if len(digest) != opts.HashFunc().Size() {
		return nil, refuse(StageIssue, SignerFailed, "the digest has the wrong length for "+alg.String())
	}
	var sig []byte
	var err error
	if cs, ok := signer.(ContextSigner); ok {
		sig, err = cs.SignContext(ctx, digest, opts)
	} else if err = ctx.Err(); err == nil {
		sig, err = signer.Sign(rand.Reader, digest, opts)
	}
	if err != nil {
		return nil, &Error{Stage: StageIssue, Reason: SignerFailed, Cause: err}
	}
	if alg == PS256 {
		return sig, nil
	}
	pub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, refuse(StageIssue, SignerFailed, alg.String()+" with a key that is not ECDSA")
	}
	raw, err := rawECDSA(sig, ecdsaSize(pub))
	if err != nil {
		return nil, &Error{Stage: StageIssue, Reason: SignerFailed, Cause: err}
	}
	return raw, nil
}

// rawECDSA turns an ASN.1 signature into r‖s of size bytes each.
func rawECDSA(der []byte, size int) ([]byte, error) {
	malformed := errors.New("the signer's answer is not an ASN.1 ECDSA signature")
	body, rest, ok := derElement(der, 0x30)
	if !ok || len(rest) > 0 {
		return nil, malformed
	}
	r, rest, ok := derElement(body, 0x02)
	if !ok {
		return nil, malformed
	}
	s, rest, ok := derElement(rest, 0x02)
	if !ok || len(rest) > 0 {
		return nil, malformed
	}
	raw := make([]byte, 2*size)
	for i, v := range [][]byte{r, s} {
		if len(v) == 0 || v[0]&0x80 != 0 {
			return nil, malformed
		}
		v = bytes.TrimLeft(v, "\x00")
		if len(v) == 0 || len(v) > size {
			return nil, errors.New("the signer's answer does not fit the curve")
		}
		copy(raw[(i+1)*size-len(v):], v)
	}
	return raw, nil
}

// derElement reads one element below 256 bytes.
func derElement(in []byte, tag byte) (body, rest []byte, ok bool) {
	if len(in) < 2 || in[0] != tag {
		return nil, nil, false
	}
	n, in := int(in[1]), in[2:]
	if n == 0x81 && len(in) > 0 {
		n, in = int(in[0]), in[1:]
	} else if n >= 0x80 {
		return nil, nil, false
	}
	if n > len(in) {
		return nil, nil, false
	}
	return in[:n], in[n:], true
}

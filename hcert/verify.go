package hcert

import (
	"errors"
	"time"
)

// Verified is a certificate whose signature, validity, signer's key usage and
// schema were checked at one time. Only Verify makes one.
type Verified struct {
	u       *Unverified
	key     *Key
	dcc     *DCC
	at      time.Time
	release string
}

// Profile says what the certificate is. Look at it first: all but a DCC have
// no DCC.
func (v *Verified) Profile() Profile { return v.u.Profile }

// DCC returns the payload, or nil if the profile is not ProfileDCC. The caller
// must not change it.
func (v *Verified) DCC() *DCC { return v.dcc }

// Document returns the document of another profile than ProfileDCC, or nil.
// The caller must not change it.
func (v *Verified) Document() *Document { return v.u.Document }

// Tree returns the payload of a DCC as business rules read it, fields that the
// typed form does not know included; nil if the profile is another. The caller
// must not change it.
func (v *Verified) Tree() map[string]any {
	if v.u.Payload == nil {
		return nil
	}
	return v.u.Payload.Tree
}

// Kind returns the type of the certificate.
func (v *Verified) Kind() Kind { return v.u.Kind() }

// Claims returns issuer and validity. The caller must not change them.
func (v *Verified) Claims() *Claims { return v.u.Claims }

// Sign1 returns the signed message. The caller must not change it.
func (v *Verified) Sign1() *Sign1 { return v.u.Sign1 }

// Key returns the document signer whose key made the signature.
func (v *Verified) Key() *Key { return v.key }

// At returns the time for which the certificate was verified.
func (v *Verified) At() time.Time { return v.at }

// SchemaRelease returns the release of the DCC schema that accepted the
// payload; "" for other profiles.
func (v *Verified) SchemaRelease() string { return v.release }

// Verify checks a certificate against the document signers at a time, in this
// order: signer known, signature, validity (also that the signer's had not
// ended at the time of issue), key usage, schema. The first
// refusal is returned as an *Error.
func (u *Unverified) Verify(keys KeySource, at time.Time) (*Verified, error) {
	if u.Sign1 == nil || u.Claims == nil || (u.Payload == nil) == (u.Document == nil) {
		return nil, refuse(StagePayload, NoPayload, "decoding did not finish")
	}
	kind := u.Kind()
	key, err := u.Sign1.FindKey(keys, kind)
	if err != nil {
		return nil, err
	}
	if err := u.Claims.CheckTime(at); err != nil {
		return nil, err
	}
	if err := key.issuedInTime(u.Claims); err != nil {
		return nil, err
	}
	release, err := u.validate()
	// The usage is reported before a broken payload, except that a payload
	// without a type fits no usage.
	if kind != "" && !key.Usage.Allows(kind) {
		return nil, refuse(StageKeyUsage, WrongKeyUsage, "this one is a "+string(kind)+" certificate")
	}
	if err != nil {
		return nil, &Error{Stage: StageSchema, Reason: SchemaViolation, Cause: err}
	}
	v := &Verified{u: u, key: key, at: at, release: release}
	if u.Payload != nil {
		v.dcc = newDCC(u.Payload.Tree)
	}
	return v, nil
}

// issuedInTime refuses a certificate that was issued after its signer's
// validity had ended: it cannot be the signer's (hcert-spec, "Expiration Time":
// exp must not exceed the DSC's validity). The other ends are not judged:
// issuers round the issue time down, and certificates that outlive their
// signer are in circulation.
func (k *Key) issuedInTime(c *Claims) error {
	if !k.NotAfter.IsZero() && c.IssuedAt.After(k.NotAfter) {
		return refuse(StageValidity, OutsideSignerValidity, "issued after the signer's last day, "+k.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func (u *Unverified) validate() (release string, err error) {
	if u.Payload != nil {
		return Validate(u.Payload.Tree)
	}
	return "", u.Document.Content.Check()
}

// FindKey returns the document signer whose key made the signature. It tries
// every key with the message's kid and, if several fit, prefers one that may
// sign this kind.
func (s *Sign1) FindKey(keys KeySource, kind Kind) (*Key, error) {
	candidates := keys.KeysFor(s.KID)
	if s.KID == "" || len(candidates) == 0 {
		return nil, refuse(StageSigner, UnknownSigner, "kid "+s.KID.String())
	}
	var found *Key
	var worst error
	for _, k := range candidates {
		if err := s.CheckKey(k.Public); err != nil {
			// A wrong signature says more than a key of another type.
			if worst == nil || errors.Is(err, BadSignature) {
				worst = err
			}
			continue
		}
		if k.Usage.Allows(kind) {
			return k, nil
		}
		if found == nil {
			found = k
		}
	}
	if found == nil {
		return nil, worst
	}
	return found, nil
}

// Verifier verifies texts; it is safe for concurrent use if Keys is.
type Verifier struct {
	Keys KeySource
	Now  func() time.Time

	decoder Decoder
}

// NewVerifier makes a Verifier with the given document signers, clock and limits.
func NewVerifier(keys KeySource, now func() time.Time, l Limits) *Verifier {
	return &Verifier{Keys: keys, Now: now, decoder: Decoder{Limits: l}}
}

// Verify decodes and verifies an "HC1:…" text. If err is not nil, the
// *Unverified holds how far it got; it is never nil.
func (v *Verifier) Verify(text string) (*Verified, *Unverified, error) {
	u, err := v.decoder.Decode(text)
	if err != nil {
		return nil, u, err
	}
	ok, err := u.Verify(v.Keys, v.Now())
	return ok, u, err
}

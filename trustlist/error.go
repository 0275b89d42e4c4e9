package trustlist

import "strings"

// Reason says why something was refused. It is an error, for errors.Is.
type Reason string

// Error returns the reason in words.
func (r Reason) Error() string { return string(r) }

// The reasons.
const (
	NotBase64          Reason = "not base64"
	NotCMS             Reason = "not a CMS signed-data message"
	NotData            Reason = "CMS content is not of type data, or is missing"
	CertificateCount   Reason = "CMS must hold exactly one certificate"
	SignerCount        Reason = "CMS must have exactly one signer"
	UnsupportedCMS     Reason = "unsupported CMS algorithm or attribute"
	BadSignature       Reason = "bad CMS signature"
	NotCertificate     Reason = "not an X.509 certificate"
	ExplicitParameters Reason = "EC key with explicit parameters instead of a named curve"
	UnsupportedKey     Reason = "unsupported or weak public key"
	WrongType          Reason = "wrong type of certificate"
	WrongThumbprint    Reason = "thumbprint is not that of the certificate"
	WrongKID           Reason = "kid is not that of the certificate"
	WrongCountry       Reason = "certificate is not of this country"
	Tombstone          Reason = "entry was deleted"
	NotByAnchor        Reason = "not signed by the trust anchor"
	UnknownUploader    Reason = "not signed by an upload certificate of this country"
	UnknownCSCA        Reason = "not signed by a signing authority (CSCA) of this country"
	SignerFailed       Reason = "signing failed"
	BadTemplate        Reason = "certificate cannot be made like this"
)

// Error is every refusal of this package.
type Error struct {
	Reason Reason
	Detail string // may be empty
	Cause  error  // may be nil
}

// Error says what was refused and why.
func (e *Error) Error() string {
	parts := []string{string(e.Reason)}
	if e.Detail != "" {
		parts = append(parts, e.Detail)
	}
	if e.Cause != nil {
		parts = append(parts, e.Cause.Error())
	}
	return strings.Join(parts, ": ")
}

// Is reports whether target is the error's Reason.
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func refuse(reason Reason, detail string) *Error { return &Error{Reason: reason, Detail: detail} }

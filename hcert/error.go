package hcert

import "strings"

// Stage names the link of the chain at which something was refused.
type Stage string

// The stages in the order in which a certificate passes them.
const (
	StagePrefix    Stage = "prefix"
	StageBase45    Stage = "base45"
	StageZlib      Stage = "zlib"
	StageCOSE      Stage = "cose"
	StageCWT       Stage = "cwt"
	StagePayload   Stage = "payload"
	StageSigner    Stage = "signer"
	StageSignature Stage = "signature"
	StageValidity  Stage = "validity"
	StageKeyUsage  Stage = "key usage"
	StageSchema    Stage = "schema"
	StageIssue     Stage = "issue"
)

// Reason says why a certificate was refused. It is an error, so that callers
// can write errors.Is(err, hcert.Expired).
type Reason string

// Error returns the reason in words.
func (r Reason) Error() string { return string(r) }

// The reasons for a refusal.
const (
	// WrongPrefix: the text does not begin with "HC1:".
	WrongPrefix Reason = "not an HC1 text"
	// TooLarge: a bound of Limits was exceeded.
	TooLarge Reason = "too large"
	// BadBase45: a character outside the alphabet, a bad length or value.
	BadBase45 Reason = "invalid base45"
	// BadZlib: not a zlib stream, a damaged one, or bytes after its end.
	BadZlib Reason = "invalid zlib stream"
	// BadCBOR: not well-formed CBOR, or CBOR that this protocol does not allow.
	BadCBOR Reason = "invalid CBOR"
	// BadCOSE: not a COSE_Sign1 message.
	BadCOSE Reason = "not a COSE_Sign1 message"
	// BadClaims: not a CWT claim set with a health certificate in it.
	BadClaims Reason = "not a health certificate claim set"
	// NoPayload: the health certificate claim holds nothing that is known:
	// sub-claim 1 (DCC), 3, 4, 5 or -6.
	NoPayload Reason = "no known document in the health certificate claim"
	// UnsupportedAlgorithm: neither ES256, ES384 nor PS256, or one that does
	// not fit the signer's key.
	UnsupportedAlgorithm Reason = "unsupported signature algorithm"
	// UnsupportedKey: a public key that is too weak or of an unknown type.
	UnsupportedKey Reason = "unsupported public key"
	// UnknownSigner: no trusted document signer has the certificate's kid.
	UnknownSigner Reason = "unknown document signer"
	// BadSignature: no trusted document signer with that kid made the signature.
	BadSignature Reason = "bad signature"
	// NotYetValid: issued after the time of verification.
	NotYetValid Reason = "not yet valid"
	// Expired: the validity ended before the time of verification.
	Expired Reason = "expired"
	// NoValidity: the issue or expiry time is missing.
	NoValidity Reason = "no issue or expiry time"
	// WrongKeyUsage: the signer may not sign this type of certificate.
	WrongKeyUsage Reason = "document signer may not sign this type of certificate"
	// SchemaViolation: the payload breaks the schema of its profile.
	SchemaViolation Reason = "payload breaks its schema"
	// SignerFailed: the signing key refused or returned something unusable.
	SignerFailed Reason = "signing failed"
	// OutsideSignerValidity: when issuing, the certificate would not lie within
	// its document signer's validity; when verifying, it was issued after it.
	OutsideSignerValidity Reason = "outside the document signer's validity"
)

// Error is every refusal of this package. Detail never holds a value of the
// payload, so an Error may be logged.
type Error struct {
	Stage  Stage
	Reason Reason
	Detail string // may be empty
	Cause  error  // may be nil
}

// Error says at which stage, what and why.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Stage))
	b.WriteString(": ")
	b.WriteString(string(e.Reason))
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	if e.Cause != nil {
		b.WriteString(": ")
		b.WriteString(e.Cause.Error())
	}
	return b.String()
}

// Is reports whether target is the error's Reason.
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func refuse(stage Stage, reason Reason, detail string) *Error {
	return &Error{Stage: stage, Reason: reason, Detail: detail}
}

package wire

import (
	"verdant/certlogic"
	"verdant/hcert"
)

// DocumentSigner is one certificate that may sign health certificates, as the
// verifier service hands it to apps and to the command line.
type DocumentSigner struct {
	// KID is base64 of the 8-byte kid.
	KID string `json:"kid"`
	// Country is the country that the trust list names.
	Country string `json:"country,omitempty"`
	// RawData is base64 of the DER certificate.
	RawData string `json:"rawData"`
}

// SignerDelta answers GET /signercertificateStatus/delta.
type SignerDelta struct {
	// Updated holds the kids added since the time asked for.
	Updated []string `json:"updated"`
	// Deleted holds those that are no longer trusted.
	Deleted []string `json:"deleted"`
}

// VerifyRequest is the body of POST /verify.
type VerifyRequest struct {
	// HC1 is the certificate, "HC1:…".
	HC1 string `json:"hc1"`
	// At is the time for which to verify (RFC 3339); empty means now.
	At string `json:"at,omitempty"`
	// Country of arrival, two letters: apply its business rules too. A wallet
	// asks so for a journey, with At as the day of arrival.
	Country string `json:"country,omitempty"`
	// Region adds the rules of a part of the country.
	Region string `json:"region,omitempty"`
	// Language is the reader's, for the texts of rules.
	Language string `json:"language,omitempty"`
	// Strict refuses also what the schema does not see but is wrong or
	// doubtful.
	Strict bool `json:"strict,omitempty"`
}

// VerifyResult answers POST /verify. An invalid certificate is an answer, not
// an error: the status is 200.
type VerifyResult struct {
	// Valid says that everything that was asked for held, rules too.
	Valid bool `json:"valid"`
	// Reasons names what was wrong, the first refusal first; empty if valid.
	Reasons []VerifyReason `json:"reasons"`
	// The rest is known of certificates that decode; nothing of it but the
	// explanations of rules holds what the certificate says of its holder.
	Profile  string `json:"profile,omitempty"`
	Kind     string `json:"kind,omitempty"`
	KID      string `json:"kid,omitempty"`
	Country  string `json:"country,omitempty"`
	IssuedAt string `json:"issuedAt,omitempty"`
	Expires  string `json:"expires,omitempty"`
	// SchemaRelease is the release of the DCC schema that accepted the payload.
	SchemaRelease string `json:"schemaRelease,omitempty"`
	// Findings is what the schema does not see in a valid certificate.
	Findings []hcert.Finding `json:"findings,omitempty"`
	// Rules is what came of the business rules, if a country was named and the
	// signature held.
	Rules *certlogic.Report `json:"rules,omitempty"`
	// SignersKnown is how many document signers the verifier knew.
	SignersKnown int `json:"signersKnown"`
	// TrustListAt is when the trust list was last confirmed (RFC 3339).
	TrustListAt string `json:"trustListAt,omitempty"`
}

// VerifyReason is one reason for a refusal.
type VerifyReason struct {
	// Stage is the link of the chain: prefix, base45, zlib, cose, cwt,
	// payload, signer, signature, validity, key usage, schema, findings, rules.
	Stage string `json:"stage"`
	// Code is stable and for programs, such as "expired".
	Code string `json:"code"`
	// Detail is for people and holds no value of the certificate.
	Detail string `json:"detail,omitempty"`
}

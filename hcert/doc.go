// Package hcert reads, verifies and issues electronic health certificates
// ("HC1:" texts): the EU Digital COVID Certificate and what the WHO's Global
// Digital Health Certification Network carries in the same container.
//
// The chain, each link with a result type of its own so that a diagnosis can
// show how far a certificate got:
//
//	"HC1:…" text → base45 (RFC 9285) → zlib (RFC 1950) → COSE_Sign1 (RFC 9052,
//	§4.2) → CWT claims (RFC 8392) → hcert claim (-260) → DCC payload, or
//	another document: see Profile
//
// following "Electronic Health Certificate Specification" (hcert-spec) 1.1.1
// and the DCC JSON schema 1.0.0 to 1.3.3 of the eHealth Network.
//
// What the package promises:
//   - Parsed is not verified. Decode returns an *Unverified; only Verify makes a
//     *Verified, whose fields nobody outside the package can set.
//   - Every refusal is an *Error with a Stage and a Reason; errors.Is(err,
//     hcert.Expired) works. No error text carries a value of the payload.
//   - What a schema cannot say is reported, each rule by its own code and place,
//     and refuses nothing that is in circulation: see Inspection.
//   - Input from outside cannot make it panic, recurse deeply or allocate
//     without bound: see Limits.
//   - No package-level state. A Decoder keeps reusable buffers; it is safe for
//     concurrent use and its zero value works.
//
// It is generous where certificates in circulation are: COSE untagged, tagged
// 18 or wrapped in the CWT tag 61; kid in either header (protected wins); alg
// -7 with a P-384 key; several signers under one kid; exp and iat as floats;
// CBOR tag 0 around date-times; null for an absent v, t or r; dates with a time
// part; a `ver` that was never released; UVCIs of any shape. Everywhere else it
// is strict: unknown tags, duplicate map keys, trailing bytes, other
// algorithms and weak keys are refused.
//
// Signing keys are crypto.Signer, so they may live in a vault. The package
// never holds private key bytes.
package hcert

// Package trustlist decides whom to trust with health certificates: it makes
// and checks the CMS envelopes of the EU gateway and its successor, the WHO's
// Trust Network Gateway, walks from the trust anchor over a country's upload
// and signing authorities to its document signers, and gives package hcert the
// keys.
//
//	trust anchor ──signs──▶ trusted parties: AUTHENTICATION, UPLOAD, CSCA
//	UPLOAD (same country) ──signs──▶ the upload of a DSC
//	CSCA   (same country) ──signs──▶ the DSC itself
//
// What the package promises:
//   - Item is what a gateway's JSON says; Party and DSC are what was proven.
//     Only this package makes the latter two.
//   - A Party was signed by exactly the configured anchor certificate, byte for
//     byte, and its certificate names its country: the anchor's signature
//     covers the certificate only, so the country of the JSON proves nothing.
//   - Every refusal is an *Error with a Reason; errors.Is works with reasons.
//   - CMS (RFC 5652) is read strictly: SignedData of id-data, one certificate,
//     one signer, SHA-256 or better. BER with indefinite lengths is accepted,
//     because BouncyCastle, which most countries use, writes it; depth and size
//     are bounded. The signing-time attribute is not judged.
//
// What it refuses, with a reason that says so: EC keys whose parameters are
// written out instead of named (they break most consumers), weak keys, more
// than one country in a subject, a DSC whose kid or thumbprint is not its own.
//
// It does not judge validity periods or revocation of the authorities: the
// gateway does not either, and certificates outlive them. The document
// signer's validity travels with its hcert.Key.
//
// Private keys are crypto.Signer (a hcert.ContextSigner gets the context), so
// they may live in a vault.
package trustlist

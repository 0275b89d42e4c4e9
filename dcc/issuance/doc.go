// Package issuance is a member state's issuance service: it checks what a
// certificate is to say, has the document signer's key in the vault sign it,
// and keeps what is needed to claim it into a wallet and to answer for it.
//
// It promises that a certificate that left was recorded first, durably; that
// no personal data is kept, logged or put into an error: a row holds hashes,
// type and times, nothing that the certificate says; and that nothing is
// signed that would outlive the document signer's certificate. The signing key
// never enters the process.
//
// Who may issue: callers with an access token of the tenant for this service
// whose object id is configured. There is no default.
//
// Issuing by data (PUT /dgci/issue) is the way in: the service sees and checks
// what it signs. Issuing by hash (POST /dgci/issue, PUT /dgci/issue/{id}),
// which the upstream portal uses so that data never leaves the browser, signs
// whatever hash it is given. Whoever reaches it can have anything signed, and
// the forged certificates of 2021 were made that way; it is off unless
// configured.
//
// The interface is dgca-issuance-service's (2022), with these differences: the
// UVCI follows the EU's guidelines (with '#', alphabet with Z); a TAN is
// counted atomically; the DID document is named by the hash of the UVCI,
// because the UVCI itself is not kept; the technical validity counts from the
// moment of issue; errors have codes.
package issuance

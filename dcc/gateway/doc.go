// Package gateway is the EU's side of the exchange of document signers, the
// service that member states know as dgc-gateway.
//
// It promises that a member state is who its TLS client certificate says
// (§ authentication below), that every row it serves was checked against the
// trust anchor, or against the country's own upload certificate, before it was
// first served, and that what it acknowledged is durable. A row is verified
// once; lists are kept encoded and carry a strong ETag.
//
// It refuses: a client certificate that no trusted party row vouches for, an
// upload not signed by an onboarded upload certificate of the caller's own
// country, a document signer that no CSCA of that country signed, a second
// certificate under a kid in use, and everything about another country.
//
// Authentication: TLS ends at the ingress, which proves possession of the
// client's key and hands on the certificate's SHA-256 and subject in the
// headers X-SSL-Client-SHA256 (hex in any case, or base64) and
// X-SSL-Client-DN. The headers are believed only from the ingress's address.
//
// The interface is that of eu-digital-green-certificates/dgc-gateway 1.3, with
// the error codes of its ProblemReport. Differences, all on the side of
// caution: deletions of trusted parties are signalled, dates may also be in
// the form of RFC 9110, a page size of 0 is refused as the caller's mistake,
// internal errors keep their text to themselves, expired authentication
// certificates are refused.
package gateway

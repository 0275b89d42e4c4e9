// Package portal is the issuance web portal (pod dgca-issuance-web): where a
// health professional signs in and has certificates issued.
//
// It promises that only a person who signed in at the tenant's identity
// service and holds the issuer role gets a certificate; that the service that
// signs is called with the pod's own managed identity, with the professional's
// object id beside it for the record; that a submitted form issues one
// certificate; and that nothing about a citizen is stored or logged: data pass
// through memory, the result is shown once. Pages work without scripts, load
// nothing from elsewhere and cannot be framed.
//
// It refuses callers without the role, application tokens, requests from other
// sites, and forms that were not made for the session that sends them. What the
// issuance service refuses is passed on field by field.
//
// Sign-in: OpenID Connect Core 1.0 section 3.1 with PKCE (RFC 7636), state and
// nonce; the session is an opaque cookie (RFC 6265bis, __Host-, SameSite=Lax)
// whose data stay in memory. Certificate data: EU Digital COVID Certificate
// schema 1.3.0, standardised names after ICAO Doc 9303 part 3.
package portal

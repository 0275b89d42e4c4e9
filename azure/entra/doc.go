// Package entra is the identity service of one tenant: an OpenID Connect
// provider and OAuth 2.0 token service that stock Azure clients take for
// Microsoft Entra ID.
//
// It promises discovery, authorization code with PKCE behind its own sign-in
// page, refresh tokens that rotate, client credentials by secret or by
// certificate assertion, and managed identity tokens over the IMDS and App
// Service protocols and for tokens of a federated issuer; tokens as Entra writes them (v1 by default for
// resources, v2 where an app asks for it); errors with Entra's AADSTS codes;
// and a row in the sign-in tables for every token issued or refused to
// somebody known. Authorization codes, refresh tokens, sessions and lock-outs
// are kept in the database as digests, so that they are used once also across
// a crash.
//
// It refuses requests for a host name that is not one of its own, unknown
// clients and redirect addresses (with a page, never a redirect), PKCE methods
// other than S256, public clients that present credentials, users who are not
// assigned to an app that requires assignment, and identity endpoint requests
// that were forwarded. A token that cannot be recorded is not issued. Neither
// passwords nor tokens are logged.
//
// Specifications: RFC 6749 (4.1, 4.4, 5, 6), RFC 7636, RFC 7521 and 7523
// (client assertions), RFC 8252 section 7.3 (loopback redirects), OpenID
// Connect Core 1.0 (3.1), Discovery 1.0, OAuth 2.0 Form Post Response Mode,
// and the documented behaviour of Microsoft Entra ID.
package entra

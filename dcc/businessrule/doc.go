// Package businessrule is a member state's business rule service: it keeps the
// rules and value sets of all member states for verifier apps.
//
// It promises that a rule handed out was signed by an upload certificate of
// its country, proven up to the trust anchor, and is byte for byte what that
// country signed; that its hash names it; and that what could not be
// downloaded stays as it was, country by country.
//
// It refuses nothing to readers: rules are public.
//
// The interface is dgca-businessrule-service's, without its signature header
// (GET /publickey answers 404 as upstream does where signing is off).
package businessrule

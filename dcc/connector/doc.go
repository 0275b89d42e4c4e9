// Package connector is a member state's side of the exchange with the EU
// gateway: it downloads and proves the trust list, the business rules and the
// value sets, and uploads document signers.
//
// It promises that only what leads back to the configured trust anchor comes
// out of it, that the last good trust list survives a restart (sealed in the
// pod's volume, and proven again when it is read), and that no error replaces
// a list: a download that fails, does not parse, or lost a large part of what
// was known without the gateway saying so is refused and the old list stays.
//
// It refuses a gateway whose certificate is not of the configured trust
// store, and entries, rules and uploads that do not verify. Where the key of the
// TLS client certificate and the upload key are is the pod's KeyStore's affair:
// by default they stay in the vault.
//
// The interface is that of dgc-gateway 1.3; the role is dgc-lib's.
package connector

// Package client is the workload's door to the platform: what a pod needs to
// reach its vault, its database, its volume and the identity service.
//
// It promises that a private key never enters the process (a Signer asks the
// vault), that every connection is verified against the estate's or the
// system's roots, that a database connection is made with a token fetched for
// it, and that an error names the layer that refused together with that
// layer's own code, without tokens or secret values. The only credential it
// uses is the pod's managed identity. It refuses plain-HTTP vaults, secrets
// without a name it can address, and volumes whose key was not handed over.
//
// Protocols: Azure Key Vault REST 7.4, the IMDS and App Service managed
// identity endpoints (through azidentity), MySQL with mysql_clear_password
// over TLS, OpenID Connect key sets (RFC 7517).
package client

// Package client is the workload's door to the platform: what a pod needs to
// reach its vault, its database, its volume and the identity service.
//
// It promises that a private key that is in a vault never enters the process
// (a Signer, a Decrypter and a TLSKey ask the vault), that every connection is
// verified against the estate's or the system's roots, that a database
// connection is made with a token fetched for it, that a request is repeated
// only where that is safe, and that an error names the layer that refused
// together with that layer's own code, without tokens or secret values. The
// only credential it uses is the pod's managed identity. It refuses plain-HTTP
// vaults, secrets without a name it can address, and volumes whose key was not
// handed over.
//
// What it keeps: connections, tokens, public parts of keys (five minutes), the
// values of properties (Properties). One kind of private key is in the
// process: that of a bundle which the estate mounted into the pod, because the
// operator chose key custody "mounted" (KeyStore).
//
// Protocols: Azure Key Vault REST, the IMDS and App Service managed identity
// endpoints (through azidentity), Spring Cloud Azure's naming of properties,
// MySQL with mysql_clear_password over TLS, OpenID Connect key sets (RFC 7517).
package client

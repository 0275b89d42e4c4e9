package estate

// Pod is one workload of a region's cluster: a service of this binary in its
// own network namespace, with its own managed identity.
type Pod struct {
	// Name is unique in the estate and is also the service's host name.
	Name string
	// Service is the subcommand that the pod runs.
	Service string
	// Identity names the pod's managed identity.
	Identity string
	// Address is the last octet of the pod's address in the cluster's subnet.
	Address byte
	// Database is the schema that the pod's identity may use; "" for none.
	Database string
	// Public pods are reachable through the ingress.
	Public bool
	// ClientCertificates makes the ingress demand possession of a TLS client
	// certificate and pass its digest and subject on.
	ClientCertificates bool
	// After lists pods that must be ready before this one starts.
	After []string
}

// PodsOf lists a region's pods in the order in which they start.
func PodsOf(r Region) []Pod {
	if r == EU {
		return []Pod{{Name: "dgc-gateway", Service: "dgc-gateway", Identity: "dgc-gateway", Address: 20,
			Database: "dgc", Public: true, ClientCertificates: true}}
	}
	return []Pod{
		{Name: "dgca-issuance-service", Service: "dgca-issuance-service", Identity: "dgca-issuance-service",
			Address: 20, Database: "issuance-service", After: []string{"dgc-gateway"}},
		{Name: "dgca-issuance-service-public", Service: "dgca-issuance-service", Identity: "dgca-issuance-service-public",
			Address: 21, Database: "issuance-service", Public: true},
		{Name: "dgca-issuance-web", Service: "dgca-issuance-web", Identity: "dgca-issuance-web",
			Address: 22, Public: true},
		{Name: "dgca-businessrule-service", Service: "dgca-businessrule-service", Identity: "dgca-businessrule-service",
			Address: 23, Database: "businessrule-service", Public: true, After: []string{"dgc-gateway"}},
		{Name: "dgca-verifier-service", Service: "dgca-verifier-service", Identity: "dgca-verifier-service",
			Address: 24, Database: "verifier-service", Public: true, After: []string{"dgca-issuance-service"}},
	}
}

// Fixed last octets of the cluster's subnet.
const (
	ingressOctet  = 4  // the ingress controller
	vaultOctet    = 10 // the vault's private endpoint
	databaseOctet = 11 // the MySQL server's private endpoint
	jumpboxOctet  = 4  // in the development network
)

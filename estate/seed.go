package estate

// The tables of the document that this system implements, row for row. They
// are read from here by everything that builds, checks or shows a row; status
// shows which rows are live.

// PrivateLinkRow is a row of the Private Link table.
type PrivateLinkRow struct {
	Name string // ACR, AKS, Key Vault, MySQL Server
	// Zone is the private DNS zone; "<region location>" stands for the Azure
	// region's name.
	Zone string
}

// PrivateLinkTable lists the resources in both regions' Private Link networks.
func PrivateLinkTable() []PrivateLinkRow {
	return []PrivateLinkRow{
		{"ACR", "privatelink.azurecr.io"},
		{"AKS", "privatelink.<region location>.azmk8s.io"},
		{"Key Vault", "privatelink.vaultcore.azure.net"},
		{"MySQL Server", "privatelink.mysql.database.azure.com"},
	}
}

// ItemType is the kind of a vault item.
type ItemType string

// The kinds of vault items.
const (
	CertificateItem ItemType = "Certificate"
	SecretItem      ItemType = "Secret"
	KeyItem         ItemType = "Key"
)

// NamingScheme says who chose an item's name.
type NamingScheme string

// Freeform names are free; PropertySource names are those of Spring
// properties, with dashes for dots.
const (
	Freeform       NamingScheme = "Freeform"
	PropertySource NamingScheme = "Spring PropertySource"
)

// VaultItem is a row of a vault table.
type VaultItem struct {
	Name        string
	Type        ItemType
	Scheme      NamingScheme
	Description string
}

// EUVaultTable lists the items of the EU vault.
func EUVaultTable() []VaultItem {
	return []VaultItem{
		{"trustanchor", CertificateItem, Freeform, "root certificate authority: the trust anchor"},
		{"dgc-trustanchor-certificatealias", SecretItem, PropertySource, "alias of the certificate to use from trustanchor"},
		{"mysql-pw", SecretItem, Freeform, "administrator's password of the MySQL server; unused by the services"},
		{"mysql-encryption-key", KeyItem, Freeform, "customer-managed key of the MySQL server"},
		{"aks-encryption-key", KeyItem, Freeform, "customer-managed key of the cluster's disks"},
	}
}

// IEVaultTable lists the items of the IE vault.
func IEVaultTable() []VaultItem {
	return []VaultItem{
		{"trustanchor-content", SecretItem, Freeform, "trust anchor bundle"},
		{"dgc-gateway-connector-trustanchor-password", SecretItem, PropertySource, "password of the trust anchor bundle"},
		{"dgc-gateway-connector-trustanchor-alias", SecretItem, PropertySource, "alias of the certificate to use from the trust anchor bundle"},
		{"msal-authentication-client-secret", SecretItem, Freeform, "client secret of the issuance portal's application"},
		{"tls-trust-store-content", SecretItem, Freeform, "TLS trust store (PKCS#12) that pins the gateway's TLS"},
		{"dgc-gateway-connector-tlstruststore-password", SecretItem, PropertySource, "password of the TLS trust store"},
		{"tls-key-store", CertificateItem, Freeform, "authentication certificate of the country at the EU gateway"},
		{"dgc-gateway-connector-tlskeystore-alias", SecretItem, PropertySource, "alias of the certificate to use from tls-key-store"},
		{"upload-key-store", CertificateItem, Freeform, "upload certificate that signs what the country sends to the EU gateway"},
		{"dgc-gateway-connector-uploadkeystore-alias", SecretItem, PropertySource, "alias of the certificate to use from upload-key-store"},
		{"dsc-key-store", CertificateItem, Freeform, "document signer certificate that signs citizens' certificates"},
		{"issuance-certalias", SecretItem, PropertySource, "alias of the certificate to use from dsc-key-store"},
		{"mysql-pw", SecretItem, Freeform, "administrator's password of the MySQL server; unused by the services"},
		{"mysql-encryption-key", KeyItem, Freeform, "customer-managed key of the MySQL server"},
		{"aks-encryption-key", KeyItem, Freeform, "customer-managed key of the cluster's disks"},
	}
}

// CMKRow is a row of the table of services that use customer-managed keys.
type CMKRow struct {
	Service, KeyName, RoleScope, KeyType string
	KeySize                              int
	KeyOptions                           []string
}

// CMKTable lists the services that use customer-managed keys.
func CMKTable() []CMKRow {
	options := []string{"unwrapKey", "wrapKey"}
	return []CMKRow{
		{"AKS", "aks-encryption-key", "AKS User Assigned Identity", "RSA-HSM", 2048, options},
		{"MySQL Server", "mysql-encryption-key", "MySQL Server System Assigned Identity", "RSA-HSM", 2048, options},
	}
}

// SolutionRow is a row of the Log Analytics solutions table.
type SolutionRow struct {
	Name, Publisher, Product string
}

// SolutionTable lists the solutions of each workspace.
func SolutionTable() []SolutionRow {
	names := []string{"ContainerInsights", "KeyVaultAnalytics", "SecurityInsights", "NetworkMonitoring",
		"ServiceMap", "AzureActivity", "Updates", "SQLAssessmentPlus"}
	rows := make([]SolutionRow, len(names))
	for i, name := range names {
		rows[i] = SolutionRow{name, "Microsoft", "OMSGallery/" + name}
	}
	return rows
}

// DiagnosticRow is a row of the diagnostic settings table.
type DiagnosticRow struct {
	Resource string
	Logs     []string
	Metrics  []string
}

// DiagnosticTable lists what each resource sends to the workspace.
func DiagnosticTable() []DiagnosticRow {
	return []DiagnosticRow{
		{"KeyVault", []string{"AuditEvent"}, []string{"AllMetrics"}},
		{"ACR", []string{"ContainerRegistryRepositoryEvents", "ContainerRegistryLoginEvents"}, nil},
		{"MySQL Server", []string{"MySqlAuditLogs", "MySqlSlowLogs"}, []string{"AllMetrics"}},
		{"AKS", []string{"oms_agent"}, []string{"oms_agent"}},
	}
}

// AuthenticationRow is one of the four places where the document says Azure
// AD authenticates.
type AuthenticationRow struct {
	Place, How string
}

// AuthenticationTable lists them.
func AuthenticationTable() []AuthenticationRow {
	return []AuthenticationRow{
		{"AKS", "a managed identity for every pod"},
		{"Key Vault", "role assignments on single objects"},
		{"MySQL Server", "short-lived tokens instead of passwords"},
		{"Web", "sign-in and application roles in front of the issuance portal"},
	}
}

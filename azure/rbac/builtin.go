package rbac

// GUIDs of the built-in roles, the same in every Azure tenant.
const (
	Owner                            = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	Contributor                      = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	Reader                           = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	UserAccessAdministrator          = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
	LogAnalyticsReader               = "73c42c96-874c-492b-b04d-ab87d138a893"
	LogAnalyticsContributor          = "92aaf0da-9dab-42b6-94a3-d43ce8d16293"
	MonitoringReader                 = "43d0d8ad-25c7-4714-9337-8ba259a9fe05"
	MonitoringMetricsPublisher       = "3913510d-42f4-4e42-8a64-420c390055eb"
	ManagedIdentityOperator          = "f1a07417-d97a-45cb-824c-7a7467783830"
	ManagedIdentityContributor       = "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59"
	AcrPull                          = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
	AcrPush                          = "8311e382-0749-4cb8-b61a-304f252e45ec"
	NetworkContributor               = "4d97b98b-1d4f-4787-a291-c67834d212e7"
	VirtualMachineAdministratorLogin = "1c0163c0-47e6-4577-8991-ea5c82e286e4"
	KeyVaultAdministrator            = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
	KeyVaultReader                   = "21090545-7ca7-4776-b22c-e363652d74d2"
	KeyVaultCertificatesOfficer      = "a4417e6f-fecd-4de8-b567-7b0420556985"
	KeyVaultCertificateUser          = "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba"
	KeyVaultCryptoOfficer            = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
	KeyVaultCryptoUser               = "12338af0-0e69-4776-bea7-57ae8d297424"
	KeyVaultCryptoServiceEncryption  = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
	KeyVaultCryptoServiceRelease     = "08bbd89e-9f13-488c-ac41-acfcb10c90ab"
	KeyVaultSecretsOfficer           = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
	KeyVaultSecretsUser              = "4633458b-17de-408a-b874-0445c86b69e6"
	KeyVaultPurgeOperator            = "a68e7c17-0ab2-4c09-9a58-125dae29748c"
	KeyVaultDataAccessAdministrator  = "8b54135c-b56d-4d72-a534-26097cfdc8d8"
	KeyVaultContributor              = "f25e0fa2-a7c8-4377-a976-54943a77a395"
)

// BuiltIn returns the built-in roles that Verdant knows: the twelve vault
// roles with Key Vault Contributor, and the general, monitoring, identity and
// registry roles of the reference deployment.
func BuiltIn() []RoleDefinition { return append(generalRoles(), vaultRoles()...) }

const (
	vault = "Microsoft.KeyVault/vaults/"
	keys  = vault + "keys/"
)

// common is what most Azure roles may do besides their purpose.
func common(more ...string) []string {
	return append([]string{"Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.Resources/deployments/*",
		"Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Support/*"}, more...)
}

func vaultActions() []string {
	return common("Microsoft.KeyVault/checkNameAvailability/read", "Microsoft.KeyVault/deletedVaults/read",
		"Microsoft.KeyVault/locations/*/read", "Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/operations/read")
}

func vaultRoles() []RoleDefinition {
	return []RoleDefinition{
		{ID: KeyVaultAdministrator, Name: "Key Vault Administrator",
			Description: "Everything on the objects of a vault. It does not manage the vault or its role assignments.",
			Actions:     vaultActions(), DataActions: []string{vault + "*"}},
		{ID: KeyVaultReader, Name: "Key Vault Reader",
			Description: "Metadata of the vault and its objects, without secret values or key material.",
			Actions:     vaultActions(), DataActions: []string{vault + "*/read", vault + "secrets/readMetadata/action"}},
		{ID: KeyVaultCertificatesOfficer, Name: "Key Vault Certificates Officer",
			Description: "Everything on certificates, except reading their private keys.",
			Actions:     vaultActions(), DataActions: []string{vault + "certificatecas/*", vault + "certificates/*", vault + "certificatecontacts/write"}},
		{ID: KeyVaultCertificateUser, Name: "Key Vault Certificate User",
			Description: "The whole content of a certificate, its secret and its public key.",
			DataActions: []string{vault + "certificates/read", vault + "secrets/getSecret/action", vault + "secrets/readMetadata/action", keys + "read"}},
		{ID: KeyVaultCryptoOfficer, Name: "Key Vault Crypto Officer",
			Description: "Everything on keys and their rotation policies.",
			Actions:     vaultActions(), DataActions: []string{keys + "*", vault + "keyrotationpolicies/*"}},
		{ID: KeyVaultCryptoUser, Name: "Key Vault Crypto User",
			Description: "Cryptographic operations with keys.",
			DataActions: []string{keys + "read", keys + "update/action", keys + "backup/action", keys + "encrypt/action", keys + "decrypt/action",
				keys + "wrap/action", keys + "unwrap/action", keys + "sign/action", keys + "verify/action"}},
		{ID: KeyVaultCryptoServiceEncryption, Name: "Key Vault Crypto Service Encryption User",
			Description: "Read a key's metadata, wrap and unwrap with it: what a service needs for customer-managed keys.",
			Actions:     []string{"Microsoft.EventGrid/eventSubscriptions/write", "Microsoft.EventGrid/eventSubscriptions/read", "Microsoft.EventGrid/eventSubscriptions/delete"},
			DataActions: []string{keys + "read", keys + "wrap/action", keys + "unwrap/action"}},
		{ID: KeyVaultCryptoServiceRelease, Name: "Key Vault Crypto Service Release User",
			Description: "Release keys under their release policy.",
			DataActions: []string{keys + "release/action"}},
		{ID: KeyVaultSecretsOfficer, Name: "Key Vault Secrets Officer",
			Description: "Everything on secrets.",
			Actions:     vaultActions(), DataActions: []string{vault + "secrets/*"}},
		{ID: KeyVaultSecretsUser, Name: "Key Vault Secrets User",
			Description: "Read secret values.",
			DataActions: []string{vault + "secrets/getSecret/action", vault + "secrets/readMetadata/action"}},
		{ID: KeyVaultPurgeOperator, Name: "Key Vault Purge Operator",
			Description: "Purge soft-deleted vaults.",
			Actions: []string{"Microsoft.KeyVault/locations/deletedVaults/read", "Microsoft.KeyVault/locations/deletedVaults/purge/action",
				"Microsoft.KeyVault/locations/operationResults/read", "Microsoft.KeyVault/deletedVaults/read"}},
		dataAccessAdministrator(),
		{ID: KeyVaultContributor, Name: "Key Vault Contributor",
			Description: "Manage vaults; no access to their objects and no role assignments.",
			Actions:     common("Microsoft.KeyVault/*"),
			NotActions:  []string{"Microsoft.KeyVault/locations/deletedVaults/purge/action", "Microsoft.KeyVault/hsmPools/*", "Microsoft.KeyVault/managedHsms/*"}},
	}
}

// dataAccessAdministrator may assign eight vault roles only; that is its
// condition.
func dataAccessAdministrator() RoleDefinition {
	const assignable = "{" + KeyVaultAdministrator + ", " + KeyVaultCertificatesOfficer + ", " + KeyVaultCryptoOfficer + ", " +
		KeyVaultCryptoServiceEncryption + ", " + KeyVaultCryptoUser + ", " + KeyVaultReader + ", " + KeyVaultSecretsOfficer + ", " + KeyVaultSecretsUser + "}"
	const of = "[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals" + assignable
	return RoleDefinition{ID: KeyVaultDataAccessAdministrator, Name: "Key Vault Data Access Administrator",
		Description: "Assign the vault roles that give access to objects, and no others.",
		Actions: []string{"Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete", "Microsoft.Authorization/*/read",
			"Microsoft.Resources/deployments/*", "Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Resources/subscriptions/read",
			"Microsoft.Management/managementGroups/read", "Microsoft.Support/*", "Microsoft.KeyVault/vaults/*/read"},
		Condition: "((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR (@Request" + of + "))" +
			" AND ((!(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'})) OR (@Resource" + of + "))"}
}

func generalRoles() []RoleDefinition {
	const access = "Microsoft.Authorization/"
	return []RoleDefinition{
		{ID: Owner, Name: "Owner", Description: "Manage everything, role assignments included.", Actions: []string{"*"}},
		{ID: Contributor, Name: "Contributor", Description: "Manage everything, except who may do what.", Actions: []string{"*"},
			NotActions: []string{access + "*/Delete", access + "*/Write", access + "elevateAccess/Action", "Microsoft.Blueprint/blueprintAssignments/write",
				"Microsoft.Blueprint/blueprintAssignments/delete", "Microsoft.Compute/galleries/share/action", "Microsoft.Purview/consents/write", "Microsoft.Purview/consents/delete"}},
		{ID: Reader, Name: "Reader", Description: "See everything, change nothing.", Actions: []string{"*/read"}},
		{ID: UserAccessAdministrator, Name: "User Access Administrator", Description: "Manage who may do what.",
			Actions: []string{"*/read", access + "*", "Microsoft.Support/*"}},
		{ID: VirtualMachineAdministratorLogin, Name: "Virtual Machine Administrator Login", Description: "See virtual machines and log in as administrator.",
			Actions: []string{"Microsoft.Network/publicIPAddresses/read", "Microsoft.Network/virtualNetworks/read",
				"Microsoft.Network/loadBalancers/read", "Microsoft.Network/networkInterfaces/read", "Microsoft.Compute/virtualMachines/*/read"},
			DataActions: []string{"Microsoft.Compute/virtualMachines/login/action", "Microsoft.Compute/virtualMachines/loginAsAdmin/action"}},
		{ID: LogAnalyticsReader, Name: "Log Analytics Reader", Description: "Query all monitoring data and see its settings.",
			Actions:    []string{"*/read", "Microsoft.OperationalInsights/workspaces/analytics/query/action", "Microsoft.OperationalInsights/workspaces/search/action", "Microsoft.Support/*"},
			NotActions: []string{"Microsoft.OperationalInsights/workspaces/sharedKeys/read"}},
		{ID: LogAnalyticsContributor, Name: "Log Analytics Contributor", Description: "Query all monitoring data and change its settings.",
			Actions: []string{"*/read", "Microsoft.Insights/alertRules/*", "Microsoft.Insights/diagnosticSettings/*", "Microsoft.OperationalInsights/*",
				"Microsoft.OperationsManagement/*", "Microsoft.Resources/deployments/*", "Microsoft.Support/*"}},
		{ID: MonitoringReader, Name: "Monitoring Reader", Description: "Read all monitoring data.",
			Actions: []string{"*/read", "Microsoft.OperationalInsights/workspaces/search/action", "Microsoft.Support/*"}},
		{ID: MonitoringMetricsPublisher, Name: "Monitoring Metrics Publisher", Description: "Publish metrics and logs of Azure resources.",
			Actions:     []string{"Microsoft.Insights/Register/Action", "Microsoft.Support/*", "Microsoft.Resources/subscriptions/resourceGroups/read"},
			DataActions: []string{"Microsoft.Insights/Metrics/Write", "Microsoft.Insights/Telemetry/Write"}},
		{ID: ManagedIdentityOperator, Name: "Managed Identity Operator", Description: "Read and assign user-assigned identities.",
			Actions: common("Microsoft.ManagedIdentity/userAssignedIdentities/*/read", "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action")},
		{ID: ManagedIdentityContributor, Name: "Managed Identity Contributor", Description: "Create, read, update and delete user-assigned identities.",
			Actions: common("Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.ManagedIdentity/userAssignedIdentities/write", "Microsoft.ManagedIdentity/userAssignedIdentities/delete")},
		{ID: AcrPull, Name: "AcrPull", Description: "Pull images from a registry.", Actions: []string{"Microsoft.ContainerRegistry/registries/pull/read"}},
		{ID: AcrPush, Name: "AcrPush", Description: "Push images to and pull them from a registry.",
			Actions: []string{"Microsoft.ContainerRegistry/registries/pull/read", "Microsoft.ContainerRegistry/registries/push/write"}},
		{ID: NetworkContributor, Name: "Network Contributor", Description: "Manage networks, without access to them.",
			Actions: common("Microsoft.Network/*", "Microsoft.ResourceHealth/availabilityStatuses/read")},
	}
}

package estate

import (
	"strings"

	"verdant/azure/rest"
)

// The address plan of the reference deployment. Both regions use the same
// ranges: they are different networks, and nothing ever routes between them.
const (
	regionPrefix = "192.168.4.0/22"
	regionSubnet = "192.168.4.0/23"
	devPrefix    = "192.168.0.0/22"
	devSubnet    = "192.168.0.0/23"
)

// publicAddress is where the front door stands inside every network's
// Internet (RFC 5737, TEST-NET-3).
const publicAddress = "203.0.113.10"

// properties is what a resource says of itself.
type properties = map[string]any

// Resources describes the whole reference architecture as ARM resources, with
// the real services' types and property names. Services are started from
// them, and the control plane serves them.
func (n Names) Resources() []rest.Resource {
	var all []rest.Resource
	for _, r := range Regions() {
		b := &resourceBuilder{n: n, r: r}
		b.group()
		b.network()
		b.identities()
		b.vault()
		b.database()
		b.registry()
		b.cluster()
		b.privateLinks()
		if n.v.LogAnalytics {
			b.workspace()
		}
		all = append(all, b.resources...)
	}
	return all
}

type resourceBuilder struct {
	n         Names
	r         Region
	resources []rest.Resource
}

// add appends a resource of the region's group and returns it for the few
// fields beyond the properties.
func (b *resourceBuilder) add(typ, name string, p properties) *rest.Resource {
	if p == nil {
		p = properties{}
	}
	if _, ok := p["provisioningState"]; !ok {
		p["provisioningState"] = "Succeeded"
	}
	id := b.n.ID(b.r, typ, name)
	if parent, child, ok := strings.Cut(name, "/"); ok { // "zone/link" of "…/zones/links"
		cut := strings.LastIndex(typ, "/")
		id = b.n.ID(b.r, typ[:cut], parent) + typ[cut:] + "/" + child
		name = child
	}
	b.resources = append(b.resources, rest.Resource{ID: id, Name: name, Type: typ, Location: b.n.v.Location, Properties: p})
	return &b.resources[len(b.resources)-1]
}

func (b *resourceBuilder) group() {
	b.resources = append(b.resources, rest.Resource{
		ID: b.n.Subscription() + "/resourceGroups/" + b.n.ResourceGroup(b.r), Name: b.n.ResourceGroup(b.r),
		Type: "Microsoft.Resources/resourceGroups", Location: b.n.v.Location,
		Properties: properties{"provisioningState": "Succeeded"},
	})
}

func (b *resourceBuilder) network() {
	n, r := b.n, b.r
	const vnets = "Microsoft.Network/virtualNetworks"
	nsg := n.ID(r, "Microsoft.Network/networkSecurityGroups", n.ResourceGroup(r)+"-nsg")
	network := func(name, prefix, subnet string, peer string) {
		b.add(vnets, name, properties{
			"addressSpace": properties{"addressPrefixes": []string{prefix}},
			"subnets": []any{properties{
				"id": n.ID(r, vnets, name) + "/subnets/" + subnetName(name), "name": subnetName(name),
				"properties": properties{"addressPrefix": subnet, "networkSecurityGroup": properties{"id": nsg},
					"privateEndpointNetworkPolicies": "Disabled"},
			}},
			"virtualNetworkPeerings": []any{properties{
				"name": name + "-to-" + peer,
				"properties": properties{"peeringState": "Connected", "allowVirtualNetworkAccess": true,
					"remoteVirtualNetwork": properties{"id": n.ID(r, vnets, peer)}},
			}},
		})
	}
	network(n.VNet(r), regionPrefix, regionSubnet, n.DevVNet(r))
	network(n.DevVNet(r), devPrefix, devSubnet, n.VNet(r))
	b.add("Microsoft.Network/networkSecurityGroups", n.ResourceGroup(r)+"-nsg", properties{"securityRules": []any{}})
}

func subnetName(vnet string) string { return strings.TrimSuffix(vnet, "-vnet") + "-subnet" }

func (b *resourceBuilder) identities() {
	for _, id := range b.n.Identities() {
		if id.Region != b.r || id.System {
			continue
		}
		b.add("Microsoft.ManagedIdentity/userAssignedIdentities", id.ResourceID[strings.LastIndex(id.ResourceID, "/")+1:], properties{
			"tenantId": b.n.v.TenantID, "principalId": id.PrincipalID, "clientId": id.ClientID,
		})
	}
}

func (b *resourceBuilder) vault() {
	n, r := b.n, b.r
	b.add("Microsoft.KeyVault/vaults", n.Vault(r), properties{
		"tenantId": n.v.TenantID, "vaultUri": "https://" + n.VaultHost(r) + "/",
		"sku":                     properties{"family": "A", "name": "premium"},
		"enableRbacAuthorization": true, "enableSoftDelete": true, "softDeleteRetentionInDays": 7,
		"enablePurgeProtection": true, "publicNetworkAccess": "Disabled", "accessPolicies": []any{},
		"networkAcls": properties{"bypass": "AzureServices", "defaultAction": "Deny", "ipRules": []any{}, "virtualNetworkRules": []any{}},
	})
}

func (b *resourceBuilder) database() {
	n, r := b.n, b.r
	server := b.add("Microsoft.DBforMySQL/servers", n.Database(r), properties{
		"fullyQualifiedDomainName": n.DatabaseHost(r), "version": "8.0", "sslEnforcement": "Enabled",
		"minimalTlsVersion": "TLS1_2", "publicNetworkAccess": "Disabled", "infrastructureEncryption": "Enabled",
		"byokEnforcement": "Enabled", "administratorLogin": "mysqladmin",
	})
	id := n.Identity(r, DatabaseIdentity)
	server.Identity = properties{"type": "SystemAssigned", "principalId": id.PrincipalID, "tenantId": n.v.TenantID}
	for _, schema := range Schemas(r) {
		b.add("Microsoft.DBforMySQL/servers/databases", n.Database(r)+"/"+schema, properties{"charset": "utf8mb4", "collation": "utf8mb4_bin"})
	}
	key := "https://" + n.VaultHost(r) + "/keys/mysql-encryption-key"
	b.add("Microsoft.DBforMySQL/servers/keys", n.Database(r)+"/"+n.Vault(r)+"_mysql-encryption-key", properties{"serverKeyType": "AzureKeyVault", "uri": key})
	admin := n.Identity(r, DatabaseAdmin)
	b.add("Microsoft.DBforMySQL/servers/administrators", n.Database(r)+"/activeDirectory", properties{
		"administratorType": "ActiveDirectory", "login": DatabaseAdmin, "sid": admin.PrincipalID, "tenantId": n.v.TenantID,
	})
}

// Schemas lists the database schemas of a region.
func Schemas(r Region) []string {
	var schemas []string
	seen := map[string]bool{"": true}
	for _, p := range PodsOf(r) {
		if !seen[p.Database] {
			seen[p.Database] = true
			schemas = append(schemas, p.Database)
		}
	}
	return schemas
}

func (b *resourceBuilder) registry() {
	name := b.n.Registry(b.r)
	b.add("Microsoft.ContainerRegistry/registries", name, properties{
		"loginServer": name + ".azurecr.io", "adminUserEnabled": false, "publicNetworkAccess": "Disabled",
	}).SKU = properties{"name": "Premium", "tier": "Premium"}
}

func (b *resourceBuilder) cluster() {
	n, r := b.n, b.r
	disk := n.Identity(r, DiskIdentity)
	b.add("Microsoft.ContainerService/managedClusters", n.Cluster(r), properties{
		"dnsPrefix": n.Cluster(r), "diskEncryptionSetID": disk.ResourceID,
		"apiServerAccessProfile": properties{"enablePrivateCluster": true},
		"aadProfile":             properties{"managed": true, "adminGroupObjectIDs": []string{n.v.AdministratorGroup}, "tenantID": n.v.TenantID},
		"addonProfiles":          properties{"omsagent": properties{"enabled": n.v.LogAnalytics}},
		"podIdentityProfile":     properties{"enabled": true},
	})
	b.add("Microsoft.Compute/diskEncryptionSets", disk.ResourceID[strings.LastIndex(disk.ResourceID, "/")+1:], properties{
		"encryptionType": "EncryptionAtRestWithCustomerKey", "rotationToLatestKeyVersionEnabled": true,
		"activeKey": properties{"sourceVault": properties{"id": n.VaultID(r)}, "keyUrl": "https://" + n.VaultHost(r) + "/keys/aks-encryption-key"},
	}).Identity = properties{"type": "SystemAssigned", "principalId": disk.PrincipalID, "tenantId": n.v.TenantID}
}

// privateLink is one private endpoint of the reference deployment.
type privateLink struct {
	Row     string // name in the Private Link table
	Target  string // ARM id
	Name    string // of the target
	Group   string
	Host    string // public host name
	Zone    string
	Address string
}

// PrivateLinks lists the private endpoints of a region that this version
// serves. The registry's and the cluster's are not built yet.
func (n Names) PrivateLinks(r Region) []privateLink {
	zones := map[string]string{}
	for _, row := range PrivateLinkTable() {
		zones[row.Name] = strings.ReplaceAll(row.Zone, "<region location>", n.v.Location)
	}
	return []privateLink{
		{"Key Vault", n.VaultID(r), n.Vault(r), "vault", n.VaultHost(r), zones["Key Vault"], address(regionSubnet, vaultOctet)},
		{"MySQL Server", n.DatabaseID(r), n.Database(r), "mysqlServer", n.DatabaseHost(r), zones["MySQL Server"], address(regionSubnet, databaseOctet)},
	}
}

func (b *resourceBuilder) privateLinks() {
	n, r := b.n, b.r
	for _, link := range n.PrivateLinks(r) {
		id := n.EndpointID(r, link.Name)
		b.add("Microsoft.Network/privateEndpoints", id[strings.LastIndex(id, "/")+1:], properties{
			"subnet": properties{"id": n.ID(r, "Microsoft.Network/virtualNetworks", n.VNet(r)) + "/subnets/" + subnetName(n.VNet(r))},
			"privateLinkServiceConnections": []any{properties{
				"name": link.Name,
				"properties": properties{"groupIds": []string{link.Group}, "privateLinkServiceId": link.Target,
					"privateLinkServiceConnectionState": properties{"status": "Approved", "description": "Auto-Approved", "actionsRequired": "None"}},
			}},
			"customDnsConfigs": []any{properties{"fqdn": link.Host, "ipAddresses": []string{link.Address}}},
		})
		zone := b.add("Microsoft.Network/privateDnsZones", link.Zone, properties{"numberOfVirtualNetworkLinks": 2})
		zone.Location = "global"
		for _, vnet := range []string{n.VNet(r), n.DevVNet(r)} {
			b.add("Microsoft.Network/privateDnsZones/virtualNetworkLinks", link.Zone+"/"+vnet, properties{
				"virtualNetwork":      properties{"id": n.ID(r, "Microsoft.Network/virtualNetworks", vnet)},
				"registrationEnabled": false, "virtualNetworkLinkState": "Completed",
			}).Location = "global"
		}
	}
}

func (b *resourceBuilder) workspace() {
	n, r := b.n, b.r
	const workspaces = "Microsoft.OperationalInsights/workspaces"
	b.add(workspaces, n.Workspace(r), properties{
		"customerId": n.WorkspaceCustomer(r), "retentionInDays": n.v.LogRetentionDays, "sku": properties{"name": "PerGB2018"},
		"publicNetworkAccessForIngestion": "Enabled", "publicNetworkAccessForQuery": "Enabled",
	})
	for _, s := range SolutionTable() {
		b.add("Microsoft.OperationsManagement/solutions", s.Name+"("+n.Workspace(r)+")", properties{
			"workspaceResourceId": n.WorkspaceID(r),
		}).Plan = properties{"name": s.Name + "(" + n.Workspace(r) + ")", "publisher": s.Publisher, "product": s.Product, "promotionCode": ""}
	}
	if n.v.LogAnalyticsCluster != "" {
		b.add("Microsoft.OperationalInsights/workspaces/linkedServices", n.Workspace(r)+"/Cluster", properties{
			"writeAccessResourceId": n.v.LogAnalyticsCluster,
		})
	}
	targets := map[string]string{"KeyVault": n.VaultID(r), "ACR": n.RegistryID(r), "MySQL Server": n.DatabaseID(r), "AKS": n.ClusterID(r)}
	for _, row := range DiagnosticTable() {
		logs, metrics := []any{}, []any{}
		for _, category := range row.Logs {
			logs = append(logs, properties{"category": category, "enabled": true})
		}
		for _, category := range row.Metrics {
			metrics = append(metrics, properties{"category": category, "enabled": true})
		}
		b.resources = append(b.resources, rest.Resource{
			ID:   targets[row.Resource] + "/providers/Microsoft.Insights/diagnosticSettings/log-analytics",
			Name: "log-analytics", Type: "Microsoft.Insights/diagnosticSettings",
			Properties: properties{"workspaceId": n.WorkspaceID(r), "logs": logs, "metrics": metrics, "logAnalyticsDestinationType": "Dedicated"},
		})
	}
}

// WorkspaceCustomer is the workspace id that query clients use.
func (n Names) WorkspaceCustomer(r Region) string { return n.guid("workspace", string(r)) }

package estate

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/uuid"
)

// Region is one of the two regions of the reference architecture.
type Region string

// The two regions: the EU with its gateway, and Ireland as member state.
const (
	EU Region = "eudcc-eu"
	IE Region = "eudcc-ie"
)

// Regions lists both.
func Regions() []Region { return []Region{EU, IE} }

// Names derives every resource's name and ARM id from the variables, as the
// reference architecture's Terraform does.
type Names struct{ v Variables }

// ResourceGroup of a region.
func (n Names) ResourceGroup(r Region) string { return n.v.Prefix + string(r) }

// Workspace is the name of a region's Log Analytics workspace.
func (n Names) Workspace(r Region) string { return n.v.Prefix + string(r) }

// Vault is the name of a region's key vault.
func (n Names) Vault(r Region) string {
	return fmt.Sprintf("%s%s-kv-g%d", n.v.Prefix, r, n.v.Generation)
}

// VaultHost is the host name of a region's key vault.
func (n Names) VaultHost(r Region) string { return n.Vault(r) + ".vault.azure.net" }

// Database is the name of a region's MySQL server.
func (n Names) Database(r Region) string { return n.v.Prefix + string(r) + "-mysql" }

// DatabaseHost is the host name of a region's MySQL server.
func (n Names) DatabaseHost(r Region) string {
	return n.Database(r) + ".mysql.database.azure.com"
}

// Registry is the name of a region's container registry.
func (n Names) Registry(r Region) string {
	return n.v.Prefix + strings.ReplaceAll(string(r), "-", "") + "acr"
}

// Cluster is the name of a region's Kubernetes cluster.
func (n Names) Cluster(r Region) string { return n.v.Prefix + string(r) + "-aks" }

// VNet is the name of a region's virtual network.
func (n Names) VNet(r Region) string { return n.v.Prefix + string(r) + "-vnet" }

// DevVNet is the name of the development network peered with a region's.
func (n Names) DevVNet(r Region) string { return n.v.Prefix + string(r) + "-dev-vnet" }

// Zone is a region's public DNS zone, <eudcc-xx>[.<prefix>].<parent zone>.
func (n Names) Zone(r Region) string {
	if n.v.Prefix == "" {
		return string(r) + "." + n.v.ParentDNSZone
	}
	return string(r) + "." + n.v.Prefix + "." + n.v.ParentDNSZone
}

// ServiceHost is the public host name of a service in a region.
func (n Names) ServiceHost(service string, r Region) string { return service + "." + n.Zone(r) }

// LoginHost, ManagementHost and ConsoleHost serve the whole estate.
func (n Names) LoginHost() string { return "login." + n.v.ParentDNSZone }

// ManagementHost is the control plane's host.
func (n Names) ManagementHost() string { return "management." + n.v.ParentDNSZone }

// azureManagementHost is the control plane's host as stock clients know it.
const azureManagementHost = "management.azure.com"

// LogQueryHost is the host of the log query API; stock clients also use the
// older LogQueryHostIO.
const (
	LogQueryHost   = "api.loganalytics.azure.com"
	LogQueryHostIO = "api.loganalytics.io"
)

// Subscription is the ARM id of the subscription.
func (n Names) Subscription() string { return "/subscriptions/" + n.v.SubscriptionID }

// ID is the ARM id of a resource of the region: typ is
// "Microsoft.KeyVault/vaults" or, for children, "…/vaults/x/secrets".
func (n Names) ID(r Region, typ, name string) string {
	return fmt.Sprintf("%s/resourceGroups/%s/providers/%s/%s", n.Subscription(), n.ResourceGroup(r), typ, name)
}

// VaultID is the ARM id of a region's vault.
func (n Names) VaultID(r Region) string { return n.ID(r, "Microsoft.KeyVault/vaults", n.Vault(r)) }

// WorkspaceID is the ARM id of a region's workspace.
func (n Names) WorkspaceID(r Region) string {
	return n.ID(r, "Microsoft.OperationalInsights/workspaces", n.Workspace(r))
}

// DatabaseID is the ARM id of a region's MySQL server.
func (n Names) DatabaseID(r Region) string {
	return n.ID(r, "Microsoft.DBforMySQL/servers", n.Database(r))
}

// ClusterID is the ARM id of a region's cluster.
func (n Names) ClusterID(r Region) string {
	return n.ID(r, "Microsoft.ContainerService/managedClusters", n.Cluster(r))
}

// RegistryID is the ARM id of a region's registry.
func (n Names) RegistryID(r Region) string {
	return n.ID(r, "Microsoft.ContainerRegistry/registries", n.Registry(r))
}

// EndpointID is the ARM id of the private endpoint of a target in a region.
func (n Names) EndpointID(r Region, target string) string {
	return n.ID(r, "Microsoft.Network/privateEndpoints", target+"-private-endpoint")
}

// guid derives the fixed identifier of a thing of this tenant from its name:
// the same estate has the same object ids on every machine.
func (n Names) guid(kind, name string) string {
	space := uuid.MustParse(n.v.TenantID)
	return uuid.NewSHA1(space, []byte(kind+"\x00"+n.v.Prefix+"\x00"+name)).String()
}

// NamesFor derives names from variables.
func NamesFor(v Variables) Names { return Names{v} }

// PortalAudience is the audience of access tokens for the issuance portal.
const PortalAudience = "api://dgca-issuance-web"

// IngressAddress is the name under which status lists the host's listener.
const IngressAddress = "ingress"

// address is the address with the given last octet in a /23 or /24 prefix.
func address(prefix string, octet byte) string {
	p := netip.MustParsePrefix(prefix).Masked().Addr().As4()
	p[3] = octet
	return netip.AddrFrom4(p).String()
}

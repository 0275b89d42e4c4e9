package estate

import (
	"net/netip"

	"verdant/azure/arm"
	"verdant/azure/keyvault"
	"verdant/azure/rest"
)

// vaultChange lets the control plane change a vault's network rules.
func (p *platform) vaultChange() arm.Change {
	return arm.Change{
		Update: func(current rest.Resource, body []byte, _ bool) (rest.Resource, error) {
			return keyvault.UpdateVault(current, body, func(id string) bool {
				_, ok := p.names.subnet(id)
				return ok
			})
		},
		// Whoever opens a vault to a subnet must be allowed to join that.
		Needs: func(changed rest.Resource) []arm.Permission {
			rules, err := keyvault.NetworkRulesOf(changed.Properties)
			if err != nil {
				return nil // Update made them
			}
			var needs []arm.Permission
			for _, id := range rules.Subnets {
				needs = append(needs, arm.Permission{Action: "Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action", Scope: id})
			}
			return needs
		},
		Apply: func(changed rest.Resource) {
			rules, err := keyvault.NetworkRulesOf(changed.Properties)
			if err != nil {
				return
			}
			for _, r := range Regions() {
				if rest.SameID(p.names.VaultID(r), changed.ID) && p.vaults[r] != nil {
					p.vaults[r].SetNetwork(rules)
				}
			}
		},
	}
}

// subnet finds a subnet of the address plan by its ARM id.
func (n Names) subnet(id string) (keyvault.Subnet, bool) {
	for _, r := range Regions() {
		for name, prefix := range map[string]string{n.VNet(r): regionSubnet, n.DevVNet(r): devSubnet} {
			if rest.SameID(id, n.ID(r, "Microsoft.Network/virtualNetworks", name)+"/subnets/"+subnetName(name)) {
				return keyvault.Subnet{Network: name, Prefix: netip.MustParsePrefix(prefix)}, true
			}
		}
	}
	return keyvault.Subnet{}, false
}

// trustedServices are the services of the platform that Azure lists as
// trusted: those that unwrap their data with a customer-managed key.
func (n Names) trustedServices(r Region) []string {
	return []string{n.Identity(r, DatabaseIdentity).PrincipalID, n.Identity(r, DiskIdentity).PrincipalID}
}

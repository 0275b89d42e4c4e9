package estate

import (
	"fmt"
	"net/netip"

	"verdant/vnet"
)

// buildNetworks makes the regions' networks and their development networks,
// peered two-way, with the private zones and the platform's public names.
func buildNetworks(f *vnet.Fabric, n Names) error {
	network := func(name, prefix, subnet string) error {
		return f.CreateNetwork(vnet.Network{Name: name,
			Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)},
			Subnets:  []vnet.Subnet{{Name: subnetName(name), Prefix: netip.MustParsePrefix(subnet)}},
		})
	}
	for _, r := range Regions() {
		if err := network(n.VNet(r), regionPrefix, regionSubnet); err != nil {
			return err
		}
		if err := network(n.DevVNet(r), devPrefix, devSubnet); err != nil {
			return err
		}
		if err := f.Peer(n.VNet(r), n.DevVNet(r)); err != nil {
			return err
		}
		for _, link := range n.PrivateLinks(r) {
			if err := f.PutZone(privateZone(n, r, link)); err != nil {
				return err
			}
		}
	}
	for _, z := range publicZones(n) {
		if err := f.PutZone(z); err != nil {
			return err
		}
	}
	return nil
}

// privateZone is a region's zone for one private endpoint, linked to the
// region's network and to the development network beside it.
func privateZone(n Names, r Region, link privateLink) vnet.Zone {
	return vnet.Zone{
		ID: n.ID(r, "Microsoft.Network/privateDnsZones", link.Zone), Name: link.Zone,
		Links:   []vnet.Link{{Network: n.VNet(r)}, {Network: n.DevVNet(r)}},
		Records: []vnet.Record{{Name: link.Name, Type: vnet.A, Values: []string{link.Address}}},
	}
}

// publicZones are what every resolver knows: that a resource with a private
// endpoint is an alias of its private name, which has no public address, and
// where the front door is.
func publicZones(n Names) []vnet.Zone {
	suffixes := map[string][]vnet.Record{}
	for _, r := range Regions() {
		for _, link := range n.PrivateLinks(r) {
			suffix := link.Host[len(link.Name)+1:]
			suffixes[suffix] = append(suffixes[suffix], vnet.Record{Name: link.Name, Type: vnet.CNAME, Values: []string{link.Name + "." + link.Zone}})
		}
	}
	zones := []vnet.Zone{
		{ID: "public/" + n.v.ParentDNSZone, Name: n.v.ParentDNSZone, Public: true,
			Records: []vnet.Record{{Name: "*", Type: vnet.A, Values: []string{publicAddress}}}},
	}
	for _, host := range []string{LogQueryHost, LogQueryHostIO, azureManagementHost} {
		zones = append(zones, vnet.Zone{ID: "public/" + host, Name: host, Public: true,
			Records: []vnet.Record{{Name: "@", Type: vnet.A, Values: []string{publicAddress}}}})
	}
	for suffix, records := range suffixes {
		zones = append(zones, vnet.Zone{ID: "public/" + suffix, Name: suffix, Public: true, Records: records})
	}
	return zones
}

// addEndpoint opens the private endpoint of a link, approved as in the
// reference, where the deployer owns both sides.
func addEndpoint(f *vnet.Fabric, n Names, r Region, link privateLink, port uint16, linkID uint32) (*vnet.Endpoint, error) {
	e, err := f.AddEndpoint(vnet.EndpointConfig{
		ID: n.EndpointID(r, link.Name), Network: n.VNet(r), Addr: netip.MustParseAddr(link.Address), Ports: []uint16{port},
		LinkID: linkID, State: vnet.Approved, Description: "Auto-Approved",
	})
	if err != nil {
		return nil, fmt.Errorf("private endpoint of %s: %w", link.Name, err)
	}
	return e, nil
}

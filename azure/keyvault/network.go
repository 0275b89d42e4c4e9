package keyvault

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"verdant/azure/rest"
	"verdant/internal/conninfo"
)

// NetworkRules say from where a vault is reached besides its approved private
// endpoints: a vault's publicNetworkAccess and networkAcls. The zero value
// lets in nobody else.
type NetworkRules struct {
	// PublicAccess is publicNetworkAccess "Enabled". Without it the rules
	// below let nobody in, trusted services excepted.
	PublicAccess bool
	// DefaultAllow is defaultAction "Allow": every address is let in.
	DefaultAllow bool
	// TrustedServices is bypass "AzureServices": the platform's own services
	// are let in, as the connection shows them, and no one who claims to be
	// one.
	TrustedServices bool
	// IPRules are public IPv4 addresses and ranges.
	IPRules []netip.Prefix
	// Subnets are ARM ids of subnets from which the vault is reached over
	// their service endpoint.
	Subnets []string
}

// Subnet is where a subnet of a virtual network rule lies.
type Subnet struct {
	Network string // as conninfo names it
	Prefix  netip.Prefix
}

// networkRules are rules made ready for requests.
type networkRules struct {
	NetworkRules
	subnets []Subnet
}

// SetNetwork puts rules in effect for every request that starts after it
// returned.
func (s *Server) SetNetwork(rules NetworkRules) {
	ready := &networkRules{NetworkRules: rules}
	for _, id := range rules.Subnets {
		if s.cfg.Subnet == nil {
			break
		}
		if subnet, ok := s.cfg.Subnet(id); ok {
			ready.subnets = append(ready.subnets, subnet)
		}
	}
	s.network.Store(ready)
}

// Network returns the rules in effect.
func (s *Server) Network() NetworkRules { return s.network.Load().NetworkRules }

// Ways in which a connection can be authorised, for the audit record.
const (
	byPrivateLink    = "PrivateLink"
	byTrustedService = "TrustedService"
	byPublicAccess   = "PublicAccess"
	byIPRule         = "IPAddress"
	bySubnet         = "Subnet"
)

// authorised says by which rule a connection is let in, or "". It looks at
// what the network and the verified token say, and at nothing in the request.
func (s *Server) authorised(c *call, rules *networkRules) string {
	source := c.info.Source.Addr().Unmap()
	switch {
	case !c.known:
		return ""
	case c.info.Kind == conninfo.PrivateEndpoint:
		return byPrivateLink
	case rules.TrustedServices && c.info.Kind == conninfo.Platform && slices.Contains(s.cfg.TrustedServices, c.caller.ObjectID):
		return byTrustedService
	case !rules.PublicAccess:
		return ""
	case rules.DefaultAllow:
		return byPublicAccess
	case c.info.Kind == conninfo.VNet || c.info.Kind == conninfo.Public:
		for _, subnet := range rules.subnets {
			if c.info.VNet == subnet.Network && subnet.Prefix.Contains(source) {
				return bySubnet
			}
		}
	}
	if c.info.Kind == conninfo.Public || c.info.Kind == conninfo.Ingress {
		for _, prefix := range rules.IPRules {
			if prefix.Contains(source) {
				return byIPRule
			}
		}
	}
	return ""
}

// admitNetwork lets the connection in or says how it was refused.
func (s *Server) admitNetwork(c *call) error {
	rules := s.network.Load()
	if c.addressKind = s.authorised(c, rules); c.addressKind != "" {
		c.network = true
		return nil
	}
	vault := c.who() + "Vault: " + s.cfg.Name + ";location=" + s.cfg.Location
	if c.known && rules.PublicAccess {
		return &rest.Error{Status: http.StatusForbidden, Code: "Forbidden", Inner: "ForbiddenByFirewall",
			Message: "Client address is not authorized and caller is not a trusted service.\r\nClient address: " + c.source("") + "\r\n" + vault}
	}
	message := "Connection is not an approved private link and caller was ignored because bypass is not set to 'AzureServices' and PublicNetworkAccess is set to 'Disabled'.\r\n" +
		"To connect to this vault, use its private endpoint.\r\n"
	if rules.TrustedServices {
		message = "Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\n"
	}
	return &rest.Error{Status: http.StatusForbidden, Code: "Forbidden", Inner: "ForbiddenByConnection", Message: message + vault}
}

// Describe lists the ways in which the rules let a connection in besides the
// private endpoints, for administrators.
func (r NetworkRules) Describe() []string {
	var ways []string
	if r.TrustedServices {
		ways = append(ways, "the platform's own services (bypass AzureServices)")
	}
	if !r.PublicAccess {
		return ways
	}
	if r.DefaultAllow {
		return append(ways, "every address (defaultAction Allow)")
	}
	for _, prefix := range r.IPRules {
		ways = append(ways, "address "+strings.TrimSuffix(prefix.String(), "/32"))
	}
	for _, id := range r.Subnets {
		ways = append(ways, "subnet "+id)
	}
	return ways
}

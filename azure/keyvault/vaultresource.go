package keyvault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"regexp"
	"strings"

	"verdant/azure/rest"
)

// The vault as an ARM resource (Microsoft.KeyVault/vaults): what of it can be
// changed while it runs, and how its network rules are written there.

const (
	maxIPRules     = 1000 // Azure's limits
	maxSubnetRules = 200
)

type aclsBody struct {
	Bypass              *string       `json:"bypass"`
	DefaultAction       *string       `json:"defaultAction"`
	IPRules             *[]ipRule     `json:"ipRules"`
	VirtualNetworkRules *[]subnetRule `json:"virtualNetworkRules"`
}

type ipRule struct {
	Value string `json:"value"`
}

type subnetRule struct {
	ID string `json:"id"`
	// Whether the subnet has the service endpoint is not looked at.
	IgnoreMissing bool `json:"ignoreMissingVnetServiceEndpoint"`
}

var subnetPattern = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+$`)

// NetworkRulesOf reads the network rules out of a vault's ARM properties. What
// they leave out lets nobody in.
func NetworkRulesOf(properties map[string]any) (NetworkRules, error) {
	var rules NetworkRules
	access, _ := properties["publicNetworkAccess"].(string)
	if err := rules.setAccess(access); access != "" && err != nil {
		return rules, err
	}
	data, err := json.Marshal(properties["networkAcls"])
	if err != nil {
		return rules, fmt.Errorf("networkAcls: %w", err)
	}
	return rules, rules.setACLs(data)
}

func invalid(format string, args ...any) error {
	return rest.Errorf(http.StatusBadRequest, "BadRequest", format, args...)
}

func (r *NetworkRules) setAccess(value string) error {
	switch {
	case strings.EqualFold(value, "Enabled"):
		r.PublicAccess = true
	case strings.EqualFold(value, "Disabled"):
		r.PublicAccess = false
	default:
		return invalid("publicNetworkAccess must be 'Enabled' or 'Disabled', not '%.40s'.", value)
	}
	return nil
}

// setACLs takes over what a networkAcls object contains and leaves what it
// does not.
func (r *NetworkRules) setACLs(data []byte) error {
	var acls aclsBody
	if err := json.Unmarshal(data, &acls); err != nil {
		return invalid("networkAcls is not an object of bypass, defaultAction, ipRules and virtualNetworkRules.")
	}
	if acls.Bypass != nil {
		switch r.TrustedServices = strings.EqualFold(*acls.Bypass, "AzureServices"); {
		case !r.TrustedServices && !strings.EqualFold(*acls.Bypass, "None"):
			return invalid("networkAcls.bypass must be 'AzureServices' or 'None', not '%.40s'.", *acls.Bypass)
		}
	}
	if acls.DefaultAction != nil {
		switch r.DefaultAllow = strings.EqualFold(*acls.DefaultAction, "Allow"); {
		case !r.DefaultAllow && !strings.EqualFold(*acls.DefaultAction, "Deny"):
			return invalid("networkAcls.defaultAction must be 'Allow' or 'Deny', not '%.40s'.", *acls.DefaultAction)
		}
	}
	if acls.IPRules != nil {
		if err := r.setIPRules(*acls.IPRules); err != nil {
			return err
		}
	}
	if acls.VirtualNetworkRules != nil {
		return r.setSubnets(*acls.VirtualNetworkRules)
	}
	return nil
}

func (r *NetworkRules) setIPRules(rules []ipRule) error {
	if len(rules) > maxIPRules {
		return invalid("networkAcls has %d ipRules; %d are allowed.", len(rules), maxIPRules)
	}
	r.IPRules = nil
	for _, rule := range rules {
		prefix, err := parseIPRule(rule.Value)
		if err != nil {
			return invalid("networkAcls.ipRules: '%.64s' %s.", rule.Value, err)
		}
		r.IPRules = append(r.IPRules, prefix)
	}
	return nil
}

// parseIPRule reads an address or a range. Private addresses are none of the
// Internet's, and one private network's are another's too: they cannot say
// who comes.
func parseIPRule(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		var addr netip.Addr
		if addr, err = netip.ParseAddr(text); err == nil {
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	if err != nil || !prefix.Addr().Is4() {
		return prefix, errors.New("is neither an IPv4 address nor a range in CIDR notation")
	}
	if prefix.Masked() != prefix {
		return prefix, fmt.Errorf("has bits beyond its length; the range is %s", prefix.Masked())
	}
	for _, private := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} {
		if p := netip.MustParsePrefix(private); p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr()) {
			return prefix, errors.New("is private; name the subnet in virtualNetworkRules, or use a private endpoint")
		}
	}
	return prefix, nil
}

func (r *NetworkRules) setSubnets(rules []subnetRule) error {
	if len(rules) > maxSubnetRules {
		return invalid("networkAcls has %d virtualNetworkRules; %d are allowed.", len(rules), maxSubnetRules)
	}
	r.Subnets = nil
	for _, rule := range rules {
		if !subnetPattern.MatchString(rule.ID) {
			return invalid("networkAcls.virtualNetworkRules: '%.300s' is not the id of a subnet.", rule.ID)
		}
		r.Subnets = append(r.Subnets, rule.ID)
	}
	return nil
}

// Properties are the rules as ARM shows them.
func (r NetworkRules) Properties() map[string]any {
	word := func(b bool, yes, no string) string {
		if b {
			return yes
		}
		return no
	}
	ips, subnets := []any{}, []any{}
	for _, prefix := range r.IPRules {
		ips = append(ips, map[string]any{"value": prefix.String()})
	}
	for _, id := range r.Subnets {
		subnets = append(subnets, map[string]any{"id": id, "ignoreMissingVnetServiceEndpoint": false})
	}
	return map[string]any{
		"publicNetworkAccess": word(r.PublicAccess, "Enabled", "Disabled"),
		"networkAcls": map[string]any{"bypass": word(r.TrustedServices, "AzureServices", "None"),
			"defaultAction": word(r.DefaultAllow, "Allow", "Deny"), "ipRules": ips, "virtualNetworkRules": subnets},
	}
}

// UpdateVault makes of a vault's ARM resource what the body of a PUT or PATCH
// asks for: network rules and tags. What the body does not name stays as it
// is, in a PUT too, so that nothing opens by omission; another value for
// anything else is refused. subnet tells whether a subnet exists.
func UpdateVault(current rest.Resource, body []byte, subnet func(id string) bool) (rest.Resource, error) {
	var in struct {
		Location   string                     `json:"location"`
		Tags       map[string]string          `json:"tags"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	if err := decoder.Decode(&in); err != nil {
		return current, rest.Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return current, rest.Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request content goes on after its end.")
	}
	if in.Location != "" && !strings.EqualFold(strings.ReplaceAll(in.Location, " ", ""), current.Location) {
		return current, rest.Errorf(http.StatusConflict, "InvalidResourceLocation", "The vault is in '%s' and cannot move to '%.40s'.", current.Location, in.Location)
	}
	rules, err := NetworkRulesOf(current.Properties)
	if err != nil {
		return current, err
	}
	for name, value := range in.Properties {
		switch {
		case strings.EqualFold(name, "networkAcls"):
			err = rules.setACLs(value)
		case strings.EqualFold(name, "publicNetworkAccess"):
			var access string
			_ = json.Unmarshal(value, &access) // what is no string is no valid value either
			err = rules.setAccess(access)
		default:
			err = unchangedProperty(current, name, value)
		}
		if err != nil {
			return current, err
		}
	}
	for _, id := range rules.Subnets {
		if !subnet(id) {
			return current, rest.Errorf(http.StatusBadRequest, "SubnetsNotFound", "The subnet '%.300s' of networkAcls.virtualNetworkRules does not exist.", id)
		}
	}
	current.Properties = maps.Clone(current.Properties)
	maps.Copy(current.Properties, rules.Properties())
	if in.Tags != nil {
		current.Tags = in.Tags
	}
	return current, nil
}

// unchangedProperty refuses another value than the current one. A property
// that the vault does not have may be given as nothing.
func unchangedProperty(current rest.Resource, name string, value json.RawMessage) error {
	var wanted, have any
	if err := json.Unmarshal(value, &wanted); err != nil {
		return invalid("The property %.60q is not valid JSON.", name)
	}
	for known, v := range current.Properties {
		if strings.EqualFold(known, name) {
			if data, err := json.Marshal(v); err == nil {
				_ = json.Unmarshal(data, &have) // it was written by us
			}
		}
	}
	if nothing(wanted) && nothing(have) || reflect.DeepEqual(wanted, have) {
		return nil
	}
	return invalid("The property %.60q of a vault cannot be changed; networkAcls, publicNetworkAccess and tags can.", name)
}

func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

package keyvault_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"verdant/azure/keyvault"
	"verdant/azure/rest"
	"verdant/internal/conninfo"
)

const (
	serviceID = "aaaaaaaa-0000-0000-0000-0000000000cc" // a platform service without a role
	subnetID  = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/eudcc-ie/providers/Microsoft.Network/virtualNetworks/eudcc-ie-vnet/subnets/eudcc-ie-subnet"
)

func subnetOf(id string) (keyvault.Subnet, bool) {
	return keyvault.Subnet{Network: "eudcc-ie-vnet", Prefix: netip.MustParsePrefix("192.168.4.0/23")}, strings.EqualFold(id, subnetID)
}

// TestTheNetworkDecidesBeforeAnyRole goes through every combination of
// publicNetworkAccess, defaultAction, bypass and rules, for every kind of
// connection, over the wire: what it expects is written out per connection.
func TestTheNetworkDecidesBeforeAnyRole(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.Subnet, w.cfg.TrustedServices = subnetOf, []string{serviceID}
	})
	at := func(kind conninfo.Kind, vnet, source string) conninfo.Info {
		info := conninfo.Info{Kind: kind, VNet: vnet}
		if source != "" {
			info.Source = netip.MustParseAddrPort(source + ":40000")
		}
		return info
	}
	type setting struct{ public, allow, bypass, ips, subnets bool }
	never := func(setting) bool { return false }
	open := func(s setting) bool { return s.public && s.allow }
	connections := []struct {
		name string
		info conninfo.Info
		oid  string
		in   func(setting) bool
	}{
		{"an approved private endpoint", at(conninfo.PrivateEndpoint, "eudcc-ie-vnet", "192.168.4.20"), pod, func(setting) bool { return true }},
		{"a trusted service on the backbone", at(conninfo.Platform, "", ""), serviceID, func(s setting) bool { return s.bypass || open(s) }},
		{"somebody else's token on the backbone", at(conninfo.Platform, "", ""), pod, open},
		{"a trusted service's token from the Internet", at(conninfo.Ingress, "", "198.51.100.9"), serviceID, open},
		{"a trusted service's token from a pod", at(conninfo.Public, "eudcc-eu-vnet", "192.168.4.20"), serviceID, open},
		{"an address of the rules", at(conninfo.Ingress, "", "203.0.113.77"), pod, func(s setting) bool { return open(s) || s.public && s.ips }},
		{"an address of the rules, mapped", at(conninfo.Ingress, "", "[::ffff:203.0.113.77]"), pod, func(s setting) bool { return open(s) || s.public && s.ips }},
		{"the single address of the rules", at(conninfo.Ingress, "", "198.51.100.1"), pod, func(s setting) bool { return open(s) || s.public && s.ips }},
		{"an address beside the rules", at(conninfo.Ingress, "", "203.0.114.77"), pod, open},
		{"an address of version 6", at(conninfo.Ingress, "", "[2001:db8::1]"), pod, open},
		{"a pod of the subnet", at(conninfo.Public, "eudcc-ie-vnet", "192.168.5.9"), pod, func(s setting) bool { return open(s) || s.public && s.subnets }},
		{"a pod beside the subnet", at(conninfo.Public, "eudcc-ie-vnet", "192.168.6.9"), pod, open},
		{"a pod of another network with the same address", at(conninfo.Public, "eudcc-eu-vnet", "192.168.5.9"), pod, open},
		{"an address of the rules that a network claims", at(conninfo.VNet, "eudcc-eu-vnet", "203.0.113.77"), pod, open},
		{"nothing that the network knows", conninfo.Info{}, pod, never},
	}
	tokens := map[string]string{}
	for _, c := range connections {
		tokens[c.oid] = w.mint(map[string]any{"oid": c.oid})
	}
	forged := w.mint(map[string]any{"oid": admin})
	forged = forged[:len(forged)-8] + "AAAAAAAA"
	for bits := range 32 {
		s := setting{bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0, bits&16 > 0}
		rules := keyvault.NetworkRules{PublicAccess: s.public, DefaultAllow: s.allow, TrustedServices: s.bypass}
		if s.ips {
			rules.IPRules = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.51.100.1/32")}
		}
		if s.subnets {
			rules.Subnets = []string{subnetID}
		}
		w.vault.SetNetwork(rules)
		for _, c := range connections {
			// Nobody here has a role, so that whoever is let in hears of roles.
			want := "ForbiddenByRbac"
			switch {
			case c.in(s):
			case s.public && c.info.Kind != "":
				want = "ForbiddenByFirewall"
			default:
				want = "ForbiddenByConnection"
			}
			r := w.rawFrom(c.info, "GET", "/secrets/s?api-version=7.4", tokens[c.oid], "")
			if _, inner := r.code(); r.status != http.StatusForbidden || inner != want {
				t.Errorf("%+v, %s: got %d %s, want %s", s, c.name, r.status, inner, want)
			}
			if want == "ForbiddenByFirewall" && !strings.HasPrefix(r.message(), "Client address is not authorized and caller is not a trusted service.\r\nClient address: "+strings.Trim(fmt.Sprint(c.info.Source.Addr().Unmap()), "[]")) && c.info.Source.IsValid() {
				t.Errorf("%+v, %s: got %s", s, c.name, r.message())
			}
			if r := w.raw("GET", "/secrets/s?api-version=7.4", forged, ""); r.status != http.StatusUnauthorized || strings.Contains(r.text, "Forbidden") || strings.Contains(r.text, "ublic") {
				t.Errorf("%+v, %s, a forged token: got %d %s", s, c.name, r.status, r.text)
			}
		}
	}
}

func TestTheVaultsResourceChangesItsNetworkRulesAndNothingElse(t *testing.T) {
	current := rest.Resource{ID: vaultID, Location: "westeurope", Properties: map[string]any{
		"tenantId": tenant, "sku": map[string]any{"family": "A", "name": "premium"}, "softDeleteRetentionInDays": 7, "enablePurgeProtection": true, "accessPolicies": []any{},
		"publicNetworkAccess": "Disabled", "networkAcls": map[string]any{"bypass": "AzureServices", "defaultAction": "Deny", "ipRules": []any{}, "virtualNetworkRules": []any{}}}}
	before, err := json.Marshal(current)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body, access, acls, code string
	}{
		"public access": {`{"properties":{"publicNetworkAccess":"enabled"}}`, "Enabled", `{"bypass":"AzureServices","defaultAction":"Deny","ipRules":[],"virtualNetworkRules":[]}`, ""},
		"rules, the rest as it is": {`{"properties":{"networkAcls":{"ipRules":[{"value":"203.0.113.9"},{"value":"203.0.112.0/24"}]}}}`, "Disabled",
			`{"bypass":"AzureServices","defaultAction":"Deny","ipRules":[{"value":"203.0.113.9/32"},{"value":"203.0.112.0/24"}],"virtualNetworkRules":[]}`, ""},
		"a subnet": {`{"properties":{"networkAcls":{"bypass":"none","defaultAction":"allow","virtualNetworkRules":[{"id":"` + subnetID + `"}]}}}`, "Disabled",
			`{"bypass":"None","defaultAction":"Allow","ipRules":[],"virtualNetworkRules":[{"id":"` + subnetID + `","ignoreMissingVnetServiceEndpoint":false}]}`, ""},
		"all of it repeated": {`{"location":"West Europe","properties":{"tenantId":"` + tenant + `","sku":{"name":"premium","family":"A"},"softDeleteRetentionInDays":7,"enabledForDeployment":false,"accessPolicies":null}}`,
			"Disabled", `{"bypass":"AzureServices","defaultAction":"Deny","ipRules":[],"virtualNetworkRules":[]}`, ""},
		"no purge protection":     {`{"properties":{"enablePurgeProtection":false}}`, "", "", "BadRequest"},
		"access policies":         {`{"properties":{"accessPolicies":[{"objectId":"x"}]}}`, "", "", "BadRequest"},
		"a new property":          {`{"properties":{"enabledForDeployment":true}}`, "", "", "BadRequest"},
		"another place":           {`{"location":"northeurope"}`, "", "", "InvalidResourceLocation"},
		"broken JSON":             {`{"properties":`, "", "", "InvalidRequestContent"},
		"JSON and more":           {`{}{}`, "", "", "InvalidRequestContent"},
		"access to some":          {`{"properties":{"publicNetworkAccess":"Some"}}`, "", "", "BadRequest"},
		"access as a number":      {`{"properties":{"publicNetworkAccess":1}}`, "", "", "BadRequest"},
		"a default that is none":  {`{"properties":{"networkAcls":{"defaultAction":"Maybe"}}}`, "", "", "BadRequest"},
		"a bypass that is none":   {`{"properties":{"networkAcls":{"bypass":"Logging"}}}`, "", "", "BadRequest"},
		"rules as text":           {`{"properties":{"networkAcls":{"ipRules":"203.0.113.9"}}}`, "", "", "BadRequest"},
		"a private range":         {`{"properties":{"networkAcls":{"ipRules":[{"value":"192.168.4.0/23"}]}}}`, "", "", "BadRequest"},
		"an address of version 6": {`{"properties":{"networkAcls":{"ipRules":[{"value":"2001:db8::1"}]}}}`, "", "", "BadRequest"},
		"a range with host bits":  {`{"properties":{"networkAcls":{"ipRules":[{"value":"203.0.113.9/24"}]}}}`, "", "", "BadRequest"},
		"a name":                  {`{"properties":{"networkAcls":{"ipRules":[{"value":"example.org"}]}}}`, "", "", "BadRequest"},
		"too many rules":          {`{"properties":{"networkAcls":{"ipRules":[` + strings.Repeat(`{"value":"203.0.113.9"},`, 1000) + `{"value":"203.0.113.9"}]}}}`, "", "", "BadRequest"},
		"a subnet that is not":    {`{"properties":{"networkAcls":{"virtualNetworkRules":[{"id":"` + subnetID + `2"}]}}}`, "", "", "SubnetsNotFound"},
		"a subnet that is none":   {`{"properties":{"networkAcls":{"virtualNetworkRules":[{"id":"subnet"}]}}}`, "", "", "BadRequest"},
	} {
		got, err := keyvault.UpdateVault(current, []byte(c.body), func(id string) bool { _, ok := subnetOf(id); return ok })
		if c.code != "" {
			if e, ok := err.(*rest.Error); !ok || e.Code != c.code {
				t.Errorf("%s: got %v, want %s", name, err, c.code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		acls, err := json.Marshal(got.Properties["networkAcls"])
		if err != nil || string(acls) != c.acls || got.Properties["publicNetworkAccess"] != c.access || got.Properties["softDeleteRetentionInDays"] != 7 {
			t.Errorf("%s: got %s %s, %v", name, got.Properties["publicNetworkAccess"], acls, err)
		}
		rules, err := keyvault.NetworkRulesOf(got.Properties)
		if back, _ := json.Marshal(rules.Properties()["networkAcls"]); err != nil || string(back) != c.acls {
			t.Errorf("%s: read back as %s, %v", name, back, err)
		}
	}
	if after, _ := json.Marshal(current); string(after) != string(before) {
		t.Error("the current resource was changed")
	}
	if rules, err := keyvault.NetworkRulesOf(map[string]any{}); err != nil || rules.PublicAccess || rules.DefaultAllow || rules.TrustedServices {
		t.Errorf("properties that say nothing open the vault: %+v, %v", rules, err)
	}
}

// FuzzVaultBodies: no body panics, and none opens a vault that does not say so.
func FuzzVaultBodies(f *testing.F) {
	f.Add(`{"properties":{"networkAcls":{"ipRules":[{"value":"1.2.3.4/8"}]},"publicNetworkAccess":"Enabled"}}`)
	f.Add(`{"tags":{"a":"b"},"properties":{"networkacls":null,"sku":{}}}`)
	current := rest.Resource{ID: vaultID, Properties: keyvault.NetworkRules{}.Properties()}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := keyvault.UpdateVault(current, []byte(body), func(string) bool { return true })
		if err != nil {
			return
		}
		rules, err := keyvault.NetworkRulesOf(got.Properties)
		if err != nil {
			t.Fatalf("%s made properties that cannot be read: %v", body, err)
		}
		if rules.PublicAccess && !strings.Contains(strings.ToLower(body), "able") && !strings.Contains(body, `\u`) {
			t.Fatalf("%s opened the vault", body)
		}
	})
}

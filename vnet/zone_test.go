package vnet_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"verdant/vnet"
)

// loopback is an empty fabric for what all drivers share.
func loopback(t *testing.T, networks ...string) *vnet.Fabric {
	t.Helper()
	f, err := vnet.Open(vnet.Config{Driver: vnet.Loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	for i, name := range networks {
		prefix := netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i))
		err := f.CreateNetwork(vnet.Network{Name: name, Prefixes: []netip.Prefix{prefix}, Subnets: []vnet.Subnet{{Name: "s", Prefix: prefix}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestANameMeansWhatTheZonesOfTheNetworkSay(t *testing.T) {
	f := loopback(t, "linked", "redirected", "stranger")
	for _, z := range []vnet.Zone{
		{ID: "p", Name: "vault.azure.net", Public: true, Records: []vnet.Record{
			{Name: "kv", Type: vnet.CNAME, Values: []string{"kv.privatelink.vaultcore.azure.net"}},
			{Name: "theirs", Type: vnet.CNAME, Values: []string{"Theirs.PrivateLink.VaultCore.Azure.Net."}},
			{Name: "loop", Type: vnet.CNAME, Values: []string{"loop.vault.azure.net"}},
			{Name: "text", Type: vnet.TXT, Values: []string{"hello"}},
		}},
		{ID: "pl", Name: "vaultcore.azure.net", Public: true, Records: []vnet.Record{
			{Name: "kv.privatelink", Type: vnet.A, Values: []string{"203.0.113.1"}},
			{Name: "theirs.privatelink", Type: vnet.A, Values: []string{"203.0.113.2"}},
		}},
		{ID: "z", Name: "privatelink.vaultcore.azure.net",
			Links: []vnet.Link{{Network: "linked"}, {Network: "redirected", NXDomainRedirect: true}},
			Records: []vnet.Record{
				{Name: "kv", Type: vnet.A, Values: []string{"10.0.0.4"}},
				{Name: "*.wild", Type: vnet.A, Values: []string{"10.0.0.5"}},
				{Name: "b.a.wild", Type: vnet.A, Values: []string{"10.0.0.6"}},
			}},
	} {
		if err := f.PutZone(z); err != nil {
			t.Fatal(err)
		}
	}
	private := func(label string) string { return label + ".privatelink.vaultcore.azure.net" }
	for _, c := range []struct{ why, network, name, want string }{
		{"a linked zone gives the private address", "linked", "kv.vault.azure.net", "kv.privatelink.vaultcore.azure.net 10.0.0.4"},
		{"case and a final dot do not matter", "linked", "KV.Vault.Azure.Net.", "kv.privatelink.vaultcore.azure.net 10.0.0.4"},
		{"without the link the public answer counts", "stranger", "kv.vault.azure.net", "kv.privatelink.vaultcore.azure.net 203.0.113.1"},
		{"a linked zone denies a name that it lacks", "linked", "theirs.vault.azure.net", "theirs.privatelink.vaultcore.azure.net no such name"},
		{"unless the link says redirect", "redirected", "theirs.vault.azure.net", "theirs.privatelink.vaultcore.azure.net 203.0.113.2"},
		{"redirect does not hide what the zone has", "redirected", private("kv"), "10.0.0.4"},
		{"a wildcard covers any depth", "linked", private("x.y.wild"), "10.0.0.5"},
		{"a wildcard yields to a name that exists", "linked", private("b.a.wild"), "10.0.0.6"},
		{"a wildcard does not reach below a name that exists", "linked", private("c.a.wild"), "no such name"},
		{"what lies between exists without an address", "linked", private("a.wild"), ""},
		{"a name with other records exists without an address", "linked", "text.vault.azure.net", ""},
		{"a loop ends", "linked", "loop.vault.azure.net", strings.Repeat("loop.vault.azure.net ", 8) + "no such name"},
		{"the outside does not exist", "linked", "example.com", "no such name"},
		{"a sibling of a zone is not in it", "linked", "notvault.azure.net", "no such name"},
		{"what is no name does not exist", "linked", "a..b", "no such name"},
		{"nor does what is too long", "linked", strings.Repeat("a", 64) + ".vault.azure.net", "no such name"},
	} {
		t.Run(c.why, func(t *testing.T) {
			answer, err := f.Resolve(c.network, c.name)
			said := append([]string{}, answer.CNAMEs...)
			for _, a := range answer.Addrs {
				said = append(said, a.String())
			}
			if errors.Is(err, vnet.ErrNoSuchName) {
				said = append(said, "no such name")
			} else if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(said, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAZoneThatMeansNothingIsRefused(t *testing.T) {
	f := loopback(t)
	one := func(name string, kind vnet.RecordType, values ...string) []vnet.Record {
		return []vnet.Record{{Name: name, Type: kind, Values: values}}
	}
	if err := f.PutZone(vnet.Zone{ID: "first", Name: "z.test", Links: []vnet.Link{{Network: "n"}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why string
		z   vnet.Zone
	}{
		{"without an id", vnet.Zone{Name: "x.test"}},
		{"without a name", vnet.Zone{ID: "x"}},
		{"with an empty label", vnet.Zone{ID: "x", Name: "a..test"}},
		{"an address that is none", vnet.Zone{ID: "x", Name: "x.test", Records: one("a", vnet.A, "1.2.3")}},
		{"an IPv6 address", vnet.Zone{ID: "x", Name: "x.test", Records: one("a", vnet.A, "::1")}},
		{"no value", vnet.Zone{ID: "x", Name: "x.test", Records: one("a", vnet.A)}},
		{"an unknown type", vnet.Zone{ID: "x", Name: "x.test", Records: one("a", "MX", "10 a")}},
		{"two canonical names", vnet.Zone{ID: "x", Name: "x.test", Records: one("a", vnet.CNAME, "b.test", "c.test")}},
		{"a canonical name beside an address", vnet.Zone{ID: "x", Name: "x.test", Records: append(one("a", vnet.CNAME, "b.test"), one("a", vnet.A, "1.2.3.4")...)}},
		{"a canonical name at the top", vnet.Zone{ID: "x", Name: "x.test", Records: one("@", vnet.CNAME, "b.test")}},
		{"a second zone of one name for one network", vnet.Zone{ID: "x", Name: "Z.test", Links: []vnet.Link{{Network: "n"}}}},
	} {
		t.Run(c.why, func(t *testing.T) {
			if err := f.PutZone(c.z); err == nil {
				t.Error("it was accepted")
			}
		})
	}
	if err := f.PutZone(vnet.Zone{ID: "other", Name: "z.test", Links: []vnet.Link{{Network: "m"}}}); err != nil {
		t.Errorf("a second zone of one name for another network: %v", err)
	}
	f.DeleteZone("first")
	if err := f.PutZone(vnet.Zone{ID: "x", Name: "z.test", Links: []vnet.Link{{Network: "n"}}}); err != nil {
		t.Errorf("after the first was deleted: %v", err)
	}
}

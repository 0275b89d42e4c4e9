package estate

import (
	"slices"
	"strings"
	"testing"

	"verdant/azure/rest"
)

func reference() Names { return NamesFor(DefaultVariables()) }

func TestNamesAreThoseOfTheReference(t *testing.T) {
	n := reference()
	v := DefaultVariables()
	v.Prefix, v.Generation = "acme", 3
	p := NamesFor(v)
	for got, want := range map[string]string{
		n.Vault(EU):                      "eudcc-eu-kv-g1",
		p.Vault(IE):                      "acmeeudcc-ie-kv-g3",
		n.Registry(IE):                   "eudccieacr",
		n.DatabaseHost(IE):               "eudcc-ie-mysql.mysql.database.azure.com",
		n.ServiceHost("dgc-gateway", EU): "dgc-gateway.eudcc-eu.verdant.localhost",
		p.ServiceHost("dgc-gateway", EU): "dgc-gateway.eudcc-eu.acme.verdant.localhost",
		n.Workspace(IE):                  "eudcc-ie",
		n.UPN(ProfessionalUser):          "professional@verdant.localhost",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTheTablesHaveEveryRow(t *testing.T) {
	if got := []int{len(PrivateLinkTable()), len(EUVaultTable()), len(IEVaultTable()), len(CMKTable()), len(SolutionTable()), len(DiagnosticTable())}; !slices.Equal(got, []int{4, 5, 15, 2, 8, 4}) {
		t.Errorf("rows: got %v", got)
	}
}

func TestResourcesAreUniqueAndWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range reference().Resources() {
		id := strings.ToLower(r.ID)
		if seen[id] {
			t.Errorf("%s is there twice", r.ID)
		}
		seen[id] = true
		if !strings.HasPrefix(r.ID, "/subscriptions/") || r.Type == "" || !strings.HasSuffix(r.ID, r.Name) || r.Properties == nil {
			t.Errorf("malformed resource %+v", r)
		}
		for _, part := range strings.Split(r.Type, "/")[1:] {
			if !strings.Contains(r.ID, "/"+part+"/") {
				t.Errorf("id %s does not go with type %s", r.ID, r.Type)
			}
		}
	}
	for _, v := range []string{"eudcc-eu-kv-g1", "eudcc-ie-kv-g1"} {
		if !slices.ContainsFunc(reference().Resources(), func(r rest.Resource) bool { return r.Name == v && r.Properties["publicNetworkAccess"] == "Disabled" }) {
			t.Errorf("no private vault %s", v)
		}
	}
}

// TestNobodyHoldsMoreThanItNeeds is the role table of the deployment, seen
// from the attacker's side.
func TestNobodyHoldsMoreThanItNeeds(t *testing.T) {
	n := reference()
	holders := func(object string) (names []string) {
		for _, id := range n.Identities() {
			for _, g := range n.Grants() {
				if g.Principal == id.PrincipalID && strings.HasSuffix(g.Scope, n.Vault(id.Region)+object) {
					names = append(names, string(id.Region)+"/"+id.Name)
				}
			}
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	for object, want := range map[string][]string{
		"/keys/dsc-key-store":                        {"eudcc-ie/dgca-issuance-service"},
		"/keys/upload-key-store":                     {"eudcc-ie/dgca-issuance-service"},
		"/keys/csca-key-store":                       nil,
		"/keys/trustanchor":                          {"eudcc-eu/dgc-gateway"},
		"/keys/mysql-encryption-key":                 {"eudcc-eu/mysql", "eudcc-ie/mysql"},
		"/keys/aks-encryption-key":                   {"eudcc-eu/disk-encryption-set", "eudcc-ie/disk-encryption-set"},
		"/secrets/msal-authentication-client-secret": {"eudcc-ie/dgca-issuance-web"},
		"/secrets/mysql-pw":                          nil,
		"":                                           nil, // no workload may read a whole vault
	} {
		if got := holders(object); !slices.Equal(got, want) {
			t.Errorf("who holds %q: got %v, want %v", object, got, want)
		}
	}
	for _, g := range n.Grants() {
		if g.Principal == n.Identity(IE, "dgca-issuance-service-public").PrincipalID {
			t.Errorf("the public issuance service holds a role: %+v", g)
		}
	}
}

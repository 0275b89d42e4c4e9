package rbac

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

const (
	sub       = "/subscriptions/00000000-0000-0000-0000-000000000001"
	group     = sub + "/resourceGroups/eudcc-ie"
	vaultID   = group + "/providers/Microsoft.KeyVault/vaults/eudcc-ie-kv-g1"
	dsc       = vaultID + "/keys/dsc-key-store"
	signing   = "Microsoft.KeyVault/vaults/keys/sign/action"
	reading   = "Microsoft.KeyVault/vaults/keys/read"
	getSecret = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
)

func at(scope, role, principal string) Assignment {
	return Assignment{ID: scope + "/providers/Microsoft.Authorization/roleAssignments/" + role + principal, RoleDefinitionID: role, PrincipalID: principal, Scope: scope}
}

func TestAnAssignmentReachesItsScopeAndBelowAndNothingBeside(t *testing.T) {
	for name, c := range map[string]struct {
		scope, resource string
		want            bool
	}{
		"the object itself":                       {dsc, dsc, true},
		"the object in other letter case":         {strings.ToUpper(dsc), dsc, true},
		"an object from its vault":                {vaultID, dsc, true},
		"an object from its vault with a slash":   {vaultID + "/", dsc, true},
		"an object from its resource group":       {group, dsc, true},
		"an object from its subscription":         {sub, dsc, true},
		"an object from the root":                 {"/", dsc, true},
		"the vault from one object":               {dsc, vaultID, false},
		"a sibling":                               {vaultID + "/keys/other", dsc, false},
		"a sibling whose name is longer":          {vaultID + "/keys/ab", vaultID + "/keys/abc", false},
		"a sibling whose name is shorter":         {vaultID + "/keys/abc", vaultID + "/keys/ab", false},
		"the secret of the same name":             {vaultID + "/secrets/dsc-key-store", dsc, false},
		"a vault whose name is longer":            {vaultID, vaultID + "0/keys/dsc-key-store", false},
		"another resource group":                  {group, sub + "/resourceGroups/eudcc-ie2/providers/Microsoft.KeyVault/vaults/v", false},
		"everything from an empty scope":          {"", dsc, false},
		"everything from a scope that is no path": {"subscriptions", dsc, false},
		"an empty resource from the root":         {"/", "", false},
	} {
		p := NewPolicy(BuiltIn(), []Assignment{at(c.scope, KeyVaultCryptoUser, "pod")})
		if got := p.Check(Principal{ObjectID: "POD"}, strings.ToUpper(signing), true, c.resource).Allowed; got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// TestEachVaultRoleGivesItsDataActionsOnly holds the roles against a matrix of
// operations written out by hand from the published role definitions.
func TestEachVaultRoleGivesItsDataActionsOnly(t *testing.T) {
	all := []string{
		"keys/read", "keys/create/action", "keys/update/action", "keys/delete", "keys/backup/action", "keys/purge/action", "keys/encrypt/action",
		"keys/decrypt/action", "keys/wrap/action", "keys/unwrap/action", "keys/sign/action", "keys/verify/action", "keys/release/action",
		"keyrotationpolicies/read", "keyrotationpolicies/write",
		"secrets/getSecret/action", "secrets/readMetadata/action", "secrets/setSecret/action", "secrets/delete", "secrets/purge/action",
		"certificates/read", "certificates/create/action", "certificates/delete", "certificatecas/read", "certificatecas/write", "certificatecontacts/write",
	}
	want := map[string]string{
		KeyVaultAdministrator:       strings.Join(all, " "),
		KeyVaultReader:              "keys/read keyrotationpolicies/read secrets/readMetadata/action certificates/read certificatecas/read",
		KeyVaultCertificatesOfficer: "certificates/read certificates/create/action certificates/delete certificatecas/read certificatecas/write certificatecontacts/write",
		KeyVaultCertificateUser:     "keys/read secrets/getSecret/action secrets/readMetadata/action certificates/read",
		KeyVaultCryptoOfficer: "keys/read keys/create/action keys/update/action keys/delete keys/backup/action keys/purge/action keys/encrypt/action keys/decrypt/action " +
			"keys/wrap/action keys/unwrap/action keys/sign/action keys/verify/action keys/release/action keyrotationpolicies/read keyrotationpolicies/write",
		KeyVaultCryptoUser: "keys/read keys/update/action keys/backup/action keys/encrypt/action keys/decrypt/action keys/wrap/action keys/unwrap/action " +
			"keys/sign/action keys/verify/action",
		KeyVaultCryptoServiceEncryption: "keys/read keys/wrap/action keys/unwrap/action",
		KeyVaultCryptoServiceRelease:    "keys/release/action",
		KeyVaultSecretsOfficer:          "secrets/getSecret/action secrets/readMetadata/action secrets/setSecret/action secrets/delete secrets/purge/action",
		KeyVaultSecretsUser:             "secrets/getSecret/action secrets/readMetadata/action",
		KeyVaultPurgeOperator:           "",
		KeyVaultDataAccessAdministrator: "",
		KeyVaultContributor:             "",
		Owner:                           "",
		Contributor:                     "",
		Reader:                          "",
	}
	for role, allowed := range want {
		p := NewPolicy(BuiltIn(), []Assignment{at(vaultID, role, "pod")})
		def, ok := p.Role(role)
		if !ok {
			t.Fatalf("role %s is not built in", role)
		}
		for _, action := range all {
			want := strings.Contains(" "+allowed+" ", " "+action+" ")
			d := p.Check(Principal{ObjectID: "pod"}, "Microsoft.KeyVault/vaults/"+action, true, vaultID)
			if d.Allowed != want {
				t.Errorf("%s, %s: got %v, want %v", def.Name, action, d.Allowed, want)
			}
			if d.Allowed && (d.RoleDefinitionID != role || !strings.HasPrefix(d.AssignmentID, vaultID)) {
				t.Errorf("%s, %s: decided by %+v", def.Name, action, d)
			}
			if p.Check(Principal{ObjectID: "stranger"}, "Microsoft.KeyVault/vaults/"+action, true, vaultID).Allowed {
				t.Errorf("%s, %s: a stranger is allowed", def.Name, action)
			}
		}
	}
}

func TestControlActionsAndDataActionsAreApart(t *testing.T) {
	const assign = "Microsoft.Authorization/roleAssignments/write"
	const query = "Microsoft.OperationalInsights/workspaces/query/read"
	for _, c := range []struct {
		role, action string
		data, want   bool
	}{
		{Owner, assign, false, true},
		{Owner, signing, true, false},
		{Contributor, assign, false, false},
		{Contributor, "Microsoft.KeyVault/vaults/write", false, true},
		{UserAccessAdministrator, assign, false, true},
		{Reader, query, false, true},
		{Reader, assign, false, false},
		{LogAnalyticsReader, query, false, true},
		{LogAnalyticsReader, "Microsoft.OperationalInsights/workspaces/sharedKeys/read", false, false},
		{MonitoringMetricsPublisher, "Microsoft.Insights/Metrics/Write", true, true},
		{MonitoringMetricsPublisher, "Microsoft.Insights/Metrics/Write", false, false},
		{KeyVaultAdministrator, "Microsoft.KeyVault/vaults/write", false, false},
		{KeyVaultDataAccessAdministrator, assign, false, false}, // its condition hangs on the role
		{KeyVaultPurgeOperator, "Microsoft.KeyVault/locations/deletedVaults/purge/action", false, true},
		{KeyVaultContributor, "Microsoft.KeyVault/locations/deletedVaults/purge/action", false, false},
	} {
		p := NewPolicy(BuiltIn(), []Assignment{at(sub, c.role, "admin")})
		if got := p.Check(Principal{ObjectID: "admin"}, c.action, c.data, vaultID).Allowed; got != c.want {
			t.Errorf("role %s, %s (data %v): got %v, want %v", c.role, c.action, c.data, got, c.want)
		}
	}
}

func TestNotDataActionsTakeAwayInsideTheirRoleOnly(t *testing.T) {
	but := RoleDefinition{ID: "c1", Name: "keys but signing", DataActions: []string{"Microsoft.KeyVault/vaults/keys/*"}, NotDataActions: []string{"*/SIGN/action"}}
	p := NewPolicy(append(BuiltIn(), but), []Assignment{at(vaultID, "c1", "pod")})
	if !p.Check(Principal{ObjectID: "pod"}, reading, true, dsc).Allowed || p.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed {
		t.Error("the role does not give keys/* without sign")
	}
	p.Put(at(dsc, KeyVaultCryptoUser, "pod"))
	if !p.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed {
		t.Error("one role's NotDataActions took away what another role gives")
	}
}

func TestGroupsGiveWhatTheirMembersLack(t *testing.T) {
	p := NewPolicy(BuiltIn(), []Assignment{at(vaultID, KeyVaultSecretsUser, "Group-1")})
	for name, c := range map[string]struct {
		who  Principal
		want bool
	}{
		"a member":               {Principal{"u", []string{"group-0", "GROUP-1"}}, true},
		"a member of another":    {Principal{"u", []string{"group-2"}}, false},
		"nobody":                 {Principal{}, false},
		"an empty id among many": {Principal{"", []string{""}}, false},
	} {
		if got := p.Check(c.who, getSecret, true, vaultID+"/secrets/x").Allowed; got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestWhatCannotBeEvaluatedGrantsNothing(t *testing.T) {
	conditional := at(vaultID, KeyVaultCryptoUser, "pod")
	conditional.Condition = "@Resource[x] StringEquals 'y'"
	for name, a := range map[string]Assignment{"a condition": conditional, "an unknown role": at(vaultID, "no-such-role", "pod")} {
		if NewPolicy(BuiltIn(), []Assignment{a}).Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed {
			t.Errorf("%s: allowed", name)
		}
	}
	var zero Policy
	if zero.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed {
		t.Error("the zero policy allows")
	}
}

func TestAChangeBitesAtOnce(t *testing.T) {
	a := at(dsc, "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/"+strings.ToUpper(KeyVaultCryptoUser), "pod")
	p := NewPolicy(BuiltIn(), nil)
	may := func() bool { return p.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed }
	if may() {
		t.Fatal("allowed before the assignment")
	}
	p.Put(a)
	if !may() {
		t.Fatal("refused after the assignment")
	}
	other := a
	other.ID, other.RoleDefinitionID = strings.ToUpper(a.ID), KeyVaultReader
	p.Put(other) // the same id in other letter case: replaced, not added
	if may() {
		t.Fatal("a replaced assignment still grants")
	}
	p.Put(a)
	if !p.Delete(strings.ToUpper(a.ID)) || p.Delete(a.ID) || may() {
		t.Fatal("a deleted assignment still grants, or is deleted twice")
	}
}

func TestListGivesWhatIsAtOrBelowAScope(t *testing.T) {
	p := NewPolicy(BuiltIn(), []Assignment{at(sub, Owner, "a"), at(vaultID, Reader, "a"), at(dsc, KeyVaultCryptoUser, "pod"), at(vaultID+"0", Reader, "a")})
	for scope, want := range map[string]int{"": 4, "/": 4, sub: 4, vaultID: 2, dsc: 1, vaultID + "/keys": 1, "/nowhere": 0} {
		if got := p.List(scope); len(got) != want {
			t.Errorf("%q: got %d assignments, want %d", scope, len(got), want)
		}
	}
	if a, ok := p.Get(p.List(dsc)[0].ID); !ok || a.PrincipalID != "pod" {
		t.Errorf("get: got %+v, %v", a, ok)
	}
}

func TestPatternsMatchWholeActions(t *testing.T) {
	for _, c := range []struct {
		pattern, action string
		want            bool
	}{
		{"*", "a/b", true}, {"*", "", true}, {"a/*", "a/b/c", true}, {"a/*", "ab/c", false}, {"a/b", "a/b", true}, {"a/b", "a/b/c", false},
		{"*/read", "a/b/read", true}, {"*/read", "a/b/read/x", false}, {"*/read", "read", false},
		{"a/*/c/*", "a/b/c/d", true}, {"a/*/c/*", "a/c/d", false}, {"a*a", "a", false}, {"a**b", "ab", true}, {"a*b*c", "abbc", true}, {"", "a", false},
	} {
		if got := anyMatches(patterns([]string{c.pattern}), c.action); got != c.want {
			t.Errorf("%q on %q: got %v, want %v", c.pattern, c.action, got, c.want)
		}
	}
}

func TestConcurrentChangesAndChecks(t *testing.T) {
	p := NewPolicy(BuiltIn(), nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			a := at(dsc, KeyVaultCryptoUser, fmt.Sprint("pod", i))
			for range 200 {
				p.Put(a)
				if !p.Check(Principal{ObjectID: a.PrincipalID}, signing, true, dsc).Allowed {
					t.Error("refused after Put returned")
				}
				p.Delete(a.ID)
				if p.Check(Principal{ObjectID: a.PrincipalID}, signing, true, dsc).Allowed {
					t.Error("allowed after Delete returned")
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCheck(b *testing.B) {
	var as []Assignment
	for i := range 50 {
		as = append(as, at(fmt.Sprint(vaultID, "/keys/k", i), KeyVaultCryptoUser, "pod"))
	}
	p := NewPolicy(BuiltIn(), as)
	who := Principal{ObjectID: "pod"}
	for b.Loop() {
		p.Check(who, signing, true, vaultID+"/keys/k49")
	}
}

func TestExplainAgreesWithCheckAndSaysWhyNot(t *testing.T) {
	const vault = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"
	const action = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	p := NewPolicy(BuiltIn(), []Assignment{
		{ID: "a1", RoleDefinitionID: KeyVaultSecretsUser, PrincipalID: "U", Scope: vault + "/secrets/x"},
		{ID: "a2", RoleDefinitionID: KeyVaultSecretsUser, PrincipalID: "u", Scope: vault + "/secrets/y"},
		{ID: "a3", RoleDefinitionID: Owner, PrincipalID: "u", Scope: "/subscriptions/s"},
		{ID: "a4", RoleDefinitionID: KeyVaultAdministrator, PrincipalID: "g", Scope: vault},
		{ID: "a5", RoleDefinitionID: KeyVaultAdministrator, PrincipalID: "u", Scope: vault, Condition: "c"},
		{ID: "a6", RoleDefinitionID: "00000000-0000-0000-0000-00000000dead", PrincipalID: "u", Scope: vault},
	})
	want := map[string]string{"a1": "", "a2": "its scope does not reach the object", "a3": "the role does not contain the action",
		"a5": "its condition hangs on something that requests do not tell", "a6": "its role is not defined"}
	found := p.Explain(action, true, vault+"/secrets/X", "u")
	if len(found) != len(want) || found[0].ID != "a1" {
		t.Errorf("got %d findings, the first %s, want %d and a1", len(found), found[0].ID, len(want))
	}
	for _, f := range found {
		if got := f.Why; got != want[f.ID] {
			t.Errorf("%s: got %q, want %q", f.ID, got, want[f.ID])
		}
		alone := NewPolicy(BuiltIn(), []Assignment{f.Assignment})
		if got := alone.Check(Principal{ObjectID: "u"}, action, true, vault+"/secrets/x").Allowed; got != (f.Why == "") {
			t.Errorf("%s: Check says %v, Explain %q", f.ID, got, f.Why)
		}
	}
	if all := p.Explain(action, true, vault+"/secrets/x"); len(all) != 6 || all[1].ID != "a4" || all[1].Why != "" {
		t.Errorf("of everybody: %+v", all)
	}
}

package rbac

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestADenyAssignmentWinsOverEveryRole(t *testing.T) {
	denied := func(change func(*DenyAssignment)) DenyAssignment {
		d := DenyAssignment{ID: vaultID + "/providers/Microsoft.Authorization/denyAssignments/1", DataActions: []string{"Microsoft.KeyVault/vaults/keys/*"},
			Scope: vaultID, Principals: []string{"Pod"}}
		change(&d)
		return d
	}
	for name, c := range map[string]struct {
		change func(*DenyAssignment)
		who    Principal
		want   bool
	}{
		"the principal":                       {func(*DenyAssignment) {}, Principal{ObjectID: "pod"}, true},
		"another principal":                   {func(d *DenyAssignment) { d.Principals = []string{"other"} }, Principal{ObjectID: "pod"}, false},
		"a group of the principal":            {func(d *DenyAssignment) { d.Principals = []string{"G"} }, Principal{ObjectID: "pod", Groups: []string{"g"}}, true},
		"everyone":                            {func(d *DenyAssignment) { d.Principals = []string{Everyone} }, Principal{ObjectID: "pod"}, true},
		"everyone but the principal":          {func(d *DenyAssignment) { d.Principals, d.ExcludePrincipals = []string{Everyone}, []string{"POD"} }, Principal{ObjectID: "pod"}, false},
		"everyone but a group":                {func(d *DenyAssignment) { d.Principals, d.ExcludePrincipals = []string{Everyone}, []string{"g"} }, Principal{ObjectID: "pod", Groups: []string{"G"}}, false},
		"from the subscription":               {func(d *DenyAssignment) { d.Scope = sub }, Principal{ObjectID: "pod"}, true},
		"at another vault":                    {func(d *DenyAssignment) { d.Scope = vaultID + "2" }, Principal{ObjectID: "pod"}, false},
		"at the vault, not below":             {func(d *DenyAssignment) { d.DoNotApplyToChildScopes = true }, Principal{ObjectID: "pod"}, false},
		"at the key, not below":               {func(d *DenyAssignment) { d.Scope, d.DoNotApplyToChildScopes = dsc+"/", true }, Principal{ObjectID: "pod"}, true},
		"with the action excepted":            {func(d *DenyAssignment) { d.NotDataActions = []string{"*/sign/action"} }, Principal{ObjectID: "pod"}, false},
		"the control action of the name":      {func(d *DenyAssignment) { d.Actions, d.DataActions = d.DataActions, nil }, Principal{ObjectID: "pod"}, false},
		"on a condition that is not met":      {func(d *DenyAssignment) { d.Condition = "ActionMatches{'x'}" }, Principal{ObjectID: "pod"}, false},
		"on a condition that is met":          {func(d *DenyAssignment) { d.Condition = "ActionMatches{'*'}" }, Principal{ObjectID: "pod"}, true},
		"on a condition nobody can tell":      {func(d *DenyAssignment) { d.Condition = "@Environment[x] StringEquals 'x'" }, Principal{ObjectID: "pod"}, true},
		"on a condition that cannot be read":  {func(d *DenyAssignment) { d.Condition = "?" }, Principal{ObjectID: "pod"}, true},
		"a role on the object that is closer": {func(d *DenyAssignment) { d.Scope = "/" }, Principal{ObjectID: "pod"}, true},
	} {
		p := NewPolicy(BuiltIn(), []Assignment{at(dsc, KeyVaultCryptoUser, "pod")})
		d := denied(c.change)
		p.PutDenial(d)
		got := p.Check(c.who, strings.ToUpper(signing), true, dsc)
		if got.Allowed == c.want || (got.DenyAssignmentID == d.ID) != c.want || c.want && got.Reason != ReasonDenied {
			t.Errorf("denies %s: got %+v, want denied %v", name, got, c.want)
		}
		if found := p.Denied(c.who, signing, true, dsc); (len(found) == 1) != c.want {
			t.Errorf("denies %s: explained by %v", name, found)
		}
		if !p.DeleteDenial(d.ID) || p.DeleteDenial(d.ID) || !p.Check(c.who, signing, true, dsc).Allowed {
			t.Errorf("denies %s: not gone after its deletion", name)
		}
	}
}

func TestACustomRoleGrantsInsideItsAssignableScopesOnly(t *testing.T) {
	own := RoleDefinition{ID: "c1", Custom: true, DataActions: []string{"Microsoft.KeyVault/vaults/keys/sign/action"}, AssignableScopes: []string{vaultID}}
	p := NewPolicy(append(BuiltIn(), own), []Assignment{at(sub, "c1", "wide"), at(vaultID, "c1", "vault"), at(dsc, "c1", "key")})
	for who, want := range map[string]bool{"wide": false, "vault": true, "key": true} {
		if got := p.Check(Principal{ObjectID: who}, signing, true, dsc).Allowed; got != want {
			t.Errorf("assigned at %s: got %v, want %v", who, got, want)
		}
	}
	if !p.DeleteRole("C1") || p.Check(Principal{ObjectID: "key"}, signing, true, dsc).Allowed {
		t.Error("a deleted role still grants")
	}
}

func TestAConditionOnAnAssignmentRestrictsIt(t *testing.T) {
	for condition, want := range map[string]bool{
		"":                                    true,
		"ActionMatches{'" + signing + "'}":    true,
		"!(ActionMatches{'" + signing + "'})": false,
		"@Resource[x:y] StringEquals 'z'":     false,
		"@Resource[x:y] StringNotEquals 'z'":  false,
		"not a condition":                     false,
	} {
		a := at(dsc, KeyVaultCryptoUser, "pod")
		a.Condition = condition
		p := NewPolicy(BuiltIn(), []Assignment{a})
		if got := p.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed; got != want {
			t.Errorf("%q: got %v, want %v", condition, got, want)
		}
		if found := p.Explain(signing, true, dsc, "pod"); (found[0].Why == "") != want || found[0].If != "" {
			t.Errorf("%q: explained as %+v", condition, found[0])
		}
	}
}

func TestPastItsLeaseAPolicyAllowsNothing(t *testing.T) {
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	p := NewPolicy(BuiltIn(), []Assignment{at(dsc, KeyVaultCryptoUser, "pod")})
	p.Lease(now.Add(time.Second), clock)
	if !p.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed {
		t.Error("not allowed inside the lease")
	}
	now = now.Add(time.Second)
	if d := p.Check(Principal{ObjectID: "pod"}, signing, true, dsc); d.Allowed || d.Reason != ReasonStale {
		t.Errorf("past the lease: got %+v", d)
	}
	p.Lease(now.Add(time.Second), clock)
	if !p.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed {
		t.Error("not allowed after a new lease")
	}
}

func TestACheckMakesNoGarbage(t *testing.T) {
	p := NewPolicy(BuiltIn(), []Assignment{at(group, KeyVaultReader, "pod"), at(dsc, KeyVaultCryptoUser, "pod")})
	p.PutDenial(DenyAssignment{ID: "d", Scope: vaultID, Principals: []string{Everyone}, DataActions: []string{"Microsoft.KeyVault/vaults/secrets/*"}})
	who := Principal{ObjectID: "pod", Groups: []string{"g"}}
	if n := testing.AllocsPerRun(100, func() {
		if !p.Check(who, signing, true, dsc).Allowed {
			t.Fatal("not allowed")
		}
	}); n != 0 {
		t.Errorf("a check allocates %v times", n)
	}
}

func TestChangesAndChecksAtOnce(t *testing.T) {
	p := NewPolicy(BuiltIn(), []Assignment{at(dsc, KeyVaultCryptoUser, "pod")})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 50 {
				a := at(vaultID, KeyVaultReader, string(rune('a'+i)))
				p.Put(a)
				p.PutRole(RoleDefinition{ID: "c1"})
				if !p.Check(Principal{ObjectID: "pod"}, signing, true, dsc).Allowed {
					t.Errorf("change %d took away what it is not about", n)
				}
				if !p.Delete(a.ID) {
					t.Error("a change was lost")
				}
			}
		})
	}
	wg.Wait()
}

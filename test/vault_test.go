package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// access is the part of `verdant vault … -o json` that tests read.
type access struct {
	Allowed bool
	Scope   string
	Allows  []struct {
		Role, Scope string
		Principal   struct{ Name, Type string }
		Members     []struct{ Name, DeniedBy string }
		If          string
	}
	Others  []struct{ Role, Scope, Why string }
	Denials []struct{ Name string }
	From    []string
}

// chain is one vault of `verdant audit verify -o json`.
type chain struct {
	Vault, Chain, Segment, Reason string
	Intact                        bool
	First, Last, Sequence         uint64
}

func TestAdministratorsAskWhoMayAndWhetherTheAuditIsWhole(t *testing.T) {
	e := startEstate(t, "loopback")
	const vault, key = "https://eudcc-ie-kv-g1.vault.azure.net", "https://eudcc-ie-kv-g1.vault.azure.net/keys/dsc-key-store"

	ask := func(args ...string) (a access) {
		t.Helper()
		if err := json.Unmarshal([]byte(e.must(append([]string{"vault"}, append(args, "-o", "json")...)...)), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := ask("who-can", "keys/sign/action", key)
	var services, members []string
	for _, g := range a.Allows {
		if g.Principal.Type == "Group" {
			for _, m := range g.Members {
				members = append(members, m.Name)
			}
			continue
		}
		services = append(services, g.Principal.Name)
	}
	if !a.Allowed || strings.Join(services, " ") != "eudcc-ie/dgca-issuance-service" || !strings.Contains(strings.Join(members, " "), "admin@") {
		t.Errorf("who may sign with the DSC: got %v and members %v, want the issuance service and the administrators", services, members)
	}
	if a := ask("why", "dgca-verifier-service", "keys/sign/action", key); a.Allowed || len(a.Others) == 0 || a.Others[0].Why == "" {
		t.Errorf("why the verifier may not sign: %+v", a)
	}
	if a := ask("why", "admin", "Microsoft.KeyVault/vaults/secrets/getSecret/action", vault+"/secrets/mysql-pw/"); !a.Allowed || a.Allows[0].Principal.Name != "eudcc-administrators" {
		t.Errorf("why the administrator may read a secret: %+v", a)
	}
	if a := ask("why", "dgca-verifier-service", "secrets/getSecret/action", a.Scope[:strings.Index(a.Scope, "/keys/")]+"/secrets/trustanchor-content"); !a.Allowed {
		t.Errorf("the verifier and the trust anchor: %+v", a)
	}
	if text := e.must("vault", "why", "citizen", "keys/sign/action", key); !strings.HasPrefix(text, "citizen@") || !strings.Contains(text, " may not ") {
		t.Errorf("why the citizen may not: %q", text)
	}

	askAboutChanges(t, e, ask)

	for _, wrong := range []struct {
		code int
		args []string
	}{
		{2, []string{"vault", "who-can", "keys/sign/action"}},
		{2, []string{"vault", "who-can", "keys/sign/action", "dsc-key-store"}},
		{2, []string{"vault", "may"}},
		{2, []string{"vault", "why", "admin", "keys/sign/action", key, "-o", "xml"}},
		{2, []string{"audit"}},
		{2, []string{"audit", "verify", "a", "b"}},
		{1, []string{"vault", "why", "stranger", "keys/sign/action", key}},
		{1, []string{"vault", "who-can", "keys/sing/action", key}},
		{1, []string{"vault", "who-can", "keys/sign/action", "https://other.vault.azure.net/keys/k"}},
		{1, []string{"audit", "verify", "other"}},
	} {
		if out, err := e.try(wrong.args...); exitCode(err) != wrong.code {
			t.Errorf("%v: exit code %d, want %d: %s", wrong.args, exitCode(err), wrong.code, out)
		}
	}

	verify := func(want int, args ...string) (chains []chain) {
		t.Helper()
		out, stderr, err := e.run(nil, append([]string{"audit", "verify", "-o", "json"}, args...)...)
		if exitCode(err) != want || json.Unmarshal([]byte(out), &chains) != nil {
			t.Fatalf("audit verify %v: exit code %d, want %d: %s%s", args, exitCode(err), want, out, stderr)
		}
		return chains
	}
	running := verify(0)
	if len(running) != 2 || !running[0].Intact || !running[1].Intact || running[0].First != 1 || running[0].Last < 10 || len(running[0].Chain) != 64 {
		t.Errorf("of the running estate: %+v", running)
	}
	e.down()
	stopped := verify(0, "eudcc-ie-kv-g1")
	if len(stopped) != 1 || !stopped[0].Intact || stopped[0].Last < 10 {
		t.Fatalf("of the stopped estate: %+v", stopped)
	}
	files, err := filepath.Glob(filepath.Join(e.dataDir, "state", "keyvault", "eudcc-ie-kv-g1-audit", "*.journal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("segments: %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := verify(1)
	found := false
	for _, c := range broken {
		ie := c.Vault == "eudcc-ie-kv-g1"
		if c.Intact == ie {
			t.Errorf("after a flipped bit in Ireland's journal: %+v", c)
		}
		found = found || ie && c.Segment == filepath.Base(files[0]) && c.Sequence > 1 && c.Sequence <= stopped[0].Last && c.Reason != ""
	}
	if !found {
		t.Errorf("the break is not named: %+v", broken)
	}
}

// askAboutChanges changes what the answers are made of through the control
// plane: a custom role, a deny assignment, a condition and network rules.
func askAboutChanges(t *testing.T, e *estateUnderTest, ask func(...string) access) {
	t.Helper()
	const key, vault = "https://eudcc-ie-kv-g1.vault.azure.net/keys/dsc-key-store", "/subscriptions/5f0c2b9a-3d64-4c1e-8f7a-91c2d4e6b803/resourceGroups/eudcc-ie/providers/Microsoft.KeyVault/vaults/eudcc-ie-kv-g1"
	arm := func(method, path, version, body string) {
		t.Helper()
		if out, stderr, err := e.run([]byte(body), "rest", method, "https://management.verdant.localhost"+vault+path+"?api-version="+version, "--body", "-"); err != nil {
			t.Fatalf("%s %s: %v\n%s%s", method, path, err, out, stderr)
		}
	}
	const service, citizen = "dgca-verifier-service", "citizen"
	who := ask("why", service, "keys/sign/action", key)
	if len(who.From) < 2 || !strings.Contains(who.From[0], "private endpoint") || !strings.Contains(strings.Join(who.From, " "), "AzureServices") {
		t.Errorf("from where: %v", who.From)
	}
	principal := func(name string) string {
		var a struct{ Principal struct{ ID string } }
		if err := json.Unmarshal([]byte(e.must("vault", "why", name, "keys/sign/action", key, "-o", "json")), &a); err != nil {
			t.Fatal(err)
		}
		return a.Principal.ID
	}
	const role, deny = "cccccccc-0000-4000-8000-0000000000aa", "dddddddd-0000-4000-8000-0000000000aa"
	arm("PUT", "/providers/Microsoft.Authorization/roleDefinitions/"+role, "2022-04-01", `{"properties":{"roleName":"Key Signer","assignableScopes":["`+vault+`"],
		"permissions":[{"dataActions":["Microsoft.KeyVault/vaults/keys/sign/action"]}]}}`)
	arm("PUT", "/keys/dsc-key-store/providers/Microsoft.Authorization/roleAssignments/eeeeeeee-0000-4000-8000-0000000000aa", "2022-04-01",
		`{"properties":{"roleDefinitionId":"`+role+`","principalId":"`+principal(service)+`"}}`)
	if a := ask("why", service, "keys/sign/action", key); !a.Allowed || a.Allows[0].Role != "Key Signer" {
		t.Errorf("with a custom role: %+v", a)
	}
	arm("PUT", "/providers/Microsoft.Authorization/denyAssignments/"+deny, "2022-04-01", `{"properties":{"denyAssignmentName":"freeze","permissions":[{"dataActions":["Microsoft.KeyVault/vaults/keys/verify/action","Microsoft.KeyVault/vaults/keys/sign/action"]}],
		"principals":[{"id":"`+principal(service)+`"},{"id":"`+principal("admin")+`"}]}}`)
	if a := ask("why", service, "keys/sign/action", key); a.Allowed || len(a.Denials) != 1 || a.Others[0].Why != "denied by freeze" {
		t.Errorf("denied: %+v", a)
	}
	denied := ""
	for _, g := range ask("who-can", "keys/verify/action", key).Allows {
		for _, m := range g.Members {
			denied += m.Name + " " + m.DeniedBy + ","
		}
	}
	if !strings.Contains(denied, "admin@verdant.localhost freeze,") || !strings.Contains(denied, "deployment ,") {
		t.Errorf("members and who is denied: %s", denied)
	}
	if text := e.must("vault", "who-can", "keys/sign/action", key); !strings.Contains(text, "and from: the private endpoint") || !strings.Contains(text, "denied by freeze at ") {
		t.Errorf("in words: %s", text)
	}
	arm("DELETE", "/providers/Microsoft.Authorization/denyAssignments/"+deny, "2022-04-01", "")
	arm("DELETE", "/keys/dsc-key-store/providers/Microsoft.Authorization/roleAssignments/eeeeeeee-0000-4000-8000-0000000000aa", "2022-04-01", "")
	arm("PUT", "/providers/Microsoft.Authorization/roleAssignments/eeeeeeee-0000-4000-8000-0000000000ab", "2022-04-01",
		`{"properties":{"roleDefinitionId":"8b54135c-b56d-4d72-a534-26097cfdc8d8","principalId":"`+principal(citizen)+`"}}`)
	if a := ask("why", citizen, "Microsoft.Authorization/roleAssignments/write", vault); !a.Allowed || !strings.Contains(a.Allows[0].If, "GuidEquals") || len(a.From) != 0 {
		t.Errorf("on a condition: %+v", a)
	}
	arm("DELETE", "/providers/Microsoft.Authorization/roleAssignments/eeeeeeee-0000-4000-8000-0000000000ab", "2022-04-01", "")
	arm("PATCH", "", "2022-07-01", `{"properties":{"publicNetworkAccess":"Enabled","networkAcls":{"ipRules":[{"value":"203.0.113.0/24"}]}}}`)
	if a := ask("who-can", "keys/sign/action", key); !strings.Contains(strings.Join(a.From, " "), "address 203.0.113.0/24") {
		t.Errorf("with an address rule: %v", a.From)
	}
	arm("PATCH", "", "2022-07-01", `{"properties":{"publicNetworkAccess":"Disabled","networkAcls":{"ipRules":[]}}}`)
}

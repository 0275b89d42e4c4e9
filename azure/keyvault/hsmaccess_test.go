package keyvault_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
)

// managed is managedHSM with an administrator who is nothing else.
func managed(w *world) {
	managedHSM(w)
	w.bare = true
}

const rolesPath = "/providers/Microsoft.Authorization/"

// guid is the n-th GUID of a test.
func guid(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

func assignmentPath(scope, name string) string {
	return strings.TrimRight(scope, "/") + rolesPath + "roleAssignments/" + name
}

// assign gives a local role at a scope, as the administrator.
func (w *world) assign(name, scope, role, principal string) reply {
	w.t.Helper()
	return w.adminRaw("PUT", assignmentPath(scope, name), `{"properties":{"roleDefinitionId":"Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/`+role+`","principalId":"`+principal+`"}}`)
}

// wants fails the test unless a reply has the status and codes.
func (r reply) wants(t testing.TB, status int, code, inner string) {
	t.Helper()
	if c, i := r.code(); r.status != status || c != code || i != inner {
		t.Errorf("got %d %s, want %d %s %s", r.status, r.text, status, code, inner)
	}
}

// user lets somebody use keys: what most tests of a managed HSM need.
func (w *world) user(principal string) {
	w.t.Helper()
	for i, role := range []string{rbac.ManagedHSMCryptoUser, rbac.ManagedHSMCryptoOfficer} {
		if r := w.assign(fmt.Sprintf("%08d-0000-4000-8000-%s", i, principal[len(principal)-12:]), "/", role, principal); r.status != 201 {
			w.t.Fatalf("assign: got %d %s", r.status, r.text)
		}
	}
}

func TestOnlyLocalRolesDecideOnAManagedHSM(t *testing.T) {
	w := newWorld(t, managed) // the world grants its administrator every vault role as well
	ctx := t.Context()
	_, err := w.keys(admin).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	refused(t, err, 403, "Forbidden")
	w.grant(vaultID, rbac.KeyVaultCryptoOfficer, pod)
	_, err = w.keys(pod).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	refused(t, err, 403, "Forbidden")

	if r := w.assign(guid(1), "/keys/k", rbac.ManagedHSMCryptoUser, pod); r.status != 201 || r.body["id"] != assignmentPath("/keys/k", guid(1)) {
		t.Fatalf("got %d %s", r.status, r.text)
	}
	must(w.keys(pod).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	_, err = w.keys(pod).CreateKey(ctx, "k2", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	refused(t, err, 403, "Forbidden")
	if r := w.raw("GET", "/keys/k?api-version=7.4", w.mint(map[string]any{"oid": pod}), ""); r.header.Get("x-ms-keyvault-rbac-assignment-id") != guid(1) {
		t.Errorf("got assignment %q", r.header.Get("x-ms-keyvault-rbac-assignment-id"))
	}
	// A group's role is its members'.
	w.assign(guid(2), "/keys", rbac.ManagedHSMCryptoAuditor, guid(99))
	if r := w.raw("GET", "/keys?api-version=7.4", w.mint(map[string]any{"oid": guid(98), "groups": []string{guid(99)}}), ""); r.status != 200 {
		t.Errorf("a group's member: got %d %s", r.status, r.text)
	}
	// What is taken away is gone for the next request, and after a restart.
	if r := w.adminRaw("DELETE", assignmentPath("/keys/k", guid(1)), ""); r.status != 200 {
		t.Errorf("got %d %s", r.status, r.text)
	}
	_, err = w.keys(pod).GetKey(ctx, "k", "", nil)
	refused(t, err, 403, "Forbidden")
	w.restart()
	_, err = w.keys(pod).GetKey(ctx, "k", "", nil)
	refused(t, err, 403, "Forbidden")
	if r := w.raw("GET", "/keys?api-version=7.4", w.mint(map[string]any{"oid": guid(98), "groups": []string{guid(99)}}), ""); r.status != 200 {
		t.Errorf("after a restart: got %d %s", r.status, r.text)
	}
}

// Every operation of the HSM against every built-in role: A(dministrator),
// O(fficer), U(ser), P(olicy administrator), E(ncryption service), B(ackup),
// a(uditor), R(elease), r(estore).
func TestEveryOperationIsAllowedToTheRolesOfTheTableAndNoOthers(t *testing.T) {
	roles := map[byte]string{'A': rbac.ManagedHSMAdministrator, 'O': rbac.ManagedHSMCryptoOfficer, 'U': rbac.ManagedHSMCryptoUser,
		'P': rbac.ManagedHSMPolicyAdministrator, 'E': rbac.ManagedHSMCryptoServiceEncryption, 'B': rbac.ManagedHSMBackup,
		'a': rbac.ManagedHSMCryptoAuditor, 'R': rbac.ManagedHSMCryptoServiceRelease, 'r': rbac.ManagedHSMRestore}
	table := map[string]string{
		"KeyCreate": "U", "KeyImport": "U", "KeyRotate": "U", "KeyUpdate": "U", "KeyDelete": "U", "KeyGet": "UEa", "KeyList": "UEa", "KeyListVersions": "UEa",
		"KeyAttestationGet": "UEa", "KeyListDeleted": "Oa", "KeyGetDeleted": "Oa", "KeyRecover": "O", "KeyPurge": "O", "KeyBackup": "UB", "KeyRestore": "Ur",
		"KeyEncrypt": "U", "KeyDecrypt": "U", "KeySign": "U", "KeyVerify": "U", "KeyWrap": "UE", "KeyUnwrap": "UE", "KeySecureWrap": "UE", "KeySecureUnwrap": "UE",
		"KeyRelease": "UR", "KeyRotationPolicyGet": "UEa", "KeyRotationPolicySet": "U", "RandomBytesGet": "U",
		"RoleDefinitionList": "AOUPa", "RoleDefinitionGet": "AOUPa", "RoleDefinitionSet": "AOP", "RoleDefinitionDelete": "AOP",
		"RoleAssignmentList": "AOUPa", "RoleAssignmentGet": "AOUPa", "RoleAssignmentCreate": "AOP", "RoleAssignmentDelete": "AOP",
		"SecurityDomainDownload": "A", "SecurityDomainDownloadPending": "A", "SecurityDomainTransferKeyGet": "A", "SecurityDomainUpload": "A", "SecurityDomainUploadPending": "A",
		"FullBackup": "AB", "FullBackupStatusGet": "AB", "FullBackupCheck": "AB", "FullRestore": "Ar", "FullRestoreCheck": "Ar", "SelectiveKeyRestore": "Ar", "RestoreStatusGet": "Ar",
		"SettingsList": "A", "SettingGet": "A", "SettingUpdate": "A",
	}
	w := newWorld(t, managed)
	n := 0
	holder := map[byte]string{}
	for letter, role := range roles {
		n++
		holder[letter] = guid(1000 + n)
		if r := w.assign(guid(n), "/", role, holder[letter]); r.status != 201 {
			t.Fatalf("got %d %s", r.status, r.text)
		}
	}
	seen := map[string]bool{}
	for _, rt := range w.vault.Routes() {
		allowed, ok := table[rt.Name]
		if !ok {
			t.Errorf("%s is not in the table", rt.Name)
		}
		seen[rt.Name] = true
		path := strings.NewReplacer("{name}", "nothing", "{version}", strings.Repeat("0", 32), "{guid}", guid(7777), "{job}", strings.Repeat("0", 32), "{setting}", "x").Replace(rt.Path)
		version := rt.Versions[len(rt.Versions)-1]
		for letter, principal := range holder {
			r := w.raw(rt.Method, path+"?api-version="+version, w.mint(map[string]any{"oid": principal}), "")
			_, inner := r.code()
			if got, want := inner != "ForbiddenByRbac", strings.IndexByte(allowed, letter) >= 0; got != want {
				t.Errorf("%s %s (%s) as %c: got %d %s", rt.Method, rt.Path, rt.Name, letter, r.status, r.text)
			}
		}
		if r := w.raw(rt.Method, path+"?api-version="+version, w.mint(map[string]any{"oid": guid(5)}), ""); r.status != 403 {
			t.Errorf("%s for nobody in particular: got %d %s", rt.Name, r.status, r.text)
		}
	}
	for name := range table {
		if !seen[name] {
			t.Errorf("the HSM has no operation %s", name)
		}
	}
}

func TestACustomRoleGivesWhatItNames(t *testing.T) {
	w := newWorld(t, managed)
	role := rolesPath + "roleDefinitions/" + guid(1)
	r := w.adminRaw("PUT", role, `{"properties":{"roleName":"signers","description":"d","assignableScopes":["/"],"permissions":[
		{"dataActions":["Microsoft.KeyVault/managedHsm/keys/create","microsoft.keyvault/managedhsm/keys/sign/action","Microsoft.KeyVault/managedHsm/keys/read/action"],
		 "notDataActions":["Microsoft.KeyVault/managedHsm/keys/sign/action"]}]}}`)
	if r.status != 201 || r.body["id"] != "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"+guid(1) {
		t.Fatalf("got %d %s", r.status, r.text)
	}
	w.assign(guid(2), "/keys", guid(1), pod).wants(t, 201, "", "")
	c, ctx := w.keys(pod), t.Context()
	must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	sign := azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: make([]byte, 32)}
	_, err := c.Sign(ctx, "k", "", sign, nil)
	refused(t, err, 403, "Forbidden") // the entry takes it away again
	// A second entry gives it all the same: the not-list is its own entry's.
	w.adminRaw("PUT", role, `{"properties":{"roleName":"signers","permissions":[
		{"dataActions":["Microsoft.KeyVault/managedHsm/keys/sign/action"],"notDataActions":["Microsoft.KeyVault/managedHsm/keys/sign/action"]},
		{"dataActions":["Microsoft.KeyVault/managedHsm/keys/sign/action"]}]}}`).wants(t, 201, "", "")
	must(c.Sign(ctx, "k", "", sign, nil))(t)
	_, err = c.GetKey(ctx, "k", "", nil)
	refused(t, err, 403, "Forbidden")

	w.adminRaw("DELETE", role, "").wants(t, 409, "Conflict", "RoleDefinitionHasAssignments")
	w.adminRaw("DELETE", assignmentPath("/keys", guid(2)), "").wants(t, 200, "", "")
	w.adminRaw("DELETE", role, "").wants(t, 200, "", "")
	w.adminRaw("GET", role, "").wants(t, 404, "RoleDefinitionNotFound", "")

	for name, body := range map[string]string{
		"a pattern":           `{"properties":{"permissions":[{"dataActions":["Microsoft.KeyVault/managedHsm/keys/*"]}]}}`,
		"a vault's action":    `{"properties":{"permissions":[{"dataActions":["Microsoft.KeyVault/vaults/keys/read"]}]}}`,
		"an action":           `{"properties":{"permissions":[{"actions":["*"]}]}}`,
		"another scope":       `{"properties":{"assignableScopes":["/keys"]}}`,
		"a built-in type":     `{"properties":{"type":"AKVBuiltInRole"}}`,
		"no properties":       `{}`,
		"no JSON":             `{`,
		"properties a string": `{"properties":"x"}`,
	} {
		if r := w.adminRaw("PUT", role, body); r.status != 400 {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
	w.adminRaw("PUT", "/keys"+role, `{"properties":{}}`).wants(t, 400, "BadParameter", "")
	w.adminRaw("PUT", rolesPath+"roleDefinitions/x", `{"properties":{}}`).wants(t, 400, "BadParameter", "")
	w.adminRaw("PUT", rolesPath+"roleDefinitions/"+rbac.ManagedHSMCryptoAuditor, `{"properties":{"permissions":[{"dataActions":["Microsoft.KeyVault/managedHsm/keys/delete"]}]}}`).wants(t, 403, "Forbidden", "")
	w.adminRaw("DELETE", rolesPath+"roleDefinitions/"+rbac.ManagedHSMCryptoAuditor, "").wants(t, 403, "Forbidden", "")
	w.adminRaw("DELETE", rolesPath+"roleDefinitions/invalidDefinition", "").wants(t, 404, "RoleDefinitionNotFound", "")
}

func TestRoleAssignmentsAreFoundByScopeAndPrincipal(t *testing.T) {
	w := newWorld(t, managed)
	w.assign(guid(1), "/", rbac.ManagedHSMCryptoAuditor, pod).wants(t, 201, "", "")
	w.assign(guid(2), "/keys", rbac.ManagedHSMCryptoUser, pod).wants(t, 201, "", "")
	w.assign(guid(3), "/keys/k", rbac.ManagedHSMCryptoUser, guid(50)).wants(t, 201, "", "")
	list := func(scope, filter string) (names string) {
		t.Helper()
		r := w.adminRaw("GET", strings.TrimRight(scope, "/")+rolesPath+"roleAssignments"+filter, "")
		if r.status != 200 {
			t.Fatalf("got %d %s", r.status, r.text)
		}
		for _, v := range r.body["value"].([]any) {
			names += v.(map[string]any)["name"].(string)[:8] + " "
		}
		return names
	}
	seeded := ""
	for _, v := range w.adminRaw("GET", rolesPath+"roleAssignments?%24filter=principalId%20eq%20"+admin, "").body["value"].([]any) {
		seeded += v.(map[string]any)["name"].(string)[:8] + " "
	}
	for _, c := range []struct{ scope, filter, want string }{
		{"/", "", "00000001 " + seeded + "00000002 00000003 "},
		{"/keys", "", "00000001 " + seeded + "00000002 00000003 "},
		{"/keys/k", "", "00000001 " + seeded + "00000002 00000003 "},
		{"/keys/other", "", "00000001 " + seeded + "00000002 "},
		{"/", "?%24filter=atScope()", "00000001 " + seeded},
		{"/keys", "?%24filter=atScope()", "00000001 " + seeded + "00000002 "},
		{"/", "?%24filter=principalId%20eq%20" + pod, "00000001 00000002 "},
		{"/", "?%24filter=principalId%20eq%20%27" + guid(50) + "%27", "00000003 "},
	} {
		got := strings.Fields(list(c.scope, c.filter))
		want := strings.Fields(c.want)
		if len(got) != len(want) {
			t.Errorf("%s%s: got %v, want %v", c.scope, c.filter, got, want)
		}
		for _, name := range want {
			if !strings.Contains(strings.Join(got, " "), name) {
				t.Errorf("%s%s: got %v, want %v", c.scope, c.filter, got, want)
			}
		}
	}
	w.adminRaw("GET", rolesPath+"roleAssignments?%24filter=1%20eq%201", "").wants(t, 400, "BadParameter", "")
	w.adminRaw("GET", assignmentPath("/keys", guid(3)), "").wants(t, 404, "RoleAssignmentNotFound", "")
	w.adminRaw("DELETE", assignmentPath("/keys", guid(3)), "").wants(t, 404, "RoleAssignmentNotFound", "")
	w.adminRaw("GET", "//keys/k"+rolesPath+"roleAssignments/"+guid(3), "").wants(t, 200, "", "") // as the clients write it
	w.adminRaw("DELETE", rolesPath+"roleAssignments/invalidRole", "").wants(t, 404, "RoleAssignmentNotFound", "")

	w.assign(guid(1), "/", rbac.ManagedHSMBackup, pod).wants(t, 409, "Conflict", "RoleAssignmentExists")         // the name
	w.assign(guid(9), "/keys", rbac.ManagedHSMCryptoUser, pod).wants(t, 409, "Conflict", "RoleAssignmentExists") // the content
	w.assign("x", "/", rbac.ManagedHSMBackup, pod).wants(t, 400, "BadParameter", "")
	w.assign(guid(9), "/", guid(404), pod).wants(t, 404, "RoleDefinitionNotFound", "")
	w.assign(guid(9), "/", rbac.ManagedHSMBackup, "me").wants(t, 400, "BadParameter", "")
	w.assign(guid(9), "/keys/bad_name", rbac.ManagedHSMBackup, pod).wants(t, 400, "BadParameter", "")
	w.adminRaw("PUT", assignmentPath("/", guid(9)), `{}`).wants(t, 400, "BadParameter", "")
	if r := w.adminRaw("GET", "/secrets"+rolesPath+"roleAssignments", ""); r.status != 404 {
		t.Errorf("a scope that is none: got %d %s", r.status, r.text)
	}

	r := w.adminRaw("GET", rolesPath+"roleDefinitions?%24filter=type%20eq%20%27AKVBuiltInRole%27", "")
	if n := len(r.body["value"].([]any)); n != 9 {
		t.Errorf("got %d built-in roles", n)
	}
}

func TestRolesAreGivenInsideTheGiversScopeOnly(t *testing.T) {
	w := newWorld(t, managed)
	w.assign(guid(1), "/keys/k", rbac.ManagedHSMPolicyAdministrator, pod).wants(t, 201, "", "")
	token := w.mint(map[string]any{"oid": pod})
	body := `{"properties":{"roleDefinitionId":"` + rbac.ManagedHSMCryptoUser + `","principalId":"` + pod + `"}}`
	for _, scope := range []string{"", "/keys", "/keys/other"} {
		w.raw("PUT", scope+assignmentPath("", guid(2))+"?api-version=7.4", token, body).wants(t, 403, "Forbidden", "ForbiddenByRbac")
	}
	w.raw("PUT", assignmentPath("/keys/k", guid(2))+"?api-version=7.4", token, body).wants(t, 201, "", "")
	w.raw("DELETE", assignmentPath("/", guid(1))+"?api-version=7.4", token, "").wants(t, 403, "Forbidden", "ForbiddenByRbac")
}

func TestAManagedHSMKeepsAnAdministrator(t *testing.T) {
	w := newWorld(t, managed)
	r := w.adminRaw("GET", rolesPath+"roleAssignments", "")
	first := r.body["value"].([]any)[0].(map[string]any)["name"].(string)
	w.adminRaw("DELETE", assignmentPath("/", first), "").wants(t, 409, "Conflict", "LastAdministrator")
	w.assign(guid(1), "/keys", rbac.ManagedHSMAdministrator, pod).wants(t, 201, "", "") // of a part only
	w.adminRaw("DELETE", assignmentPath("/", first), "").wants(t, 409, "Conflict", "LastAdministrator")
	w.assign(guid(2), "/", rbac.ManagedHSMAdministrator, pod).wants(t, 201, "", "")
	w.adminRaw("DELETE", assignmentPath("/", first), "").wants(t, 200, "", "")
	w.adminRaw("GET", rolesPath+"roleAssignments", "").wants(t, 403, "Forbidden", "ForbiddenByRbac")
	w.restart() // a first administrator who was taken away does not come back
	w.adminRaw("GET", rolesPath+"roleAssignments", "").wants(t, 403, "Forbidden", "ForbiddenByRbac")
	w.raw("DELETE", assignmentPath("/", guid(2))+"?api-version=7.4", w.mint(map[string]any{"oid": pod}), "").wants(t, 409, "Conflict", "LastAdministrator")
}

func TestAChangeByAnotherReplicaBitesWithinASecond(t *testing.T) {
	w := newWorld(t, managed)
	w.user(pod)
	two := w.replica()
	token := w.mint(map[string]any{"oid": pod})
	if got := two("GET", "/keys?api-version=7.4", token); got != http.StatusOK {
		t.Fatalf("got %d", got)
	}
	w.adminRaw("DELETE", assignmentPath("/", "00000000-0000-4000-8000-"+pod[len(pod)-12:]), "").wants(t, 200, "", "")
	w.clock.Advance(time.Second)
	if got := two("GET", "/keys?api-version=7.4", token); got != http.StatusForbidden {
		t.Errorf("got %d", got)
	}
}

func TestAManagedHSMNeedsAnAdministrator(t *testing.T) {
	w := newWorld(t)
	for _, admins := range [][]string{nil, {"me"}} {
		cfg := w.cfg
		cfg.ManagedHSM, cfg.InitialAdministrators = true, admins
		if _, err := keyvault.New(cfg, keyvault.Deps{}); err == nil || !strings.Contains(err.Error(), "InitialAdministrators") {
			t.Errorf("%q: got %v", admins, err)
		}
	}
}

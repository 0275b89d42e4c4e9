package arm_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	control "verdant/azure/arm"
	"verdant/azure/rbac"
	"verdant/azure/rest"
)

const (
	grantorID = "66666666-6666-4666-8666-666666666666"
	friendID  = "77777777-7777-4777-8777-777777777777"
	customID  = "cccccccc-0000-4000-8000-0000000000aa"
)

func strptrs(ss ...string) []*string { return to.SliceOfPtrs(ss...) }

// refused fails the test unless err is the service's answer with the status
// and code.
func refused(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.StatusCode != status || e.ErrorCode != code {
		t.Errorf("%s: got %v, want %d %s", what, err, status, code)
	}
}

func (w *world) definitions(t *testing.T, token string) *armauthorization.RoleDefinitionsClient {
	t.Helper()
	c, err := armauthorization.NewRoleDefinitionsClient(fixed(token), w.options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTheDataAccessAdministratorGrantsItsEightRolesOnly attacks over the wire:
// it tries to give itself and others what its condition does not list.
func TestTheDataAccessAdministratorGrantsItsEightRolesOnly(t *testing.T) {
	w := newWorld(t)
	owner, grantor := w.assignments(t, w.token(t, nil)), w.assignments(t, w.token(t, as(grantorID)))
	create := func(c *armauthorization.RoleAssignmentsClient, scope, name, role, principal string) error {
		_, err := c.Create(t.Context(), scope, name, armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
			PrincipalID: &principal, RoleDefinitionID: to.Ptr(subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + role)}}, nil)
		return err
	}
	const ownersName, own = "dddddddd-0000-4000-8000-000000000001", "dddddddd-0000-4000-8000-000000000002"
	if err := create(owner, vault, own, rbac.KeyVaultDataAccessAdministrator, grantorID); err != nil {
		t.Fatal(err)
	}
	if err := create(owner, vault, ownersName, rbac.Owner, friendID); err != nil {
		t.Fatal(err)
	}
	granted := 0
	for i, d := range rbac.BuiltIn() {
		name := "eeeeeeee-0000-4000-8000-0000000000" + string("0123456789abcdef"[i/16]) + string("0123456789abcdef"[i%16])
		err := create(grantor, vault, name, d.ID, friendID)
		if !strings.Contains(rbacCondition(t), d.ID) {
			refused(t, "granting "+d.Name, err, http.StatusForbidden, "AuthorizationFailed")
			continue
		}
		granted++
		if err != nil {
			t.Errorf("granting %s: %v", d.Name, err)
		}
		if err := create(grantor, strings.TrimSuffix(vault, "/providers/Microsoft.KeyVault/vaults/eudcc-ie-kv-g1"), name, d.ID, friendID); err == nil {
			t.Errorf("granted %s above the vault", d.Name)
		}
		if _, err := grantor.Delete(t.Context(), vault, name, nil); err != nil {
			t.Errorf("taking %s back: %v", d.Name, err)
		}
	}
	if granted != 8 {
		t.Errorf("granted %d roles, want 8", granted)
	}
	_, err := grantor.Delete(t.Context(), vault, ownersName, nil)
	refused(t, "deleting the owner's assignment", err, http.StatusForbidden, "AuthorizationFailed")
	_, err = grantor.Delete(t.Context(), vault, own, nil)
	refused(t, "deleting its own assignment", err, http.StatusForbidden, "AuthorizationFailed")
	_, err = w.definitions(t, w.token(t, as(grantorID))).CreateOrUpdate(t.Context(), vault, customID, customRole("x", vault), nil)
	refused(t, "making a role", err, http.StatusForbidden, "AuthorizationFailed")

	put := assignmentID(vault, "ffffffff-0000-4000-8000-000000000001") + "?api-version=2022-04-01"
	for name, body := range map[string]string{
		"no role":                       `{"properties":{"principalId":"` + friendID + `"}}`,
		"broken JSON":                   `{"properties":{"roleDefinitionId":"` + rbac.KeyVaultReader + `"`,
		"two roles, the last one wins":  `{"properties":{"roleDefinitionId":"` + rbac.KeyVaultReader + `","roleDefinitionId":"` + rbac.Owner + `","principalId":"` + friendID + `"}}`,
		"a second spelling of the name": `{"properties":{"roleDefinitionId":"` + rbac.KeyVaultReader + `","RoleDefinitionID":"` + rbac.Owner + `","principalId":"` + friendID + `"}}`,
		"an allowed role in the path":   `{"properties":{"roleDefinitionId":"/` + rbac.KeyVaultReader + `/` + rbac.Owner + `","principalId":"` + friendID + `"}}`,
		"a role of its own":             `{"properties":{"roleDefinitionId":"` + customID + `","principalId":"` + friendID + `"}}`,
	} {
		status, answer, _ := w.call(t, "PUT", put, body, w.token(t, as(grantorID)))
		if status != http.StatusForbidden || errorCode(answer) != "AuthorizationFailed" {
			t.Errorf("%s: got %d %v", name, status, answer)
		}
	}
	if d := w.policy.Check(rbac.Principal{ObjectID: friendID}, "Microsoft.KeyVault/vaults/write", false, vault); !strings.HasSuffix(d.AssignmentID, ownersName) {
		t.Errorf("the owner's assignment did not outlive it all: %+v", d)
	}
}

func rbacCondition(t *testing.T) string {
	t.Helper()
	for _, d := range rbac.BuiltIn() {
		if d.ID == rbac.KeyVaultDataAccessAdministrator {
			return d.Condition
		}
	}
	t.Fatal("no such role")
	return ""
}

func TestAConditionedAdministratorIsHeldToPrincipalsThatTheTenantKnows(t *testing.T) {
	w := newWorld(t)
	w.types = map[string]string{podID: "ServicePrincipal", friendID: "User"}
	owner := w.assignments(t, w.token(t, nil))
	condition := "(!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR (@Request[Microsoft.Authorization/roleAssignments:PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {'ServicePrincipal'}" +
		" AND @Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAllValues:GuidNotEquals {" + rbac.Owner + ", " + rbac.UserAccessAdministrator + "})"
	made, err := owner.Create(t.Context(), vault, "dddddddd-0000-4000-8000-000000000003", armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		PrincipalID: to.Ptr(grantorID), RoleDefinitionID: to.Ptr(rbac.UserAccessAdministrator), Condition: &condition, ConditionVersion: to.Ptr("2.0"),
		DelegatedManagedIdentityResourceID: to.Ptr(vault), Description: to.Ptr("d")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *made.Properties.Condition != condition || *made.Properties.ConditionVersion != "2.0" || *made.Properties.DelegatedManagedIdentityResourceID != vault {
		t.Errorf("got %+v", *made.Properties)
	}
	w.start(t) // conditions survive a restart
	grantor := w.assignments(t, w.token(t, as(grantorID)))
	for name, c := range map[string]struct {
		principal, typ, role string
		status               int
		code                 string
	}{
		"a service principal":                  {podID, "ServicePrincipal", rbac.KeyVaultReader, 0, ""},
		"a user":                               {friendID, "User", rbac.KeyVaultReader, 403, "AuthorizationFailed"},
		"a user passed off as something else":  {friendID, "ServicePrincipal", rbac.KeyVaultReader, 403, "AuthorizationFailed"},
		"somebody unknown, claimed to be one":  {auditorsID, "ServicePrincipal", rbac.KeyVaultReader, 403, "AuthorizationFailed"},
		"a service principal, as owner":        {podID, "ServicePrincipal", rbac.Owner, 403, "AuthorizationFailed"},
		"a service principal of another type":  {podID, "User", rbac.KeyVaultSecretsUser, 400, "UnmatchedPrincipalType"},
		"a service principal, type left out":   {podID, "", rbac.KeyVaultSecretsUser, 0, ""},
		"a service principal, of no such type": {podID, "Robot", rbac.KeyVaultSecretsUser, 400, "InvalidPrincipalType"},
	} {
		p := &armauthorization.RoleAssignmentProperties{PrincipalID: &c.principal, RoleDefinitionID: &c.role}
		if c.typ != "" {
			p.PrincipalType = to.Ptr(armauthorization.PrincipalType(c.typ))
		}
		assigned := "dddddddd-0000-4000-8000-0000000000" + string("0123456789abcdef"[len(name)/16]) + string("0123456789abcdef"[len(name)%16])
		_, err := grantor.Create(t.Context(), vault, assigned, armauthorization.RoleAssignmentCreateParameters{Properties: p}, nil)
		if c.status == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		refused(t, name, err, c.status, c.code)
	}
	for condition, code := range map[string]string{"@Request[x": "InvalidCondition", "SubOperationMatches{'x'}": "InvalidCondition"} {
		_, err := owner.Create(t.Context(), vault, "dddddddd-0000-4000-8000-000000000009", armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
			PrincipalID: to.Ptr(podID), RoleDefinitionID: to.Ptr(rbac.KeyVaultReader), Condition: &condition, ConditionVersion: to.Ptr("2.0")}}, nil)
		refused(t, condition, err, 400, code)
		if err != nil && !strings.Contains(err.Error(), "line 1, column ") {
			t.Errorf("%s: the error does not say where: %v", condition, err)
		}
	}
	_, err = owner.Create(t.Context(), vault, "dddddddd-0000-4000-8000-000000000009", armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		PrincipalID: to.Ptr(podID), RoleDefinitionID: to.Ptr(rbac.KeyVaultReader), Condition: to.Ptr("ActionMatches{'*'}"), ConditionVersion: to.Ptr("1.0")}}, nil)
	refused(t, "version 1.0", err, 400, "InvalidConditionVersion")
}

func customRole(name string, scopes ...string) armauthorization.RoleDefinition {
	return armauthorization.RoleDefinition{Properties: &armauthorization.RoleDefinitionProperties{RoleName: &name, RoleType: to.Ptr("CustomRole"), Description: to.Ptr("d"),
		AssignableScopes: strptrs(scopes...), Permissions: []*armauthorization.Permission{{Actions: strptrs("Microsoft.KeyVault/vaults/read"),
			DataActions: strptrs("Microsoft.KeyVault/vaults/keys/*"), NotDataActions: strptrs("Microsoft.KeyVault/vaults/keys/purge/action")}}}}
}

func TestStockClientManagesCustomRoles(t *testing.T) {
	w := newWorld(t)
	c := w.definitions(t, w.token(t, nil))
	made, err := c.CreateOrUpdate(t.Context(), vault, customID, customRole("Key Signer", vault), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *made.Properties.RoleType != "CustomRole" || *made.Properties.AssignableScopes[0] != vault || *made.Properties.Permissions[0].NotDataActions[0] != "Microsoft.KeyVault/vaults/keys/purge/action" {
		t.Errorf("got %+v", *made.Properties)
	}
	a := w.assignments(t, w.token(t, nil))
	assign := func(scope string) error {
		_, err := a.Create(t.Context(), scope, "dddddddd-0000-4000-8000-000000000005", armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
			PrincipalID: to.Ptr(friendID), RoleDefinitionID: made.ID}}, nil)
		return err
	}
	refused(t, "assigned outside its scopes", assign(group), 400, "RoleAssignmentScopeNotAssignableToRoleDefinition")
	if err := assign(key); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	friend := rbac.Principal{ObjectID: friendID}
	if !w.policy.Check(friend, signAction, true, key).Allowed || w.policy.Check(friend, "Microsoft.KeyVault/vaults/keys/purge/action", true, key).Allowed {
		t.Error("after a restart the role does not give keys/* without purge")
	}
	c, a = w.definitions(t, w.token(t, nil)), w.assignments(t, w.token(t, nil))
	_, err = c.Delete(t.Context(), vault, customID, nil)
	refused(t, "deleting a role in use", err, 400, "RoleDefinitionHasAssignments")
	narrowed := customRole("Key Signer", vault)
	narrowed.Properties.Permissions[0].DataActions = strptrs("Microsoft.KeyVault/vaults/keys/read")
	if _, err := c.CreateOrUpdate(t.Context(), vault, customID, narrowed, nil); err != nil {
		t.Fatal(err)
	}
	if w.policy.Check(friend, signAction, true, key).Allowed {
		t.Error("the role was narrowed, and still gives what it gave")
	}
	_, err = c.CreateOrUpdate(t.Context(), workspace, customID, customRole("Key Signer", workspace), nil)
	refused(t, "taking the scope from under an assignment", err, 400, "RoleDefinitionHasAssignmentsOutsideScopes")
	if _, err := a.Delete(t.Context(), key, "dddddddd-0000-4000-8000-000000000005", nil); err != nil {
		t.Fatal(err)
	}
	found := 0
	pager := c.NewListPager(vault, &armauthorization.RoleDefinitionsClientListOptions{Filter: to.Ptr("type eq 'CustomRole'")})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found += len(page.Value)
	}
	if found != 1 {
		t.Errorf("listed %d custom roles, want 1", found)
	}
	if _, err := w.definitions(t, w.token(t, as(podID))).GetByID(t.Context(), "providers/Microsoft.Authorization/roleDefinitions/"+customID, nil); err == nil {
		t.Error("a stranger sees the custom role at the root")
	}
	for range 2 { // the second finds nothing, which is no error
		if _, err := c.Delete(t.Context(), vault, customID, nil); err != nil {
			t.Error(err)
		}
	}
	_, err = c.Get(t.Context(), vault, customID, nil)
	refused(t, "getting a deleted role", err, 404, "RoleDefinitionDoesNotExist")
}

func TestCustomRolesThatCannotBeAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	c := w.definitions(t, w.token(t, nil))
	change := func(fn func(*armauthorization.RoleDefinitionProperties)) armauthorization.RoleDefinition {
		d := customRole("x", vault)
		fn(d.Properties)
		return d
	}
	for name, r := range map[string]struct {
		scope, id string
		role      armauthorization.RoleDefinition
		status    int
		code      string
	}{
		"a name that is no GUID":       {vault, "x", customRole("x", vault), 400, "InvalidRoleDefinitionId"},
		"a built-in role":              {vault, rbac.Owner, customRole("x", vault), 403, "CannotChangeBuiltInRole"},
		"a built-in role's name":       {vault, customID, customRole("Owner", vault), 409, "RoleDefinitionWithSameNameExists"},
		"no scopes":                    {vault, customID, customRole("x"), 400, "MissingAssignableScopes"},
		"a scope that is not":          {vault, customID, customRole("x", vault, group+"/providers/Microsoft.KeyVault/vaults/none"), 400, "InvalidAssignableScope"},
		"the root":                     {vault, customID, customRole("x", vault, "/"), 400, "InvalidAssignableScope"},
		"scopes without the request's": {vault, customID, customRole("x", group), 400, "RoleDefinitionScopeNotAssignable"},
		"no name":                      {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) { p.RoleName = nil }), 400, "RoleDefinitionNameNullOrEmpty"},
		"no permissions":               {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) { p.Permissions = nil }), 400, "InvalidRoleDefinitionPermissions"},
		"built in by its own word":     {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) { p.RoleType = to.Ptr("BuiltInRole") }), 400, "InvalidRoleDefinitionType"},
		"an action with a blank":       {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) { p.Permissions[0].Actions = strptrs("a b") }), 400, "InvalidActionOrNotAction"},
		"an action without a provider": {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) { p.Permissions[0].NotActions = strptrs("read") }), 400, "InvalidActionOrNotAction"},
		"an empty segment": {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) {
			p.Permissions[0].Actions = strptrs("Microsoft.KeyVault//read")
		}), 400, "InvalidActionOrNotAction"},
		"every data action": {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) { p.Permissions[0].DataActions = strptrs("*") }), 400, "InvalidDataActionOrNotDataAction"},
		"a data action with a wrong sign": {vault, customID, change(func(p *armauthorization.RoleDefinitionProperties) {
			p.Permissions[0].NotDataActions = strptrs("Microsoft.KeyVault/?")
		}), 400, "InvalidDataActionOrNotDataAction"},
	} {
		_, err := c.CreateOrUpdate(t.Context(), r.scope, r.id, r.role, nil)
		refused(t, name, err, r.status, r.code)
	}
	_, err := c.Delete(t.Context(), vault, rbac.Owner, nil)
	refused(t, "deleting a built-in role", err, 403, "CannotDeleteBuiltInRole")

	// Who manages roles at one place makes none for another.
	if _, err := w.assignments(t, w.token(t, nil)).Create(t.Context(), vault, "dddddddd-0000-4000-8000-000000000006", armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{PrincipalID: to.Ptr(grantorID), RoleDefinitionID: to.Ptr(rbac.UserAccessAdministrator)}}, nil); err != nil {
		t.Fatal(err)
	}
	_, err = w.definitions(t, w.token(t, as(grantorID))).CreateOrUpdate(t.Context(), vault, customID, customRole("x", vault, workspace), nil)
	refused(t, "a role for a scope beside one's own", err, 403, "AuthorizationFailed")
}

func TestADenyAssignmentOverTheWireWinsAndIsNamed(t *testing.T) {
	w := newWorld(t)
	const name = "abababab-0000-4000-8000-000000000001"
	path := vault + "/providers/Microsoft.Authorization/denyAssignments/" + name + "?api-version=2022-04-01"
	body := `{"properties":{"denyAssignmentName":"freeze","permissions":[{"dataActions":["Microsoft.KeyVault/vaults/keys/*"],"actions":["Microsoft.KeyVault/vaults/write","Microsoft.Authorization/roleAssignments/delete"]}],
		"principals":[{"id":"` + rbac.Everyone + `","type":"SystemDefined"}],"excludePrincipals":[{"id":"` + auditorsID + `"}]}}`
	if status, answer, _ := w.call(t, "PUT", path, body, w.token(t, as(podID))); status != 403 || errorCode(answer) != "AuthorizationFailed" {
		t.Errorf("by a pod: got %d %v", status, answer)
	}
	if status, answer, _ := w.call(t, "PUT", path, body, w.token(t, nil)); status != 201 {
		t.Fatalf("got %d %v", status, answer)
	}
	if d := w.policy.Check(rbac.Principal{ObjectID: podID}, signAction, true, key); d.Allowed || !strings.HasSuffix(d.DenyAssignmentID, name) {
		t.Errorf("got %+v", d)
	}
	w.start(t)
	if w.maySign() {
		t.Error("forgotten after a restart")
	}
	status, answer, _ := w.call(t, "DELETE", assignmentID(key, "aaaaaaaa-0000-4000-8000-000000000003")+"?api-version=2022-04-01", "", w.token(t, nil))
	if status != 403 || errorCode(answer) != "DenyAssignmentAuthorizationFailed" || !strings.Contains(answer["error"].(map[string]any)["message"].(string), name) {
		t.Errorf("the owner is not denied by name: got %d %v", status, answer)
	}
	c, err := armauthorization.NewDenyAssignmentsClient(subscriptionID, fixed(w.token(t, nil)), w.options())
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(t.Context(), vault, name, nil)
	if err != nil || *got.Properties.DenyAssignmentName != "freeze" || *got.Properties.Principals[0].ID != rbac.Everyone || *got.Properties.Permissions[0].DataActions[0] != "Microsoft.KeyVault/vaults/keys/*" {
		t.Errorf("got %+v, %v", got.DenyAssignment, err)
	}
	page, err := c.NewListForScopePager(key, nil).NextPage(t.Context())
	if err != nil || len(page.Value) != 1 {
		t.Errorf("listed %v, %v", page.Value, err)
	}
	for what, wrong := range map[string]string{
		"nobody":         strings.Replace(body, `{"id":"`+rbac.Everyone+`","type":"SystemDefined"}`, "", 1),
		"all excluded":   strings.Replace(body, auditorsID, rbac.Everyone, 1),
		"no name":        strings.Replace(body, "freeze", "", 1),
		"protected":      strings.Replace(body, `"permissions"`, `"isSystemProtected":true,"permissions"`, 1),
		"a wrong action": strings.Replace(body, "vaults/write", "vaults write", 1),
	} {
		if status, answer, _ := w.call(t, "PUT", path, wrong, w.token(t, nil)); status != 400 {
			t.Errorf("%s: got %d %v", what, status, answer)
		}
	}
	for _, want := range []int{200, 204} {
		if status, answer, _ := w.call(t, "DELETE", path, "", w.token(t, nil)); status != want {
			t.Errorf("deleting: got %d %v, want %d", status, answer, want)
		}
	}
	if !w.maySign() {
		t.Error("still denied after the deletion")
	}
}

// TestAChangeBitesOnEveryReplicaWithinTheSecond drives the control plane with
// a stock client, and two processes' policies that know only its database.
func TestAChangeBitesOnEveryReplicaWithinTheSecond(t *testing.T) {
	w := newWorld(t)
	now := w.now
	clock := func() time.Time { return now }
	pod := rbac.Principal{ObjectID: podID}
	var policies []*rbac.Policy
	var replicas []*control.Replica
	for range 2 {
		policy := &rbac.Policy{}
		r, err := control.NewReplica(t.Context(), control.ReplicaConfig{DB: w.db, Policy: policy, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		policies, replicas = append(policies, policy), append(replicas, r)
	}
	tick := func(after time.Duration) {
		now = now.Add(after)
		for _, r := range replicas {
			if err := r.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(what string, allowed bool) {
		t.Helper()
		for i, p := range policies {
			if got := p.Check(pod, signAction, true, key); got.Allowed != allowed {
				t.Errorf("%s: replica %d: got %+v", what, i, got)
			}
		}
	}
	want("at the start", true)
	c := w.assignments(t, w.token(t, nil))
	if _, err := c.Delete(t.Context(), key, "aaaaaaaa-0000-4000-8000-000000000003", nil); err != nil {
		t.Fatal(err)
	}
	tick(250 * time.Millisecond)
	want("after a role was taken away", false)
	if _, err := w.definitions(t, w.token(t, nil)).CreateOrUpdate(t.Context(), vault, customID, customRole("s", vault), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), key, "aaaaaaaa-0000-4000-8000-000000000004", armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{PrincipalID: to.Ptr(podID), RoleDefinitionID: to.Ptr(customID)}}, nil); err != nil {
		t.Fatal(err)
	}
	tick(250 * time.Millisecond)
	want("after a custom role was given", true)
	deny := vault + "/providers/Microsoft.Authorization/denyAssignments/abababab-0000-4000-8000-000000000002?api-version=2022-04-01"
	if status, answer, _ := w.call(t, "PUT", deny, `{"properties":{"denyAssignmentName":"n","permissions":[{"dataActions":["Microsoft.KeyVault/vaults/keys/sign/action"]}],"principals":[{"id":"`+podID+`"}]}}`, w.token(t, nil)); status != 201 {
		t.Fatalf("got %d %v", status, answer)
	}
	tick(250 * time.Millisecond)
	want("after a deny assignment", false)
	if status, answer, _ := w.call(t, "DELETE", deny, "", w.token(t, nil)); status != 200 {
		t.Fatalf("got %d %v", status, answer)
	}
	tick(250 * time.Millisecond)
	want("after the deny assignment was deleted", true)
	now = now.Add(time.Second) // the database has not answered since
	for i, p := range policies {
		if d := p.Check(pod, signAction, true, key); d.Allowed || d.Reason != rbac.ReasonStale {
			t.Errorf("cut off: replica %d: got %+v", i, d)
		}
	}
	tick(0)
	want("connected again", true)
}

func TestAResourceIsChangedWhereItsTypeAllowsIt(t *testing.T) {
	w := newWorld(t)
	applied := map[string]any{}
	w.changes = map[string]control.Change{"microsoft.keyvault/vaults": {
		Update: func(current rest.Resource, body []byte, whole bool) (rest.Resource, error) {
			if len(body) == 0 {
				return current, rest.Errorf(400, "InvalidRequestContent", "empty")
			}
			properties := map[string]any{"provisioningState": "Succeeded", "lock": string(body), "whole": whole}
			current.Properties = properties
			return current, nil
		},
		Needs: func(res rest.Resource) []control.Permission {
			if res.Properties["lock"] == `"join"` {
				return []control.Permission{{Action: "Microsoft.Network/join/action", Scope: workspace}}
			}
			return nil
		},
		Apply: func(res rest.Resource) { applied = res.Properties },
	}}
	w.start(t)
	const contributor = "88888888-8888-4888-8888-888888888888"
	w.policy.Put(rbac.Assignment{ID: "c", RoleDefinitionID: rbac.KeyVaultContributor, PrincipalID: contributor, Scope: vault})
	for name, c := range map[string]struct {
		method, path, body, who string
		status                  int
		code                    string
	}{
		"a pod":                       {"PATCH", vault, `"x"`, podID, 403, "AuthorizationFailed"},
		"a pod, what is not there":    {"PATCH", vault + "9", `"x"`, podID, 403, "AuthorizationFailed"},
		"what is not there":           {"PATCH", vault + "9", `"x"`, adminID, 404, "ResourceNotFound"},
		"a type that stays":           {"PATCH", workspace, `"x"`, adminID, 405, "HttpMethodNotSupported"},
		"a wrong body":                {"PATCH", vault, ``, adminID, 400, "InvalidRequestContent"},
		"a collection":                {"PATCH", group + "/providers/Microsoft.KeyVault/vaults", `"x"`, adminID, 404, "InvalidResourceType"},
		"a need that is not met":      {"PATCH", vault, `"join"`, contributor, 403, "AuthorizationFailed"},
		"a need that the owner meets": {"PATCH", vault, `"join"`, adminID, 200, ""},
		"somebody who manages vaults": {"PUT", strings.ToUpper(vault), `"x"`, contributor, 200, ""},
	} {
		status, answer, _ := w.call(t, c.method, c.path+"?api-version=2022-07-01", c.body, w.token(t, as(c.who)))
		if status != c.status || errorCode(answer) != c.code {
			t.Errorf("%s: got %d %v", name, status, answer)
		}
	}
	if status, _, _ := w.call(t, "PUT", vault+"?api-version=2022-07-01", `"y"`, w.token(t, nil)); status != 200 || applied["lock"] != `"y"` || applied["whole"] != true {
		t.Errorf("got %d, applied %v", status, applied)
	}
	var told rest.Resource
	if _, err := control.NewReplica(t.Context(), control.ReplicaConfig{DB: w.db, Policy: &rbac.Policy{}, Now: func() time.Time { return w.now },
		Resources: []rest.Resource{{ID: vault, Type: "Microsoft.KeyVault/vaults", Properties: map[string]any{"base": 7}}},
		Resource:  func(res rest.Resource) { told = res }}); err != nil || told.Properties["lock"] != `"y"` || told.Properties["base"] != 7 {
		t.Errorf("a replica is told %v, %v", told, err)
	}
	w.start(t)
	if _, answer, _ := w.call(t, "GET", vault+"?api-version=2022-07-01", "", w.token(t, nil)); answer["properties"].(map[string]any)["lock"] != `"y"` || answer["location"] != "northeurope" {
		t.Errorf("after a restart: got %v", answer)
	}
}

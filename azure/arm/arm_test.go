package arm_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/go-jose/go-jose/v4"

	control "verdant/azure/arm"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/sqlstore"
	"verdant/internal/telemetry"
)

const (
	tenantID       = "11111111-1111-4111-8111-111111111111"
	subscriptionID = "22222222-2222-4222-8222-222222222222"
	adminID        = "33333333-3333-4333-8333-333333333333"
	podID          = "44444444-4444-4444-8444-444444444444"
	auditorsID     = "55555555-5555-4555-8555-555555555555"
	host           = "management.verdant.localhost"
	subscription   = "/subscriptions/" + subscriptionID
	group          = subscription + "/resourceGroups/eudcc-ie"
	vault          = group + "/providers/Microsoft.KeyVault/vaults/eudcc-ie-kv-g1"
	workspace      = group + "/providers/Microsoft.OperationalInsights/workspaces/eudcc-ie"
	key            = vault + "/keys/dsc-key-store"
	signAction     = "Microsoft.KeyVault/vaults/keys/sign/action"
)

type world struct {
	*control.Server
	policy *rbac.Policy
	db     *sql.DB
	key    *rsa.PrivateKey
	now    time.Time

	changes map[string]control.Change
	types   map[string]string // principals that the tenant knows

	mu   sync.Mutex
	rows []telemetry.Row
	fail error
}

func (w *world) Emit(_ context.Context, table string, rows ...telemetry.Row) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if table != "AzureActivity" {
		return errors.New("unexpected table " + table)
	}
	if w.fail == nil {
		w.rows = append(w.rows, rows...)
	}
	return w.fail
}

// TokenKey implements rest.KeySource.
func (w *world) TokenKey(context.Context, string) (*rsa.PublicKey, error) {
	return &w.key.PublicKey, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}
	var err error
	if w.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if w.db, err = sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "arm.db"), [32]byte{1}, control.Schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.start(t)
	return w
}

func (w *world) start(t *testing.T) {
	t.Helper()
	w.policy = rbac.NewPolicy(rbac.BuiltIn(), nil)
	resource := func(id, typ string) rest.Resource {
		return rest.Resource{ID: id, Name: id[strings.LastIndex(id, "/")+1:], Type: typ, Location: "northeurope", Properties: map[string]any{"provisioningState": "Succeeded"}}
	}
	var err error
	w.Server, err = control.New(control.Config{
		TenantID: tenantID, TenantName: "Verdant", Domain: "verdant.localhost", Authority: "https://login.verdant.localhost", Host: host,
		Subscriptions: []string{subscriptionID}, Changes: w.changes, PrincipalType: func(id string) string { return w.types[id] },
		Resources: []rest.Resource{resource(group, "Microsoft.Resources/resourceGroups"), resource(vault, "Microsoft.KeyVault/vaults"),
			resource(workspace, "Microsoft.OperationalInsights/workspaces"),
			resource(vault+"/providers/Microsoft.Insights/diagnosticSettings/log-analytics", "Microsoft.Insights/diagnosticSettings")},
		Assignments: []rbac.Assignment{
			{ID: assignmentID(subscription, "aaaaaaaa-0000-4000-8000-000000000001"), RoleDefinitionID: rbac.Owner, PrincipalID: adminID, Scope: subscription},
			{ID: assignmentID(workspace, "aaaaaaaa-0000-4000-8000-000000000002"), RoleDefinitionID: rbac.LogAnalyticsReader, PrincipalID: auditorsID, Scope: workspace},
			{ID: assignmentID(key, "aaaaaaaa-0000-4000-8000-000000000003"), RoleDefinitionID: rbac.KeyVaultCryptoUser, PrincipalID: podID, Scope: key},
		},
	}, control.Deps{DB: w.db, Policy: w.policy, Sink: w, Now: func() time.Time { return w.now },
		Verifier: &rest.Verifier{Issuers: []string{"https://login.verdant.localhost/" + tenantID + "/"}, Audiences: []string{"https://management.azure.com"},
			Keys: w, Now: func() time.Time { return w.now }}})
	if err != nil {
		t.Fatal(err)
	}
}

func assignmentID(scope, name string) string {
	return scope + "/providers/Microsoft.Authorization/roleAssignments/" + name
}

func (w *world) token(t *testing.T, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": "https://login.verdant.localhost/" + tenantID + "/", "aud": "https://management.azure.com/", "tid": tenantID,
		"oid": adminID, "upn": "admin@verdant.localhost", "appid": "cli", "exp": w.now.Add(time.Hour).Unix(), "nbf": w.now.Unix()}
	for k, v := range change {
		claims[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: w.key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// as returns claims that make the caller somebody else.
func as(oid string, groups ...string) map[string]any {
	return map[string]any{"oid": oid, "upn": "", "groups": groups}
}

func (w *world) call(t *testing.T, method, path, body, token string) (int, map[string]any, http.Header) {
	t.Helper()
	r := httptest.NewRequest(method, "https://"+host+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, r)
	var answer map[string]any
	if rec.Body.Len() > 0 {
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s %s: not JSON: %s", method, path, rec.Body)
		}
	}
	return rec.Code, answer, rec.Header()
}

func errorCode(body map[string]any) string {
	e, _ := body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

func ids(body map[string]any) []string {
	var out []string
	value, _ := body["value"].([]any)
	for _, v := range value {
		out = append(out, v.(map[string]any)["id"].(string))
	}
	return out
}

// Do implements policy.Transporter for SDK clients.
func (w *world) Do(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, in)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

type fixed string

func (f fixed) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(f), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (w *world) assignments(t *testing.T, token string) *armauthorization.RoleAssignmentsClient {
	t.Helper()
	c, err := armauthorization.NewRoleAssignmentsClient(subscriptionID, fixed(token), w.options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) options() *arm.ClientOptions {
	return &arm.ClientOptions{DisableRPRegistration: true, ClientOptions: azcore.ClientOptions{
		Transport: w, Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.verdant.localhost/", Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: "https://" + host, Audience: "https://management.azure.com"}}}}}
}

func (w *world) maySign() bool {
	return w.policy.Check(rbac.Principal{ObjectID: podID}, signAction, true, key).Allowed
}

func TestStockClientTakesARoleAwayAndGivesItBack(t *testing.T) {
	w := newWorld(t)
	c := w.assignments(t, w.token(t, nil))
	name := "aaaaaaaa-0000-4000-8000-000000000003"
	if !w.maySign() {
		t.Fatal("the initial assignment is not in effect")
	}
	got, err := c.Get(t.Context(), key, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *got.Properties.PrincipalID != podID || *got.Properties.Scope != key || !strings.HasSuffix(*got.Properties.RoleDefinitionID, rbac.KeyVaultCryptoUser) {
		t.Errorf("got %+v", *got.Properties)
	}
	if _, err := c.Delete(t.Context(), key, name, nil); err != nil {
		t.Fatal(err)
	}
	if w.maySign() {
		t.Error("deleted, and still in effect")
	}
	w.start(t)
	if w.maySign() {
		t.Error("deleted, and back after a restart")
	}
	c = w.assignments(t, w.token(t, nil))
	if _, err := c.Delete(t.Context(), key, name, nil); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
	_, err = c.Create(t.Context(), strings.ToUpper(key[:40])+key[40:], "BBBBBBBB-0000-4000-8000-000000000004", armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{PrincipalID: to.Ptr(podID), PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
			RoleDefinitionID: to.Ptr(subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + rbac.KeyVaultCryptoUser)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !w.maySign() {
		t.Error("created, and not in effect")
	}
	w.start(t)
	if !w.maySign() {
		t.Error("created, and gone after a restart")
	}
	var found []string
	pager := c.NewListForScopePager(vault, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: to.Ptr("principalId eq '" + podID + "'")})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Value {
			found = append(found, *a.ID)
		}
	}
	if want := assignmentID(key, "bbbbbbbb-0000-4000-8000-000000000004"); len(found) != 1 || found[0] != want {
		t.Errorf("listed %v, want %s in its canonical spelling", found, want)
	}
	var names []string
	for _, r := range w.rows {
		names = append(names, r["ActivityStatusValue"].(string)+" "+r["OperationNameValue"].(string))
	}
	if got, want := strings.Join(names, ", "), "Start MICROSOFT.AUTHORIZATION/ROLEASSIGNMENTS/DELETE, Success MICROSOFT.AUTHORIZATION/ROLEASSIGNMENTS/DELETE, Start MICROSOFT.AUTHORIZATION/ROLEASSIGNMENTS/WRITE, Success MICROSOFT.AUTHORIZATION/ROLEASSIGNMENTS/WRITE"; got != want {
		t.Errorf("activity: got %s\nwant %s", got, want)
	}
}

func TestAChangeThatCannotBeAnnouncedIsNotMade(t *testing.T) {
	w := newWorld(t)
	w.fail = errors.New("disk full")
	status, body, _ := w.call(t, "DELETE", assignmentID(key, "aaaaaaaa-0000-4000-8000-000000000003")+"?api-version=2022-04-01", "", w.token(t, nil))
	if status != 500 || errorCode(body) != "InternalServerError" || !w.maySign() {
		t.Errorf("got %d %v, in effect %v", status, body, w.maySign())
	}
}

func TestRequestsAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	admin := w.token(t, nil)
	put := assignmentID(key, "cccccccc-0000-4000-8000-000000000001") + "?api-version=2022-04-01"
	good := `{"properties":{"roleDefinitionId":"` + rbac.KeyVaultReader + `","principalId":"` + podID + `"}}`
	for name, c := range map[string]struct {
		method, path, body, token string
		status                    int
		code                      string
	}{
		"no token":                          {"GET", vault + "?api-version=2022-07-01", "", "", 401, "AuthenticationFailed"},
		"a token for another service":       {"GET", vault + "?api-version=2022-07-01", "", w.token(t, map[string]any{"aud": "https://vault.azure.net"}), 401, "InvalidAuthenticationTokenAudience"},
		"an expired token":                  {"GET", vault + "?api-version=2022-07-01", "", w.token(t, map[string]any{"exp": 1}), 401, "InvalidAuthenticationToken"},
		"a token of another tenant":         {"GET", vault + "?api-version=2022-07-01", "", w.token(t, map[string]any{"tid": "x"}), 401, "InvalidAuthenticationTokenTenant"},
		"no api-version":                    {"GET", vault, "", admin, 400, "MissingApiVersionParameter"},
		"a strange api-version":             {"GET", vault + "?api-version=7.4", "", admin, 400, "InvalidApiVersionParameter"},
		"an unknown api-version":            {"GET", assignmentID(key, "x") + "?api-version=2001-01-01", "", admin, 400, "InvalidApiVersionParameter"},
		"a resource that is not":            {"GET", strings.Replace(vault, "-g1", "-g9", 1) + "?api-version=2022-07-01", "", admin, 404, "ResourceNotFound"},
		"a group that is not":               {"GET", subscription + "/resourceGroups/none?api-version=2022-07-01", "", admin, 404, "ResourceGroupNotFound"},
		"a subscription that is not":        {"GET", "/subscriptions/none?api-version=2022-07-01", "", admin, 404, "SubscriptionNotFound"},
		"a resource, by a stranger":         {"GET", vault + "?api-version=2022-07-01", "", w.token(t, as("stranger")), 403, "AuthorizationFailed"},
		"a missing one, by a stranger":      {"GET", strings.Replace(vault, "-g1", "-g9", 1) + "?api-version=2022-07-01", "", w.token(t, as("stranger")), 403, "AuthorizationFailed"},
		"a list, by a stranger":             {"GET", group + "/resources?api-version=2022-07-01", "", w.token(t, as("stranger")), 403, "AuthorizationFailed"},
		"the vault's tables, by the pod":    {"GET", vault + "?api-version=2022-07-01", "", w.token(t, as(podID)), 403, "AuthorizationFailed"},
		"an assignment, by the pod":         {"PUT", put, good, w.token(t, as(podID)), 403, "AuthorizationFailed"},
		"a deletion, by the pod":            {"DELETE", put, "", w.token(t, as(podID)), 403, "AuthorizationFailed"},
		"creating a vault":                  {"PUT", vault + "?api-version=2022-07-01", "{}", admin, 405, "HttpMethodNotSupported"},
		"a path that is nothing":            {"GET", "/nothing?api-version=2022-07-01", "", admin, 404, "InvalidResourceType"},
		"an assignment name that is none":   {"PUT", assignmentID(key, "x") + "?api-version=2022-04-01", good, admin, 400, "InvalidRoleAssignmentId"},
		"an assignment at nothing":          {"PUT", assignmentID(group+"/providers/Microsoft.KeyVault/vaults/none", "cccccccc-0000-4000-8000-000000000001") + "?api-version=2022-04-01", good, admin, 404, "ResourceNotFound"},
		"an assignment of no role":          {"PUT", put, strings.Replace(good, rbac.KeyVaultReader, podID, 1), admin, 400, "RoleDefinitionDoesNotExist"},
		"an assignment to nobody":           {"PUT", put, strings.Replace(good, podID, "bob", 1), admin, 400, "InvalidPrincipalId"},
		"an assignment in broken JSON":      {"PUT", put, "{", admin, 400, "InvalidRequestContent"},
		"an assignment that is there twice": {"PUT", put, strings.Replace(good, rbac.KeyVaultReader, rbac.KeyVaultCryptoUser, 1), admin, 409, "RoleAssignmentExists"},
		"an assignment changed to another":  {"PUT", assignmentID(key, "aaaaaaaa-0000-4000-8000-000000000003") + "?api-version=2022-04-01", good, admin, 409, "RoleAssignmentUpdateNotPermitted"},
		"an assignment that is not":         {"GET", put, "", admin, 404, "RoleAssignmentNotFound"},
		"a filter that we do not know":      {"GET", key + "/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&$filter=x%20eq%201", "", admin, 400, "UnsupportedQuery"},
	} {
		status, body, header := w.call(t, c.method, c.path, c.body, c.token)
		if status != c.status || errorCode(body) != c.code {
			t.Errorf("%s: got %d %v, want %d %s", name, status, body, c.status, c.code)
		}
		if status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), `Bearer authorization_uri="https://login.verdant.localhost/`+tenantID+`"`) {
			t.Errorf("%s: got challenge %q", name, header.Get("WWW-Authenticate"))
		}
	}
	_, body, _ := w.call(t, "DELETE", put, "", w.token(t, as(podID)))
	message := body["error"].(map[string]any)["message"].(string)
	for _, want := range []string{podID, "Microsoft.Authorization/roleAssignments/delete", key} {
		if !strings.Contains(message, want) {
			t.Errorf("refusal does not name %s: %s", want, message)
		}
	}
	if last := w.rows[len(w.rows)-1]; last["ActivityStatusValue"] != "Failure" || last["Caller"] != podID {
		t.Errorf("refused write left %v", last)
	}
}

func TestListsHoldWhatTheCallerMayRead(t *testing.T) {
	w := newWorld(t)
	admin, auditor := w.token(t, nil), w.token(t, as("auditor", auditorsID))
	for name, c := range map[string]struct {
		path, token string
		want        []string
	}{
		"subscriptions":                    {"/subscriptions?api-version=2019-11-01", admin, []string{subscription}},
		"subscriptions, by the auditor":    {"/subscriptions?api-version=2019-11-01", auditor, []string{subscription}},
		"subscriptions, by a stranger":     {"/subscriptions?api-version=2019-11-01", w.token(t, as("stranger")), nil},
		"groups, in lower case":            {subscription + "/resourcegroups?api-version=2021-04-01", admin, []string{group}},
		"resources of the group":           {group + "/resources?api-version=2021-04-01", admin, []string{vault, vault + "/providers/Microsoft.Insights/diagnosticSettings/log-analytics", workspace}},
		"resources, by the auditor":        {group + "/resources?api-version=2021-04-01", auditor, []string{workspace}},
		"resources of one type":            {subscription + "/resources?api-version=2021-04-01&$filter=resourceType%20eq%20'microsoft.keyvault/Vaults'", admin, []string{vault}},
		"vaults of the group":              {group + "/providers/Microsoft.KeyVault/vaults?api-version=2022-07-01", admin, []string{vault}},
		"vaults of the subscription":       {subscription + "/providers/microsoft.keyvault/vaults?api-version=2022-07-01", admin, []string{vault}},
		"diagnostic settings of a vault":   {vault + "/providers/Microsoft.Insights/diagnosticSettings?api-version=2021-05-01-preview", admin, []string{vault + "/providers/Microsoft.Insights/diagnosticSettings/log-analytics"}},
		"tenants":                          {"/tenants?api-version=2020-01-01", auditor, []string{"/tenants/" + tenantID}},
		"role definitions by name":         {"/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01&$filter=roleName%20eq%20'Key%20Vault%20Crypto%20User'", auditor, []string{"/providers/Microsoft.Authorization/roleDefinitions/" + rbac.KeyVaultCryptoUser}},
		"assignments at a vault and above": {vault + "/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&$filter=atScope()", admin, []string{assignmentID(subscription, "aaaaaaaa-0000-4000-8000-000000000001")}},
		"assignments at a vault, above and below": {vault + "/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01", admin,
			[]string{assignmentID(subscription, "aaaaaaaa-0000-4000-8000-000000000001"), assignmentID(key, "aaaaaaaa-0000-4000-8000-000000000003")}},
	} {
		status, body, _ := w.call(t, "GET", c.path, "", c.token)
		if got := ids(body); status != 200 || strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: got %d %v, want %v", name, status, got, c.want)
		}
	}
	status, body, _ := w.call(t, "GET", strings.ToUpper(vault)+"?api-version=2022-07-01", "", admin)
	if status != 200 || body["id"] != vault {
		t.Errorf("a vault in capitals: got %d %v, want its canonical id", status, body["id"])
	}
}

func TestTheCloudDescribesItselfToAnybody(t *testing.T) {
	w := newWorld(t)
	status, body, _ := w.call(t, "GET", "/metadata/endpoints?api-version=2022-09-01", "", "")
	authentication, _ := body["authentication"].(map[string]any)
	if status != 200 || body["resourceManager"] != "https://"+host || authentication["loginEndpoint"] != "https://login.verdant.localhost/" || authentication["tenant"] != "common" || authentication["identityProvider"] != "AAD" {
		t.Errorf("got %d %v", status, body)
	}
}

// FuzzPathsOfStrangers: without a role, no path shows anything but the public
// documents.
func FuzzPathsOfStrangers(f *testing.F) {
	for _, path := range []string{vault, group + "/resources", "/subscriptions", assignmentID(key, "x"), "/subscriptions//providers//x", "/providers/Microsoft.Authorization/roleDefinitions"} {
		f.Add(path)
	}
	var once sync.Once
	var w *world
	var token string
	f.Fuzz(func(t *testing.T, path string) {
		once.Do(func() {
			w = newWorld(t)
			token = w.token(t, as("stranger"))
		})
		r := httptest.NewRequest("GET", "https://"+host+"/?api-version=2022-04-01", nil)
		r.URL.Path = "/" + strings.TrimLeft(path, "/")
		r.Header.Set("Authorization", "Bearer "+token)
		rec := httptest.NewRecorder()
		w.Handler().ServeHTTP(rec, r)
		if body := rec.Body.String(); rec.Code == 200 && (strings.Contains(body, "eudcc-ie") || strings.Contains(body, podID)) {
			t.Fatalf("%q showed %s", path, body)
		}
	})
}

package loganalytics

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/azquery"
	"github.com/go-jose/go-jose/v4"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/telemetry"
	"verdant/kql"
)

const (
	irelandID  = "aaaaaaaa-0000-4000-8000-000000000001"
	europeID   = "aaaaaaaa-0000-4000-8000-000000000002"
	irelandARM = "/subscriptions/s1/resourceGroups/ie/providers/Microsoft.OperationalInsights/workspaces/eudcc-ie"
	europeARM  = "/subscriptions/s1/resourceGroups/eu/providers/Microsoft.OperationalInsights/workspaces/eudcc-eu"
	analyst    = "11111111-0000-4000-8000-000000000001" // may query Ireland only
	stranger   = "11111111-0000-4000-8000-000000000002"
	admin      = "11111111-0000-4000-8000-000000000003" // may query both
)

// service is a server under test behind TLS, with an issuer of tokens.
type service struct {
	*Server
	web   *httptest.Server
	clock *clock
	key   *rsa.PrivateKey
}

type oneKey struct{ *rsa.PublicKey }

func (k oneKey) TokenKey(context.Context, string) (*rsa.PublicKey, error) { return k.PublicKey, nil }

func serve(t *testing.T, config Config) *service {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{clock: newClock(), key: key}
	config.Workspaces = []Workspace{
		{Name: "eudcc-ie", CustomerID: irelandID, ResourceID: irelandARM, Location: "northeurope", AuditQueries: true},
		{Name: "eudcc-eu", CustomerID: europeID, ResourceID: europeARM, Location: "westeurope"},
	}
	allow := func(who, scope string) rbac.Assignment {
		return rbac.Assignment{ID: scope + "/providers/Microsoft.Authorization/roleAssignments/" + who,
			RoleDefinitionID: rbac.LogAnalyticsReader, PrincipalID: who, Scope: scope}
	}
	s.Server, err = New(config, Deps{Dir: t.TempDir(), Key: [32]byte{3}, Now: s.clock.now,
		Verifier: &rest.Verifier{Issuers: []string{"https://login/t/"}, Audiences: []string{"https://api.loganalytics.io", "https://api.loganalytics.azure.com"},
			Keys: oneKey{&key.PublicKey}, Now: s.clock.now},
		Policy: rbac.NewPolicy(rbac.BuiltIn(), []rbac.Assignment{allow(analyst, irelandARM), allow(admin, "/subscriptions/s1")})})
	if err != nil {
		t.Fatal(err)
	}
	s.web = httptest.NewTLSServer(s.Handler())
	t.Cleanup(func() {
		s.web.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// token signs claims for who, with some of them replaced.
func (s *service) token(t testing.TB, who string, changed map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": "https://login/t/", "aud": "https://api.loganalytics.io", "exp": s.clock.now().Add(time.Hour).Unix(),
		"tid": "t", "oid": who, "appid": "app", "upn": "ada@eudcc.example"}
	maps.Copy(claims, changed)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: s.key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
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
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type credential string

func (c credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// client is the stock client as who.
func (s *service) client(t testing.TB, who string) *azquery.LogsClient {
	t.Helper()
	c, err := azquery.NewLogsClient(credential(s.token(t, who, nil)), &azquery.LogsClientOptions{ClientOptions: azcore.ClientOptions{
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			azquery.ServiceNameLogs: {Endpoint: s.web.URL + "/v1", Audience: "https://api.loganalytics.io"}}},
		Transport: s.web.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *service) emit(t testing.TB, workspace, table string, rows ...telemetry.Row) {
	t.Helper()
	if err := s.Sink(workspace).Emit(t.Context(), table, rows...); err != nil {
		t.Fatal(err)
	}
}

func tableText(tab *azquery.Table) string {
	var b strings.Builder
	for i, c := range tab.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s:%s", *c.Name, *c.Type)
	}
	for _, r := range tab.Rows {
		fmt.Fprintf(&b, "\n%v", r)
	}
	return b.String()
}

// do sends a raw request and returns the status and the body.
func (s *service) do(t testing.TB, method, path, token, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.web.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestTheStockClientAsksWhoSigned(t *testing.T) {
	s := serve(t, Config{})
	for i := range 7 {
		s.emit(t, "eudcc-ie", "AZKVAuditLogs", telemetry.Row{"OperationName": []string{"KeySign", "KeyGet"}[i%2],
			"CallerIpAddress": "192.168.4.10", "TimeGenerated": s.clock.now().Add(-time.Duration(i) * time.Minute)})
	}
	res, err := s.client(t, analyst).QueryWorkspace(t.Context(), irelandID, azquery.Body{
		Query: to.Ptr(`AZKVAuditLogs | where OperationName == "KeySign" | summarize n=count() by bin(TimeGenerated, 5m), CallerIPAddress | order by TimeGenerated asc`),
	}, &azquery.LogsClientQueryWorkspaceOptions{Options: &azquery.LogsQueryOptions{Statistics: to.Ptr(true), Visualization: to.Ptr(true), Wait: to.Ptr(20)}})
	if err != nil {
		t.Fatal(err)
	}
	want := "TimeGenerated:datetime, CallerIPAddress:string, n:long\n[2026-11-24T12:20:00Z 192.168.4.10 1]\n[2026-11-24T12:25:00Z 192.168.4.10 2]\n[2026-11-24T12:30:00Z 192.168.4.10 1]"
	if len(res.Tables) != 1 || *res.Tables[0].Name != "PrimaryResult" || tableText(res.Tables[0]) != want {
		t.Errorf("got %d tables, the first\n%s\nwant\n%s", len(res.Tables), tableText(res.Tables[0]), want)
	}
	var stats struct {
		Query struct {
			ExecutionTime          float64
			InputDatasetStatistics struct{ Rows struct{ Total, Scanned int } }
			DatasetStatistics      []struct {
				TableRowCount int `json:"table_row_count"`
			}
		}
	}
	if err := json.Unmarshal(res.Statistics, &stats); err != nil || stats.Query.InputDatasetStatistics.Rows.Total != 7 || len(stats.Query.DatasetStatistics) != 1 || stats.Query.DatasetStatistics[0].TableRowCount != 3 {
		t.Errorf("statistics: %v, %s", err, res.Statistics)
	}
	if res.Error != nil {
		t.Errorf("error: %v", res.Error)
	}
}

func TestRenderComesWhenAskedFor(t *testing.T) {
	s := serve(t, Config{})
	ask := func(options *azquery.LogsQueryOptions) azquery.LogsClientQueryWorkspaceResponse {
		res, err := s.client(t, analyst).QueryWorkspace(t.Context(), "eudcc-ie", azquery.Body{
			Query: to.Ptr(`print x = 1 | render barchart with (title = "Signatures")`)}, &azquery.LogsClientQueryWorkspaceOptions{Options: options})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := ask(nil); res.Visualization != nil || res.Statistics != nil {
		t.Errorf("unasked: %s %s", res.Visualization, res.Statistics)
	}
	var render map[string]any
	if err := json.Unmarshal(ask(&azquery.LogsQueryOptions{Visualization: to.Ptr(true)}).Visualization, &render); err != nil {
		t.Fatal(err)
	}
	if render["visualization"] != "barchart" || render["title"] != "Signatures" || render["accumulate"] != false {
		t.Errorf("got %v", render)
	}
}

func TestEveryTypeReachesTheStockClient(t *testing.T) {
	s := serve(t, Config{})
	s.emit(t, "eudcc-ie", "AZKVAuditLogs", telemetry.Row{"DurationMs": 7, "IsRbacAuthorized": true, "Properties": map[string]any{"a": []int{1}},
		"_ResourceId": "/subscriptions/S1/x", "RequestUri": `https://v/"ü"`})
	s.emit(t, "eudcc-ie", "Perf", telemetry.Row{"CounterValue": 2.5})
	s.emit(t, "eudcc-ie", "ContainerLogV2", telemetry.Row{"LogMessage": `say "hi"`}, telemetry.Row{"LogMessage": `{"level":"info","msg":"ready"}`})
	for query, want := range map[string]string{
		"AZKVAuditLogs | project DurationMs, IsRbacAuthorized, Properties, RequestUri, HttpStatusCode, SubnetId": "DurationMs:int, IsRbacAuthorized:bool, Properties:dynamic, RequestUri:string, HttpStatusCode:int, SubnetId:string\n[7 true {\"a\":[1]} https://v/\"ü\" <nil> ]",
		"AZKVAuditLogs | project Type, TenantId, SourceSystem, _ResourceId, _SubscriptionId, _IsBillable":        "Type:string, TenantId:guid, SourceSystem:string, _ResourceId:string, _SubscriptionId:string, _IsBillable:string\n[AZKVAuditLogs " + irelandID + " Azure /subscriptions/s1/x s1 True]",
		"AZKVAuditLogs | where _BilledSize > 10 and _TimeReceived <= TimeGenerated | project TimeGenerated":      "TimeGenerated:datetime\n[2026-11-24T12:30:00Z]",
		"ContainerLogV2 | project LogMessage, L = tostring(LogMessage.level)":                                    "LogMessage:dynamic, L:string\n[say \"hi\" ]\n[{\"level\":\"info\",\"msg\":\"ready\"} info]",
		"Perf | project CounterValue":       "CounterValue:real\n[2.5]",
		"Perf | where CounterValue > 2.5":   "",
		"Perf | where CounterPath == 'x'":   "",
		"AZKVAuditLogs | count":             "Count:long\n[1]",
		"Heartbeat | summarize n = count()": "n:long\n[0]",
	} {
		res, err := s.client(t, admin).QueryWorkspace(t.Context(), irelandID, azquery.Body{Query: &query}, nil)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		got := tableText(res.Tables[0])
		if want == "" && len(res.Tables[0].Rows) == 0 {
			continue
		}
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", query, got, want)
		}
	}
	// A plain query shows neither hidden columns nor aliases.
	res, err := s.client(t, admin).QueryWorkspace(t.Context(), irelandID, azquery.Body{Query: to.Ptr("AZKVAuditLogs")}, nil)
	if err != nil || len(res.Tables[0].Columns) != 48 {
		t.Errorf("got %d columns, %v; want the 48 of the real table", len(res.Tables[0].Columns), err)
	}
}

func TestABatchAnswersEachRequestForItself(t *testing.T) {
	s := serve(t, Config{})
	s.emit(t, "eudcc-ie", "Heartbeat", telemetry.Row{"Computer": "a"}, telemetry.Row{"Computer": "b"})
	batch := azquery.BatchRequest{Requests: []*azquery.BatchQueryRequest{
		to.Ptr(azquery.NewBatchQueryRequest(irelandID, "Heartbeat | count", "P1D", "1", azquery.LogsQueryOptions{Statistics: to.Ptr(true)})),
		to.Ptr(azquery.NewBatchQueryRequest(irelandID, "Heartbeat | wher", "P1D", "2", azquery.LogsQueryOptions{})),
		to.Ptr(azquery.NewBatchQueryRequest(europeID, "Heartbeat | count", "P1D", "3", azquery.LogsQueryOptions{})),
		to.Ptr(azquery.NewBatchQueryRequest("nowhere", "Heartbeat | count", "P1D", "4", azquery.LogsQueryOptions{})),
	}}
	res, err := s.client(t, analyst).QueryBatch(t.Context(), batch, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*azquery.BatchQueryResponse{}
	for _, r := range res.Responses {
		got[*r.CorrelationID] = r
	}
	for id, want := range map[string]struct {
		status int32
		code   string
	}{"1": {200, ""}, "2": {400, "BadArgumentError"}, "3": {403, "InsufficientAccessError"}, "4": {400, "FailedToResolveResource"}} {
		r := got[id]
		if r == nil || *r.Status != want.status || (r.Body.Error == nil) != (want.code == "") || r.Body.Error != nil && r.Body.Error.Code != want.code {
			t.Errorf("request %s: got %+v", id, r)
		}
	}
	if b := got["1"].Body; tableText(b.Tables[0]) != "Count:long\n[2]" || b.Statistics == nil {
		t.Errorf("got %s with statistics %s", tableText(b.Tables[0]), b.Statistics)
	}
	for what, body := range map[string]string{
		"no JSON":         `{"requests": [`,
		"nothing in it":   `{"requests": []}`,
		"an id twice":     `{"requests": [{"id":"1","workspace":"eudcc-ie","body":{"query":"print 1"}},{"id":"1","workspace":"eudcc-ie"}]}`,
		"no id":           `{"requests": [{"workspace":"eudcc-ie"}]}`,
		"no workspace":    `{"requests": [{"id":"1"}]}`,
		"another type":    `{"requests": 5}`,
		"a deep nonsense": strings.Repeat("[", 20000),
	} {
		if status, answer := s.do(t, "POST", "/v1/$batch", s.token(t, analyst, nil), body); status != 400 || !strings.Contains(answer, "BadArgumentError") {
			t.Errorf("%s: got %d %s", what, status, answer)
		}
	}
	_, answer := s.do(t, "POST", "/v1/$batch", s.token(t, analyst, nil), `{"requests": [{"id":"1","workspace":"eudcc-ie","path":"/fakePath","method":"POST"},{"id":"2","workspace":"eudcc-ie","path":"/query","method":"PUT"}]}`)
	if strings.Count(answer, "PathNotFoundError") != 2 {
		t.Errorf("unknown path and method: got %s", answer)
	}
}

func TestWhoeverMayNotQueryIsToldWhy(t *testing.T) {
	s := serve(t, Config{})
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	forged := (&service{clock: s.clock, key: other}).token(t, analyst, nil)
	body := `{"query": "print 1"}`
	for what, test := range map[string]struct {
		token, workspace string
		status           int
		code             string
	}{
		"no token":                   {"", "eudcc-ie", 401, "AuthenticationFailed"},
		"no JWT":                     {"abc", "eudcc-ie", 403, "InvalidTokenError"},
		"signed by somebody else":    {forged, "eudcc-ie", 403, "InvalidTokenError"},
		"for another service":        {s.token(t, analyst, map[string]any{"aud": "https://vault.azure.net"}), "eudcc-ie", 403, "InvalidAuthenticationTokenAudience"},
		"expired":                    {s.token(t, analyst, map[string]any{"exp": s.clock.now().Add(-time.Hour).Unix()}), "eudcc-ie", 401, "ExpiredAuthenticationToken"},
		"for the second audience":    {s.token(t, analyst, map[string]any{"aud": "https://api.loganalytics.azure.com/"}), "eudcc-ie", 200, ""},
		"without a role":             {s.token(t, stranger, nil), "eudcc-ie", 403, "InsufficientAccessError"},
		"of another workspace":       {s.token(t, analyst, nil), "eudcc-eu", 403, "InsufficientAccessError"},
		"for no workspace":           {s.token(t, analyst, nil), "eudcc-fr", 400, "FailedToResolveResource"},
		"in capitals":                {s.token(t, strings.ToUpper(analyst), nil), strings.ToUpper(irelandID), 200, ""},
		"through a group":            {s.token(t, stranger, map[string]any{"groups": []string{analyst}}), "eudcc-ie", 200, ""},
		"by the three part name":     {s.token(t, analyst, nil), url.PathEscape("s1/ie/eudcc-ie"), 200, ""},
		"by the ARM id as the value": {s.token(t, analyst, nil), url.PathEscape(irelandARM), 200, ""},
	} {
		status, answer := s.do(t, "POST", "/v1/workspaces/"+test.workspace+"/query", test.token, body)
		if status != test.status || test.code != "" && !strings.Contains(answer, `"code":"`+test.code+`"`) {
			t.Errorf("%s: got %d %s, want %d %s", what, status, answer, test.status, test.code)
		}
	}
}

func TestRequestsInEveryForm(t *testing.T) {
	s := serve(t, Config{})
	token := s.token(t, admin, nil)
	for what, test := range map[string]struct {
		method, path, body, contentType string
		status                          int
		has                             string
	}{
		"GET":                     {"GET", "/v1/workspaces/eudcc-ie/query?query=print%20x%3D1", "", "", 200, `"rows":[[1]]`},
		"POST":                    {"POST", "/v1/workspaces/eudcc-ie/query", `{"query":"print x=1"}`, "application/json; charset=utf-8", 200, `"rows":[[1]]`},
		"POST by ARM path":        {"POST", "/v1" + irelandARM + "/query", `{"query":"print x=1"}`, "application/json", 200, `"rows":[[1]]`},
		"ARM path of a vault":     {"POST", "/v1/subscriptions/s1/resourceGroups/ie/providers/Microsoft.KeyVault/vaults/v/query", `{"query":"print x=1"}`, "application/json", 400, "FailedToResolveResource"},
		"ARM path without /query": {"POST", "/v1" + irelandARM, `{}`, "application/json", 404, "PathNotFoundError"},
		"a POST without JSON":     {"POST", "/v1/workspaces/eudcc-ie/query", `query=print`, "text/plain", 200, ""},
		"broken JSON":             {"POST", "/v1/workspaces/eudcc-ie/query", `{"query":`, "application/json", 400, "InvalidJsonBody"},
		"no query":                {"POST", "/v1/workspaces/eudcc-ie/query", `{}`, "application/json", 400, "MissingQuery"},
		"a bad timespan":          {"POST", "/v1/workspaces/eudcc-ie/query", `{"query":"print 1","timespan":"1 hour"}`, "application/json", 400, "InvalidTimespan"},
		"an unknown path":         {"GET", "/v2/workspaces", "", "", 404, "PathNotFoundError"},
		"too much":                {"POST", "/v1/workspaces/eudcc-ie/query", strings.Repeat(" ", maxQueryBody+1), "application/json", 413, ""},
	} {
		status, answer := s.do(t, test.method, test.path, token, test.body, "Content-Type", test.contentType)
		if status != test.status || !strings.Contains(answer, test.has) || test.has == "" && status == 200 && answer != "" {
			t.Errorf("%s: got %d %.300s, want %d %s", what, status, answer, test.status, test.has)
		}
	}
}

func TestABadQueryIsRefusedWithItsPlace(t *testing.T) {
	s := serve(t, Config{})
	for query, want := range map[string][2]string{
		"Heartbeat | wher x":            {"SyntaxError", ""},
		"Heartbeat | where Nonsense> 1": {"SemanticError", "Nonsense"},
		"Nonsense | count":              {"SemanticError", "Nonsense"},
	} {
		_, err := s.client(t, admin).QueryWorkspace(t.Context(), irelandID, azquery.Body{Query: &query}, nil)
		var e *azcore.ResponseError
		if !errors.As(err, &e) || e.StatusCode != 400 || e.ErrorCode != "BadArgumentError" {
			t.Errorf("%s: got %v", query, err)
			continue
		}
		var body struct {
			Error struct {
				Inner struct {
					Code  string
					Inner struct {
						Message string
						Line    int
					} `json:"innererror"`
				} `json:"innererror"`
			}
		}
		_, answer := s.do(t, "POST", "/v1/workspaces/eudcc-ie/query", s.token(t, admin, nil), fmt.Sprintf(`{"query":%q}`, query))
		if err := json.Unmarshal([]byte(answer), &body); err != nil || body.Error.Inner.Code != want[0] || !strings.Contains(body.Error.Inner.Inner.Message, want[1]) || body.Error.Inner.Inner.Line != 1 {
			t.Errorf("%s: got %s", query, answer)
		}
	}
}

func TestADefectOfTheEvaluatorIsNotTheCallersAffair(t *testing.T) {
	err := refusal(t.Context(), &view{}, &kql.Error{Code: kql.RuntimeError, Message: "internal defect: index out of range"})
	if status, _, body := answered(err, "cid"); status != 500 || strings.Contains(string(body), "index") || !strings.Contains(string(body), "cid") {
		t.Errorf("got %d %s", status, body)
	}
}

func TestTheTimespanBoundsEveryTable(t *testing.T) {
	s := serve(t, Config{})
	for i := range 10 {
		s.emit(t, "eudcc-ie", "Heartbeat", telemetry.Row{"Computer": fmt.Sprint(i), "TimeGenerated": s.clock.now().Add(-time.Duration(i) * time.Hour)})
		if i == 4 {
			if err := s.workspaces[0].store.seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for body, want := range map[string]string{
		`{"query":"Heartbeat | count"}`:                                                                           "[[10]]",
		`{"query":"Heartbeat | count","timespan":"PT3H"}`:                                                         "[[4]]",
		`{"query":"Heartbeat | count","timespan":"2026-11-24T05:00:00Z/2026-11-24T08:00:00Z"}`:                    "[[3]]",
		`{"query":"Heartbeat | where TimeGenerated > ago(90m) | count","timespan":"PT9H"}`:                        "[[2]]",
		`{"query":"Heartbeat | where TimeGenerated > ago(90m) | count","timespan":"2026-11-24/2026-11-24T06Z"}`:   "",
		`{"query":"Heartbeat | where Computer == '7' | project Computer","timespan":"PT8H"}`:                      `[["7"]]`,
		`{"query":"Heartbeat | where Computer == '7' | project Computer","timespan":"PT6H"}`:                      `[]`,
		`{"query":"union Heartbeat, Perf | summarize count()","timespan":"PT3H"}`:                                 "[[4]]",
		`{"query":"Heartbeat | summarize max(TimeGenerated)","timespan":"2026-11-23T00:00Z/2026-11-24T00:00Z"}`:   "",
		`{"query":"Heartbeat | summarize n=dcount(Computer)","timespan":"2026-11-24T11:30:00Z/2026-11-24T12Z"}`:   "",
		`{"query":"Heartbeat | summarize n=count()","timespan":"2026-11-24T11:30:00Z/2026-11-24T11:30:00.0000Z"}`: "[[1]]",
	} {
		status, answer := s.do(t, "POST", "/v1/workspaces/eudcc-ie/query", s.token(t, admin, nil), body)
		if want == "" {
			if status != 400 {
				t.Errorf("%s: got %d, want a refused timespan", body, status)
			}
			continue
		}
		if status != 200 || !strings.Contains(answer, `"rows":`+want+`}`) {
			t.Errorf("%s: got %d %s, want rows %s", body, status, answer, want)
		}
	}
	// Two timespans: what is in both.
	_, answer := s.do(t, "POST", "/v1/workspaces/eudcc-ie/query?timespan=PT5H", s.token(t, admin, nil), `{"query":"Heartbeat | count","timespan":"2026-11-24T00:00:00Z/2026-11-24T09:30:00Z"}`)
	if !strings.Contains(answer, `"rows":[[3]]`) {
		t.Errorf("two timespans: got %s", answer)
	}
}

func TestAnAnswerOverTheLimitIsCutAndSaysSo(t *testing.T) {
	s := serve(t, Config{MaxRows: 3})
	for i := range 5 {
		s.emit(t, "eudcc-ie", "Heartbeat", telemetry.Row{"Computer": fmt.Sprint(i)})
	}
	res, err := s.client(t, admin).QueryWorkspace(t.Context(), irelandID, azquery.Body{Query: to.Ptr("Heartbeat")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Error == nil || res.Error.Code != "PartialError" || len(res.Tables[0].Rows) != 3 || !strings.Contains(res.Error.Error(), "E_QUERY_RESULT_SET_TOO_LARGE") {
		t.Errorf("got %d rows and %v", len(res.Tables[0].Rows), res.Error)
	}
	res, err = s.client(t, admin).QueryWorkspace(t.Context(), irelandID, azquery.Body{Query: to.Ptr("Heartbeat | count")}, nil)
	if err != nil || res.Error != nil {
		t.Errorf("a small answer over many rows: %v, %v", err, res.Error)
	}
}

func TestAnAnswerWithTooManyBytesIsCutAndSaysSo(t *testing.T) {
	s := serve(t, Config{MaxBytes: 3000})
	for i := range 100 {
		s.emit(t, "eudcc-ie", "Heartbeat", telemetry.Row{"Computer": fmt.Sprintf("%060d", i)})
	}
	status, answer := s.do(t, "POST", "/v1/workspaces/eudcc-ie/query", s.token(t, admin, nil), `{"query":"Heartbeat | project Computer"}`)
	var res struct {
		Tables []struct{ Rows [][]string }
		Error  struct{ Code string }
	}
	if err := json.Unmarshal([]byte(answer), &res); err != nil || status != 200 {
		t.Fatalf("%d, %v", status, err)
	}
	rows := res.Tables[0].Rows
	if res.Error.Code != "PartialError" || !strings.Contains(answer, "3000 bytes") || len(rows) < 20 || len(rows) > 45 || rows[0][0] != fmt.Sprintf("%060d", 0) {
		t.Errorf("got %d rows and %s", len(rows), res.Error.Code)
	}
}

func TestAQueryThatTakesTooMuchIsEnded(t *testing.T) {
	s := serve(t, Config{Timeout: 20 * time.Millisecond, QueryBytes: 1 << 20, Requests: 2})
	for query, want := range map[string][2]string{
		"range x from 1 to 100000000000 step 1 | where x < 0 | count": {"504", "GatewayTimeout"},
		"range x from 1 to 10000000 step 1 | sort by x":               {"400", "LimitExceeded"},
	} {
		status, answer := s.do(t, "POST", "/v1/workspaces/eudcc-ie/query", s.token(t, admin, nil), fmt.Sprintf(`{"query":%q}`, query))
		if fmt.Sprint(status) != want[0] || !strings.Contains(answer, want[1]) {
			t.Errorf("%s: got %d %s, want %v", query, status, answer, want)
		}
	}
	if status, answer := s.do(t, "GET", "/v1/workspaces/eudcc-ie/query?query=print%201", s.token(t, admin, nil), ""); status != 429 || !strings.Contains(answer, "ThrottledError") {
		t.Errorf("the third request: got %d %s", status, answer)
	}
}

func TestSeveralWorkspacesAreAskedTogetherIfTheCallerMay(t *testing.T) {
	s := serve(t, Config{})
	s.emit(t, "eudcc-ie", "Heartbeat", telemetry.Row{"Computer": "ie"})
	s.emit(t, "eudcc-eu", "Heartbeat", telemetry.Row{"Computer": "eu"})
	implicit := azquery.Body{Query: to.Ptr("Heartbeat | project Computer | order by Computer asc"), AdditionalWorkspaces: []*string{to.Ptr(europeID)}}
	res, err := s.client(t, admin).QueryWorkspace(t.Context(), irelandID, implicit, nil)
	if err != nil || tableText(res.Tables[0]) != "Computer:string\n[eu]\n[ie]" {
		t.Errorf("implicit: %v", err)
	}
	var e *azcore.ResponseError
	if _, err := s.client(t, analyst).QueryWorkspace(t.Context(), irelandID, implicit, nil); !errors.As(err, &e) || e.ErrorCode != "InsufficientAccessError" {
		t.Errorf("implicit, not allowed: %v", err)
	}
	for _, name := range []string{"eudcc-eu", europeID, "s1/eu/eudcc-eu", europeARM} {
		explicit := azquery.Body{Query: to.Ptr(fmt.Sprintf("workspace(%q).Heartbeat | project Computer", name))}
		res, err = s.client(t, admin).QueryWorkspace(t.Context(), irelandID, explicit, nil)
		if err != nil || tableText(res.Tables[0]) != "Computer:string\n[eu]" {
			t.Errorf("explicit %s: %v", name, err)
		}
		if _, err := s.client(t, analyst).QueryWorkspace(t.Context(), irelandID, explicit, nil); !errors.As(err, &e) || e.ErrorCode != "InsufficientAccessError" {
			t.Errorf("explicit %s, not allowed: %v", name, err)
		}
	}
}

func TestMetadataListsTablesAndColumns(t *testing.T) {
	s := serve(t, Config{})
	status, answer := s.do(t, "GET", "/v1/workspaces/"+irelandID+"/metadata", s.token(t, analyst, nil), "")
	var meta metadataAnswer
	if err := json.Unmarshal([]byte(answer), &meta); err != nil || status != 200 {
		t.Fatalf("%d, %v", status, err)
	}
	found := false
	for _, tab := range meta.Tables {
		for _, c := range tab.Columns {
			found = found || tab.Name == "SigninLogs" && c.Name == "UserPrincipalName" && c.Type == "string"
		}
	}
	if !found || len(meta.Workspaces) != 1 || meta.Workspaces[0].ID != irelandID {
		t.Errorf("got %.300s", answer)
	}
	if status, _ := s.do(t, "GET", "/v1/workspaces/"+irelandID+"/metadata", s.token(t, stranger, nil), ""); status != 403 {
		t.Errorf("a stranger: got %d", status)
	}
}

func TestEveryQueryLeavesARecord(t *testing.T) {
	s := serve(t, Config{})
	for _, query := range []string{"Heartbeat | count", "Heartbeat | nonsense"} {
		_, _ = s.client(t, analyst).QueryWorkspace(t.Context(), irelandID, azquery.Body{Query: &query, Timespan: to.Ptr(azquery.TimeInterval("PT1H"))}, nil)
	}
	got := rowsOf(t, s.workspaces[0].store, "LAQueryLogs", allTime, "QueryText", "ResponseCode", "ResponseRowCount", "AADObjectId", "AADEmail", "AADClientId", "QueryTimeRangeStart", "_ResourceId")
	want := []string{
		"Heartbeat | count|200|1|" + analyst + "|ada@eudcc.example|app|2026-11-24T11:30:00Z|" + strings.ToLower(irelandARM),
		"Heartbeat | nonsense|400|∅|" + analyst + "|ada@eudcc.example|app|2026-11-24T11:30:00Z|" + strings.ToLower(irelandARM),
	}
	equal(t, "LAQueryLogs", got, want)
}

func TestTheAnswerInProcessIsTheSame(t *testing.T) {
	s := serve(t, Config{})
	s.emit(t, "eudcc-ie", "Heartbeat", telemetry.Row{"Computer": "a"})
	res, err := s.Query(t.Context(), "eudcc-ie", "Heartbeat | project Computer", "P1D")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"tables":[{"name":"PrimaryResult","columns":[{"name":"Computer","type":"string"}],"rows":[["a"]]}]}`; string(raw) != want {
		t.Errorf("got %s, want %s", raw, want)
	}
	if _, err := s.Query(t.Context(), "eudcc-fr", "print 1", ""); !errors.Is(err, ErrWorkspace) {
		t.Errorf("got %v, want ErrWorkspace", err)
	}
}

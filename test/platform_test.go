package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/tls"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/azquery"

	"verdant/estate"
	"verdant/estate/control"
)

// podRequest makes a request from a pod with the pod's own identity.
func (e *estateUnderTest) podRequest(pod, method, url, body string) (string, error) {
	return e.try("exec", pod, "--", e.binary, "pod-request", method, url, body)
}

const digestBody = `{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`

func testIdentity(t *testing.T, e *estateUnderTest) {
	names := estate.NamesFor(estate.DefaultVariables())
	vault := "https://" + names.VaultHost(estate.IE)
	for _, c := range []struct {
		pod, method, path, body string
		want                    string
	}{
		{"dgca-verifier-service", "POST", "/keys/dsc-key-store/sign", digestBody, "ForbiddenByRbac"},
		{"dgca-verifier-service", "GET", "/keys/dsc-key-store", "", "ForbiddenByRbac"},
		{"dgca-verifier-service", "GET", "/keys", "", "ForbiddenByRbac"},
		{"dgca-verifier-service", "GET", "/secrets/msal-authentication-client-secret", "", "ForbiddenByRbac"},
		{"dgca-verifier-service", "POST", "/keys/tls-key-store/sign", digestBody, "200 OK"},
		{"dgca-issuance-service", "POST", "/keys/dsc-key-store/sign", digestBody, "200 OK"},
		{"dgca-issuance-service", "POST", "/keys/csca-key-store/sign", digestBody, "ForbiddenByRbac"},
		{"dgca-issuance-service-public", "POST", "/keys/dsc-key-store/sign", digestBody, "ForbiddenByRbac"},
		{"dgca-issuance-web", "GET", "/secrets/msal-authentication-client-secret", "", "200 OK"},
		{"dgca-issuance-web", "POST", "/keys/dsc-key-store/sign", digestBody, "ForbiddenByRbac"},
	} {
		out, err := e.podRequest(c.pod, c.method, vault+c.path+"?api-version=7.4", c.body)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s %s %s: got %v, %s; want %s", c.pod, c.method, c.path, err, out, c.want)
		}
	}
}

func isolated(t *testing.T, e *estateUnderTest) bool {
	t.Helper()
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(status.Network, "isolated")
}

// testIsolation looks from inside the networks: nothing outside a namespace
// ever dials a private address, so that from the host it is enough that no
// interface has one.
func testIsolation(t *testing.T, e *estateUnderTest) {
	if !isolated(t, e) {
		t.Skip("this machine has no namespaces; the loopback driver does not isolate")
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if strings.HasPrefix(a.String(), "192.168.4.") || strings.HasPrefix(a.String(), "192.168.0.") || strings.HasPrefix(a.String(), "203.0.113.") {
			t.Errorf("the host has the address %s of a private network", a)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	hostPort := listener.Addr().String()

	// Each probe runs in a pod and says whether a connection could be made.
	names := estate.NamesFor(estate.DefaultVariables())
	for _, c := range []struct {
		pod, what, address string
		reached            bool
	}{
		{"dgca-verifier-service", "its vault", names.VaultHost(estate.IE) + ":443", true},
		{"dgca-verifier-service", "its database", names.DatabaseHost(estate.IE) + ":3306", true},
		{"dgca-verifier-service", "the gateway's public name", names.ServiceHost("dgc-gateway", estate.EU) + ":443", true},
		{"dgca-verifier-service", "the other region's vault by name", names.VaultHost(estate.EU) + ":443", false},
		{"dgca-verifier-service", "the other region's database by name", names.DatabaseHost(estate.EU) + ":3306", false},
		{"dgca-verifier-service", "a service of the host", hostPort, false},
		{"dgca-verifier-service", "an address that nobody has", "192.168.5.200:443", false},
		{"dgca-verifier-service", "a public address of the Internet", "198.51.100.1:443", false},
		{"dgc-gateway", "its vault", names.VaultHost(estate.EU) + ":443", true},
		{"dgc-gateway", "the other region's vault by name", names.VaultHost(estate.IE) + ":443", false},
		{"dgc-gateway", "a service of the host", hostPort, false},
	} {
		out, err := e.try("exec", c.pod, "--", e.binary, "pod-reach", c.address)
		if reached := err == nil; reached != c.reached {
			t.Errorf("%s reaches %s (%s): got %v, want %v: %s", c.pod, c.what, c.address, reached, c.reached, out)
		}
	}
	// Both regions use the same range: an IE address that no EU pod has must
	// not lead an EU pod to Ireland.
	if out, err := e.try("exec", "dgc-gateway", "--", e.binary, "pod-reach", "192.168.4.24:8080"); err == nil {
		t.Errorf("the EU gateway's pod reaches an address of Ireland's verifier: %s", out)
	}
}

func testAudit(t *testing.T, e *estateUnderTest) {
	before := e.signatures(t)
	for range 3 {
		e.issue(t, examples(t)["vaccination"])
	}
	eventually(t, 10*time.Second, "three more signatures in the audit log", func() (bool, string) {
		n := e.signatures(t)
		return n >= before+3, fmt.Sprintf("%d before, %d now", before, n)
	})
	out := e.must("query", "-w", "eudcc-ie", `AZKVAuditLogs | where OperationName == "KeySign" | summarize n=count() by bin(TimeGenerated, 5m), CallerIPAddress`)
	if !strings.Contains(out, "192.168.4.20") {
		t.Errorf("the signatures are not the issuance service's: %s", out)
	}
	if out, err := e.try("query", "--as", "citizen", "-w", "eudcc-ie", "AZKVAuditLogs | count"); exitCode(err) != 1 || !strings.Contains(out, "403") {
		t.Errorf("a citizen reads the audit log: exit %d, %s", exitCode(err), out)
	}
	if out := e.must("query", "--as", "auditor", "-w", "eudcc-ie", "AZKVAuditLogs | where HttpStatusCode == 403 | count"); strings.TrimSpace(strings.Split(out, "\n")[1]) == "0" {
		t.Error("the audit log has no refusal, but there were some")
	}
	if out, err := e.try("query", "-w", "eudcc-ie", "AZKVAuditLogs | evaluate autocluster()"); exitCode(err) != 1 || !strings.Contains(out, `"autocluster"`) {
		t.Errorf("an operator that is not built: exit %d, %s; want it refused by name", exitCode(err), out)
	}
}

// signatures counts KeySign events of the document signer's key.
func (e *estateUnderTest) signatures(t *testing.T) int {
	t.Helper()
	out := e.must("query", "-o", "json", "-w", "eudcc-ie", `AZKVAuditLogs | where OperationName == "KeySign" and Id has "dsc-key-store" and HttpStatusCode == 200 | count`)
	var answer struct {
		Tables []struct{ Rows [][]int }
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Tables) != 1 || len(answer.Tables[0].Rows) != 1 {
		t.Fatalf("count: %v in %s", err, out)
	}
	return answer.Tables[0].Rows[0][0]
}

// testAzquery asks the same question with Microsoft's own client.
func testAzquery(t *testing.T, e *estateUnderTest) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	roots, err := estate.TrustedRoots(e.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	socket := control.NewClient(filepath.Join(e.dataDir, "control.sock"))
	web := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return socket.Dial(ctx, "eudcc-ie", address)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
	client, err := azquery.NewLogsClient(cliCredential{socket}, &azquery.LogsClientOptions{ClientOptions: azcore.ClientOptions{Transport: web, Cloud: cloud.AzurePublic}})
	if err != nil {
		t.Fatal(err)
	}
	names := estate.NamesFor(estate.DefaultVariables())
	query := `AZKVAuditLogs | where OperationName == "KeySign" | summarize n=count() by bin(TimeGenerated, 5m), CallerIPAddress`
	answer, err := client.QueryWorkspace(ctx, names.WorkspaceCustomer(estate.IE), azquery.Body{Query: &query}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Tables) != 1 || len(answer.Tables[0].Rows) == 0 {
		t.Fatalf("got %+v, want rows", answer.Results)
	}
}

// cliCredential gives stock clients the administrator's tokens.
type cliCredential struct{ socket *control.Client }

func (c cliCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := c.socket.Token(ctx, "", strings.TrimSuffix(o.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: t.AccessToken, ExpiresOn: t.ExpiresOn}, err
}

// testKeyRevocation takes each key's role away and gives it back.
func testKeyRevocation(t *testing.T, e *estateUnderTest) {
	names := estate.NamesFor(estate.DefaultVariables())
	for _, c := range []struct{ identity, key string }{
		{estate.DatabaseIdentity, "mysql-encryption-key"}, {estate.DiskIdentity, "aks-encryption-key"},
	} {
		grant, ok := names.GrantOf(estate.IE, c.identity, c.key)
		if !ok {
			t.Fatalf("no role of %s on %s", c.identity, c.key)
		}
		url := "https://" + names.ManagementHost() + names.AssignmentID(grant) + "?api-version=2022-04-01"
		e.must("rest", "DELETE", url)
		eventually(t, time.Minute, c.key+" is refused", func() (bool, string) { return e.keyIs(t, c.key, "Inaccessible") })
		eventually(t, time.Minute, "nothing can be issued", func() (bool, string) {
			out, err := e.try("cert", "issue", "--file", examples(t)["vaccination"])
			return exitCode(err) == 1, out
		})
		body := filepath.Join(t.TempDir(), "assignment.json")
		content := fmt.Sprintf(`{"properties":{"roleDefinitionId":"%s/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":"%s"}}`, names.Subscription(), grant.Role, grant.Principal)
		if err := os.WriteFile(body, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		e.must("rest", "PUT", url, "--body", body)
		eventually(t, time.Minute, c.key+" is available", func() (bool, string) { return e.keyIs(t, c.key, "Available") })
		eventually(t, time.Minute, "certificates can be issued again", func() (bool, string) {
			out, err := e.try("cert", "issue", "--file", examples(t)["vaccination"])
			return err == nil, out
		})
	}
}

func (e *estateUnderTest) keyIs(t *testing.T, key, state string) (bool, string) {
	t.Helper()
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range status.CustomerManagedKeys {
		if k.Region == "eudcc-ie" && k.Key == key {
			return k.State == state, k.State + ": " + k.Reason
		}
	}
	return false, "no such key"
}

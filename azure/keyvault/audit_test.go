package keyvault_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/hsm"
	"verdant/internal/conninfo"
)

func TestEveryRequestLeavesOneRecordBeforeItsAnswer(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	k := must(w.keys(admin).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	token := w.mint(map[string]any{"oid": admin, "upn": "admin@verdant.localhost"})
	const sign = `{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	for _, c := range []struct {
		method, target, token, body string
		op                          string
		status                      int
		id                          string
	}{
		{"POST", "/keys/k/sign?api-version=7.4&code=secret", token, sign, "KeySign", 200, string(*k.Key.KID)},
		{"GET", "/keys/k?api-version=7.4", "", "", "Authentication", 401, vaultURL + "/keys/k"},
		{"GET", "/keys/k?api-version=7.4", "bad", "", "Authentication", 401, vaultURL + "/keys/k"},
		{"GET", "/keys/k?api-version=7.4", w.mint(map[string]any{"oid": pod}), "", "KeyGet", 403, vaultURL + "/keys/k"},
		{"GET", "/keys?api-version=7.4", token, "", "KeyList", 200, ""},
		{"GET", "/keys/none/00000000000000000000000000000000?api-version=7.4", token, "", "KeyGet", 404, vaultURL + "/keys/none/00000000000000000000000000000000"},
		{"GET", "/nothing/here?api-version=7.4", token, "", "Unknown", 404, ""},
		{"DELETE", "/deletedkeys/none?api-version=7.4", token, "", "KeyPurge", 404, vaultURL + "/keys/none"},
		{"PUT", "/secrets/s?api-version=7.4", token, `{"value":"top-secret"}`, "SecretSet", 200, vaultURL + "/secrets/s/"},
	} {
		before := w.journal.Last()
		r := w.raw(c.method, c.target, c.token, c.body)
		if after := w.journal.Last(); after != before+1 || r.status != c.status {
			t.Fatalf("%s %s: status %d, %d records", c.method, c.target, r.status, after-before)
		}
		record := w.records()[before]
		p := record["properties"].(map[string]any)
		id, _ := p["id"].(string)
		if record["operationName"] != c.op || p["httpStatusCode"] != float64(c.status) || record["correlationId"] != r.header.Get("x-ms-request-id") ||
			record["callerIpAddress"] != "192.168.4.20" || record["resourceId"] != strings.ToUpper(vaultID) || !strings.HasPrefix(id, c.id) || c.id == "" && id != "" && c.op != "Unknown" {
			t.Errorf("%s %s: got record %v", c.method, c.target, record)
		}
		if (c.status < 400) != (record["resultType"] == "Success") || p["isRbacAuthorized"] != (c.status != 401 && c.status != 403 && c.op != "Unknown") {
			t.Errorf("%s %s: got result %v, authorised %v", c.method, c.target, record["resultType"], p["isRbacAuthorized"])
		}
		text := fmt.Sprint(record)
		for _, secret := range []string{"code=secret", "top-secret", c.token} {
			if secret != "" && secret != "bad" && strings.Contains(text, secret) {
				t.Errorf("%s %s: the record holds %q", c.method, c.target, secret)
			}
		}
		if c.token == token {
			if claim := record["identity"].(map[string]any)["claim"].(map[string]any); claim["oid"] != admin || claim["upn"] != "admin@verdant.localhost" || claim["appid"] == "" {
				t.Errorf("%s %s: got identity %v", c.method, c.target, claim)
			}
		}
	}
}

func TestWithoutItsRecordNoResultLeaves(t *testing.T) {
	broken := &failingJournal{}
	w := newWorld(t, func(w *world) { w.deps.Audit = broken })
	ctx, secrets := t.Context(), w.secrets(admin)
	must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("value")}, nil))(t)
	broken.set(true)
	for _, path := range []string{"/secrets/s", "/keys", "/keys/none"} {
		if r := w.adminRaw("GET", path, ""); r.status != 500 || strings.Contains(r.text, "value\"") || strings.Contains(r.text, "space left") || r.header.Get("x-ms-keyvault-rbac-assignment-id") == "" {
			t.Errorf("%s: got %d %s", path, r.status, r.text)
		}
	}
	if r := w.raw("GET", "/keys?api-version=7.4", "", ""); r.status != 500 || r.header.Get("WWW-Authenticate") != "" {
		t.Errorf("no token: got %d %v", r.status, r.header)
	}
	broken.set(false)
	if got := must(secrets.GetSecret(ctx, "s", "", nil))(t); *got.Value != "value" {
		t.Errorf("got %q", *got.Value)
	}
}

func TestRecordsReachTheLogTableInOrderAndOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.sink.mu.Lock()
	w.sink.fail = errors.New("the workspace is away")
	w.sink.mu.Unlock()
	must(w.keys(admin).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM)}, nil))(t)
	w.restart()
	w.sink.mu.Lock()
	w.sink.fail = nil
	w.sink.mu.Unlock()
	w.grant(vaultID+"/keys/k", rbac.KeyVaultCryptoUser, pod)
	digest := make([]byte, 32)
	must(w.keys(pod).Sign(ctx, "k", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmPS256), Value: digest}, nil))(t)
	_, err := w.keys(pod).GetKey(ctx, "other", "", nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	n := int(w.journal.Last())
	w.sink.wait(t, n)
	w.restart() // the cursor is kept: nothing comes twice
	must(w.keys(admin).NewListKeyPropertiesPager(nil).NextPage(ctx))(t)
	rows := w.sink.wait(t, n+2)
	if len(rows) != n+2 || w.sink.table != "AZKVAuditLogs" {
		t.Fatalf("got %d rows in %s, want %d", len(rows), w.sink.table, n+2)
	}
	columns := auditColumns(t)
	var ops []string
	for _, row := range rows {
		ops = append(ops, row["OperationName"].(string))
		for name := range row {
			if columns != nil && !columns[name] {
				t.Errorf("column %s is not one of AZKVAuditLogs", name)
			}
		}
	}
	if got, want := fmt.Sprint(ops), "[Authentication KeyCreate Authentication KeySign Authentication KeyGet Authentication KeyList]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	sign, get := rows[3], rows[5]
	if sign["ResultType"] != "Success" || sign["ResultSignature"] != "OK" || sign["HttpStatusCode"] != int64(200) || sign["CallerIpAddress"] != "192.168.4.20" || sign["Algorithm"] != "PS256" ||
		sign["IsRbacAuthorized"] != true || !strings.Contains(sign["AppliedAssignmentId"].(string), "/keys/k/") || sign["TimeGenerated"].(time.Time) != w.clock.Now().UTC() ||
		!strings.HasPrefix(sign["RequestUri"].(string), vaultURL+"/keys/k/sign?api-version=") || !strings.HasPrefix(sign["Id"].(string), vaultURL+"/keys/k/") {
		t.Errorf("got %v", sign)
	}
	if get["ResultType"] != "Failed" || get["ResultSignature"] != "Forbidden" || get["IsRbacAuthorized"] != false || !strings.Contains(get["ResultDescription"].(string), "ForbiddenByRbac") {
		t.Errorf("got %v", get)
	}
	if _, known := rows[0]["IsRbacAuthorized"]; known {
		t.Error("a request without a token says something about roles")
	}
}

// auditColumns reads the published columns of the table, nil where the data
// is not at hand.
func auditColumns(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("../../../shared/data/log-schemas/relevant-tables.md")
	if err != nil {
		t.Log("the published table schemas are not at hand: columns are not compared")
		return nil
	}
	_, rest, _ := strings.Cut(string(data), "## AZKVAuditLogs")
	_, line, _ := strings.Cut(rest, "\n")
	line, _, _ = strings.Cut(line, "\n")
	columns := map[string]bool{}
	for _, m := range regexp.MustCompile(`([A-Za-z_0-9]+):[a-z]+`).FindAllStringSubmatch(line, -1) {
		columns[m[1]] = true
	}
	if len(columns) < 40 {
		t.Fatalf("read %d columns", len(columns))
	}
	return columns
}

func TestRequestsWithoutEvidenceAreRecordedToo(t *testing.T) {
	w := newWorld(t, func(w *world) { w.info = conninfo.Info{} })
	w.adminRaw("GET", "/keys", "")
	record := w.records()[0]
	if p := record["properties"].(map[string]any); p["isAddressAuthorized"] != false || record["callerIpAddress"] != "127.0.0.1" || p["rbacChecked"] != false || record["operationName"] != "KeyList" {
		t.Errorf("got %v", record)
	}
}

// TestKeysWithoutAnOwnerAreDestroyedAtTheNextStart plays the crashes between
// the token and the store.
func TestKeysWithoutAnOwnerAreDestroyedAtTheNextStart(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	keep := must(w.keys(admin).CreateKey(ctx, "keep", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	before := tokenFiles(t, w)
	// A crash after the key was made and before it got its owner.
	var orphan hsm.KeyID = "0123456789abcdef0123456789abcdef"
	if err := w.store().Update(ctx, func(tx keyvault.Tx) error { return tx.Doom(orphan, w.clock.Now().UnixNano()) }); err != nil {
		t.Fatal(err)
	}
	must(w.token.Generate(ctx, orphan, hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}))(t)
	w.clock.Advance(time.Second)
	w.restart()
	w.awaitTokenFiles(len(before))
	got := must(w.keys(admin).GetKey(ctx, "keep", "", nil))(t)
	if *got.Key.KID != *keep.Key.KID {
		t.Errorf("got %s", *got.Key.KID)
	}
	must(w.keys(admin).DeleteKey(ctx, "keep", nil))(t)
	must(w.keys(admin).PurgeDeletedKey(ctx, "keep", nil))(t)
	if after := tokenFiles(t, w); len(after) != len(before)-1 {
		t.Errorf("after a purge the token holds %v, before it %v", after, before)
	}
	r := w.adminRaw("POST", "/keys/bad/create", `{"kty":"EC","crv":"P-384","tags":{"x":5}}`)
	if r.status != 400 || len(tokenFiles(t, w)) != len(before)-1 {
		t.Errorf("a refused creation left a key: %v", tokenFiles(t, w))
	}
}

// awaitTokenFiles waits for the sweeper's first round.
func (w *world) awaitTokenFiles(want int) {
	w.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for len(tokenFiles(w.t, w)) != want && time.Now().Before(deadline) {
		time.Sleep(2 * time.Millisecond)
	}
	if got := tokenFiles(w.t, w); len(got) != want {
		w.t.Errorf("the token holds %d files, want %d: %v", len(got), want, got)
	}
}

func tokenFiles(t testing.TB, w *world) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

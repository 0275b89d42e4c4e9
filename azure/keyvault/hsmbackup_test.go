package keyvault_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"verdant/azure/rbac"
)

const (
	testSAS      = "sv=2021-12-02&sr=c&sp=crdw&sig=c2VjcmV0LXNpZ25hdHVyZQ%3D%3D"
	testSASValue = "c2VjcmV0LXNpZ25hdHVyZQ"
	storageToken = "an-access-token-for-storage"
)

// blobs is a storage account over loopback TLS.
type blobs struct {
	server *httptest.Server
	mu     sync.Mutex
	kept   map[string][]byte // by path
	seen   []string          // method and path of every request
	answer func(*http.Request) int
	hold   chan struct{} // requests wait until it is closed
}

func newBlobs(t testing.TB) *blobs {
	b := &blobs{kept: map[string][]byte{}}
	b.server = httptest.NewTLSServer(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *blobs) host() string { return strings.TrimPrefix(b.server.URL, "https://") }

func (b *blobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, r.Method+" "+r.URL.Path)
	refuse := func(status int, code string) {
		w.Header().Set("x-ms-error-code", code)
		http.Error(w, "do not show this to anybody", status)
	}
	sas := r.URL.Query().Get("sig") == "c2VjcmV0LXNpZ25hdHVyZQ==" && r.Header.Get("Authorization") == ""
	identity := r.URL.RawQuery == "" && r.Header.Get("Authorization") == "Bearer "+storageToken
	switch {
	case b.answer != nil && b.answer(r) != 0:
		refuse(b.answer(r), "Scripted")
	case !sas && !identity || r.Header.Get("x-ms-version") == "":
		refuse(403, "AuthenticationFailed")
	case r.Method == http.MethodPut && r.Header.Get("x-ms-blob-type") == "BlockBlob":
		b.kept[r.URL.Path] = body
		w.WriteHeader(201)
	case r.Method == http.MethodGet && b.kept[r.URL.Path] != nil:
		_, _ = w.Write(b.kept[r.URL.Path])
	case r.Method == http.MethodDelete && b.kept[r.URL.Path] != nil:
		delete(b.kept, r.URL.Path)
		w.WriteHeader(202)
	default:
		refuse(404, "BlobNotFound")
	}
}

// set changes the account between requests.
func (b *blobs) set(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

// with lets a world's HSM send to the account.
func (b *blobs) with(w *world) {
	w.cfg.BackupHosts = []string{b.host()}
	w.deps.Blobs = b.server.Client()
	// Should the HSM ever ask for another machine, the test does not.
	w.deps.Blobs.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); host != "127.0.0.1" && host != "localhost" {
			return nil, fmt.Errorf("%s is not on loopback", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	w.deps.StorageToken = func(context.Context) (string, error) { return storageToken, nil }
}

func (b *blobs) storage() string {
	return fmt.Sprintf(`{"storageResourceUri":"%s/backups","token":%q}`, b.server.URL, testSAS)
}

// job starts a job and returns its end.
func (w *world) job(method, path, body string) map[string]any {
	w.t.Helper()
	r := w.adminRaw7(method, path, body)
	if r.status != 202 {
		w.t.Fatalf("%s %s: got %d %s", method, path, r.status, r.text)
	}
	return w.ended(r)
}

func (w *world) adminRaw7(method, path, body string) reply {
	w.t.Helper()
	return w.raw(method, path+"?api-version=2025-07-01", w.mint(map[string]any{"oid": admin}), body)
}

// ended follows a job to its end.
func (w *world) ended(r reply) map[string]any {
	w.t.Helper()
	u, err := url.Parse(r.header.Get("Azure-AsyncOperation"))
	if err != nil || u.RawQuery != "" || r.body["status"] != "InProgress" || r.body["jobId"] == "" || r.body["endTime"] != nil {
		w.t.Fatalf("got %s %s", r.header.Get("Azure-AsyncOperation"), r.text)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		now := w.raw("GET", u.Path, w.mint(map[string]any{"oid": admin}), "")
		if now.status != 200 {
			w.t.Fatalf("status: got %d %s", now.status, now.text)
		}
		if now.body["status"] != "InProgress" {
			return now.body
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the job does not end: %s", now.text)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func folderOf(t testing.TB, body map[string]any) string {
	t.Helper()
	address, _ := body["azureStorageBlobContainerUri"].(string)
	if body["status"] != "Succeeded" || !strings.Contains(address, "/backups/mhsm-"+vaultName+"-") {
		t.Fatalf("got %v", body)
	}
	return address[strings.LastIndexByte(address, '/')+1:]
}

func (b *blobs) restoreBody(folder string) string {
	return fmt.Sprintf(`{"sasTokenParameters":%s,"folderToRestore":%q}`, b.storage(), folder)
}

func TestAFullBackupBringsAnHSMBack(t *testing.T) {
	ctx, b := t.Context(), newBlobs(t)
	w := newWorld(t, managedHSM, b.with)
	keys := w.keys(admin)
	want := map[string]string{}
	for i := range 30 { // over a page of the store
		k := must(keys.CreateKey(ctx, fmt.Sprintf("k%02d", i), azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Tags: map[string]*string{"n": to.Ptr("v")}}, nil))(t)
		want[fmt.Sprintf("k%02d", i)] = string(k.Key.X)
	}
	must(keys.CreateKey(ctx, "k00", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	must(keys.DeleteKey(ctx, "k29", nil))(t)
	w.assign(guid(1), "/keys/k01", rbac.ManagedHSMCryptoUser, pod).wants(t, 201, "", "")
	w.adminRaw("PUT", rolesPath+"roleDefinitions/"+guid(2), `{"properties":{"roleName":"own","permissions":[{"dataActions":["Microsoft.KeyVault/managedHsm/keys/create"]}]}}`).wants(t, 201, "", "")

	if end := w.job("POST", "/prebackup", b.storage()); end["status"] != "Succeeded" || len(b.kept) != 0 {
		t.Errorf("the check: got %v, and %d blobs are left", end, len(b.kept))
	}
	folder := folderOf(t, w.job("POST", "/backup", b.storage()))
	for path, blob := range b.kept {
		if strings.Contains(string(blob), "managedhsm") || strings.Contains(string(blob), "k01") {
			t.Errorf("%s is not sealed", path)
		}
	}
	// What came after the backup is gone after the restore, and what went is back.
	must(keys.CreateKey(ctx, "later", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	must(keys.DeleteKey(ctx, "k02", nil))(t)
	must(keys.PurgeDeletedKey(ctx, "k02", nil))(t)
	must(keys.DeleteKey(ctx, "k03", nil))(t)
	w.adminRaw("DELETE", assignmentPath("/keys/k01", guid(1)), "").wants(t, 200, "", "")
	w.adminRaw("DELETE", rolesPath+"roleDefinitions/"+guid(2), "").wants(t, 200, "", "")
	w.assign(guid(3), "/", rbac.ManagedHSMCryptoUser, guid(50)).wants(t, 201, "", "")
	if end := w.job("PUT", "/prerestore", b.restoreBody(folder)); end["status"] != "Succeeded" {
		t.Fatalf("the check: got %v", end)
	}
	if end := w.job("PUT", "/restore", b.restoreBody(folder)); end["status"] != "Succeeded" {
		t.Fatalf("got %v", end)
	}
	same := func(w *world) {
		t.Helper()
		keys := w.keys(admin)
		for name, x := range want {
			if name == "k29" || name == "k00" {
				continue
			}
			got := must(keys.GetKey(ctx, name, "", nil))(t)
			if string(got.Key.X) != x || *got.Tags["n"] != "v" {
				t.Errorf("%s is another key", name)
			}
		}
		digest := make([]byte, 32)
		must(keys.Sign(ctx, "k02", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest}, nil))(t)
		must(keys.RecoverDeletedKey(ctx, "k29", nil))(t)
		if pager := keys.NewListKeyPropertiesVersionsPager("k00", nil); len(must(pager.NextPage(ctx))(t).Value) != 2 {
			t.Error("k00 has not its two versions")
		}
		_, err := keys.GetKey(ctx, "later", "", nil)
		refused(t, err, 404, "KeyNotFound")
		must(w.keys(pod).GetKey(ctx, "k01", "", nil))(t)
		w.adminRaw("GET", assignmentPath("/", guid(3)), "").wants(t, 404, "RoleAssignmentNotFound", "")
		w.adminRaw("GET", rolesPath+"roleDefinitions/"+guid(2), "").wants(t, 200, "", "")
	}
	same(w)
	w.restart()
	if owned := w.tokenKeys(); owned != 30+1+2 { // keys and versions, the root, the key of values
		t.Errorf("the token holds %d keys", owned)
	}

	domain := w.download()
	stranger := newWorld(t, managedHSM, b.with)
	if end := stranger.job("PUT", "/restore", b.restoreBody(folder)); end["status"] != "Failed" || !strings.Contains(fmt.Sprint(end["error"]), "BadBackup") {
		t.Errorf("an HSM of another security domain: got %v", end)
	}
	must(stranger.keys(admin).CreateKey(ctx, "still-works", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	fresh := newWorld(t, newHSM, b.with)
	fresh.adminRaw("POST", "/securitydomain/upload", reseal(t, domain, holders()[:2], fresh.transfer())).wants(t, 202, "", "")
	if end := fresh.job("PUT", "/restore", b.restoreBody(folder)); end["status"] != "Succeeded" {
		t.Fatalf("a new HSM of the same security domain: got %v", end)
	}
	same(fresh)
}

func TestOneKeyComesBackFromAFullBackup(t *testing.T) {
	ctx, b := t.Context(), newBlobs(t)
	w := newWorld(t, managedHSM, b.with)
	keys := w.keys(admin)
	for range 2 {
		must(keys.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	}
	identity := fmt.Sprintf(`{"storageResourceUri":"%s/backups","useManagedIdentity":true}`, b.server.URL)
	folder := folderOf(t, w.job("POST", "/backup", identity))
	body := fmt.Sprintf(`{"sasTokenParameters":%s,"folder":%q}`, identity, folder)
	if end := w.job("PUT", "/keys/k/restore", body); end["statusDetails"] != "Number of successful key versions restored: 0, Number of key versions could not overwrite: 2" {
		t.Errorf("got %v", end)
	}
	must(keys.DeleteKey(ctx, "k", nil))(t)
	if end := w.job("PUT", "/keys/k/restore", body); end["status"] != "Failed" || !strings.Contains(fmt.Sprint(end["error"]), "ObjectIsDeletedButRecoverable") {
		t.Errorf("got %v", end)
	}
	must(keys.PurgeDeletedKey(ctx, "k", nil))(t)
	newer := must(keys.CreateKey(ctx, "K", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	if end := w.job("PUT", "/keys/k/restore", body); end["statusDetails"] != "Number of successful key versions restored: 2, Number of key versions could not overwrite: 0" {
		t.Errorf("got %v", end)
	}
	if now := must(keys.GetKey(ctx, "k", "", nil))(t); now.Key.KID.Version() != newer.Key.KID.Version() {
		t.Error("a restore changed the current version")
	}
	if end := w.job("PUT", "/keys/other/restore", body); end["status"] != "Failed" || !strings.Contains(fmt.Sprint(end["error"]), "KeyNotFound") {
		t.Errorf("got %v", end)
	}
	// Whoever may restore one key may not restore another.
	w.assign(guid(1), "/keys/k", rbac.ManagedHSMRestore, pod).wants(t, 201, "", "")
	token := w.mint(map[string]any{"oid": pod})
	w.raw("PUT", "/keys/other/restore?api-version=7.4", token, body).wants(t, 403, "Forbidden", "ForbiddenByRbac")
	if r := w.raw("PUT", "/keys/k/restore?api-version=7.4", token, body); r.status != 202 {
		t.Errorf("got %d %s", r.status, r.text)
	} else {
		w.ended(r)
	}
}

// The attack: whoever may start a backup chooses where the HSM sends to.
func TestAnHSMSendsToTheStorageOfItsConfigurationOnly(t *testing.T) {
	b, inside := newBlobs(t), newBlobs(t)
	w := newWorld(t, managedHSM, b.with)
	_, port, _ := net.SplitHostPort(b.host())
	for address, inner := range map[string]string{
		inside.server.URL + "/backups":                               "StorageNotAllowed",
		"https://localhost:" + port + "/backups":                     "StorageNotAllowed",
		"https://127.0.0.1/backups":                                  "StorageNotAllowed",
		"https://169.254.169.254/metadata":                           "StorageNotAllowed",
		"https://" + b.host() + "." + inside.host() + "/backups":     "",
		"http://" + b.host() + "/backups":                            "",
		"https://" + b.host() + "@" + inside.host() + "/backups":     "",
		"https://" + b.host() + "/backups?x=y":                       "",
		"https://" + b.host() + "/backups#x":                         "",
		"https://" + b.host() + "/":                                  "",
		"https://" + b.host() + "/a/../../b":                         "",
		"https://" + b.host() + "/backups/more":                      "",
		"https://" + b.host() + "/back%2fups":                        "",
		"https://" + b.host() + "/BACKUPS":                           "",
		"https:" + b.host() + "/backups":                             "",
		"file:///etc/passwd":                                         "",
		"//" + b.host() + "/backups":                                 "",
		"https://" + b.host() + "\\@" + inside.host() + "/backups":   "",
		"https://" + b.host() + "/backups\r\nHost: " + inside.host(): "",
		"": "",
	} {
		body, _ := json.Marshal(map[string]any{"storageResourceUri": address, "token": testSAS})
		r := w.adminRaw("POST", "/backup", string(body))
		if _, got := r.code(); r.status != 400 && (r.status != 403 || inner == "") || got != inner {
			t.Errorf("%q: got %d %s", address, r.status, r.text)
		}
	}
	for name, body := range map[string]string{
		"no token":           fmt.Sprintf(`{"storageResourceUri":"%s/backups"}`, b.server.URL),
		"no signature":       fmt.Sprintf(`{"storageResourceUri":"%s/backups","token":"sv=1"}`, b.server.URL),
		"token and identity": fmt.Sprintf(`{"storageResourceUri":"%s/backups","token":%q,"useManagedIdentity":true}`, b.server.URL, testSAS),
	} {
		w.adminRaw("POST", "/backup", body).wants(t, 400, "BadParameter", "")
		if name == "" {
			t.Fail()
		}
	}
	for _, folder := range []string{"", "..", "../other", "a/b", "a?b", "a b", "a%2fb"} {
		w.adminRaw("PUT", "/restore", b.restoreBody(folder)).wants(t, 400, "BadParameter", "")
	}
	if len(inside.seen)+len(b.seen) > 0 {
		t.Errorf("somebody was asked: %v %v", inside.seen, b.seen)
	}
	// A redirect is an error, and is not followed with the signature.
	b.set(func() { b.answer = func(*http.Request) int { return 307 } })
	b.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.server.URL+r.URL.Path+"?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
	})
	if end := w.job("POST", "/backup", b.storage()); end["status"] != "Failed" {
		t.Errorf("got %v", end)
	}
	if len(inside.seen) > 0 {
		t.Errorf("a redirect was followed: %v", inside.seen)
	}

	closed := newWorld(t, managedHSM) // the default sends nowhere
	closed.adminRaw("POST", "/backup", b.storage()).wants(t, 403, "Forbidden", "StorageNotAllowed")
}

func TestTheSignatureOfAStorageIsToldToNobody(t *testing.T) {
	b := newBlobs(t)
	w := newWorld(t, managedHSM, b.with)
	var texts []string
	b.set(func() { b.answer = func(*http.Request) int { return 403 } })
	texts = append(texts, fmt.Sprint(w.job("POST", "/backup", b.storage())))
	b.server.Close() // nobody answers
	r := w.adminRaw("POST", "/backup", b.storage())
	texts = append(texts, r.text, fmt.Sprint(w.ended(r)))
	texts = append(texts, w.adminRaw("POST", "/backup", strings.Replace(b.storage(), "sv=", "%zz", 1)).text)
	for _, record := range w.records() {
		texts = append(texts, fmt.Sprint(record))
	}
	entries, err := w.store().List(t.Context(), "hsmjob", 0, "", 100)
	if err != nil || len(entries) != 2 {
		t.Fatalf("got %d jobs, %v", len(entries), err)
	}
	for _, e := range entries {
		texts = append(texts, string(e.Object.Meta))
	}
	for _, text := range texts {
		if strings.Contains(text, testSASValue) || strings.Contains(text, "sig=") || strings.Contains(text, "do not show") {
			t.Errorf("got %s", text)
		}
	}
}

func TestABackupThatWasChangedIsRefusedAndChangesNothing(t *testing.T) {
	ctx, b := t.Context(), newBlobs(t)
	w := newWorld(t, managedHSM, b.with)
	must(w.keys(admin).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	first := folderOf(t, w.job("POST", "/backup", b.storage()))
	must(w.keys(admin).CreateKey(ctx, "k2", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	w.clock.Advance(time.Second)
	second := folderOf(t, w.job("POST", "/backup", b.storage()))
	before := w.tokenKeys()
	path := func(folder, blob string) string { return "/backups/" + folder + "/" + blob }
	whole := map[string][]byte{}
	for p, blob := range b.kept {
		whole[p] = slices.Clone(blob)
	}
	for name, change := range map[string]func(){
		"a part of another backup":    func() { b.kept[path(second, "part-000001")] = whole[path(first, "part-000001")] },
		"a bit of a part":             func() { b.kept[path(second, "part-000001")][40] ^= 1 },
		"a bit of the manifest":       func() { b.kept[path(second, "manifest")][40] ^= 1 },
		"a part as the manifest":      func() { b.kept[path(second, "manifest")] = whole[path(second, "part-000001")] },
		"an empty manifest":           func() { b.kept[path(second, "manifest")] = []byte{} },
		"no part":                     func() { delete(b.kept, path(second, "part-000001")) },
		"no manifest (not finished)":  func() { delete(b.kept, path(second, "manifest")) },
		"the manifest of another one": func() { b.kept[path(second, "manifest")] = whole[path(first, "manifest")] },
	} {
		b.set(change)
		for _, operation := range []string{"/prerestore", "/restore"} {
			if end := w.job("PUT", operation, b.restoreBody(second)); end["status"] != "Failed" {
				t.Errorf("%s, %s: got %v", operation, name, end)
			}
		}
		b.set(func() {
			for p, blob := range whole {
				b.kept[p] = slices.Clone(blob)
			}
		})
	}
	must(w.keys(admin).GetKey(ctx, "k2", "", nil))(t)
	if after := w.tokenKeys(); after != before {
		t.Errorf("the token holds %d keys, was %d", after, before)
	}
	if end := w.job("PUT", "/restore", b.restoreBody(second)); end["status"] != "Succeeded" {
		t.Errorf("unchanged: got %v", end)
	}
}

func TestAJobSurvivesARestartOfItsServer(t *testing.T) {
	ctx, b := t.Context(), newBlobs(t)
	w := newWorld(t, managedHSM, b.with)
	must(w.keys(admin).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	hold := make(chan struct{})
	b.set(func() { b.hold = hold })
	r := w.adminRaw("POST", "/backup", b.storage())
	if r.status != 202 {
		t.Fatalf("got %d %s", r.status, r.text)
	}
	w.adminRaw("POST", "/backup", b.storage()).wants(t, 409, "Conflict", "OperationInProgress")
	w.restart()
	id := r.body["jobId"].(string)
	if now := w.adminRaw("GET", "/backup/"+id+"/pending", ""); now.body["status"] != "InProgress" {
		t.Errorf("after a restart: got %d %s", now.status, now.text)
	}
	w.adminRaw("GET", "/restore/"+id+"/pending", "").wants(t, 404, "JobNotFound", "") // it is none
	b.set(func() { b.hold = nil })
	close(hold)
	folder := folderOf(t, w.ended(r))

	// While the HSM is restored it does nothing else, and afterwards it does.
	hold = make(chan struct{})
	b.set(func() { b.hold = hold })
	r = w.adminRaw("PUT", "/restore", b.restoreBody(folder))
	w.adminRaw("GET", "/keys", "").wants(t, 409, "Conflict", "HsmInRestoreMode")
	w.adminRaw("PUT", "/keys/k/create", `{"kty":"EC"}`)
	w.restart()
	w.adminRaw("GET", "/keys", "").wants(t, 409, "Conflict", "HsmInRestoreMode")
	b.set(func() { b.hold = nil })
	close(hold)
	if end := w.ended(r); end["status"] != "Succeeded" {
		t.Errorf("got %v", end)
	}
	must(w.keys(admin).GetKey(ctx, "k", "", nil))(t)
	// A restore that fails leaves restore mode too.
	if end := w.job("PUT", "/restore", b.restoreBody("mhsm-none")); end["status"] != "Failed" || !strings.Contains(fmt.Sprint(end["error"]), "BackupNotFound") {
		t.Errorf("got %v", end)
	}
	w.adminRaw("GET", "/keys", "").wants(t, 200, "", "")
}

func TestAStorageThatStumblesIsAskedAgain(t *testing.T) {
	b := newBlobs(t)
	w := newWorld(t, managedHSM, b.with)
	left := 2
	b.set(func() {
		b.answer = func(*http.Request) int {
			if left > 0 && len(b.seen)%2 == 1 {
				left--
				return 503
			}
			return 0
		}
	})
	folderOf(t, w.job("POST", "/backup", b.storage()))
}

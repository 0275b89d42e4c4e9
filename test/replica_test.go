package test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"verdant/azure/rbac"
	"verdant/internal/mariadbtest"
)

const (
	replicaTenant = "11111111-1111-1111-1111-111111111111"
	replicaUser   = "aaaaaaaa-0000-0000-0000-000000000001"
	replicaVault  = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv1"
	replicaHost   = "kv1.vault.azure.net"
)

// replicaBed is what replicas need besides themselves: a database, an authority
// of tokens, a file of roles.
type replicaBed struct {
	t         *testing.T
	dir       string
	binary    string
	server    *mariadbtest.Server
	authority *httptest.Server
	key       *rsa.PrivateKey
}

func newReplicaBed(t *testing.T) *replicaBed {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	b := &replicaBed{t: t, dir: t.TempDir(), binary: path, server: mariadbtest.Start(t)}
	b.server.Database("vaults")
	if b.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	b.authority = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/"+replicaTenant+"/discovery/v2.0/keys" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &b.key.PublicKey, KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	}))
	t.Cleanup(b.authority.Close)
	root := make([]byte, 32)
	_, _ = rand.Read(root)
	b.write("root.key", root)
	b.write("authority.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.authority.Certificate().Raw}))
	b.roles(true)
	return b
}

func (b *replicaBed) write(name string, data []byte) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// roles gives the user the vault, or takes it away.
func (b *replicaBed) roles(granted bool) {
	list := []map[string]string{}
	if granted {
		list = append(list, map[string]string{"id": replicaVault + "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-000000000002",
			"roleDefinitionId": rbac.KeyVaultAdministrator, "principalId": replicaUser, "scope": replicaVault})
	}
	text, _ := json.Marshal(list)
	if err := os.Rename(b.write("roles.new", text), filepath.Join(b.dir, "roles.json")); err != nil {
		b.t.Fatal(err)
	}
}

func (b *replicaBed) config(name string) string {
	c := map[string]any{
		"replica": name, "dataDir": name, "rootKey": "root.key", "listen": "127.0.0.1:0", "privateEndpoint": replicaVault + "-pe",
		"vault":     map[string]any{"name": "kv1", "resourceId": replicaVault, "location": "westeurope", "tenantId": replicaTenant},
		"authority": b.authority.URL, "authorityRoots": "authority.pem", "roleAssignments": "roles.json",
		"database": map[string]any{"addrs": []string{"/nowhere/s", b.server.Socket}, "name": "vaults", "user": mariadbtest.User},
	}
	text, _ := json.Marshal(c)
	return b.write(name+".json", text)
}

// runningReplica is a process that serves the vault.
type runningReplica struct {
	cmd    *exec.Cmd
	client *http.Client
	bed    *replicaBed
}

func (b *replicaBed) start(name string) *runningReplica {
	b.t.Helper()
	cmd := exec.Command(b.binary, "vault", "serve", b.config(name))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "serves kv1 on ")
	if err != nil || !ok {
		b.t.Fatalf("replica %s says %q, %v", name, line, err)
	}
	ca, err := os.ReadFile(filepath.Join(b.dir, name, "ca.pem"))
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &runningReplica{cmd: cmd, bed: b, client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}}}}
}

func (r *runningReplica) ask(method, path, body string) (int, map[string]any) {
	t := r.bed.t
	t.Helper()
	req, err := http.NewRequest(method, "https://"+replicaHost+path+"?api-version=7.6", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.bed.token())
	req.Header.Set("Content-Type", "application/json")
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	_ = json.Unmarshal(text, &out)
	return res.StatusCode, out
}

func (b *replicaBed) token() string {
	b.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: b.key}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		b.t.Fatal(err)
	}
	now := time.Now().Unix()
	claims, _ := json.Marshal(map[string]any{"iss": b.authority.URL + "/" + replicaTenant + "/", "aud": "https://vault.azure.net", "tid": replicaTenant, "oid": replicaUser,
		"appid": replicaUser, "idtyp": "app", "nbf": now - 60, "exp": now + 3600})
	jws, err := signer.Sign(claims)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func TestVaultServeRunsReplicasOfOneVault(t *testing.T) {
	bed := newReplicaBed(t)
	a, b := bed.start("a"), bed.start("b")
	expect := func(r *runningReplica, method, path, body string, want int) map[string]any {
		t.Helper()
		got, out := r.ask(method, path, body)
		if got != want {
			t.Errorf("%s %s: got %d %v, want %d", method, path, got, out, want)
		}
		return out
	}
	expect(a, "PUT", "/secrets/s", `{"value":"one"}`, 200)
	if out := expect(b, "GET", "/secrets/s", "", 200); out["value"] != "one" {
		t.Errorf("b answers %v", out)
	}
	expect(b, "POST", "/keys/k/create", `{"kty":"EC-HSM"}`, 200)
	expect(a, "POST", "/keys/k/sign", `{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, 200)

	// A second later, each knows what the other did, and whose role is gone.
	expect(a, "PUT", "/secrets/s", `{"value":"two"}`, 200)
	expect(a, "DELETE", "/keys/k", "", 200)
	time.Sleep(time.Second)
	if out := expect(b, "GET", "/secrets/s", "", 200); out["value"] != "two" {
		t.Errorf("a second after the change, b answers %v", out)
	}
	expect(b, "GET", "/keys/k", "", 404)
	bed.roles(false)
	time.Sleep(time.Second)
	for _, r := range []*runningReplica{a, b} {
		expect(r, "GET", "/secrets/s", "", 403)
	}
	bed.roles(true)

	// One dies; what it acknowledged is there.
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
	time.Sleep(time.Second) // for the role
	expect(b, "GET", "/secrets/s", "", 200)
	expect(b, "GET", "/deletedkeys/k", "", 200)

	verify := func() (string, error) {
		out, err := exec.Command(bed.binary, "audit", "verify", "--replica", bed.config("a"), "--replica", bed.config("b")).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err == nil || !strings.Contains(out, "kv1/b is running") {
		t.Errorf("while b runs: %v\n%s", err, out)
	}
	_ = b.cmd.Process.Signal(os.Interrupt)
	if err := b.cmd.Wait(); err != nil {
		t.Errorf("b, interrupted: %v", err)
	}
	out, err := verify()
	if err != nil || !strings.Contains(out, "kv1/a: intact, records 1 to 5,") || !strings.Contains(out, "kv1/b: intact, records 1 to") {
		t.Errorf("%v\n%s", err, out)
	}
	segments, _ := filepath.Glob(filepath.Join(bed.dir, "b", "audit", "*.journal"))
	damage(t, segments[0])
	if out, err := verify(); err == nil || !strings.Contains(out, "kv1/a: intact") || !strings.Contains(out, "kv1/b: broken in segment") {
		t.Errorf("after damage: %v\n%s", err, out)
	}
}

// damage changes one byte in the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[300] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

package test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"verdant/estate"
)

// TestKillLosesNothingAcknowledged kills the supervisor, and sometimes a pod,
// with SIGKILL while certificates are being issued, and then looks for every
// certificate that was acknowledged and for the signature of each in the audit
// log.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	rounds := 2
	if os.Getenv("VERDANT_FULL") != "" {
		rounds = 10
	}
	e := startEstate(t, "auto")
	record := filepath.Join(t.TempDir(), "acknowledged")
	for round := range rounds {
		status, err := e.status()
		if err != nil {
			t.Fatal(err)
		}
		bench := exec.Command(e.binary, "bench", "issue", "--data-dir", e.dataDir, "--seconds", "20", "--record", record)
		if err := bench.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(lines(t, record))
		eventually(t, 20*time.Second, "the load to begin", func() (bool, string) {
			n := len(lines(t, record))
			return n > before+50, fmt.Sprintf("%d acknowledged", n-before)
		})
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		kill(t, status, round)
		_ = bench.Process.Kill()
		_ = bench.Wait()
		for _, pid := range status.pids() {
			waitGone(t, pid)
		}
		e.up()
		if out, err := e.try("cert", "issue", "--file", examples(t)["vaccination"]); err != nil {
			t.Fatalf("round %d: after the restart nothing can be issued: %v %s", round, err, out)
		}
	}
	acknowledged := lines(t, record)
	missing := e.missing(t, acknowledged)
	if len(missing) > 0 {
		t.Errorf("%d of %d acknowledged certificates are lost, for example %s", len(missing), len(acknowledged), missing[0])
	}
	eventually(t, 30*time.Second, "a signature in the audit log for every certificate", func() (bool, string) {
		n := e.signatures(t)
		return n >= len(acknowledged), fmt.Sprintf("%d certificates, %d signatures", len(acknowledged), n)
	})
	t.Logf("%d rounds, %d acknowledged certificates, none lost", rounds, len(acknowledged))
}

// kill ends the supervisor; in every third round a pod goes first.
func kill(t *testing.T, status estateStatus, round int) {
	t.Helper()
	if round%3 == 2 {
		for _, p := range status.Pods {
			if p.Name == "dgca-issuance-service" {
				_ = syscall.Kill(p.PID, syscall.SIGKILL)
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
	target := status.PID
	if round%2 == 1 {
		target = status.Parent // `verdant up` itself: the supervisor dies with it
	}
	if err := syscall.Kill(target, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(string(raw), "\n")
	return all[:len(all)-1] // what follows the last newline was not acknowledged whole
}

// missing asks the public issuance service, which citizens' wallets ask, for
// each identifier.
func (e *estateUnderTest) missing(t *testing.T, uvcis []string) []string {
	t.Helper()
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := estate.TrustedRoots(e.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	ingress := status.address(estate.IngressAddress)
	web := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", ingress)
		},
	}}
	host := estate.NamesFor(estate.DefaultVariables()).ServiceHost("dgca-issuance-service-public", estate.IE)
	var mu sync.Mutex
	var missing []string
	work := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for uvci := range work {
				hash := sha256.Sum256([]byte(uvci))
				url := "https://" + host + "/dgci/" + base64.RawURLEncoding.EncodeToString(hash[:])
				resp, err := web.Head(url)
				if err == nil {
					_ = resp.Body.Close()
				}
				if err != nil || resp.StatusCode != http.StatusNoContent {
					mu.Lock()
					missing = append(missing, fmt.Sprintf("%s (%v)", uvci, err))
					mu.Unlock()
				}
			}
		})
	}
	for _, uvci := range uvcis {
		work <- uvci
	}
	close(work)
	wg.Wait()
	return missing
}

// TestBadInputIsRefusedInWords calls the binary wrongly in every way that a
// person might.
func TestBadInputIsRefusedInWords(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	e := &estateUnderTest{t: t, binary: path}
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	vars := write("terraform.tfvars", "prefix = \"a\"\nprefiks = \"b\"\n")
	newer := filepath.Dir(write("newer/estate.json", `{"version": 99}`))
	other := filepath.Dir(write("other/thesis.tex", "x"))
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"frobnicate"}, 2, []string{"unknown command"}},
		{[]string{"up", "--nonsense"}, 2, []string{"--nonsense", "--help"}},
		{[]string{"up", "--network", "carrier-pigeon"}, 2, []string{"auto, isolated or loopback"}},
		{[]string{"up", "--ingress-addr", "here"}, 2, []string{"--ingress-addr", "127.0.0.1:8443"}},
		{[]string{"up", "--var-file", vars, "--data-dir", filepath.Join(dir, "x")}, 2, []string{vars + ":2", "prefiks", "known are", "administrator_group_oid"}},
		{[]string{"up", "--data-dir", newer}, 1, []string{"newer version"}},
		{[]string{"up", "--data-dir", other}, 1, []string{"holds no estate.json"}},
		{[]string{"status", "--data-dir", filepath.Join(dir, "none")}, 1, []string{"verdant up"}},
		{[]string{"cert", "issue"}, 2, []string{"--file"}},
		{[]string{"cert", "issue", "--file", vars, "--out", "cert.doc"}, 2, []string{".png"}},
		{[]string{"cert", "verify"}, 2, []string{"HC1"}},
		{[]string{"cert", "decode", "nothing-there"}, 1, []string{"neither an HC1: text nor a file"}},
		{[]string{"cert", "conformance", other}, 1, []string{"no test data"}},
		{[]string{"exec", "pod"}, 2, []string{"exec POD -- CMD"}},
		{[]string{"rest", "GET", "http://x"}, 2, []string{"https"}},
		{[]string{"query", "T | count"}, 2, []string{"-w"}},
		{[]string{"bench", "everything"}, 2, []string{"no benchmark", "keyvault"}},
	} {
		stdout, stderr, err := e.plain(c.args...)
		out := stdout + stderr
		if exitCode(err) != c.code {
			t.Errorf("verdant %v: got exit %d, want %d: %s", c.args, exitCode(err), c.code, out)
		}
		for _, part := range c.want {
			if !strings.Contains(out, part) {
				t.Errorf("verdant %v: %q lacks %q", c.args, out, part)
			}
		}
	}
}

// TestLoopback runs the whole way of a certificate on the driver that works
// everywhere.
func TestLoopback(t *testing.T) {
	e := startEstate(t, "loopback")
	hc1 := e.issue(t, examples(t)["recovery"])
	if out := e.must("cert", "verify", hc1); !strings.HasPrefix(out, "VALID: recovery") {
		t.Errorf("got %q", out)
	}
	status, err := e.status()
	if err != nil || !strings.Contains(status.Network, "not enforced") {
		t.Errorf("the driver does not say what it is: %q, %v", status.Network, err)
	}
	if out, err := e.try("up", "--network", "loopback"); exitCode(err) != 1 || !strings.Contains(out, "in use") {
		t.Errorf("a second up on the same directory: exit %d, %s", exitCode(err), out)
	}
	out, err := e.podRequest("dgca-verifier-service", "POST", "https://eudcc-ie-kv-g1.vault.azure.net/keys/dsc-key-store/sign?api-version=7.4", digestBody)
	if err != nil || !strings.Contains(out, "ForbiddenByRbac") {
		t.Errorf("the verifier signs: %v %s", err, out)
	}
}

// TestAnOrdinaryUser runs the demo without root's privileges.
func TestAnOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("this test run is an ordinary user's already")
	}
	full(t)
	setpriv := need(t, "setpriv")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	for dir := home; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", path, "demo")
	cmd.Dir, cmd.Env = home, []string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("demo as an ordinary user: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "rootless") && !strings.Contains(string(out), "loopback") {
		t.Errorf("the demo does not say which driver it used: %s", out)
	}
	if entries, _ := os.ReadDir(home); len(entries) > 0 {
		t.Errorf("the demo left %v behind", entries)
	}
}

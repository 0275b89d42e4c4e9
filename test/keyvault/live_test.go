//go:build linux

// Package keyvault_test runs the live tests that Microsoft ships inside the Go
// modules azkeys, azsecrets and azcertificates, unpatched, against this
// repository's vault and managed HSM. With VERDANT_FULL=1 the test binaries are
// built from the module cache and run beside the server in a network and mount
// namespace of their own: names resolve by a hosts file, and there is no
// address but loopback.
package keyvault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside is set for the copy of the test that runs in the namespace; it names
// the directory with the test binaries.
const inside = "VERDANT_LIVE_SUITES"

const sdk = "github.com/Azure/azure-sdk-for-go/sdk/"

// suites are the packages whose tests are run.
var suites = []string{"security/keyvault/azkeys", "security/keyvault/azsecrets", "keyvault/azcertificates"}

func TestTheClientsOwnLiveTestsPass(t *testing.T) {
	if dir := os.Getenv(inside); dir != "" {
		runSuites(t, dir)
		return
	}
	if os.Getenv("VERDANT_FULL") == "" {
		t.Skip("needs the clients' modules with their tests; set VERDANT_FULL=1")
	}
	dir := t.TempDir()
	buildSuites(t, dir)
	inNamespace(t, inside+"="+dir)
}

// inNamespace runs the test again, with the variables set, in network and mount
// namespaces of its own.
func inNamespace(t *testing.T, env ...string) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	top, _, _ := strings.Cut(t.Name(), "/")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^"+top+"$", "-test.v")
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("this machine makes no namespaces: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// buildSuites compiles the clients' tests. A copy of go.mod takes what their
// tests need besides, so that ours stays as it is.
func buildSuites(t *testing.T, dir string) {
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, suite := range suites {
		goTool(t, "test", "-mod=mod", "-modfile="+filepath.Join(dir, "go.mod"), "-c", "-o", filepath.Join(dir, filepath.Base(suite)), sdk+suite)
		home := goTool(t, "list", "-mod=mod", "-modfile="+filepath.Join(dir, "go.mod"), "-f", "{{.Dir}}", sdk+suite)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(suite)+".home"), []byte(home), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// runSuites is what happens in the namespace.
func runSuites(t *testing.T, dir string) {
	loopbackUp(t)
	resolve(t, dir, vaultHost, hsmHost, loginHost, attestationHost)
	roots := startPlatform(t, dir)
	env := append(os.Environ(),
		"AZURE_RECORD_MODE=live",
		"AZURE_KEYVAULT_URL=https://"+vaultHost+":"+port+"/",
		"AZURE_MANAGEDHSM_URL=https://"+hsmHost+":"+port+"/",
		"AZURE_KEYVAULT_ATTESTATION_URL=https://"+attestationHost+":"+port,
		"IDENTITY_ENDPOINT=http://127.0.0.1:"+identityPort+"/msi/token", "IDENTITY_HEADER=any",
		"AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential",
		"AZCERTIFICATES_TENANT_ID=adfs", "AZCERTIFICATES_CLIENT_ID="+principal, "AZCERTIFICATES_CLIENT_SECRET=any",
		"AZURE_AUTHORITY_HOST=https://"+loginHost+":"+port+"/",
		"SSL_CERT_FILE="+roots, "HTTPS_PROXY=", "HTTP_PROXY=")
	excluded := exclusions(t)
	passed, failed := 0, 0
	for _, suite := range suites {
		name := filepath.Base(suite)
		home, err := os.ReadFile(filepath.Join(dir, name+".home"))
		if err != nil {
			t.Fatal(err)
		}
		slow := slowOnes(excluded, name)
		cmd := exec.Command(filepath.Join(dir, name), "-test.v", "-test.timeout=5m", "-test.skip="+strings.Join(slow, "|"))
		cmd.Dir, cmd.Env = string(home), env
		out, _ := cmd.CombinedOutput() // its verdict is in its lines
		good, bad := verdicts(string(out))
		bad = append(bad, slow...)
		passed += len(good)
		failed += len(bad)
		fmt.Printf("%s: %d passed, %d failed\n", name, len(good), len(bad))
		if len(good)+len(bad) == 0 {
			t.Errorf("%s ran no test:\n%s", name, out)
		}
		for _, test := range bad {
			if why, known := excluded[name+"."+test]; known {
				fmt.Printf("%s.%s fails as expected: %s\n", name, test, why)
			} else {
				t.Errorf("%s.%s failed:\n%s", name, test, out)
			}
		}
		for _, test := range good {
			if _, known := excluded[name+"."+test]; known {
				t.Errorf("%s.%s passes now: take it out of exclusions.txt", name, test)
			}
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
}

var verdict = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL): (\S+)`)

// verdicts lists the tests without sub-tests that passed and that failed.
func verdicts(out string) (passed, failed []string) {
	found := verdict.FindAllStringSubmatch(out, -1)
	for _, m := range found {
		parent := slices.ContainsFunc(found, func(other []string) bool { return strings.HasPrefix(other[2], m[2]+"/") })
		switch {
		case parent:
		case m[1] == "PASS":
			passed = append(passed, m[2])
		default:
			failed = append(failed, m[2])
		}
	}
	return passed, failed
}

// slowOnes lists the known failures of a suite that would take minutes to
// fail: they are not run, and count as failed. These are whole tests, without
// their sub-tests.
func slowOnes(excluded map[string]string, suite string) []string {
	var out []string
	for test, why := range excluded {
		if name, ok := strings.CutPrefix(test, suite+"."); ok && strings.HasPrefix(why, "slow: ") {
			out = append(out, name)
		}
	}
	return out
}

// exclusions reads the tests that are known to fail, each with its reason.
func exclusions(t *testing.T) map[string]string {
	data, err := os.ReadFile("exclusions.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, why, ok := strings.Cut(line, " ")
		if !ok {
			t.Fatalf("exclusions.txt: %q gives no reason", line)
		}
		out[name] = why
	}
	return out
}

// resolve makes the names loopback's in this mount namespace.
func resolve(t *testing.T, dir string, names ...string) {
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+strings.Join(names, " ")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
}

// loopbackUp brings the one interface of this namespace up, with the addresses
// besides its own.
func loopbackUp(t *testing.T, addresses ...string) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	if all, err := net.Interfaces(); err != nil || len(all) != 1 {
		t.Fatalf("got interfaces %v, %v; want only lo: this is no namespace of its own", all, err)
	}
}

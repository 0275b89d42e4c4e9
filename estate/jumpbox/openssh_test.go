package jumpbox

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// opensshClient is what OpenSSH needs to reach a jump-box.
type opensshClient struct{ dir, config string }

// newOpenSSHClient makes one for b, whose certificate and known host come from
// the authorities of ca.
func newOpenSSHClient(t *testing.T, b *box, viaAgent bool, ca *box) opensshClient {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("OpenSSH is not installed")
	}
	dir, err := os.MkdirTemp("", "jb") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(id.PublicKey()))
	if err != nil {
		t.Fatal(err)
	}
	issued, err := IssueCertificate(ca.userCA, key, Principal{alice, aliceID}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ParseCertificate(string(ssh.MarshalAuthorizedKey(issued)))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	section := ClientConfig{Host: "box", Address: b.address, User: alice, KnownHosts: file("known hosts 100%")}
	write("known hosts 100%", ca.KnownHosts(b.address))
	if viaAgent {
		section.Agent = file("agent")
		ln, err := net.Listen("unix", section.Agent)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- id.ServeAgent(ctx, ln, cert) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("agent: %v", err)
			}
		})
	} else {
		private, err := id.PEM()
		if err != nil {
			t.Fatal(err)
		}
		section.Key, section.Certificate = file("id"), file("id-cert.pub")
		write("id", string(private))
		write("id-cert.pub", string(ssh.MarshalAuthorizedKey(cert)))
	}
	text, err := section.Text()
	if err != nil {
		t.Fatal(err)
	}
	write("config", text)
	return opensshClient{dir, file("config")}
}

func (c opensshClient) command(t *testing.T, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, "ssh", append([]string{"-F", c.config}, args...)...)
}

func TestOpenSSHCarriesStandardStreams(t *testing.T) {
	for _, viaAgent := range []bool{false, true} {
		b := newBox(t, nil).serve(t)
		cmd := newOpenSSHClient(t, b, viaAgent, b).command(t, "-W", vault+":443", "box")
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got, err := ask(struct {
			io.Reader
			io.Writer
		}{out, in}, "hello")
		_ = in.Close()
		if got != "HELLO" || err != nil {
			t.Errorf("agent %v: got %q, %v", viaAgent, got, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("agent %v: ssh: %v", viaAgent, err)
		}
		if closed := await(t, b.records, "channelClose"); closed["bytesSent"] != int64(5) {
			t.Errorf("agent %v: recorded %v", viaAgent, closed)
		}
	}
}

func TestOpenSSHForwardsALocalSocket(t *testing.T) {
	b := newBox(t, nil).serve(t)
	c := newOpenSSHClient(t, b, false, b)
	local := filepath.Join(c.dir, "local")
	cmd := c.command(t, "-N", "-L", local+":"+vault+":3306", "box")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	var err error
	for range 10000 {
		if conn, err = net.Dial("unix", local); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := ask(conn, "select 1"); got != "SELECT 1" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	if out := await(t, b.records, "signOut"); out["result"] != endedByClient {
		t.Errorf("recorded %v", out)
	}
}

func TestOpenSSHSaysWhyItWasRefused(t *testing.T) {
	b, other := newBox(t, nil).serve(t), newBox(t, nil)
	mine := newOpenSSHClient(t, b, false, b)
	other.hostCA = b.hostCA // so that only the user authority differs
	foreign := newOpenSSHClient(t, b, false, other)
	strange := newBox(t, nil) // another estate at the address that we know
	strange.userCA = b.userCA
	impostor := newOpenSSHClient(t, b, false, strange)
	for _, tt := range []struct {
		name string
		c    opensshClient
		args []string
		says string
	}{
		{"a session", mine, []string{"-o", "SessionType=default", "box", "id"}, "only carries connections"},
		{"a port that is not allowed", mine, []string{"-W", vault + ":22", "box"}, "ports 443, 3306, 8080"},
		{"a remote forward", mine, []string{"-N", "-R", "8099:localhost:1", "box"}, "remote port forwarding failed"},
		{"a certificate of another estate", foreign, []string{"-N", "box"}, "did not issue your certificate"},
		{"a server of another estate", impostor, []string{"-N", "box"}, "Host key verification failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := tt.c.command(t, tt.args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), tt.says) {
				t.Errorf("got %v:\n%s\nwant %q in it", err, out, tt.says)
			}
		})
	}
}

func TestPathsThatSSHConfigCannotName(t *testing.T) {
	for _, path := range []string{"/tmp/a\"b", "/tmp/$HOME", "/tmp/a\nProxyCommand x", `/tmp/a\b`} {
		if text, err := (ClientConfig{Host: "box", Address: "127.0.0.1:22", KnownHosts: path}).Text(); err == nil {
			t.Errorf("%q gave\n%s", path, text)
		}
	}
}

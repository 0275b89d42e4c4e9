package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type fake struct {
	stopped chan struct{}
	execing chan struct{}
	ended   chan error
}

func (f *fake) Status(context.Context, bool) (Status, error) {
	return Status{Ready: true, Network: "test"}, nil
}
func (f *fake) Logs(_ context.Context, pod string, _ bool, w io.Writer) error {
	if pod == "nobody" {
		return ErrUnknownPod
	}
	_, err := io.WriteString(w, "line of "+pod+"\n")
	return err
}
func (f *fake) Token(_ context.Context, user, resource string) (Token, error) {
	return Token{AccessToken: user + "@" + resource}, nil
}
func (f *fake) SSHCertificate(_ context.Context, user, publicKey string) (SSHCertificate, error) {
	if user == "nobody" {
		return SSHCertificate{}, errors.New("no user nobody")
	}
	return SSHCertificate{Certificate: publicKey + " of " + user, KnownHosts: "@cert-authority h k", Address: "127.0.0.1:2222"}, nil
}
func (f *fake) VerifyAudit(_ context.Context, vault string) ([]AuditReport, error) {
	return []AuditReport{{Vault: vault, Segment: "s", Sequence: 7}}, nil
}
func (f *fake) Access(_ context.Context, q AccessQuestion) (Access, error) {
	return Access{Action: q.Action, Scope: q.Object, Principal: &Principal{ID: q.Principal}}, nil
}
func (f *fake) Dial(_ context.Context, from, address string) (net.Conn, error) {
	if from == "nowhere" {
		return nil, errors.New("no network nowhere")
	}
	a, b := net.Pipe()
	go func() {
		_, _ = io.WriteString(b, from+">"+address)
		_ = b.Close()
	}()
	return a, nil
}
func (f *fake) Exec(ctx context.Context, pod string, argv, _ []string, streams [3]*os.File) (int, error) {
	switch argv[0] {
	case "sleep":
		close(f.execing)
		<-ctx.Done()
		f.ended <- ctx.Err()
		return 0, ctx.Err()
	case "cat":
		_, err := io.Copy(streams[1], streams[0])
		return 7, err
	}
	return 0, ErrUnknownPod
}
func (f *fake) Stop() { close(f.stopped) }

func start(t *testing.T) (*Client, *fake) {
	t.Helper()
	f := &fake{make(chan struct{}), make(chan struct{}), make(chan error, 1)}
	path := filepath.Join(t.TempDir(), "c.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, f) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return NewClient(path), f
}

func TestEveryQuestionIsAnswered(t *testing.T) {
	c, f := start(t)
	ctx := t.Context()
	if s, err := c.Status(ctx); err != nil || !s.Ready || s.Network != "test" {
		t.Errorf("status: %+v, %v", s, err)
	}
	if tok, err := c.Token(ctx, "u", "https://r"); err != nil || tok.AccessToken != "u@https://r" {
		t.Errorf("token: %+v, %v", tok, err)
	}
	want := SSHCertificate{Certificate: "ssh-ed25519 AAAA+/= of u", KnownHosts: "@cert-authority h k", Address: "127.0.0.1:2222"}
	if cert, err := c.SSHCertificate(ctx, "u", "ssh-ed25519 AAAA+/="); err != nil || cert != want {
		t.Errorf("SSH certificate: %+v, %v, want %+v", cert, err, want)
	}
	if _, err := c.SSHCertificate(ctx, "nobody", "k"); err == nil || err.Error() != "no user nobody" {
		t.Errorf("SSH certificate of nobody: %v", err)
	}
	if _, err := c.SSHCertificate(ctx, "u", strings.Repeat("k", 65<<10)); err == nil || !strings.Contains(err.Error(), "certificate request") {
		t.Errorf("SSH certificate for a key of 65 kB: %v", err)
	}
	if r, err := c.VerifyAudit(ctx, "v"); err != nil || len(r) != 1 || r[0] != (AuditReport{Vault: "v", Segment: "s", Sequence: 7}) {
		t.Errorf("audit: %+v, %v", r, err)
	}
	if a, err := c.Access(ctx, AccessQuestion{"a", "https://o", "p"}); err != nil || a.Action != "a" || a.Scope != "https://o" || a.Principal.ID != "p" {
		t.Errorf("access: %+v, %v", a, err)
	}
	var logs strings.Builder
	if err := c.Logs(ctx, "web", false, &logs); err != nil || logs.String() != "line of web\n" {
		t.Errorf("logs: %q, %v", logs.String(), err)
	}
	if err := c.Logs(ctx, "nobody", false, &logs); err == nil || err.Error() != ErrUnknownPod.Error() {
		t.Errorf("logs of nobody: %v", err)
	}
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
	<-f.stopped
}

func TestADialledConnectionCarriesBytes(t *testing.T) {
	c, _ := start(t)
	conn, err := c.Dial(t.Context(), "eudcc-ie", "kv:443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "eudcc-ie>kv:443" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := c.Dial(t.Context(), "nowhere", "kv:443"); err == nil || err.Error() != "no network nowhere" {
		t.Errorf("got %v", err)
	}
}

func TestACommandHasItsClientsStreamsAndExitCode(t *testing.T) {
	c, _ := start(t)
	in, inW, _ := os.Pipe()
	outR, out, _ := os.Pipe()
	_, _ = inW.WriteString("hello")
	_ = inW.Close()
	code, err := c.Exec(t.Context(), "web", []string{"cat"}, nil, [3]*os.File{in, out, out})
	_ = out.Close()
	got, _ := io.ReadAll(outR)
	if err != nil || code != 7 || string(got) != "hello" {
		t.Fatalf("got %d, %q, %v", code, got, err)
	}
}

func TestACommandEndsWithItsClient(t *testing.T) {
	c, f := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.execing
		cancel()
	}()
	null, _ := os.Open(os.DevNull)
	defer null.Close()
	if _, err := c.Exec(ctx, "web", []string{"sleep"}, nil, [3]*os.File{null, null, null}); err == nil {
		t.Error("an interrupted command succeeded")
	}
	select {
	case <-f.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the command outlived its client")
	}
}

func TestWithoutAnEstateTheErrorSaysWhatToDo(t *testing.T) {
	_, err := NewClient(filepath.Join(t.TempDir(), "none.sock")).Status(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "verdant up") {
		t.Fatalf("got %v", err)
	}
}

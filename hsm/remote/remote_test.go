package remote_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
	"verdant/hsm/remote"
)

func software(t *testing.T, dir string) *hsm.Software {
	t.Helper()
	s, err := hsm.OpenSoftware(t.Context(), dir, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve serves token on one end of a pipe and returns the client on the other.
func serve(t *testing.T, token hsm.Token) *remote.Client {
	t.Helper()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- remote.Serve(ctx, theirs, token) }()
	c, err := remote.Connect(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return c
}

func TestAServedTokenIsAToken(t *testing.T) {
	dir := t.TempDir()
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		return hsm.Split(serve(t, software(t, filepath.Join(dir, "served"))), software(t, filepath.Join(dir, "beside")))
	})
}

func TestWhatTheProtocolHasNoMessageForIsRefused(t *testing.T) {
	token := software(t, t.TempDir())
	c := serve(t, token)
	for _, spec := range []hsm.KeySpec{{Type: hsm.EC, Curve: hsm.P256K}, {Type: hsm.EC, Curve: hsm.P256, Exportable: true}} {
		if _, err := c.Generate(t.Context(), hsm.NewKeyID(), spec); !errors.Is(err, hsm.ErrSpec) {
			t.Errorf("%+v: got %v, want ErrSpec", spec, err)
		}
		id := hsm.NewKeyID()
		if _, err := token.Generate(t.Context(), id, spec); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Key(t.Context(), id); !errors.Is(err, hsm.ErrSpec) {
			t.Errorf("a key %+v that the token has: got %v, want ErrSpec", spec, err)
		}
	}
	id := hsm.NewKeyID()
	k, err := c.Generate(t.Context(), id, hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Decrypt(nil, make([]byte, 256), &rsa.OAEPOptions{Hash: crypto.SHA256, Label: make([]byte, 1<<17)}); err == nil {
		t.Error("a label larger than any message is accepted")
	}
	if _, err := k.Decrypt(nil, make([]byte, 1<<20), nil); !errors.Is(err, rsa.ErrDecryption) {
		t.Errorf("a ciphertext larger than the key: got %v, want rsa.ErrDecryption", err)
	}
	digest := sha256.Sum256(nil)
	if _, err := k.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 1 << 20}); !errors.Is(err, hsm.ErrOperation) {
		t.Errorf("a huge salt: got %v, want ErrOperation", err)
	}
}

// stuck is a token that answers nothing until it is let go.
type stuck struct {
	hsm.Token
	entered chan struct{}
}

func (s stuck) Key(ctx context.Context, id hsm.KeyID) (hsm.Key, error) {
	s.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestARequestWhoseServerGoesSaysThatTheTokenIsUnavailable(t *testing.T) {
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	token := stuck{entered: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() { done <- remote.Serve(ctx, theirs, token) }()
	c, err := remote.Connect(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { _, err := c.Key(t.Context(), "k"); got <- err }()
	<-token.entered
	cancel()
	if err := <-got; !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("in flight: got %v, want ErrUnavailable", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-c.Gone()
	if _, err := c.Key(t.Context(), "k"); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("afterwards: got %v, want ErrUnavailable", err)
	}
}

func TestACallerMayGiveUp(t *testing.T) {
	token := stuck{entered: make(chan struct{}, 1)}
	c := serve(t, token)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { _, err := c.Key(ctx, "k"); got <- err }()
	<-token.entered
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestAClientIsToldWhyThereIsNoToken(t *testing.T) {
	for name, want := range map[string]error{"a refusal": hsm.ErrRefused, "an absence": hsm.ErrUnavailable} {
		ours, theirs := net.Pipe()
		go func() { _ = remote.Refuse(theirs, want) }()
		if _, err := remote.Connect(t.Context(), ours); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	ours, theirs := net.Pipe()
	_ = theirs.Close()
	if _, err := remote.Connect(t.Context(), ours); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("a process that died: got %v, want ErrUnavailable", err)
	}
	ours, theirs = net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := remote.Connect(ctx, ours); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a process that says nothing: got %v, want a deadline", err)
	}
}

// nothing is a token without keys that makes none.
type nothing struct{}

func (nothing) Generate(context.Context, hsm.KeyID, hsm.KeySpec) (hsm.Key, error) {
	return nil, hsm.ErrExists
}
func (nothing) Import(context.Context, hsm.KeyID, *hsm.Material, bool) (hsm.Key, error) {
	return nil, hsm.ErrExists
}
func (nothing) Key(context.Context, hsm.KeyID) (hsm.Key, error)          { return nil, hsm.ErrNotFound }
func (nothing) Delete(context.Context, hsm.KeyID) error                  { return nil }
func (nothing) Export(context.Context, hsm.KeyID) (*hsm.Material, error) { return nil, hsm.ErrNotFound }

// FuzzServer sends the server anything: it answers or closes, and ends.
func FuzzServer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 3})
	f.Add([]byte{0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 1, 'k'})
	f.Add([]byte{0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 1, 'k', 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 2, 5, 0, 1, 'k'})
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = ours.Write(data)
			_ = ours.Close()
		}()
		answers := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, ours); close(answers) }()
		if err := remote.Serve(t.Context(), theirs, nothing{}); err != nil &&
			!errors.Is(err, remote.ErrProtocol) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v", err)
		}
		<-answers
	})
}

// FuzzClient answers the client with anything: it returns an error or a key
// that is what it says.
func FuzzClient(f *testing.F) {
	greeting := []byte{0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	f.Add(greeting)
	f.Add(append(greeting, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 4, 'g', 'o', 'n', 'e'))
	f.Add(append(greeting, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 3, 'R', 'S', 'A', 8, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			_, _ = theirs.Write(data)
			_ = theirs.Close()
		}()
		c, err := remote.Connect(t.Context(), ours)
		if err != nil {
			return
		}
		defer c.Close()
		if k, err := c.Key(t.Context(), "k"); err == nil && (k.Spec().Check() != nil || k.Public() == nil) {
			t.Errorf("a key %+v", k.Spec())
		}
	})
}

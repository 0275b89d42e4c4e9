// Package signer keeps a token's library in a process of its own. Signer is an
// hsm.Token for the service; Run is the process that answers it, the only one
// that ever loads a vendor's code or sees a PIN.
//
// The process inherits one end of a socket pair and the open file with the PIN,
// so neither is in an argument, the environment or a log. On Linux it can gain
// no privileges, has no capabilities even when it is started by root, leaves no
// core dump, cannot be traced by its own user, and dies with the service. It is
// started again, with growing pauses, when it ends; calls that it was answering
// return hsm.ErrUnavailable, calls made meanwhile wait a little for it. Keys are
// in the token and survive. A token that refuses the PIN is not tried again.
//
// It does not cut the process off the network: hardware security modules are
// often reached through it.
package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"verdant/hsm"
	"verdant/hsm/remote"
)

const (
	// startWithin bounds the opening of the token in a new process.
	startWithin = 30 * time.Second
	// waitFor bounds the wait of a call for a process that is being started.
	waitFor = 3 * time.Second
	// stopWithin bounds the orderly end of the process.
	stopWithin = 2 * time.Second
	// The pause before a start doubles from firstPause to longestPause, and
	// falls back when a process has lived for steady.
	firstPause   = 20 * time.Millisecond
	longestPause = 10 * time.Second
	steady       = 20 * time.Second
	// maxKnown bounds the public parts that are kept.
	maxKnown = 8192
)

// Config says how to start the signer process: a program that calls Run.
type Config struct {
	// Path and Args are the program and its arguments, without its own name.
	Path string
	Args []string
	// Env is its environment; nil means this process's. Vendors' modules find
	// their configuration there.
	Env []string
	// PINSource is the file with the user's PIN. This process opens it and
	// does not read it.
	PINSource string
	// Stderr is where the process complains; nil is the null device.
	Stderr *os.File
}

// Signer is a token in another process. It is safe for concurrent use.
type Signer struct {
	cfg  Config
	stop context.CancelFunc
	done chan struct{} // closed when the process has ended for good

	mu      sync.Mutex
	process *process      // nil while there is none
	failed  error         // why there will be none
	changed chan struct{} // closed when the two above change

	keysMu    sync.RWMutex
	keys      map[hsm.KeyID]hsm.Key
	deletions uint64 // counts deletions, so that a reader overtaken by one keeps nothing
}

// process is a signer process and the connection to it.
type process struct {
	client *remote.Client
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process is gone
}

// Open starts the process and waits until its token is open. The error says
// why it is not, and then nothing runs.
func Open(ctx context.Context, cfg Config) (*Signer, error) {
	run, stop := context.WithCancel(context.Background())
	s := &Signer{cfg: cfg, stop: stop, done: make(chan struct{}), changed: make(chan struct{}), keys: map[hsm.KeyID]hsm.Key{}}
	p, err := s.start(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	s.process = p
	go s.keep(run, p) // Ends with Close, or when the token refuses to open.
	return s, nil
}

// Close ends the process.
func (s *Signer) Close() error {
	s.stop()
	<-s.done
	return nil
}

// PID is the process's id, 0 while there is none.
func (s *Signer) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// start starts a process and connects to it.
func (s *Signer) start(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	pin, err := os.Open(s.cfg.PINSource)
	if err != nil {
		return nil, fmt.Errorf("%w: the token's PIN: %w", hsm.ErrRefused, err)
	}
	defer pin.Close()
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start the signer process: %w", err)
	}
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, fmt.Errorf("start the signer process: %w", err)
	}
	cmd := exec.Command(s.cfg.Path, s.cfg.Args...)
	cmd.Env, cmd.Stderr = s.cfg.Env, nil
	if s.cfg.Stderr != nil {
		cmd.Stderr = s.cfg.Stderr
	}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs, pin} // descriptors connFD and pinFD
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if err := p.launch(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("start the signer process: %w", err)
	}
	_ = theirs.Close() // now the connection ends with the process
	if p.client, err = remote.Connect(ctx, conn); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// launch starts the command from a thread that has given up what the process
// shall not have. The thread lives as long as the process, which the kernel
// kills when it goes, and is never used for anything else.
func (p *process) launch() error {
	started := make(chan error)
	go func() { // Ends with the process.
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := confine(p.cmd)
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended does not matter: it is started again
			close(p.ended)
		}
	}()
	return <-started
}

// end waits for the process, whose connection is closed, and kills it if that
// takes long.
func (p *process) end() {
	timeout := time.NewTimer(stopWithin)
	defer timeout.Stop()
	select {
	case <-p.ended:
	case <-timeout.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// keep starts the process again whenever it ends, until ctx ends.
func (s *Signer) keep(ctx context.Context, p *process) {
	defer close(s.done)
	pause := firstPause
	for {
		born := time.Now()
		select {
		case <-p.client.Gone():
		case <-ctx.Done():
		}
		s.set(nil, nil)
		_ = p.client.Close()
		p.end()
		if time.Since(born) > steady {
			pause = firstPause
		}
		for p = nil; p == nil; pause = min(2*pause, longestPause) {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				s.set(nil, fmt.Errorf("%w: its process was stopped", hsm.ErrUnavailable))
				return
			}
			var err error
			if p, err = s.start(ctx); errors.Is(err, hsm.ErrRefused) {
				s.set(nil, err)
				return
			}
		}
		s.set(p, nil)
	}
}

func (s *Signer) set(p *process, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process, s.failed = p, failed
	close(s.changed)
	s.changed = make(chan struct{})
}

// client returns the connection, waiting a little for one.
func (s *Signer) client(ctx context.Context) (*remote.Client, error) {
	var timeout <-chan time.Time
	for {
		s.mu.Lock()
		p, failed, changed := s.process, s.failed, s.changed
		s.mu.Unlock()
		if failed != nil {
			return nil, failed
		}
		if p != nil {
			select {
			case <-p.client.Gone(): // keep has yet to see it
			default:
				return p.client, nil
			}
		}
		if timeout == nil {
			timer := time.NewTimer(waitFor)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timeout:
			return nil, fmt.Errorf("%w: its process is being started", hsm.ErrUnavailable)
		}
	}
}

// Generate implements hsm.Token.
func (s *Signer) Generate(ctx context.Context, id hsm.KeyID, spec hsm.KeySpec) (hsm.Key, error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, fmt.Errorf("generate key %s: %w", id, err)
	}
	k, err := c.Generate(ctx, id, spec)
	return s.handle(k, err)
}

// Import implements hsm.Token.
func (s *Signer) Import(ctx context.Context, id hsm.KeyID, m *hsm.Material, exportable bool) (hsm.Key, error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, fmt.Errorf("import key %s: %w", id, err)
	}
	k, err := c.Import(ctx, id, m, exportable)
	return s.handle(k, err)
}

func (s *Signer) handle(k hsm.Key, err error) (hsm.Key, error) {
	if err != nil {
		return nil, err
	}
	return &key{k, s}, nil
}

// Key implements hsm.Token. What a key is does not change, so it is asked once.
func (s *Signer) Key(ctx context.Context, id hsm.KeyID) (hsm.Key, error) {
	s.keysMu.RLock()
	k, deletions := s.keys[id], s.deletions
	s.keysMu.RUnlock()
	if k != nil {
		return k, nil
	}
	c, err := s.client(ctx)
	if err != nil {
		return nil, fmt.Errorf("find key %s: %w", id, err)
	}
	found, err := c.Key(ctx, id)
	if err != nil {
		return nil, err
	}
	k = &key{found, s}
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	if s.deletions == deletions {
		if len(s.keys) >= maxKnown {
			for other := range s.keys { // some key: it will be asked for again
				delete(s.keys, other)
				break
			}
		}
		s.keys[id] = k
	}
	return k, nil
}

// Delete implements hsm.Token.
func (s *Signer) Delete(ctx context.Context, id hsm.KeyID) error {
	defer s.forget(id) // again: a reader may have asked before
	s.forget(id)
	c, err := s.client(ctx)
	if err != nil {
		return fmt.Errorf("delete key %s: %w", id, err)
	}
	return c.Delete(ctx, id)
}

func (s *Signer) forget(id hsm.KeyID) {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.deletions++
	delete(s.keys, id)
}

// Export implements hsm.Token: it refuses.
func (s *Signer) Export(ctx context.Context, id hsm.KeyID) (*hsm.Material, error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, fmt.Errorf("export key %s: %w", id, err)
	}
	return c.Export(ctx, id)
}

// key is a handle that outlives the process in which its key was found.
type key struct {
	hsm.Key
	signer *Signer
}

// Format says which key it is and nothing about it.
func (k *key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "hsm key %s", string(k.ID())) }

// MarshalJSON refuses: a handle means nothing elsewhere.
func (k *key) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("marshal key %s: %w", k.ID(), hsm.ErrNotExportable)
}

// Sign implements hsm.Key.
func (k *key) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.now("sign", func(now hsm.Key) ([]byte, error) { return now.Sign(rand, digest, opts) })
}

// Decrypt implements hsm.Key.
func (k *key) Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.now("decrypt", func(now hsm.Key) ([]byte, error) { return now.Decrypt(rand, ciphertext, opts) })
}

// Seal implements hsm.Key.
func (k *key) Seal(plaintext, associated []byte) ([]byte, error) {
	return k.now("seal", func(now hsm.Key) ([]byte, error) { return now.Seal(plaintext, associated) })
}

// Open implements hsm.Key.
func (k *key) Open(sealed, associated []byte) ([]byte, error) {
	return k.now("open", func(now hsm.Key) ([]byte, error) { return now.Open(sealed, associated) })
}

// Encipher implements hsm.Key.
func (k *key) Encipher(mode hsm.Mode, iv, plaintext []byte) ([]byte, error) {
	return k.now("encipher", func(now hsm.Key) ([]byte, error) { return now.Encipher(mode, iv, plaintext) })
}

// Decipher implements hsm.Key.
func (k *key) Decipher(mode hsm.Mode, iv, ciphertext []byte) ([]byte, error) {
	return k.now("decipher", func(now hsm.Key) ([]byte, error) { return now.Decipher(mode, iv, ciphertext) })
}

// now uses the key by way of the process that there is now.
func (k *key) now(what string, use func(hsm.Key) ([]byte, error)) ([]byte, error) {
	c, err := k.signer.client(context.Background())
	if err != nil {
		return nil, fmt.Errorf("%s with key %s: %w", what, k.ID(), err)
	}
	return use(remote.On(c, k.Key))
}

var _ hsm.Token = (*Signer)(nil)

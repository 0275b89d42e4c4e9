// Package cmk is envelope encryption under customer-managed keys.
//
// What is protected is encrypted under a data key (DEK) of its own. The DEK
// rests only in a small file, wrapped by a key of the customer's vault (KEK);
// in clear it exists in the memory of a Guard, and in what the Guard's user
// opened with it, for as long as the vault keeps unwrapping it.
//
// It promises the semantics of Azure's customer-managed keys: a definite
// refusal by the vault (the role was taken away, the key disabled, expired or
// deleted, the network rule closed) makes the Guard Inaccessible within one
// poll, and its DEK is erased; giving the right back makes it Available again;
// a vault that cannot be reached, or that answers with anything but a refusal,
// never counts as one, so an outage or somebody in the network cannot take
// the data away; a new version of the KEK costs one re-wrap of 32 bytes and no
// re-encryption. A Guard that starts while the vault refuses, or is silent,
// starts Inaccessible and keeps trying.
//
// It refuses a DEK file that names another key than the configured one or
// that does not parse: that is a mistake to be looked at, not a state.
package cmk

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// Wrapper is the key encryption key in the vault.
//
// An error whose chain holds a method KeyRefused() bool that returns true is a
// definite refusal. Every other error says nothing about the right to the key.
type Wrapper interface {
	// KeyID is the configured key without a version:
	// https://<vault>/keys/<name>.
	KeyID() string
	// Current returns the full id, with version, of the key's newest version.
	Current(ctx context.Context) (kid string, err error)
	// Wrap encrypts dek under the newest version and returns that version's
	// full id.
	Wrap(ctx context.Context, dek []byte) (kid string, wrapped []byte, err error)
	// Unwrap decrypts under the version that kid names.
	Unwrap(ctx context.Context, kid string, wrapped []byte) (dek []byte, err error)
}

// GuardConfig describes a Guard.
type GuardConfig struct {
	// Name says what the DEK protects, for people: "database eudcc-ie-mysql".
	Name string
	// KEK wraps and unwraps the DEK.
	KEK Wrapper
	// Path is the file of the wrapped DEK; it is made on first use.
	Path string
	// Poll is how often the vault is asked whether the right still stands;
	// 0 means 5 s.
	Poll time.Duration
	// Rotate is how often the vault is asked for a newer version of the KEK;
	// 0 means one minute.
	Rotate time.Duration
	// Timeout bounds one round with the vault; 0 means 10 s.
	Timeout time.Duration
	// OnChange is told of every change between Available and Inaccessible, in
	// order, from the goroutine that found it; may be nil.
	OnChange func(State)
	// Now is the clock; required.
	Now func() time.Time
}

// State is what a Guard knows about its DEK.
type State struct {
	// Available says that the DEK is in memory and the vault has not refused
	// it since.
	Available bool
	// Reason says, where Available is false, why, naming the key.
	Reason string
	// Refused says that the reason is a definite refusal; false while a Guard
	// that just started has not reached the vault.
	Refused bool
	// Since is when this state began.
	Since time.Time
	// KeyID is the full id of the KEK version that wraps the DEK; empty until
	// there is one.
	KeyID string
}

// ErrInaccessible is wrapped by the error of Key while there is no DEK.
var ErrInaccessible = errors.New("data key is inaccessible")

// Guard holds the DEK of one protected thing. It is safe for concurrent use.
type Guard struct {
	cfg GuardConfig

	// round is held for one round with the vault: file and rotated belong to
	// it.
	round   sync.Mutex
	file    *wrappedKey
	rotated time.Time // when the vault was last asked for a newer version

	mu      sync.Mutex
	state   State
	key     [32]byte
	changed chan struct{} // closed at the next change of state
}

// Open reads the wrapped DEK, or makes one where there is none, and asks the
// vault once. A vault that refuses or is silent is not an error: the Guard is
// Inaccessible and Run keeps trying. The error is for a configuration or a
// file that no retry will mend.
func Open(ctx context.Context, cfg GuardConfig) (*Guard, error) {
	if cfg.Name == "" || cfg.KEK == nil || cfg.Path == "" || cfg.Now == nil {
		return nil, errors.New("guard needs Name, KEK, Path and Now")
	}
	cfg.Poll = orDefault(cfg.Poll, 5*time.Second)
	cfg.Rotate = orDefault(cfg.Rotate, time.Minute)
	cfg.Timeout = orDefault(cfg.Timeout, 10*time.Second)
	g := &Guard{cfg: cfg, changed: make(chan struct{})}
	g.state = State{Reason: "key " + cfg.KEK.KeyID() + " has not been asked for yet", Since: cfg.Now()}
	file, err := readWrapped(cfg.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("data key of %s: %w", cfg.Name, err)
	case !isVersionOf(file.KeyID, cfg.KEK.KeyID()):
		return nil, fmt.Errorf("data key of %s: file %s is wrapped by %s, but the configured key is %s: configure the key that wrapped it", cfg.Name, cfg.Path, file.KeyID, cfg.KEK.KeyID())
	default:
		g.file = file
		g.state.KeyID = file.KeyID
	}
	g.Check(ctx)
	return g, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Key returns the DEK, or an error that wraps ErrInaccessible and says why.
// The caller opens with it what it protects and keeps no copy; when Watch
// tells of a change it closes what it opened.
func (g *Guard) Key() ([32]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.state.Available {
		return [32]byte{}, fmt.Errorf("%w: %s: %s (since %s)", ErrInaccessible, g.cfg.Name, g.state.Reason, g.state.Since.UTC().Format(time.RFC3339))
	}
	return g.key, nil
}

// State returns the present state.
func (g *Guard) State() State {
	s, _ := g.Watch()
	return s
}

// Watch returns the present state and a channel that is closed when it
// changes between Available and Inaccessible.
func (g *Guard) Watch() (State, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state, g.changed
}

// Run asks the vault every Poll until ctx ends, then erases the DEK.
func (g *Guard) Run(ctx context.Context) error {
	defer g.Close()
	timer := time.NewTimer(g.cfg.Poll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			g.Check(ctx)
			timer.Reset(g.cfg.Poll)
		}
	}
}

// Close erases the DEK. The Guard stays Inaccessible until a Check.
func (g *Guard) Close() {
	g.move(State{Reason: "the guard was closed"}, nil)
}

// Check is one round with the vault, as Run makes it; operators call it to
// revalidate at once after they gave a right back. It returns the state
// afterwards.
func (g *Guard) Check(ctx context.Context) State {
	g.round.Lock()
	defer g.round.Unlock()
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	dek, err := g.unwrap(ctx)
	defer clear(dek)
	var refusal interface{ KeyRefused() bool }
	switch {
	case err == nil:
		g.move(State{Available: true, KeyID: g.file.KeyID}, dek)
		g.rotate(ctx, dek)
	case errors.As(err, &refusal) && refusal.KeyRefused():
		g.move(State{Refused: true, Reason: "the vault refused: " + err.Error()}, nil)
	default:
		g.undecided(err)
	}
	return g.State()
}

// unwrap gets the DEK from the vault, after making one where there is none.
func (g *Guard) unwrap(ctx context.Context) ([]byte, error) {
	if g.file == nil {
		return g.create(ctx)
	}
	dek, err := g.cfg.KEK.Unwrap(ctx, g.file.KeyID, g.file.Wrapped)
	if err != nil {
		return nil, err
	}
	if len(dek) != 32 {
		clear(dek)
		return nil, fmt.Errorf("file %s unwraps to something else than a 32-byte key", g.cfg.Path)
	}
	return dek, nil
}

func (g *Guard) create(ctx context.Context) ([]byte, error) {
	dek := make([]byte, 32)
	if _, err := rand.Read(dek); err != nil {
		return nil, fmt.Errorf("make a data key: %w", err)
	}
	if err := g.wrap(ctx, dek); err != nil {
		clear(dek)
		return nil, err
	}
	return dek, nil
}

// wrap puts dek under the newest version of the KEK. The file is replaced only
// after the vault has shown that it can unwrap what it wrapped: the file is
// the one way back to the data.
func (g *Guard) wrap(ctx context.Context, dek []byte) error {
	kid, wrapped, err := g.cfg.KEK.Wrap(ctx, dek)
	if err != nil {
		return err
	}
	if !isVersionOf(kid, g.cfg.KEK.KeyID()) {
		return fmt.Errorf("asked %s to wrap, but %s did", g.cfg.KEK.KeyID(), kid)
	}
	back, err := g.cfg.KEK.Unwrap(ctx, kid, wrapped)
	if err != nil {
		return err
	}
	defer clear(back)
	if subtle.ConstantTimeCompare(back, dek) != 1 {
		return fmt.Errorf("key %s does not unwrap what it wrapped", kid)
	}
	file := &wrappedKey{KeyID: kid, Algorithm: algorithm, Wrapped: bytes.Clone(wrapped), Created: g.cfg.Now().UTC()}
	if err := file.write(g.cfg.Path); err != nil {
		return err
	}
	g.file = file
	return nil
}

// rotate re-wraps the DEK once when the KEK has a newer version. A failure
// changes nothing: the old version still unwraps, and a later round tries
// again.
func (g *Guard) rotate(ctx context.Context, dek []byte) {
	now := g.cfg.Now()
	if !g.rotated.IsZero() && now.Sub(g.rotated) < g.cfg.Rotate {
		return
	}
	kid, err := g.cfg.KEK.Current(ctx)
	if err != nil {
		return
	}
	if kid != g.file.KeyID {
		if err := g.wrap(ctx, dek); err != nil {
			return
		}
		g.mu.Lock()
		g.state.KeyID = g.file.KeyID
		g.mu.Unlock()
	}
	g.rotated = now
}

// undecided keeps what is: the vault did not say that the right is gone. A
// Guard that never had the key learns why it still has none.
func (g *Guard) undecided(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.state.Available && !g.state.Refused {
		g.state.Reason = "waiting for the vault: " + err.Error()
	}
}

// move enters the state next, keeping since and telling nobody where nothing
// but the reason changed.
func (g *Guard) move(next State, dek []byte) {
	g.mu.Lock()
	if next.Available {
		copy(g.key[:], dek)
	} else {
		clear(g.key[:])
	}
	if next.KeyID == "" {
		next.KeyID = g.state.KeyID
	}
	change := next.Available != g.state.Available
	if change {
		next.Since = g.cfg.Now()
		close(g.changed)
		g.changed = make(chan struct{})
	} else {
		next.Since = g.state.Since
	}
	g.state = next
	g.mu.Unlock()
	if change && g.cfg.OnChange != nil {
		g.cfg.OnChange(next)
	}
}

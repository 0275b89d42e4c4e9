//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
)

const (
	// attempts is how often a call is made when the token was reset under it.
	attempts = 3
	// reopenings is how often a reset token is tried in one go, with pauses
	// that double from firstPause: 1.3 s in all.
	reopenings = 8
	firstPause = 10 * time.Millisecond
)

// device is a token in a slot: its library, its login, its sessions.
type device struct {
	cfg  Config
	pin  string
	lib  *p11.Ctx
	room chan struct{} // one element a session in use

	// lock is held for reading during every call into the library and for
	// writing while the token is opened anew: C_Finalize under a running call
	// is undefined behaviour.
	lock   sync.RWMutex
	open   bool
	closed bool   // for good
	epoch  uint64 // counts the openings, also those that failed
	broken error  // of the last opening
	slot   uint
	anchor p11.SessionHandle // keeps the login while no other session is open

	mu   sync.Mutex
	free []p11.SessionHandle
	// objects are what is known of keys, in this opening.
	objects map[hsm.KeyID]*object
}

func openDevice(cfg Config, pin []byte) (*device, error) {
	if info, err := os.Stat(cfg.Module); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: PKCS #11 module %s is no file: %w", hsm.ErrRefused, cfg.Module, errors.Join(err))
	}
	lib := p11.New(cfg.Module)
	if lib == nil {
		return nil, fmt.Errorf("%w: %s does not load as a PKCS #11 module", hsm.ErrRefused, cfg.Module)
	}
	d := &device{cfg: cfg, pin: string(pin), lib: lib}
	d.lock.Lock()
	defer d.lock.Unlock()
	if err := d.connect(); err != nil {
		d.disconnect()
		return nil, err
	}
	d.room = make(chan struct{}, d.sessions())
	return d, nil
}

// sessions is how many the pool may have; one is the anchor's.
func (d *device) sessions() int {
	n := d.cfg.Sessions
	if n <= 0 {
		n = max(8, 2*runtime.NumCPU())
	}
	const unknown = ^uint(0) // CK_UNAVAILABLE_INFORMATION; 0 is "effectively infinite"
	if info, err := d.lib.GetTokenInfo(d.slot); err == nil && info.MaxRwSessionCount > 1 && info.MaxRwSessionCount != unknown {
		n = min(n, int(min(info.MaxRwSessionCount, 1<<16))-1)
	}
	return n
}

// connect initialises the library, finds the token and logs in. The caller
// holds lock for writing.
func (d *device) connect() error {
	d.epoch++
	d.open, d.broken = false, nil
	d.mu.Lock()
	d.free, d.objects = nil, map[hsm.KeyID]*object{}
	d.mu.Unlock()
	d.broken = d.login()
	d.open = d.broken == nil
	return d.broken
}

func (d *device) login() error {
	if err := d.lib.Initialize(); err != nil && !is(err, p11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return fmt.Errorf("%w: initialise %s: %w", hsm.ErrUnavailable, d.cfg.Module, err)
	}
	var err error
	if d.slot, err = d.find(); err != nil {
		return err
	}
	if d.anchor, err = d.session(); err != nil {
		return fmt.Errorf("%w: open a session with token %q: %w", hsm.ErrUnavailable, d.cfg.Token, err)
	}
	err = d.lib.Login(d.anchor, p11.CKU_USER, d.pin)
	switch {
	case err == nil, is(err, p11.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case is(err, p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_LOCKED, p11.CKR_PIN_EXPIRED, p11.CKR_USER_PIN_NOT_INITIALIZED):
		return fmt.Errorf("%w: token %q refuses the PIN: %w", hsm.ErrRefused, d.cfg.Token, err)
	}
	return fmt.Errorf("%w: log in to token %q: %w", hsm.ErrUnavailable, d.cfg.Token, err)
}

// find returns the slot that holds the token of the configured label.
func (d *device) find() (uint, error) {
	slots, err := d.lib.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("%w: list the slots of %s: %w", hsm.ErrUnavailable, d.cfg.Module, err)
	}
	var found []uint
	for _, slot := range slots {
		if info, err := d.lib.GetTokenInfo(slot); err == nil && info.Label == d.cfg.Token {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("%w: %s has no token with label %q", hsm.ErrUnavailable, d.cfg.Module, d.cfg.Token)
	}
	return 0, fmt.Errorf("%w: %s has %d tokens with label %q; give them different labels", hsm.ErrRefused, d.cfg.Module, len(found), d.cfg.Token)
}

func (d *device) session() (p11.SessionHandle, error) {
	return d.lib.OpenSession(d.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
}

// disconnect gives the library up. The caller holds lock for writing.
func (d *device) disconnect() {
	d.open = false
	_ = d.lib.Finalize() // what it says does not matter: it is opened anew or never again
}

// close finalizes the library and leaves it loaded: a thread that has called it
// may run code of it, or of what it loaded, when the thread ends, and callers
// that come too late look at lib before they see that open is false.
func (d *device) close() {
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	d.epoch++
	d.broken = fmt.Errorf("%w: it was closed", hsm.ErrRefused)
	d.disconnect()
}

// errClosed makes a call open the token anew.
const errClosed = p11.Error(p11.CKR_CRYPTOKI_NOT_INITIALIZED)

// do makes a call with a session of its own. When the token was reset, the
// call is made again in a new opening, so call must bear repetition; again is
// true then. Handles of objects found in call must not leave it.
func (d *device) do(ctx context.Context, call func(s p11.SessionHandle, again bool) error) error {
	select {
	case d.room <- struct{}{}:
		defer func() { <-d.room }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for attempt := range attempts {
		epoch, err := d.try(call, attempt > 0)
		if !lost(err) {
			return err
		}
		if attempt == attempts-1 {
			return fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
		}
		if err := errors.Join(ctx.Err(), d.reopen(ctx, epoch)); err != nil {
			return err
		}
	}
	return nil // not reached: the last attempt returns
}

func (d *device) try(call func(p11.SessionHandle, bool) error, again bool) (epoch uint64, err error) {
	d.lock.RLock()
	defer d.lock.RUnlock()
	if !d.open {
		return d.epoch, errClosed
	}
	d.mu.Lock()
	var s p11.SessionHandle
	n := len(d.free)
	if n > 0 {
		s, d.free = d.free[n-1], d.free[:n-1]
	}
	d.mu.Unlock()
	if n == 0 {
		if s, err = d.session(); err != nil {
			return d.epoch, err
		}
	}
	if err = call(s, again); tokenError(err) {
		_ = d.lib.CloseSession(s) // an operation may be left open in it
		return d.epoch, err
	}
	d.mu.Lock()
	d.free = append(d.free, s)
	d.mu.Unlock()
	return d.epoch, err
}

// reopen opens the token anew, unless another call has tried since epoch.
func (d *device) reopen(ctx context.Context, epoch uint64) error {
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.epoch != epoch || errors.Is(d.broken, hsm.ErrRefused) {
		return d.broken
	}
	pause := firstPause
	for range reopenings {
		d.disconnect()
		err := d.connect()
		if err == nil || errors.Is(err, hsm.ErrRefused) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause *= 2
	}
	return d.broken
}

func is(err error, codes ...p11.Error) bool {
	var e p11.Error
	return errors.As(err, &e) && slices.Contains(codes, e)
}

func tokenError(err error) bool {
	var e p11.Error
	return errors.As(err, &e)
}

// lost reports whether err says that the session, the login or the token is
// gone, and not that the call was wrong.
func lost(err error) bool {
	return is(err, p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_DEVICE_REMOVED, p11.CKR_DEVICE_ERROR, p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED, p11.CKR_SLOT_ID_INVALID)
}

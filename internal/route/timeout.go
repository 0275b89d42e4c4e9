package route

import (
	"context"
	"sync"
	"time"
)

// timeout is what context.WithTimeout returns, except that it starts no timer
// and tells its parent nothing before somebody waits for it: most handlers are
// done without.
type timeout struct {
	parent context.Context
	at     time.Time

	mu     sync.Mutex
	armed  context.Context // nil before somebody waits
	cancel context.CancelFunc
	ended  bool
}

func withTimeout(parent context.Context, d time.Duration) *timeout {
	return &timeout{parent: parent, at: time.Now().Add(d)}
}

// arm is the context with a timer.
func (t *timeout) arm() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed == nil {
		t.armed, t.cancel = context.WithDeadline(t.parent, t.at)
		if t.ended {
			t.cancel()
		}
	}
	return t.armed
}

// waited is the context with a timer if there is one, else the parent.
func (t *timeout) waited() (ctx context.Context, armed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed != nil {
		return t.armed, true
	}
	return t.parent, t.ended
}

// end releases what the context holds; it is canceled from then on.
func (t *timeout) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.cancel != nil {
		t.cancel()
	}
}

// Deadline implements context.Context.
func (t *timeout) Deadline() (time.Time, bool) {
	if at, ok := t.parent.Deadline(); ok && at.Before(t.at) {
		return at, true
	}
	return t.at, true
}

// Done implements context.Context.
func (t *timeout) Done() <-chan struct{} { return t.arm().Done() }

// Err implements context.Context.
func (t *timeout) Err() error {
	ctx, armed := t.waited()
	if !armed && ctx.Err() == nil && time.Now().Before(t.at) {
		return nil
	}
	return t.arm().Err()
}

// Value implements context.Context. Package context finds the armed context
// through it, so that children need no goroutine.
func (t *timeout) Value(key any) any {
	ctx, _ := t.waited()
	return ctx.Value(key)
}

package route

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What a handler can see of its context is what context.WithTimeout shows,
// whether it waits before the time is over, after, or never.
func TestATimeoutIsThatOfPackageContext(t *testing.T) {
	type key struct{}
	for name, sees := range map[string]func(ctx context.Context, end func()) []any{
		"nothing happens": func(ctx context.Context, _ func()) []any { return []any{ctx.Err()} },
		"the time passes": func(ctx context.Context, _ func()) []any {
			time.Sleep(2 * time.Second)
			return []any{ctx.Err(), context.Cause(ctx)}
		},
		"the time passes, waiting": func(ctx context.Context, _ func()) []any { <-ctx.Done(); return []any{ctx.Err(), context.Cause(ctx)} },
		"waiting after the time": func(ctx context.Context, _ func()) []any {
			time.Sleep(2 * time.Second)
			<-ctx.Done()
			return []any{ctx.Err()}
		},
		"the end":                   func(ctx context.Context, end func()) []any { end(); return []any{ctx.Err()} },
		"the end, and then waiting": func(ctx context.Context, end func()) []any { end(); <-ctx.Done(); return []any{ctx.Err()} },
		"waiting for the end": func(ctx context.Context, end func()) []any {
			time.AfterFunc(1, end)
			<-ctx.Done()
			return []any{ctx.Err()}
		},
		"a value": func(ctx context.Context, _ func()) []any {
			before := ctx.Value(key{})
			ctx.Done()
			return []any{before, ctx.Value(key{})}
		},
		"a child": func(ctx context.Context, _ func()) []any {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			return []any{child.Err(), time.Now()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent := context.WithValue(t.Context(), key{}, "v")
				ours := withTimeout(parent, time.Second)
				theirs, cancel := context.WithTimeout(parent, time.Second)
				defer cancel()
				want := make(chan []any)
				go func() { want <- sees(theirs, cancel) }()
				got := sees(ours, ours.end)
				for i, w := range <-want {
					if got[i] != w {
						t.Errorf("%d: got %v, want %v", i, got[i], w)
					}
				}
			})
		})
	}
}

func TestATimeoutEndsWithItsParent(t *testing.T) {
	parent, cancel := context.WithCancelCause(t.Context())
	unseen, waiting := withTimeout(parent, time.Hour), withTimeout(parent, time.Hour)
	defer unseen.end()
	defer waiting.end()
	done := waiting.Done()
	cause := errors.New("why")
	cancel(cause)
	<-done
	for _, ctx := range []context.Context{unseen, waiting} {
		if !errors.Is(ctx.Err(), context.Canceled) || context.Cause(ctx) != cause {
			t.Errorf("got %v because %v, want canceled because %v", ctx.Err(), context.Cause(ctx), cause)
		}
	}
	if at, ok := unseen.Deadline(); !ok || time.Until(at) > time.Hour {
		t.Errorf("deadline: got %v, %v", at, ok)
	}
}

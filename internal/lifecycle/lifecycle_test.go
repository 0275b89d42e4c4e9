package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func untilDone(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestTheFirstErrorEndsEveryTaskAndIsNamed(t *testing.T) {
	boom := errors.New("boom")
	err := Run(t.Context(), time.Second,
		Task{"quiet", untilDone},
		Task{"loud", func(context.Context) error { return boom }})
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "loud: ") {
		t.Fatalf("got %v, want loud: boom", err)
	}
}

func TestTheEndOfTheContextIsNotAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, time.Second, Task{"quiet", untilDone}); err != nil {
		t.Fatalf("got %v, want nil", err)
	}
}

func TestATaskThatDoesNotStopIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := Run(ctx, time.Minute,
			Task{"stuck", func(context.Context) error { <-release; return nil }},
			Task{"quiet", untilDone})
		if !errors.Is(err, ErrStuck) || !strings.HasSuffix(err.Error(), ": stuck") {
			t.Errorf("got %v, want ErrStuck naming only stuck", err)
		}
		close(release)
	})
}

func TestAPanicBecomesTheTasksError(t *testing.T) {
	err := Run(t.Context(), time.Second, Task{"careless", func(context.Context) error { panic("oops") }})
	if err == nil || err.Error() != "careless: panic: oops" {
		t.Fatalf("got %v", err)
	}
}

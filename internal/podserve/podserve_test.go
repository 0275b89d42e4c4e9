package podserve

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"verdant/internal/lifecycle"
)

func TestAServiceIsOpenedServedAndClosed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var steps []string
	open := func(ctx context.Context) (Service, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("opening has no deadline")
		}
		steps = append(steps, "open")
		return Service{
			Handler:    http.NotFoundHandler(),
			Background: []lifecycle.Task{{Name: "work", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }}},
			Close:      func() error { steps = append(steps, "close"); return nil },
		}, nil
	}
	if err := Run(ctx, "127.0.0.1:0", open, func() { steps = append(steps, "ready"); cancel() }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(steps, " "); got != "open ready close" {
		t.Errorf("got %q", got)
	}
}

func TestAServiceThatCannotOpenIsNotReady(t *testing.T) {
	boom := errors.New("no database")
	err := Run(t.Context(), "127.0.0.1:0", func(context.Context) (Service, error) { return Service{}, boom }, func() { t.Error("ready") })
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

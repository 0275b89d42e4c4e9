package loganalytics

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"verdant/azure/rest"
)

func TestACallerRunsAFewQueriesAndTheNextWaitInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Config{Concurrent: 2, Queue: 2, QueueWait: time.Minute, Requests: 100}, time.Now)
		ctx := t.Context()
		a, err := g.enter(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.enter(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.enter(ctx, "y"); err != nil {
			t.Fatalf("another caller: %v", err)
		}
		order := make(chan int, 2)
		for i := range 2 {
			go func() {
				leave, err := g.enter(ctx, "x")
				if err != nil {
					t.Error(err)
					return
				}
				order <- i
				leave()
			}()
			synctest.Wait()
		}
		var e *rest.Error
		if _, err := g.enter(ctx, "x"); !errors.As(err, &e) || e.Status != 429 || e.Header.Get("Retry-After") == "" {
			t.Fatalf("a full line: got %v, want 429", err)
		}
		select {
		case i := <-order:
			t.Fatalf("query %d ran before there was room", i)
		default:
		}
		a()
		a() // leaving twice gives one place back
		if first, second := <-order, <-order; first != 0 || second != 1 {
			t.Errorf("they ran in the order %d, %d", first, second)
		}
		b()
		synctest.Wait()
		if v := g.callers["x"]; v.running != 0 || len(v.waiting) != 0 {
			t.Errorf("%d running and %d waiting are left", v.running, len(v.waiting))
		}
	})
}

func TestWaitingInLineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Config{Concurrent: 1, Queue: 5, QueueWait: time.Minute, Requests: 100}, time.Now)
		leave, err := g.enter(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		var e *rest.Error
		if _, err := g.enter(t.Context(), "x"); !errors.As(err, &e) || e.Status != 429 {
			t.Errorf("after a minute: got %v, want 429", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.enter(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the context: got %v", err)
		}
		leave()
		if _, err := g.enter(t.Context(), "x"); err != nil {
			t.Error(err)
		}
	})
}

func TestRequestsAreCountedForHalfAMinute(t *testing.T) {
	c := newClock()
	g := newGate(Config{Concurrent: 1, Requests: 3}, c.now)
	for range 3 {
		if err := g.admit("x"); err != nil {
			t.Fatal(err)
		}
	}
	c.add(10 * time.Second)
	var e *rest.Error
	if err := g.admit("x"); !errors.As(err, &e) || e.Status != 429 || e.Header.Get("Retry-After") != "20" {
		t.Fatalf("got %v", err)
	}
	if err := g.admit("y"); err != nil {
		t.Fatal(err)
	}
	c.add(20 * time.Second)
	if err := g.admit("x"); err != nil {
		t.Fatal(err)
	}
	c.add(time.Minute)
	if err := g.admit("z"); err != nil {
		t.Fatal(err)
	}
	if len(g.callers) != 1 {
		t.Errorf("%d callers are remembered, want the last one", len(g.callers))
	}
}

func TestTimespansReadAsISO8601(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	at := func(s string) int64 {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return ticks(v)
	}
	for in, want := range map[string]timeRange{
		"":                               allTime,
		"PT12H":                          {at("2026-03-31T00:00:00Z"), ticks(now)},
		"P1DT1M":                         {at("2026-03-30T11:59:00Z"), ticks(now)},
		"P2W":                            {at("2026-03-17T12:00:00Z"), ticks(now)},
		"P1Y":                            {at("2025-03-31T12:00:00Z"), ticks(now)},
		"PT1.5S":                         {at("2026-03-31T11:59:58.5Z"), ticks(now)},
		"2026-01-01/2026-01-02":          {at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z")},
		"2026-01-01T05:00:00+01:00/PT1H": {at("2026-01-01T04:00:00Z"), at("2026-01-01T05:00:00Z")},
		"PT1H/2026-01-01T05:00:00Z":      {at("2026-01-01T04:00:00Z"), at("2026-01-01T05:00:00Z")},
		"2026-01-01T00:00:00.1234567Z/2026-01-01T01Z": {},
	} {
		got, err := parseTimespan(in, now)
		if (want == timeRange{}) != (err != nil) || err == nil && got != want {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"P", "PT", "1h", "P1H", "PT1D", "P999999Y", "PT999999999H", "2026-01-02/2026-01-01", "P1D/P1D", "a/b", "/", "-P1D"} {
		if got, err := parseTimespan(in, now); err == nil {
			t.Errorf("%q: accepted as %v", in, got)
		}
	}
}

func TestThePreferHeaderIsReadLeniently(t *testing.T) {
	got := parsePrefer([]string{"wait=30, Include-Statistics=true", "include-render=TRUE,respond-async, wait=x,include-dataSources=false"})
	if want := (prefer{wait: 30 * time.Second, statistics: true, render: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzATimespanNeverPanics(f *testing.F) {
	for _, s := range []string{"P1D", "PT1.5H/2026-01-01", "2026-01-01T00:00:00Z/P1Y", ""} {
		f.Add(s)
	}
	now := newClock().now()
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := parseTimespan(s, now); err == nil && r.from > r.to {
			t.Fatalf("%q ends before it starts: %v", s, r)
		}
	})
}

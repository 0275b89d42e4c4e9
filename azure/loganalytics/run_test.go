package loganalytics

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/internal/telemetry"
)

func TestRunSealsReportsAndForgetsByTheClock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Workspaces: []Workspace{{Name: "w", CustomerID: irelandID, ResourceID: irelandARM, RetentionDays: 2}}},
			Deps{Dir: dir, Verifier: &rest.Verifier{}, Policy: &rbac.Policy{}, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		if err := s.Sink("W").Emit(ctx, "Heartbeat", telemetry.Row{"Computer": "a"}); err != nil {
			t.Fatal(err)
		}
		st := s.workspaces[0].store
		segments := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			ts := st.tables["Heartbeat"]
			ts.mu.Lock()
			defer ts.mu.Unlock()
			return len(ts.segments)
		}
		if n := segments(30 * time.Minute); n != 0 {
			t.Errorf("after half an hour: %d segments", n)
		}
		if n := segments(time.Hour); n != 1 {
			t.Errorf("after an hour: %d segments, want 1", n)
		}
		if got := rowsOf(t, st, "Usage", allTime, "DataType"); strings.Join(got, ",") != "Heartbeat" {
			t.Errorf("usage: got %v", got)
		}
		if n := segments(3 * 24 * time.Hour); n != 0 {
			t.Errorf("after retention: %d segments", n)
		}
		if got := rowsOf(t, st, "Heartbeat", allTime, "Computer"); len(got) != 0 {
			t.Errorf("after retention: %v", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAWorkspaceThatIsNotWholeIsAStartUpError(t *testing.T) {
	whole := Workspace{Name: "w", CustomerID: irelandID, ResourceID: irelandARM}
	deps := func() Deps {
		return Deps{Dir: t.TempDir(), Verifier: &rest.Verifier{}, Policy: &rbac.Policy{}, Now: time.Now}
	}
	with := func(change func(*Workspace)) Workspace { w := whole; change(&w); return w }
	for what, workspaces := range map[string][]Workspace{
		"no name":          {with(func(w *Workspace) { w.Name = "" })},
		"no GUID":          {with(func(w *Workspace) { w.CustomerID = "../../etc" })},
		"no ARM id":        {with(func(w *Workspace) { w.ResourceID = "w" })},
		"one name twice":   {whole, with(func(w *Workspace) { w.CustomerID, w.ResourceID = europeID, europeARM })},
		"one GUID twice":   {whole, with(func(w *Workspace) { w.Name, w.ResourceID = "v", europeARM })},
		"one ARM id twice": {whole, with(func(w *Workspace) { w.Name, w.CustomerID = "v", europeID })},
	} {
		if _, err := New(Config{Workspaces: workspaces}, deps()); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for what, change := range map[string]func(*Deps){"no directory": func(d *Deps) { d.Dir = "" }, "no verifier": func(d *Deps) { d.Verifier = nil },
		"no policy": func(d *Deps) { d.Policy = nil }, "no clock": func(d *Deps) { d.Now = nil }} {
		d := deps()
		change(&d)
		if _, err := New(Config{Workspaces: []Workspace{whole}}, d); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	s, err := New(Config{Workspaces: []Workspace{whole}}, deps())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Sink("x").Emit(t.Context(), "Heartbeat", telemetry.Row{}); !errors.Is(err, ErrWorkspace) {
		t.Errorf("an unknown workspace: got %v", err)
	}
}

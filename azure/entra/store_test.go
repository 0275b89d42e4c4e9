package entra

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"verdant/internal/sqlstore"
)

// TestACodePresentedTwiceBeginsNoFamily covers the moment between a code's
// first use and its refresh token: whoever presents the code then, takes the
// refresh token with it.
func TestACodePresentedTwiceBeginsNoFamily(t *testing.T) {
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "entra.db"), [32]byte{1}, Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	s, ctx, now := &store{db}, t.Context(), time.Unix(1_800_000_000, 0)
	if err := s.addCode(ctx, "code", "app", grant{User: "u"}, now, time.Minute); err != nil {
		t.Fatal(err)
	}
	if g, err := s.useCode(ctx, "code", "app", now); err != nil || g.User != "u" {
		t.Fatalf("first use: got %+v, %v", g, err)
	}
	if _, err := s.useCode(ctx, "code", "app", now); !errors.Is(err, errGrantReused) {
		t.Fatalf("second use: got %v", err)
	}
	if err := s.addRefresh(ctx, "token", "code", "app", grant{User: "u"}, now, time.Hour); !errors.Is(err, errGrantReused) {
		t.Errorf("refresh token after it: got %v, want it refused", err)
	}
	if _, err := s.refresh(ctx, "token", "app", now); !errors.Is(err, errNoGrant) {
		t.Errorf("refresh token is kept: %v", err)
	}
}

// TestManyGuessesAtOnceAreNoMoreThanOneAfterTheOther: the lock-out counts an
// attempt before it looks at the password.
func TestManyGuessesAtOnceAreNoMoreThanOneAfterTheOther(t *testing.T) {
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "entra.db"), [32]byte{1}, Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	now := time.Unix(1_800_000_000, 0)
	s := &Server{store: &store{db}, dir: &directory{}, check: make(chan struct{}, passwordChecks), now: func() time.Time { return now }}
	const mob = lockAfter + 6
	errs := make([]error, mob)
	var wg sync.WaitGroup
	for i := range mob {
		wg.Go(func() { _, errs[i] = s.authenticate(t.Context(), "nobody", "guess") })
	}
	wg.Wait()
	tried := 0
	for _, err := range errs {
		switch {
		case errors.Is(err, errBadPassword):
			tried++
		case !errors.Is(err, errLocked):
			t.Errorf("got %v", err)
		}
	}
	if tried != lockAfter {
		t.Errorf("%d of %d guesses were tried, want %d", tried, mob, lockAfter)
	}
}

func TestInventedNamesNeitherFillTheDiskNorFreeTheRealOnes(t *testing.T) {
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "entra.db"), [32]byte{1}, Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	s, ctx, now := &store{db}, t.Context(), time.Unix(1_800_000_000, 0)
	if _, err := db.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO entra_attempt (name, failures, locked, expires) SELECT CAST(i AS BLOB), 1, 0, ? FROM n`, maxAttempts, now.Add(time.Hour).UnixMicro()); err != nil {
		t.Fatal(err)
	}
	if locked, err := s.attempt(ctx, "invented", false, now); err != nil || !locked {
		t.Errorf("one invented name more: got locked=%v, %v", locked, err)
	}
	for i := range lockAfter + 1 {
		locked, err := s.attempt(ctx, "real", true, now)
		if err != nil || locked != (i == lockAfter) {
			t.Errorf("attempt %d on a user: got locked=%v, %v", i+1, locked, err)
		}
	}
}

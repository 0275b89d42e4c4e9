package cmk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const keyID = "https://kv.vault.azure.net/keys/mysql-encryption-key"

// refusal is a definite refusal as a Wrapper reports it.
type refusal struct{ because string }

func (r refusal) Error() string  { return "unwrap with key " + keyID + ": " + r.because }
func (refusal) KeyRefused() bool { return true }

var (
	errRefused = refusal{"the vault answered 403 Forbidden (ForbiddenByRbac)"}
	errSilent  = errors.New("dial tcp: connection refused")
)

// memoryKEK is a Wrapper in memory: wrapping is an XOR with the version's
// number, padded to the size of an RSA block.
type memoryKEK struct {
	mu               sync.Mutex
	version          int
	fail             error // every operation fails with it
	failWrap         error
	wraps, unwraps   int
	currents         int
	unwrapsSomething bool // to something else
}

func (k *memoryKEK) KeyID() string { return keyID }

func (k *memoryKEK) kid(version int) string { return fmt.Sprintf("%s/%032d", keyID, version) }

func (k *memoryKEK) Current(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.currents++
	return k.kid(k.version), k.fail
}

func (k *memoryKEK) Wrap(_ context.Context, dek []byte) (string, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wraps++
	if err := errors.Join(k.fail, k.failWrap); err != nil {
		return "", nil, err
	}
	return k.kid(k.version), k.xor(append(bytes.Clone(dek), make([]byte, 256-len(dek))...), k.version), nil
}

func (k *memoryKEK) xor(b []byte, version int) []byte {
	for i := range b {
		b[i] ^= byte(version)
	}
	return b
}

func (k *memoryKEK) Unwrap(ctx context.Context, kid string, wrapped []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unwraps++
	if err := errors.Join(k.fail, ctx.Err()); err != nil {
		return nil, err
	}
	var version int
	if _, err := fmt.Sscanf(kid[len(keyID)+1:], "%d", &version); err != nil {
		return nil, err
	}
	out := k.xor(bytes.Clone(wrapped), version)[:32]
	if k.unwrapsSomething {
		out[0]++
	}
	return out, nil
}

func (k *memoryKEK) set(change func(k *memoryKEK)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k)
}

// open makes a Guard in a directory of its own whose clock the test moves.
type fixture struct {
	*Guard
	kek   *memoryKEK
	path  string
	now   time.Time
	seen  []State
	start func() (*Guard, error)
}

func newFixture(t *testing.T, kek *memoryKEK) *fixture {
	t.Helper()
	f := &fixture{kek: kek, path: filepath.Join(t.TempDir(), "dek.json"), now: time.Date(2021, 7, 1, 0, 0, 0, 0, time.UTC)}
	f.start = func() (*Guard, error) {
		return Open(t.Context(), GuardConfig{Name: "database eudcc-ie-mysql", KEK: kek, Path: f.path,
			OnChange: func(s State) { f.seen = append(f.seen, s) }, Now: func() time.Time { return f.now }})
	}
	f.restart(t)
	return f
}

func (f *fixture) restart(t *testing.T) {
	t.Helper()
	g, err := f.start()
	if err != nil {
		t.Fatal(err)
	}
	f.Guard = g
}

func (f *fixture) mustKey(t *testing.T) [32]byte {
	t.Helper()
	key, err := f.Key()
	if err != nil {
		t.Fatal(err)
	}
	if key == [32]byte{} {
		t.Fatal("the data key is all zero")
	}
	return key
}

func TestTheDataKeyIsMadeOnceAndComesBackAfterARestart(t *testing.T) {
	f := newFixture(t, &memoryKEK{version: 1})
	want := f.mustKey(t)
	raw, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		KID, Alg string
		Wrapped  []byte
		Created  time.Time
	}
	if err := json.Unmarshal(raw, &file); err != nil || file.KID != f.kek.kid(1) || file.Alg != "RSA-OAEP-256" || len(file.Wrapped) != 256 || !file.Created.Equal(f.now) {
		t.Errorf("file: got %+v, %v", file, err)
	}
	if info, err := os.Stat(f.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: got %v, %v; want mode 600", info.Mode(), err)
	}
	f.restart(t)
	if got := f.mustKey(t); got != want {
		t.Error("another data key after the restart")
	}
	if f.kek.wraps != 1 {
		t.Errorf("wrapped %d times, want once", f.kek.wraps)
	}
}

func TestARefusalErasesTheKeyAndGivingTheRightBackRestoresIt(t *testing.T) {
	f := newFixture(t, &memoryKEK{version: 1})
	want := f.mustKey(t)
	_, changed := f.Watch()
	f.now = f.now.Add(time.Hour)
	f.kek.set(func(k *memoryKEK) { k.fail = errRefused })
	state := f.Check(t.Context())
	if state.Available || !state.Refused || !strings.Contains(state.Reason, "ForbiddenByRbac") || !strings.Contains(state.Reason, keyID) || !state.Since.Equal(f.now) {
		t.Errorf("got %+v", state)
	}
	if _, err := f.Key(); !errors.Is(err, ErrInaccessible) || !strings.Contains(err.Error(), "ForbiddenByRbac") {
		t.Errorf("got %v, want ErrInaccessible with the reason", err)
	}
	if f.key != [32]byte{} {
		t.Error("the data key is still in memory")
	}
	select {
	case <-changed:
	default:
		t.Error("Watch was not told")
	}
	since := f.now
	f.now = f.now.Add(time.Minute)
	if got := f.Check(t.Context()).Since; !got.Equal(since) {
		t.Errorf("a second refusal moved Since to %s", got)
	}
	// What does not reach the vault neither mends nor worsens a refusal.
	f.kek.set(func(k *memoryKEK) { k.fail = errSilent })
	if got := f.Check(t.Context()); got.Available || !strings.Contains(got.Reason, "ForbiddenByRbac") {
		t.Errorf("after silence: got %+v", got)
	}
	f.kek.set(func(k *memoryKEK) { k.fail = nil })
	if got := f.Check(t.Context()); !got.Available || got.Reason != "" || !got.Since.Equal(f.now) {
		t.Errorf("got %+v", got)
	}
	if got := f.mustKey(t); got != want {
		t.Error("another data key after recovery")
	}
	var told []bool
	for _, s := range f.seen {
		told = append(told, s.Available)
	}
	if !slices.Equal(told, []bool{true, false, true}) {
		t.Errorf("OnChange was told %v", told)
	}
}

func TestAVaultThatIsSilentNeverCountsAsARefusal(t *testing.T) {
	f := newFixture(t, &memoryKEK{version: 1})
	want := f.mustKey(t)
	f.kek.set(func(k *memoryKEK) { k.fail = errSilent })
	for range 1000 {
		f.now = f.now.Add(time.Hour)
		f.Check(t.Context())
	}
	if got := f.mustKey(t); got != want {
		t.Error("another data key")
	}
}

func TestAStartWithoutTheVaultWaitsForIt(t *testing.T) {
	for name, c := range map[string]struct {
		fail error
		says string
	}{"refused": {errRefused, "ForbiddenByRbac"}, "silent": {errSilent, "waiting for the vault"}} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", first start ", first), func(t *testing.T) {
				kek := &memoryKEK{version: 1}
				f := newFixture(t, kek)
				if first {
					if err := os.Remove(f.path); err != nil {
						t.Fatal(err)
					}
				}
				kek.set(func(k *memoryKEK) { k.fail = c.fail })
				f.restart(t)
				if _, err := f.Key(); !errors.Is(err, ErrInaccessible) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want ErrInaccessible that says %q", err, c.says)
				}
				if _, err := os.Stat(f.path); first && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a file was written although nothing was wrapped: %v", err)
				}
				kek.set(func(k *memoryKEK) { k.fail = nil })
				f.Check(t.Context())
				f.mustKey(t)
			})
		}
	}
}

func TestANewVersionOfTheKEKCostsOneRewrap(t *testing.T) {
	f := newFixture(t, &memoryKEK{version: 1})
	want := f.mustKey(t)
	f.kek.set(func(k *memoryKEK) { k.version = 2; k.wraps = 0; k.failWrap = errSilent })
	f.now = f.now.Add(time.Minute)
	if got := f.Check(t.Context()); !got.Available || got.KeyID != f.kek.kid(1) {
		t.Errorf("a re-wrap that failed: got %+v", got)
	}
	f.kek.set(func(k *memoryKEK) { k.failWrap, k.wraps = nil, 0 })
	for range 5 {
		f.Check(t.Context())
		f.now = f.now.Add(time.Minute)
	}
	if f.kek.wraps != 1 {
		t.Errorf("wrapped %d times, want once", f.kek.wraps)
	}
	if got := f.State().KeyID; got != f.kek.kid(2) {
		t.Errorf("got %s, want version 2", got)
	}
	f.restart(t)
	if got := f.mustKey(t); got != want || f.State().KeyID != f.kek.kid(2) {
		t.Error("after a restart the data key is another or wrapped by the old version")
	}
}

func TestTheVaultIsAskedForANewVersionOnceAMinute(t *testing.T) {
	f := newFixture(t, &memoryKEK{version: 1})
	for range 24 {
		f.now = f.now.Add(5 * time.Second)
		f.Check(t.Context())
	}
	if f.kek.currents != 3 {
		t.Errorf("asked %d times in two minutes, want at the start and twice", f.kek.currents)
	}
}

func TestAKeyThatDoesNotComeBackIsNeverWrittenDown(t *testing.T) {
	f := newFixture(t, &memoryKEK{version: 1})
	before, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	f.kek.set(func(k *memoryKEK) { k.version = 2; k.unwrapsSomething = true })
	f.rotated = time.Time{}
	f.rotate(t.Context(), bytes.Repeat([]byte{1}, 32))
	after, err := os.ReadFile(f.path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was replaced: %s, %v", after, err)
	}
}

func TestAFileThatNoRetryMendsIsAnError(t *testing.T) {
	f := newFixture(t, &memoryKEK{version: 1})
	good, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"empty":                   "",
		"not JSON":                "wrapped key",
		"an unknown field":        strings.Replace(string(good), "{", `{"dek":"",`, 1),
		"something behind":        string(good) + "{}",
		"another algorithm":       strings.Replace(string(good), "RSA-OAEP-256", "RSA1_5", 1),
		"another vault's key":     strings.Replace(string(good), "kv.vault", "evil.vault", 1),
		"another key":             strings.Replace(string(good), "mysql-", "aks-", 1),
		"a key without a version": strings.Replace(string(good), "/0000", "0000", 1),
		"longer than 16 KiB":      strings.Repeat(" ", maxFile) + string(good),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(f.path, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			if g, err := f.start(); err == nil {
				t.Fatalf("got %+v, want an error", g.State())
			} else if !strings.Contains(err.Error(), f.path) {
				t.Errorf("error %q does not name the file", err)
			}
			if after, err := os.ReadFile(f.path); err != nil || string(after) != body {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}

func TestRunFindsARefusalAndItsEndWithinOnePollAndErasesTheKeyAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kek := &memoryKEK{version: 1}
		g, err := Open(t.Context(), GuardConfig{Name: "n", KEK: kek, Path: filepath.Join(t.TempDir(), "f"), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		for _, c := range []struct {
			fail error
			want bool
		}{{nil, true}, {errRefused, false}, {errSilent, false}, {nil, true}, {errSilent, true}} {
			kek.set(func(k *memoryKEK) { k.fail = c.fail })
			time.Sleep(5*time.Second + time.Millisecond)
			synctest.Wait()
			if got := g.State().Available; got != c.want {
				t.Errorf("one poll after the vault said %v: got available %t, want %t", c.fail, got, c.want)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v", err)
		}
		if _, err := g.Key(); !errors.Is(err, ErrInaccessible) || g.key != [32]byte{} {
			t.Errorf("after Run the key is still there: %v", err)
		}
	})
}

func FuzzParseWrapped(f *testing.F) {
	f.Add([]byte(`{"kid":"` + keyID + `/1","alg":"RSA-OAEP-256","wrapped":"AAAA","created":"2021-07-01T00:00:00Z"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := parseWrapped(body)
		if err != nil {
			return
		}
		again, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseWrapped(again)
		if err != nil || back.KeyID != w.KeyID || !bytes.Equal(back.Wrapped, w.Wrapped) {
			t.Fatalf("%s: got %+v, %v", again, back, err)
		}
	})
}

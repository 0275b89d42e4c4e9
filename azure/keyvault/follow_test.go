package keyvault_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"verdant/azure/keyvault"
	"verdant/hsm"
	"verdant/internal/mariadbtest"
	"verdant/internal/sqlstore"
)

// twoServers are servers of one vault over one store, whose background work
// the test does itself, and whose clock is the test's.
func twoServers(t *testing.T, backing func(w *world, replica string) (keyvault.Store, *hsm.Software, func() error)) (a, b *world) {
	t.Helper()
	clock := &clock{now: time.Unix(1_800_000_000, 0)}
	server := func(replica string) *world {
		return newWorld(t, func(w *world) {
			w.clock, w.still, w.info.PrivateEndpoint = clock, true, vaultID+"-pe-"+replica
			w.backing = func(_ context.Context, w *world) (keyvault.Store, *hsm.Software, func() error) {
				return backing(w, replica)
			}
		})
	}
	return server("a"), server("b")
}

func TestServersOfOneStoreAnswerAlikeWithinASecond(t *testing.T) {
	t.Run("over SQLite", func(t *testing.T) {
		dir := t.TempDir()
		blobs := hsm.FileBlobs(filepath.Join(dir, "token"))
		coherent(t, func(w *world, replica string) (keyvault.Store, *hsm.Software, func() error) {
			db := must(sqlstore.Open(t.Context(), filepath.Join(dir, "vault.db"), [32]byte{2}, keyvault.Schema))(t)
			return keyvault.NewSharedSQLStore(db, vaultName, replica), must(hsm.OpenBlobs(t.Context(), blobs, [32]byte{1}))(t), db.Close
		})
	})
	t.Run("over MariaDB", func(t *testing.T) {
		server := mariadbtest.Start(t)
		server.Database("kv")
		coherent(t, func(w *world, replica string) (keyvault.Store, *hsm.Software, func() error) {
			return onMySQL(t, mysqlAt(server, "kv"), replica)
		})
	})
}

// onMySQL is a store and a token in one database.
func onMySQL(t testing.TB, m keyvault.MySQL, replica string) (keyvault.Store, *hsm.Software, func() error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db := must(m.Open(ctx))(t)
	return keyvault.NewMySQLStore(db, vaultName, replica), must(hsm.OpenBlobs(ctx, keyvault.NewMySQLBlobs(db, vaultName), [32]byte{1}))(t), db.Close
}

func coherent(t *testing.T, backing func(w *world, replica string) (keyvault.Store, *hsm.Software, func() error)) {
	const digest = `{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	type request struct{ method, path, body string }
	for name, c := range map[string]struct {
		before []request // through a
		ask    request   // through b: it keeps the answer
		change request   // through a
		stale  int       // b's status while it need not know
		want   int       // and when it must
	}{
		"a secret that got a new value": {[]request{{"PUT", "/secrets/x", `{"value":"one"}`}}, request{"GET", "/secrets/x", ""},
			request{"PUT", "/secrets/x", `{"value":"two"}`}, 200, 200},
		"a secret that was disabled": {[]request{{"PUT", "/secrets/x", `{"value":"one"}`}}, request{"GET", "/secrets/x", ""},
			request{"PATCH", "/secrets/x/", `{"attributes":{"enabled":false}}`}, 200, 403},
		"a secret that was deleted": {[]request{{"PUT", "/secrets/x", `{"value":"one"}`}}, request{"GET", "/secrets/x", ""},
			request{"DELETE", "/secrets/x", ""}, 200, 404},
		"a key that was rotated": {[]request{{"POST", "/keys/x/create", `{"kty":"EC"}`}}, request{"GET", "/keys/x", ""},
			request{"POST", "/keys/x/rotate", ""}, 200, 200},
		"a key that was disabled": {[]request{{"POST", "/keys/x/create", `{"kty":"EC"}`}}, request{"POST", "/keys/x/sign", digest},
			request{"PATCH", "/keys/x/", `{"attributes":{"enabled":false}}`}, 200, 403},
		"a key that was deleted": {[]request{{"POST", "/keys/x/create", `{"kty":"EC"}`}}, request{"POST", "/keys/x/sign", digest},
			request{"DELETE", "/keys/x", ""}, 200, 404},
		"a certificate that was deleted": {[]request{{"POST", "/certificates/x/create", `{"policy":{"key_props":{"kty":"EC"},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}}`}},
			request{"POST", "/keys/x/sign", digest}, request{"DELETE", "/certificates/x", ""}, 200, 404},
	} {
		for _, how := range []string{"because it was told", "because its time is over"} {
			t.Run(name+", "+how, func(t *testing.T) {
				a, b := twoServers(t, backing)
				do := func(w *world, r request, want int) string {
					t.Helper()
					got := w.adminRaw(r.method, r.path, r.body)
					if got.status != want {
						t.Fatalf("%s %s: got %d %s, want %d", r.method, r.path, got.status, got.text, want)
					}
					if r.method == "POST" { // of a signature, only whether there is one
						return ""
					}
					return got.text
				}
				for _, r := range c.before {
					if got := a.adminRaw(r.method, r.path, r.body); got.status >= 300 {
						t.Fatalf("%s: got %d %s", r.path, got.status, got.text)
					}
				}
				revision := must(b.vault.Follow(t.Context(), 0))(t)
				old := do(b, c.ask, 200)
				a.clock.Advance(10 * time.Millisecond)
				do(a, c.change, 200)
				if got := do(b, c.ask, c.stale); got != old {
					t.Errorf("the test proves nothing: b had not kept %s", c.ask.path)
				}
				if how == "because it was told" {
					if next := must(b.vault.Follow(t.Context(), revision))(t); next == revision {
						t.Error("the revision did not rise")
					}
				} else {
					a.clock.Advance(time.Second)
				}
				if got := do(b, c.ask, c.want); c.want == 200 && got == old {
					t.Errorf("b still answers %s", got)
				}
				cleanUp(a)
			})
		}
	}
}

// cleanUp takes x out of the vault, for the next case.
func cleanUp(w *world) {
	for _, kind := range []string{"certificates", "keys", "secrets"} {
		w.adminRaw("DELETE", "/"+kind+"/x", "")
		w.adminRaw("DELETE", "/deleted"+kind+"/x", "")
	}
}

func TestAKeyThatIsBeingDestroyedGetsNoOwner(t *testing.T) {
	dir := t.TempDir()
	blobs := hsm.FileBlobs(filepath.Join(dir, "token"))
	a, b := twoServers(t, func(w *world, replica string) (keyvault.Store, *hsm.Software, func() error) {
		db := must(sqlstore.Open(t.Context(), filepath.Join(dir, "vault.db"), [32]byte{2}, keyvault.Schema))(t)
		return keyvault.NewSharedSQLStore(db, vaultName, replica), must(hsm.OpenBlobs(t.Context(), blobs, [32]byte{1}))(t), db.Close
	})
	// What a does when it makes a key, up to the moment before it has an owner.
	id := hsm.NewKeyID()
	if err := a.store().Update(t.Context(), func(tx keyvault.Tx) error { return tx.Doom(id, a.clock.Now().UnixNano()) }); err != nil {
		t.Fatal(err)
	}
	must(a.token.Generate(t.Context(), id, hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}))(t)
	b.vault.Sweep(t.Context())
	if _, err := b.token.Key(t.Context(), id); err != nil {
		t.Errorf("b took a key that a is just making: %v", err)
	}
	a.clock.Advance(time.Hour)
	b.vault.Sweep(t.Context())
	if _, err := b.token.Key(t.Context(), id); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("b left a key that a crash of a left behind: %v", err)
	}
	err := a.store().Update(t.Context(), func(tx keyvault.Tx) error { return tx.Spare(id) })
	if !errors.Is(err, keyvault.ErrCondemned) {
		t.Errorf("a, that was only slow: got %v, want ErrCondemned", err)
	}
	if _, err := a.token.Key(t.Context(), id); err != nil {
		t.Fatalf("the test proves nothing: a had forgotten the key: %v", err)
	}
	if _, err := a.vault.Follow(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := a.token.Key(t.Context(), id); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("a holds a destroyed key in memory: %v", err)
	}
}

// Package storetest holds a keyvault.Store against what the interface
// promises.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"verdant/azure/keyvault"
	"verdant/hsm"
)

// Run runs the suite. open returns the store under test, empty on its first
// call in a test; calling it again in the same test opens the same store anew.
func Run(t *testing.T, open func(t *testing.T) func() keyvault.Store) {
	for name, test := range map[string]func(*testing.T, func() keyvault.Store){
		"what was put is there, also after opening anew":   putAndGet,
		"names compare without regard to case":             letterCase,
		"kinds are apart":                                  kinds,
		"an update that fails leaves nothing":              atomic,
		"lists are ordered, cut and by state":              lists,
		"versions are ordered and cut":                     versions,
		"deleting removes the object and its versions":     deletes,
		"what is due is found in order":                    due,
		"doomed keys are remembered until they are spared": doom,
		"the cursor is kept":                               cursor,
		"updates happen one after the other":               concurrent,
		"a condemned key is not spared":                    condemn,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// RunShared runs the suite, and what a Shared store promises besides, with the
// stores that open returns as the servers'.
func RunShared(t *testing.T, open func(t *testing.T) func() keyvault.Shared) {
	Run(t, func(t *testing.T) func() keyvault.Store {
		again := open(t)
		return func() keyvault.Store { return again() }
	})
	for name, test := range map[string]func(*testing.T, func() keyvault.Shared){
		"what one server writes the others are told":         told,
		"who is far behind is told that anything may differ": farBehind,
		"updates of several servers do not get lost":         several,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func id(n int) string { return fmt.Sprintf("%032x", n) }

func put(t *testing.T, s keyvault.Store, o keyvault.Object, vs ...keyvault.Version) {
	t.Helper()
	err := s.Update(context.Background(), func(tx keyvault.Tx) error {
		for _, v := range vs {
			if err := tx.PutVersion(o.Kind, o.Name, v); err != nil {
				return err
			}
		}
		return tx.Put(o)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s keyvault.Store, kind keyvault.Kind, name, version string) (keyvault.Object, keyvault.Version) {
	t.Helper()
	o, v, err := s.Get(t.Context(), kind, name, version)
	if err != nil {
		t.Fatal(err)
	}
	return o, v
}

func absent(t *testing.T, s keyvault.Store, kind keyvault.Kind, name, version string, want error) {
	t.Helper()
	if _, _, err := s.Get(t.Context(), kind, name, version); !errors.Is(err, want) {
		t.Errorf("%s %s %s: got %v, want %v", kind, name, version, err, want)
	}
}

func putAndGet(t *testing.T, open func() keyvault.Store) {
	s := open()
	absent(t, s, keyvault.Keys, "k", "", keyvault.ErrNoObject)
	want := keyvault.Object{Kind: keyvault.Keys, Name: "Key-1", State: keyvault.Deleted, Current: id(2), DeletedOn: 5, PurgeOn: 9, Meta: []byte("meta")}
	put(t, s, want, keyvault.Version{ID: id(1), Created: 3, Data: []byte("one"), Value: []byte("sealed")}, keyvault.Version{ID: id(2), Created: 4, Data: []byte("two")})
	for _, s := range []keyvault.Store{s, open()} {
		o, v := get(t, s, keyvault.Keys, "Key-1", "")
		if fmt.Sprint(o) != fmt.Sprint(want) || v.ID != id(2) || string(v.Data) != "two" || v.Created != 4 {
			t.Errorf("current: got %+v %+v", o, v)
		}
		if _, v := get(t, s, keyvault.Keys, "Key-1", id(1)); string(v.Data) != "one" || string(v.Value) != "sealed" || v.Created != 3 {
			t.Errorf("older: got %+v", v)
		}
		absent(t, s, keyvault.Keys, "Key-1", id(7), keyvault.ErrNoVersion)
	}
	put(t, s, keyvault.Object{Kind: keyvault.Certificates, Name: "pending"})
	if o, v := get(t, s, keyvault.Certificates, "pending", ""); o.Name != "pending" || v.ID != "" {
		t.Errorf("without a version: got %+v %+v", o, v)
	}
}

func letterCase(t *testing.T, open func() keyvault.Store) {
	s := open()
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "AbC", Current: id(1)}, keyvault.Version{ID: id(1), Data: []byte("x")})
	if o, v := get(t, s, keyvault.Keys, "aBc", ""); o.Name != "AbC" || v.ID != id(1) {
		t.Errorf("got %+v %+v", o, v)
	}
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "abc", Current: id(2)}, keyvault.Version{ID: id(2), Data: []byte("y")})
	if list, err := s.List(t.Context(), keyvault.Keys, keyvault.Live, "", 10); err != nil || len(list) != 1 {
		t.Errorf("got %d objects, %v; want 1", len(list), err)
	}
}

func kinds(t *testing.T, open func() keyvault.Store) {
	s := open()
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "x", Current: id(1)}, keyvault.Version{ID: id(1), Data: []byte("key")})
	absent(t, s, keyvault.Secrets, "x", "", keyvault.ErrNoObject)
	put(t, s, keyvault.Object{Kind: keyvault.Secrets, Name: "x", Current: id(1)}, keyvault.Version{ID: id(1), Data: []byte("secret")})
	if _, v := get(t, s, keyvault.Keys, "x", ""); string(v.Data) != "key" {
		t.Errorf("got %q", v.Data)
	}
}

func atomic(t *testing.T, open func() keyvault.Store) {
	s := open()
	want := errors.New("no")
	err := s.Update(t.Context(), func(tx keyvault.Tx) error {
		if err := errors.Join(tx.PutVersion(keyvault.Keys, "k", keyvault.Version{ID: id(1), Data: []byte("x")}), tx.Put(keyvault.Object{Kind: keyvault.Keys, Name: "k", Current: id(1)}), tx.Doom("key", 1)); err != nil {
			return err
		}
		if o, err := tx.Object(keyvault.Keys, "k"); err != nil || o.Current != id(1) {
			t.Errorf("a transaction does not see its own write: %+v, %v", o, err)
		}
		return want
	})
	if err != want {
		t.Errorf("got %v, want fn's own error", err)
	}
	absent(t, s, keyvault.Keys, "k", "", keyvault.ErrNoObject)
	if doomed, err := s.Doomed(t.Context(), 10); err != nil || len(doomed) != 0 {
		t.Errorf("got doomed %v, %v", doomed, err)
	}
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "k", Current: id(1)}, keyvault.Version{ID: id(1), Data: []byte("x")})
	if _, err := s.List(t.Context(), keyvault.Keys, keyvault.Live, "", 5); err != nil {
		t.Errorf("after a failed update: %v", err)
	}
}

func lists(t *testing.T, open func() keyvault.Store) {
	s := open()
	for i := range 30 {
		o := keyvault.Object{Kind: keyvault.Secrets, Name: fmt.Sprintf("S-%02d", i), Current: id(1)}
		if i%3 == 0 {
			o.State, o.PurgeOn = keyvault.Deleted, 1
		}
		put(t, s, o, keyvault.Version{ID: id(1), Data: []byte(o.Name), Value: []byte("sealed")})
	}
	var names []string
	after := ""
	for {
		page, err := s.List(t.Context(), keyvault.Secrets, keyvault.Live, after, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if string(e.Version.Data) != e.Object.Name || e.Version.Value != nil {
				t.Errorf("got %+v", e)
			}
			names = append(names, e.Object.Name)
		}
		if len(page) < 7 {
			break
		}
		after = page[len(page)-1].Object.Name
	}
	if len(names) != 20 || names[0] != "S-01" || names[19] != "S-29" {
		t.Errorf("got %d names: %v", len(names), names)
	}
	if gone, err := s.List(t.Context(), keyvault.Secrets, keyvault.Deleted, "", 100); err != nil || len(gone) != 10 {
		t.Errorf("got %d deleted, %v; want 10", len(gone), err)
	}
}

func versions(t *testing.T, open func() keyvault.Store) {
	s := open()
	for i := range 10 {
		put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "K", Current: id(i)}, keyvault.Version{ID: id(i), Data: []byte{byte(i)}, Value: []byte("v")})
	}
	page, err := s.Versions(t.Context(), keyvault.Keys, "k", id(3), 4)
	if err != nil || len(page) != 4 || page[0].ID != id(4) || page[3].ID != id(7) || page[0].Value != nil {
		t.Errorf("got %+v, %v", page, err)
	}
	err = s.Update(t.Context(), func(tx keyvault.Tx) error {
		all, err := tx.Versions(keyvault.Keys, "K")
		if len(all) != 10 {
			t.Errorf("got %d versions, want 10", len(all))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func deletes(t *testing.T, open func() keyvault.Store) {
	s := open()
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "k", Current: id(1)}, keyvault.Version{ID: id(1), Data: []byte("x")})
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "kk", Current: id(1)}, keyvault.Version{ID: id(1), Data: []byte("x")})
	if err := s.Update(t.Context(), func(tx keyvault.Tx) error { return tx.Delete(keyvault.Keys, "K") }); err != nil {
		t.Fatal(err)
	}
	absent(t, s, keyvault.Keys, "k", "", keyvault.ErrNoObject)
	get(t, s, keyvault.Keys, "kk", "")
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "k", Current: id(2)}, keyvault.Version{ID: id(2), Data: []byte("y")})
	absent(t, s, keyvault.Keys, "k", id(1), keyvault.ErrNoVersion)
}

func due(t *testing.T, open func() keyvault.Store) {
	s := open()
	for i, at := range []int64{30, 10, 20, 40} {
		put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: fmt.Sprint("k", i), State: keyvault.Deleted, PurgeOn: at})
	}
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "live"})
	found, err := s.Due(t.Context(), 30, 10)
	if err != nil || len(found) != 3 || found[0].Name != "k1" || found[2].Name != "k0" || found[0].Kind != keyvault.Keys {
		t.Errorf("got %+v, %v", found, err)
	}
}

func doom(t *testing.T, open func() keyvault.Store) {
	s := open()
	update := func(fn func(keyvault.Tx) error) {
		t.Helper()
		if err := s.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx keyvault.Tx) error { return errors.Join(tx.Doom("a", 5), tx.Doom("b", 7), tx.Doom("c", 5)) })
	update(func(tx keyvault.Tx) error { return tx.Spare("c") })
	ids, err := open().Doomed(t.Context(), 7)
	if err != nil || len(ids) != 1 || ids[0] != hsm.KeyID("a") {
		t.Errorf("got %v, %v; want a", ids, err)
	}
}

func cursor(t *testing.T, open func() keyvault.Store) {
	s := open()
	if seq, err := s.Cursor(t.Context()); err != nil || seq != 0 {
		t.Errorf("got %d, %v", seq, err)
	}
	for _, want := range []uint64{7, 9} {
		if err := s.SetCursor(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if seq, err := open().Cursor(t.Context()); err != nil || seq != want {
			t.Errorf("got %d, %v; want %d", seq, err, want)
		}
	}
}

func concurrent(t *testing.T, open func() keyvault.Store) {
	s := open()
	put(t, s, keyvault.Object{Kind: keyvault.Keys, Name: "n"})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				err := s.Update(context.Background(), func(tx keyvault.Tx) error {
					o, err := tx.Object(keyvault.Keys, "n")
					o.PurgeOn++
					return errors.Join(err, tx.Put(o))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if o, _ := get(t, s, keyvault.Keys, "n", ""); o.PurgeOn != 40 {
		t.Errorf("got %d, want 40: an update was lost", o.PurgeOn)
	}
}

func condemn(t *testing.T, open func() keyvault.Store) {
	s := open()
	update := func(fn func(keyvault.Tx) error) error { return s.Update(t.Context(), fn) }
	if err := update(func(tx keyvault.Tx) error { return tx.Doom("a", 5) }); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[hsm.KeyID]bool{"a": true, "never doomed": false} {
		err := update(func(tx keyvault.Tx) error {
			got, err := tx.Condemn(key)
			if got != want {
				t.Errorf("key %s: got %v, want %v", key, got, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // while it is being destroyed, and after
		err := update(func(tx keyvault.Tx) error {
			return errors.Join(tx.Put(keyvault.Object{Kind: keyvault.Keys, Name: "k"}), tx.Spare("a"))
		})
		if !errors.Is(err, keyvault.ErrCondemned) {
			t.Errorf("got %v, want ErrCondemned", err)
		}
		absent(t, s, keyvault.Keys, "k", "", keyvault.ErrNoObject)
		if ids, err := open().Doomed(t.Context(), 1); err != nil || len(ids) > 1 {
			t.Errorf("got %v, %v", ids, err)
		}
		if err := update(func(tx keyvault.Tx) error { return tx.Destroyed("a") }); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := s.Doomed(t.Context(), 100); err != nil || len(ids) != 0 {
		t.Errorf("got %v, %v; want none", ids, err)
	}
}

func told(t *testing.T, open func() keyvault.Shared) {
	a, b := open(), open()
	changes := func(after uint64) keyvault.Changes {
		t.Helper()
		c, err := b.Changes(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := changes(0); c.Revision != 0 || c.All || len(c.Objects) != 0 {
		t.Errorf("before the first write: got %+v", c)
	}
	put(t, a, keyvault.Object{Kind: keyvault.Keys, Name: "One"}, keyvault.Version{ID: id(1), Data: []byte("x")})
	first := changes(0)
	if first.All || len(first.Objects) != 1 || first.Objects[0] != (keyvault.Change{Kind: keyvault.Keys, Name: "one"}) {
		t.Errorf("after a write: got %+v", first)
	}
	if c := changes(first.Revision); c.Revision != first.Revision || c.All || len(c.Objects) != 0 {
		t.Errorf("after nothing: got %+v", c)
	}
	err := a.Update(t.Context(), func(tx keyvault.Tx) error {
		_, err := tx.Condemn("nothing")
		return errors.Join(err, tx.Doom("key", 1), tx.Delete(keyvault.Keys, "one"), tx.PutVersion(keyvault.Secrets, "Two", keyvault.Version{ID: id(2), Data: []byte("y")}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Update(t.Context(), func(tx keyvault.Tx) error { _, err := tx.Condemn("key"); return err }); err != nil {
		t.Fatal(err)
	}
	_ = a.Update(t.Context(), func(tx keyvault.Tx) error {
		return errors.Join(tx.Put(keyvault.Object{Kind: keyvault.Keys, Name: "rolled back"}), errors.New("no"))
	})
	got := map[keyvault.Change]bool{}
	for _, c := range changes(first.Revision).Objects {
		got[c] = true
	}
	for _, want := range []keyvault.Change{{Kind: keyvault.Keys, Name: "one"}, {Kind: keyvault.Secrets, Name: "two"}, {Kind: keyvault.TokenKeys, Name: "key"}} {
		if !got[want] {
			t.Errorf("not told of %v", want)
		}
	}
	if len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func farBehind(t *testing.T, open func() keyvault.Shared) {
	a := open()
	const writes, each = 9, 500 // more changes than are told one by one
	for i := range writes {
		err := a.Update(t.Context(), func(tx keyvault.Tx) error {
			var errs []error
			for j := range each {
				errs = append(errs, tx.Put(keyvault.Object{Kind: keyvault.Keys, Name: fmt.Sprint("k-", i, "-", j)}))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := open().Changes(t.Context(), 0)
	if err != nil || !c.All || c.Revision == 0 {
		t.Errorf("got %d objects, all %v, revision %d, %v", len(c.Objects), c.All, c.Revision, err)
	}
	if c, err := a.Changes(t.Context(), c.Revision-1); err != nil || c.All || len(c.Objects) != each {
		t.Errorf("one behind: got %d objects, all %v, %v", len(c.Objects), c.All, err)
	}
	if c, err := a.Changes(t.Context(), c.Revision+5); err != nil || !c.All {
		t.Errorf("ahead of the store, as after its restoration: got %+v, %v", c, err)
	}
}

func several(t *testing.T, open func() keyvault.Shared) {
	put(t, open(), keyvault.Object{Kind: keyvault.Keys, Name: "n"})
	var wg sync.WaitGroup
	for range 3 {
		s := open()
		wg.Go(func() {
			for range 20 {
				err := s.Update(context.Background(), func(tx keyvault.Tx) error {
					o, err := tx.Object(keyvault.Keys, "n")
					o.PurgeOn++
					return errors.Join(err, tx.Put(o))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if o, _ := get(t, open(), keyvault.Keys, "n", ""); o.PurgeOn != 60 {
		t.Errorf("got %d, want 60: an update was lost", o.PurgeOn)
	}
}

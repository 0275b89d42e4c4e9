package hsm_test

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
)

// memory is a place for blobs that several tokens have open.
type memory struct {
	mu    sync.Mutex
	blobs map[string][]byte
}

func (m *memory) Create(_ context.Context, name string, sealed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs[name] != nil {
		return fs.ErrExist
	}
	m.blobs[name] = sealed
	return nil
}

func (m *memory) Read(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs[name] == nil {
		return nil, fs.ErrNotExist
	}
	return m.blobs[name], nil
}

func (m *memory) Remove(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.blobs, name)
	return nil
}

func (m *memory) Empty(context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.blobs) == 0, nil
}

func shared(t *testing.T, m *memory) *hsm.Software {
	t.Helper()
	s, err := hsm.OpenBlobs(t.Context(), m, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestATokenOverBlobsIsAToken(t *testing.T) {
	m := &memory{blobs: map[string][]byte{}}
	hsmtest.Run(t, func(t *testing.T) hsm.Token { return shared(t, m) })
}

func TestTokensOverTheSameBlobsHaveTheSameKeys(t *testing.T) {
	ctx, m := t.Context(), &memory{blobs: map[string][]byte{}}
	tokens := [4]*hsm.Software{}
	var wg sync.WaitGroup
	for i := range tokens { // all find the place empty, or one of them initialised it
		wg.Go(func() {
			var err error
			if tokens[i], err = hsm.OpenBlobs(ctx, m, [32]byte{1}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ids := [4]string{}
	for i, token := range tokens {
		wg.Go(func() {
			k, err := hsm.Ensure(ctx, token, "one for all", hsm.KeySpec{Type: hsm.Oct, Bits: 256})
			if err != nil {
				t.Error(err)
				return
			}
			sealed, err := k.Seal([]byte("x"), nil)
			if err != nil {
				t.Error(err)
			}
			ids[i] = string(sealed)
		})
	}
	wg.Wait()
	k, err := tokens[0].Key(ctx, hsm.LabelID("one for all"))
	if err != nil {
		t.Fatal(err)
	}
	for i, sealed := range ids {
		if _, err := k.Open([]byte(sealed), nil); err != nil {
			t.Errorf("token %d sealed under another key: %v", i, err)
		}
	}
	id := hsm.NewKeyID()
	if _, err := tokens[1].Generate(ctx, id, hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}); err != nil {
		t.Fatal(err)
	}
	for i, token := range tokens {
		if _, err := token.Key(ctx, id); err != nil {
			t.Errorf("token %d: %v", i, err)
		}
		if _, err := token.Generate(ctx, id, hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}); !errors.Is(err, hsm.ErrExists) {
			t.Errorf("token %d makes it again: got %v, want ErrExists", i, err)
		}
	}
	if err := tokens[2].Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	for i, token := range tokens {
		token.Forget(id)
		if _, err := token.Key(ctx, id); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("token %d after deletion: got %v, want ErrNotFound", i, err)
		}
	}
}

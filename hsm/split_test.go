package hsm_test

import (
	"crypto/ecdsa"
	"errors"
	"path/filepath"
	"testing"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
)

func TestSplitIsAToken(t *testing.T) {
	dir := t.TempDir()
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		return hsm.Split(open(t, filepath.Join(dir, "hard"), [32]byte{1}), open(t, filepath.Join(dir, "soft"), [32]byte{2}))
	})
}

func TestSplitPutsEachKeyWhereItBelongs(t *testing.T) {
	hard, soft := open(t, t.TempDir(), [32]byte{1}), open(t, t.TempDir(), [32]byte{2})
	token := hsm.Split(hard, soft)
	for id, c := range map[hsm.KeyID]struct {
		spec hsm.KeySpec
		home hsm.Token
	}{
		"signing":             {hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}, hard},
		"exportable":          {hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256, Exportable: true}, soft},
		"symmetric":           {hsm.KeySpec{Type: hsm.Oct, Bits: 256}, hard},
		"curve":               {hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256K}, soft},
		"loose":               {hsm.KeySpec{Type: hsm.Oct, Bits: 256, Exportable: true}, soft},
		hsm.LabelID("values"): {hsm.KeySpec{Type: hsm.Oct, Bits: 256}, soft},
	} {
		if _, err := token.Generate(t.Context(), id, c.spec); err != nil {
			t.Fatal(err)
		}
		for _, part := range []hsm.Token{hard, soft} {
			if _, err := part.Key(t.Context(), id); (err == nil) != (part == c.home) {
				t.Errorf("key %s: got %v from the token where it is expected: %v", id, err, part == c.home)
			}
		}
		for _, spec := range []hsm.KeySpec{{Type: hsm.EC, Curve: hsm.P256}, {Type: hsm.Oct, Bits: 256}} {
			if _, err := token.Generate(t.Context(), id, spec); !errors.Is(err, hsm.ErrExists) {
				t.Errorf("key %s again: got %v, want ErrExists", id, err)
			}
		}
	}
}

func TestSplitFindsAKeyThatMovedToTheOtherToken(t *testing.T) {
	ctx := t.Context()
	hard, soft := open(t, t.TempDir(), [32]byte{1}), open(t, t.TempDir(), [32]byte{2})
	token := hsm.Split(hard, soft)
	ec := hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}
	if _, err := token.Generate(ctx, "k", ec); err != nil {
		t.Fatal(err)
	}
	for _, home := range []hsm.Token{hard, soft, hard} {
		for _, part := range []hsm.Token{hard, soft} {
			if err := part.Delete(ctx, "k"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := token.Key(ctx, "k"); !errors.Is(err, hsm.ErrNotFound) {
			t.Fatalf("a deleted key: got %v, want ErrNotFound", err)
		}
		made, err := home.Generate(ctx, "k", ec)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			k, err := token.Key(ctx, "k")
			if err != nil || !made.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
				t.Fatalf("got %v, %v; want the key that was made last", k, err)
			}
		}
	}
}

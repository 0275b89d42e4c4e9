package hsm_test

import (
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

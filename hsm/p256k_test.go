package hsm_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"verdant/hsm"
)

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func raw(t *testing.T, der []byte) []byte {
	t.Helper()
	r, s, in := new(big.Int), new(big.Int), cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) || !seq.Empty() || !in.Empty() {
		t.Fatalf("not an ASN.1 signature: %x", der)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

func TestAKeyOnP256KSignsAndSurvivesARestartAndABackup(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	open := func() *hsm.Software { return must(hsm.OpenSoftware(ctx, dir, [32]byte{1}))(t) }
	token := open()
	spec := hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256K}
	public := must(token.Generate(ctx, "k", spec))(t).Public().(*hsm.PublicP256K)
	must(token.Generate(ctx, "sealer", hsm.KeySpec{Type: hsm.Oct, Bits: 256}))(t)
	sealed := must(token.Backup(ctx, "k", "sealer", []byte("here")))(t)

	token = open()
	if _, err := token.Restore(ctx, "again", "sealer", sealed, []byte("elsewhere")); !errors.Is(err, hsm.ErrMaterial) {
		t.Errorf("a backup with other associated data: got %v", err)
	}
	must(token.Restore(ctx, "again", "sealer", sealed, []byte("here")))(t)
	for _, id := range []hsm.KeyID{"k", "again"} {
		key := must(token.Key(ctx, id))(t)
		if key.Spec() != spec {
			t.Errorf("%s: got %v, want %v", id, key.Spec(), spec)
		}
		for i := range 50 {
			digest := sha256.Sum256([]byte{byte(i)})
			sig := raw(t, must(key.Sign(nil, digest[:], crypto.SHA256))(t))
			if !public.Verify(digest[:], sig) {
				t.Fatalf("%s: a signature does not verify", id)
			}
			digest[0] ^= 1
			if public.Verify(digest[:], sig) {
				t.Fatalf("%s: the signature of another digest verifies", id)
			}
		}
		if _, err := key.Sign(nil, make([]byte, 48), crypto.SHA384); !errors.Is(err, hsm.ErrOperation) {
			t.Errorf("a digest of 48 bytes: got %v", err)
		}
	}
}

// The public key of the scalar 1 is the base point of SEC 2 section 2.4.1.
func TestP256KKeysWhosePartsDoNotBelongTogetherAreRefused(t *testing.T) {
	number := func(s string) []byte {
		n, _ := new(big.Int).SetString(strings.ReplaceAll(s, " ", ""), 16)
		return n.Bytes()
	}
	x := number("79BE667E F9DCBBAC 55A06295 CE870B07 029BFCDB 2DCE28D9 59F2815B 16F81798")
	y := number("483ADA77 26A3C465 5DA4FBFC 0E1108A8 FD17B448 A6855419 9C47D08F FB10D4B8")
	order := number("FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFE BAAEDCE6 AF48A03B BFD25E8C D0364141")
	must(hsm.FromJWK(hsm.EC, hsm.JWK{Curve: hsm.P256K, D: []byte{1}, X: x, Y: y}))(t)
	for name, k := range map[string]hsm.JWK{
		"the scalar of another key": {D: []byte{2}, X: x, Y: y},
		"a scalar of zero":          {D: []byte{0}, X: x, Y: y},
		"the order as scalar":       {D: order, X: x, Y: y},
		"a point off the curve":     {D: []byte{1}, X: x, Y: x},
		"no point":                  {D: []byte{1}},
	} {
		k.Curve = hsm.P256K
		if _, err := hsm.FromJWK(hsm.EC, k); !errors.Is(err, hsm.ErrMaterial) {
			t.Errorf("%s: got %v, want ErrMaterial", name, err)
		}
	}
}

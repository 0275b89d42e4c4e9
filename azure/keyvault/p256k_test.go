package keyvault_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

func TestAKeyOnP256KSignsWithES256KOnly(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.keys(admin), t.Context()
	made := must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Curve: to.Ptr(azkeys.CurveNameP256K)}, nil))(t)
	if *made.Key.Crv != azkeys.CurveNameP256K || len(made.Key.X) != 32 || len(made.Key.Y) != 32 {
		t.Errorf("got %s with %d and %d bytes", *made.Key.Crv, len(made.Key.X), len(made.Key.Y))
	}
	must(c.CreateKey(ctx, "nist", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	digest, long := sha256.Sum256([]byte("x")), sha512.Sum384([]byte("x"))
	es256k := to.Ptr(azkeys.SignatureAlgorithmES256K)
	sig := must(c.Sign(ctx, "k", "", azkeys.SignParameters{Algorithm: es256k, Value: digest[:]}, nil))(t)
	other := sha256.Sum256([]byte("y"))
	for name, d := range map[string][]byte{"signed": digest[:], "other": other[:]} {
		got := must(c.Verify(ctx, "k", "", azkeys.VerifyParameters{Algorithm: es256k, Digest: d, Signature: sig.Result}, nil))(t)
		if *got.Value != (name == "signed") {
			t.Errorf("the %s digest: got %v", name, *got.Value)
		}
	}
	for name, try := range map[string]struct {
		key    string
		alg    azkeys.SignatureAlgorithm
		digest []byte
	}{
		"ES256 with the P-256K key": {"k", azkeys.SignatureAlgorithmES256, digest[:]},
		"ES256K with the P-256 key": {"nist", azkeys.SignatureAlgorithmES256K, digest[:]},
		"a digest that is too long": {"k", azkeys.SignatureAlgorithmES256K, long[:]},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Sign(ctx, try.key, "", azkeys.SignParameters{Algorithm: &try.alg, Value: try.digest}, nil)
			refused(t, err, 400, "BadParameter")
		})
	}
	rotated := must(c.RotateKey(ctx, "k", nil))(t)
	if *rotated.Key.Crv != azkeys.CurveNameP256K {
		t.Errorf("rotation made a key on %s", *rotated.Key.Crv)
	}
}

package hsm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
)

func open(t *testing.T, dir string, root [32]byte) *hsm.Software {
	t.Helper()
	s, err := hsm.OpenSoftware(t.Context(), dir, root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSoftwareIsAToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "token")
	hsmtest.Run(t, func(t *testing.T) hsm.Token { return open(t, dir, [32]byte{1}) })
}

func TestAWrongRootKeyIsSaidToBeWrong(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, [32]byte{1})
	k, err := s.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.OpenSoftware(t.Context(), dir, [32]byte{2}); !errors.Is(err, hsm.ErrRoot) {
		t.Errorf("got %v, want ErrRoot", err)
	}
	if err := os.Remove(filepath.Join(dir, "token.check")); err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.OpenSoftware(t.Context(), dir, [32]byte{2}); !errors.Is(err, hsm.ErrRoot) {
		t.Errorf("keys without a check file: got %v, want ErrRoot", err)
	}
	if _, err := os.Stat(filepath.Join(dir, string(k.ID()))); err != nil {
		t.Errorf("the refused opening touched the keys: %v", err)
	}
}

func TestAKeyFileUnderAnotherNameDoesNotOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, [32]byte{1})
	k, err := s.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256, Exportable: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, string(k.ID())), filepath.Join(dir, "swapped")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, [32]byte{1}).Key(t.Context(), "swapped"); err == nil || errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("got %v, want a refusal to open", err)
	}
}

func TestNoKeyBytesRestInClear(t *testing.T) {
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	prime := key.Primes[0].Bytes()
	m, err := hsm.FromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, [32]byte{1}).Import(t.Context(), "k", m, true); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "k"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, prime[8:24]) || bytes.Contains(data, key.N.Bytes()[:16]) {
		t.Error("the key's file shows parts of the key")
	}
}

func TestForeignMaterialIsCheckedWhole(t *testing.T) {
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := ek.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := ek.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	good := hsm.JWK{N: rk.N.Bytes(), E: []byte{1, 0, 1}, D: rk.D.Bytes(), P: rk.Primes[0].Bytes(), Q: rk.Primes[1].Bytes()}
	withRSA := func(change func(*hsm.JWK)) hsm.JWK { k := good; change(&k); return k }
	if m, err := hsm.FromJWK(hsm.RSA, good); err != nil || !rk.PublicKey.Equal(m.Public()) {
		t.Fatalf("a good RSA key: %v", err)
	}
	if m, err := hsm.FromJWK(hsm.EC, hsm.JWK{Curve: hsm.P256, D: append([]byte{0}, d...), X: x, Y: y}); err != nil || !ek.PublicKey.Equal(m.Public()) {
		t.Fatalf("a good EC key: %v", err)
	}
	for name, c := range map[string]struct {
		kind hsm.KeyType
		key  hsm.JWK
	}{
		"an RSA key without d":             {hsm.RSA, withRSA(func(k *hsm.JWK) { k.D = nil })},
		"an RSA key with another d":        {hsm.RSA, withRSA(func(k *hsm.JWK) { k.D = []byte{3} })},
		"an RSA key with one prime twice":  {hsm.RSA, withRSA(func(k *hsm.JWK) { k.Q = k.P })},
		"an RSA key with an even exponent": {hsm.RSA, withRSA(func(k *hsm.JWK) { k.E = []byte{1, 0, 0} })},
		"an RSA key with a huge exponent":  {hsm.RSA, withRSA(func(k *hsm.JWK) { k.E = bytes.Repeat([]byte{255}, 9) })},
		"an RSA key with a zero prime":     {hsm.RSA, withRSA(func(k *hsm.JWK) { k.P = []byte{0} })},
		"an RSA key with a huge modulus":   {hsm.RSA, withRSA(func(k *hsm.JWK) { k.N = bytes.Repeat([]byte{255}, 1<<16) })},
		"an EC key with another x":         {hsm.EC, hsm.JWK{Curve: hsm.P256, D: d, X: y, Y: x}},
		"an EC key on another curve":       {hsm.EC, hsm.JWK{Curve: hsm.P384, D: d, X: x, Y: y}},
		"an EC key with d zero":            {hsm.EC, hsm.JWK{Curve: hsm.P256, D: make([]byte, 32), X: x, Y: y}},
		"an EC key with d too large":       {hsm.EC, hsm.JWK{Curve: hsm.P256, D: bytes.Repeat([]byte{255}, 32), X: x, Y: y}},
		"an EC key on no curve":            {hsm.EC, hsm.JWK{D: d, X: x, Y: y}},
		"an oct key of 100 bytes":          {hsm.Oct, hsm.JWK{K: make([]byte, 100)}},
		"a key of no type":                 {"", good},
	} {
		if m, err := hsm.FromJWK(c.kind, c.key); err == nil || m != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzMaterial(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "")
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x03}, "pw")
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		for _, parse := range []func() (*hsm.Material, error){
			func() (*hsm.Material, error) { return hsm.FromPKCS8(data) },
			func() (*hsm.Material, error) { m, _, err := hsm.FromPEM(data); return m, err },
			func() (*hsm.Material, error) { m, _, err := hsm.FromPFX(data, password); return m, err },
			func() (*hsm.Material, error) {
				return hsm.FromJWK(hsm.RSA, hsm.JWK{N: data, E: data, D: data, P: data, Q: data})
			},
			func() (*hsm.Material, error) {
				return hsm.FromJWK(hsm.EC, hsm.JWK{Curve: hsm.P256, D: data, X: data, Y: data})
			},
		} {
			if m, err := parse(); err == nil && m == nil {
				t.Error("neither key nor error")
			}
		}
	})
}

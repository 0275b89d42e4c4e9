package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"verdant/hsm"
)

func TestAWrappedKeyOpensForTheHolderOfTheRSAKeyOnly(t *testing.T) {
	token := open(t, t.TempDir(), [32]byte{1})
	kek, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	other, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range []hsm.KeySpec{{Type: hsm.RSA, Bits: 2048}, {Type: hsm.EC, Curve: hsm.P384}, {Type: hsm.EC, Curve: hsm.P256K}, {Type: hsm.Oct, Bits: 192}} {
		spec.Exportable = true
		k, err := token.Generate(t.Context(), hsm.NewKeyID(), spec)
		if err != nil {
			t.Fatal(err)
		}
		m, err := token.Export(t.Context(), k.ID())
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := m.WrapFor(kek.Public().(*rsa.PublicKey), crypto.SHA1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := hsm.UnwrapTransfer(kek, spec.Type, wrapped)
		if err != nil {
			t.Fatalf("%+v: %v", spec, err)
		}
		back, err := token.Import(t.Context(), hsm.NewKeyID(), got, true)
		if err != nil {
			t.Fatal(err)
		}
		if back.Spec() != spec {
			t.Errorf("got %+v, want %+v", back.Spec(), spec)
		}
		if spec.Type == hsm.Oct {
			sealed, err := k.Seal([]byte("m"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := back.Open(sealed, nil); err != nil || string(plain) != "m" {
				t.Errorf("another symmetric key came back: %v", err)
			}
		} else if p, ok := k.Public().(*hsm.PublicP256K); ok && !bytes.Equal(p.Bytes(), back.Public().(*hsm.PublicP256K).Bytes()) {
			t.Error("another key on P-256K came back")
		}
		wrong := hsm.EC
		if spec.Type == hsm.EC {
			wrong = hsm.RSA
		}
		changed := append([]byte(nil), wrapped...)
		changed[len(changed)-1] ^= 1
		for name, try := range map[string]func() (*hsm.Material, error){
			"with another key":   func() (*hsm.Material, error) { return hsm.UnwrapTransfer(other, spec.Type, wrapped) },
			"as another type":    func() (*hsm.Material, error) { return hsm.UnwrapTransfer(kek, wrong, wrapped) },
			"after a change":     func() (*hsm.Material, error) { return hsm.UnwrapTransfer(kek, spec.Type, changed) },
			"cut short":          func() (*hsm.Material, error) { return hsm.UnwrapTransfer(kek, spec.Type, wrapped[:256]) },
			"nothing":            func() (*hsm.Material, error) { return hsm.UnwrapTransfer(kek, spec.Type, nil) },
			"far too long":       func() (*hsm.Material, error) { return hsm.UnwrapTransfer(kek, spec.Type, make([]byte, 1<<20)) },
			"an AES key of nine": func() (*hsm.Material, error) { return hsm.UnwrapTransfer(kek, spec.Type, oddTransfer(t, kek)) },
		} {
			if m, err := try(); !errors.Is(err, hsm.ErrMaterial) || m != nil {
				t.Errorf("%s: got %v, want ErrMaterial", name, err)
			}
		}
	}
	ec, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.UnwrapTransfer(ec, hsm.RSA, make([]byte, 1000)); !errors.Is(err, hsm.ErrOperation) {
		t.Errorf("with an EC key: got %v, want ErrOperation", err)
	}
}

// oddTransfer wraps with an AES key that is none.
func oddTransfer(t *testing.T, kek hsm.Key) []byte {
	out, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, kek.Public().(*rsa.PublicKey), make([]byte, 9), nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(out, make([]byte, 4*aes.BlockSize)...)
}

// TestOpenSSLReadsAKeyOnP256K holds our PKCS #8 of secp256k1 against another
// implementation, both ways.
func TestOpenSSLReadsAKeyOnP256K(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	pem, theirs := filepath.Join(dir, "theirs.pem"), filepath.Join(dir, "theirs.der")
	for _, args := range [][]string{
		{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-out", pem},
		{"pkcs8", "-topk8", "-nocrypt", "-in", pem, "-outform", "DER", "-out", theirs},
	} {
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	der, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	m, err := hsm.FromPKCS8(der)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := m.PKCS8()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, der) {
		t.Errorf("got %x, want %x", ours, der)
	}
}

//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
)

func openSoftHSM(t testing.TB) *Token {
	t.Helper()
	return openToken(t, hsmtest.NewSoftHSM(t))
}

func openToken(t testing.TB, s hsmtest.SoftHSM) *Token {
	t.Helper()
	token, err := Open(context.Background(), Config{Module: s.Module, Token: s.Label}, []byte(s.PIN))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close() })
	return token
}

// reset does to the token's library what a reset of the token does: every
// session, login and handle is gone. It waits for the calls that are inside, as
// SoftHSM does not bear the ground being taken from under its feet.
func (t *Token) reset() {
	t.device.lock.Lock()
	defer t.device.lock.Unlock()
	_ = t.device.lib.Finalize()
}

// unplug closes all sessions and with them the login, and leaves the library.
func (t *Token) unplug() {
	t.device.lock.Lock()
	defer t.device.lock.Unlock()
	_ = t.device.lib.CloseAllSessions(t.device.slot)
}

func TestAPKCS11TokenIsAToken(t *testing.T) {
	token := openSoftHSM(t)
	dir := filepath.Join(t.TempDir(), "beside")
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		token.reset() // a module can be open once in a process
		soft, err := hsm.OpenSoftware(t.Context(), dir, [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		return hsm.Split(token, soft)
	})
}

func TestLargerRSAKeysWork(t *testing.T) {
	if testing.Short() {
		t.Skip("SoftHSM takes seconds for an RSA-4096 key")
	}
	token := openSoftHSM(t)
	digest := sha256.Sum256(nil)
	for _, bits := range []int{3072, 4096} {
		k, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.RSA, Bits: bits})
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthAuto})
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPSS(k.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], sig, nil); err != nil {
			t.Errorf("RSA-%d: %v", bits, err)
		}
	}
}

// TestTheTokenKeepsItsKeys asks SoftHSM itself what it would give out.
func TestTheTokenKeepsItsKeys(t *testing.T) {
	token := openSoftHSM(t)
	rk, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	ak, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.Oct, Bits: 256})
	if err != nil {
		t.Fatal(err)
	}
	d := token.device
	err = d.do(t.Context(), func(s p11.SessionHandle, _ bool) error {
		o, err := token.object(s, rk.ID())
		if err != nil {
			return err
		}
		a, err := token.object(s, ak.ID())
		if err != nil {
			return err
		}
		if _, err := d.lib.GetAttributeValue(s, a.handle, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)}); !is(err, p11.CKR_ATTRIBUTE_SENSITIVE) {
			t.Errorf("read the AES key: got %v, want CKR_ATTRIBUTE_SENSITIVE", err)
		}
		for name, h := range map[string]p11.ObjectHandle{"the RSA key": o.handle, "the AES key": a.handle} {
			if _, err := d.lib.WrapKey(s, wrapping(), a.handle, h); !is(err, p11.CKR_KEY_UNEXTRACTABLE) {
				t.Errorf("wrap %s with the AES key: got %v, want CKR_KEY_UNEXTRACTABLE", name, err)
			}
		}
		for name, attribute := range map[string]uint{"private exponent": p11.CKA_PRIVATE_EXPONENT, "prime": p11.CKA_PRIME_1} {
			if _, err := d.lib.GetAttributeValue(s, o.handle, []*p11.Attribute{p11.NewAttribute(attribute, nil)}); !is(err, p11.CKR_ATTRIBUTE_SENSITIVE) {
				t.Errorf("read the %s: got %v, want CKR_ATTRIBUTE_SENSITIVE", name, err)
			}
		}
		for name, attribute := range map[string]*p11.Attribute{"extractable": p11.NewAttribute(p11.CKA_EXTRACTABLE, true), "not sensitive": p11.NewAttribute(p11.CKA_SENSITIVE, false)} {
			if err := d.lib.SetAttributeValue(s, o.handle, []*p11.Attribute{attribute}); err == nil {
				t.Errorf("the key can be made %s", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKeyThatTheTokenWouldGiveOutIsNotUsed(t *testing.T) {
	token := openSoftHSM(t)
	d := token.device
	err := d.do(t.Context(), func(s p11.SessionHandle, _ bool) error {
		mechanism, public, private := generation("loose", hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256})
		for i, a := range private {
			if a.Type == p11.CKA_EXTRACTABLE {
				private[i] = p11.NewAttribute(p11.CKA_EXTRACTABLE, true)
			}
		}
		_, _, err := d.lib.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, public, private)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Key(t.Context(), "loose"); !errors.Is(err, hsm.ErrSpec) {
		t.Errorf("got %v, want ErrSpec", err)
	}
}

func TestOAEPWithSHA256OnATokenThatKnowsOnlySHA1(t *testing.T) {
	token := openSoftHSM(t)
	k, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512} {
		for _, label := range [][]byte{nil, []byte("label")} {
			ct, err := rsa.EncryptOAEP(hash.New(), rand.Reader, k.Public().(*rsa.PublicKey), []byte("dek"), label)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Decrypt(nil, ct, &rsa.OAEPOptions{Hash: hash, Label: label})
			if err != nil || string(got) != "dek" {
				t.Errorf("%v, label %q: got %q, %v", hash, label, got, err)
			}
			if _, err := k.Decrypt(nil, ct, &rsa.OAEPOptions{Hash: hash, Label: []byte("other")}); !errors.Is(err, rsa.ErrDecryption) {
				t.Errorf("%v under another label: got %v, want rsa.ErrDecryption", hash, err)
			}
		}
	}
	if !token.padsItself(crypto.SHA1, crypto.SHA1) {
		t.Error("SHA-1 does not take the token's own way")
	}
	if token.padsItself(crypto.SHA256, crypto.SHA256) {
		t.Log("this SoftHSM takes SHA-256 itself: the raw way was tried only with a label")
	}
}

// TestAResetUnderLoadIsNoticedByNobody resets the token while keys are used,
// made and looked for.
func TestAResetUnderLoadIsNoticedByNobody(t *testing.T) {
	token := openSoftHSM(t)
	spec := hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}
	var keys []hsm.Key
	for range 4 {
		k, err := token.Generate(t.Context(), hsm.NewKeyID(), spec)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	digest := sha256.Sum256([]byte("m"))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var signed [8]atomic.Int64
	for i := range signed {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				k := keys[(i+n)%len(keys)]
				sig, err := k.Sign(nil, digest[:], crypto.SHA256)
				if err != nil {
					t.Error(err)
					return
				}
				if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
					t.Error("a signature is another key's")
					return
				}
				signed[i].Add(1)
			}
		})
	}
	before := token.device.openings()
	for i := range 20 {
		if i%2 == 0 {
			token.reset()
		} else {
			token.unplug()
		}
		k, err := token.Generate(t.Context(), hsm.NewKeyID(), spec)
		if err != nil {
			t.Error(err)
			break
		}
		if err := token.Delete(t.Context(), k.ID()); err != nil {
			t.Error(err)
		}
		// A call bears two resets, not any number: everyone gets on meanwhile.
		for w := range signed {
			for before := signed[w].Load(); signed[w].Load() == before && !t.Failed(); {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	close(stop)
	wg.Wait()
	if n := token.device.openings() - before; n < 20 {
		t.Errorf("the token was opened anew %d times for 20 resets", n)
	}
}

func (d *device) openings() uint64 {
	d.lock.RLock()
	defer d.lock.RUnlock()
	return d.epoch
}

// Calls that are being made when the token is closed end well, later ones are
// refused, and nobody calls a library that is gone.
func TestClosingUnderLoadRefusesWhatComesLater(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	digest := sha256.Sum256([]byte("m"))
	for range 3 {
		token := openToken(t, s)
		k, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var signed atomic.Int64
		for range 8 {
			wg.Go(func() {
				for {
					if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
						if !errors.Is(err, hsm.ErrRefused) {
							t.Errorf("got %v, want ErrRefused", err)
						}
						return
					}
					signed.Add(1)
				}
			})
		}
		for signed.Load() < 20 {
			time.Sleep(100 * time.Microsecond)
		}
		for range 2 {
			if err := token.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	}
}

func TestAWrongPINIsRefusedAndNotTriedAgain(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	if _, err := Open(t.Context(), Config{Module: s.Module, Token: s.Label}, []byte("wrong-pin")); !errors.Is(err, hsm.ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	if _, err := Open(t.Context(), Config{Module: s.Module, Token: "no such token"}, []byte(s.PIN)); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("another label: got %v, want ErrUnavailable", err)
	}
	notModule := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(notModule, []byte("no ELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{notModule, "/no/such/module.so", "/"} {
		if _, err := Open(t.Context(), Config{Module: module, Token: s.Label}, []byte(s.PIN)); !errors.Is(err, hsm.ErrRefused) {
			t.Errorf("module %s: got %v, want ErrRefused", module, err)
		}
	}
	// The PIN is changed while the token is open: after a reset it is tried once.
	token := openToken(t, s)
	token.device.pin = "wrong-pin"
	token.reset()
	for range 3 {
		if _, err := token.Key(t.Context(), "k"); !errors.Is(err, hsm.ErrRefused) {
			t.Errorf("after the PIN was changed: got %v, want ErrRefused", err)
		}
	}
	if n := token.device.openings(); n != 2 {
		t.Errorf("the token was asked %d times, want 2", n)
	}
}

func BenchmarkSoftHSM(b *testing.B) {
	token := openSoftHSM(b)
	digest := sha256.Sum256(nil)
	for name, spec := range map[string]hsm.KeySpec{"RSA-2048": {Type: hsm.RSA, Bits: 2048}, "P-256": {Type: hsm.EC, Curve: hsm.P256}} {
		k, err := token.Generate(b.Context(), hsm.NewKeyID(), spec)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

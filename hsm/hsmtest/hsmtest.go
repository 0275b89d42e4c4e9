// Package hsmtest holds an hsm.Token against what the interface promises.
package hsmtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"verdant/hsm"
)

// Run runs the suite. open returns the token under test; calling it again
// opens the same token anew, as after a restart.
func Run(t *testing.T, open func(t *testing.T) hsm.Token) {
	for name, test := range map[string]func(*testing.T, func(*testing.T) hsm.Token){
		"every kind of key does its operations":          operations,
		"keys are there after a restart":                 restart,
		"an id is taken once":                            ids,
		"a deleted key is gone":                          deletion,
		"only exportable keys leave":                     export,
		"imported keys are the keys imported":            imports,
		"a label names one key":                          labels,
		"bad specifications are refused":                 specs,
		"handles show nothing of the key":                silence,
		"an oct key seals for one place":                 sealing,
		"an oct key enciphers as the standards say":      enciphering,
		"an oct key opens only what it enciphered":       deciphering,
		"an operation that does not fit is refused":      misfits,
		"concurrent creation under one id gives one key": races,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var (
	rsa2048 = hsm.KeySpec{Type: hsm.RSA, Bits: 2048}
	p256    = hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}
	oct256  = hsm.KeySpec{Type: hsm.Oct, Bits: 256}
)

// verify signs with k and checks the signature with its public key.
func verify(t *testing.T, k hsm.Key) {
	t.Helper()
	d256, d384, d512 := sha256.Sum256([]byte("m")), sha512.Sum384([]byte("m")), sha512.Sum512([]byte("m"))
	for hash, digest := range map[crypto.Hash][]byte{crypto.SHA256: d256[:], crypto.SHA384: d384[:], crypto.SHA512: d512[:]} {
		sig := must(k.Sign(nil, digest, hash))(t)
		switch pub := k.Public().(type) {
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(pub, digest, sig) {
				t.Errorf("key %s: EC signature over %v does not verify", k.ID(), hash)
			}
		case *rsa.PublicKey:
			if err := rsa.VerifyPKCS1v15(pub, hash, digest, sig); err != nil {
				t.Errorf("key %s: PKCS #1 signature over %v: %v", k.ID(), hash, err)
			}
			sig = must(k.Sign(rand.Reader, digest, &rsa.PSSOptions{Hash: hash, SaltLength: rsa.PSSSaltLengthEqualsHash}))(t)
			if err := rsa.VerifyPSS(pub, hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
				t.Errorf("key %s: PSS signature over %v: %v", k.ID(), hash, err)
			}
		default:
			t.Fatalf("key %s has a public key of type %T", k.ID(), pub)
		}
	}
}

func operations(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	for _, spec := range []hsm.KeySpec{rsa2048, p256, {Type: hsm.EC, Curve: hsm.P384}, {Type: hsm.EC, Curve: hsm.P521}} {
		k := must(token.Generate(t.Context(), hsm.NewKeyID(), spec))(t)
		if k.Spec() != spec {
			t.Errorf("got a key %+v, want %+v", k.Spec(), spec)
		}
		verify(t, k)
		pub, ok := k.Public().(*rsa.PublicKey)
		if !ok {
			continue
		}
		for name, hash := range map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-256": crypto.SHA256} {
			ct := must(rsa.EncryptOAEP(hash.New(), rand.Reader, pub, []byte("dek"), nil))(t)
			if got := must(k.Decrypt(nil, ct, &rsa.OAEPOptions{Hash: hash}))(t); string(got) != "dek" {
				t.Errorf("OAEP with %s: got %q", name, got)
			}
			ct[0] ^= 1
			if _, err := k.Decrypt(nil, ct, &rsa.OAEPOptions{Hash: hash}); err == nil {
				t.Errorf("OAEP with %s: a changed ciphertext opens", name)
			}
		}
		//lint:ignore SA1019 the vault API has RSA1_5, so the token must open it
		ct := must(rsa.EncryptPKCS1v15(rand.Reader, pub, []byte("dek")))(t)
		if got := must(k.Decrypt(nil, ct, nil))(t); string(got) != "dek" {
			t.Errorf("PKCS #1 v1.5: got %q", got)
		}
	}
}

func restart(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	specs := []hsm.KeySpec{rsa2048, p256, oct256, {Type: hsm.EC, Curve: hsm.P256, Exportable: true}}
	var keys []hsm.Key
	for _, spec := range specs {
		keys = append(keys, must(token.Generate(t.Context(), hsm.NewKeyID(), spec))(t))
	}
	sealed := must(keys[2].Seal([]byte("secret"), nil))(t)
	token = open(t)
	for i, before := range keys {
		k := must(token.Key(t.Context(), before.ID()))(t)
		if k.Spec() != specs[i] {
			t.Errorf("got %+v after a restart, want %+v", k.Spec(), specs[i])
		}
		if specs[i].Type == hsm.Oct {
			if got := must(k.Open(sealed, nil))(t); string(got) != "secret" {
				t.Errorf("got %q", got)
			}
			continue
		}
		verify(t, k)
		if !k.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(before.Public()) {
			t.Errorf("key %d has another public key after a restart", i)
		}
	}
}

func ids(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	id := hsm.NewKeyID()
	first := must(token.Generate(t.Context(), id, p256))(t)
	if _, err := token.Generate(t.Context(), id, p256); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("a second key under the id: got %v, want ErrExists", err)
	}
	k := must(token.Key(t.Context(), id))(t)
	if !k.Public().(*ecdsa.PublicKey).Equal(first.Public()) {
		t.Error("the refused creation replaced the key")
	}
	for _, bad := range []hsm.KeyID{"", "../x", "a/b", "UPPER", "token.check", hsm.KeyID(strings.Repeat("a", 65)), "é"} {
		if _, err := token.Generate(t.Context(), bad, p256); err == nil {
			t.Errorf("id %q is accepted", bad)
		}
		if _, err := token.Key(t.Context(), bad); err == nil {
			t.Errorf("id %q is found", bad)
		}
	}
}

func deletion(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	k := must(token.Generate(t.Context(), hsm.NewKeyID(), p256))(t)
	for range 2 { // the second finds nothing and is content
		if err := token.Delete(t.Context(), k.ID()); err != nil {
			t.Fatal(err)
		}
	}
	for _, token := range []hsm.Token{token, open(t)} {
		if _, err := token.Key(t.Context(), k.ID()); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
	if _, err := token.Key(t.Context(), hsm.NewKeyID()); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("a key that never was: got %v, want ErrNotFound", err)
	}
}

func export(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	kept := must(token.Generate(t.Context(), hsm.NewKeyID(), p256))(t)
	loose := must(token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256, Exportable: true}))(t)
	for _, token := range []hsm.Token{token, open(t)} {
		if m, err := token.Export(t.Context(), kept.ID()); !errors.Is(err, hsm.ErrNotExportable) || m != nil {
			t.Errorf("a key that may not leave: got %v, want ErrNotExportable", err)
		}
		m := must(token.Export(t.Context(), loose.ID()))(t)
		if !m.Public().(*ecdsa.PublicKey).Equal(loose.Public()) {
			t.Error("another key came out")
		}
		m.Wipe()
		verify(t, loose)
	}
}

func imports(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	want := key.PublicKey
	m := must(hsm.FromPrivateKey(key))(t)
	k := must(token.Import(t.Context(), hsm.NewKeyID(), m, false))(t)
	m.Wipe()
	if !k.Public().(*rsa.PublicKey).Equal(&want) {
		t.Error("the imported key has another public key")
	}
	verify(t, k) // wiping the material left the token's copy whole
	if _, err := token.Export(t.Context(), k.ID()); !errors.Is(err, hsm.ErrNotExportable) {
		t.Errorf("export: got %v, want ErrNotExportable", err)
	}
}

func labels(t *testing.T, open func(*testing.T) hsm.Token) {
	ctx := t.Context()
	first := must(hsm.EnsureSigner(ctx, open(t), "estate CA", p256))(t)
	again := must(hsm.EnsureSigner(ctx, open(t), "estate CA", p256))(t)
	other := must(hsm.EnsureSigner(ctx, open(t), "estate ca", p256))(t)
	if !first.Public().(*ecdsa.PublicKey).Equal(again.Public()) {
		t.Error("the label gave another key after a restart")
	}
	if first.Public().(*ecdsa.PublicKey).Equal(other.Public()) {
		t.Error("two labels share a key")
	}
	if _, err := hsm.EnsureSigner(ctx, open(t), "estate CA", rsa2048); !errors.Is(err, hsm.ErrSpec) {
		t.Errorf("the label asked for as another type: got %v, want ErrSpec", err)
	}
	if _, err := hsm.EnsureSigner(ctx, open(t), "oct", oct256); !errors.Is(err, hsm.ErrOperation) {
		t.Errorf("an oct key as signer: got %v, want ErrOperation", err)
	}
}

func specs(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	for _, spec := range []hsm.KeySpec{{}, {Type: hsm.RSA}, {Type: hsm.RSA, Bits: 1024}, {Type: hsm.RSA, Bits: 2049}, {Type: hsm.RSA, Bits: 16384},
		{Type: hsm.EC}, {Type: hsm.EC, Curve: "P-224"}, {Type: hsm.EC, Curve: hsm.P256, Bits: 256}, {Type: hsm.RSA, Bits: 2048, Curve: hsm.P256}, {Type: hsm.Oct, Bits: 8}, {Type: "rsa", Bits: 2048}} {
		if _, err := token.Generate(t.Context(), hsm.NewKeyID(), spec); !errors.Is(err, hsm.ErrSpec) {
			t.Errorf("%+v: got %v, want ErrSpec", spec, err)
		}
	}
}

// silence prints and marshals handles and looks for methods that give key
// bytes away.
func silence(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	k := must(token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256, Exportable: true}))(t)
	m := must(token.Export(t.Context(), k.ID()))(t)
	der := must(m.PKCS8())(t)
	for _, v := range []any{k, m} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			if text := fmt.Sprintf(verb, v); len(text) > 100 || strings.Contains(text, fmt.Sprintf("%x", der[40:60])) {
				t.Errorf("%T prints itself with %s", v, verb)
			}
		}
		if text, err := json.Marshal(v); err == nil && len(text) > 2 {
			t.Errorf("%T marshals to %d bytes", v, len(text))
		}
	}
	switch any(k).(type) {
	case interface{ PKCS8() ([]byte, error) }, interface{ Bytes() ([]byte, error) }, interface{ MarshalBinary() ([]byte, error) }, interface{ Wipe() }:
		t.Errorf("a %T can be asked for its bytes", k)
	}
}

func sealing(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	for _, bits := range []int{128, 192, 256} {
		t.Run(fmt.Sprintf("of %d bits", bits), func(t *testing.T) {
			sealingWith(t, must(token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.Oct, Bits: bits}))(t))
		})
	}
}

func sealingWith(t *testing.T, k hsm.Key) {
	sealed := must(k.Seal([]byte("secret"), []byte("here")))(t)
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("sealed in clear")
	}
	if got := must(k.Open(sealed, []byte("here")))(t); string(got) != "secret" {
		t.Errorf("got %q", got)
	}
	if again := must(k.Seal([]byte("secret"), []byte("here")))(t); bytes.Equal(again, sealed) {
		t.Error("two seals are equal: the nonce repeats")
	}
	if n := len(sealed); n != 12+len("secret")+16 {
		t.Errorf("sealed %d bytes, want a nonce of 12, the ciphertext and a tag of 16", n)
	}
	if _, err := k.Open(sealed, []byte("there")); !errors.Is(err, hsm.ErrOpen) {
		t.Errorf("in another place: got %v, want ErrOpen", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := k.Open(sealed, []byte("here")); !errors.Is(err, hsm.ErrOpen) {
		t.Errorf("after a change: got %v, want ErrOpen", err)
	}
	if _, err := k.Open(nil, []byte("here")); !errors.Is(err, hsm.ErrOpen) {
		t.Errorf("nothing: got %v, want ErrOpen", err)
	}
}

func misfits(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	ec := must(token.Generate(t.Context(), hsm.NewKeyID(), p256))(t)
	oct := must(token.Generate(t.Context(), hsm.NewKeyID(), oct256))(t)
	digest := sha256.Sum256(nil)
	if _, err := ec.Decrypt(nil, make([]byte, 256), &rsa.OAEPOptions{Hash: crypto.SHA256}); !errors.Is(err, hsm.ErrOperation) {
		t.Errorf("decrypt with EC: got %v", err)
	}
	for name, use := range map[string]func() ([]byte, error){
		"seal":     func() ([]byte, error) { return ec.Seal(nil, nil) },
		"open":     func() ([]byte, error) { return ec.Open(make([]byte, 64), nil) },
		"encipher": func() ([]byte, error) { return ec.Encipher(hsm.KeyWrap, nil, make([]byte, 16)) },
		"decipher": func() ([]byte, error) { return ec.Decipher(hsm.KeyWrap, nil, make([]byte, 24)) },
	} {
		if _, err := use(); !errors.Is(err, hsm.ErrOperation) {
			t.Errorf("%s with EC: got %v, want ErrOperation", name, err)
		}
	}
	if _, err := oct.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrOperation) {
		t.Errorf("sign with oct: got %v", err)
	}
	if _, err := ec.Sign(nil, digest[:31], crypto.SHA256); !errors.Is(err, hsm.ErrOperation) {
		t.Errorf("sign a short digest: got %v", err)
	}
	if _, err := ec.Sign(nil, digest[:], nil); err == nil {
		t.Error("signs without a hash")
	}
	if oct.Public() != nil {
		t.Error("an oct key has a public part")
	}
}

func races(t *testing.T, open func(*testing.T) hsm.Token) {
	token, id := open(t), hsm.NewKeyID()
	var wg sync.WaitGroup
	made := make(chan hsm.Key, 8)
	for range 8 {
		wg.Go(func() {
			if k, err := token.Generate(t.Context(), id, p256); err == nil {
				made <- k
			} else if !errors.Is(err, hsm.ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(made)
	if len(made) != 1 {
		t.Fatalf("%d callers made the key, want 1", len(made))
	}
	k := must(open(t).Key(t.Context(), id))(t)
	if !k.Public().(*ecdsa.PublicKey).Equal((<-made).Public()) {
		t.Error("the key kept is not the key acknowledged")
	}
}

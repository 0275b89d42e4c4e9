package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestURIsNameATokenAndHowToReachIt(t *testing.T) {
	for uri, want := range map[string]Config{
		"pkcs11:token=verdant?module-path=/usr/lib/m.so&pin-source=/etc/pin":             {Module: "/usr/lib/m.so", Token: "verdant", PINSource: "/etc/pin"},
		"pkcs11:token=two%20words?pin-source=file:/etc/pin&module-path=/usr/lib/m%26.so": {Module: "/usr/lib/m&.so", Token: "two words", PINSource: "/etc/pin"},
		"pkcs11:token=a%3Bb?module-path=/m&pin-source=file:///p":                         {Module: "/m", Token: "a;b", PINSource: "/p"},
	} {
		got, err := ParseURI(uri)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", uri, got, err, want)
		}
		if again, err := ParseURI(got.URI()); err != nil || again != got {
			t.Errorf("%s: written as %s and read as %+v, %v", uri, got.URI(), again, err)
		}
	}
	for name, uri := range map[string]string{
		"empty":                       "",
		"another scheme":              "file:token=a?module-path=/m&pin-source=/p",
		"no token":                    "pkcs11:?module-path=/m&pin-source=/p",
		"no module":                   "pkcs11:token=a?pin-source=/p",
		"no PIN":                      "pkcs11:token=a?module-path=/m",
		"a PIN for everybody to see":  "pkcs11:token=a?module-path=/m&pin-value=1234",
		"a relative module":           "pkcs11:token=a?module-path=m.so&pin-source=/p",
		"a module that climbs":        "pkcs11:token=a?module-path=/usr/../m.so&pin-source=/p",
		"a token twice":               "pkcs11:token=a;token=b?module-path=/m&pin-source=/p",
		"an attribute we do not know": "pkcs11:token=a;serial=1?module-path=/m&pin-source=/p",
		"bad percent-encoding":        "pkcs11:token=%zz?module-path=/m&pin-source=/p",
		"a label too long":            "pkcs11:token=" + strings.Repeat("a", 33) + "?module-path=/m&pin-source=/p",
		"a NUL":                       "pkcs11:token=a?module-path=/m%00&pin-source=/p",
		"very long":                   "pkcs11:token=a?module-path=/" + strings.Repeat("m", 5000) + "&pin-source=/p",
	} {
		if c, err := ParseURI(uri); !errors.Is(err, ErrURI) {
			t.Errorf("%s: got %+v, %v; want ErrURI", name, c, err)
		} else if strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: the error repeats the PIN", name)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=two%20words?pin-source=file:/etc/pin&module-path=/usr/lib/m.so")
	f.Fuzz(func(t *testing.T, uri string) {
		c, err := ParseURI(uri)
		if err != nil {
			return
		}
		if again, err := ParseURI(c.URI()); err != nil || again != c {
			t.Errorf("%+v is written as %s and read as %+v, %v", c, c.URI(), again, err)
		}
	})
}

// raw is the raw RSA operation, as CKM_RSA_X_509 does it.
func raw(k *rsa.PrivateKey, ciphertext []byte) []byte {
	return new(big.Int).Exp(new(big.Int).SetBytes(ciphertext), k.D, k.N).FillBytes(make([]byte, k.Size()))
}

func TestOAEPOpensWhatOthersPadded(t *testing.T) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		longest := k.Size() - 2*hash.Size() - 2
		for _, n := range []int{0, 1, 32, longest} {
			message := bytes.Repeat([]byte{7}, n)
			ct, err := rsa.EncryptOAEP(hash.New(), rand.Reader, &k.PublicKey, message, []byte("label"))
			if err != nil {
				t.Fatal(err)
			}
			em := raw(k, ct)
			if got, err := openOAEP(em, hash, hash, []byte("label")); err != nil || !bytes.Equal(got, message) {
				t.Errorf("%v, %d bytes: got %d bytes, %v", hash, n, len(got), err)
			}
			if _, err := openOAEP(em, hash, hash, []byte("other")); err != rsa.ErrDecryption {
				t.Errorf("%v: opens under another label", hash)
			}
			for _, at := range []int{0, 1, hash.Size() + 1, len(em) - 1} {
				bad := bytes.Clone(em)
				bad[at] ^= 0x80
				// A bit of a message's last byte alone is seen too: the seed is masked with it.
				if got, err := openOAEP(bad, hash, hash, []byte("label")); err != rsa.ErrDecryption {
					t.Errorf("%v: byte %d changed: got %d bytes, %v", hash, at, len(got), err)
				}
			}
		}
	}
	ct, err := rsa.EncryptOAEPWithOptions(rand.Reader, &k.PublicKey, []byte("m"), &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openOAEP(raw(k, ct), crypto.SHA256, crypto.SHA1, nil); err != nil || string(got) != "m" {
		t.Errorf("another hash for the mask: got %q, %v", got, err)
	}
}

// FuzzOAEP compares with the standard library, through an RSA key.
func FuzzOAEP(f *testing.F) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Repeat([]byte{1}, 256), []byte(nil))
	f.Add([]byte{}, []byte("l"))
	f.Fuzz(func(t *testing.T, ct, label []byte) {
		if len(ct) > k.Size() {
			ct = ct[:k.Size()]
		}
		ct = append(make([]byte, k.Size()-len(ct)), ct...)
		if new(big.Int).SetBytes(ct).Cmp(k.N) >= 0 {
			return
		}
		want, wantErr := k.Decrypt(nil, ct, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: label})
		got, err := openOAEP(raw(k, ct), crypto.SHA256, crypto.SHA256, label)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Errorf("got %x, %v; want %x, %v", got, err, want, wantErr)
		}
	})
}

func TestSignaturesAreTheASN1ThatEncodingAsn1Makes(t *testing.T) {
	for _, size := range []int{1, 32, 48, 66} {
		for _, first := range [][2]byte{{0x80, 0x7f}, {0x7f, 0x80}, {0, 0xff}, {0, 0}, {0xff, 0xff}, {1, 0}} {
			raw := bytes.Repeat([]byte{0x81}, 2*size)
			raw[0], raw[size] = first[0], first[1]
			clear(raw[min(1, size):max(size/2, 1)])
			want, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := asn1Signature(raw); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x: got %x, %v; want %x", raw, got, err, want)
			}
		}
	}
	for _, size := range []int{0, 63, 134} {
		if got, err := asn1Signature(make([]byte, size)); err == nil {
			t.Errorf("%d bytes: got %x, want an error", size, got)
		}
	}
}

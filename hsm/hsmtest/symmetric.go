package hsmtest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"verdant/hsm"
)

// vectors are of NIST SP 800-38A appendix F.2, RFC 3394 section 4 and RFC 5649
// section 6.
var vectors = []struct {
	name                   string
	mode                   hsm.Mode
	key, iv, plain, cipher string
}{
	{"CBC with 128 bits", hsm.CBC, "2b7e151628aed2a6abf7158809cf4f3c", "000102030405060708090a0b0c0d0e0f",
		"6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51", "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"},
	{"CBC with 192 bits", hsm.CBC, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "000102030405060708090a0b0c0d0e0f",
		"6bc1bee22e409f96e93d7e117393172a", "4f021db243bc633d7178183a9fa071e8"},
	{"CBC with 256 bits", hsm.CBC, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f",
		"6bc1bee22e409f96e93d7e117393172a", "f58c4c04d6e5f1ba779eabfb5f7bfbd6"},
	{"key wrap with 128 bits", hsm.KeyWrap, "000102030405060708090a0b0c0d0e0f", "",
		"00112233445566778899aabbccddeeff", "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
	{"key wrap with 192 bits", hsm.KeyWrap, "000102030405060708090a0b0c0d0e0f1011121314151617", "",
		"00112233445566778899aabbccddeeff0001020304050607", "031d33264e15d33268f24ec260743edce1c6c7ddee725a936ba814915c6762d2"},
	{"key wrap with 256 bits", hsm.KeyWrap, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "",
		"00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f", "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"},
	{"padded key wrap of 20 bytes", hsm.KeyWrapPad, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "",
		"c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
	{"padded key wrap of 7 bytes", hsm.KeyWrapPad, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "",
		"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a slip in a vector above
	}
	return b
}

func enciphering(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	for _, v := range vectors {
		m := must(hsm.FromPrivateKey(unhex(v.key)))(t)
		k := must(token.Import(t.Context(), hsm.NewKeyID(), m, false))(t)
		m.Wipe()
		if got := must(k.Encipher(v.mode, unhex(v.iv), unhex(v.plain)))(t); hex.EncodeToString(got) != v.cipher {
			t.Errorf("%s: got %x, want %s", v.name, got, v.cipher)
		}
		if got := must(k.Decipher(v.mode, unhex(v.iv), unhex(v.cipher)))(t); hex.EncodeToString(got) != v.plain {
			t.Errorf("%s back: got %x, want %s", v.name, got, v.plain)
		}
		if _, err := token.Export(t.Context(), k.ID()); !errors.Is(err, hsm.ErrNotExportable) {
			t.Errorf("export an oct key: got %v, want ErrNotExportable", err)
		}
	}
}

// deciphering goes through every length, and through what does not fit.
func deciphering(t *testing.T, open func(*testing.T) hsm.Token) {
	token := open(t)
	k := must(token.Generate(t.Context(), hsm.NewKeyID(), oct256))(t)
	iv := make([]byte, 16)
	for mode, sizes := range map[hsm.Mode][]int{hsm.CBC: {16, 48, hsm.MaxEncipher}, hsm.CBCPad: {0, 1, 15, 16, 17, hsm.MaxEncipher}, hsm.KeyWrap: {16, 24, 32}, hsm.KeyWrapPad: {1, 7, 8, 9, 16, 31, 512}} {
		vector := iv
		if mode == hsm.KeyWrap || mode == hsm.KeyWrapPad {
			vector = nil
		}
		for _, n := range sizes {
			plain := make([]byte, n)
			_, _ = rand.Read(plain)
			sealed := must(k.Encipher(mode, vector, plain))(t)
			if got := must(k.Decipher(mode, vector, sealed))(t); !bytes.Equal(got, plain) {
				t.Errorf("mode %d, %d bytes: another plaintext came back", mode, n)
			}
		}
	}
	// The last block ends in a padding that cannot be: every one of these is
	// the same refusal, in words too.
	texts := map[string]bool{}
	for name, last := range map[string]string{"no padding": strings.Repeat("00", 16), "a padding of 17": strings.Repeat("11", 16), "a padding cut short": "01010101010101010101010101030203"} {
		sealed := must(k.Encipher(hsm.CBC, iv, unhex(last)))(t)
		_, err := k.Decipher(hsm.CBCPad, iv, sealed)
		if !errors.Is(err, hsm.ErrOpen) {
			t.Errorf("%s: got %v, want ErrOpen", name, err)
		}
		texts[fmt.Sprint(err)] = true
	}
	if len(texts) != 1 {
		t.Errorf("refusals in different words: %v", texts)
	}
	wrapped := must(k.Encipher(hsm.KeyWrap, nil, make([]byte, 32)))(t)
	padded := must(k.Encipher(hsm.KeyWrapPad, nil, make([]byte, 20)))(t)
	wrapped[0] ^= 1
	padded[len(padded)-1] ^= 1
	for name, c := range map[string]struct {
		mode       hsm.Mode
		iv, sealed []byte
	}{
		"half a block":              {hsm.CBCPad, iv, make([]byte, 8)},
		"nothing":                   {hsm.CBCPad, iv, nil},
		"a changed wrapped key":     {hsm.KeyWrap, nil, wrapped},
		"a wrapped key cut short":   {hsm.KeyWrap, nil, wrapped[:16]},
		"a changed padded wrapping": {hsm.KeyWrapPad, nil, padded},
		"another kind of wrapping":  {hsm.KeyWrap, nil, must(k.Encipher(hsm.KeyWrapPad, nil, make([]byte, 20)))(t)},
	} {
		_, err := k.Decipher(c.mode, c.iv, c.sealed)
		if !errors.Is(err, hsm.ErrOpen) {
			t.Errorf("%s: got %v, want ErrOpen", name, err)
		}
	}
	for name, c := range map[string]struct {
		mode      hsm.Mode
		iv, plain []byte
	}{
		"half a block":           {hsm.CBC, iv, make([]byte, 8)},
		"no block":               {hsm.CBC, iv, nil},
		"a short vector":         {hsm.CBCPad, iv[:12], make([]byte, 8)},
		"no vector":              {hsm.CBCPad, nil, make([]byte, 8)},
		"a vector for a wrap":    {hsm.KeyWrap, iv, make([]byte, 16)},
		"eight bytes to wrap":    {hsm.KeyWrap, nil, make([]byte, 8)},
		"seventeen bytes":        {hsm.KeyWrap, nil, make([]byte, 17)},
		"nothing to wrap padded": {hsm.KeyWrapPad, nil, nil},
		"too much":               {hsm.CBCPad, iv, make([]byte, hsm.MaxEncipher+1)},
		"an unknown mode":        {9, iv, make([]byte, 16)},
	} {
		if _, err := k.Encipher(c.mode, c.iv, c.plain); !errors.Is(err, hsm.ErrOperation) {
			t.Errorf("encipher %s: got %v, want ErrOperation", name, err)
		}
	}
}

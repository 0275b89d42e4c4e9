package keyvault_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"verdant/azure/rbac"
)

// managedHSM makes a world's vault a managed HSM under the vault's name.
// managedHSM makes a world's vault a managed HSM whose administrator may also
// use keys.
func managedHSM(w *world) {
	w.cfg.ManagedHSM, w.cfg.Suffix, w.cfg.InitialAdministrators = true, "vault.azure.net", []string{admin}
}

func url64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// importOct imports a symmetric key whose bytes the test knows.
func importOct(w *world, name string, key []byte) azkeys.ImportKeyResponse {
	w.t.Helper()
	r, err := w.keys(admin).ImportKey(w.t.Context(), name, azkeys.ImportKeyParameters{HSM: to.Ptr(true), Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeOctHSM), K: key}}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestSymmetricKeysOfAManagedHSMAreMadeImportedRotatedAndBackedUp(t *testing.T) {
	w := newWorld(t, managedHSM)
	ctx, keys := t.Context(), w.keys(admin)
	for _, bits := range []int32{128, 192, 256} {
		name := fmt.Sprintf("aes%d", bits)
		made := must(keys.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeOct), KeySize: &bits}, nil))(t)
		if *made.Key.Kty != azkeys.KeyTypeOctHSM || len(made.Key.KeyOps) != 4 || made.Key.K != nil || made.Key.N != nil || *made.Attributes.Exportable {
			t.Errorf("%d bits: got %s with %d operations", bits, *made.Key.Kty, len(made.Key.KeyOps))
		}
		if r := w.adminRaw("GET", "/keys/"+name, ""); !strings.Contains(r.text, fmt.Sprintf(`"key_size":%d`, bits)) {
			t.Errorf("got %s, want key_size %d", r.text, bits)
		}
		in := azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithm(fmt.Sprintf("A%dGCM", bits))), Value: []byte("m"), AdditionalAuthenticatedData: []byte("with")}
		sealed := must(keys.Encrypt(ctx, name, "", in, nil))(t)
		rotated := must(keys.RotateKey(ctx, name, nil))(t)
		if rotated.Key.KID.Version() == made.Key.KID.Version() {
			t.Error("rotation made no version")
		}
		saved := must(keys.BackupKey(ctx, name, nil))(t)
		must(keys.DeleteKey(ctx, name, nil))(t)
		must(keys.PurgeDeletedKey(ctx, name, nil))(t)
		must(keys.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: saved.Value}, nil))(t)
		in.Value, in.IV, in.AuthenticationTag = sealed.Result, sealed.IV, sealed.AuthenticationTag
		if got := must(keys.Decrypt(ctx, name, made.Key.KID.Version(), in, nil))(t); string(got.Result) != "m" {
			t.Errorf("%d bits: the first version opens to %q after a restore", bits, got.Result)
		}
		_, err := keys.Decrypt(ctx, name, rotated.Key.KID.Version(), in, nil)
		refused(t, err, 400, "BadParameter")
	}
	if r := w.adminRaw("POST", "/keys/default/create", `{"kty":"oct"}`); !strings.Contains(r.text, `"key_size":256`) {
		t.Errorf("without a size: got %s", r.text)
	}
}

func TestSymmetricAlgorithmsAgreeWithGo(t *testing.T) {
	w := newWorld(t, managedHSM)
	ctx, keys := t.Context(), w.keys(admin)
	iv := []byte("0123456789ABCDEF")
	for _, bits := range []int{128, 192, 256} {
		key := bytes.Repeat([]byte{byte(bits / 8)}, bits/8)
		name := fmt.Sprintf("aes%d", bits)
		importOct(w, name, key)
		block := must(aes.NewCipher(key))(t)
		gcm := must(cipher.NewGCM(block))(t)
		alg := func(suffix string) *azkeys.EncryptionAlgorithm {
			return to.Ptr(azkeys.EncryptionAlgorithm(fmt.Sprintf("A%d%s", bits, suffix)))
		}

		sealed := must(keys.Encrypt(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: alg("GCM"), Value: []byte("plaintext"), AdditionalAuthenticatedData: []byte("aad")}, nil))(t)
		if len(sealed.IV) != 12 || len(sealed.AuthenticationTag) != 16 || string(sealed.AdditionalAuthenticatedData) != "aad" {
			t.Errorf("GCM: got iv of %d bytes, tag of %d, aad %q", len(sealed.IV), len(sealed.AuthenticationTag), sealed.AdditionalAuthenticatedData)
		}
		if got := must(gcm.Open(nil, sealed.IV, append(sealed.Result, sealed.AuthenticationTag...), []byte("aad")))(t); string(got) != "plaintext" {
			t.Errorf("GCM: Go opens to %q", got)
		}
		again := must(keys.Encrypt(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: alg("GCM"), Value: []byte("plaintext")}, nil))(t)
		if bytes.Equal(again.IV, sealed.IV) {
			t.Error("GCM: the initialization vector repeats")
		}

		cbc := must(keys.Encrypt(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: alg("CBC"), Value: bytes.Repeat([]byte("x"), 32), IV: iv}, nil))(t)
		want := make([]byte, 32)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, bytes.Repeat([]byte("x"), 32))
		if !bytes.Equal(cbc.Result, want) || !bytes.Equal(cbc.IV, iv) {
			t.Errorf("CBC: got %x, want %x", cbc.Result, want)
		}
		padded := must(keys.Encrypt(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: alg("CBCPAD"), Value: []byte("odd"), IV: iv}, nil))(t)
		if got := must(keys.Decrypt(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: alg("CBCPAD"), Value: padded.Result, IV: iv}, nil))(t); string(got.Result) != "odd" || got.IV != nil {
			t.Errorf("CBCPAD: got %q", got.Result)
		}
		for _, wrap := range []*azkeys.EncryptionAlgorithm{alg("KW"), to.Ptr(azkeys.EncryptionAlgorithmCKMAESKEYWRAP), to.Ptr(azkeys.EncryptionAlgorithmCKMAESKEYWRAPPAD)} {
			dek := bytes.Repeat([]byte("k"), 32)
			wrapped := must(keys.WrapKey(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: wrap, Value: dek}, nil))(t)
			if len(wrapped.Result) != 40 {
				t.Errorf("%s: got %d bytes", *wrap, len(wrapped.Result))
			}
			if got := must(keys.UnwrapKey(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: wrap, Value: wrapped.Result}, nil))(t); !bytes.Equal(got.Result, dek) {
				t.Errorf("%s: another key came back", *wrap)
			}
		}
	}
	if r := w.adminRaw("POST", "/keys/aes256/encrypt", `{"alg":"A256GCM","value":""}`); r.status != 200 || !strings.Contains(r.text, `"alg":"A256GCM"`) {
		t.Errorf("an empty plaintext: got %d %s", r.status, r.text)
	}
}

// TestAnAuditorUsesNoKey is the attack that a public key would not mind: a
// vault's readers may encrypt, wrap and verify with an asymmetric key, and would
// make a ciphertext that the holder of a symmetric one believes in.
func TestAnAuditorUsesNoKey(t *testing.T) {
	w := newWorld(t, managedHSM)
	keys := w.keys(admin)
	must(keys.CreateKey(t.Context(), "aes", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeOctHSM)}, nil))(t)
	must(keys.CreateKey(t.Context(), "rsa", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM)}, nil))(t)
	w.assign(guid(77), "/", rbac.ManagedHSMCryptoAuditor, pod).wants(t, 201, "", "")
	token := w.mint(map[string]any{"oid": pod})
	dek := url64(make([]byte, 32))
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/keys/rsa/encrypt", `{"alg":"RSA-OAEP-256","value":"` + dek + `"}`, 403},
		{"/keys/rsa/wrapkey", `{"alg":"RSA-OAEP-256","value":"` + dek + `"}`, 403},
		{"/keys/rsa/decrypt", `{"alg":"RSA-OAEP-256","value":"` + dek + `"}`, 403},
		{"/keys/aes/encrypt", `{"alg":"A256GCM","value":"` + dek + `"}`, 403},
		{"/keys/aes/encrypt", `{"alg":"A256CBC","iv":"` + url64(make([]byte, 16)) + `","value":"` + dek + `"}`, 403},
		{"/keys/aes/wrapkey", `{"alg":"A256KW","value":"` + dek + `"}`, 403},
		{"/keys/aes/verify", `{"alg":"HS256","digest":"` + dek + `","value":"` + dek + `"}`, 403},
	} {
		r := w.raw("POST", c.path+"?api-version=7.6", token, c.body)
		if r.status != c.status {
			t.Errorf("%s of a reader: got %d %s, want %d", c.path, r.status, r.text, c.status)
		}
		if code, inner := r.code(); c.status == 403 && (code != "Forbidden" || inner != "ForbiddenByRbac" || !strings.Contains(r.text, "Action: 'Microsoft.KeyVault/managedHsm/keys/") || strings.Contains(r.text, "keys/read")) {
			t.Errorf("%s of a reader: got %s", c.path, r.text)
		}
		if r.header.Get("x-ms-keyvault-rbac-assignment-id") != "" && c.status == 403 {
			t.Errorf("%s of a reader: the refusal names the assignment that does not let it in", c.path)
		}
	}
}

// TestADecryptionThatFailsSaysNothing asks as who would open a message block by
// block: every refusal is the same answer, byte for byte.
func TestADecryptionThatFailsSaysNothing(t *testing.T) {
	w := newWorld(t, managedHSM)
	key := bytes.Repeat([]byte{7}, 32)
	importOct(w, "aes", key)
	iv := make([]byte, 16)
	block := must(aes.NewCipher(key))(t)
	ends := func(last string) string {
		out := make([]byte, 32)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, append(make([]byte, 32-len(last)), last...))
		return url64(out)
	}
	var first string
	for _, c := range []struct{ name, op, body string }{
		{"no padding", "decrypt", `{"alg":"A256CBCPAD","iv":"` + url64(iv) + `","value":"` + ends("\x00") + `"}`},
		{"a padding too long", "decrypt", `{"alg":"A256CBCPAD","iv":"` + url64(iv) + `","value":"` + ends("\x11") + `"}`},
		{"a padding cut short", "decrypt", `{"alg":"A256CBCPAD","iv":"` + url64(iv) + `","value":"` + ends("\x01\x03\x03") + `"}`},
		{"half a block", "decrypt", `{"alg":"A256CBCPAD","iv":"` + url64(iv) + `","value":"AAAAAAAA"}`},
		{"no block", "decrypt", `{"alg":"A256CBC","iv":"` + url64(iv) + `","value":""}`},
		{"too many blocks", "decrypt", `{"alg":"A256CBCPAD","iv":"` + url64(iv) + `","value":"` + url64(make([]byte, 16<<10)) + `"}`},
		{"another tag", "decrypt", `{"alg":"A256GCM","iv":"` + url64(iv[:12]) + `","tag":"` + url64(iv) + `","value":"AAAA"}`},
		{"another wrapping", "unwrapkey", `{"alg":"A256KW","value":"` + url64(make([]byte, 40)) + `"}`},
		{"half a wrapping", "unwrapkey", `{"alg":"CKM_AES_KEY_WRAP_PAD","value":"AAAA"}`},
		{"another padded wrapping", "unwrapkey", `{"alg":"CKM_AES_KEY_WRAP_PAD","value":"` + url64(make([]byte, 24)) + `"}`},
	} {
		r := w.adminRaw("POST", "/keys/aes/"+c.op, c.body)
		if first == "" {
			first = r.text
		}
		if code, _ := r.code(); r.status != 400 || code != "BadParameter" || r.text != first {
			t.Errorf("%s: got %d %s, want 400 %s", c.name, r.status, r.text, first)
		}
	}
}

func TestWhatDoesNotFitASymmetricKeyIsRefused(t *testing.T) {
	w := newWorld(t, managedHSM)
	importOct(w, "aes", bytes.Repeat([]byte{7}, 32))
	must(w.keys(admin).CreateKey(t.Context(), "rsa", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM)}, nil))(t)
	iv, nonce, tag := url64(make([]byte, 16)), url64(make([]byte, 12)), url64(make([]byte, 16))
	for _, c := range []struct{ name, method, path, body string }{
		{"a size that is none", "POST", "/keys/n/create", `{"kty":"oct","key_size":64}`},
		{"a size of RSA", "POST", "/keys/n/create", `{"kty":"oct-HSM","key_size":2048}`},
		{"a curve", "POST", "/keys/n/create", `{"kty":"oct","crv":"P-256"}`},
		{"an exponent", "POST", "/keys/n/create", `{"kty":"oct","public_exponent":65537}`},
		{"an operation of RSA", "POST", "/keys/n/create", `{"kty":"oct","key_ops":["sign"]}`},
		{"no key to import", "PUT", "/keys/n", `{"key":{"kty":"oct"}}`},
		{"a key of 20 bytes", "PUT", "/keys/n", `{"key":{"kty":"oct-HSM","k":"` + url64(make([]byte, 20)) + `"}}`},
		{"a key not in base64url", "PUT", "/keys/n", `{"key":{"kty":"oct","k":"+/+/"}}`},
		{"another size's algorithm", "POST", "/keys/aes/encrypt", `{"alg":"A128GCM","value":"AAAA"}`},
		{"RSA's algorithm", "POST", "/keys/aes/encrypt", `{"alg":"RSA-OAEP-256","value":"AAAA"}`},
		{"an algorithm for RSA of AES", "POST", "/keys/rsa/encrypt", `{"alg":"A256GCM","value":"AAAA"}`},
		{"an algorithm that is none", "POST", "/keys/aes/encrypt", `{"alg":"A256CTR","value":"AAAA"}`},
		{"an algorithm cut short", "POST", "/keys/aes/encrypt", `{"alg":"A256","value":"AAAA"}`},
		{"no algorithm", "POST", "/keys/aes/encrypt", `{"value":"AAAA"}`},
		{"a key wrap to encrypt", "POST", "/keys/aes/encrypt", `{"alg":"A256KW","value":"` + tag + `"}`},
		{"a cipher to wrap", "POST", "/keys/aes/wrapkey", `{"alg":"A256GCM","value":"AAAA"}`},
		{"no value", "POST", "/keys/aes/encrypt", `{"alg":"A256GCM"}`},
		{"a nonce of one's own", "POST", "/keys/aes/encrypt", `{"alg":"A256GCM","value":"AAAA","iv":"` + nonce + `"}`},
		{"no vector", "POST", "/keys/aes/encrypt", `{"alg":"A256CBCPAD","value":"AAAA"}`},
		{"a short vector", "POST", "/keys/aes/encrypt", `{"alg":"A256CBCPAD","value":"AAAA","iv":"` + nonce + `"}`},
		{"half a block", "POST", "/keys/aes/encrypt", `{"alg":"A256CBC","value":"AAAA","iv":"` + iv + `"}`},
		{"additional data", "POST", "/keys/aes/encrypt", `{"alg":"A256CBCPAD","value":"AAAA","aad":"AAAA","iv":"` + iv + `"}`},
		{"too much", "POST", "/keys/aes/encrypt", `{"alg":"A256GCM","value":"` + url64(make([]byte, 9<<10)) + `"}`},
		{"too much additional data", "POST", "/keys/aes/encrypt", `{"alg":"A256GCM","value":"AAAA","aad":"` + url64(make([]byte, 5<<10)) + `"}`},
		{"seventeen bytes to wrap", "POST", "/keys/aes/wrapkey", `{"alg":"A256KW","value":"` + url64(make([]byte, 17)) + `"}`},
		{"a vector for a wrap", "POST", "/keys/aes/wrapkey", `{"alg":"A256KW","value":"` + tag + `","iv":"` + iv + `"}`},
		{"no tag", "POST", "/keys/aes/decrypt", `{"alg":"A256GCM","value":"AAAA","iv":"` + nonce + `"}`},
		{"a short tag", "POST", "/keys/aes/decrypt", `{"alg":"A256GCM","value":"AAAA","iv":"` + nonce + `","tag":"` + nonce + `"}`},
		{"a tag without a nonce", "POST", "/keys/aes/decrypt", `{"alg":"A256GCM","value":"AAAA","tag":"` + tag + `"}`},
		{"a tag for CBC", "POST", "/keys/aes/decrypt", `{"alg":"A256CBC","value":"` + tag + `","iv":"` + iv + `","tag":"` + tag + `"}`},
		{"a signature", "POST", "/keys/aes/sign", `{"alg":"RS256","value":"` + url64(make([]byte, 32)) + `"}`},
	} {
		r := w.adminRaw(c.method, c.path, c.body)
		code, inner := r.code()
		if c.name == "a signature" {
			if r.status != 403 || code != "Forbidden" || inner != "KeyOperationForbidden" {
				t.Errorf("%s: got %d %s", c.name, r.status, r.text)
			}
			continue
		}
		if r.status != 400 || code != "BadParameter" {
			t.Errorf("%s: got %d %s, want 400 BadParameter", c.name, r.status, r.text)
		}
	}
}

func TestAVaultHasNoSymmetricKeys(t *testing.T) {
	w := newWorld(t)
	for _, c := range [][3]string{{"POST", "/keys/n/create", `{"kty":"oct"}`}, {"POST", "/keys/n/create", `{"kty":"oct-HSM"}`}, {"PUT", "/keys/n", `{"key":{"kty":"oct","k":"` + url64(make([]byte, 32)) + `"}}`}} {
		if r := w.adminRaw(c[0], c[1], c[2]); r.status != 400 {
			t.Errorf("%s: got %d %s", c[2], r.status, r.text)
		}
	}
}

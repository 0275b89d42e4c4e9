package keyvault_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"verdant/azure/rbac"
)

func TestKeysAreMadeReadAndListedByTheStockClient(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	for _, c := range []struct {
		name   string
		params azkeys.CreateKeyParameters
		ops    int
		plat   string
	}{
		{"rsa", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, 6, "0"},
		{"ec", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, 2, "0"},
		{"ec-hsm", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), Curve: to.Ptr(azkeys.CurveNameP521)}, 2, "2"},
		{"mysql-encryption-key", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr(int32(2048)),
			KeyOps: to.SliceOfPtrs(azkeys.KeyOperationWrapKey, azkeys.KeyOperationUnwrapKey), Tags: map[string]*string{"service": to.Ptr("mysql")}}, 2, "2"},
	} {
		made := must(keys.CreateKey(ctx, c.name, c.params, nil))(t)
		if got := made.Key.KID.Name(); got != c.name || len(made.Key.KID.Version()) != 32 {
			t.Errorf("%s: got kid %s", c.name, *made.Key.KID)
		}
		if *made.Key.Kty != *c.params.Kty || len(made.Key.KeyOps) != c.ops || *made.Attributes.HSMPlatform != c.plat || !*made.Attributes.Enabled || *made.Attributes.Exportable {
			t.Errorf("%s: got %s, %d operations, platform %s", c.name, *made.Key.Kty, len(made.Key.KeyOps), *made.Attributes.HSMPlatform)
		}
		if *made.Attributes.RecoveryLevel != "CustomizedRecoverable+Purgeable" || *made.Attributes.RecoverableDays != 7 || !made.Attributes.Created.Equal(w.clock.Now()) {
			t.Errorf("%s: got attributes %+v", c.name, *made.Attributes)
		}
		if made.Key.D != nil || made.Key.P != nil {
			t.Errorf("%s: the answer holds private parts", c.name)
		}
		for _, version := range []string{"", made.Key.KID.Version()} {
			got := must(keys.GetKey(ctx, strings.ToUpper(c.name), version, nil))(t)
			if *got.Key.KID != *made.Key.KID || !bytes.Equal(got.Key.N, made.Key.N) || !bytes.Equal(got.Key.X, made.Key.X) {
				t.Errorf("%s: get %q gave another key", c.name, version)
			}
		}
	}
	var listed []string
	for pager := keys.NewListKeyPropertiesPager(nil); pager.More(); {
		for _, k := range must(pager.NextPage(ctx))(t).Value {
			listed = append(listed, string(*k.KID))
		}
	}
	want := []string{vaultURL + "/keys/ec", vaultURL + "/keys/ec-hsm", vaultURL + "/keys/mysql-encryption-key", vaultURL + "/keys/rsa"}
	if fmt.Sprint(listed) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", listed, want)
	}
	_, err := keys.GetKey(ctx, "rsa", strings.Repeat("0", 32), nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
	_, err = keys.GetKey(ctx, "nothing", "", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
}

func digestFor(alg azkeys.SignatureAlgorithm) (crypto.Hash, []byte) {
	switch alg[2:] {
	case "384":
		d := sha512.Sum384([]byte("m"))
		return crypto.SHA384, d[:]
	case "512":
		d := sha512.Sum512([]byte("m"))
		return crypto.SHA512, d[:]
	}
	d := sha256.Sum256([]byte("m"))
	return crypto.SHA256, d[:]
}

func rsaOf(k *azkeys.JSONWebKey) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(new(big.Int).SetBytes(k.E).Int64())}
}

func TestSignaturesVerifyWithThePublicKeyAndTheVault(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	algs := map[string][]azkeys.SignatureAlgorithm{"rsa": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, "P-256": {"ES256"}, "P-384": {"ES384"}, "P-521": {"ES512"}}
	curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
	for name, algs := range algs {
		params := azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Curve: to.Ptr(azkeys.CurveName(name))}
		if name == "rsa" {
			params = azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}
		}
		k := must(keys.CreateKey(ctx, name, params, nil))(t)
		for _, alg := range algs {
			hash, digest := digestFor(alg)
			sig := must(keys.Sign(ctx, name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil))(t)
			if *sig.KID != *k.Key.KID {
				t.Errorf("%s: got kid %s", alg, *sig.KID)
			}
			ok := false
			switch {
			case strings.HasPrefix(string(alg), "ES"):
				half := len(sig.Result) / 2
				pub := must(ecdsa.ParseUncompressedPublicKey(curves[name], slices.Concat([]byte{4}, k.Key.X, k.Key.Y)))(t)
				ok = ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig.Result[:half]), new(big.Int).SetBytes(sig.Result[half:]))
			case strings.HasPrefix(string(alg), "PS"):
				ok = rsa.VerifyPSS(rsaOf(k.Key), hash, digest, sig.Result, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
			default:
				ok = rsa.VerifyPKCS1v15(rsaOf(k.Key), hash, digest, sig.Result) == nil
			}
			if !ok {
				t.Errorf("%s: the signature does not verify", alg)
			}
			verify := func(digest, sig []byte) bool {
				return *must(keys.Verify(ctx, name, "", azkeys.VerifyParameters{Algorithm: &alg, Digest: digest, Signature: sig}, nil))(t).Value
			}
			if !verify(digest, sig.Result) {
				t.Errorf("%s: the vault does not verify its own signature", alg)
			}
			bad := bytes.Clone(sig.Result)
			bad[3] ^= 1
			if verify(digest, bad) || verify(digest, sig.Result[1:]) || verify(digest, nil) {
				t.Errorf("%s: the vault verifies a changed signature", alg)
			}
			_, err := keys.Sign(ctx, name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest[1:]}, nil)
			refused(t, err, http.StatusBadRequest, "BadParameter")
		}
	}
	_, digest := digestFor("ES256")
	for name, alg := range map[string]azkeys.SignatureAlgorithm{"rsa": "ES256", "P-256": "RS256", "P-384": "ES256", "P-521": "nonsense"} {
		_, err := keys.Sign(ctx, name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil)
		refused(t, err, http.StatusBadRequest, "BadParameter")
	}
}

func TestWhatIsEncryptedOrWrappedComesBack(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	k := must(keys.CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM)}, nil))(t)
	dek := bytes.Repeat([]byte{7}, 32)
	for _, alg := range []azkeys.EncryptionAlgorithm{"RSA-OAEP-256", "RSA-OAEP", "RSA1_5"} {
		in := azkeys.KeyOperationParameters{Algorithm: &alg, Value: dek}
		wrapped := must(keys.WrapKey(ctx, "kek", "", in, nil))(t)
		if bytes.Contains(wrapped.Result, dek[:8]) || *wrapped.KID != *k.Key.KID {
			t.Errorf("%s: wrapped %x under %s", alg, wrapped.Result, *wrapped.KID)
		}
		if got := must(keys.UnwrapKey(ctx, "kek", k.Key.KID.Version(), azkeys.KeyOperationParameters{Algorithm: &alg, Value: wrapped.Result}, nil))(t); !bytes.Equal(got.Result, dek) {
			t.Errorf("%s: unwrapped %x", alg, got.Result)
		}
		secret := must(keys.Encrypt(ctx, "kek", "", in, nil))(t)
		if got := must(keys.Decrypt(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: secret.Result}, nil))(t); !bytes.Equal(got.Result, dek) {
			t.Errorf("%s: decrypted %x", alg, got.Result)
		}
		wrapped.Result[0] ^= 0x80
		for name, value := range map[string][]byte{"changed": wrapped.Result, "short": wrapped.Result[1:], "empty": {}} {
			_, err := keys.UnwrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: value}, nil)
			if err == nil {
				if alg == "RSA1_5" && name == "changed" {
					continue // by chance well padded
				}
				t.Fatalf("%s: unwraps a %s value", alg, name)
			}
			refused(t, err, http.StatusBadRequest, "BadParameter")
		}
		in.Value = make([]byte, 246)
		_, err := keys.WrapKey(ctx, "kek", "", in, nil)
		refused(t, err, http.StatusBadRequest, "BadParameter")
	}
	// What a client wraps by itself with the public key, the vault unwraps.
	ct := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, rsaOf(k.Key), dek, nil))(t)
	alg := azkeys.EncryptionAlgorithmRSAOAEP256
	if got := must(keys.UnwrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: ct}, nil))(t); !bytes.Equal(got.Result, dek) {
		t.Errorf("unwrapped %x", got.Result)
	}
}

func TestKeyOpsAttributesAndDatesAreEnforced(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	oaep := to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256)
	k := must(keys.CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeyOps: to.SliceOfPtrs(azkeys.KeyOperationWrapKey, azkeys.KeyOperationUnwrapKey)}, nil))(t)
	wrap := func() error {
		_, err := keys.WrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: oaep, Value: []byte("dek")}, nil)
		return err
	}
	wrapped := must(keys.WrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: oaep, Value: []byte("dek")}, nil))(t)
	unwrap := func() error {
		_, err := keys.UnwrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: oaep, Value: wrapped.Result}, nil)
		return err
	}
	_, err := keys.Encrypt(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: oaep, Value: []byte("x")}, nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	if !strings.Contains(err.Error(), "KeyOperationForbidden") || !strings.Contains(err.Error(), "Operation encrypt is not permitted on this key.") {
		t.Errorf("got %v", err)
	}
	update := func(a azkeys.KeyAttributes) {
		t.Helper()
		w.clock.Advance(time.Second)
		u := must(keys.UpdateKey(ctx, "kek", k.Key.KID.Version(), azkeys.UpdateKeyParameters{KeyAttributes: &a}, nil))(t)
		if !u.Attributes.Updated.Equal(w.clock.Now()) || u.Attributes.Created.Equal(*u.Attributes.Updated) {
			t.Errorf("updated is %v, created %v", u.Attributes.Updated, u.Attributes.Created)
		}
	}
	now := w.clock.Now()
	update(azkeys.KeyAttributes{Enabled: to.Ptr(false)})
	refused(t, wrap(), http.StatusForbidden, "Forbidden")
	if err := unwrap(); err == nil || !strings.Contains(err.Error(), "KeyDisabled") {
		t.Errorf("unwrap with a disabled key: %v", err)
	}
	if got := must(keys.GetKey(ctx, "kek", "", nil))(t); *got.Attributes.Enabled {
		t.Error("the key is still enabled")
	}
	update(azkeys.KeyAttributes{Enabled: to.Ptr(true), NotBefore: to.Ptr(now.Add(time.Hour)), Expires: to.Ptr(now.Add(2 * time.Hour))})
	refused(t, wrap(), http.StatusForbidden, "Forbidden")
	must(0, unwrap())(t)
	w.clock.Advance(90 * time.Minute)
	must(0, wrap())(t)
	w.clock.Advance(time.Hour)
	refused(t, wrap(), http.StatusForbidden, "Forbidden")
	must(0, unwrap())(t) // what was wrapped in time can still be read
}

func TestBadKeyRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, body := range map[string]string{
		"an unknown type":       `{"kty":"DSA"}`,
		"no type":               `{}`,
		"an oct key":            `{"kty":"oct"}`,
		"a short RSA key":       `{"kty":"RSA","key_size":1024}`,
		"a huge RSA key":        `{"kty":"RSA","key_size":65536}`,
		"an exponent of 3":      `{"kty":"RSA","public_exponent":3}`,
		"an unknown curve":      `{"kty":"EC","crv":"P-224"}`,
		"an operation of RSA":   `{"kty":"EC","key_ops":["wrapKey"]}`,
		"an unknown operation":  `{"kty":"RSA","key_ops":["fly"]}`,
		"an exportable key":     `{"kty":"RSA","attributes":{"exportable":true}}`,
		"a date out of range":   `{"kty":"EC","attributes":{"exp":-1}}`,
		"an end before a start": `{"kty":"EC","attributes":{"nbf":20,"exp":10}}`,
		"too many tags":         `{"kty":"EC","tags":{` + manyTags(16) + `}}`,
		"a wrong JSON type":     `{"kty":5}`,
		"broken JSON":           `{"kty":`,
		"two JSON values":       `{"kty":"EC"} {}`,
		"nothing":               ``,
	} {
		r := w.adminRaw("POST", "/keys/bad/create", body)
		if code, _ := r.code(); r.status != 400 || code != "BadParameter" {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
	if r := w.adminRaw("POST", "/keys/java/create", `{"kty":"RSA","public_exponent":0}`); r.status != 200 {
		t.Errorf("an exponent of 0, which is how the Java clients say none: got %d %s", r.status, r.text)
	}
	for path, want := range map[string]int{"/keys/a_b/create": 400, "/keys/a%20b/create": 400, "/keys/" + strings.Repeat("a", 128) + "/create": 400,
		"/keys/" + strings.Repeat("a", 127) + "/create": 200, "/keys/%C3%A9/create": 400, "/keys/a%2Fb/create": 404} {
		if r := w.adminRaw("POST", path, `{"kty":"EC"}`); r.status != want {
			t.Errorf("%s: got %d %s, want %d", path, r.status, r.text, want)
		}
	}
	if r := w.adminRaw("POST", "/keys/big/create", `{"kty":"EC","pad":"`+strings.Repeat("x", 70_000)+`"}`); r.status != 413 || r.body["error"] == nil {
		t.Errorf("a large body: got %d %s", r.status, r.text)
	}
	if r := w.adminRaw("POST", "/keys/x/sign", `{"alg":"ES256","value":"!!"}`); r.status != 400 {
		t.Errorf("bad base64url: got %d %s", r.status, r.text)
	}
	if r := w.adminRaw("POST", "/keys/x/sign", `{"alg":"ES256","value":"YWI/"}`); r.status != 400 {
		t.Errorf("standard base64: got %d %s", r.status, r.text)
	}
}

func manyTags(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprintf(`"t%d":"x"`, i))
	}
	return strings.Join(parts, ",")
}

func TestImportedKeysSignAndShowNoPrivatePart(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	jwk := &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSA), N: key.N.Bytes(), E: []byte{1, 0, 1}, D: key.D.Bytes(), P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(),
		DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes()}
	made := must(keys.ImportKey(ctx, "mine", azkeys.ImportKeyParameters{Key: jwk, HSM: to.Ptr(true)}, nil))(t)
	if *made.Key.Kty != azkeys.KeyTypeRSAHSM || made.Key.D != nil || !bytes.Equal(made.Key.N, jwk.N) {
		t.Errorf("got %+v", made.Key)
	}
	_, digest := digestFor("RS256")
	sig := must(keys.Sign(ctx, "mine", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmRS256), Value: digest}, nil))(t)
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest, sig.Result); err != nil {
		t.Error(err)
	}
	jwk.Q = jwk.P
	_, err := keys.ImportKey(ctx, "broken", azkeys.ImportKeyParameters{Key: jwk}, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter")
	for _, record := range w.records() {
		if text := fmt.Sprint(record); strings.Contains(text, key.D.String()) {
			t.Error("an audit record holds a private part")
		}
	}
}

func TestDeletedKeysAreRecoverableUntilTheyArePurged(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	k := must(keys.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	_, err := keys.GetDeletedKey(ctx, "k", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
	gone := must(keys.DeleteKey(ctx, "k", nil))(t)
	if *gone.Key.KID != *k.Key.KID || string(*gone.RecoveryID) != vaultURL+"/deletedkeys/k" || gone.ScheduledPurgeDate.Sub(*gone.DeletedDate) != 7*24*time.Hour {
		t.Errorf("got %+v", gone)
	}
	_, err = keys.GetKey(ctx, "k", "", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
	_, digest := digestFor("ES256")
	_, err = keys.Sign(ctx, "k", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest}, nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
	_, err = keys.CreateKey(ctx, "K", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	refused(t, err, http.StatusConflict, "Conflict")
	if !strings.Contains(err.Error(), "ObjectIsDeletedButRecoverable") {
		t.Errorf("got %v", err)
	}
	page := must(keys.NewListDeletedKeyPropertiesPager(nil).NextPage(ctx))(t)
	if len(page.Value) != 1 || page.Value[0].RecoveryID == nil || page.Value[0].DeletedDate == nil {
		t.Errorf("got %+v", page.Value)
	}
	back := must(keys.RecoverDeletedKey(ctx, "k", nil))(t)
	if *back.Key.KID != *k.Key.KID {
		t.Errorf("recovered %s", *back.Key.KID)
	}
	sig := azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest}
	must(keys.Sign(ctx, "k", "", sig, nil))(t)
	must(keys.DeleteKey(ctx, "k", nil))(t)
	must(keys.PurgeDeletedKey(ctx, "k", nil))(t)
	_, err = keys.GetDeletedKey(ctx, "k", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
	again := must(keys.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	if bytes.Equal(again.Key.X, k.Key.X) {
		t.Error("the purged key came back")
	}
}

func TestRotationMakesANewVersionAndKeepsTheOld(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	first := must(keys.CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeyOps: to.SliceOfPtrs(azkeys.KeyOperationWrapKey, azkeys.KeyOperationUnwrapKey)}, nil))(t)
	alg := azkeys.EncryptionAlgorithmRSAOAEP256
	wrapped := must(keys.WrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte("dek")}, nil))(t)
	second := must(keys.RotateKey(ctx, "kek", nil))(t)
	if second.Key.KID.Version() == first.Key.KID.Version() || *second.Key.Kty != azkeys.KeyTypeRSAHSM || len(second.Key.KeyOps) != 2 {
		t.Errorf("got %+v", second.Key)
	}
	if got := must(keys.UnwrapKey(ctx, "kek", wrapped.KID.Version(), azkeys.KeyOperationParameters{Algorithm: &alg, Value: wrapped.Result}, nil))(t); string(got.Result) != "dek" {
		t.Errorf("got %q", got.Result)
	}
	if again := must(keys.WrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte("dek")}, nil))(t); *again.KID != *second.Key.KID {
		t.Errorf("the name stands for %s", *again.KID)
	}
	_, err := keys.RotateKey(ctx, "nothing", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
}

func TestPublicOperationsNeedOnlyKeysRead(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	must(w.keys(admin).CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil))(t)
	const reader = "aaaaaaaa-0000-0000-0000-00000000000b"
	w.grant(vaultID+"/keys/kek", rbac.KeyVaultReader, reader)
	alg := azkeys.EncryptionAlgorithmRSAOAEP256
	wrapped := must(w.keys(reader).WrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte("dek")}, nil))(t)
	_, err := w.keys(reader).UnwrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: wrapped.Result}, nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
}

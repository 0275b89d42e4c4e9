package keyvault_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/go-jose/go-jose/v4"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
)

// attestor is an attestation authority on loopback, and an environment that it
// vouches for.
type attestor struct {
	t           testing.TB
	key         *rsa.PrivateKey
	server      *httptest.Server
	environment *rsa.PrivateKey
}

func newAttestor(t testing.TB) *attestor {
	a := &attestor{t: t, key: issuerKey()}
	var err error
	if a.environment, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": a.server.URL, "jwks_uri": a.server.URL + "/certs"})
	})
	mux.HandleFunc("GET /certs", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &a.key.PublicKey, KeyID: "a1", Algorithm: "RS256", Use: "sig"}}})
	})
	a.server = httptest.NewTLSServer(mux)
	t.Cleanup(a.server.Close)
	return a
}

// trusted makes a world's vault trust the authority.
func (a *attestor) trusted(w *world) {
	w.cfg.Attestation, w.deps.AttestationClient = []string{a.server.URL + "/"}, a.server.Client()
}

func (a *attestor) claims(w *world, more map[string]any) map[string]any {
	now := w.clock.Now().Unix()
	all := map[string]any{"iss": a.server.URL, "nbf": now, "exp": now + 600, "sdk-test": "true", "debug": false, "tee": map[string]any{"type": "sevsnpvm", "svn": 7},
		"x-ms-runtime": map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "signing", "key_ops": []string{"verify"}, "n": "AQ", "e": "AQAB"},
			map[string]any{"kty": "RSA", "kid": "environment", "key_ops": []string{"encrypt"}, "n": url64(a.environment.N.Bytes()), "e": "AQAB"}}}}
	for k, v := range more {
		if v == nil {
			delete(all, k)
		} else {
			all[k] = v
		}
	}
	return all
}

func (a *attestor) token(w *world, more map[string]any) string {
	return jwt(a.t, jose.RS256, a.key, "a1", a.claims(w, more))
}

func jwt(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(claims)
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (a *attestor) policy(conditions string) []byte {
	return []byte(`{"version":"1.0.0","anyOf":[{"authority":"` + a.server.URL + `/","allOf":[` + conditions + `]}]}`)
}

const tested = `{"claim":"sdk-test","equals":"true"},{"claim":"debug","equals":"false"},{"anyOf":[{"claim":"tee.type","equals":"sgx"},{"claim":"tee.svn","equals":7}]}`

func exportable(kty azkeys.KeyType, policy []byte) azkeys.CreateKeyParameters {
	return azkeys.CreateKeyParameters{Kty: &kty, KeyAttributes: &azkeys.KeyAttributes{Exportable: to.Ptr(true)}, ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: policy}}
}

// part decodes one part of a JWS.
func part(t testing.TB, token string, i int, into any) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkStatement verifies a statement of the vault's with the certificates in
// its header and returns their root.
func checkStatement(t testing.TB, token string) *x509.Certificate {
	t.Helper()
	var header struct {
		Algorithm string   `json:"alg"`
		Chain     [][]byte `json:"x5c"`
	}
	part(t, token, 0, &header)
	leaf, root := must(x509.ParseCertificate(header.Chain[0]))(t), must(x509.ParseCertificate(header.Chain[len(header.Chain)-1]))(t)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: vaultName + ".vault.azure.net"}); err != nil {
		t.Fatal(err)
	}
	jws := must(jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256}))(t)
	if _, err := jws.Verify(leaf.PublicKey); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestAKeyIsReleasedToTheEnvironmentThatItsPolicyAllows(t *testing.T) {
	a := newAttestor(t)
	w := newWorld(t, a.trusted)
	ctx, keys := t.Context(), w.keys(admin)
	w.grant(vaultID, rbac.KeyVaultCryptoServiceRelease, pod)
	curve := exportable(azkeys.KeyTypeECHSM, a.policy(tested))
	curve.Curve = to.Ptr(azkeys.CurveNameP256K)
	var roots []*x509.Certificate
	for name, c := range map[string]struct {
		params azkeys.CreateKeyParameters
		enc    azkeys.KeyEncryptionAlgorithm
		hash   crypto.Hash
	}{
		"rsa":  {exportable(azkeys.KeyTypeRSAHSM, a.policy(tested)), azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP, crypto.SHA1},
		"ec":   {exportable(azkeys.KeyTypeECHSM, a.policy(tested)), azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP256, crypto.SHA256},
		"k256": {curve, azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP384, crypto.SHA384},
	} {
		made := must(keys.CreateKey(ctx, name, c.params, nil))(t)
		if !*made.Attributes.Exportable || !bytes.Equal(made.ReleasePolicy.EncodedPolicy, a.policy(tested)) || *made.ReleasePolicy.Immutable || *made.ReleasePolicy.ContentType != "application/json; charset=utf-8" {
			t.Errorf("%s: got %+v", name, made.ReleasePolicy)
		}
		got := must(w.keys(pod).Release(ctx, name, "", azkeys.ReleaseParameters{TargetAttestationToken: to.Ptr(a.token(w, nil)), Algorithm: &c.enc, Nonce: to.Ptr("fresh")}, nil))(t)
		roots = append(roots, checkStatement(t, *got.Value))
		var statement struct {
			Request  struct{ Nonce, Enc, KID string }
			Response struct {
				Key struct {
					Key struct {
						KID, KTY string
						Wrapped  string `json:"key_hsm"`
					}
				}
			}
		}
		part(t, *got.Value, 1, &statement)
		key := statement.Response.Key.Key
		if statement.Request.Nonce != "fresh" || statement.Request.Enc != string(c.enc) || statement.Request.KID != vaultURL+"/keys/"+name || key.KID != string(*made.Key.KID) || key.KTY != strings.TrimSuffix(string(*made.Key.Kty), "-HSM") {
			t.Errorf("%s: got %+v", name, statement)
		}
		var blob struct {
			Version    string `json:"schema_version"`
			Header     struct{ KID, Alg, Enc string }
			Ciphertext string
		}
		if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(key.Wrapped))(t), &blob); err != nil {
			t.Fatal(err)
		}
		if blob.Version != "1.0.0" || blob.Header.KID != "environment" || blob.Header.Alg != "dir" || blob.Header.Enc != string(c.enc) {
			t.Errorf("%s: got %+v", name, blob)
		}
		wrapped := must(base64.RawURLEncoding.DecodeString(blob.Ciphertext))(t)
		inner := must(rsa.DecryptOAEP(c.hash.New(), nil, a.environment, wrapped[:256], nil))(t)
		block := must(aes.NewCipher(inner))(t)
		der := must(hsm.UnwrapPad(func(b []byte) error { block.Decrypt(b, b); return nil }, wrapped[256:]))(t)
		m := must(hsm.FromPKCS8(der))(t)
		same := false
		switch public := m.Public().(type) {
		case *rsa.PublicKey:
			same = public.Equal(rsaOf(made.Key))
		case *ecdsa.PublicKey:
			same = bytes.Equal(must(public.Bytes())(t)[1:], append(made.Key.X, made.Key.Y...))
		case *hsm.PublicP256K:
			same = bytes.Equal(public.Bytes()[1:], append(made.Key.X, made.Key.Y...))
		}
		if !same {
			t.Errorf("%s: another key was released", name)
		}
	}
	w.restart()
	keys = w.keys(admin)
	again := must(w.keys(pod).Release(ctx, "ec", "", azkeys.ReleaseParameters{TargetAttestationToken: to.Ptr(a.token(w, nil))}, nil))(t)
	for _, root := range append(roots, checkStatement(t, *again.Value)) {
		if !root.Equal(roots[0]) {
			t.Error("the root of the vault's statements is not the same everywhere and after a restart")
		}
	}
	rotated := must(keys.RotateKey(ctx, "ec", nil))(t)
	if !*rotated.Attributes.Exportable || rotated.ReleasePolicy == nil {
		t.Error("a rotated key has lost its release policy")
	}
	must(w.keys(pod).Release(ctx, "ec", rotated.Key.KID.Version(), azkeys.ReleaseParameters{TargetAttestationToken: to.Ptr(a.token(w, nil))}, nil))(t)
}

func TestAKeyStaysWhereItIsWithoutAProof(t *testing.T) {
	a, other := newAttestor(t), newAttestor(t)
	w := newWorld(t, a.trusted)
	ctx, keys := t.Context(), w.keys(admin)
	must(keys.CreateKey(ctx, "k", exportable(azkeys.KeyTypeECHSM, a.policy(tested)), nil))(t)
	must(keys.CreateKey(ctx, "kept", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM)}, nil))(t)
	must(keys.CreateKey(ctx, "off", exportable(azkeys.KeyTypeECHSM, a.policy(tested)), nil))(t)
	must(keys.UpdateKey(ctx, "off", "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}}, nil))(t)
	stranger := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	small := map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "x", "key_use": "enc", "n": url64(bytes.Repeat([]byte{255}, 128)), "e": "AQAB"}}}
	good := a.token(w, nil)
	parts := strings.Split(good, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	secret, _ := x509.MarshalPKIXPublicKey(&a.key.PublicKey)
	now := w.clock.Now().Unix()
	for _, c := range []struct {
		name, key, target string
		status            int
		code, inner       string
	}{
		{"a token of another authority", "k", other.token(w, nil), 403, "Forbidden", "AccessDenied"},
		{"another authority's token in the trusted one's name", "k", jwt(t, jose.RS256, stranger, "a1", a.claims(w, nil)), 403, "Forbidden", "AccessDenied"},
		{"a key that the authority does not publish", "k", jwt(t, jose.RS256, stranger, "b2", a.claims(w, nil)), 403, "Forbidden", "AccessDenied"},
		{"a token without a signature", "k", unsigned, 403, "Forbidden", "AccessDenied"},
		{"the public key taken for a secret", "k", jwt(t, jose.HS256, secret, "a1", a.claims(w, nil)), 403, "Forbidden", "AccessDenied"},
		{"a changed token", "k", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+a.server.URL+`"}`)) + "." + parts[2], 403, "Forbidden", "AccessDenied"},
		{"no token at all", "k", "x", 403, "Forbidden", "AccessDenied"},
		{"a token without an issuer", "k", a.token(w, map[string]any{"iss": nil}), 403, "Forbidden", "AccessDenied"},
		{"a token without an end", "k", a.token(w, map[string]any{"exp": nil}), 403, "Forbidden", "AccessDenied"},
		{"an expired token", "k", a.token(w, map[string]any{"exp": now - 600}), 403, "Forbidden", "AccessDenied"},
		{"a token of tomorrow", "k", a.token(w, map[string]any{"nbf": now + 86400}), 403, "Forbidden", "AccessDenied"},
		{"an end that is no time", "k", a.token(w, map[string]any{"exp": "never"}), 403, "Forbidden", "AccessDenied"},
		{"no key of the environment", "k", a.token(w, map[string]any{"x-ms-runtime": nil}), 403, "Forbidden", "AccessDenied"},
		{"a key of the environment that is too small", "k", a.token(w, map[string]any{"x-ms-runtime": small}), 403, "Forbidden", "AccessDenied"},
		{"another claim", "k", a.token(w, map[string]any{"sdk-test": "false"}), 403, "Forbidden", "AccessDenied"},
		{"a claim that is missing", "k", a.token(w, map[string]any{"debug": nil}), 403, "Forbidden", "AccessDenied"},
		{"a nested claim under its whole name", "k", a.token(w, map[string]any{"tee": nil, "tee.type": "sgx"}), 403, "Forbidden", "AccessDenied"},
		{"a list for a claim", "k", a.token(w, map[string]any{"sdk-test": []string{"true"}}), 403, "Forbidden", "AccessDenied"},
		{"a key that is not exportable", "kept", good, 403, "Forbidden", "KeyOperationForbidden"},
		{"a disabled key", "off", good, 403, "Forbidden", "KeyDisabled"},
		{"a key that is not there", "none", good, 404, "KeyNotFound", ""},
		{"no target", "k", "", 400, "BadParameter", ""},
	} {
		r := w.adminRaw("POST", "/keys/"+c.key+"/release", `{"target":"`+c.target+`"}`)
		if code, inner := r.code(); r.status != c.status || code != c.code || inner != c.inner {
			t.Errorf("%s: got %d %s, want %d %s %s", c.name, r.status, r.text, c.status, c.code, c.inner)
		}
	}
	for name, body := range map[string]string{
		"an unknown enc":   `{"target":"` + good + `","enc":"RSA_AES_KEY_WRAP_512"}`,
		"a nonce of 2 kB":  `{"target":"` + good + `","nonce":"` + strings.Repeat("n", 2048) + `"}`,
		"a target of 70kB": `{"target":"` + strings.Repeat("t", 70<<10) + `","enc":"none"}`,
		"a number":         `{"target":7}`,
	} {
		if r := w.adminRaw("POST", "/keys/k/release", body); r.status != 400 {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
	// The role: whoever may use the key may not carry it away.
	w.grant(vaultID, rbac.KeyVaultCryptoUser, pod)
	_, err := w.keys(pod).Release(ctx, "k", "", azkeys.ReleaseParameters{TargetAttestationToken: &good}, nil)
	refused(t, err, 403, "Forbidden")
	a.server.Close()
	w.restart() // the vault has forgotten the authority's keys
	if r := w.adminRaw("POST", "/keys/k/release", `{"target":"`+good+`"}`); r.status != 403 || !strings.Contains(r.text, "cannot be verified") || strings.Contains(r.text, "127.0.0.1") {
		t.Errorf("an authority that is away: got %d %s", r.status, r.text)
	}
}

func TestReleasePoliciesAreCheckedWhenTheyAreSet(t *testing.T) {
	a, other := newAttestor(t), newAttestor(t)
	w := newWorld(t, a.trusted)
	policy := func(text string) string { return `,"release_policy":{"data":"` + url64([]byte(text)) + `"}` }
	good := policy(string(a.policy(tested)))
	w.adminRaw("POST", "/keys/kept/create", `{"kty":"EC-HSM"}`)
	w.adminRaw("POST", "/keys/fixed/create", `{"kty":"EC-HSM","attributes":{"exportable":true},"release_policy":{"immutable":true,"data":"`+url64(a.policy(tested))+`"}}`)
	if r := w.adminRaw("POST", "/keys/loose/create", `{"kty":"EC-HSM","attributes":{"exportable":true}`+good+`}`); r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.text)
	}
	version := func(name string) string {
		return string(must(w.keys(admin).GetKey(t.Context(), name, "", nil))(t).Key.KID.Version())
	}
	changed := policy(string(a.policy(`{"claim":"x","equals":"y"}`)))
	for _, c := range []struct{ name, method, path, body, says string }{
		{"exportable without a policy", "POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true}}`, "AKV.SKR.1004"},
		{"imported without a policy", "PUT", "/keys/n", `{"key":{"kty":"EC-HSM","crv":"P-256","d":"AQ","x":"AQ","y":"AQ"},"attributes":{"exportable":true}}`, "AKV.SKR.1004"},
		{"a policy without exportable", "POST", "/keys/n/create", `{"kty":"EC-HSM"` + good + `}`, "AKV.SKR.1005"},
		{"a key in software", "POST", "/keys/n/create", `{"kty":"EC","attributes":{"exportable":true}` + good + `}`, "AKV.SKR.1006"},
		{"another authority", "POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true}` + policy(string(other.policy(tested))) + `}`, "AKV.SKR.1012"},
		{"no data", "POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true},"release_policy":{}}`, "data is required"},
		{"a contentType of text", "POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true},"release_policy":{"contentType":"text/plain","data":"AAAA"}}`, "contentType"},
		{"no JSON", "POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true},"release_policy":{"data":"AAAA"}}`, "release_policy.data"},
		{"another version", "POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true}` + policy(`{"version":"2.0.0","anyOf":[]}`) + `}`, "version"},
		{"an operator that is none", "POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true}` + policy(string(a.policy(`{"claim":"c","exists":"true"}`))) + `}`, "exists"},
		{"an export mark on a key that stays", "POST", "/keys/n/create", `{"kty":"EC-HSM","key_ops":["sign","export"]}`, "export"},
		{"a later change of exportable", "POST", "/keys/kept/create", `{"kty":"EC-HSM","attributes":{"exportable":true}` + good + `}`, "AKV.SKR.1003"},
		{"an update of exportable", "PATCH", "/keys/kept", `{"attributes":{"exportable":true}}`, "AKV.SKR.1003"},
		{"an update that takes it away", "PATCH", "/keys/loose", `{"attributes":{"exportable":false}}`, "AKV.SKR.1003"},
		{"a policy for a key that stays", "PATCH", "/keys/kept", `{"tags":{}` + good + `}`, "AKV.SKR.1005"},
		{"a policy for one version", "PATCH", "/keys/loose/" + version("loose"), `{"tags":{}` + changed + `}`, "AKV.SKR.1016"},
		{"a change of what is immutable", "PATCH", "/keys/fixed", `{"tags":{}` + changed + `}`, "AKV.SKR.1020"},
		{"a reset of immutable", "PATCH", "/keys/fixed", `{"tags":{}` + good + `}`, "AKV.SKR.1020"},
		{"a version with another policy", "POST", "/keys/fixed/create", `{"kty":"EC-HSM","attributes":{"exportable":true}` + changed + `}`, "AKV.SKR.1020"},
		{"a key in another's HSM", "POST", "/keys/n/create", `{"kty":"RSA-HSM","attributes":{"external_key":{"id":"x"}}}`, "external_key"},
	} {
		if r := w.adminRaw(c.method, c.path, c.body); r.status != 400 || !strings.Contains(r.text, `"code":"BadParameter"`) || !strings.Contains(r.text, c.says) {
			t.Errorf("%s: got %d %s, want 400 and %s", c.name, r.status, r.text, c.says)
		}
	}
	// What may change, changes for every version, and only what is exportable
	// is ever released.
	first := version("loose")
	if r := w.adminRaw("POST", "/keys/loose/create", `{"kty":"EC-HSM"}`); r.status != 200 || !strings.Contains(r.text, `"exportable":true`) || !strings.Contains(r.text, "release_policy") {
		t.Errorf("a second version: got %d %s", r.status, r.text)
	}
	if r := w.adminRaw("PATCH", "/keys/loose", `{"tags":{}`+changed+`}`); r.status != 200 {
		t.Errorf("a change of a policy: got %d %s", r.status, r.text)
	}
	for _, path := range []string{"/keys/loose", "/keys/loose/" + first} {
		if r := w.adminRaw("POST", path+"/release", `{"target":"`+a.token(w, nil)+`"}`); r.status != 403 {
			t.Errorf("%s under its new policy: got %d %s", path, r.status, r.text)
		}
	}
	standard := newWorld(t, a.trusted, func(w *world) { w.cfg.SKU = "standard" })
	if r := standard.adminRaw("POST", "/keys/n/create", `{"kty":"EC","attributes":{"exportable":true}`+good+`}`); r.status != 400 || !strings.Contains(r.text, "AKV.SKR.1001") {
		t.Errorf("a standard vault: got %d %s", r.status, r.text)
	}
	alone := newWorld(t)
	if r := alone.adminRaw("POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true}`+good+`}`); r.status != 400 || !strings.Contains(r.text, "AKV.SKR.1012") {
		t.Errorf("a vault that trusts nobody: got %d %s", r.status, r.text)
	}
}

func TestAVaultDoesNotStartWithAnAuthorityThatIsNone(t *testing.T) {
	w := newWorld(t)
	for _, address := range []string{"http://attest.example", "attest.example", "https://attest.example/tenant", "https://user@attest.example", ""} {
		cfg, deps := w.cfg, keyvault.Deps{Token: w.token, Store: w.store(), Audit: w.journal, Policy: w.policy, Verifier: nil, AttestationClient: http.DefaultClient}
		deps.Verifier = refuseAll{}
		cfg.Attestation = []string{address}
		if _, err := keyvault.New(cfg, deps); err == nil || !strings.Contains(err.Error(), "attestation authority") {
			t.Errorf("%q: got %v", address, err)
		}
	}
}

func TestDataKeysThatNobodySees(t *testing.T) {
	a := newAttestor(t)
	w := newWorld(t, managedHSM, a.trusted)
	policy := `,"release_policy":{"data":"` + url64(a.policy(tested)) + `"}`
	for name, kty := range map[string]string{"rsa": "RSA-HSM", "aes": "oct-HSM"} {
		if r := w.adminRaw("POST", "/keys/"+name+"/create", `{"kty":"`+kty+`","key_ops":["secureWrapKey","secureUnwrapKey"]`+policy+`}`); r.status != 200 || !strings.Contains(r.text, `"exportable":false`) {
			t.Fatalf("%s: got %d %s", name, r.status, r.text)
		}
	}
	var wrapped struct{ KID, Alg, Value string }
	ask := func(path, body string) reply {
		r := w.adminRaw("POST", path, body)
		if r.status == 200 {
			if err := json.Unmarshal([]byte(r.text), &wrapped); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	for _, c := range [][2]string{{"rsa", "RSA-OAEP-256"}, {"aes", "A256KW"}, {"aes", "A256KWPAD"}, {"aes", "CKM_AES_KEY_WRAP"}, {"aes", "CKM_AES_KEY_WRAP_PAD"}} {
		var opened [][]byte
		if r := ask("/keys/"+c[0]+"/securewrapkey", `{"alg":"`+c[1]+`"}`); r.status != 200 || wrapped.Alg != c[1] {
			t.Fatalf("%s: got %d %s", c[1], r.status, r.text)
		}
		value := wrapped.Value
		for range 2 {
			if r := ask("/keys/"+c[0]+"/secureunwrapkey", `{"alg":"`+c[1]+`","value":"`+value+`","target":"`+a.token(w, nil)+`"}`); r.status != 200 {
				t.Fatalf("%s: got %d %s", c[1], r.status, r.text)
			}
			opened = append(opened, must(rsa.DecryptOAEP(sha256.New(), nil, a.environment, must(base64.RawURLEncoding.DecodeString(wrapped.Value))(t), nil))(t))
		}
		if len(opened[0]) != 32 || !bytes.Equal(opened[0], opened[1]) {
			t.Errorf("%s: got %d bytes, twice the same: %v", c[1], len(opened[0]), bytes.Equal(opened[0], opened[1]))
		}
		for name, body := range map[string]string{
			"to another environment": `{"alg":"` + c[1] + `","value":"` + value + `","target":"` + a.token(w, map[string]any{"sdk-test": "no"}) + `"}`,
			"to nobody":              `{"alg":"` + c[1] + `","value":"` + value + `","target":"x"}`,
		} {
			if r := ask("/keys/"+c[0]+"/secureunwrapkey", body); r.status != 403 {
				t.Errorf("%s %s: got %d %s", c[1], name, r.status, r.text)
			}
		}
		// The ways round: the same key by the plain operations, or changed
		// into one that has them.
		for path, body := range map[string]string{
			"/unwrapkey": `{"alg":"` + c[1] + `","value":"` + value + `"}`, "/decrypt": `{"alg":"RSA-OAEP-256","value":"` + value + `"}`, "/release": `{"target":"` + a.token(w, nil) + `"}`,
		} {
			if r := w.adminRaw("POST", "/keys/"+c[0]+path, body); r.status != 403 || !strings.Contains(r.text, "KeyOperationForbidden") {
				t.Errorf("%s%s: got %d %s", c[0], path, r.status, r.text)
			}
		}
		if r := w.adminRaw("PATCH", "/keys/"+c[0], `{"key_ops":["unwrapKey"]}`); r.status != 400 {
			t.Errorf("%s made plain: got %d %s", c[0], r.status, r.text)
		}
	}
	w.adminRaw("POST", "/keys/plain/create", `{"kty":"RSA-HSM"}`)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"no policy", "POST", "/keys/n/create", `{"kty":"RSA-HSM","key_ops":["secureWrapKey"]}`, 400},
		{"beside a plain operation", "POST", "/keys/n/create", `{"kty":"RSA-HSM","key_ops":["secureWrapKey","unwrapKey"]` + policy + `}`, 400},
		{"exportable too", "POST", "/keys/n/create", `{"kty":"RSA-HSM","key_ops":["secureWrapKey"],"attributes":{"exportable":true}` + policy + `}`, 400},
		{"on a curve", "POST", "/keys/n/create", `{"kty":"EC-HSM","key_ops":["secureWrapKey"]` + policy + `}`, 400},
		{"a plain key made secure", "PATCH", "/keys/plain", `{"key_ops":["secureWrapKey"]}`, 400},
		{"with a plain key", "POST", "/keys/plain/securewrapkey", `{"alg":"RSA-OAEP-256"}`, 403},
		{"an algorithm of another type", "POST", "/keys/rsa/securewrapkey", `{"alg":"A256KW"}`, 400},
		{"an algorithm of another size", "POST", "/keys/aes/securewrapkey", `{"alg":"A128KW"}`, 400},
		{"RSA with AES", "POST", "/keys/aes/securewrapkey", `{"alg":"RSA-OAEP-256"}`, 400},
		{"a cipher", "POST", "/keys/aes/securewrapkey", `{"alg":"A256CBCPAD"}`, 400},
		{"no algorithm", "POST", "/keys/aes/securewrapkey", `{}`, 400},
		{"no target", "POST", "/keys/aes/secureunwrapkey", `{"alg":"A256KW","value":"AAAA"}`, 400},
		{"no value", "POST", "/keys/aes/secureunwrapkey", `{"alg":"A256KW","target":"x"}`, 400},
		{"a value that is none", "POST", "/keys/aes/secureunwrapkey", `{"alg":"A256KW","value":"AAAA","target":"` + a.token(w, nil) + `"}`, 400},
		{"a value that is no RSA", "POST", "/keys/rsa/secureunwrapkey", `{"alg":"RSA-OAEP-256","value":"AAAA","target":"` + a.token(w, nil) + `"}`, 400},
	} {
		if r := w.adminRaw(c.method, c.path, c.body); r.status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.name, r.status, r.text, c.status)
		}
	}
}

func TestAVaultStatesWhatItKnowsOfAKey(t *testing.T) {
	w := newWorld(t)
	ctx, keys := t.Context(), w.keys(admin)
	made := must(keys.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM)}, nil))(t)
	got := must(keys.GetKeyAttestation(ctx, "k", made.Key.KID.Version(), nil))(t)
	proof := got.Attributes.Attestation
	block, rest := pem.Decode(proof.CertificatePEMFile)
	second, _ := pem.Decode(rest)
	if block == nil || second == nil || *proof.Version != "verdant-1" {
		t.Fatalf("got certificates %q, version %s", proof.CertificatePEMFile, *proof.Version)
	}
	for part64, token := range map[string]string{"private": string(proof.PrivateKeyAttestation), "public": string(proof.PublicKeyAttestation)} {
		root := checkStatement(t, token)
		if !bytes.Equal(root.Raw, second.Bytes) {
			t.Errorf("%s: the statement's root is not the one in certificatePemFile", part64)
		}
		var said struct {
			KID, Part, KTY, Origin string
			Size                   int `json:"key_size"`
			Exportable             *bool
			JWK                    struct{ N string }
		}
		part(t, token, 1, &said)
		if said.KID != string(*made.Key.KID) || said.Part != part64 || said.Origin != "generated" || *said.Exportable || said.Size != 2048 {
			t.Errorf("%s: got %+v", part64, said)
		}
		if public := said.JWK.N == url64(made.Key.N); public != (part64 == "public") {
			t.Errorf("%s: got modulus %q", part64, said.JWK.N)
		}
	}
	if plain := must(keys.GetKey(ctx, "k", "", nil))(t); plain.Attributes.Attestation != nil {
		t.Error("get shows the attestation too")
	}
	w.adminRaw("POST", "/keys/soft/create", `{"kty":"EC"}`)
	_, err := keys.GetKeyAttestation(ctx, "soft", "", nil)
	refused(t, err, 400, "NotSupported")
	_, err = keys.GetKeyAttestation(ctx, "none", "", nil)
	refused(t, err, 404, "KeyNotFound")
}

// transfer makes a key transfer blob as a vendor's tool does from the public
// part of a key exchange key.
func transfer(t testing.TB, kek *azkeys.JSONWebKey, plain []byte) string {
	t.Helper()
	inner := make([]byte, 32)
	_, _ = rand.Read(inner)
	block := must(aes.NewCipher(inner))(t)
	wrapped := must(rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, rsaOf(kek), inner, nil))(t)
	wrapped = append(wrapped, must(hsm.WrapPad(func(b []byte) error { block.Encrypt(b, b); return nil }, plain))(t)...)
	return fmt.Sprintf(`{"schema_version":"1.0.0","header":{"kid":%q,"alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":%q,"generator":"BYOK v1.0; test"}`, *kek.KID, url64(wrapped))
}

func TestAKeyIsBroughtFromAnotherHSM(t *testing.T) {
	w := newWorld(t, managedHSM)
	ctx, keys := t.Context(), w.keys(admin)
	kek := must(keys.CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr(int32(2048)), KeyOps: to.SliceOfPtrs(azkeys.KeyOperationImport)}, nil))(t)
	target := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	blob := transfer(t, kek.Key, must(x509.MarshalPKCS8PrivateKey(target))(t))
	got := must(keys.ImportKey(ctx, "brought", azkeys.ImportKeyParameters{HSM: to.Ptr(true), Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), T: []byte(blob)}}, nil))(t)
	if !rsaOf(got.Key).Equal(&target.PublicKey) || len(got.Key.KeyOps) != 6 || *got.Attributes.Exportable {
		t.Errorf("got %+v", got.Key)
	}
	digest := sha256.Sum256([]byte("m"))
	sig := must(keys.Sign(ctx, "brought", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmRS256), Value: digest[:]}, nil))(t)
	if err := rsa.VerifyPKCS1v15(&target.PublicKey, crypto.SHA256, digest[:], sig.Result); err != nil {
		t.Error(err)
	}
	curve := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	must(keys.ImportKey(ctx, "curve", azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeECHSM), Crv: to.Ptr(azkeys.CurveNameP256),
		T: []byte(transfer(t, kek.Key, must(x509.MarshalPKCS8PrivateKey(curve))(t)))}}, nil))(t)
	must(keys.ImportKey(ctx, "aes", azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeOctHSM), T: []byte(transfer(t, kek.Key, make([]byte, 32)))}}, nil))(t)

	// The key exchange key does nothing else, and never will.
	for op, body := range map[string]string{
		"decrypt": `{"alg":"RSA-OAEP","value":"` + url64(make([]byte, 256)) + `"}`, "unwrapkey": `{"alg":"RSA-OAEP","value":"` + url64(make([]byte, 256)) + `"}`,
		"encrypt": `{"alg":"RSA-OAEP","value":"AAAA"}`, "sign": `{"alg":"RS256","value":"` + url64(digest[:]) + `"}`,
	} {
		if r := w.adminRaw("POST", "/keys/kek/"+op, body); r.status != 403 || !strings.Contains(r.text, "KeyOperationForbidden") {
			t.Errorf("%s with the key exchange key: got %d %s", op, r.status, r.text)
		}
	}
	wrong := func(change func(string) string) string { return url64([]byte(change(blob))) }
	replace := func(old, new string) string {
		return wrong(func(s string) string { return strings.Replace(s, old, new, 1) })
	}
	plain := must(keys.CreateKey(ctx, "plain", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr(int32(2048))}, nil))(t)
	other := must(keys.CreateKey(ctx, "other", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr(int32(2048)), KeyOps: to.SliceOfPtrs(azkeys.KeyOperationImport)}, nil))(t)
	der := must(x509.MarshalPKCS8PrivateKey(target))(t)
	var refusals []string
	for _, c := range []struct{ name, method, path, body string }{
		{"import beside another operation", "POST", "/keys/n/create", `{"kty":"RSA-HSM","key_ops":["import","decrypt"]}`},
		{"import on a curve", "POST", "/keys/n/create", `{"kty":"EC-HSM","key_ops":["import"]}`},
		{"a key exchange key that would decrypt", "PATCH", "/keys/kek", `{"key_ops":["decrypt"]}`},
		{"a plain key that would take keys in", "PATCH", "/keys/plain", `{"key_ops":["import"]}`},
		{"no JSON", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"AAAA"}}`},
		{"another version", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace("1.0.0", "2.0.0") + `"}}`},
		{"another alg", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace(`"dir"`, `"RSA-OAEP"`) + `"}}`},
		{"another enc", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace("CKM_RSA_AES_KEY_WRAP", "RSA_AES_KEY_WRAP_256") + `"}}`},
		{"no ciphertext", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace(`"ciphertext"`, `"other"`) + `"}}`},
		{"a changed ciphertext", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + wrong(func(s string) string {
			at := strings.Index(s, `"generator"`) - 20
			return s[:at] + "AAAA" + s[at+4:]
		}) + `"}}`},
		{"parts of a key beside it", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","n":"AAAA","key_hsm":"` + url64([]byte(blob)) + `"}}`},
		{"another type", "PUT", "/keys/n", `{"key":{"kty":"EC-HSM","key_hsm":"` + url64([]byte(blob)) + `"}}`},
		{"another curve", "PUT", "/keys/n", `{"key":{"kty":"EC-HSM","crv":"P-384","key_hsm":"` + url64([]byte(transfer(t, kek.Key, must(x509.MarshalPKCS8PrivateKey(curve))(t)))) + `"}}`},
		{"a symmetric key of 20 bytes", "PUT", "/keys/n", `{"key":{"kty":"oct-HSM","key_hsm":"` + url64([]byte(transfer(t, kek.Key, make([]byte, 20)))) + `"}}`},
		{"another key exchange key", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace(string(*kek.Key.KID), string(*other.Key.KID)) + `"}}`},
		{"kid: a plain key", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + url64([]byte(transfer(t, plain.Key, der))) + `"}}`},
		{"kid: a key that is not there", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace("/keys/kek/", "/keys/none/") + `"}}`},
		{"kid: another vault", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace(vaultURL, "https://other.vault.azure.net") + `"}}`},
		{"kid: no version", "PUT", "/keys/n", `{"key":{"kty":"RSA-HSM","key_hsm":"` + replace("/keys/kek/", "/keys/kek/../") + `"}}`},
	} {
		r := w.adminRaw(c.method, c.path, c.body)
		if r.status != 400 || !strings.Contains(r.text, `"code":"BadParameter"`) {
			t.Errorf("%s: got %d %s, want 400 BadParameter", c.name, r.status, r.text)
		}
		if strings.HasPrefix(c.name, "kid: ") {
			refusals = append(refusals, r.text)
		}
	}
	for _, text := range refusals {
		if text != refusals[0] {
			t.Errorf("the vault tells which keys it has: %s and %s", text, refusals[0])
		}
	}
	soft := newWorld(t)
	if r := soft.adminRaw("PUT", "/keys/n", `{"key":{"kty":"RSA","key_hsm":"`+url64([]byte(blob))+`"}}`); r.status != 400 {
		t.Errorf("into software: got %d %s", r.status, r.text)
	}
}

// refuseAll is a verifier that lets nobody in.
type refuseAll struct{}

func (refuseAll) Verify(context.Context, string) (rest.Caller, error) {
	return rest.Caller{}, rest.ErrToken
}

package keyvault_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"verdant/internal/conninfo"
)

// FuzzRequests sends arbitrary requests of an administrator: none may end in
// an internal error (a panic becomes one), each answer with a body is JSON,
// and each leaves exactly one record.
func FuzzRequests(f *testing.F) {
	w := newWorld(f)
	w.adminRaw("POST", "/keys/k/create", `{"kty":"EC"}`)
	w.adminRaw("PUT", "/secrets/s", `{"value":"v"}`)
	w.adminRaw("POST", "/certificates/c/create", `{"policy":{"key_props":{"kty":"EC"},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Unknown"}}}`)
	w.adminRaw("POST", "/keys/kek/create", `{"kty":"RSA-HSM","key_ops":["import"]}`)
	fuzzRequests(f, w, [][3]string{
		{"GET", "/keys/k", ""}, {"POST", "/keys/k/sign", `{"alg":"ES256","value":"AAAA"}`}, {"POST", "/keys/k/verify", `{"alg":"ES256","digest":"AAAA","value":"AA"}`},
		{"PUT", "/keys/i", `{"key":{"kty":"EC","crv":"P-256","d":"AQ","x":"AQ","y":"AQ"}}`}, {"PATCH", "/keys/k", `{"attributes":{"enabled":false},"key_ops":[]}`},
		{"PUT", "/secrets/s", `{"value":"","tags":{}}`}, {"GET", "/secrets?maxresults=1&$skiptoken=cw", ""}, {"DELETE", "/secrets/s", ""}, {"POST", "/deletedsecrets/s/recover", ""},
		{"POST", "/certificates/c/pending/merge", `{"x5c":["AAAA"]}`}, {"PATCH", "/certificates/c/policy", `{"key_props":{"kty":"oct"}}`}, {"POST", "/certificates/c/import", `{"value":"AAAA"}`},
		{"PUT", "/keys/k/rotationpolicy", `{"attributes":{"expiryTime":"P1Y2M3D"},"lifetimeActions":[{"action":{"type":"rotate"},"trigger":{"timeBeforeExpiry":"P30D"}}]}`}, {"POST", "/keys/k/rotate", ""},
		{"PUT", "/certificates/contacts", `{"contacts":[{"email":"a@b"}]}`}, {"PUT", "/certificates/issuers/i", `{"provider":"Test","org_details":{"admin_details":[{}]}}`},
		{"PATCH", "/certificates/issuers/i", `{"attributes":{"enabled":false}}`}, {"GET", "/certificates/issuers?$skiptoken=aQ", ""}, {"POST", "/keys/k/backup", ""}, {"POST", "/certificates/c/backup", ""},
		{"POST", "/keys/restore", `{"value":"AAAA"}`}, {"POST", "/rng", `{"count":1}`}, {"PUT", "/keys/i", `{"key":{"kty":"EC","crv":"P-256K","d":"AQ","x":"AQ","y":"AQ"}}`}, {"POST", "/keys/n/create", `{"kty":"EC","crv":"P-256K"}`},
		{"DELETE", "/certificates/c/pending", ""}, {"GET", "//keys//k//", ""}, {"FOO", "/%2e%2e/keys", "{"}, {"GET", "/secrets/c?outContentType=application/x-pem-file", ""},
		{"POST", "/keys/k/release", `{"target":"a.b.c","enc":"CKM_RSA_AES_KEY_WRAP","nonce":"n"}`}, {"GET", "/keys/kek/attestation", ""},
		{"POST", "/keys/n/create", `{"kty":"EC-HSM","attributes":{"exportable":true},"release_policy":{"immutable":true,"data":"e30"}}`},
		{"PUT", "/keys/i", `{"key":{"kty":"RSA-HSM","key_hsm":"` + url64([]byte(`{"schema_version":"1.0.0","header":{"kid":"`+vaultURL+`/keys/kek","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"AAAA"}`)) + `"}}`},
	})
}

// FuzzHSMRequests is FuzzRequests against a managed HSM with symmetric keys and
// keys that only attested environments see.
func FuzzHSMRequests(f *testing.F) {
	a := newAttestor(f)
	w := newWorld(f, managedHSM, a.trusted)
	policy := `,"release_policy":{"data":"` + url64(a.policy(tested)) + `"}`
	w.adminRaw("POST", "/keys/aes/create", `{"kty":"oct"}`)
	w.adminRaw("POST", "/keys/out/create", `{"kty":"EC-HSM","attributes":{"exportable":true}`+policy+`}`)
	w.adminRaw("POST", "/keys/safe/create", `{"kty":"oct-HSM","key_ops":["secureWrapKey","secureUnwrapKey"]`+policy+`}`)
	iv := url64(make([]byte, 16))
	fuzzRequests(f, w, [][3]string{
		{"POST", "/keys/aes/encrypt", `{"alg":"A256GCM","value":"AAAA","aad":"AAAA"}`}, {"POST", "/keys/aes/decrypt", `{"alg":"A256GCM","value":"AAAA","iv":"AAAAAAAAAAAAAAAA","tag":"` + iv + `"}`},
		{"POST", "/keys/aes/encrypt", `{"alg":"A256CBC","value":"` + iv + `","iv":"` + iv + `"}`}, {"POST", "/keys/aes/decrypt", `{"alg":"A256CBCPAD","value":"` + iv + `","iv":"` + iv + `"}`},
		{"POST", "/keys/aes/wrapkey", `{"alg":"CKM_AES_KEY_WRAP_PAD","value":"AAAA"}`}, {"POST", "/keys/aes/unwrapkey", `{"alg":"A256KW","value":"` + iv + `AAAAAAAA"}`},
		{"POST", "/keys/n/create", `{"kty":"oct-HSM","key_size":192,"key_ops":["encrypt","export"]}`}, {"PUT", "/keys/i", `{"key":{"kty":"oct","k":"` + iv + `"}}`},
		{"POST", "/keys/out/release", `{"target":"` + a.token(w, nil) + `"}`}, {"POST", "/keys/safe/securewrapkey", `{"alg":"A256KWPAD"}`},
		{"POST", "/keys/safe/secureunwrapkey", `{"alg":"A256KW","value":"` + iv + `AAAAAAAA","target":"` + a.token(w, nil) + `"}`}, {"PATCH", "/keys/safe", `{"key_ops":["secureUnwrapKey"]` + policy + `}`},
		{"GET", "/keys/aes/attestation", ""}, {"POST", "/keys/aes/rotate", ""}, {"POST", "/keys/aes/backup", ""},
	})
}

func fuzzRequests(f *testing.F, w *world, seeds [][3]string) {
	token := w.mint(map[string]any{"oid": admin})
	for _, seed := range seeds {
		f.Add(seed[0], seed[1], []byte(seed[2]))
	}
	handler := w.vault.Handler()
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method == "" || strings.ContainsAny(method, " \r\n") {
			return
		}
		q := u.Query()
		q.Set("api-version", "7.4")
		r := httptest.NewRequest("POST", vaultURL+"/", strings.NewReader(string(body))).WithContext(conninfo.With(t.Context(), w.info))
		r.Method, r.URL.Path, r.URL.RawQuery = method, u.Path, q.Encode()
		r.Header.Set("Authorization", "Bearer "+token)
		before := w.journal.Last()
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code >= 500 {
			t.Errorf("%s %s %q: got %d %s", method, target, body, answer.Code, answer.Body)
		}
		if answer.Body.Len() > 0 && answer.Header().Get("Content-Type") != "application/json; charset=utf-8" && answer.Code != http.StatusTemporaryRedirect {
			t.Errorf("%s %s %q: got %d %v %s", method, target, body, answer.Code, answer.Header(), answer.Body)
		}
		if got := w.journal.Last() - before; got != 1 {
			t.Errorf("%s %s: %d records", method, target, got)
		}
	})
}

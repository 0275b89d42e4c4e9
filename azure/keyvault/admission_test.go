package keyvault_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/internal/conninfo"
)

const (
	pod      = "aaaaaaaa-0000-0000-0000-0000000000aa"
	verifier = "aaaaaaaa-0000-0000-0000-0000000000bb"
)

func TestTheChallengeTellsClientsWhereToGetATokenForWhat(t *testing.T) {
	w := newWorld(t)
	r := w.raw("POST", "/keys/k/create?api-version=7.4", "", "")
	if code, _ := r.code(); r.status != 401 || code != "Unauthorized" || !strings.HasPrefix(r.message(), "AKV10000:") {
		t.Errorf("got %d %s", r.status, r.text)
	}
	if got, want := r.header.Get("WWW-Authenticate"), `Bearer authorization="`+authority+`", resource="https://vault.azure.net"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	cred := w.as(admin)
	client := must(azsecrets.NewClient(vaultURL, cred, &azsecrets.ClientOptions{ClientOptions: w.options()}))(t)
	must(client.NewListSecretPropertiesPager(nil).NextPage(t.Context()))(t)
	if fmt.Sprint(cred.scopes) != "[https://vault.azure.net/.default]" || cred.tenant != tenant {
		t.Errorf("the client asked for %v in tenant %s", cred.scopes, cred.tenant)
	}
}

func TestTokensThatDoNotFitAreChallengedAgain(t *testing.T) {
	w := newWorld(t)
	now := w.clock.Now().Unix()
	for name, token := range map[string]string{
		"for another audience": w.mint(map[string]any{"oid": admin, "aud": "https://management.azure.com"}),
		"of another issuer":    w.mint(map[string]any{"oid": admin, "iss": "https://evil/"}),
		"of another tenant":    w.mint(map[string]any{"oid": admin, "tid": "22222222-2222-2222-2222-222222222222"}),
		"expired":              w.mint(map[string]any{"oid": admin, "nbf": now - 7200, "exp": now - 3600}),
		"not valid yet":        w.mint(map[string]any{"oid": admin, "nbf": now + 3600}),
		"without an oid":       w.mint(map[string]any{}),
		"changed":              w.mint(map[string]any{"oid": admin})[1:],
		"no JWT":               "x",
	} {
		r := w.raw("GET", "/keys?api-version=7.4", token, "")
		if code, _ := r.code(); r.status != 401 || code != "Unauthorized" || !strings.Contains(r.header.Get("WWW-Authenticate"), `resource="https://vault.azure.net"`) {
			t.Errorf("a token %s: got %d %s", name, r.status, r.text)
		}
	}
	// A token that was believed a moment ago is not believed past its end.
	token := w.mint(map[string]any{"oid": admin, "exp": now + 60})
	for _, want := range []int{200, 200, 401} {
		if r := w.raw("GET", "/keys?api-version=7.4", token, ""); r.status != want {
			t.Errorf("got %d, want %d", r.status, want)
		}
		if want == 200 {
			w.clock.Advance(25 * time.Second)
		}
		if want == 200 && w.clock.Now().Unix() >= now+50 {
			w.clock.Advance(10 * time.Minute)
		}
	}
}

func TestOnlyAnApprovedPrivateEndpointLeadsIn(t *testing.T) {
	for name, info := range map[string]conninfo.Info{
		"no evidence":         {},
		"a public address":    {Kind: conninfo.Public, Source: netip.MustParseAddrPort("203.0.113.7:1")},
		"a pod's own network": {Kind: conninfo.VNet, VNet: "eudcc-ie"},
		"the ingress":         {Kind: conninfo.Ingress},
	} {
		w := newWorld(t, func(w *world) { w.info = info })
		_, err := w.keys(admin).GetKey(t.Context(), "k", "", nil)
		refused(t, err, http.StatusForbidden, "Forbidden")
		if !strings.Contains(err.Error(), "ForbiddenByConnection") {
			t.Errorf("%s: got %v", name, err)
		}
		if r := w.raw("GET", "/keys/k?api-version=7.4", "", ""); r.status != 401 {
			t.Errorf("%s, no token: got %d; the token comes first", name, r.status)
		}
		// Before the role: a stranger hears of the connection, not of roles.
		if r := w.raw("GET", "/keys/k?api-version=7.4", w.mint(map[string]any{"oid": pod}), ""); !strings.Contains(r.text, "ForbiddenByConnection") {
			t.Errorf("%s, no role: got %s", name, r.text)
		}
		w.close()
	}
}

// TestARoleOnOneObjectOpensThatObjectOnly is the reference deployment's shape:
// a pod signs with its key and reads its secret, and nothing else.
func TestARoleOnOneObjectOpensThatObjectOnly(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, name := range []string{"dsc-key-store", "dsc-key", "dsc-key-store-2"} {
		must(w.certificates(admin).CreateCertificate(ctx, name, azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Self", false)}, nil))(t)
	}
	must(w.secrets(admin).SetSecret(ctx, "alias", azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil))(t)
	must(w.keys(admin).CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM)}, nil))(t)
	assignment := w.grant(vaultID+"/keys/dsc-key-store", rbac.KeyVaultCryptoUser, pod)
	w.grant(vaultID+"/certificates/dsc-key-store", rbac.KeyVaultCertificateUser, pod)
	w.grant(vaultID+"/secrets/alias", rbac.KeyVaultSecretsUser, pod)
	w.grant(vaultID+"/keys/kek", rbac.KeyVaultCryptoServiceEncryption, verifier)

	const sign = `{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	const wrap = `{"alg":"RSA-OAEP-256","value":"AAAA"}`
	for _, c := range []struct {
		who, method, path, body, action string
		want                            int
	}{
		{pod, "POST", "/keys/dsc-key-store/sign", sign, "keys/sign/action", 200},
		{pod, "POST", "/keys/DSC-key-store/sign", sign, "keys/sign/action", 200},
		{pod, "GET", "/keys/dsc-key-store", "", "keys/read", 200},
		{pod, "GET", "/keys/dsc-key-store/versions", "", "keys/read", 200},
		{pod, "POST", "/keys/dsc-key/sign", sign, "keys/sign/action", 403},
		{pod, "POST", "/keys/dsc-key-store-2/sign", sign, "keys/sign/action", 403},
		{pod, "POST", "/keys/nothing/sign", sign, "keys/sign/action", 403}, // not 404: it may not know
		{pod, "DELETE", "/keys/dsc-key-store", "", "keys/delete", 403},
		{pod, "GET", "/keys", "", "keys/read", 403},
		{pod, "GET", "/certificates/dsc-key-store", "", "certificates/read", 200},
		{pod, "GET", "/certificates", "", "certificates/read", 403},
		{pod, "POST", "/certificates/dsc-key-store/create", `{}`, "certificates/create/action", 403},
		{pod, "GET", "/secrets/dsc-key-store", "", "secrets/getSecret/action", 403},
		{pod, "GET", "/secrets/alias", "", "secrets/getSecret/action", 200},
		{pod, "PUT", "/secrets/alias", `{"value":"x"}`, "secrets/setSecret/action", 403},
		{pod, "GET", "/secrets", "", "secrets/readMetadata/action", 403},
		{pod, "GET", "/deletedkeys", "", "keys/read", 403},
		{verifier, "POST", "/keys/dsc-key-store/sign", sign, "keys/sign/action", 403},
		{verifier, "POST", "/keys/kek/wrapkey", wrap, "keys/wrap/action", 200},
		{verifier, "POST", "/keys/kek/encrypt", wrap, "keys/encrypt/action", 200}, // by keys/read
		{verifier, "POST", "/keys/kek/decrypt", wrap, "keys/decrypt/action", 403},
		{verifier, "PATCH", "/keys/kek", `{}`, "keys/update/action", 403},
		{admin, "POST", "/keys/dsc-key-store/sign", sign, "keys/sign/action", 200},
		{admin, "GET", "/keys", "", "keys/read", 200},
	} {
		r := w.raw(c.method, c.path+"?api-version=2025-07-01", w.mint(map[string]any{"oid": c.who}), c.body)
		if r.status != c.want {
			t.Errorf("%s %s as %s: got %d %s, want %d", c.method, c.path, c.who, r.status, r.text, c.want)
			continue
		}
		if c.want != 403 {
			if r.header.Get("x-ms-keyvault-rbac-assignment-id") == "" {
				t.Errorf("%s %s: no assignment is named", c.method, c.path)
			}
			continue
		}
		if _, inner := r.code(); inner != "ForbiddenByRbac" {
			t.Errorf("%s %s: got inner code %s", c.method, c.path, inner)
		}
		for _, part := range []string{"oid=" + c.who, "iss=" + issuer, "Action: 'Microsoft.KeyVault/vaults/" + c.action + "'", "Assignment: (not found)", "Resource: '" + vaultID, "DecisionReason: 'DeniedWithNoValidRBAC'", "Vault: " + vaultName + ";location=westeurope"} {
			if !strings.Contains(r.message(), part) {
				t.Errorf("%s %s: the message lacks %q: %s", c.method, c.path, part, r.message())
			}
		}
	}

	token := w.mint(map[string]any{"oid": pod})
	w.policy.Delete(assignment)
	if r := w.raw("POST", "/keys/dsc-key-store/sign?api-version=7.4", token, sign); r.status != 403 {
		t.Errorf("after the role was taken away: got %d", r.status)
	}
	w.grant(vaultID+"/keys/dsc-key-store", rbac.KeyVaultCryptoUser, pod)
	if r := w.raw("POST", "/keys/dsc-key-store/sign?api-version=7.4", token, sign); r.status != 200 {
		t.Errorf("after the role was given back: got %d", r.status)
	}
	if r := w.raw("GET", "/keys?api-version=7.4", w.mint(map[string]any{"oid": pod, "groups": []string{admin}}), ""); r.status != 200 {
		t.Errorf("as a member of a group with the role: got %d", r.status)
	}
}

func TestVersionsPathsAndMethodsAreTolerantWhereAzureIs(t *testing.T) {
	w := newWorld(t)
	must(w.secrets(admin).SetSecret(t.Context(), "s", azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil))(t)
	token := w.mint(map[string]any{"oid": admin})
	for _, v := range keyvault.Versions {
		if r := w.raw("GET", "/secrets/s?api-version="+v, token, ""); r.status != 200 {
			t.Errorf("version %s: got %d", v, r.status)
		}
	}
	for _, c := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/secrets/s/?api-version=7.4", 200},
		{"GET", "//secrets//s?api-version=7.4", 200},
		{"GET", "/secrets/s?api%2Dversion=7.4", 200},
		{"GET", "/secrets/?api-version=7.4", 200},
		{"GET", "/secrets/s", 400},
		{"GET", "/secrets/s?api-version=7.0", 400},
		{"GET", "/secrets/s?api-version=2099-01-01", 400},
		{"GET", "/secrets/s/notaversion?api-version=7.4", 400},
		{"GET", "/secrets/s/00000000000000000000000000000000?api-version=7.4", 404},
		{"GET", "/nothing?api-version=7.4", 404},
		{"GET", "/?api-version=7.4", 404},
		{"GET", "/secrets/../keys?api-version=7.4", 404},
		{"POST", "/secrets/s?api-version=7.4", 405},
		{"PUT", "/secrets?api-version=7.4", 405},
	} {
		r := w.raw(c.method, c.target, token, "")
		if r.status != c.want || r.body == nil {
			t.Errorf("%s %s: got %d %s, want %d and JSON", c.method, c.target, r.status, r.text, c.want)
		}
		if unknown := w.raw(c.method, c.target, "", ""); unknown.status != 401 {
			t.Errorf("%s %s without a token: got %d, want 401", c.method, c.target, unknown.status)
		}
	}
	h := w.raw("GET", "/secrets/s?api-version=7.4", token, "").header
	for name, want := range map[string]string{"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1", "X-Content-Type-Options": "nosniff", "x-ms-keyvault-region": "westeurope",
		"x-ms-keyvault-network-info": "conn_type=PrivateLink;addr=192.168.4.20;act_addr_fam=InterNetwork;", "Content-Type": "application/json; charset=utf-8"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if h.Get("x-ms-request-id") == "" || h.Get("Strict-Transport-Security") == "" || h.Get("x-ms-keyvault-service-version") == "" {
		t.Errorf("headers are missing: %v", h)
	}
}

func TestConcurrentWritersAndReadersSeeWholeStates(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	must(w.secrets(admin).SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("0")}, nil))(t)
	var wg sync.WaitGroup
	for i := range 4 {
		client := w.secrets(admin)
		wg.Go(func() {
			for n := range 15 {
				value := fmt.Sprintf("%d-%d", i, n)
				set, err := client.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: &value}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := client.GetSecret(ctx, "s", set.ID.Version(), nil); err != nil || *got.Value != value {
					t.Errorf("got %v, %v", got.Value, err)
				}
				if got, err := client.GetSecret(ctx, "s", "", nil); err != nil || got.Value == nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

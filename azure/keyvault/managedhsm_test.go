package keyvault_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"verdant/azure/rbac"
)

func TestAManagedHSMHasRandomBytesAndKeysOnly(t *testing.T) {
	w := newWorld(t, managedHSM)
	c, ctx := w.keys(admin), t.Context()
	one := must(c.GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: to.Ptr(int32(128))}, nil))(t)
	two := must(c.GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: to.Ptr(int32(128))}, nil))(t)
	if len(one.Value) != 128 || bytes.Equal(one.Value, two.Value) {
		t.Errorf("got %d bytes, twice the same: %v", len(one.Value), bytes.Equal(one.Value, two.Value))
	}
	for _, count := range []int32{0, -1, 129} {
		_, err := c.GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: &count}, nil)
		refused(t, err, 400, "BadParameter")
	}
	w.assign(guid(77), "/", rbac.ManagedHSMCryptoAuditor, pod).wants(t, 201, "", "")
	_, err := w.keys(pod).GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: to.Ptr(int32(1))}, nil)
	refused(t, err, 403, "Forbidden")

	made := must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	if *made.Key.Kty != azkeys.KeyTypeECHSM || made.Attributes.HSMPlatform != nil {
		t.Errorf("got type %s, platform %v", *made.Key.Kty, made.Attributes.HSMPlatform)
	}
	for _, path := range []string{"/secrets", "/certificates", "/certificates/issuers"} {
		if r := w.adminRaw("GET", path, ""); r.status != 404 {
			t.Errorf("%s: got %d %s", path, r.status, r.text)
		}
	}
}

func TestOperationsThatAreNotOfferedSayWhyToThoseWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	w.grant(vaultID, rbac.KeyVaultSecretsUser, pod)
	must(w.keys(admin).CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	for _, request := range []string{"POST /rng", "GET /keys/k/attestation", "POST /keys/k/securewrapkey", "POST /keys/k/secureunwrapkey"} {
		method, path, _ := strings.Cut(request, " ")
		r := w.adminRaw(method, path, "")
		if code, _ := r.code(); r.status != 400 || code != "NotSupported" {
			t.Errorf("%s: got %d %s", request, r.status, r.text)
		}
		if r := w.raw(method, path+"?api-version=7.4", w.mint(map[string]any{"oid": pod}), ""); r.status != 403 {
			t.Errorf("%s without a role: got %d %s", request, r.status, r.text)
		}
	}
}

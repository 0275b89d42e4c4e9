package keyvault_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"verdant/azure/rbac"
)

func TestARotatedKeyExpiresAsItsPolicySays(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.keys(admin), t.Context()
	must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	policy := azkeys.KeyRotationPolicy{Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: to.Ptr("P90D")}}
	got := must(c.UpdateKeyRotationPolicy(ctx, "k", policy, nil))(t)
	if len(got.LifetimeActions) != 1 || *got.LifetimeActions[0].Action.Type != azkeys.KeyRotationPolicyActionNotify || *got.LifetimeActions[0].Trigger.TimeBeforeExpiry != "P30D" {
		t.Errorf("got actions %v, want the notice that every policy has", got.LifetimeActions)
	}
	rotated := must(c.RotateKey(ctx, "k", nil))(t)
	if want := w.clock.Now().Add(90 * 24 * time.Hour); rotated.Attributes.Expires == nil || !rotated.Attributes.Expires.Equal(want) {
		t.Errorf("got expiry %v, want %v", rotated.Attributes.Expires, want)
	}
}

func TestRotationPoliciesThatCannotWorkAreRefused(t *testing.T) {
	w := newWorld(t)
	must(w.keys(admin).CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	for name, body := range map[string]string{
		"an expiry of under 28 days":              `{"attributes":{"expiryTime":"P27D"}}`,
		"an expiry that is no duration":           `{"attributes":{"expiryTime":"90 days"}}`,
		"a duration with its units out of order":  `{"attributes":{"expiryTime":"P90D1Y"}}`,
		"an unknown action":                       `{"lifetimeActions":[{"action":{"type":"Burn"},"trigger":{"timeAfterCreate":"P30D"}}]}`,
		"an action without a trigger":             `{"lifetimeActions":[{"action":{"type":"Rotate"}}]}`,
		"a notice after creation":                 `{"lifetimeActions":[{"action":{"type":"Notify"},"trigger":{"timeAfterCreate":"P30D"}}]}`,
		"a rotation before an expiry there isn't": `{"lifetimeActions":[{"action":{"type":"Rotate"},"trigger":{"timeBeforeExpiry":"P30D"}}]}`,
		"a rotation after the end":                `{"attributes":{"expiryTime":"P30D"},"lifetimeActions":[{"action":{"type":"Rotate"},"trigger":{"timeAfterCreate":"P40D"}}]}`,
	} {
		if r := w.adminRaw("PUT", "/keys/k/rotationpolicy", body); r.status != 400 {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
	if r := w.adminRaw("GET", "/keys/none/rotationpolicy", ""); r.status != 404 {
		t.Errorf("a key that is not there: got %d %s", r.status, r.text)
	}
	w.grant(vaultID, rbac.KeyVaultCryptoUser, pod)
	_, err := w.keys(pod).GetKeyRotationPolicy(t.Context(), "k", nil)
	refused(t, err, 403, "Forbidden")
}

func TestIssuersAndContactsNeedTheirRole(t *testing.T) {
	w := newWorld(t)
	w.grant(vaultID, rbac.KeyVaultCertificateUser, pod)
	ctx, user := t.Context(), w.certificates(pod)
	_, err := user.GetCertificateContacts(ctx, nil)
	refused(t, err, 403, "Forbidden")
	_, err = user.SetCertificateIssuer(ctx, "i", azcertificates.SetCertificateIssuerParameters{Provider: to.Ptr("Test")}, nil)
	refused(t, err, 403, "Forbidden")

	c := w.certificates(admin)
	_, err = c.GetCertificateContacts(ctx, nil)
	refused(t, err, 404, "ContactsNotFound")
	_, err = c.GetCertificateIssuer(ctx, "i", nil)
	refused(t, err, 404, "CertificateIssuerNotFound")
	_, err = c.UpdateCertificateIssuer(ctx, "i", azcertificates.UpdateCertificateIssuerParameters{}, nil)
	refused(t, err, 404, "CertificateIssuerNotFound")
	_, err = c.SetCertificateContacts(ctx, azcertificates.Contacts{}, nil)
	refused(t, err, 400, "BadParameter")
	for _, path := range []string{"/certificate-issuers", "/certificate-contacts", "/certificates/issuers/a/b"} {
		if r := w.adminRaw("GET", path, ""); r.status/100 != 4 {
			t.Errorf("%s: got %d %s", path, r.status, r.text)
		}
	}
}

func TestIssuersAreListedPageByPageUnderTheirOwnAddress(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.certificates(admin), t.Context()
	for _, name := range []string{"a", "b", "c"} {
		must(c.SetCertificateIssuer(ctx, name, azcertificates.SetCertificateIssuerParameters{Provider: to.Ptr("Test")}, nil))(t)
	}
	var got string
	pager := c.NewListCertificateIssuersPager(&azcertificates.ListCertificateIssuersOptions{MaxResults: to.Ptr(int32(2))})
	for pager.More() {
		for _, i := range must(pager.NextPage(ctx))(t).Value {
			got += " " + *i.ID
		}
	}
	const at = vaultURL + "/certificates/issuers/"
	if want := " " + at + "a " + at + "b " + at + "c"; got != want {
		t.Errorf("got%s, want%s", got, want)
	}
}

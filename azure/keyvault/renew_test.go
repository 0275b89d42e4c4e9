package keyvault_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// byItself lists what the vault did without being asked, as its audit log has it.
func (w *world) byItself() (names []string) {
	for _, r := range w.records() {
		if identity, _ := r["identity"].(map[string]any); len(identity) == 0 && r["operationName"] != "Authentication" {
			names = append(names, r["operationName"].(string)+" "+r["resultType"].(string))
		}
	}
	return names
}

func TestAKeyIsRotatedWhenItsPolicySaysSo(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.keys(admin), t.Context()
	first := must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	must(c.CreateKey(ctx, "other", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	must(c.UpdateKeyRotationPolicy(ctx, "k", azkeys.KeyRotationPolicy{
		Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: to.Ptr("P90D")},
		LifetimeActions: []*azkeys.LifetimeAction{{Action: &azkeys.LifetimeActionType{Type: to.Ptr(azkeys.KeyRotationPolicyActionRotate)},
			Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: to.Ptr("P60D")}}},
	}, nil))(t)
	current := func() string { return must(c.GetKey(ctx, "k", "", nil))(t).Key.KID.Version() }

	w.clock.Advance(59 * 24 * time.Hour)
	w.vault.Renew(ctx)
	if got := current(); got != first.Key.KID.Version() {
		t.Error("rotated before its time")
	}
	w.clock.Advance(24 * time.Hour)
	w.vault.Renew(ctx)
	w.vault.Renew(ctx) // once is enough
	second := must(c.GetKey(ctx, "k", "", nil))(t)
	if second.Key.KID.Version() == first.Key.KID.Version() {
		t.Fatal("not rotated after 60 days")
	}
	if want := w.clock.Now().Add(90 * 24 * time.Hour); second.Attributes.Expires == nil || !second.Attributes.Expires.Equal(want) {
		t.Errorf("the new version expires %v, want %v", second.Attributes.Expires, want)
	}
	if got, want := w.byItself(), []string{"KeyRotate Success"}; !slices.Equal(got, want) {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
}

func TestExpiryIsAnnouncedOnceAVersion(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.keys(admin), t.Context()
	expires := w.clock.Now().Add(40 * 24 * time.Hour)
	must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), KeyAttributes: &azkeys.KeyAttributes{Expires: &expires}}, nil))(t)
	var want []string
	for _, step := range []struct {
		days int
		says string
	}{{9, ""}, {2, "KeyNearExpiryEventGridNotification Success"}, {10, ""}, {20, "KeyExpiredEventGridNotification Success"}, {10, ""}} {
		w.clock.Advance(time.Duration(step.days) * 24 * time.Hour)
		w.vault.Renew(ctx)
		if step.says != "" {
			want = append(want, step.says)
		}
		if got := w.byItself(); !slices.Equal(got, want) {
			t.Fatalf("%d days later the audit log has %q, want %q", step.days, got, want)
		}
	}
	if policy := w.adminRaw("GET", "/keys/k/rotationpolicy", ""); policy.status != 200 || len(policy.text) == 0 || strings.Contains(policy.text, "noted") {
		t.Errorf("the policy shows what only the vault needs: %s", policy.text)
	}
}

func TestACertificateOfIssuerSelfRenewsItself(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.certificates(admin), t.Context()
	create := func(name, issuer string) {
		must(c.CreateCertificate(ctx, name, azcertificates.CreateCertificateParameters{CertificatePolicy: &azcertificates.CertificatePolicy{
			IssuerParameters:          &azcertificates.IssuerParameters{Name: &issuer},
			KeyProperties:             &azcertificates.KeyProperties{KeyType: to.Ptr(azcertificates.JSONWebKeyTypeEC), Curve: to.Ptr(azcertificates.JSONWebKeyCurveNameP256)},
			X509CertificateProperties: &azcertificates.X509CertificateProperties{Subject: to.Ptr("CN=" + name), ValidityInMonths: to.Ptr(int32(12))},
			LifetimeActions: []*azcertificates.LifetimeAction{{Action: &azcertificates.Action{ActionType: to.Ptr(azcertificates.CertificatePolicyActionAutoRenew)},
				Trigger: &azcertificates.Trigger{LifetimePercentage: to.Ptr(int32(80))}}},
		}, Tags: map[string]*string{"team": to.Ptr("dcc")}}, nil))(t)
	}
	create("self", "Self")
	create("waiting", "Unknown")
	first := must(c.GetCertificate(ctx, "self", "", nil))(t)
	w.clock.Advance(280 * 24 * time.Hour)
	w.vault.Renew(ctx)
	if got := must(c.GetCertificate(ctx, "self", "", nil))(t); got.ID.Version() != first.ID.Version() {
		t.Error("renewed before its time")
	}
	w.clock.Advance(20 * 24 * time.Hour)
	w.vault.Renew(ctx)
	w.vault.Renew(ctx)
	second := must(c.GetCertificate(ctx, "self", "", nil))(t)
	if second.ID.Version() == first.ID.Version() || !second.Attributes.Expires.After(*first.Attributes.Expires) {
		t.Fatalf("not renewed at 80 %% of its life: expires %v", second.Attributes.Expires)
	}
	if second.Tags["team"] == nil || *second.Tags["team"] != "dcc" {
		t.Errorf("the renewed certificate has tags %v", second.Tags)
	}
	if key := must(w.keys(admin).GetKey(ctx, "self", "", nil))(t); key.Key.KID.Version() != second.ID.Version() {
		t.Error("the managed key did not come along")
	}
	if got, want := w.byItself(), []string{"CertificateRenew Success"}; !slices.Equal(got, want) {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
	w.clock.Advance(400 * 24 * time.Hour)
	if r := w.adminRaw("PATCH", "/certificates/self", `{"attributes":{"enabled":false}}`); r.status != 200 {
		t.Fatal(r.text)
	}
	w.vault.Renew(ctx)
	if got := must(c.GetCertificate(ctx, "self", second.ID.Version(), nil))(t); *got.Attributes.Enabled {
		t.Error("a disabled certificate was renewed")
	}
}

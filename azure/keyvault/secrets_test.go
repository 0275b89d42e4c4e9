package keyvault_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

func TestSecretsAreSetReadAndChangedByTheStockClient(t *testing.T) {
	w := newWorld(t)
	ctx, secrets := t.Context(), w.secrets(admin)
	set := must(secrets.SetSecret(ctx, "msal-authentication-client-secret", azsecrets.SetSecretParameters{Value: to.Ptr("hunter2-é\n\x00"), ContentType: to.Ptr("text/plain"),
		Tags: map[string]*string{"a": to.Ptr("b")}}, nil))(t)
	if *set.Value != "hunter2-é\n\x00" || len(set.ID.Version()) != 32 || *set.ContentType != "text/plain" || *set.Tags["a"] != "b" {
		t.Errorf("got %+v", set.Secret)
	}
	second := must(secrets.SetSecret(ctx, "msal-authentication-client-secret", azsecrets.SetSecretParameters{Value: to.Ptr("new")}, nil))(t)
	if got := must(secrets.GetSecret(ctx, "MSAL-authentication-client-secret", "", nil))(t); *got.Value != "new" || *got.ID != *second.ID || got.ContentType != nil {
		t.Errorf("current: got %+v", got.Secret)
	}
	if got := must(secrets.GetSecret(ctx, "msal-authentication-client-secret", set.ID.Version(), nil))(t); *got.Value != "hunter2-é\n\x00" {
		t.Errorf("first version: got %q", *got.Value)
	}
	seen := map[string]bool{}
	for pager := secrets.NewListSecretPropertiesVersionsPager("msal-authentication-client-secret", nil); pager.More(); {
		for _, p := range must(pager.NextPage(ctx))(t).Value {
			seen[p.ID.Version()] = true
		}
	}
	if len(seen) != 2 || !seen[set.ID.Version()] {
		t.Errorf("versions: got %v", seen)
	}
	w.clock.Advance(time.Minute)
	updated := must(secrets.UpdateSecretProperties(ctx, "msal-authentication-client-secret", "", azsecrets.UpdateSecretPropertiesParameters{
		ContentType: to.Ptr("x"), SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(false)}}, nil))(t)
	if *updated.ContentType != "x" || *updated.Attributes.Enabled || updated.Value != nil || !updated.Attributes.Updated.Equal(w.clock.Now()) {
		t.Errorf("update: got %+v", updated.Secret)
	}
	_, err := secrets.GetSecret(ctx, "msal-authentication-client-secret", "", nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	if !strings.Contains(err.Error(), "SecretDisabled") || !strings.Contains(err.Error(), "Operation get is not allowed on a disabled secret.") {
		t.Errorf("got %v", err)
	}
	must(secrets.GetSecret(ctx, "msal-authentication-client-secret", set.ID.Version(), nil))(t) // that version is enabled
	_, err = secrets.GetSecret(ctx, "nothing", "", nil)
	refused(t, err, http.StatusNotFound, "SecretNotFound")
}

func TestSecretsHaveALimitAndACheckedForm(t *testing.T) {
	w := newWorld(t)
	secrets := w.secrets(admin)
	full := strings.Repeat("é", 12800)
	must(secrets.SetSecret(t.Context(), "full", azsecrets.SetSecretParameters{Value: &full}, nil))(t)
	if got := must(secrets.GetSecret(t.Context(), "full", "", nil))(t); *got.Value != full {
		t.Error("25 kB do not come back")
	}
	over := full + "x"
	_, err := secrets.SetSecret(t.Context(), "over", azsecrets.SetSecretParameters{Value: &over}, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter")
	for name, body := range map[string]string{"no value": `{}`, "a null value": `{"value":null}`, "a number": `{"value":1}`, "broken JSON": `{"value":"`, "a long content type": `{"value":"","contentType":"` + strings.Repeat("x", 256) + `"}`} {
		if r := w.adminRaw("PUT", "/secrets/bad", body); r.status != 400 {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
	if r := w.adminRaw("PUT", "/secrets/empty", `{"value":""}`); r.status != 200 || r.body["value"] != "" {
		t.Errorf("an empty value: got %d %s", r.status, r.text)
	}
	if r := w.adminRaw("PUT", "/secrets/escaped", `{"value":"`+strings.Repeat(`\u0041`, 25600)+`"}`); r.status != 200 {
		t.Errorf("a value of escapes: got %d %s", r.status, r.text)
	}
}

func TestListsArePagedAtConstantSize(t *testing.T) {
	w := newWorld(t)
	ctx, secrets := t.Context(), w.secrets(admin)
	const n = 60
	for i := range n {
		must(secrets.SetSecret(ctx, fmt.Sprintf("s-%03d", i), azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil))(t)
	}
	var names []string
	pages := 0
	for pager := secrets.NewListSecretPropertiesPager(nil); pager.More(); pages++ {
		page := must(pager.NextPage(ctx))(t)
		if len(page.Value) > 25 {
			t.Errorf("a page of %d", len(page.Value))
		}
		for _, p := range page.Value {
			names = append(names, p.ID.Name())
		}
	}
	if len(names) != n || pages != 3 || names[0] != "s-000" || names[n-1] != "s-059" {
		t.Errorf("got %d names on %d pages", len(names), pages)
	}
	if r := w.adminRaw("GET", "/secrets?maxresults=2", ""); len(r.body["value"].([]any)) != 2 || !strings.HasPrefix(r.body["nextLink"].(string), vaultURL+"/secrets?") || strings.Contains(r.text, `"value":"v"`) {
		t.Errorf("got %s", r.text)
	}
	if r := w.adminRaw("GET", "/certificates", ""); r.text != `{"value":[],"nextLink":null}` {
		t.Errorf("an empty list: got %s", r.text)
	}
	for _, bad := range []string{"maxresults=0", "maxresults=26", "maxresults=x", "$skiptoken=%21", "$skiptoken=" + "Li4"} {
		if r := w.adminRaw("GET", "/secrets?"+bad, ""); r.status != 400 {
			t.Errorf("%s: got %d %s", bad, r.status, r.text)
		}
	}
}

func TestPurgeProtectionOutlastsEverybodyButTheClock(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.PurgeProtection = true })
	ctx, secrets := t.Context(), w.secrets(admin)
	set := must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil))(t)
	if *set.Attributes.RecoveryLevel != "CustomizedRecoverable" {
		t.Errorf("got recovery level %s", *set.Attributes.RecoveryLevel)
	}
	must(secrets.DeleteSecret(ctx, "s", nil))(t)
	_, err := secrets.PurgeDeletedSecret(ctx, "s", nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	if !strings.Contains(err.Error(), "purge protection is enabled") {
		t.Errorf("got %v", err)
	}
	w.clock.Advance(7*24*time.Hour - time.Second)
	w.vault.Sweep(ctx)
	got := must(secrets.GetDeletedSecret(ctx, "s", nil))(t)
	if got.Value != nil || *got.ID != *set.ID {
		t.Errorf("got %+v", got.DeletedSecret)
	}
	w.clock.Advance(time.Second)
	_, err = secrets.GetDeletedSecret(ctx, "s", nil) // gone by the clock, before the sweeper comes
	refused(t, err, http.StatusNotFound, "SecretNotFound")
	_, err = secrets.RecoverDeletedSecret(ctx, "s", nil)
	refused(t, err, http.StatusNotFound, "SecretNotFound")
	again := must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("w")}, nil))(t)
	_, err = secrets.GetSecret(ctx, "s", set.ID.Version(), nil)
	refused(t, err, http.StatusNotFound, "SecretNotFound")
	w.vault.Sweep(ctx)
	if got := must(secrets.GetSecret(ctx, "s", "", nil))(t); *got.ID != *again.ID {
		t.Error("the sweeper took the new secret")
	}
}

func TestDeletedSecretsComeBackWithEveryVersion(t *testing.T) {
	w := newWorld(t)
	ctx, secrets := t.Context(), w.secrets(admin)
	first := must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("1")}, nil))(t)
	must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("2")}, nil))(t)
	must(secrets.DeleteSecret(ctx, "s", nil))(t)
	_, err := secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("3")}, nil)
	refused(t, err, http.StatusConflict, "Conflict")
	_, err = secrets.GetSecret(ctx, "s", first.ID.Version(), nil)
	refused(t, err, http.StatusNotFound, "SecretNotFound")
	must(secrets.RecoverDeletedSecret(ctx, "s", nil))(t)
	if got := must(secrets.GetSecret(ctx, "s", first.ID.Version(), nil))(t); *got.Value != "1" {
		t.Errorf("got %q", *got.Value)
	}
}

func TestValuesRestInNoFileAndNoRecordInClear(t *testing.T) {
	w := newWorld(t)
	sentinel := "sentinel-5f0c1a7e-value"
	must(w.secrets(admin).SetSecret(t.Context(), "s", azsecrets.SetSecretParameters{Value: &sentinel}, nil))(t)
	must(w.secrets(admin).GetSecret(t.Context(), "s", "", nil))(t)
	w.adminRaw("PUT", "/secrets/broken", `{"value":"`+sentinel+`"`)
	w.adminRaw("GET", "/secrets/s?x="+sentinel, "")
	if text := fmt.Sprint(w.records()); strings.Contains(text, sentinel) {
		t.Error("an audit record holds the value")
	}
	w.restart()
	if got := must(w.secrets(admin).GetSecret(t.Context(), "s", "", nil))(t); *got.Value != sentinel {
		t.Errorf("after a restart: got %q", *got.Value)
	}
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("sentinel-5f0c")) {
			t.Errorf("%s holds the value", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

package estate

import (
	"net/http"
	"path/filepath"
	"testing"
)

// What a rate is measured against is the vault's own answer, from memory.
func TestAMeasuredVaultAnswersAsItsConstantDoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	ctx := t.Context()
	m, err := OpenMeasuredVault(ctx, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	const path = "/secrets/password"
	if _, err := m.Do(ctx, true, http.MethodGet, path, ""); err == nil {
		t.Error("the server of constants answers what it was not given")
	}
	if _, err := m.Do(ctx, false, http.MethodPut, path, `{"value":"hunter2"}`); err != nil {
		t.Fatal(err)
	}
	want, err := m.Keep(ctx, http.MethodGet, path, "")
	if err != nil {
		t.Fatal(err)
	}
	got, header, err := m.do(ctx, true, http.MethodGet, path, "")
	if err != nil || string(got) != string(want) || header.Get("X-Ms-Keyvault-Rbac-Assignment-Id") == "" {
		t.Errorf("got %s, %v, %v; want %s with the vault's headers", got, header, err, want)
	}
}

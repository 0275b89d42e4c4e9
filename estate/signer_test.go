package estate

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestAnEstateStaysWithTheTokenItWasMadeWith(t *testing.T) {
	uri := func(label string) string {
		got, err := CheckHSM("pkcs11:token=" + label + "?pin-source=file:/etc/pin&module-path=/usr/lib/m.so")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	places := map[string]string{"software": "", "a token": uri("one"), "another token": uri("two")}
	for made, before := range places {
		dir := filepath.Join(t.TempDir(), "estate")
		v := DefaultVariables()
		v.HSM = before
		d, err := OpenDataDir(t.Context(), dir, v, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if saved, ok := SavedVariables(dir); !ok || saved.HSM != before {
			t.Errorf("made with %s: %q is remembered, want %q", made, saved.HSM, before)
		}
		for opened, after := range places {
			v.HSM = after
			d, err := OpenDataDir(t.Context(), dir, v, "")
			if (err == nil) != (opened == made) {
				t.Errorf("made with %s, opened with %s: got %v", made, opened, err)
			}
			if err == nil {
				_ = d.Close()
			} else if !strings.Contains(err.Error(), "--hsm") {
				t.Errorf("the refusal does not say what to do: %v", err)
			}
		}
	}
}

func TestATokenIsNamedByAFullURI(t *testing.T) {
	for _, uri := range []string{"", "/usr/lib/m.so", "pkcs11:token=a", "pkcs11:token=a?module-path=m.so&pin-source=/p", "pkcs11:token=a?module-path=/m&pin-value=1"} {
		if got, err := CheckHSM(uri); err == nil {
			t.Errorf("%q is accepted as %q", uri, got)
		}
	}
}

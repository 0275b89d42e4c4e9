package conformance

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"
)

// same reports where two payloads differ in meaning. A null member equals an
// absent one, 1.0 equals 1, text is compared in Unicode's normal form C
// (hcert-spec, "Health Certificate Claim"), and times of test are compared as
// instants, because their text changes on the way through CBOR tag 0.
func same(want, got map[string]any) error { return sameMap(want, got, "") }

func sameMap(want, got map[string]any, path string) error {
	for k, w := range want {
		g := got[k]
		if w == nil && g == nil {
			continue
		}
		if g == nil {
			return fmt.Errorf("%s is missing in the payload", strings.TrimPrefix(path+"."+k, "."))
		}
		if err := sameValue(w, g, path+"."+k); err != nil {
			return err
		}
	}
	for k, g := range got {
		if g != nil && want[k] == nil {
			return fmt.Errorf("%s is in the payload but not in JSON", strings.TrimPrefix(path+"."+k, "."))
		}
	}
	return nil
}

func sameValue(want, got any, path string) error {
	differ := fmt.Errorf("%s differs between JSON and payload", strings.TrimPrefix(path, "."))
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return differ
		}
		return sameMap(w, g, path)
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return differ
		}
		for i := range w {
			if err := sameValue(w[i], g[i], fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	case int64, float64:
		a, aok := asFloat(want)
		b, bok := asFloat(got)
		if !aok || !bok || a != b {
			return differ
		}
		return nil
	case string:
		g, ok := got.(string)
		if !ok {
			return differ
		}
		if w != g && norm.NFC.String(w) != norm.NFC.String(g) && !(timeField(path) && sameInstant(w, g)) {
			return differ
		}
		return nil
	}
	// What is left are nil and bool.
	if want != got {
		return differ
	}
	return nil
}

func asFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func timeField(path string) bool {
	return strings.HasPrefix(path, ".t[") && (strings.HasSuffix(path, ".sc") || strings.HasSuffix(path, ".dr"))
}

func sameInstant(a, b string) bool {
	x, err := time.Parse(time.RFC3339, a)
	if err != nil {
		return false
	}
	y, err := time.Parse(time.RFC3339, b)
	return err == nil && x.Equal(y)
}

package hcert

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newReader(s string, l Limits, stage Stage) *reader {
	return &reader{s: s, items: l.items(), depth: l.depth(), stage: stage}
}

func readTree(data []byte) (any, error) {
	r := newReader(string(data), Limits{}, StagePayload)
	v, err := r.tree()
	if err == nil && r.rest() > 0 {
		err = r.bad("rest")
	}
	return v, err
}

func TestCBORExamplesOfTheRFC(t *testing.T) {
	// RFC 8949, Appendix A, as far as a payload may use it.
	for in, want := range map[string]any{
		"00": int64(0), "17": int64(23), "1818": int64(24), "1b000000e8d4a51000": int64(1000000000000),
		"20": int64(-1), "3903e7": int64(-1000), "3b7fffffffffffffff": int64(math.MinInt64),
		"f90000": 0.0, "f93c00": 1.0, "f97bff": 65504.0, "fa47c35000": 100000.0, "f90001": 5.960464477539063e-8,
		"f90400": 0.00006103515625, "f9c400": -4.0, "fbc010666666666666": -4.1, "f97c00": math.Inf(1), "f9fc00": math.Inf(-1),
		"f4": false, "f5": true, "f6": nil, "f7": nil,
		"4401020304": []byte{1, 2, 3, 4}, "62c3bc": "ü", "60": "",
		"c074323031332d30332d32315432303a30343a30305a": "2013-03-21T20:04:00Z",
		"80": []any{}, "8301820203820405": []any{int64(1), []any{int64(2), int64(3)}, []any{int64(4), int64(5)}},
		"a26161016162820203":         map[string]any{"a": int64(1), "b": []any{int64(2), int64(3)}},
		"5f42010243030405ff":         []byte{1, 2, 3, 4, 5},
		"7f657374726561646d696e67ff": "streaming",
		"9fff":                       []any{},
		"bf61610161629f0203ffff":     map[string]any{"a": int64(1), "b": []any{int64(2), int64(3)}},
	} {
		got, err := readTree(unhex(t, in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v, want %#v", in, got, err, want)
		}
	}
	if got, err := readTree(unhex(t, "f97e00")); err != nil || !math.IsNaN(got.(float64)) {
		t.Errorf("NaN: got %v, %v", got, err)
	}
}

func TestCBORRefusals(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":                      "",
		"cut in an integer":            "19ff",
		"cut in a string":              "6461",
		"cut in an array":              "8201",
		"cut in an indefinite array":   "9f01",
		"odd indefinite map":           "bf6161ff",
		"reserved length":              "1c",
		"break alone":                  "ff",
		"integer beyond int64":         "1b8000000000000000",
		"negative beyond int64":        "3b8000000000000000",
		"string of 2^63 bytes":         "7b8000000000000000",
		"array of 2^32 items":          "9affffffff",
		"map of 2^63 items":            "bb8000000000000000",
		"text not UTF-8":               "61ff",
		"chunks of another kind":       "5f6161ff",
		"nested indefinite chunks":     "7f7f6161ffff",
		"integer key":                  "a10101",
		"key twice":                    "a2616101616102",
		"tag 1":                        "c100",
		"tag 0 on a number":            "c000",
		"tag 0 on a tag":               "c0c06161",
		"unknown simple value":         "e0",
		"simple value in two bytes":    "f8ff",
		"something after":              "0000",
		"indefinite-length integer":    "1f",
		"indefinite-length tag":        "df00",
		"break as a map value":         "a16161ff",
		"break inside a definite list": "8201ff",
	} {
		if got, err := readTree(unhex(t, in)); !errors.Is(err, BadCBOR) {
			t.Errorf("%s: got %#v, %v, want %v", name, got, err, BadCBOR)
		}
	}
	for name, in := range map[string][]byte{
		"deep arrays": bytes.Repeat([]byte{0x81}, 100),
		"deep maps":   bytes.Repeat([]byte{0xa1, 0x61, 0x61}, 100),
		"many items":  append([]byte{0x99, 0x10, 0x00}, make([]byte, 4096)...),
	} {
		if _, err := readTree(in); !errors.Is(err, TooLarge) {
			t.Errorf("%s: got %v, want %v", name, err, TooLarge)
		}
		r := newReader(string(in), Limits{}, StageCOSE)
		if err := r.skip(); !errors.Is(err, TooLarge) {
			t.Errorf("%s, skipped: got %v, want %v", name, err, TooLarge)
		}
	}
	deepTags := bytes.Repeat([]byte{0xc0}, 100)
	r := newReader(string(deepTags), Limits{}, StageCOSE)
	if err := r.skip(); !errors.Is(err, TooLarge) {
		t.Errorf("deep tags, skipped: got %v, want %v", err, TooLarge)
	}
}

// oracle decodes with an independent library under the same rules.
func oracle(t testing.TB, data []byte) (any, error) {
	t.Helper()
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		TimeTag:          cbor.DecTagIgnored,
		MaxNestedLevels:  64,
		MapKeyByteString: cbor.MapKeyByteStringForbidden,
		IntDec:           cbor.IntDecConvertSignedOrFail,
		DefaultMapType:   reflect.TypeFor[map[string]any](),
	}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	var v any
	err = mode.Unmarshal(data, &v)
	return v, err
}

// FuzzCBOR compares the reader with an independent library: whatever the
// reader accepts, the library must accept with the same value, and encoding
// the value must give it back.
func FuzzCBOR(f *testing.F) {
	for _, s := range []string{"a26161016162820203", "bf61610161629f0203ffff", "f93c00", "c061 61", "5f42010243030405ff", "1bffffffffffffffff", "f7"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newReader(string(data), Limits{}, StageCOSE)
		skipErr := r.skip()
		got, err := readTree(data)
		if err != nil {
			return
		}
		if skipErr != nil || r.rest() > 0 {
			t.Fatalf("tree accepts what skip does not: %v", skipErr)
		}
		// The oracle turns tag 0 into a time; we keep the text.
		if !bytes.Contains(data, []byte{0xc0}) {
			want, err := oracle(t, data)
			if err != nil {
				t.Fatalf("accepted, but the oracle says: %v", err)
			}
			if !equalTrees(got, want) {
				t.Fatalf("got %#v, the oracle %#v", got, want)
			}
		}
		again, err := appendTree(nil, got)
		if err != nil {
			t.Fatal(err)
		}
		back, err := readTree(again)
		if err != nil || !equalTrees(got, back) {
			t.Fatalf("encoding and decoding %#v gives %#v, %v", got, back, err)
		}
	})
}

func equalTrees(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && (a == b || math.IsNaN(a) && math.IsNaN(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equalTrees(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if v, ok := b[k]; !ok || !equalTrees(a[k], v) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

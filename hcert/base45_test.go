package hcert

import (
	"bytes"
	"errors"
	"testing"
)

func TestBase45ExamplesOfTheRFC(t *testing.T) {
	// RFC 9285, §4.3 and §4.4.
	for _, c := range []struct{ plain, encoded string }{
		{"", ""}, {"AB", "BB8"}, {"Hello!!", "%69 VD92EX0"}, {"base-45", "UJCLQE7W581"}, {"ietf!", "QED8WEX0"},
	} {
		if got := EncodeBase45([]byte(c.plain)); got != c.encoded {
			t.Errorf("encode %q: got %q, want %q", c.plain, got, c.encoded)
		}
		got, err := DecodeBase45(c.encoded)
		if err != nil || string(got) != c.plain {
			t.Errorf("decode %q: got %q, %v, want %q", c.encoded, got, err, c.plain)
		}
	}
}

func TestBase45Refusals(t *testing.T) {
	for name, text := range map[string]string{
		"one character":          "A",
		"four characters":        "AAAA",
		"group above 65535":      "GGW",
		"another above 65535":    ":::",
		"last group above 255":   "::",
		"lower case":             "bb8",
		"character not in it":    "BB#",
		"high byte":              "BB\xff",
		"high byte in the tail":  "\xff0",
		"line end":               "BB8\n0",
		"non-ASCII in the front": "é8",
	} {
		if got, err := DecodeBase45(text); !errors.Is(err, BadBase45) {
			t.Errorf("%s: got %q, %v, want %v", name, got, err, BadBase45)
		}
	}
}

func FuzzBase45(f *testing.F) {
	f.Add("%69 VD92EX0")
	f.Add("GGW")
	f.Fuzz(func(t *testing.T, text string) {
		data, err := DecodeBase45(text)
		if err == nil && EncodeBase45(data) != text {
			t.Fatalf("%q decodes and encodes to another text", text)
		}
		back, err := DecodeBase45(EncodeBase45([]byte(text)))
		if err != nil || !bytes.Equal(back, []byte(text)) {
			t.Fatalf("%q encodes and decodes to other bytes: %v", text, err)
		}
	})
}

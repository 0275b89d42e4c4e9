package plaintext

import "testing"

func TestControlCharactersAreEscapedAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"Ní Bhriain\t1":     "Ní Bhriain\t1",
		"\x1b[31mred\x1b[0": `\x1b[31mred\x1b[0`,
		"a\nb\u009b":        `a\nb\u009b`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

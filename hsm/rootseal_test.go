package hsm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"verdant/hsm"
)

func passphrase(text string) hsm.PassphraseSeal {
	return hsm.PassphraseSeal{Read: func() ([]byte, error) { return []byte(text), nil }}
}

func TestARootKeyOpensWithWhatSealedItAndWithNothingElse(t *testing.T) {
	root := [32]byte([]byte("0123456789abcdefghijklmnopqrstuv"))
	token, err := hsm.OpenSoftware(t.Context(), t.TempDir(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	other, err := hsm.OpenSoftware(t.Context(), t.TempDir(), [32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ right, wrong hsm.RootSeal }{
		"passphrase": {passphrase("correct horse battery"), passphrase("correct horse batterz")},
		"token":      {hsm.TokenSeal{Token: token}, hsm.TokenSeal{Token: other}},
	} {
		t.Run(name, func(t *testing.T) {
			sealed, err := c.right.Seal(t.Context(), root)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(sealed, root[:]) {
				t.Error("the sealed root key shows the root key")
			}
			if got, err := c.right.Open(t.Context(), sealed); err != nil || got != root {
				t.Errorf("got %x, %v", got, err)
			}
			if got, err := c.wrong.Open(t.Context(), sealed); !errors.Is(err, hsm.ErrRootSeal) || got != [32]byte{} {
				t.Errorf("with another secret: got %x, %v; want ErrRootSeal", got, err)
			}
			var record map[string]any
			if err := json.Unmarshal(sealed, &record); err != nil {
				t.Fatal(err)
			}
			record["sealed"] = "AAAA"
			changed, _ := json.Marshal(record)
			for _, bad := range [][]byte{changed, nil, []byte("null"), []byte("{}"), []byte("[1]"), sealed[:len(sealed)/2]} {
				if _, err := c.right.Open(t.Context(), bad); err == nil {
					t.Errorf("%.60q was opened", bad)
				}
			}
		})
	}
}

func TestAPassphraseThatIsShortIsRefused(t *testing.T) {
	if _, err := passphrase("elevenchars").Seal(t.Context(), [32]byte{}); !errors.Is(err, hsm.ErrRootSeal) {
		t.Errorf("got %v, want ErrRootSeal", err)
	}
}

func TestARecordCannotAskForMoreThanItsBounds(t *testing.T) {
	for _, record := range []string{
		`{"kdf":"argon2id","salt":"AAAAAAAAAAAAAAAAAAAAAA==","time":3,"memory":4294967295,"threads":4,"sealed":""}`,
		`{"kdf":"argon2id","salt":"AAAAAAAAAAAAAAAAAAAAAA==","time":4294967295,"memory":65536,"threads":4,"sealed":""}`,
		`{"kdf":"argon2id","salt":"AAAAAAAAAAAAAAAAAAAAAA==","time":3,"memory":65536,"threads":0,"sealed":""}`,
		`{"kdf":"pbkdf2-hmac-sha256","salt":"AAAAAAAAAAAAAAAAAAAAAA==","time":4294967295,"sealed":""}`,
		`{"kdf":"pbkdf2-hmac-sha256","salt":"","time":600000,"sealed":""}`,
		`{"kdf":"md5","salt":"AAAAAAAAAAAAAAAAAAAAAA==","time":3,"sealed":""}`,
	} {
		if _, err := passphrase("correct horse battery").Open(t.Context(), []byte(record)); !errors.Is(err, hsm.ErrRootSeal) {
			t.Errorf("%s: got %v, want ErrRootSeal", record, err)
		}
	}
}

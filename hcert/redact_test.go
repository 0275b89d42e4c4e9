package hcert

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestNothingPrintsACitizensData(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), 0)
	dcc := vaccination()
	out, err := s.Issue(t.Context(), dcc, start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	u, err := new(Decoder).Decode(out.Text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify(s.keys, start)
	if err != nil {
		t.Fatal(err)
	}
	broken, _ := new(Decoder).Decode(out.Text[:200])
	for _, value := range []any{dcc, u.Payload, u, v, out, broken, (*DCC)(nil), (*Unverified)(nil), (*Verified)(nil), (*Issued)(nil), (*Payload)(nil)} {
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", value)
		for _, text := range []string{fmt.Sprintf("%v", value), fmt.Sprintf("%+v", value), log.String()} {
			for _, secret := range []string{"MHURCHU", "Áine", "1980", "52D0DC", out.Text[10:30], u.Encoded[10:30]} {
				if strings.Contains(text, secret) {
					t.Errorf("%T prints %q: %s", value, secret, text)
				}
			}
		}
	}
}

func TestSelfCheckStopsAConfusedSigner(t *testing.T) {
	key, other := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	confused := &remote{Signer: key, edit: func(b []byte) ([]byte, error) { return b, nil }}
	i, err := NewIssuer(IssuerConfig{Country: "IE", Certificate: newDSC(t, key, 0), Signer: confused, SelfCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Issue(t.Context(), vaccination(), start, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	confused.edit = func([]byte) ([]byte, error) { return other.Sign(nil, make([]byte, 32), nil) }
	if _, err := i.Issue(t.Context(), vaccination(), start, start.Add(time.Hour)); !errors.Is(err, SignerFailed) {
		t.Errorf("got %v, want %v", err, SignerFailed)
	}
}

package hcert

import (
	"crypto/elliptic"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestDiagnoseShowsHowFarACertificateGot(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), UsageVaccination)
	out, err := s.Issue(t.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	test := newSigner(t, ecKey(t, elliptic.P256()), UsageTest)
	wrongUsage := *s.key
	wrongUsage.Usage = UsageTest
	impostor := *test.key
	impostor.KID = s.key.KID
	ended := *s.key
	ended.NotAfter = start.Add(-time.Hour)
	damaged := out.Text + "000"
	for name, c := range map[string]struct {
		text string
		keys KeySource
		at   time.Time
		want string // what did not pass
	}{
		"a good one":             {out.Text, s.keys, start, ""},
		"without keys":           {out.Text, nil, start, ""},
		"no prefix":              {"XX", s.keys, start, "prefix not an HC1 text; base45 not reached; zlib not reached; cose not reached; cwt not reached; payload not reached; signer not reached; signature not reached; validity not reached; key usage not reached; schema not reached"},
		"damaged":                {damaged, nil, start, "zlib invalid zlib stream; cose not reached; cwt not reached; payload not reached"},
		"expired and unknown":    {out.Text, KeySet{}, start.AddDate(1, 0, 0), "signer unknown document signer; signature not reached; validity expired; key usage not reached"},
		"forged and too early":   {out.Text, NewKeySet(&impostor), start.Add(-time.Hour), "signature bad signature; validity not yet valid; key usage not reached"},
		"of a signer for tests":  {out.Text, NewKeySet(&wrongUsage), start, "key usage document signer may not sign this type of certificate"},
		"of a signer that ended": {out.Text, NewKeySet(&ended), start, "validity outside the document signer's validity"},
	} {
		t.Run(name, func(t *testing.T) {
			u, results := new(Decoder).Diagnose(c.text, c.keys, c.at)
			var got []string
			for _, r := range results {
				switch r.State {
				case StageFailed:
					got = append(got, string(r.Stage)+" "+string(r.Reason))
				case StageNotReached:
					got = append(got, string(r.Stage)+" not reached")
				}
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
			if u == nil || strings.Contains(fmt.Sprint(results), "MHURCHU") {
				t.Error("no certificate, or a result holds a value")
			}
			if c.keys == nil {
				return
			}
			// It agrees with Verify.
			_, _, err := NewVerifier(c.keys, func() time.Time { return c.at }, Limits{}).Verify(c.text)
			if (err == nil) != (c.want == "") {
				t.Errorf("Verify says %v", err)
			}
		})
	}
}

package hcert

import (
	"crypto/elliptic"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestDecodeUndoesEncode issues random payloads, with names of any script and
// fields of any allowed length, and expects to verify the same payload.
func TestDecodeUndoesEncode(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), 0)
	random := rand.New(rand.NewPCG(3, 4))
	str := func(alphabet string, low, high int) string {
		rs := []rune(alphabet)
		var b strings.Builder
		for range low + random.IntN(high-low+1) {
			b.WriteRune(rs[random.IntN(len(rs))])
		}
		return b.String()
	}
	const anything = "aZ éßŁйה中𐍈\"\\\x00\n<&/"
	date := func() string {
		return start.AddDate(0, 0, -random.IntN(20000)).Format(time.DateOnly)
	}
	v := NewVerifier(s.keys, func() time.Time { return start }, Limits{})
	for range 300 {
		d := &DCC{Version: "1.3.0", DateOfBirth: date()[:[]int{0, 4, 7, 10}[random.IntN(4)]],
			Name: Name{Family: str(anything, 0, 80), FamilyStandardised: str("ABZ<", 1, 80),
				Given: str(anything, 0, 80), GivenStandardised: str("ABZ<", 0, 80)}}
		switch random.IntN(3) {
		case 0:
			d.Vaccinations = []Vaccination{{Target: "840539006", Prophylaxis: str(anything, 0, 30), Product: str(anything, 0, 30),
				Manufacturer: str(anything, 0, 30), Dose: 1 + random.IntN(1<<20), Doses: 1 + random.IntN(300), Date: date(),
				Country: str("AZ", 1, 3), Issuer: str(anything, 0, 80), ID: str(anything, 0, 80)}}
		case 1:
			d.Tests = []Test{{Target: "840539006", Type: str(anything, 0, 30), Name: str(anything, 0, 80), Device: str(anything, 0, 20),
				Collected: date() + "T10:00:00+02:00", Result: "260415000", Centre: str(anything, 0, 80),
				Country: str("AZ", 1, 3), Issuer: str(anything, 0, 80), ID: str(anything, 0, 80)}}
		default:
			d.Recoveries = []Recovery{{Target: "840539006", FirstPositive: date(), ValidFrom: date(), ValidUntil: date(),
				Country: str("AZ", 1, 3), Issuer: str(anything, 0, 80), ID: str(anything, 0, 80)}}
		}
		out, err := s.Issue(t.Context(), d, start, start.Add(time.Hour))
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		ok, _, err := v.Verify(out.Text)
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		if !reflect.DeepEqual(ok.DCC(), d) || !reflect.DeepEqual(ok.Tree(), d.Tree()) {
			t.Fatalf("got %+v, want %+v", ok.DCC(), d)
		}
	}
}

func TestSharedDecoderAndIssuer(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), 0)
	v := NewVerifier(s.keys, func() time.Time { return start }, Limits{})
	done := make(chan error)
	for range 4 {
		go func() {
			var last error
			for range 20 {
				out, err := s.Issue(t.Context(), testResult(), start, start.Add(time.Hour))
				if err == nil {
					_, _, err = v.Verify(out.Text)
				}
				if err != nil {
					last = err
				}
			}
			done <- last
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

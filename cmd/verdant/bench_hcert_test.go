package main

import "testing"

// TestTheCertificateBenchmarkMeasuresWhatItSays runs the parts that check
// themselves: a rule that refuses, a certificate that does not verify or a hash
// that is not found would be an error.
func TestTheCertificateBenchmarkMeasuresWhatItSays(t *testing.T) {
	b, err := newHcertBench()
	if err != nil {
		t.Fatal(err)
	}
	if figures, err := b.rules(t.Context(), 1); err != nil || figures[0].Value <= 0 {
		t.Errorf("rules: %v, %v", figures, err)
	}
	figures, err := benchRevocation(t.Context(), 2000)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		if f.Limit <= 0 {
			t.Errorf("%s has no limit beside it", f.Name)
		}
	}
}

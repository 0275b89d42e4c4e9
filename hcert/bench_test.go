package hcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"
)

// The raw rates are the limit: what the curve costs alone, in the same run.

func BenchmarkRawVerify(b *testing.B) {
	key := ecKey(b, elliptic.P256())
	sum := sha256.Sum256([]byte("x"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
			b.Fatal("not verified")
		}
	}
}

func BenchmarkDecodeAndVerify(b *testing.B) {
	s := newSigner(b, ecKey(b, elliptic.P256()), 0)
	out, err := s.Issue(b.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	v := NewVerifier(s.keys, func() time.Time { return start }, Limits{})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.Verify(out.Text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeAlone(b *testing.B) {
	s := newSigner(b, ecKey(b, elliptic.P256()), 0)
	out, err := s.Issue(b.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	d := new(Decoder)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(out.Text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRawSign(b *testing.B) {
	key := ecKey(b, elliptic.P256())
	sum := sha256.Sum256([]byte("x"))
	for b.Loop() {
		if _, err := ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeAndSign(b *testing.B) {
	s := newSigner(b, ecKey(b, elliptic.P256()), 0)
	dcc := vaccination()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Issue(b.Context(), dcc, start, start.Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	tree := vaccination().Tree()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Validate(tree); err != nil {
			b.Fatal(err)
		}
	}
}

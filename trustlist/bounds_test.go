package trustlist

import (
	"bytes"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestHostileInputCostsLittle: what is as large as the limits allow, or larger,
// allocates under 16 MB in every decoder. How long it takes is logged, not
// judged.
func TestHostileInputCostsLittle(t *testing.T) {
	s := newSigner(t, "IE", "upload")
	cms := func(content []byte) []byte {
		der, err := s.Sign(t.Context(), content)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	open := func(der []byte) func() {
		return func() {
			if e, err := ParseCMS(der); err == nil {
				_, _ = e.Open()
				_, _ = e.DetachedDER()
			}
		}
	}
	large := cms(make([]byte, maxCMS-4096))
	anchor := NewAnchor(s.Certificate)
	for name, run := range map[string]func(){
		"a CMS as large as allowed":         open(large),
		"the same in BER":                   open(indefinite(t, large, 5)),
		"the same in BER of many pieces":    open(indefinite(t, cms(make([]byte, 60_000)), 1)),
		"a CMS beyond the limit":            open(make([]byte, maxCMS+1)),
		"indefinite lengths without end":    open(bytes.Repeat([]byte{0x30, 0x80}, maxCMS/2)),
		"sequences without end":             open(bytes.Repeat([]byte{0x30, 0x83, 0x0f, 0xff, 0xff}, maxCMS/5)),
		"strings of indefinite length":      open(append([]byte{0x24, 0x80}, bytes.Repeat([]byte{0x04, 0x01, 'a'}, maxCMS/3-10)...)),
		"base64 as large as allowed":        func() { _, _ = ParseCMSBase64(base64.StdEncoding.EncodeToString(large)) },
		"base64 of zeros":                   func() { _, _ = ParseCMSBase64(strings.Repeat("A", maxCMS/3*4)) },
		"a certificate as large as allowed": func() { _, _ = ParseCertificate(make([]byte, maxCertificate)) },
		"a certificate of long lengths":     func() { _, _ = ParseCertificate(bytes.Repeat([]byte{0x30, 0x82, 0x3f, 0xf0}, maxCertificate/4)) },
		"a list of ten thousand nothings":   func() { anchor.Verify(make([]Item, 10_000)) },
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			run()
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			got := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d kB in %v", got>>10, took)
			if got > 16<<20 {
				t.Errorf("got %d kB allocated, want at most 16 MB", got>>10)
			}
		})
	}
}

// TestAnUploadWithAHugeKeyIsRefusedBeforeItIsVerified: a certificate has room
// for an RSA key with which one verification takes a second.
func TestAnUploadWithAHugeKeyIsRefusedBeforeItIsVerified(t *testing.T) {
	s := newSigner(t, "IE", "upload")
	der, err := s.Sign(t.Context(), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseCMS(der)
	if err != nil {
		t.Fatal(err)
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 100_000)
	cert := *e.signer
	cert.PublicKey = &rsa.PublicKey{N: huge.Add(huge, big.NewInt(1)), E: 65537}
	e.signer = &cert
	e.si.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	e.si.Signature = make([]byte, 100_001/8+1)
	if _, err := e.Open(); !errors.Is(err, UnsupportedKey) {
		t.Errorf("got %v, want %v", err, UnsupportedKey)
	}
}

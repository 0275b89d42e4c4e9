package trustlist

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"testing"

	"verdant/hcert"
)

// FuzzParseCertificate: what is refused has a reason; what is accepted is what
// crypto/x509 reads, with a key on a named curve, and gives a key or a reason.
func FuzzParseCertificate(f *testing.F) {
	f.Add(selfSigned(f, newKey(f), "IE", "upload").Raw)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(selfSigned(f, rsaKey, "XX", "upload").Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := ParseCertificate(der)
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || refused.Error() == "" {
				t.Errorf("refused without a reason: %v", err)
			}
			return
		}
		if _, err := x509.ParseCertificate(der); err != nil {
			t.Errorf("accepted what crypto/x509 refuses: %v", err)
		}
		if key, err := hcert.NewKey(cert); err == nil && key.KID != hcert.KIDOf(der) {
			t.Error("the key has another kid")
		}
		_ = checkParty(CSCA, "IE", cert)
	})
}

// FuzzItem: no list of a gateway makes a Verify panic, and nothing on it is
// believed that its anchor did not sign.
func FuzzItem(f *testing.F) {
	n := newNetwork(f, "IE")
	anchor := NewAnchor(n.anchor.Certificate)
	signed := map[string]bool{}
	for _, i := range n.items {
		src, err := json.Marshal(i)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
		signed[i.Thumbprint] = true
	}
	f.Add([]byte(`{"kid": "", "timestamp": "2021-07-01T00:00:00Z", "country": "IE", "certificateType": "DSC", "thumbprint": "", "signature": null, "rawData": null}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		var i Item
		if json.Unmarshal(src, &i) != nil {
			return
		}
		if again, err := json.Marshal(i); err == nil {
			var back Item
			if err := json.Unmarshal(again, &back); err != nil {
				t.Errorf("got %s, which does not read back: %v", again, err)
			}
		}
		v := anchor.Verify([]Item{i})
		if p, err := anchor.VerifyParty(i); err == nil && !signed[p.Thumbprint()] {
			t.Error("believed what the anchor did not sign")
		}
		if len(v.List.DSCs()) > 0 {
			t.Error("a document signer without uploader is trusted")
		}
	})
}

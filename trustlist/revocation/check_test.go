package revocation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verdant/hcert"
)

const uci = "URN:UVCI:01:IE:1"

// certify issues a certificate with a new document signer and verifies it.
func certify(t *testing.T, key crypto.Signer) *hcert.Verified {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"IE"}}, NotBefore: now, NotAfter: now.AddDate(2, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: cert, Signer: key})
	if err != nil {
		t.Fatal(err)
	}
	dcc, err := hcert.ParseDCC([]byte(`{"ver": "1.3.0", "dob": "1980-02-29", "nam": {"fnt": "MURPHY"},
		"r": [{"tg": "840539006", "fr": "2026-01-01", "co": "IE", "is": "HSE", "df": "2026-01-12", "du": "2026-06-30", "ci": "` + uci + `"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	issued, err := issuer.Issue(t.Context(), dcc, now, now.AddDate(0, 6, 0))
	if err != nil {
		t.Fatal(err)
	}
	known, err := hcert.NewKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := hcert.NewVerifier(hcert.NewKeySet(known), func() time.Time { return now }, hcert.Limits{}).Verify(issued.Text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signers(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys["RSA"] = key
	return keys
}

// TestHashes computes each hash as the gateway's specification words it: the
// first 128 bits of SHA-256.
func TestHashes(t *testing.T) {
	first16 := func(of string) Hash {
		full := sha256.Sum256([]byte(of))
		return Hash(full[:16])
	}
	for name, key := range signers(t) {
		v := certify(t, key)
		signature := v.Sign1().Signature
		want := first16(signature)
		if name != "RSA" {
			want = first16(signature[:len(signature)/2])
		}
		if got := SignatureHash(v.Sign1()); got != want {
			t.Errorf("%s: SIGNATURE is %v, want %v", name, got, want)
		}
	}
	if got, want := UCIHash(uci), first16(uci); got != want {
		t.Errorf("UCI is %v, want %v", got, want)
	}
	if got, want := CountryUCIHash("IE", uci), first16("IE"+uci); got != want {
		t.Errorf("COUNTRYCODEUCI is %v, want %v", got, want)
	}
	// Of an ECDSA signature only r counts: its twin (r, n-s) verifies as well.
	a := &hcert.Sign1{Algorithm: hcert.ES256, Signature: strings.Repeat("r", 32) + strings.Repeat("s", 32)}
	b := &hcert.Sign1{Algorithm: hcert.ES256, Signature: strings.Repeat("r", 32) + strings.Repeat("t", 32)}
	if SignatureHash(a) != SignatureHash(b) {
		t.Error("a revoked certificate with the other s is not revoked")
	}
}

// TestACertificateIsRevokedBy walks through what a batch must say to matter.
func TestACertificateIsRevokedBy(t *testing.T) {
	v := certify(t, signers(t)["P-256"])
	kid := v.Key().KID.String()
	for _, c := range []struct {
		what    string
		batch   Batch
		revoked bool
	}{
		{"its signature", Batch{Type: Signature, Entries: []Hash{SignatureHash(v.Sign1())}}, true},
		{"its identifier", Batch{Type: UCI, Entries: []Hash{UCIHash(uci)}}, true},
		{"issuer and identifier", Batch{Type: CountryUCI, Entries: []Hash{CountryUCIHash("IE", uci)}}, true},
		{"its signer, named", Batch{Type: UCI, KID: kid, Entries: []Hash{UCIHash(uci)}}, true},
		{"its signer, named without padding", Batch{Type: UCI, KID: strings.TrimRight(kid, "="), Entries: []Hash{UCIHash(uci)}}, true},
		{"another signer", Batch{Type: UCI, KID: "AAAAAAAAAAA=", Entries: []Hash{UCIHash(uci)}}, false},
		{"another country's batch", Batch{Type: UCI, Country: "DE", Entries: []Hash{UCIHash(uci)}}, false},
		{"a batch that has expired", Batch{Type: UCI, Expires: now, Entries: []Hash{UCIHash(uci)}}, false},
		{"the right hash under another type", Batch{Type: Signature, Entries: []Hash{UCIHash(uci)}}, false},
		{"another identifier", Batch{Type: UCI, Entries: []Hash{UCIHash(uci + "X")}}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			in := c.batch
			in.ID = "b"
			if in.Country == "" {
				in.Country = "IE"
			}
			if in.KID == "" {
				in.KID = UnknownKID
			}
			if in.Expires.IsZero() {
				in.Expires = now.Add(time.Second)
			}
			path := filepath.Join(t.TempDir(), "revoked")
			b, err := NewBuilder(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Add(&in); err != nil {
				t.Fatal(err)
			}
			if err := b.Finish(); err != nil {
				t.Fatal(err)
			}
			l, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := l.Check(v, now)
			if err != nil {
				t.Fatal(err)
			}
			if (got != nil) != c.revoked {
				t.Errorf("revoked: %v (%v), want %v", got != nil, got, c.revoked)
			}
			if got != nil && (got.BatchID != "b" || got.Type != in.Type) {
				t.Errorf("by batch %q, type %s", got.BatchID, got.Type)
			}
		})
	}
}

func TestBatchesAreReadAsTheGatewayHasThem(t *testing.T) {
	h := UCIHash(uci).String()
	good := `{"country":"IE","expires":"2026-11-01T00:00:00Z","kid":"AAAAAAAAAAA=","hashType":"UCI","entries":[{"hash":"` + h + `"}]}`
	b, err := ParseBatch([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if b.Country != "IE" || b.Type != UCI || len(b.Entries) != 1 || b.Entries[0] != UCIHash(uci) || b.Expires.Month() != time.November {
		t.Errorf("got %+v", b)
	}
	if b, err = ParseBatch([]byte(strings.Replace(good, `{"hash":"`+h+`"}`, `"`+h+`"`, 1))); err != nil || b.Entries[0] != UCIHash(uci) {
		t.Errorf("an entry as bare text: %v, %v", b, err)
	}
	for what, bad := range map[string]string{
		"empty":                 "",
		"text behind":           good + "x",
		"unknown field":         strings.Replace(good, `"country"`, `"x":1,"country"`, 1),
		"small letters":         strings.Replace(good, "IE", "ie", 1),
		"no expiry":             strings.Replace(good, `"expires":"2026-11-01T00:00:00Z",`, "", 1),
		"short kid":             strings.Replace(good, "AAAAAAAAAAA=", "AAAA", 1),
		"other type":            strings.Replace(good, `"UCI"`, `"SHA256"`, 1),
		"no entries":            strings.Replace(good, `{"hash":"`+h+`"}`, "", 1),
		"short hash":            strings.Replace(good, h, h[:20], 1),
		"hash with other bits":  strings.Replace(good, h, h[:21]+"B==", 1),
		"over a thousand":       strings.Replace(good, `{"hash":"`+h+`"}`, strings.TrimSuffix(strings.Repeat(`{"hash":"`+h+`"},`, MaxEntries+1), ","), 1),
		"more than is ever due": strings.Repeat(" ", maxBatch) + good,
	} {
		if b, err := ParseBatch([]byte(bad)); err == nil {
			t.Errorf("%s: got %+v", what, b)
		} else if strings.Contains(err.Error(), h) {
			t.Errorf("%s: the error shows a hash: %v", what, err)
		}
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(`{"country":"IE","expires":"2026-11-01T00:00:00Z","kid":"UNKNOWN_KID","hashType":"UCI","entries":[{"hash":"AAAAAAAAAAAAAAAAAAAAAA=="}]}`))
	f.Add([]byte(`{"entries":["AAAAAAAAAAAAAAAAAAAAAA=="]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		b, err := ParseBatch(src)
		if err == nil && b.Check() != nil {
			t.Errorf("%q was accepted", src)
		}
	})
}

// FuzzOpen changes the parts of a list that no checksum would let through, and
// puts the checksums right again.
func FuzzOpen(f *testing.F) {
	_, path := build(f, 300)
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, []byte{0xff})
	good := readAll(f, path)
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		l, err := Open(forge(t, good, head, tail))
		if err != nil {
			return
		}
		defer l.Close()
		for i := range uint64(300) {
			_ = l.Each(newHashes(1).at(i), func(Revocation) bool { return true })
		}
	})
}

package hcert

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestUsageInBothForms(t *testing.T) {
	oldTest := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 0, 1847, 2021, 1, 1}
	for _, c := range []struct {
		name string
		oids []asn1.ObjectIdentifier
		want Usage
		may  []Kind
	}{
		{"none", nil, 0, []Kind{KindTest, KindVaccination, KindRecovery}},
		{"only foreign ones", []asn1.ObjectIdentifier{{1, 2, 3}}, 0, []Kind{KindTest, KindVaccination, KindRecovery}},
		{"test", []asn1.ObjectIdentifier{UsageTest.OID()}, UsageTest, []Kind{KindTest}},
		{"test in the older form", []asn1.ObjectIdentifier{oldTest}, UsageTest, []Kind{KindTest}},
		{"vaccination and recovery", []asn1.ObjectIdentifier{UsageVaccination.OID(), UsageRecovery.OID()},
			UsageVaccination | UsageRecovery, []Kind{KindVaccination, KindRecovery}},
		{"one that resembles", []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 1847, 2021, 1, 4}}, 0, []Kind{KindTest, KindVaccination, KindRecovery}},
	} {
		got := UsageOf(&x509.Certificate{UnknownExtKeyUsage: c.oids})
		if got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		var may []Kind
		for _, k := range []Kind{KindTest, KindVaccination, KindRecovery} {
			if got.Allows(k) {
				may = append(may, k)
			}
		}
		if !reflect.DeepEqual(may, c.may) || got.Allows("") {
			t.Errorf("%s: may sign %v, want %v", c.name, may, c.may)
		}
	}
	// The encoded form, byte for byte (hcert-spec, "Key usage").
	der, err := asn1.Marshal(UsageVaccination.OID())
	if want := unhex(t, "060b2b06010401 8e37 8f65 01 02"); err != nil || !bytes.Equal(der, want) {
		t.Errorf("OID: got %x, want %x", der, want)
	}
}

// editTBS changes a certificate's body; its signature is then wrong, which a
// key does not care about.
func editTBS(t *testing.T, der []byte, edit func([]byte) []byte) []byte {
	t.Helper()
	var c struct{ TBS, Algorithm, Signature asn1.RawValue }
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	body, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: edit(bytes.Clone(c.TBS.Bytes))})
	if err != nil {
		t.Fatal(err)
	}
	c.TBS = asn1.RawValue{FullBytes: body}
	out, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestKeysOfCertificatesThatX509Refuses(t *testing.T) {
	cert := newDSC(t, ecKey(t, elliptic.P256()), UsageVaccination)
	want, err := NewKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	negative := editTBS(t, cert.Raw, func(b []byte) []byte {
		return bytes.Replace(b, []byte{2, 1, 1}, []byte{2, 1, 0x81}, 1)
	})
	if _, err := x509.ParseCertificate(negative); err == nil {
		t.Fatal("the test made no certificate that x509 refuses")
	}
	got, err := ParseKey(negative)
	if err != nil {
		t.Fatal(err)
	}
	if got.Usage != want.Usage || !got.NotAfter.Equal(want.NotAfter) || !reflect.DeepEqual(got.Public, want.Public) || got.KID != KIDOf(negative) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for name, der := range map[string][]byte{"nothing": nil, "cut": cert.Raw[:200], "tail": append(bytes.Clone(cert.Raw), 0)} {
		if _, err := ParseKey(der); !errors.Is(err, UnsupportedKey) {
			t.Errorf("%s: got %v, want %v", name, err, UnsupportedKey)
		}
	}
	if _, err := ParseKey(newDSC(t, ecKey(t, elliptic.P521()), 0).Raw); !errors.Is(err, UnsupportedKey) {
		t.Errorf("P-521: got %v, want %v", err, UnsupportedKey)
	}
}

func TestAKeyMarkedForPSSOnly(t *testing.T) {
	key := rsaKey(t, 2048)
	s := newSigner(t, key, 0)
	der := editTBS(t, s.cert.Raw, func(b []byte) []byte {
		pss, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, Parameters: asn1.NullRawValue})
		if err != nil {
			t.Fatal(err)
		}
		plain, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue})
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Replace(b, plain, pss, 1)
	})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Issue(t.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	u, err := new(Decoder).Decode(out.Text)
	if err != nil {
		t.Fatal(err)
	}
	k.KID = s.KID()
	if _, err := u.Verify(NewKeySet(k), start); err != nil {
		t.Error(err)
	}
}

func TestKIDText(t *testing.T) {
	k := KIDOf([]byte("x"))
	if back, err := ParseKID(k.String()); err != nil || back != k || len(k) != 8 {
		t.Errorf("got %v, %v, want %v", back, err, k)
	}
	if _, err := ParseKID("?"); err == nil {
		t.Error("no base64 was accepted")
	}
}

func TestNotBeforeIsHonoured(t *testing.T) {
	c := Claims{IssuedAt: start, NotBefore: start.Add(time.Minute), Expires: start.Add(time.Hour)}
	if err := c.CheckTime(start); !errors.Is(err, NotYetValid) {
		t.Errorf("got %v, want %v", err, NotYetValid)
	}
	if err := c.CheckTime(start.Add(time.Minute)); err != nil {
		t.Error(err)
	}
}

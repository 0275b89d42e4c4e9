package trustlist

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

var start = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func selfSigned(t testing.TB, key crypto.Signer, country, name string) *x509.Certificate {
	t.Helper()
	der, err := NewUpload(t.Context(), Authority{Key: key}, key.Public(), Subject{Country: country, CommonName: name}, start)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, der)
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newSigner(t testing.TB, country, name string) *CMSSigner {
	t.Helper()
	key := newKey(t)
	return &CMSSigner{Certificate: selfSigned(t, key, country, name), Key: key, Now: func() time.Time { return start }}
}

func signers(t *testing.T) map[string]*CMSSigner {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return start }
	return map[string]*CMSSigner{
		"ECDSA P-256": newSigner(t, "IE", "upload"),
		"ECDSA P-384": {selfSigned(t, p384, "IE", "upload"), p384, now},
		"RSA 3072":    {selfSigned(t, rsaKey, "IE", "upload"), rsaKey, now},
	}
}

func TestCMSRoundTripAndRepacking(t *testing.T) {
	for name, s := range signers(t) {
		for _, content := range [][]byte{[]byte("rule IR-IE-0001"), {}, bytes.Repeat([]byte{0, 0, 1}, 20000)} {
			text, err := s.SignBase64(t.Context(), content)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			e, err := ParseCMSBase64(text)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, len(content), err)
			}
			o, err := e.Open()
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, len(content), err)
			}
			if !bytes.Equal(o.Content(), content) || !o.Signer().Equal(s.Certificate) {
				t.Errorf("%s: content or signer changed", name)
			}
			der, err := e.DetachedDER()
			if err != nil {
				t.Fatal(err)
			}
			d, err := ParseCMS(der)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.OpenDetached(content); err != nil {
				t.Errorf("%s: detached: %v", name, err)
			}
			if _, err := d.OpenDetached(append([]byte("x"), content...)); !errors.Is(err, BadSignature) {
				t.Errorf("%s: other content: got %v, want %v", name, err, BadSignature)
			}
			if _, err := d.Open(); !errors.Is(err, NotData) {
				t.Errorf("%s: Open of a detached message: got %v, want %v", name, err, NotData)
			}
			if _, err := e.OpenDetached(content); !errors.Is(err, NotData) {
				t.Errorf("%s: OpenDetached of an attached message: got %v, want %v", name, err, NotData)
			}
			again, err := d.AttachedDER(content)
			if err != nil {
				t.Fatal(err)
			}
			if base64.StdEncoding.EncodeToString(again) != text {
				t.Errorf("%s: attaching what was detached gives another message", name)
			}
		}
	}
}

func TestOurCMSIsReadBySmallstep(t *testing.T) {
	for name, s := range signers(t) {
		der, err := s.Sign(t.Context(), []byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		p7, err := pkcs7.Parse(der)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := p7.Verify(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if string(p7.Content) != "content" {
			t.Errorf("%s: content changed", name)
		}
	}
}

func TestSmallstepCMSIsReadByUs(t *testing.T) {
	for name, s := range signers(t) {
		for _, detached := range []bool{false, true} {
			sd, err := pkcs7.NewSignedData([]byte("content"))
			if err != nil {
				t.Fatal(err)
			}
			sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
			if err := sd.AddSigner(s.Certificate, s.Key, pkcs7.SignerInfoConfig{}); err != nil {
				t.Fatal(err)
			}
			if detached {
				sd.Detach()
			}
			der, err := sd.Finish()
			if err != nil {
				t.Fatal(err)
			}
			e, err := ParseCMS(der)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if detached {
				_, err = e.OpenDetached([]byte("content"))
			} else {
				_, err = e.Open()
			}
			if err != nil {
				t.Errorf("%s, detached %v: %v", name, detached, err)
			}
		}
	}
}

// TestOpenSSL exchanges messages with the openssl program, which the WHO's
// onboarding scripts use.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("the openssl program is not installed")
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(args ...string) []byte {
		out, err := exec.Command(openssl, args...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return out
	}
	content := []byte("rule text\r\nof two lines")
	in := write("content", content)
	for name, s := range signers(t) {
		key, err := x509.MarshalPKCS8PrivateKey(s.Key)
		if err != nil {
			t.Fatal(err)
		}
		certFile := write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw}))
		keyFile := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
		variants := [][]string{{"-nodetach"}, {}, {"-nodetach", "-stream", "-indef"}, {"-nodetach", "-keyid"}, {"-nodetach", "-noattr"}}
		if _, ok := s.Key.(*rsa.PrivateKey); ok {
			variants = append(variants, []string{"-nodetach", "-keyopt", "rsa_padding_mode:pss"})
		}
		for _, extra := range variants {
			args := append([]string{"cms", "-sign", "-binary", "-md", "sha256", "-outform", "DER",
				"-in", in, "-signer", certFile, "-inkey", keyFile}, extra...)
			e, err := ParseCMS(run(args...))
			if err != nil {
				t.Fatalf("%s %v: %v", name, extra, err)
			}
			if e.Detached() {
				_, err = e.OpenDetached(content)
			} else {
				_, err = e.Open()
			}
			if err != nil {
				t.Errorf("%s %v: %v", name, extra, err)
			}
		}
		der, err := s.Sign(t.Context(), content)
		if err != nil {
			t.Fatal(err)
		}
		got := run("cms", "-verify", "-binary", "-inform", "DER", "-in", write("ours", der), "-noverify")
		if !bytes.Equal(got, content) {
			t.Errorf("%s: openssl read other content", name)
		}
		if der, err = s.SignDetached(t.Context(), content); err != nil {
			t.Fatal(err)
		}
		run("cms", "-verify", "-binary", "-inform", "DER", "-in", write("ours", der), "-content", in, "-noverify")
	}
}

// indefinite rewrites DER with indefinite lengths and octet strings in chunks,
// as BouncyCastle writes CMS.
func indefinite(t testing.TB, der []byte, depth int) []byte {
	var out []byte
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			t.Fatal(err)
		}
		der = rest
		switch {
		case v.IsCompound && v.Tag != asn1.TagSet && depth > 0:
			out = append(out, v.FullBytes[0], 0x80)
			out = append(out, indefinite(t, v.Bytes, depth-1)...)
			out = append(out, 0, 0)
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString && depth > 0:
			out = append(out, 0x24, 0x80)
			for chunk := range slices.Chunk(v.Bytes, 50) {
				out = append(out, 0x04, byte(len(chunk)))
				out = append(out, chunk...)
			}
			out = append(out, 0, 0)
		default:
			out = append(out, v.FullBytes...)
		}
	}
	return out
}

func TestBERBecomesTheSameDER(t *testing.T) {
	s := newSigner(t, "IE", "upload")
	der, err := s.Sign(t.Context(), bytes.Repeat([]byte("abc"), 100))
	if err != nil {
		t.Fatal(err)
	}
	ber := indefinite(t, der, 5)
	if bytes.Equal(ber, der) {
		t.Fatal("the test made no BER")
	}
	got, err := toDER(ber)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, der) {
		t.Error("BER became other DER")
	}
	e, err := ParseCMS(ber)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Open(); err != nil {
		t.Error(err)
	}
}

func TestEveryChangedByteIsRefusedOrHarmless(t *testing.T) {
	s := newSigner(t, "IE", "upload")
	content := []byte("content")
	der, err := s.Sign(t.Context(), content)
	if err != nil {
		t.Fatal(err)
	}
	for i := range der {
		mutant := bytes.Clone(der)
		mutant[i] ^= 0x10
		e, err := ParseCMS(mutant)
		if err != nil {
			continue
		}
		o, err := e.Open()
		if err != nil {
			continue
		}
		if !bytes.Equal(o.Content(), content) {
			t.Errorf("byte %d changed: other content was accepted", i)
		}
	}
}

func TestStrictParsing(t *testing.T) {
	s := newSigner(t, "IE", "upload")
	other := newSigner(t, "IE", "other")
	build := func(edit func(*pkcs7.SignedData)) []byte {
		sd, err := pkcs7.NewSignedData([]byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
		if err := sd.AddSigner(s.Certificate, s.Key, pkcs7.SignerInfoConfig{}); err != nil {
			t.Fatal(err)
		}
		edit(sd)
		der, err := sd.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	degenerate, err := pkcs7.DegenerateCertificate(s.Certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	valid := build(func(*pkcs7.SignedData) {})
	for _, c := range []struct {
		name string
		cms  []byte
		want Reason
	}{
		{"two certificates", build(func(sd *pkcs7.SignedData) { sd.AddCertificate(other.Certificate) }), CertificateCount},
		{"two signers", build(func(sd *pkcs7.SignedData) {
			if err := sd.SignWithoutAttr(s.Certificate, s.Key, pkcs7.SignerInfoConfig{}); err != nil {
				t.Fatal(err)
			}
		}), CertificateCount},
		{"no signer", degenerate, SignerCount},
		{"trailing data", append(bytes.Clone(valid), 0), NotCMS},
		{"cut short", valid[:len(valid)-1], NotCMS},
		{"a certificate instead", s.Certificate.Raw, NotCMS},
		{"nothing", nil, NotCMS},
		{"deep nesting", bytes.Repeat([]byte{0x30, 0x80}, 100000), NotCMS},
	} {
		if _, err := ParseCMS(c.cms); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	for _, text := range []string{"", "%%%", base64.StdEncoding.EncodeToString(valid)[:40] + "\n"} {
		if _, err := ParseCMSBase64(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	sha1 := func() []byte {
		sd, err := pkcs7.NewSignedData([]byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA1)
		if err := sd.AddSigner(s.Certificate, s.Key, pkcs7.SignerInfoConfig{}); err != nil {
			t.Fatal(err)
		}
		der, err := sd.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}()
	e, err := ParseCMS(sha1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Open(); !errors.Is(err, UnsupportedCMS) {
		t.Errorf("SHA-1: got %v, want %v", err, UnsupportedCMS)
	}
}

func FuzzParseCMS(f *testing.F) {
	s := newSigner(f, "IE", "upload")
	der, err := s.Sign(f.Context(), []byte("content"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(indefinite(f, der, 5))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseCMS(data)
		if err != nil {
			return
		}
		if _, err := e.Open(); err == nil {
			again, err := e.AttachedDER(e.ClaimedContent())
			if err != nil {
				t.Fatal(err)
			}
			e2, err := ParseCMS(again)
			if err != nil {
				t.Fatalf("what was accepted is not after repacking: %v", err)
			}
			if _, err := e2.Open(); err != nil {
				t.Fatalf("what was accepted is not after repacking: %v", err)
			}
		}
	})
}

func FuzzToDER(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 0x24, 0x80, 0x04, 0x01, 'a', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		der, err := toDER(data)
		if err != nil {
			return
		}
		again, err := toDER(der)
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("DER did not stay the same: %v", err)
		}
	})
}

// resealed edits the parts of a signed message and packs it again.
func resealed(t *testing.T, s *CMSSigner, edit func(*signedData, *signerInfo)) *Envelope {
	t.Helper()
	der, err := s.Sign(t.Context(), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseCMS(der)
	if err != nil {
		t.Fatal(err)
	}
	edit(&e.sd, &e.si)
	return e
}

func TestWhatASignatureMustName(t *testing.T) {
	s, other := newSigner(t, "IE", "upload"), newSigner(t, "IE", "other")
	// A message signed by one certificate's key that names another.
	id, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: other.Certificate.RawIssuer}, other.Certificate.SerialNumber})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resealed(t, s, func(_ *signedData, si *signerInfo) { si.ID = asn1.RawValue{FullBytes: id} }).Open(); !errors.Is(err, BadSignature) {
		t.Errorf("another signer named: got %v, want %v", err, BadSignature)
	}
	// Signed attributes without the digest: the signature is right, but says
	// nothing about the content.
	attrs, err := signedAttributes([]byte("content"), start)
	if err != nil {
		t.Fatal(err)
	}
	var set asn1.RawValue
	if err := unmarshal(attrs, &set); err != nil {
		t.Fatal(err)
	}
	list, err := elements(set.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for drop := range list {
		kept := slices.Delete(slices.Clone(list), drop, drop+1)
		if bytes.Contains(list[drop], mustMarshal(t, oidSigningTime())) {
			continue
		}
		for _, twice := range []bool{false, true} {
			chosen := kept
			if twice {
				chosen = append(slices.Clone(list), list[drop])
			}
			der := mustMarshal(t, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: bytes.Join(chosen, nil)})
			h := crypto.SHA256.New()
			h.Write(der)
			sig, err := s.Key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			der[0] = 0xA0
			e := resealed(t, s, func(_ *signedData, si *signerInfo) {
				si.Signature = sig
				if err := unmarshal(der, &si.Attributes); err != nil {
					t.Fatal(err)
				}
			})
			if _, err := e.Open(); !errors.Is(err, UnsupportedCMS) {
				t.Errorf("attribute %d, twice %v: got %v, want %v", drop, twice, err, UnsupportedCMS)
			}
		}
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestContentOfAnotherType(t *testing.T) {
	s := newSigner(t, "IE", "upload")
	der, err := s.Sign(t.Context(), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	data := mustMarshal(t, oidData())
	enveloped := bytes.Clone(data)
	enveloped[len(enveloped)-1] = 3
	// The first occurrence is the encapsulated type, the second the attribute.
	first := bytes.Replace(der, data, enveloped, 1)
	if _, err := ParseCMS(first); !errors.Is(err, NotData) {
		t.Errorf("encapsulated: got %v, want %v", err, NotData)
	}
	at := bytes.LastIndex(der, data)
	second := append(append(bytes.Clone(der[:at]), enveloped...), der[at+len(data):]...)
	e, err := ParseCMS(second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Open(); !errors.Is(err, NotData) {
		t.Errorf("attribute: got %v, want %v", err, NotData)
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA 2048": small, "P-224": p224} {
		if _, err := NewCSCA(t.Context(), key, Subject{Country: "IE", CommonName: "CSCA"}, start); !errors.Is(err, UnsupportedKey) {
			t.Errorf("%s: got %v, want %v", name, err, UnsupportedKey)
		}
	}
}

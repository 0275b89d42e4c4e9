package hcert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestIssueAndVerifyWithEveryAlgorithm(t *testing.T) {
	for name, key := range map[string]crypto.Signer{
		"ES256": ecKey(t, elliptic.P256()), "ES384": ecKey(t, elliptic.P384()), "PS256": rsaKey(t, 2048),
	} {
		s := newSigner(t, key, 0)
		if got := s.Algorithm().String(); got != name {
			t.Errorf("algorithm: got %s, want %s", got, name)
		}
		for kind, dcc := range map[Kind]*DCC{KindVaccination: vaccination(), KindTest: testResult(), KindRecovery: recovery()} {
			if kind == KindRecovery {
				dcc.Name.FamilyStandardised = "S"
			}
			out, err := s.Issue(t.Context(), dcc, start, start.Add(time.Hour))
			if err != nil {
				t.Fatalf("%s %s: %v", name, kind, err)
			}
			ok, u, err := NewVerifier(s.keys, func() time.Time { return start }, Limits{}).Verify(out.Text)
			if err != nil {
				t.Fatalf("%s %s: %v", name, kind, err)
			}
			if !reflect.DeepEqual(ok.DCC(), dcc) || ok.Kind() != kind {
				t.Errorf("%s %s: got %+v, want %+v", name, kind, ok.DCC(), dcc)
			}
			if ok.Claims().Issuer != "IE" || !ok.Claims().Expires.Equal(start.Add(time.Hour)) || !ok.Claims().IssuedAt.Equal(start) {
				t.Errorf("%s: claims changed: %+v", name, ok.Claims())
			}
			if u.COSE != string(out.COSE) || u.Sign1.Hash() != out.Hash || u.Sign1.KID != s.KID() {
				t.Errorf("%s: message, hash or kid changed", name)
			}
			if out.Hash != sha256.Sum256(u.Sign1.SigStructure()) {
				t.Errorf("%s: the hash is not of the Sig_structure", name)
			}
		}
	}
}

func TestVerifyRefusesForTheRightReason(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	s := newSigner(t, key, UsageVaccination)
	out, err := s.Issue(t.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	other := newSigner(t, ecKey(t, elliptic.P256()), 0)
	impostor := *other.key
	impostor.KID = s.key.KID
	rsaImpostor := *newSigner(t, rsaKey(t, 2048), 0).key
	rsaImpostor.KID = s.key.KID
	testOnly := *s.key
	testOnly.Usage = UsageTest
	ended := *s.key
	ended.NotAfter = start.Add(-time.Second)
	decode := func(text string) *Unverified {
		t.Helper()
		u, err := new(Decoder).Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, c := range []struct {
		name string
		u    *Unverified
		keys KeySource
		at   time.Time
		want Reason // "" for accepted
	}{
		{"valid at its first second", decode(out.Text), s.keys, start, ""},
		{"valid at its last second", decode(out.Text), s.keys, start.Add(time.Hour), ""},
		{"a second early", decode(out.Text), s.keys, start.Add(-time.Second), NotYetValid},
		{"a second late", decode(out.Text), s.keys, start.Add(time.Hour + time.Second), Expired},
		{"no keys", decode(out.Text), NewKeySet(), start, UnknownSigner},
		{"another signer's list", decode(out.Text), other.keys, start, UnknownSigner},
		{"another key under this kid", decode(out.Text), NewKeySet(&impostor), start, BadSignature},
		{"a key of another type under this kid", decode(out.Text), NewKeySet(&rsaImpostor), start, UnsupportedAlgorithm},
		{"several keys under this kid", decode(out.Text), NewKeySet(&rsaImpostor, &impostor, s.key), start, ""},
		{"a signer for tests", decode(out.Text), NewKeySet(&testOnly), start, WrongKeyUsage},
		{"the same key listed for tests and for vaccinations", decode(out.Text), NewKeySet(&testOnly, s.key), start, ""},
		{"a signer whose validity had ended", decode(out.Text), NewKeySet(&ended), start, OutsideSignerValidity},
		{"not decoded", &Unverified{}, s.keys, start, NoPayload},
	} {
		v, err := c.u.Verify(c.keys, c.at)
		if c.want == "" {
			if err != nil || v == nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, c.want) || v != nil {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestAnyChangedBitIsRefused(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), 0)
	out, err := s.Issue(t.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	d := new(Decoder)
	for i := range out.COSE {
		msg := bytes.Clone(out.COSE)
		msg[i] ^= 1 << (i % 8)
		u, err := d.DecodeCOSE(msg)
		if err != nil {
			continue
		}
		if _, err = u.Verify(s.keys, start); err == nil {
			t.Errorf("byte %d changed and the certificate is accepted", i)
		}
	}
}

// sealed signs hand-made claims and wraps them as asked.
func sealed(t *testing.T, s signer, key crypto.Signer, claims []byte, protected, unprotected []byte, prefix string) *Unverified {
	t.Helper()
	sum := sha256.Sum256(appendSigStructure(nil, string(protected), string(claims)))
	sig, err := SignDigest(t.Context(), key, ES256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	msg := unhex(t, prefix)
	msg = append(msg, 0x84)
	msg = appendBytes(msg, protected)
	msg = append(msg, unprotected...)
	msg = appendBytes(msg, claims)
	msg = appendBytes(msg, sig)
	u, err := new(Decoder).DecodeCOSE(msg)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return u
}

func claimsWith(t *testing.T, exp, iat []byte, tree map[string]any) []byte {
	t.Helper()
	b := appendHead(nil, cborMap, 3)
	b = append(appendInt(b, claimExpires), exp...)
	b = append(appendInt(b, claimIssuedAt), iat...)
	b = appendHead(appendInt(b, claimHCert), cborMap, 1)
	b = appendInt(b, SubclaimDCC)
	b, err := appendTree(b, tree)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func header(alg int64, kid KID) []byte {
	b := appendHead(nil, cborMap, 2)
	b = appendInt(appendInt(b, headerAlg), alg)
	return appendBytes(appendInt(b, headerKID), []byte(kid))
}

func TestFormsInCirculationAreAccepted(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	s := newSigner(t, key, 0)
	iat, exp := appendInt(nil, start.Unix()), appendInt(nil, start.Unix()+10)
	plain := claimsWith(t, exp, iat, vaccination().Tree())
	algOnly := appendInt(appendInt(appendHead(nil, cborMap, 1), headerAlg), int64(ES256))
	kidOnly := appendBytes(appendInt(appendHead(nil, cborMap, 1), headerKID), []byte(s.KID()))
	wrongKID := appendBytes(appendInt(appendHead(nil, cborMap, 1), headerKID), []byte("wrongkid"))
	none := []byte{0xa0}
	right := header(int64(ES256), s.KID())
	nulls := vaccination().Tree()
	nulls["t"], nulls["r"] = nil, nil
	for _, c := range []struct {
		name                   string
		claims                 []byte
		protected, unprotected []byte
		tags                   string
	}{
		{"untagged", plain, right, none, ""},
		{"tag 18", plain, right, none, "d2"},
		{"tag 61 around tag 18", plain, right, none, "d83dd2"},
		{"tag 61 alone", plain, right, none, "d83d"},
		{"kid in the unprotected header", plain, algOnly, kidOnly, "d2"},
		{"right kid protected, wrong kid unprotected", plain, right, wrongKID, "d2"},
		{"times as 64-bit floats", claimsWith(t, appendFloat(nil, float64(start.Unix())+10.25), appendFloat(nil, float64(start.Unix())-0.5), vaccination().Tree()), right, none, "d2"},
		{"null for absent groups", claimsWith(t, exp, iat, nulls), right, none, "d2"},
		{"a version that never was", claimsWith(t, exp, iat, edited(func(m map[string]any) { m["ver"] = "1.17.42" })), right, none, "d2"},
		{"a date of birth of the year only, declared as 1.0.0", claimsWith(t, exp, iat, edited(func(m map[string]any) { m["ver"], m["dob"] = "1.0.0", "1980" })), right, none, "d2"},
		{"no date of birth", claimsWith(t, exp, iat, edited(func(m map[string]any) { m["dob"] = "" })), right, none, "d2"},
		{"a date with a time", claimsWith(t, exp, iat, edited(func(m map[string]any) {
			m["v"].([]any)[0].(map[string]any)["dt"] = "2026-01-10T00:00:00.000Z"
		})), right, none, "d2"},
		{"a UVCI in lower case with a wrong check character", claimsWith(t, exp, iat, edited(func(m map[string]any) {
			m["v"].([]any)[0].(map[string]any)["ci"] = "01it0bfc#?"
		})), right, none, "d2"},
		{"a dose as a float", claimsWith(t, exp, iat, edited(func(m map[string]any) {
			m["v"].([]any)[0].(map[string]any)["dn"] = 2.0
		})), right, none, "d2"},
	} {
		u := sealed(t, s, key, c.claims, c.protected, c.unprotected, c.tags)
		if _, err := u.Verify(s.keys, start); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}

	// Tag 0 around the time of a test.
	tree := testResult().Tree()
	encoded, err := appendTree(nil, tree)
	if err != nil {
		t.Fatal(err)
	}
	sc := appendText(nil, "2026-01-14T09:30:00Z")
	tagged := bytes.Replace(encoded, sc, append([]byte{0xc0}, sc...), 1)
	if bytes.Equal(tagged, encoded) {
		t.Fatal("the test made no tag")
	}
	claims := bytes.Replace(claimsWith(t, exp, iat, tree), encoded, tagged, 1)
	u := sealed(t, s, key, claims, right, none, "d2")
	if v, err := u.Verify(s.keys, start); err != nil || v.DCC().Tests[0].Collected != "2026-01-14T09:30:00Z" {
		t.Errorf("tag 0: %v", err)
	}

	// ES256 with a P-384 key.
	p384 := ecKey(t, elliptic.P384())
	k := newSigner(t, p384, 0)
	u = sealed(t, k, p384, plain, header(int64(ES256), k.KID()), none, "d2")
	if _, err := u.Verify(k.keys, start); err != nil {
		t.Errorf("ES256 with P-384: %v", err)
	}
}

func edited(edit func(map[string]any)) map[string]any {
	tree := vaccination().Tree()
	edit(tree)
	return tree
}

func TestFormsThatMustBeRefused(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	s := newSigner(t, key, 0)
	iat, exp := appendInt(nil, start.Unix()), appendInt(nil, start.Unix()+10)
	plain := claimsWith(t, exp, iat, vaccination().Tree())
	none := []byte{0xa0}
	right := header(int64(ES256), s.KID())
	rightKID := appendBytes(appendInt(appendHead(nil, cborMap, 1), headerKID), []byte(s.KID()))
	algOnly := appendInt(appendInt(appendHead(nil, cborMap, 1), headerAlg), int64(ES256))
	withoutTimes := appendHead(nil, cborMap, 1)
	withoutTimes = appendHead(appendInt(withoutTimes, claimHCert), cborMap, 1)
	withoutTimes, err := appendTree(appendInt(withoutTimes, SubclaimDCC), vaccination().Tree())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                   string
		claims                 []byte
		protected, unprotected []byte
		want                   Reason
	}{
		{"wrong kid protected, right kid unprotected", plain, header(int64(ES256), "wrongkid"), rightKID, UnknownSigner},
		{"no kid", plain, algOnly, none, UnknownSigner},
		{"another algorithm", plain, header(-8, s.KID()), none, UnsupportedAlgorithm},
		{"no algorithm", plain, none, rightKID, UnsupportedAlgorithm},
		{"PS256 with an EC key", plain, header(int64(PS256), s.KID()), none, UnsupportedAlgorithm},
		{"ES384 with a P-256 key", plain, header(int64(ES384), s.KID()), none, UnsupportedKey},
		{"no times", withoutTimes, right, none, NoValidity},
		{"two groups", claimsWith(t, exp, iat, edited(func(m map[string]any) { m["t"] = testResult().Tree()["t"] })), right, none, SchemaViolation},
		{"no group", claimsWith(t, exp, iat, edited(func(m map[string]any) { delete(m, "v") })), right, none, SchemaViolation},
		{"all groups null", claimsWith(t, exp, iat, edited(func(m map[string]any) { m["v"] = nil })), right, none, SchemaViolation},
		{"an empty group", claimsWith(t, exp, iat, edited(func(m map[string]any) { m["v"] = []any{} })), right, none, SchemaViolation},
	} {
		u := sealed(t, s, key, c.claims, c.protected, c.unprotected, "d2")
		if _, err := u.Verify(s.keys, start); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	valid := "d2 84 43a10126 a0 41a0 40"
	if _, err := ParseSign1(unhex(t, valid), Limits{}); err != nil {
		t.Fatalf("the valid one: %v", err)
	}
	for name, in := range map[string]string{
		"three parts":              "d2 83 43a10126 a0 41a0",
		"five parts":               "d2 85 43a10126 a0 41a0 40 40",
		"indefinite with five":     "d2 9f 43a10126 a0 41a0 40 40 ff",
		"a map":                    "a0",
		"COSE_Sign (98)":           "d862 84 43a10126 a0 41a0 40",
		"tag 18 twice":             "d2 d2 84 43a10126 a0 41a0 40",
		"tags the wrong way round": "d2 d83d 84 43a10126 a0 41a0 40",
		"detached payload":         "d2 84 43a10126 a0 f6 40",
		"protected not bytes":      "d2 84 a10126 a0 41a0 40",
		"protected not a map":      "d2 84 4101 a0 41a0 40",
		"protected with a tail":    "d2 84 44a1012600 a0 41a0 40",
		"unprotected not a map":    "d2 84 43a10126 80 41a0 40",
		"kid not bytes":            "d2 84 43a10126 a1046161 41a0 40",
		"alg twice":                "d2 84 45a201260126 a0 41a0 40",
		"crit":                     "d2 84 46a20126028101 a0 41a0 40",
		"something after":          "d2 84 43a10126 a0 41a0 40 00",
	} {
		_, err := ParseSign1(unhex(t, in), Limits{})
		if !errors.Is(err, BadCOSE) && !errors.Is(err, BadCBOR) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := ParseSign1(unhex(t, "d2 9f 43a10126 a0 41a0 40 ff"), Limits{}); err != nil {
		t.Errorf("indefinite array of four: %v", err)
	}
	for name, in := range map[string]string{
		"claims not a map":     "80",
		"issuer not text":      "a10101",
		"expiry not a number":  "a1046161",
		"expiry negative":      "a10420",
		"expiry NaN":           "a104f97e00",
		"expiry infinite":      "a104f97c00",
		"expiry beyond 9999":   "a1041b000000e8d4a51000",
		"claim twice":          "a204010402",
		"hcert not a map":      "a139010300",
		"sub-claim key text":   "a1390103a1616100",
		"sub-claim twice":      "a1390103a201000100",
		"a byte string as key": "a1414100",
		"something after":      "a000",
	} {
		if _, err := ParseClaims(unhex(t, in), Limits{}); !errors.Is(err, BadClaims) {
			t.Errorf("%s: got %v, want %v", name, err, BadClaims)
		}
	}
	c, err := ParseClaims(unhex(t, "a1 390103 a2 05 6876686c696e6b3a2f 25 80"), Limits{})
	if err != nil || c.Subclaim(SubclaimHealthLink) == "" || c.Subclaim(SubclaimICVP) != "\x80" || c.Subclaim(SubclaimDCC) != "" {
		t.Errorf("other sub-claims: %+v, %v", c, err)
	}
}

func TestHowFarACertificateGot(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), 0)
	out, err := s.Issue(t.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	d := new(Decoder)
	for _, c := range []struct {
		name string
		text string
		want Reason
		ok   func(u *Unverified) bool
	}{
		{"another prefix", "HC2:" + out.Text[4:], WrongPrefix, func(u *Unverified) bool { return u.Encoded == "" }},
		{"no prefix", out.Text[4:], WrongPrefix, func(u *Unverified) bool { return u.Encoded == "" }},
		{"lower case", strings.ToLower(out.Text), WrongPrefix, func(u *Unverified) bool { return u.Encoded == "" }},
		{"bad alphabet", out.Text[:20] + "!" + out.Text[21:], BadBase45, func(u *Unverified) bool { return u.Encoded != "" && u.Compressed == nil }},
		{"no zlib", Prefix + EncodeBase45(out.COSE), BadZlib, func(u *Unverified) bool { return u.Compressed != nil && u.COSE == "" }},
		{"cut zlib", Prefix + EncodeBase45(mustBase45(t, out.Text[4:])[:100]), BadZlib, func(u *Unverified) bool { return u.COSE == "" }},
		{"zlib with a tail", Prefix + EncodeBase45(append(mustBase45(t, out.Text[4:]), 0)), BadZlib, func(u *Unverified) bool { return u.COSE == "" }},
		{"zlib bomb", Prefix + EncodeBase45(zlibOf(t, make([]byte, 4<<20))), TooLarge, func(u *Unverified) bool { return u.COSE == "" }},
		{"no COSE", Prefix + EncodeBase45(zlibOf(t, []byte{0x80})), BadCOSE, func(u *Unverified) bool { return u.COSE != "" && u.Sign1 == nil }},
		{"endless text", Prefix + strings.Repeat("0", 10000), TooLarge, func(u *Unverified) bool { return u.Encoded == "" }},
		{"nothing", "", WrongPrefix, func(u *Unverified) bool { return true }},
	} {
		u, err := d.Decode(c.text)
		if !errors.Is(err, c.want) || u == nil || !c.ok(u) {
			t.Errorf("%s: got %v, want %v; reached %+v", c.name, err, c.want, u)
		}
	}
	if u, err := d.Decode(out.Text + "\r\n"); err != nil || u.Payload == nil {
		t.Errorf("with a line end: %v", err)
	}
}

func mustBase45(t *testing.T, s string) []byte {
	t.Helper()
	b, err := DecodeBase45(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func zlibOf(t testing.TB, data []byte) []byte {
	t.Helper()
	out, err := deflate(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestIssueRefusals(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	s := newSigner(t, key, UsageVaccination)
	late := s.cert.NotAfter
	for _, c := range []struct {
		name     string
		dcc      *DCC
		iat, exp time.Time
		want     Reason
	}{
		{"broken payload", &DCC{Version: "1.3.0"}, start, start.Add(time.Hour), SchemaViolation},
		{"wrong usage", testResult(), start, start.Add(time.Hour), WrongKeyUsage},
		{"no validity", vaccination(), start, start, Expired},
		{"outlives its signer", vaccination(), start, late.Add(time.Second), OutsideSignerValidity},
		{"older than its signer", vaccination(), start.Add(-time.Second), late, OutsideSignerValidity},
	} {
		if _, err := s.Issue(t.Context(), c.dcc, c.iat, c.exp); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	other := ecKey(t, elliptic.P256())
	if _, err := NewIssuer(IssuerConfig{Country: "IE", Certificate: s.cert, Signer: other}); !errors.Is(err, SignerFailed) {
		t.Errorf("key of another certificate: got %v", err)
	}
	for _, country := range []string{"", "ie", "IRL", "I<"} {
		_, err := NewIssuer(IssuerConfig{Country: country, Certificate: s.cert, Signer: key})
		if !errors.Is(err, BadClaims) {
			t.Errorf("country %q: got %v", country, err)
		}
	}
	weak := rsaWeak(t)
	if _, err := AlgorithmFor(weak); !errors.Is(err, UnsupportedKey) {
		t.Errorf("RSA 1024: got %v", err)
	}
	if _, err := AlgorithmFor(ecKey(t, elliptic.P521()).Public()); !errors.Is(err, UnsupportedKey) {
		t.Errorf("P-521: got %v", err)
	}
}

func rsaWeak(t *testing.T) *rsa.PublicKey {
	t.Helper()
	k := rsaKey(t, 2048).PublicKey
	k.N.Rsh(k.N, 1024)
	return &k
}

// remote is a signer elsewhere; edit changes its answers.
type remote struct {
	crypto.Signer
	edit func([]byte) ([]byte, error)
	ctx  context.Context
}

func (r *remote) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("called without a context")
}

func (r *remote) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	r.ctx = ctx
	if pss, ok := opts.(*rsa.PSSOptions); ok && pss.SaltLength != rsa.PSSSaltLengthEqualsHash {
		return nil, errors.New("wrong salt")
	}
	sig, err := r.Signer.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, err
	}
	return r.edit(sig)
}

func TestRemoteSigners(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "trace")
	for _, k := range []crypto.Signer{ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), rsaKey(t, 2048)} {
		r := &remote{Signer: k, edit: func(b []byte) ([]byte, error) { return b, nil }}
		cert := newDSC(t, k, 0)
		i, err := NewIssuer(IssuerConfig{Country: "IE", Certificate: cert, Signer: r})
		if err != nil {
			t.Fatal(err)
		}
		out, err := i.Issue(ctx, vaccination(), start, start.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if r.ctx.Value(key{}) != "trace" {
			t.Error("the context did not reach the signer")
		}
		pub, err := NewKey(cert)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := NewVerifier(NewKeySet(pub), func() time.Time { return start }, Limits{}).Verify(out.Text); err != nil {
			t.Error(err)
		}
		if i.Algorithm() == PS256 {
			continue
		}
		for name, edit := range map[string]func([]byte) ([]byte, error){
			"refusal": func([]byte) ([]byte, error) { return nil, io.ErrUnexpectedEOF },
			"raw":     func([]byte) ([]byte, error) { return make([]byte, 64), nil },
			"empty":   func([]byte) ([]byte, error) { return nil, nil },
			"tail":    func(b []byte) ([]byte, error) { return append(b, 0), nil },
		} {
			r.edit = edit
			if _, err := i.Issue(ctx, vaccination(), start, start.Add(time.Hour)); !errors.Is(err, SignerFailed) {
				t.Errorf("%s: got %v, want %v", name, err, SignerFailed)
			}
		}
	}
}

func TestIssuingInTwoSteps(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	s := newSigner(t, key, 0)
	d, err := s.Draft(vaccination(), start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	hash := d.Hash()
	sig, err := SignDigest(t.Context(), key, ES256, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.Seal(sig)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewVerifier(s.keys, func() time.Time { return start }, Limits{}).Verify(out.Text); err != nil {
		t.Error(err)
	}
	sig[0] ^= 1
	if _, err := d.Seal(sig); !errors.Is(err, SignerFailed) {
		t.Errorf("a wrong signature: got %v, want %v", err, SignerFailed)
	}
}

func FuzzDecode(f *testing.F) {
	s := newSigner(f, ecKey(f, elliptic.P256()), 0)
	for _, dcc := range []*DCC{vaccination(), testResult()} {
		out, err := s.Issue(f.Context(), dcc, start, start.Add(time.Hour))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out.Text)
	}
	f.Add("HC1:")
	d := new(Decoder)
	f.Fuzz(func(t *testing.T, text string) {
		u, err := d.Decode(text)
		if u == nil {
			t.Fatal("no result")
		}
		if _, verr := u.Verify(s.keys, start); err != nil && verr == nil {
			t.Fatal("verified although decoding did not finish")
		}
	})
}

func FuzzDecodeCOSE(f *testing.F) {
	s := newSigner(f, ecKey(f, elliptic.P256()), 0)
	out, err := s.Issue(f.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(out.COSE)
	d := new(Decoder)
	f.Fuzz(func(t *testing.T, msg []byte) {
		u, err := d.DecodeCOSE(msg)
		if err != nil {
			return
		}
		if v, err := u.Verify(s.keys, start); err == nil && v.u.Sign1.Payload != string(payloadOf(t, out.COSE)) {
			t.Fatal("a payload that was never signed is verified")
		}
	})
}

func payloadOf(t *testing.T, msg []byte) []byte {
	s, err := ParseSign1(msg, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return []byte(s.Payload)
}

func FuzzClaims(f *testing.F) {
	f.Add(unhex(f, "a1390103a10180"))
	f.Add(unhex(f, "a4041a6092dd20061a60903a2001624154390103a101a0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseClaims(data, Limits{})
		if err == nil {
			_ = c.CheckTime(start)
		}
	})
}

func FuzzInflate(f *testing.F) {
	f.Add(zlibOf(f, []byte("some text")))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := Inflate(data, Limits{InflatedBytes: 1000})
		if err == nil && len(out) > 1000 {
			t.Fatal("the limit was not kept")
		}
	})
}

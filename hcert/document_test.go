package hcert

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func ddccVaccination() *DDCCVaccination {
	d := &DDCCVaccination{DDCCHolder: DDCCHolder{Name: "Eddie Murphy", BirthDate: "1986-09-19", Sex: Coding{Code: "male"}, Identifier: Identifier{Value: "1234567890"}},
		Certificate: DDCCCertificate{Issuer: Identifier{Value: "wA69g8VD512TfTTdkTNSsG"}, HCID: Identifier{Value: "111000111"}, Version: "1.0.0", Start: "2021-08-01", End: "2022-08-01"}}
	d.Vaccination.Vaccine = Coding{System: "http://id.who.int/icd11/mms", Code: "XM0GQ8", Display: "COVID-19 vaccine, RNA based"}
	d.Vaccination.Brand, d.Vaccination.Lot, d.Vaccination.Date = Coding{Code: "XM8NQ0"}, "PT123F", "2021-07-08"
	d.Vaccination.Dose, d.Vaccination.TotalDoses, d.Vaccination.Country = 1, 2, Coding{System: "urn:iso:std:iso:3166", Code: "USA"}
	return d
}

func ddccTest() *DDCCTest {
	d := &DDCCTest{DDCCHolder: DDCCHolder{Name: "Eddie Murphy", BirthDate: "1986"}}
	d.Test.Pathogen, d.Test.Type, d.Test.Result = Coding{Code: "RA01"}, Coding{Code: "LP6464-4"}, Coding{Code: "260415000"}
	d.Test.Date, d.Test.Country = "2021-07-08T10:00:00Z", Coding{Code: "USA"}
	return d
}

func icvp() *ICVP {
	return &ICVP{Layout: ICVPDraft2026, Name: "Eddie Murphy", DateOfBirth: "1986-09-19", Sex: "male", Nationality: "USA", Version: "1", Issued: "2026-01-10",
		Vaccination: ICVPVaccination{Product: "YellowFeverProductd2c75a15ed309658b3968519ddb31690", Date: "2026-01-10", Batch: "B100", Clinician: "Dr. Carter"}}
}

func link() HealthLinks {
	return HealthLinks{{URL: "https://ehr.example.org/manifest/1", Key: "rxTgYlOaKJPFtcEd0qcceN8wEU4p94SqAwIWQe6uX7Q", Flag: "LP", Label: "Summary", Expires: start.AddDate(1, 0, 0), Version: 1}}
}

func TestEveryProfileIsIssuedVerifiedAndNamed(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), 0)
	v := NewVerifier(s.keys, func() time.Time { return start }, Limits{})
	textLink, ok := ParseHealthLink(link()[0].Text())
	if !ok {
		t.Fatal("our own link does not read")
	}
	old := icvp()
	old.Layout, old.Version, old.Issued = ICVPDraft2024, "", ""
	for _, c := range []struct {
		profile Profile
		kind    Kind
		content Content
	}{
		{ProfileVaccination, KindVaccination, ddccVaccination()}, {ProfileTest, KindTest, ddccTest()}, {ProfileICVP, KindVaccination, icvp()}, {ProfileICVP, KindVaccination, old},
		{ProfileHealthLink, KindHealthLink, link()}, {ProfileHealthLink, KindHealthLink, HealthLinks{textLink}}, {ProfileHealthLink, KindHealthLink, append(link(), textLink)},
	} {
		out, err := s.IssueContent(t.Context(), c.content, start, start.Add(time.Hour))
		if err != nil {
			t.Fatalf("%s: %v", c.profile, err)
		}
		got, u, err := v.Verify(out.Text)
		if err != nil {
			t.Fatalf("%s: %v", c.profile, err)
		}
		if got.Profile() != c.profile || got.Kind() != c.kind || got.DCC() != nil || got.Tree() != nil || got.Inspect(nil) != nil || u.Payload != nil {
			t.Errorf("%s: got %s %s, DCC %v", c.profile, got.Profile(), got.Kind(), got.DCC())
		}
		if !reflect.DeepEqual(got.Document().Content, c.content) {
			t.Errorf("%s: got %#v, want %#v", c.profile, got.Document().Content, c.content)
		}
		for _, s := range []string{got.String(), u.String(), fmt.Sprint(got.Document()), fmt.Sprintf("%v", got.Document().Content), slog.AnyValue(got.Document()).Resolve().String()} {
			if strings.Contains(s, "Murphy") || strings.Contains(s, "rxTg") {
				t.Errorf("%s: printed as %s", c.profile, s)
			}
		}
	}
	out, err := s.Issue(t.Context(), vaccination(), start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := v.Verify(out.Text); err != nil || got.Profile() != ProfileDCC || got.Document() != nil {
		t.Errorf("DCC: got %v, %v", got, err)
	}
}

func TestSignersAreHeldToTheirUsageForEveryProfile(t *testing.T) {
	for _, c := range []struct {
		usage   Usage
		content Content
		may     bool
	}{
		{UsageVaccination, ddccVaccination(), true}, {UsageTest, ddccVaccination(), false}, {UsageVaccination, icvp(), true}, {UsageRecovery, icvp(), false},
		{UsageTest, ddccTest(), true}, {UsageVaccination, ddccTest(), false}, {UsageVaccination | UsageTest | UsageRecovery, link(), false}, {0, link(), true},
	} {
		limited := newSigner(t, ecKey(t, elliptic.P256()), c.usage)
		_, err := limited.IssueContent(t.Context(), c.content, start, start.Add(time.Hour))
		if (err == nil) != c.may || !c.may && !errors.Is(err, WrongKeyUsage) {
			t.Errorf("issue %s with usage %v: got %v", c.content.Profile(), c.usage, err)
		}
		// The same key, with a certificate that allowed the issue.
		key := ecKey(t, elliptic.P256())
		free := newSigner(t, key, 0)
		out, err := free.IssueContent(t.Context(), c.content, start, start.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		k := *free.key
		k.Usage = c.usage
		_, _, err = NewVerifier(NewKeySet(&k), func() time.Time { return start }, Limits{}).Verify(out.Text)
		if (err == nil) != c.may || !c.may && !errors.Is(err, WrongKeyUsage) {
			t.Errorf("verify %s with usage %v: got %v", c.content.Profile(), c.usage, err)
		}
	}
}

func TestDocumentsThatLackAFieldAreRefused(t *testing.T) {
	s := newSigner(t, ecKey(t, elliptic.P256()), 0)
	with := func(c Content, change func()) Content { change(); return c }
	v, r, i, l := ddccVaccination(), ddccTest(), icvp(), link()
	for path, c := range map[string]Content{
		"vaccination.lot": with(v, func() { v.Vaccination.Lot = "" }), "test.result": with(r, func() { r.Test.Result = Coding{} }),
		"vx.is": with(i, func() { i.Vaccination.Clinician = "" }), "link[0].url": with(l, func() { l[0].URL = "javascript:alert(1)" }), "": HealthLinks{},
	} {
		_, err := s.IssueContent(t.Context(), c, start, start.Add(time.Hour))
		var schema *SchemaError
		if !errors.As(err, &schema) || len(schema.Issues) != 1 || schema.Issues[0].Path != path || !errors.Is(err, SchemaViolation) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// TestFormsInUse reads what others write: the WHO's validator's own test of a
// PH4H link, and the layouts of its models.
func TestFormsInUse(t *testing.T) {
	tree := func(src string) []byte {
		m, err := ParseTree([]byte(src))
		if err != nil {
			t.Fatal(err)
		}
		b, err := appendTree(nil, m["x"])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const shl = "shlink://eyJ1cmwiOiJodHRwOi8vbGFjcGFzcy5jcmVhdGUuY2w6ODE4Mi92Mi9tYW5pZmVzdHMvMDFmMGE4ZTUtMWU5NC00ZWM0LTliMzEtYWM5NmIyMDhmMTI2IiwiZmxhZyI6IlAiLCJleHAiOjE3ODM3MjM5NjM5OTcsImtleSI6ImVQaG1KMS1mSnY0d19jbWZSTWU5aW5vVGZENER3MGRNazNCR0x3Vi1LZTA9IiwibGFiZWwiOiJHREhDTiBWYWxpZGF0b3IifQ=="
	for name, src := range map[string]string{"a list of objects": `{"x": [{"u": "` + shl + `"}]}`, "text": `{"x": "` + shl + `"}`, "a list of text": `{"x": ["` + shl + `"]}`,
		"with a viewer": `{"x": "https://viewer.example/#` + shl + `"}`} {
		d, err := ParseDocument(ProfileHealthLink, tree(src), Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := d.Content.(HealthLinks)[0]
		if got.URL != "http://lacpass.create.cl:8182/v2/manifests/01f0a8e5-1e94-4ec4-9b31-ac96b208f126" || got.Flag != "P" || got.Label != "GDHCN Validator" || got.Expires.Unix() != 1783723963 {
			t.Errorf("%s: got %#v", name, got)
		}
		if err := d.Content.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, src := range map[string]string{"a number": `{"x": 1}`, "nothing": `{"x": []}`, "no link": `{"x": "https://example.org"}`, "no base64": `{"x": "vhlink:/!"}`,
		"no JSON": `{"x": "vhlink:/YWJj"}`, "too many": `{"x": [` + strings.TrimSuffix(strings.Repeat(`{"url": "https://a"},`, 17), ",") + `]}`} {
		if d, err := ParseDocument(ProfileHealthLink, tree(src), Limits{}); err == nil {
			t.Errorf("%s: got %#v", name, d.Content)
		}
	}
	d, err := ParseDocument(ProfileICVP, tree(`{"x": {"n": "A", "dob": "1990-01-01", "s": {"code": "female"}, "ntl": "IND", "nid": 123, "v": [{"vp": "YF", "dt": "2024-01-01", "bo": 7, "dn": 1, "is": "X"}]}}`), Limits{})
	if err != nil || d.Content.Check() != nil {
		t.Fatal(err, d.Content.Check())
	}
	if i := d.Content.(*ICVP); i.Layout != ICVPDraft2024 || i.DocumentNumber != "123" || i.Vaccination.Batch != "7" || i.Vaccination.Dose != "1" || i.Sex != "female" {
		t.Errorf("got %#v", i)
	}
	d, err = ParseDocument(ProfileVaccination, tree(`{"x": {"name": "A", "birthDate": "1990", "sex": "male", "identifier": {"system": "urn:x", "value": 5}, "vaccination": {"vaccine": {"code": "X"}, "brand": "Y",
		"manufacturer": "M", "lot": 12, "date": "2021-01-01", "dose": "2", "total_doses": 3, "country": "USA"}, "certificate": {"issuer": {"identifier": {"value": "org"}}, "period": {"start": "2021-01-01"}}}}`), Limits{})
	if err != nil || d.Content.Check() != nil {
		t.Fatal(err, d.Content.Check())
	}
	if v := d.Content.(*DDCCVaccination); v.Vaccination.Dose != 2 || v.Vaccination.TotalDoses != 3 || v.Vaccination.Lot != "12" || v.Certificate.Issuer.Value != "org" || v.Identifier != (Identifier{"urn:x", "5"}) {
		t.Errorf("got %#v", v)
	}
	if d, err := ParseDocument(ProfileDCC, tree(`{"x": {}}`), Limits{}); err == nil {
		t.Errorf("a DCC is no document: got %#v", d)
	}
}

func TestUnknownSubclaimsAreNamed(t *testing.T) {
	b := appendHead(nil, cborMap, 1)
	b = appendHead(appendInt(b, claimHCert), cborMap, 1)
	b = appendText(appendInt(b, 99), "x")
	msg := appendHead(nil, cborArray, 4)
	msg = appendBytes(msg, []byte{0xA1, 0x01, 0x26})
	msg = append(msg, 0xA0)
	msg = appendBytes(msg, b)
	msg = appendBytes(msg, []byte("x"))
	u, err := new(Decoder).DecodeCOSE(msg)
	if !errors.Is(err, NoPayload) || !strings.Contains(err.Error(), "sub-claim 99") || u.Claims == nil {
		t.Errorf("got %v", err)
	}
	if _, err := u.Verify(KeySet{}, start); !errors.Is(err, NoPayload) {
		t.Errorf("verified without payload: %v", err)
	}
}

// TestDocumentDecodeUndoesEncode: random documents of every profile come back
// as they were.
func TestDocumentDecodeUndoesEncode(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	word := func() string {
		return []string{"", "a", "1", "é\x00\"", "2021-01-01", strings.Repeat("x", 300), "{}"}[random.IntN(7)]
	}
	for range 2000 {
		for _, c := range []Content{new(DDCCVaccination), new(DDCCTest), new(ICVP), &linkBox{}} {
			v := reflect.ValueOf(c)
			randomize(random, v.Elem(), word)
			if b, ok := c.(*linkBox); ok {
				c = b.links()
			}
			if i, ok := c.(*ICVP); ok {
				i.Layout = []ICVPLayout{ICVPDraft2024, ICVPDraft2026}[random.IntN(2)]
				if i.Layout == ICVPDraft2024 {
					i.Version, i.Issued = "", ""
				}
			}
			b, err := EncodeContent(c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseDocument(c.Profile(), b, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Content, c) {
				t.Fatalf("got  %#v\nwant %#v", got.Content, c)
			}
		}
	}
}

// linkBox makes random links whose times are whole seconds.
type linkBox struct {
	HealthLinks
	URL, Key, Flag, Label string
	Version               int
	More                  int
}

func (b *linkBox) links() HealthLinks {
	h := HealthLink{URL: b.URL, Key: b.Key, Flag: b.Flag, Label: b.Label, Version: b.Version}
	if b.More%2 == 0 {
		h.Expires = time.Unix(int64(b.More)+1, 0).UTC()
	}
	out := HealthLinks{h}
	for range b.More % 3 {
		if other, ok := ParseHealthLink(h.Text()); ok {
			out = append(out, other)
		}
	}
	return out
}

func randomize(random *rand.Rand, v reflect.Value, word func() string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(word())
	case reflect.Int:
		v.SetInt(int64(random.IntN(1 << 20)))
	case reflect.Struct:
		for i := range v.NumField() {
			randomize(random, v.Field(i), word)
		}
	}
}

// FuzzParseDocument: what is read is written and read again as the same, for
// every profile.
func FuzzParseDocument(f *testing.F) {
	for i, c := range []Content{ddccVaccination(), ddccTest(), icvp(), link(), append(link(), link()...)} {
		b, err := EncodeContent(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(i))
	}
	f.Add(appendText(nil, link()[0].Text()), uint8(3))
	f.Fuzz(func(t *testing.T, cbor []byte, which uint8) {
		p := []Profile{ProfileVaccination, ProfileTest, ProfileICVP, ProfileHealthLink}[which%4]
		d, err := ParseDocument(p, cbor, Limits{})
		if err != nil {
			return
		}
		_ = d.Content.Check()
		b, err := EncodeContent(d.Content)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseDocument(p, b, Limits{})
		if err != nil || !reflect.DeepEqual(again.Content, d.Content) {
			t.Errorf("got %#v, %v, want %#v", again, err, d.Content)
		}
	})
}

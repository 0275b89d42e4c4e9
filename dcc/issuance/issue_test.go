package issuance

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"verdant/azure/client"
	"verdant/dcc/wire"
	"verdant/hcert"
)

// verify checks a certificate as a verifier that trusts the document signer.
func (w *world) verify(hc1 string) *hcert.Verified {
	w.t.Helper()
	key, err := hcert.NewKey(w.dsc)
	if err != nil {
		w.t.Fatal(err)
	}
	v, _, err := hcert.NewVerifier(hcert.NewKeySet(key), w.now, hcert.Limits{}).Verify(hc1)
	if err != nil {
		w.t.Fatalf("verify: %v", err)
	}
	return v
}

func TestAnIssuedCertificateVerifiesAndIsOnRecord(t *testing.T) {
	w := newWorld(t)
	for _, alg := range []hcert.Algorithm{hcert.ES256, hcert.PS256} {
		if alg == hcert.PS256 {
			w.newDSC(rsaKey(), 0)
		}
		ts := w.serve(Private, nil)
		for kind, body := range map[hcert.Kind]string{hcert.KindVaccination: vaccination, hcert.KindTest: test, hcert.KindRecovery: recovery} {
			before := w.rows()
			var out wire.Issued
			w.issue(ts, body).into(t, &out)
			v := w.verify(out.QRCode)
			if v.Kind() != kind || v.Sign1().Algorithm != alg || v.Claims().Issuer != "IE" {
				t.Errorf("%s with %s: got %s, %s, issuer %s", kind, alg, v.Kind(), v.Sign1().Algorithm, v.Claims().Issuer)
			}
			if ids := v.DCC().IDs(); len(ids) != 1 || ids[0] != out.DGCI || hcert.ParseUVCI(out.DGCI).Check != hcert.CheckRight || !strings.HasPrefix(out.DGCI, "URN:UVCI:01:IE:") {
				t.Errorf("%s: identifiers %v, answer %q", kind, ids, out.DGCI)
			}
			if w.rows() != before+1 || len(out.TAN) != tanLength {
				t.Errorf("%s: %d records, TAN of %d", kind, w.rows()-before, len(out.TAN))
			}
			s := store{db: w.openDB()} // another connection, as after kill -9
			hash := v.Sign1().Hash()
			rec, err := s.find(t.Context(), hashOf(out.DGCI))
			if err != nil || rec == nil || rec.certHash != fmt.Sprintf("%x", hash) || !rec.signed || rec.claimed {
				t.Errorf("%s: record %+v, %v", kind, rec, err)
			}
		}
	}
}

func TestNothingThatIsKeptOrLoggedSaysWhoItIsAbout(t *testing.T) {
	w := newWorld(t)
	ts := w.serve(Private, nil)
	var out wire.Issued
	w.issue(ts, vaccination).into(t, &out)
	refused := w.issue(ts, strings.Replace(vaccination, "2021-06-11", "Murphy-Secret", 1))
	if refused.status != 400 {
		t.Fatalf("got %d", refused.status)
	}
	w.issue(ts, `{"nam":{"fn":"Murphy-Secret"`)
	if _, err := w.db.ExecContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"database": string(file), "log": w.log.String(), "refusal": refused.body} {
		for _, secret := range []string{"Murphy", "MURPHY", "Saoirse", "1987-02-03", "EU/1/20/1528", out.DGCI, out.TAN, out.QRCode[:20]} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", where, secret)
			}
		}
	}
	if !strings.Contains(w.log.String(), `"issued":"Vaccination"`) || !strings.Contains(w.log.String(), portal) || !strings.Contains(w.log.String(), `"professional":"`+professionalID+`"`) {
		t.Errorf("log lacks the issue: %s", w.log.String())
	}
}

func TestAPayloadIsRefusedWithTheFieldAndWhy(t *testing.T) {
	w := newWorld(t)
	ts := w.serve(Private, nil)
	for _, tt := range []struct{ name, body, field string }{
		{"a dose of 0", strings.Replace(vaccination, `"dn":2`, `"dn":0`, 1), "v[0].dn"},
		{"a missing name", strings.Replace(vaccination, `"fnt":"MURPHY<SECRET",`, ``, 1), "nam.fnt"},
		{"a date of the wrong form", strings.Replace(vaccination, "2021-06-11", "11.06.2021", 1), "v[0].dt"},
		{"a vaccination next week", strings.Replace(vaccination, "2021-06-11", "2022-01-17", 1), "v[0].dt"},
		{"a birth next year", strings.Replace(vaccination, "1987-02-03", "2023", 1), "dob"},
		{"a test tomorrow and later", strings.Replace(test, "2022-01-09", "2022-01-12", 1), "t[0].sc"},
		{"a third dose of two", strings.Replace(vaccination, `"dn":2`, `"dn":3`, 1), "v[0].dn"},
		{"a vaccination before birth", strings.Replace(vaccination, "2021-06-11", "1987-02-02", 1), "v[0].dt"},
		{"a recovery that ends before it begins", strings.Replace(recovery, "2022-05-30", "2021-12-11", 1), "r[0].du"},
	} {
		got := w.issue(ts, tt.body)
		var p wire.IssueProblem
		if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != 400 || p.Code != "InvalidDCC" {
			t.Errorf("%s: got %d %s", tt.name, got.status, got.body)
			continue
		}
		if len(p.Fields) == 0 || p.Fields[0].Field != tt.field || p.Fields[0].Why == "" {
			t.Errorf("%s: got fields %v, want %s", tt.name, p.Fields, tt.field)
		}
	}
	for name, body := range map[string]string{"nothing": "", "no object": "[]", "two types": strings.Replace(test, `"t":`, `"r":[],"v":[{}],"t":`, 1), "no type": `{"ver":"1.3.0","nam":{"fnt":"A"},"dob":""}`,
		"entries that are no objects": `{"ver":"1.3.0","nam":{"fnt":"A"},"dob":"","v":[1]}`, "something after it": vaccination + "{}"} {
		if got := w.issue(ts, body); got.status != 400 || got.code() != "InvalidDCC" {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
	}
	if got := w.issue(ts, strings.Repeat(" ", maxBody+1)); got.status != 413 {
		t.Errorf("too large: got %d", got.status)
	}
	if w.rows() != 0 {
		t.Errorf("%d records of refused payloads", w.rows())
	}
}

func TestACodeThatNoValueSetHasIsRefusedOnlyOnRequest(t *testing.T) {
	w := newWorld(t)
	unknown := strings.Replace(vaccination, "EU/1/20/1528", "EU/1/30/9999", 1)
	if got := w.issue(w.serve(Private, nil), unknown); got.status != 200 {
		t.Errorf("by default: got %d %s", got.status, got.body)
	}
	strict := w.serve(Private, func(c *Config, _ *Deps) { c.Strict = true })
	if got := w.issue(strict, unknown); got.status != 400 || !strings.Contains(got.body, `"v[0].mp"`) {
		t.Errorf("strictly: got %d %s", got.status, got.body)
	}
	if got := w.issue(strict, vaccination); got.status != 200 {
		t.Errorf("strictly, with known codes: got %d %s", got.status, got.body)
	}
}

func TestOnlyConfiguredCallersMayIssueOrPublish(t *testing.T) {
	w := newWorld(t)
	ts := w.serve(Private, nil)
	for _, path := range []string{"/dgci/issue", "/dgci/certPublish"} {
		for _, tt := range []struct {
			name, token string
			status      int
		}{
			{"no token", "", 401},
			{"a token for another service", w.token("https://vault.azure.net", portal), 401},
			{"no JWT", "abc", 401},
			{"another object id", w.token(audience, "22222222-2222-2222-2222-222222222222"), 403},
		} {
			got := w.send(ts, "PUT", path, tt.token, vaccination)
			if got.status != tt.status || (tt.status == 401) != (got.header.Get("WWW-Authenticate") == "Bearer") {
				t.Errorf("%s with %s: got %d %s", path, tt.name, got.status, got.body)
			}
		}
	}
	nobody := w.serve(Private, func(c *Config, _ *Deps) { c.Callers = nil })
	if got := w.issue(nobody, vaccination); got.status != 403 {
		t.Errorf("no callers configured: got %d", got.status)
	}
	if w.rows() != 0 {
		t.Errorf("%d records", w.rows())
	}
}

func TestNothingOutlivesItsDocumentSigner(t *testing.T) {
	w := newWorld(t)
	ts := w.serve(Private, func(c *Config, _ *Deps) { c.FrontendIssuing = true })
	w.clock.Store(w.dsc.NotAfter.AddDate(-1, 0, 1).UnixMicro()) // a year, less a day, before its end
	if got := w.issue(ts, vaccination); got.status != 503 || got.code() != "DocumentSignerExpires" {
		t.Errorf("vaccination: got %d %s", got.status, got.body)
	}
	if got := w.issue(ts, test); got.status != 200 {
		t.Errorf("a test still fits: got %d %s", got.status, got.body)
	}
	if got := w.send(ts, "POST", "/dgci/issue", w.token(audience, portal), `{"greenCertificateType":"Vaccination"}`); got.status != 503 || got.code() != "DocumentSignerExpires" {
		t.Errorf("by hash: got %d %s", got.status, got.body)
	}
	if w.rows() != 1 {
		t.Errorf("%d records", w.rows())
	}
}

func TestTheLayerThatRefusesIsNamed(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"the vault refuses", &client.Refusal{Status: 403, Code: "Forbidden", Inner: "ForbiddenByRbac"}, "403 Forbidden (ForbiddenByRbac)"},
		{"the vault is away", errBoom, "did not answer"},
	} {
		ts := w.serve(Private, func(_ *Config, d *Deps) { d.Signer = failingSigner{d.Signer, fmt.Errorf("sign: %w", tt.err)} })
		if got := w.issue(ts, vaccination); got.status != 503 || got.code() != "SignerUnavailable" || !strings.Contains(got.body, tt.want) || strings.Contains(got.body, "boom") {
			t.Errorf("%s: got %d %s", tt.name, got.status, got.body)
		}
	}
	ts := w.serve(Private, nil)
	_ = w.db.Close()
	if got := w.issue(ts, vaccination); got.status != 503 || got.code() != "StorageUnavailable" || strings.Contains(got.body, "HC1:") {
		t.Errorf("the database is away: got %d %s", got.status, got.body)
	}
	if got := w.send(ts, "GET", "/healthz", "", ""); got.status != 503 {
		t.Errorf("health: got %d", got.status)
	}
}

type publisher struct {
	mu   sync.Mutex
	errs []error
	got  []*x509.Certificate
}

func (p *publisher) Upload(_ context.Context, c *x509.Certificate) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, c)
	if len(p.errs) == 0 {
		return nil
	}
	err := p.errs[0]
	p.errs = p.errs[1:]
	return err
}

func TestTheDocumentSignerIsPublishedOnRequest(t *testing.T) {
	w := newWorld(t)
	pub := &publisher{errs: []error{nil, errors.New("gateway is away")}}
	ts := w.serve(Private, func(_ *Config, d *Deps) { d.Publisher = pub })
	for _, want := range []int{204, 503} {
		if got := w.send(ts, "PUT", "/dgci/certPublish", w.token(audience, portal), ""); got.status != want {
			t.Errorf("got %d %s, want %d", got.status, got.body, want)
		}
	}
	if len(pub.got) != 2 || !pub.got[0].Equal(w.dsc) {
		t.Errorf("published %d", len(pub.got))
	}
	if got := w.send(w.serve(Private, nil), "PUT", "/dgci/certPublish", w.token(audience, portal), ""); got.status != 503 || got.code() != "NoConnector" {
		t.Errorf("without a connector: got %d %s", got.status, got.body)
	}
}

func TestIssuingByHashIsOffUnlessConfigured(t *testing.T) {
	w := newWorld(t)
	token := w.token(audience, portal)
	off := w.serve(Private, nil)
	if got := w.send(off, "POST", "/dgci/issue", token, `{"greenCertificateType":"Test"}`); got.status != 405 {
		t.Errorf("off: got %d", got.status)
	}
	if got := w.send(off, "PUT", "/dgci/issue/1_x", token, `{}`); got.status != 404 {
		t.Errorf("off: got %d", got.status)
	}

	on := w.serve(Private, func(c *Config, _ *Deps) { c.FrontendIssuing = true })
	var init wire.InitIssued
	w.send(on, "POST", "/dgci/issue", token, `{"greenCertificateType":"Vaccination"}`).into(t, &init)
	if init.AlgID != -7 || init.KID != hcert.KIDOf(w.dsc.Raw).String() || init.CountryCode != "IE" || init.Expired != w.now().Unix()+init.ExpiredDuration {
		t.Errorf("got %+v", init)
	}
	// The browser builds the certificate and has its hash signed.
	dcc, err := readPayload([]byte(vaccination), init.DGCI, w.now(), false)
	if err != nil {
		t.Fatal(err)
	}
	browser, err := hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: w.dsc, Signer: w.dscKey})
	if err != nil {
		t.Fatal(err)
	}
	draft, err := browser.Draft(dcc, w.now(), time.Unix(init.Expired, 0))
	if err != nil {
		t.Fatal(err)
	}
	hash := draft.Hash()
	body := `{"hash":"` + base64.StdEncoding.EncodeToString(hash[:]) + `"}`
	for name, tt := range map[string]struct {
		id, body string
		status   int
	}{
		"an id without two parts": {"1", body, 400},
		"an id of another row":    {"0000_" + strings.SplitN(init.ID, "_", 2)[1], body, 404},
		"an unknown id":           {"0000_" + base64.RawURLEncoding.EncodeToString(make([]byte, 32)), body, 404},
		"a short hash":            {init.ID, `{"hash":"AAAA"}`, 400},
		"no JSON":                 {init.ID, `x`, 400},
	} {
		if got := w.send(on, "PUT", "/dgci/issue/"+tt.id, token, tt.body); got.status != tt.status {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
	}
	if got := w.send(on, "GET", "/dgci/"+strings.SplitN(init.ID, "_", 2)[1], "", ""); got.status != 404 {
		t.Errorf("a reservation is no certificate: got %d", got.status)
	}
	var done wire.FinishIssued
	w.send(on, "PUT", "/dgci/issue/"+init.ID, token, body).into(t, &done)
	signature, _ := base64.StdEncoding.DecodeString(done.Signature)
	issued, err := draft.Seal(signature)
	if err != nil {
		t.Fatal(err)
	}
	w.verify(issued.Text)
	if got := w.send(on, "PUT", "/dgci/issue/"+init.ID, token, body); got.status != 409 {
		t.Errorf("again: got %d", got.status)
	}
}

func TestConcurrentIssuesAllEndOnRecord(t *testing.T) {
	w := newWorld(t)
	ts := w.serve(Private, nil)
	const n = 40
	ids := make(chan string, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var out wire.Issued
			if got := w.issue(ts, test); got.status != 200 || json.Unmarshal([]byte(got.body), &out) != nil {
				t.Errorf("got %d %s", got.status, got.body)
			}
			ids <- out.DGCI
		})
	}
	wg.Wait()
	close(ids)
	s := store{db: w.db}
	seen := map[string]bool{}
	for id := range ids {
		if rec, err := s.find(t.Context(), hashOf(id)); err != nil || rec == nil || seen[id] {
			t.Errorf("record of one: %v, %v, twice %v", rec, err, seen[id])
		}
		seen[id] = true
	}
}

func TestABatchThatCannotBeWrittenFailsAllOfItsCallersAndNoOthers(t *testing.T) {
	w := newWorld(t)
	s, err := openStore(t.Context(), w.db)
	if err != nil {
		t.Fatal(err)
	}
	rec := record{dgciHash: "a", created: began, expires: began}
	if err := s.insert(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if err := s.insert(t.Context(), rec); err == nil {
		t.Error("the same record twice: got no error")
	}
	rec.dgciHash = "b"
	if err := s.insert(t.Context(), rec); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

func TestTheExamplesOfTheSchemaCanBeIssued(t *testing.T) {
	files, _ := filepath.Glob("../../../shared/data/schema/examples/*/*.json")
	if len(files) == 0 {
		t.Skip("the schema's examples are not beside the repository")
	}
	w := newWorld(t)
	w.clock.Store(time.Date(2022, 12, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	ts := w.serve(Private, nil)
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var out wire.Issued
		got := w.issue(ts, string(body))
		if got.status != 200 {
			t.Errorf("%s: got %d %s", filepath.Base(f), got.status, got.body)
			continue
		}
		got.into(t, &out)
		w.verify(out.QRCode)
	}
}

func TestTheRolesAreApart(t *testing.T) {
	w := newWorld(t)
	public := w.serve(Public, nil)
	if got := w.send(public, "PUT", "/dgci/issue", w.token(audience, portal), vaccination); got.status != 405 {
		t.Errorf("public instance asked to issue: got %d", got.status)
	}
	if got := w.send(w.serve(Private, nil), "POST", "/dgci/wallet/claim", "", `{}`); got.status != 404 && got.status != 405 {
		t.Errorf("private instance asked to claim: got %d", got.status)
	}
	if _, err := w.server(Public, func(_ *Config, d *Deps) { d.Signer = w.dscKey }); err == nil {
		t.Error("a public instance took a signing key")
	}
	if _, err := w.server("both", nil); err == nil {
		t.Error("an unknown role was taken")
	}
	if _, err := w.server(Private, func(_ *Config, d *Deps) { d.Tokens = nil }); err == nil {
		t.Error("a private instance without token verifier was made")
	}
	if _, err := w.server(Private, func(_ *Config, d *Deps) { d.Signer = w.newKey() }); err == nil {
		t.Error("a key that is not the certificate's was taken")
	}
}

func FuzzReadPayload(f *testing.F) {
	for _, s := range []string{vaccination, test, recovery, `{"v":[1,{"ci":[]}]}`, `{"r":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		dcc, err := readPayload(body, "URN:UVCI:01:IE:X", began, false)
		if err != nil {
			_ = invalidDCC(err)
			return
		}
		if ids := dcc.IDs(); len(ids) == 0 || ids[0] != "URN:UVCI:01:IE:X" {
			t.Errorf("issued with identifiers %v", ids)
		}
	})
}

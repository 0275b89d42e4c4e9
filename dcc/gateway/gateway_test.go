package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"verdant/trustlist"
)

func TestTheClientCertificateDecidesWhoCalls(t *testing.T) {
	w := newWorld(t)
	sum := sha256.Sum256(w.ie.auth.Raw)
	b64, hx := base64.StdEncoding.EncodeToString(sum[:]), hex.EncodeToString(sum[:])
	other := sha256.Sum256(w.ie.upload.Raw)
	for _, tt := range []struct {
		name, thumbprint, dn string
		status               int
		code                 string
	}{
		{"base64 of the hash", b64, "C=IE,CN=Auth", 200, ""},
		{"percent-encoded base64", url.QueryEscape(b64), "C=IE", 200, ""},
		{"lower-case hex", hx, "CN=Auth, C=IE", 200, ""},
		{"upper-case hex, as the reference's proxy sends it", strings.ToUpper(hx), `C="IE"`, 200, ""},
		{"a percent-encoded subject", hx, "CN%3DAuth%2CC%3DIE", 200, ""},
		{"lower-case attribute and country", hx, "c=ie", 200, ""},
		{"no thumbprint", "", "C=IE", 401, "0x400"},
		{"a thumbprint of another length", hx[:62], "C=IE", 401, "0x400"},
		{"no subject", hx, "", 400, "0x401"},
		{"a subject without country", hx, "CN=IE", 400, "0x401"},
		{"a subject with slashes", hx, "/C=IE/CN=Auth", 400, "0x401"},
		{"a part with two equal signs", hx, "C=IE=DE", 400, "0x401"},
		{"another country", hx, "C=DE", 401, "0x402"},
		{"the first of two countries counts", hx, "C=DE,C=IE", 401, "0x402"},
		{"an unknown certificate", strings.Repeat("ab", 32), "C=IE", 401, "0x402"},
		{"a certificate for another purpose", hex.EncodeToString(other[:]), "C=IE", 401, "0x402"},
	} {
		var h []string
		if tt.thumbprint != "" {
			h = append(h, headerThumbprint, tt.thumbprint)
		}
		if tt.dn != "" {
			h = append(h, headerSubject, tt.dn)
		}
		if got := w.raw("GET", "/trustList", "", h...); got.status != tt.status || (tt.code != "" && got.code() != tt.code) {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
	}

	w.server.cfg.Ingress = []netip.Addr{netip.MustParseAddr("10.0.0.9")}
	if got := w.call(w.ie, "GET", "/trustList", ""); got.status != 401 || got.code() != "0x400" {
		t.Errorf("headers from a peer that is not the ingress: got %d %s", got.status, got.body)
	}
	w.server.cfg.Ingress = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	w.server.cfg.IngressSecret = "known to the ingress"
	for secret, want := range map[string]int{"": 401, "guessed": 401, "known to the ingress": 200} {
		if got := w.call(w.ie, "GET", "/trustList", "", headerIngressSecret, secret); got.status != want {
			t.Errorf("ingress's address with the secret %q: got %d, want %d", secret, got.status, want)
		}
	}
	w.server.cfg.IngressSecret = ""
	w.clock.Store(w.ie.auth.NotAfter.Add(time.Second).UnixMicro())
	if got := w.call(w.ie, "GET", "/trustList", ""); got.status != 401 || got.code() != "0x402" {
		t.Errorf("an expired certificate: got %d %s", got.status, got.body)
	}
}

func TestADocumentSignerGoesFromUploadToTheList(t *testing.T) {
	w := newWorld(t)
	dsc := w.dsc(w.ie)
	if got := w.call(w.ie, "POST", "/signerCertificate", w.cms(w.ie, dsc.Raw)); got.status != 201 || got.body != "" {
		t.Fatalf("upload: got %d %s", got.status, got.body)
	}
	all := w.call(w.de, "GET", "/trustList", "")
	items := all.items(t)
	if len(items) != 7 || !slices.IsSortedFunc(items, func(a, b trustlist.Item) int { return strings.Compare(a.KID, b.KID) }) {
		t.Fatalf("got %d entries", len(items))
	}
	v := trustlist.NewAnchor(w.anchor).Verify(items)
	if len(v.List.DSCs()) != 1 || len(v.Rejected) != 0 || v.List.DSCs()[0].Thumbprint() != trustlist.Thumbprint(dsc.Raw) {
		t.Fatalf("proven from the list: %d signers, rejected %v", len(v.List.DSCs()), v.Rejected)
	}
	for path, want := range map[string]int{"/trustList/DSC": 1, "/trustList/dsc/ie": 1, "/trustList/DSC/DE": 0, "/trustList/CSCA": 2, "/trustList/UPLOAD/DE": 1, "/trustList/AUTHENTICATION/XX": 0} {
		if got := len(w.call(w.de, "GET", path, "").items(t)); got != want {
			t.Errorf("%s: got %d entries, want %d", path, got, want)
		}
	}
	if got := w.call(w.de, "GET", "/trustList", "", "If-None-Match", all.header.Get("ETag")); got.status != 304 || got.body != "" {
		t.Errorf("unchanged list: got %d", got.status)
	}
	if got := w.call(w.de, "GET", "/countrylist", ""); got.body != `["DE","IE"]` {
		t.Errorf("countrylist: got %s", got.body)
	}
	if got := w.call(w.ie, "POST", "/signerCertificate", w.cms(w.ie, dsc.Raw)); got.status != 409 || got.code() != "0x002" {
		t.Errorf("same again: got %d %s", got.status, got.body)
	}
	w.http.Close()
	w.start() // another start finds everything and onboards nothing anew
	if again := w.call(w.de, "GET", "/trustList", ""); again.header.Get("ETag") != all.header.Get("ETag") {
		t.Errorf("after a restart the list differs: %s", again.body)
	}
	if n := w.scalar(`SELECT COUNT(*) FROM audit_event WHERE event = 'SUCCESS' AND country = 'IE' AND uploader_sha256 = ? AND authentication_sha256 = ?`,
		trustlist.Thumbprint(w.ie.upload.Raw), trustlist.Thumbprint(w.ie.auth.Raw)); n != 1 {
		t.Errorf("audit: %d records of the upload", n)
	}
}

func TestAnUploadThatIsNotTheCountrysOwnIsRefused(t *testing.T) {
	w := newWorld(t)
	dsc, foreign := w.dsc(w.ie), w.dsc(w.de)
	stranger := newKey(t)
	strangerDER, err := trustlist.NewUpload(t.Context(), trustlist.Authority{Key: stranger}, &stranger.PublicKey, trustlist.Subject{Country: "IE", CommonName: "x"}, began.AddDate(0, -1, 0))
	strangerCert := parse(t, strangerDER, err)
	noCSCA, err := trustlist.NewDSC(t.Context(), w.de.csca, &stranger.PublicKey, trustlist.Subject{Country: "IE", CommonName: "DSC"}, 0, began)
	if err != nil {
		t.Fatal(err)
	}
	good := w.cms(w.ie, dsc.Raw)
	tampered, _ := base64.StdEncoding.DecodeString(good)
	tampered[len(tampered)-1] ^= 1
	for _, tt := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"no base64", "***", 400, "0x402"},
		{"no CMS", base64.StdEncoding.EncodeToString([]byte("hello")), 400, "0x402"},
		{"content that is no certificate", w.cms(w.ie, []byte("hello")), 400, "0x402"},
		{"a changed signature", base64.StdEncoding.EncodeToString(tampered), 400, "0x009"},
		{"a signer that is not onboarded", signed(t, strangerCert, stranger, dsc.Raw), 400, "0x004"},
		{"another country's upload certificate", w.cms(w.de, dsc.Raw), 400, "0x004"},
		{"another country's document signer", w.cms(w.ie, foreign.Raw), 400, "0x004"},
		{"a document signer of no CSCA of the country", w.cms(w.ie, noCSCA), 400, "0x004"},
	} {
		if got := w.call(w.ie, "POST", "/signerCertificate", tt.body); got.status != tt.status || got.code() != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
	}
	if got := w.call(w.ie, "POST", "/signerCertificate", good, "Content-Type", "text/plain"); got.status != 415 {
		t.Errorf("another content type: got %d", got.status)
	}
	if got := w.call(w.ie, "POST", "/signerCertificate", strings.Repeat("A", maxCMS+1)); got.status != 413 {
		t.Errorf("too large: got %d", got.status)
	}
	if n := len(w.call(w.ie, "GET", "/trustList/DSC", "").items(t)); n != 0 {
		t.Errorf("%d document signers got through", n)
	}
	// The kid is taken, whoever holds it.
	if _, err := w.db.ExecContext(t.Context(), `INSERT INTO signer_information VALUES (?, ?, 'DE', 1, 1, '', '')`, strings.Repeat("0", 64), trustlist.Thumbprint(dsc.Raw)[:16]); err != nil {
		t.Fatal(err)
	}
	if got := w.call(w.ie, "POST", "/signerCertificate", good); got.status != 400 || got.code() != "0x004" {
		t.Errorf("kid in use: got %d %s", got.status, got.body)
	}
}

func TestADeletedSignerIsListedAsDeletedUntilItIsForgotten(t *testing.T) {
	w := newWorld(t)
	dsc := w.dsc(w.ie)
	body := w.cms(w.ie, dsc.Raw)
	refused := func(name string, c *country, body string, status int, code string) {
		t.Helper()
		if got := w.call(c, "DELETE", "/signerCertificate", body); got.status != status || got.code() != code {
			t.Errorf("%s: got %d %s, want %d %s", name, got.status, got.body, status, code)
		}
	}
	refused("not on the list", w.ie, body, 404, "0x005")
	if got := w.call(w.ie, "POST", "/signerCertificate", body); got.status != 201 {
		t.Fatalf("upload: %d", got.status)
	}
	refused("by another country", w.de, w.cms(w.de, dsc.Raw), 400, "0x007")
	refused("by another country's caller", w.de, body, 400, "0x007")
	w.clock.Add(int64(time.Hour / time.Microsecond))
	deleted := w.now()
	if got := w.call(w.ie, "POST", "/signerCertificate/delete", body); got.status != 204 {
		t.Fatalf("delete: got %d %s", got.status, got.body)
	}
	refused("again", w.ie, body, 404, "0x005")
	if n := len(w.call(w.de, "GET", "/trustList/DSC", "").items(t)); n != 0 {
		t.Errorf("still listed")
	}
	for name, since := range map[string]string{"ISO 8601": deleted.Format(time.RFC3339), "with an offset": deleted.In(time.FixedZone("", 7200)).Format(time.RFC3339), "RFC 9110": deleted.Format(http.TimeFormat)} {
		items := w.call(w.de, "GET", "/trustList", "", "If-Modified-Since", since).items(t)
		if len(items) != 1 || !items[0].Deleted() || items[0].Thumbprint != trustlist.Thumbprint(dsc.Raw) || !items[0].Timestamp.Equal(deleted) {
			t.Errorf("%s: got %+v", name, items)
		}
	}
	if n := len(w.call(w.de, "GET", "/trustList", "", "If-Modified-Since", deleted.Add(time.Second).Format(time.RFC3339)).items(t)); n != 0 {
		t.Errorf("delta after the deletion: %d entries", n)
	}
	for _, bad := range []string{"20220101", "yesterday"} {
		if got := w.call(w.de, "GET", "/trustList", "", "If-Modified-Since", bad); got.status != 400 {
			t.Errorf("%q: got %d", bad, got.status)
		}
	}
	if got := w.call(w.ie, "POST", "/signerCertificate", body); got.status != 201 {
		t.Errorf("upload over the tombstone: got %d %s", got.status, got.body)
	}
	if got := w.call(w.ie, "DELETE", "/signerCertificate", body); got.status != 204 {
		t.Errorf("delete again: got %d", got.status)
	}
	if err := w.server.store.purge(t.Context(), w.now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n := len(w.call(w.de, "GET", "/trustList/DSC", "", "If-Modified-Since", began.Format(time.RFC3339)).items(t)); n != 0 {
		t.Errorf("after the purge: %d entries", n)
	}
}

func TestARowThatTheAnchorDidNotSignIsNeverServed(t *testing.T) {
	w := newWorld(t)
	fr := w.country("FR") // on disk only
	evil := newKey(t)
	der, err := trustlist.NewAnchorCertificate(t.Context(), evil, trustlist.Subject{Country: "EU", CommonName: "Trust Anchor"}, began.AddDate(-1, 0, 0))
	item, err2 := trustlist.SignParty(t.Context(), &trustlist.CMSSigner{Certificate: parse(t, der, err), Key: evil, Now: w.now}, trustlist.Authentication, fr.auth)
	if err2 != nil {
		t.Fatal(err2)
	}
	sig, _ := base64.StdEncoding.DecodeString(item.Signature)
	insert := func(kind, country string, raw, sig []byte) {
		t.Helper()
		if _, err := w.db.ExecContext(t.Context(), `INSERT INTO trusted_party VALUES (?, 1, 0, ?, ?, ?, ?, ?)`, kind+country, country, kind, trustlist.Thumbprint(raw), raw, sig); err != nil {
			t.Fatal(err)
		}
	}
	insert("AUTHENTICATION", "FR", fr.auth.Raw, sig)
	insert("CSCA", "FR", fr.cscaCert.Raw, []byte("junk"))
	if _, err := w.db.ExecContext(t.Context(), `UPDATE trusted_party SET country = 'FR' WHERE country = 'DE' AND certificate_type = 'CSCA'`); err != nil {
		t.Fatal(err)
	}
	if _, err := w.db.ExecContext(t.Context(), `INSERT INTO signer_information VALUES (?, ?, 'DE', 1, 0, ?, ?)`, strings.Repeat("0", 64), strings.Repeat("0", 16), w.dsc(w.de).Raw, sig); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(int64(reloadAfter / time.Microsecond))
	if n := len(w.call(w.ie, "GET", "/trustList", "").items(t)); n != 5 {
		t.Errorf("got %d entries, want the 5 that are good", n)
	}
	if got := w.call(fr, "GET", "/trustList", ""); got.status != 401 || got.code() != "0x402" {
		t.Errorf("forged party: got %d %s", got.status, got.body)
	}
	if got := w.call(w.ie, "GET", "/countrylist", ""); got.body != `["DE","IE"]` {
		t.Errorf("countrylist: got %s", got.body)
	}
}

func TestPagesCoverTheListExactly(t *testing.T) {
	w := newWorld(t)
	whole := w.call(w.ie, "GET", "/trustList", "").items(t)
	var paged []trustlist.Item
	for page := range 3 {
		paged = append(paged, w.call(w.ie, "GET", "/trustList?pagesize=4&page="+strconv.Itoa(page), "").items(t)...)
	}
	if a, _ := json.Marshal(whole); true {
		if b, _ := json.Marshal(paged); string(a) != string(b) {
			t.Errorf("pages differ from the whole: %d and %d entries", len(paged), len(whole))
		}
	}
	for query, want := range map[string]int{"page=0": 6, "pagesize=2": 2, "page=1&pagesize=4": 2, "page=9": 0, "page=9223372036854775807&pagesize=9223372036854775807": 0, "page=1&pagesize=9223372036854775807": 0, "page=-1": 6} {
		if got := len(w.call(w.ie, "GET", "/trustList?"+query, "").items(t)); got != want {
			t.Errorf("%s: got %d entries, want %d", query, got, want)
		}
	}
	for path, code := range map[string]string{"/trustList?pagesize=0": "0x001", "/trustList?page=x": "", "/trustList/FOO": "", "/trustList/DSC/IRL": "0x001", "/trustList/issuers?country=IE,D": "0x001"} {
		if got := w.call(w.ie, "GET", path, ""); got.status != 400 || got.code() != code {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
}

func TestUnchangedRowsAreVerifiedOnce(t *testing.T) {
	w := newWorld(t)
	if got := w.call(w.ie, "POST", "/signerCertificate", w.cms(w.ie, w.dsc(w.ie).Raw)); got.status != 201 {
		t.Fatal(got.body)
	}
	first, err := w.server.trust.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := w.server.trust.current(t.Context()); again != first {
		t.Error("a request without a change made a new list")
	}
	w.clock.Add(int64(reloadAfter / time.Microsecond))
	reloaded, err := w.server.trust.current(t.Context())
	if err != nil || reloaded == first {
		t.Fatalf("not reloaded: %v", err)
	}
	if a, b := first.authentication[trustlist.Thumbprint(w.ie.auth.Raw)].cert, reloaded.authentication[trustlist.Thumbprint(w.ie.auth.Raw)].cert; a != b {
		t.Error("an unchanged row was parsed and verified again")
	}
}

func TestOfConcurrentUploadsOfOneSignerExactlyOneWins(t *testing.T) {
	w := newWorld(t)
	body := w.cms(w.ie, w.dsc(w.ie).Raw)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 8 {
		wg.Go(func() {
			r := w.call(w.ie, "POST", "/signerCertificate", body)
			mu.Lock()
			defer mu.Unlock()
			got[r.status]++
		})
	}
	wg.Wait()
	if got[201] != 1 || got[409] != 7 {
		t.Errorf("got %v", got)
	}
}

func TestValueSetsAreServedAsStored(t *testing.T) {
	w := newWorld(t)
	var ids []string
	if err := json.Unmarshal([]byte(w.call(w.ie, "GET", "/valuesets", "").body), &ids); err != nil || len(ids) != 8 {
		t.Fatalf("got %v, %v", ids, err)
	}
	for _, id := range ids {
		var set struct{ ValueSetID string }
		if got := w.call(w.ie, "GET", "/valuesets/"+id, ""); json.Unmarshal([]byte(got.body), &set) != nil || set.ValueSetID != id {
			t.Errorf("%s: got %d %s", id, got.status, got.body)
		}
	}
	if got := w.call(w.ie, "GET", "/valuesets/none", ""); got.status != 404 || got.code() != "0x100" {
		t.Errorf("unknown: got %d %s", got.status, got.body)
	}
}

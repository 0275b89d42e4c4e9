package portal

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/hcert/barcode"
)

func TestAProfessionalSignsInAndIssuesAVaccinationCertificate(t *testing.T) {
	w, c := newWorld(t), browser(t)
	if p := visit(t, c, w.url); p.status != 200 || !strings.Contains(p.body, `href="/auth/login"`) {
		t.Fatalf("start page: got %d %s", p.status, p.body)
	}
	form := w.filled(t, c)
	p := submit(t, c, w.url+"/vaccination", form)
	if p.status != 200 || !strings.Contains(p.body, "Certificate issued") || !strings.Contains(p.body, "ABCD2345") {
		t.Fatalf("got %d %s", p.status, p.body)
	}
	hc1 := html.UnescapeString(regexp.MustCompile(`id="hc1">([^<]+)<`).FindStringSubmatch(p.body)[1])
	cert, err := new(hcert.Decoder).Decode(hc1)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(cert.Payload.Tree)
	if err != nil {
		t.Fatal(err)
	}
	var dcc hcert.DCC
	if err := json.Unmarshal(raw, &dcc); err != nil {
		t.Fatal(err)
	}
	if dcc.Name.FamilyStandardised != "NI<BHRIAIN<MUELLER" || dcc.Name.GivenStandardised != "SAOIRSE" || dcc.DateOfBirth != "1988-04-12" ||
		dcc.Vaccinations[0].Manufacturer != "ORG-100030215" || dcc.Vaccinations[0].Prophylaxis != "1119349007" || dcc.Vaccinations[0].Date != "2026-02-01" {
		t.Errorf("got %+v", dcc)
	}
	if !strings.Contains(p.body, dcc.Vaccinations[0].ID) {
		t.Error("the page does not show the UVCI")
	}
	got := w.received()
	if len(got) != 1 || got[0].professional != nurseID || got[0].authorization != "Bearer token-for-api://dgca-issuance-service" {
		t.Errorf("issuance service received %+v", got)
	}
	for _, private := range []string{"Bhriain", "Saoirse", "1988", hc1, dcc.Vaccinations[0].ID, "ABCD2345"} {
		if strings.Contains(w.log.String(), private) {
			t.Errorf("the log holds %q", private)
		}
	}
	if !strings.Contains(w.log.String(), nurseID) {
		t.Error("the log does not say who issued")
	}
	if cc, csp := p.header.Get("Cache-Control"), p.header.Get("Content-Security-Policy"); cc != "no-store" || !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("got Cache-Control %q, Content-Security-Policy %q", cc, csp)
	}

	// The same form again, as a reload sends it, issues nothing.
	if p := submit(t, c, w.url+"/vaccination", form); p.status != http.StatusConflict || len(w.received()) != 1 {
		t.Errorf("sent twice: got %d, %d certificates", p.status, len(w.received()))
	}
}

func TestTheDrawnCodeIsTheCertificate(t *testing.T) {
	text := "HC1:6BF+70790T9WJWG.FKY*4GO0.O1CV2 O5 N2FBBRW1*70HS8WY04AC*WIFN0AHCD8KD97TK0F90KECTHGWJC0FDC:5AIA%G7X+AQB9746HS80:54IBQF60R6$A80X6S1BTYACG6M+9XG8KIAWNA91AY%67092L4WJCT3EHS8XJC$+DXJCCWENF6OF63W5NW6WF6%JC QE/IAYJC5LEW34U3ET7DXC9 QE-ED8%E.JCBECB1A-:8$96646AL60A60S6Q$D.UDRYA 96NF6L/5QW6307KQEPD09WEQDD+Q6TW6FA7C466KCN9E%961A6DL6FA7D46JPCT3E5JDLA7$Q6E464W5TG6..DX%DZJC6/DTZ9 QE5$CB$DA/D JC1/D3Z8WED1ECW.CCWE.Y92OAGY8MY9L+9MPCG/D5 C5IA5N9$PC5$CUZCY$5Y$527BHB6*L8ARHDJL.Q7*2T7:SCNFZN70H6*AS6+T$D9UCAD97R8NIBO+/RJVE$9PAGPTBIZEP MO-Q0:R13IURRQ5MV93M9V3X2U:NDZSF"
	svg, err := qrSVG(text)
	if err != nil {
		t.Fatal(err)
	}
	// Every run of the path must be dark in the picture, and nothing else.
	img, err := barcode.QR(text, 1)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[2]int]bool{}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1`).FindAllStringSubmatch(svg, -1) {
		var x, y, n int
		if _, err := fmt.Sscan(m[1], &x); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(m[2], &y); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(m[3], &n); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			seen[[2]int{x + i, y}] = true
		}
	}
	b := img.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			if dark(img, b.Min.X+x, b.Min.Y+y) != seen[[2]int{x, y}] {
				t.Fatalf("module %d,%d differs", x, y)
			}
		}
	}
	if len(seen) < 1000 {
		t.Errorf("only %d dark modules", len(seen))
	}
}

func TestMistakesAreShownBesideTheirFields(t *testing.T) {
	w, c := newWorld(t), browser(t)
	for name, mistake := range map[string]struct {
		change map[string]string
		field  string
		text   string
	}{
		"no name at all":              {map[string]string{inGiven: "", inFamily: ""}, inFamily, "Enter the family name"},
		"a name that is too long":     {map[string]string{inGiven: strings.Repeat("é", 81)}, inGiven, "80 characters or fewer"},
		"a name in another script":    {map[string]string{inFamily: "李", inGiven: ""}, inFamilyStand, "cannot be derived"},
		"a standardised name in mix":  {map[string]string{inFamilyStand: "NI-BHRIAIN"}, inFamilyStand, "capital letters A to Z"},
		"no date of birth":            {map[string]string{"dob.day": "", "dob.month": "", "dob.year": ""}, inBirth, "Enter the date of birth"},
		"a day without month":         {map[string]string{"dob.month": ""}, inBirth, "must have a month"},
		"31 February":                 {map[string]string{"dob.day": "31", "dob.month": "2"}, inBirth, "not a day of the calendar"},
		"a year of two digits":        {map[string]string{"dob.year": "88"}, inBirth, "year of four digits"},
		"no vaccine":                  {map[string]string{inProduct: ""}, inProduct, "Choose the vaccine"},
		"a vaccine of one's own":      {map[string]string{inProduct: "Aspirin"}, inProduct, "Choose the vaccine"},
		"no dose":                     {map[string]string{inDose: ""}, inDose, "Enter which dose"},
		"the tenth dose":              {map[string]string{inDose: "10"}, inDose, "from 1 to 9"},
		"an incomplete vaccination":   {map[string]string{"v.dt.day": ""}, inDate, "must have a day"},
		"a vaccination next week":     {map[string]string{"v.dt.day": "8", "v.dt.month": "3"}, inDate, "must not be in the future"},
		"no issuer":                   {map[string]string{inIssuer: " "}, inIssuer, "Enter the certificate issuer"},
		"a control character, hidden": {map[string]string{inIssuer: "HSE\x00"}, inIssuer, "cannot be used"},
	} {
		form := w.filled(t, c)
		for k, v := range mistake.change {
			form.Set(k, v)
		}
		p := submit(t, c, w.url+"/vaccination", form)
		said := regexp.MustCompile(`id="` + regexp.QuoteMeta(mistake.field) + `-error">(.*?)</p>`).FindStringSubmatch(p.body)
		if p.status != http.StatusUnprocessableEntity || said == nil || !strings.Contains(said[1], mistake.text) {
			t.Errorf("%s: got %d, beside the field %q", name, p.status, said)
		}
		if !strings.Contains(p.body, "There is a problem") || !strings.Contains(p.body, `value="Health Service Executive"`) && mistake.field != inIssuer {
			t.Errorf("%s: no summary, or the form lost its content", name)
		}
	}
	if n := len(w.received()); n != 0 {
		t.Errorf("%d mistakes reached the issuance service", n)
	}
}

func TestPartialDatesOfBirthAreTaken(t *testing.T) {
	w, c := newWorld(t), browser(t)
	for want, change := range map[string]map[string]string{"1988": {"dob.day": "", "dob.month": ""}, "1988-04": {"dob.day": ""}} {
		form := w.filled(t, c)
		for k, v := range change {
			form.Set(k, v)
		}
		if p := submit(t, c, w.url+"/vaccination", form); p.status != 200 {
			t.Errorf("%s: got %d", want, p.status)
			continue
		}
		got := w.received()
		if born := got[len(got)-1].payload.DateOfBirth; born != want {
			t.Errorf("got %q, want %q", born, want)
		}
	}
}

func TestWhatTheIssuanceServiceRefusesReachesItsField(t *testing.T) {
	w, c := newWorld(t), browser(t)
	refuse := func(status int, body any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.answer = func(rw http.ResponseWriter, _ []byte) {
			rw.WriteHeader(status)
			_ = json.NewEncoder(rw).Encode(body)
		}
	}
	problem := wire.IssueProblem{ProblemReport: wire.ProblemReport{Code: "InvalidDCC", Problem: "The data was refused", Details: "correct the fields"}}
	problem.Fields = []wire.FieldError{{Field: "v[0].dn", Why: "must not exceed sd"}}
	refuse(400, problem)
	form := w.filled(t, c)
	p := submit(t, c, w.url+"/vaccination", form)
	if p.status != 400 || !strings.Contains(p.body, `id="v.dn-error"`) || !strings.Contains(p.body, "must not exceed sd") {
		t.Errorf("a field: got %d", p.status)
	}
	problem.Fields = []wire.FieldError{{Field: "v[0].zz", Why: "is odd"}}
	refuse(400, problem)
	if p := submit(t, c, w.url+"/vaccination", w.filled(t, c)); p.status != 400 || !strings.Contains(p.body, "is odd") || !strings.Contains(p.body, "InvalidDCC") {
		t.Errorf("an unknown field: got %d", p.status)
	}
	refuse(503, wire.IssueProblem{ProblemReport: wire.ProblemReport{Code: "SignerUnavailable", Problem: "The key could not be used", Details: "the vault answered 403 Forbidden (ForbiddenByRbac)"}})
	if p := submit(t, c, w.url+"/vaccination", w.filled(t, c)); p.status != 503 || !strings.Contains(p.body, "ForbiddenByRbac") || !strings.Contains(p.body, `value="Saoirse"`) {
		t.Errorf("a vault's refusal: got %d", p.status)
	}
	refuse(403, wire.IssueProblem{ProblemReport: wire.ProblemReport{Code: "Forbidden", Problem: "Caller may not issue"}})
	if p := submit(t, c, w.url+"/vaccination", w.filled(t, c)); p.status != 502 || !strings.Contains(p.body, "IssuanceRefusedPortal") {
		t.Errorf("a refusal of the portal: got %d", p.status)
	}
	refuse(200, map[string]string{"nothing": "here"})
	if p := submit(t, c, w.url+"/vaccination", w.filled(t, c)); p.status != 502 || !strings.Contains(p.body, "IssuanceConfused") {
		t.Errorf("no certificate: got %d", p.status)
	}
	w.mu.Lock()
	w.noToken = errors.New("no identity")
	w.mu.Unlock()
	if p := submit(t, c, w.url+"/vaccination", w.filled(t, c)); p.status != 503 || !strings.Contains(p.body, "IdentityUnavailable") {
		t.Errorf("no token: got %d", p.status)
	}
}

func payload(t *testing.T) string {
	t.Helper()
	raw, err := json.Marshal(hcert.DCC{Version: "1.3.0", Name: hcert.Name{Family: "Murphy", FamilyStandardised: "MURPHY"}, DateOfBirth: "1970-01-02",
		Recoveries: []hcert.Recovery{{Target: "840539006", FirstPositive: "2026-01-01", Country: "IE", Issuer: "HSE", ValidFrom: "2026-01-12", ValidUntil: "2026-06-30"}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func (w *world) api(t *testing.T, c *http.Client, method, path, body string, header ...string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	p := do(t, c, r)
	var answer map[string]any
	if err := json.Unmarshal([]byte(p.body), &answer); err != nil {
		t.Fatalf("%s %s: %d, not JSON: %s", method, path, p.status, p.body)
	}
	return p.status, answer
}

func TestACommandLineIssuesWithAPersonsToken(t *testing.T) {
	w, c := newWorld(t), browser(t)
	person := map[string]any{"aud": Audience, "oid": nurseID, "upn": "professional@verdant.localhost", "scp": "user_impersonation", "roles": []string{"Certificate.Issuer"}}
	status, cert := w.api(t, c, "POST", "/api/certificates?qr=png", payload(t), "Authorization", "Bearer "+w.token(t, person))
	if status != 200 || cert["tan"] != "ABCD2345" || cert["expires"] != "2027-03-01T09:00:00Z" {
		t.Fatalf("got %d %v", status, cert)
	}
	png, err := base64.StdEncoding.DecodeString(cert["qrPng"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := barcode.Read(strings.NewReader(string(png))); err != nil || text != cert["hc1"] {
		t.Errorf("the picture says %q, %v", text, err)
	}
	if got := w.received(); len(got) != 1 || got[0].professional != nurseID {
		t.Errorf("issuance service received %+v", got)
	}
	with := func(name string, value any) string {
		claims := map[string]any{name: value}
		for k, v := range person {
			if k != name {
				claims[k] = v
			}
		}
		return "Bearer " + w.token(t, claims)
	}
	for name, refusal := range map[string]struct {
		token, body, kind string
		status            int
		code              string
	}{
		"no token":                    {"", payload(t), "application/json", 401, "SignInNeeded"},
		"a token for another service": {with("aud", "https://vault.azure.net"), payload(t), "application/json", 401, "InvalidToken"},
		"an ID token":                 {with("aud", clientID), payload(t), "application/json", 401, "InvalidToken"},
		"an expired token":            {with("exp", 1), payload(t), "application/json", 401, "InvalidToken"},
		"a person without the role":   {with("roles", []string{"Reader"}), payload(t), "application/json", 403, "MissingRole"},
		"an application":              {with("idtyp", "app"), payload(t), "application/json", 403, "NotAPerson"},
		"a token without permission":  {with("scp", ""), payload(t), "application/json", 403, "NotAPerson"},
		"a form":                      {with("oid", nurseID), "a=b", "application/x-www-form-urlencoded", 415, "UnsupportedMediaType"},
		"broken JSON":                 {with("oid", nurseID), "{", "application/json", 400, "InvalidDCC"},
		"a body over the limit":       {with("oid", nurseID), strings.Repeat(" ", 65<<10), "application/json", 413, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/api/certificates", strings.NewReader(refusal.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", refusal.kind)
		if refusal.token != "" {
			r.Header.Set("Authorization", refusal.token)
		}
		p := do(t, browser(t), r)
		if p.status != refusal.status || !strings.Contains(p.body, refusal.code) {
			t.Errorf("%s: got %d %s, want %d %s", name, p.status, p.body, refusal.status, refusal.code)
		}
	}
	status, answer := w.api(t, c, "POST", "/api/certificates", strings.Replace(payload(t), `"dob":"1970-01-02"`, `"dob":"yesterday"`, 1), "Authorization", with("oid", nurseID))
	fields, _ := answer["fields"].([]any)
	if status != 400 || len(fields) == 0 || fields[0].(map[string]any)["field"] != "dob" {
		t.Errorf("a wrong date: got %d %v, want the field dob named", status, answer)
	}
	if status, me := w.api(t, c, "GET", "/api/me", "", "Authorization", with("oid", nurseID)); status != 200 || me["objectId"] != nurseID || me["mayIssue"] != true {
		t.Errorf("me: got %d %v", status, me)
	}
}

func TestACookieAloneIssuesNothing(t *testing.T) {
	w, c := newWorld(t), browser(t)
	if status, _ := w.api(t, c, "GET", "/api/me", ""); status != 401 {
		t.Errorf("me before sign-in: got %d", status)
	}
	visit(t, c, w.url+"/auth/login")
	_, me := w.api(t, c, "GET", "/api/me", "")
	csrf, _ := me["csrf"].(string)
	if csrf == "" || me["name"] != "Niamh Professional" {
		t.Fatalf("me: got %v", me)
	}
	for name, header := range map[string][]string{
		"without the code":       {"Sec-Fetch-Site", "same-origin"},
		"with another code":      {"X-CSRF-Token", csrf + "x"},
		"from another site":      {"X-CSRF-Token", csrf, "Sec-Fetch-Site", "cross-site"},
		"from another subdomain": {"X-CSRF-Token", csrf, "Origin", "https://evil.verdant.localhost"},
	} {
		if status, answer := w.api(t, c, "POST", "/api/certificates", payload(t), header...); status != 403 || answer["code"] != "CrossSite" {
			t.Errorf("%s: got %d %v", name, status, answer)
		}
	}
	if status, answer := w.api(t, c, "POST", "/api/certificates", payload(t), "X-CSRF-Token", csrf, "Sec-Fetch-Site", "same-origin"); status != 200 {
		t.Errorf("as the page sends it: got %d %v", status, answer)
	}
	if p := submit(t, c, w.url+"/vaccination", w.filled(t, c), "Sec-Fetch-Site", "cross-site"); p.status != 403 {
		t.Errorf("the form from another site: got %d", p.status)
	}
	form := w.filled(t, c)
	form.Set("form", "guess")
	if p := submit(t, c, w.url+"/vaccination", form); p.status != 409 {
		t.Errorf("a form that was not shown: got %d", p.status)
	}
	if n := len(w.received()); n != 1 {
		t.Errorf("%d certificates were issued, want 1", n)
	}
}

func TestSomebodyWithoutTheRoleSeesWhy(t *testing.T) {
	w, c := newWorld(t), browser(t)
	w.user = map[string]any{"oid": clerkID, "name": "Ciara Citizen", "preferred_username": "citizen@verdant.localhost"}
	p := visit(t, c, w.url+"/vaccination")
	if p.status != 403 || !strings.Contains(p.body, "You may not issue") || strings.Contains(p.body, `name="form"`) {
		t.Errorf("got %d %s", p.status, p.body)
	}
	if p := submit(t, c, w.url+"/vaccination", url.Values{}); p.status != 403 {
		t.Errorf("posting anyway: got %d", p.status)
	}
}

func TestSignInsAreBoundToTheirBrowser(t *testing.T) {
	w := newWorld(t)
	victim, attacker := browser(t), browser(t)
	attacker.CheckRedirect = noRedirect
	start := visit(t, attacker, w.url+"/auth/login")
	atLogin := visit(t, attacker, start.header.Get("Location"))
	stolen := atLogin.header.Get("Location") // the callback with the attacker's code
	visit(t, victim, w.url+"/auth/login")
	visit(t, victim, w.url+"/")
	if p := visit(t, victim, stolen); p.status != 400 || !strings.Contains(p.body, "not begun in this browser") {
		t.Errorf("another browser's sign-in: got %d", p.status)
	}
	if p := visit(t, attacker, strings.Replace(stolen, "state=", "state=A", 1)); p.status != 400 {
		t.Errorf("another state: got %d", p.status)
	}
	u, err := url.Parse(stolen)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("code", "invented")
	if p := visit(t, attacker, w.url+"/auth/callback?"+q.Encode()); p.status != 502 || !strings.Contains(p.body, "AADSTS501481") {
		t.Errorf("an invented code: got %d", p.status)
	}
	w.user["nonce"] = "another sign-in's"
	if p := visit(t, browser(t), w.url+"/auth/login"); p.status != 502 || !strings.Contains(w.log.String(), "nonce") {
		t.Errorf("an ID token of another sign-in: got %d", p.status)
	}
	delete(w.user, "nonce")
	w.pass(attemptLife + time.Second)
	if p := visit(t, attacker, stolen); p.status != 400 {
		t.Errorf("too late: got %d", p.status)
	}
	w.refuse = "AADSTS50105: <script>alert(1)</script> you win a prize"
	if p := visit(t, browser(t), w.url+"/auth/login"); p.status != 403 || !strings.Contains(p.body, "AADSTS50105") || strings.Contains(p.body, "prize") {
		t.Errorf("a refusal: got %d %s", p.status, p.body)
	}
}

func TestReturnAddressesStayInThePortal(t *testing.T) {
	for given, want := range map[string]string{"/vaccination": "/vaccination", "/api/me?x=1": "/api/me?x=1", "": "/vaccination", "//evil.test/": "/vaccination",
		"https://evil.test/": "/vaccination", `/\evil.test`: "/vaccination", "evil": "/vaccination", "/\r\nSet-Cookie: x": "/vaccination"} {
		if got := localPath(given); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

func TestAReplacedClientSecretIsReadAgain(t *testing.T) {
	w := newWorld(t)
	visit(t, browser(t), w.url+"/auth/login")
	visit(t, browser(t), w.url+"/auth/login")
	if w.secrets != 1 {
		t.Errorf("two sign-ins read the vault %d times, want once", w.secrets)
	}
	w.secret = "another-secret-another-secret-another"
	if p := visit(t, browser(t), w.url+"/auth/login"); p.status != 200 || !strings.Contains(p.body, "Record a vaccination") {
		t.Errorf("after a rotation: got %d", p.status)
	}
}

func TestSessionsEnd(t *testing.T) {
	w, c := newWorld(t), browser(t)
	me := func() int {
		status, _ := w.api(t, c, "GET", "/api/me", "")
		return status
	}
	visit(t, c, w.url+"/auth/login")
	for range 17 {
		w.pass(sessionIdle - time.Second)
		if w.time().Sub(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)) < sessionLife && me() != 200 {
			t.Fatal("a session in use ended early")
		}
	}
	if me() != 401 {
		t.Error("a session outlived its longest life")
	}
	visit(t, c, w.url+"/auth/login")
	w.pass(sessionIdle)
	if me() != 401 {
		t.Error("an idle session went on")
	}
	visit(t, c, w.url+"/auth/login")
	if p := submit(t, c, w.url+"/auth/logout", nil, "Sec-Fetch-Site", "cross-site"); p.status != 403 || me() != 200 {
		t.Errorf("signed out by another site: got %d", p.status)
	}
	if p := submit(t, c, w.url+"/auth/logout", nil); !strings.Contains(p.body, "You are signed out") || me() != 401 {
		t.Errorf("after signing out: at %s", p.url)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s, now := newSessions(), time.Unix(1_800_000_000, 0)
	for i := range maxSessions + 10 {
		s.add(fmt.Sprint(i), person{objectID: fmt.Sprint(i)}, "", now)
	}
	if n := len(s.byKey); n != maxSessions || s.order.Len() != n {
		t.Errorf("%d sessions are kept, want %d", n, maxSessions)
	}
	if s.get("0", now) != nil || s.get(fmt.Sprint(maxSessions), now) == nil {
		t.Error("not the oldest were dropped")
	}
	sess := s.get(fmt.Sprint(maxSessions), now)
	for i := range maxForms + 1 {
		s.offerForm(sess, fmt.Sprint("form", i))
	}
	if s.takeForm(sess, "form0") || !s.takeForm(sess, "form1") || s.takeForm(sess, "form1") || s.takeForm(sess, "") {
		t.Error("forms are not used once, or not bounded")
	}
}

// FuzzFormsMakeValidPayloadsOrComplain holds the form to the schema: what it
// lets pass, the schema takes.
func FuzzFormsMakeValidPayloadsOrComplain(f *testing.F) {
	f.Add("nam.fn=A&nam.gn=B&dob.year=1988&v.tg=840539006&v.mp=EU%2F1%2F20%2F1528&v.dn=1&v.sd=2&v.dt.day=1&v.dt.month=2&v.dt.year=2026&v.co=IE&v.is=HSE")
	f.Add("nam.fn=%C3%9F&dob.day=29&dob.month=2&dob.year=2024&v.tg=840539006&v.mp=EU/1/20/1507&v.dn=9&v.sd=1&v.dt.day=%2B1&v.dt.month=2&v.dt.year=2026&v.co=IE&v.is=HSE")
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		form := &vaccinationForm{values: values, errors: map[string]string{}}
		dcc := form.payload(now)
		if len(form.errors) > 0 {
			if len(form.summaries()) != len(form.errors) {
				t.Fatalf("a complaint without a place: %v", form.errors)
			}
			return
		}
		dcc.SetID("URN:UVCI:01:IE:X#9")
		raw, err := json.Marshal(dcc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hcert.ParseDCC(raw); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	})
}

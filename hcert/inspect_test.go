package hcert

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"verdant/hcert/valueset"
)

// codes writes findings as "code path" lines.
func codes(findings []Finding) []string {
	out := []string{}
	for _, f := range findings {
		out = append(out, string(f.Code)+" "+f.Path)
	}
	return out
}

func edit(d *DCC, change func(d *DCC)) map[string]any {
	change(d)
	return d.Tree()
}

func cleanVaccination() *DCC {
	d := vaccination()
	d.SetID("URN:UVCI:01:IE:52D0DC929C884CF8998A7987")
	return d
}

func cleanTest() *DCC {
	d := testResult()
	d.Name.Family, d.Name.Given = "Murphy", "Seán"
	return d
}

func cleanRecovery() *DCC {
	d := recovery()
	d.Name = Name{Given: "Sukarno", GivenStandardised: "SUKARNO"}
	return d
}

func TestEachRuleIsReportedOnItsOwn(t *testing.T) {
	in := Inspection{ValueSets: valueset.Builtin(), At: start, Claims: &Claims{Issuer: "IE", IssuedAt: start}}
	v := func(change func(v *Vaccination)) map[string]any {
		return edit(cleanVaccination(), func(d *DCC) { change(&d.Vaccinations[0]) })
	}
	test := func(change func(t *Test)) map[string]any {
		return edit(cleanTest(), func(d *DCC) { change(&d.Tests[0]) })
	}
	r := func(change func(r *Recovery)) map[string]any {
		return edit(cleanRecovery(), func(d *DCC) { change(&d.Recoveries[0]) })
	}
	with := func(tree map[string]any, key string, value any) map[string]any {
		tree[key] = value
		return tree
	}
	for name, c := range map[string]struct {
		tree map[string]any
		want string // lines joined by "; "
	}{
		"a proper vaccination": {cleanVaccination().Tree(), ""},
		"a proper test":        {cleanTest().Tree(), ""},
		"a proper recovery":    {cleanRecovery().Tree(), ""},

		"two groups":          {with(cleanVaccination().Tree(), "r", cleanRecovery().Tree()["r"]), "group-count v, t, r"},
		"no group":            {with(cleanVaccination().Tree(), "v", nil), "group-count v, t, r"},
		"two entries":         {edit(cleanVaccination(), func(d *DCC) { d.Vaccinations = append(d.Vaccinations, d.Vaccinations[0]) }), "entry-count v"},
		"no entry":            {with(cleanVaccination().Tree(), "v", []any{}), "entry-count v"},
		"a third of two":      {v(func(v *Vaccination) { v.Dose = 3 }), "dose-order v[0].dn"},
		"a booster after one": {v(func(v *Vaccination) { v.Dose, v.Doses = 3, 1 }), ""},
		"the third of three":  {v(func(v *Vaccination) { v.Dose, v.Doses = 3, 3 }), ""},

		"vaccinated before birth":              {v(func(v *Vaccination) { v.Date = "1980-02-28" }), "birth-order v[0].dt"},
		"vaccinated on the day of birth":       {v(func(v *Vaccination) { v.Date = "1980-02-29" }), ""},
		"tested before the year of birth":      {test(func(t *Test) { t.Collected = "1979-12-31T00:00:00Z" }), "birth-order t[0].sc"},
		"tested in the year of birth":          {test(func(t *Test) { t.Collected = "1980-01-01T00:00:00Z" }), ""},
		"vaccinated tomorrow, in some zone":    {v(func(v *Vaccination) { v.Date = "2026-01-16" }), ""},
		"vaccinated the day after":             {v(func(v *Vaccination) { v.Date = "2026-01-17" }), "in-future v[0].dt"},
		"born in the future":                   {edit(cleanRecovery(), func(d *DCC) { d.DateOfBirth = "2027" }), "in-future dob; birth-order r[0].fr"},
		"valid from before the test":           {r(func(r *Recovery) { r.ValidFrom = "2025-12-31" }), "recovery-order r[0].df"},
		"valid until before it is valid":       {r(func(r *Recovery) { r.ValidUntil = "2026-01-11" }), "recovery-order r[0].du"},
		"valid from the tenth day":             {r(func(r *Recovery) { r.ValidFrom = "2026-01-11" }), "recovery-early r[0].df"},
		"valid for 181 days":                   {r(func(r *Recovery) { r.ValidUntil = "2026-07-01" }), "recovery-long r[0].du"},
		"dates with time parts":                {r(func(r *Recovery) { r.FirstPositive += "T00:00:00"; r.ValidFrom += "T00:00:00Z" }), "date-form r[0].fr; date-form r[0].df"},
		"a result before its sample":           {edit(cleanTest(), func(d *DCC) { d.Version = "1.0.0"; d.Tests[0].Resulted = "2026-01-13T09:30:00Z" }), "result-order t[0].dr"},
		"a sample without zone":                {test(func(t *Test) { t.Collected = "2026-01-14T09:30:00" }), "time-zone t[0].sc"},
		"a zone without colon, and a fraction": {test(func(t *Test) { t.Collected = "2026-01-14T09:30:00.123+0100" }), "time-subsecond t[0].sc; time-form t[0].sc"},
		"a blank between date and time":        {test(func(t *Test) { t.Collected = "2026-01-14 09:30Z" }), "time-form t[0].sc; time-form t[0].sc"},
		"a birth with time part, as in 1.0.0":  {edit(cleanVaccination(), func(d *DCC) { d.Version, d.DateOfBirth = "1.0.0", "1980-02-29T00:00:00" }), "date-form dob"},
		"a version that never was":             {edit(cleanVaccination(), func(d *DCC) { d.Version = "1.4.2" }), "version-unreleased ver"},
		"a product that nobody knows":          {v(func(v *Vaccination) { v.Product = "EU/1/30/9999" }), "code-missing v[0].mp"},
		"a product that was withdrawn": {v(func(v *Vaccination) {
			v.Product, v.Manufacturer, v.Prophylaxis = "NVX-CoV2373", "ORG-100032020", "1162643001"
		}), "code-inactive v[0].mp"},
		"another holder than the product's":     {v(func(v *Vaccination) { v.Manufacturer = "ORG-100031184" }), "vaccine-holder v[0].ma"},
		"another type than the product's":       {v(func(v *Vaccination) { v.Prophylaxis = "1157024006" }), "vaccine-type v[0].vp"},
		"a disease that nobody knows":           {v(func(v *Vaccination) { v.Target = "1" }), "code-missing v[0].tg"},
		"a country in small letters":            {v(func(v *Vaccination) { v.Country = "ie" }), "country-form v[0].co"},
		"a country that does not exist":         {v(func(v *Vaccination) { v.Country = "XZ" }), "code-missing v[0].co"},
		"a rapid test without device":           {test(func(t *Test) { t.Type = "LP217198-3" }), "test-identity t[0].ma"},
		"a NAA test without name":               {test(func(t *Test) { t.Name = "" }), "test-identity t[0].nm"},
		"an unknown device":                     {test(func(t *Test) { t.Type, t.Device = "LP217198-3", "1" }), "code-missing t[0].ma"},
		"a wrong check character":               {v(func(v *Vaccination) { v.ID += "#0" }), "uvci-check v[0].ci"},
		"an identifier without prefix":          {v(func(v *Vaccination) { v.ID = "01:IE:ABC" }), "uvci-form v[0].ci"},
		"an identifier in small letters":        {v(func(v *Vaccination) { v.ID = "urn:uvci:01:ie:abc" }), "uvci-form v[0].ci"},
		"an identifier of another country":      {v(func(v *Vaccination) { v.ID = "URN:UVCI:01:FR:ABC" }), "uvci-country v[0].ci"},
		"blank issuer and identifier":           {v(func(v *Vaccination) { v.ID, v.Issuer = " ", "" }), "text-blank v[0].is; text-blank v[0].ci"},
		"a form that is not the name's":         {edit(cleanVaccination(), func(d *DCC) { d.Name.FamilyStandardised = "NI<MURCHU" }), "name-match nam.fnt"},
		"fillers at the end of the name":        {edit(cleanVaccination(), func(d *DCC) { d.Name.GivenStandardised = "AINE<" }), "name-form nam.gnt"},
		"a name in standardised form only":      {edit(cleanVaccination(), func(d *DCC) { d.Name.Given = "" }), "name-missing nam.gn"},
		"a field that no schema has":            {with(cleanVaccination().Tree(), "extra", "secret"), "field-unknown "},
		"things of wrong type are passed over":  {map[string]any{"ver": 1, "nam": []any{}, "dob": nil, "v": []any{1, map[string]any{"dn": "x", "dt": 5}}}, "version-unreleased ver; entry-count v; country-form v[1].co"},
		"a group that is no list":               {map[string]any{"ver": "1.3.0", "t": "x"}, ""},
		"a vaccination after the issue, in law": {v(func(v *Vaccination) { v.Date = "2026-01-16T23:00:00" }), "date-form v[0].dt"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(codes(in.Inspect(c.tree)), "; "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	later := in
	later.At = start.AddDate(0, 1, 0)
	if got := codes(later.Inspect(v(func(v *Vaccination) { v.Date = "2026-01-17" }))); !slices.Equal(got, []string{"after-issue v[0].dt"}) {
		t.Errorf("after the issue: got %v", got)
	}
}

func TestFindingsHoldNoValueAndAreBounded(t *testing.T) {
	entries := []any{}
	for range 100 {
		entries = append(entries, map[string]any{"tg": "SECRET", "co": "SECRET", "ci": "SECRET#1", "is": ""})
	}
	found := Inspection{ValueSets: valueset.Builtin()}.Inspect(map[string]any{"ver": "SECRET", "v": entries})
	if len(found) != maxFindings+1 || found[maxFindings].Code != FindTooManyFindings {
		t.Errorf("got %d findings", len(found))
	}
	if s := fmt.Sprint(found); strings.Contains(s, "SECRET") {
		t.Errorf("a finding holds a value: %s", s)
	}
	if got := len(AtLeast(Doubtful, found)); got == 0 || got >= len(found) {
		t.Errorf("got %d of %d", got, len(found))
	}
}

func TestMissingCodesAreReportedNeverFatal(t *testing.T) {
	d := cleanVaccination()
	d.Vaccinations[0].Product = "EU/1/30/9999"
	s := newSigner(t, ecKeyP256(t), 0)
	out, err := s.Issue(t.Context(), d, start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(s.keys, func() time.Time { return start }, Limits{})
	ok, _, err := v.Verify(out.Text)
	if err != nil {
		t.Fatal(err)
	}
	if got := codes(ok.Inspect(valueset.Builtin())); !slices.Equal(got, []string{"code-missing v[0].mp"}) {
		t.Errorf("got %v", got)
	}
	if got := ok.Inspect(nil); len(got) != 0 {
		t.Errorf("without value sets: got %v", codes(got))
	}
}

// TestPublicCertificatesHaveTheseFindings reads the schema's examples, which
// are right, and the public samples, which show what is in circulation.
func TestPublicCertificatesHaveTheseFindings(t *testing.T) {
	examples, _ := filepath.Glob(schemas + "/examples/*/*.json")
	samples, _ := filepath.Glob("../../shared/data/dcc/*/2DCode/*aw/*.json")
	if len(examples) == 0 || len(samples) == 0 {
		t.Skip("public data is not beside the repository")
	}
	in := Inspection{ValueSets: valueset.Builtin()}
	for _, name := range examples {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := ParseTree(src)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range AtLeast(Doubtful, in.Inspect(tree)) {
			t.Errorf("%s: %s %s", filepath.Base(name), f.Code, f.Path)
		}
	}
	seen := map[FindingCode]int{}
	for _, name := range samples {
		var sample struct{ JSON json.RawMessage }
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(src, &sample) != nil || sample.JSON == nil {
			continue
		}
		tree, err := ParseTree(sample.JSON)
		if err != nil {
			continue
		}
		for _, f := range in.Inspect(tree) {
			seen[f.Code]++
			if f.Code == FindNameMatch {
				t.Logf("%s: %s %s", name, f.Code, f.Path)
			}
		}
	}
	t.Logf("findings of %d samples: %v", len(samples), seen)
}

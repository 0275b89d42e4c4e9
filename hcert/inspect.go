package hcert

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"verdant/hcert/valueset"
)

// Severity says what a Finding means.
type Severity string

// The severities, the worst first.
const (
	// Wrong: the payload contradicts itself or the specification. No issuer
	// may write this; what is in circulation with it is still genuine.
	Wrong Severity = "wrong"
	// Doubtful: it may be right, but somebody should look.
	Doubtful Severity = "doubtful"
	// Remark: it is read all the same, but is not written as it should be.
	Remark Severity = "remark"
)

// FindingCode names a rule that a JSON Schema cannot say. Codes are stable.
type FindingCode string

// The rules, each reported on its own.
const (
	FindGroupCount      FindingCode = "group-count"        // not exactly one of v, t and r
	FindEntryCount      FindingCode = "entry-count"        // not exactly one entry in it
	FindDoseOrder       FindingCode = "dose-order"         // dn above sd, and no booster after a single dose
	FindBirthOrder      FindingCode = "birth-order"        // born after what is certified
	FindRecoveryOrder   FindingCode = "recovery-order"     // not fr ≤ df ≤ du
	FindResultOrder     FindingCode = "result-order"       // a result before its sample
	FindRecoveryEarly   FindingCode = "recovery-early"     // df before the 11th day after fr
	FindRecoveryLong    FindingCode = "recovery-long"      // du over 180 days after fr
	FindInFuture        FindingCode = "in-future"          // a date after the time of inspection
	FindAfterIssue      FindingCode = "after-issue"        // a date after the certificate's issue
	FindDateForm        FindingCode = "date-form"          // a date with a time part
	FindTimeZone        FindingCode = "time-zone"          // a time without zone
	FindTimeForm        FindingCode = "time-form"          // a zone or separator that RFC 3339 does not have
	FindSubsecond       FindingCode = "time-subsecond"     // fractions of a second
	FindCodeMissing     FindingCode = "code-missing"       // a code that its value set does not have
	FindCodeInactive    FindingCode = "code-inactive"      // a code that is not issued any more
	FindCountryForm     FindingCode = "country-form"       // not two capitals
	FindVaccineHolder   FindingCode = "vaccine-holder"     // a holder that is not the product's
	FindVaccineType     FindingCode = "vaccine-type"       // a type that is not the product's
	FindTestIdentity    FindingCode = "test-identity"      // no name of the NAA test or no device of the rapid test
	FindUVCIForm        FindingCode = "uvci-form"          // not URN:UVCI:…, or in lower case
	FindUVCICheck       FindingCode = "uvci-check"         // a wrong check character
	FindUVCICountry     FindingCode = "uvci-country"       // another country than the issuer's
	FindNameMatch       FindingCode = "name-match"         // a standardised name that is not the name's
	FindNameForm        FindingCode = "name-form"          // fillers at an end, or in a row
	FindNameMissing     FindingCode = "name-missing"       // a name in standardised form only, or the reverse
	FindTextBlank       FindingCode = "text-blank"         // required text that is blank
	FindVersionUnknown  FindingCode = "version-unreleased" // a ver that was never released
	FindFieldUnknown    FindingCode = "field-unknown"      // a field that no schema has
	FindTooManyFindings FindingCode = "more"               // there is more than is listed
)

// Finding is one thing about a payload that its schema does not see.
type Finding struct {
	Code     FindingCode `json:"code"`
	Severity Severity    `json:"severity"`
	// Path is the place, such as v[0].dn.
	Path string `json:"path"`
	// Why never holds a value of the payload.
	Why string `json:"why"`
}

// Inspection says against what a payload is held. Its zero value looks at the
// payload alone.
type Inspection struct {
	// ValueSets are consulted for codes; nil consults none.
	ValueSets *valueset.Sets
	// At finds dates in the future; a day of grace covers time zones. The zero
	// time finds none.
	At time.Time
	// Claims finds dates after the issue; nil finds none.
	Claims *Claims
}

// maxFindings bounds what one inspection lists.
const maxFindings = 50

// Inspect holds a payload against the rules that a JSON Schema cannot say. It
// does not repeat what Validate finds, and takes any tree: what has the wrong
// type is passed over. Findings come in the order of the payload.
func (i Inspection) Inspect(tree map[string]any) []Finding {
	p := inspector{Inspection: i, tree: tree, birth: text(tree, "dob")}
	if !i.At.IsZero() {
		p.today = i.At.UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	}
	if i.Claims != nil && !i.Claims.IssuedAt.IsZero() {
		p.issued = i.Claims.IssuedAt.UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	}
	p.root()
	p.name()
	for _, g := range groups {
		list, _ := tree[g.key].([]any)
		for n, e := range list {
			if entry, ok := e.(map[string]any); ok {
				p.entry(entry, at{g.key, n}, g.kind)
			}
		}
	}
	return p.found
}

// Inspect holds the payload against the rules that a schema cannot say, at the
// time of verification.
func (v *Verified) Inspect(sets *valueset.Sets) []Finding {
	if v.u.Payload == nil {
		return nil
	}
	return Inspection{ValueSets: sets, At: v.at, Claims: v.u.Claims}.Inspect(v.u.Payload.Tree)
}

// AtLeast returns the findings of at least a severity.
func AtLeast(s Severity, findings []Finding) []Finding {
	order := []Severity{Wrong, Doubtful, Remark}
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return slices.Index(order, f.Severity) > slices.Index(order, s) })
}

// inspector is one run of an Inspection over a payload.
type inspector struct {
	Inspection
	tree          map[string]any
	birth         string
	today, issued string // the last days that are not in the future, not after the issue
	found         []Finding
}

func (p *inspector) add(code FindingCode, s Severity, path, why string) {
	switch {
	case len(p.found) < maxFindings:
		p.found = append(p.found, Finding{code, s, path, why})
	case len(p.found) == maxFindings:
		p.found = append(p.found, Finding{FindTooManyFindings, Remark, "", "there is more than is listed"})
	}
}

// released reports whether a version of the schema was ever published.
func released(ver string) bool {
	return slices.Contains([]string{"1.0.0", "1.0.1", "1.1.0", "1.2.0", "1.2.1", "1.3.0", "1.3.1", "1.3.2", "1.3.3"}, ver)
}

func (p *inspector) root() {
	if !released(text(p.tree, "ver")) {
		p.add(FindVersionUnknown, Remark, "ver", "was never the version of a DCC schema")
	}
	if len(p.birth) > 10 {
		p.add(FindDateForm, Remark, "dob", "has a time part")
	}
	p.notAfter(p.birth, "dob")
	p.unknown(p.tree, "", "ver", "nam", "dob", "v", "t", "r")
	present := 0
	for _, g := range groups {
		if p.tree[g.key] == nil {
			continue
		}
		present++
		if list, ok := p.tree[g.key].([]any); ok && len(list) != 1 {
			p.add(FindEntryCount, Wrong, g.key, "must have one entry")
		}
	}
	if present != 1 {
		p.add(FindGroupCount, Wrong, "v, t, r", "exactly one of them must be present")
	}
}

func (p *inspector) unknown(m map[string]any, path string, known ...string) {
	var extra []string
	for k := range m {
		if !slices.Contains(known, k) {
			extra = append(extra, k)
		}
	}
	// Names of unknown fields are the issuer's, and may be anything.
	if len(extra) > 0 {
		p.add(FindFieldUnknown, Remark, path, "has fields that are not the schema's: "+strconv.Itoa(len(extra)))
	}
}

func (p *inspector) name() {
	nam, _ := p.tree["nam"].(map[string]any)
	for _, f := range []struct{ name, standard string }{{"fn", "fnt"}, {"gn", "gnt"}} {
		name, standard := text(nam, f.name), text(nam, f.standard)
		switch {
		case name == "" && standard == "":
		case standard == "":
			p.add(FindNameMissing, Remark, "nam."+f.standard, "is missing beside "+f.name)
		case name == "":
			p.add(FindNameMissing, Remark, "nam."+f.name, "is missing beside "+f.standard)
		case MatchName(name, standard) == NameDifferent:
			p.add(FindNameMatch, Doubtful, "nam."+f.standard, "is not a transliteration of "+f.name+" by ICAO Doc 9303")
		}
		if strings.HasPrefix(standard, "<") || strings.HasSuffix(standard, "<") || strings.Contains(standard, "<<") {
			p.add(FindNameForm, Remark, "nam."+f.standard, "has < at an end or several in a row")
		}
	}
	p.unknown(nam, "nam", "fn", "fnt", "gn", "gnt")
}

func (p *inspector) entry(e map[string]any, where at, kind Kind) {
	place := where.String()
	p.code(e, place, "tg", valueset.Diseases)
	switch kind {
	case KindVaccination:
		p.vaccination(e, place)
	case KindTest:
		p.test(e, place)
	case KindRecovery:
		p.recovery(e, place)
	}
	if co := text(e, "co"); len(co) != 2 || !capital(co[0]) || !capital(co[1]) {
		p.add(FindCountryForm, Doubtful, place+".co", "is not two capitals")
	} else {
		p.code(e, place, "co", valueset.Countries)
	}
	for _, key := range []string{"is", "ci"} {
		if s, ok := e[key].(string); ok && strings.TrimSpace(s) == "" {
			p.add(FindTextBlank, Doubtful, place+"."+key, "is blank")
		}
	}
	p.uvci(e, place)
}

func (p *inspector) code(e map[string]any, place, key string, id valueset.ID) {
	code, ok := e[key].(string)
	if !ok || p.ValueSets == nil {
		return
	}
	switch p.ValueSets.Check(id, code) {
	case valueset.Missing:
		severity := Doubtful
		if id == valueset.TestDevices {
			severity = Remark // devices came by the hundred; no copy of the list has all
		}
		p.add(FindCodeMissing, severity, place+"."+key, "is not in the value set "+string(id)+" of "+p.ValueSets.Get(id).Date())
	case valueset.Inactive:
		p.add(FindCodeInactive, Remark, place+"."+key, "is not issued any more, says the value set "+string(id))
	}
}

func (p *inspector) vaccination(e map[string]any, place string) {
	p.unknown(e, place, "tg", "vp", "mp", "ma", "dn", "sd", "dt", "co", "is", "ci")
	p.code(e, place, "vp", valueset.Prophylaxes)
	p.code(e, place, "mp", valueset.Products)
	p.code(e, place, "ma", valueset.Holders)
	// A booster after a single dose is 2/1, 3/1 and so on; after a series of
	// two it is 3/3 (Implementing Decision (EU) 2021/2301, annex II).
	if dn, sd := number(e, "dn"), number(e, "sd"); dn > sd && sd > 1 {
		p.add(FindDoseOrder, Wrong, place+".dn", "must not exceed sd, except for a booster after a vaccine of one dose")
	}
	p.event(e, place, "dt")
	if p.ValueSets == nil {
		return
	}
	product := text(e, "mp")
	for _, v := range valueset.Vaccines() {
		if v.Product != product {
			continue
		}
		if text(e, "ma") != v.Holder {
			p.add(FindVaccineHolder, Doubtful, place+".ma", "is not the product's holder")
		}
		if !slices.Contains(v.Prophylaxes, text(e, "vp")) {
			p.add(FindVaccineType, Remark, place+".vp", "is not the product's type")
		}
	}
}

// Codes of the test types.
const (
	testNAA   = "LP6464-4"
	testRapid = "LP217198-3"
)

func (p *inspector) test(e map[string]any, place string) {
	p.unknown(e, place, "tg", "tt", "nm", "ma", "sc", "dr", "tr", "tc", "co", "is", "ci")
	p.code(e, place, "tt", valueset.TestTypes)
	p.code(e, place, "tr", valueset.Results)
	if text(e, "ma") != "" {
		p.code(e, place, "ma", valueset.TestDevices)
	}
	switch {
	case text(e, "tt") == testRapid && text(e, "ma") == "":
		p.add(FindTestIdentity, Doubtful, place+".ma", "is missing: a rapid test has a device")
	case text(e, "tt") == testNAA && text(e, "nm") == "" && text(e, "ma") == "":
		p.add(FindTestIdentity, Remark, place+".nm", "is missing: a NAA test has a name")
	}
	p.event(e, place, "sc")
	if _, ok := e["dr"]; ok {
		p.event(e, place, "dr")
		if sc, dr := text(e, "sc"), text(e, "dr"); isDateTime(sc) && isDateTime(dr) && dr[:10] < sc[:10] {
			p.add(FindResultOrder, Wrong, place+".dr", "must not be before sc")
		}
	}
	for _, key := range []string{"sc", "dr"} {
		if s := text(e, key); isDateTime(s) {
			p.timeForm(s, place+"."+key)
		}
	}
}

// timeForm remarks on what RFC 3339 does not have.
func (p *inspector) timeForm(s, path string) {
	rest := s[11:]
	if s[10] != 'T' {
		p.add(FindTimeForm, Remark, path, "has no T between date and time")
	}
	end := strings.IndexAny(rest, "Zz+-")
	if end < 0 {
		p.add(FindTimeZone, Doubtful, path, "has no time zone")
		end = len(rest)
	}
	clock, zone := rest[:end], rest[end:]
	if len(clock) > len("15:04:05") {
		p.add(FindSubsecond, Remark, path, "has fractions of a second")
	}
	if len(clock) < len("15:04:05") {
		p.add(FindTimeForm, Remark, path, "has no seconds")
	}
	if zone != "" && zone != "Z" && len(zone) != len("+01:00") {
		p.add(FindTimeForm, Remark, path, "has a time zone that is not Z or ±hh:mm")
	}
}

func (p *inspector) recovery(e map[string]any, place string) {
	p.unknown(e, place, "tg", "fr", "co", "is", "df", "du", "ci")
	p.event(e, place, "fr")
	fr, df, du := day(text(e, "fr")), day(text(e, "df")), day(text(e, "du"))
	for _, key := range []string{"df", "du"} {
		if len(text(e, key)) > 10 {
			p.add(FindDateForm, Remark, place+"."+key, "has a time part")
		}
	}
	if fr != "" && df != "" && df < fr {
		p.add(FindRecoveryOrder, Wrong, place+".df", "must not be before fr")
	}
	if df != "" && du != "" && du < df {
		p.add(FindRecoveryOrder, Wrong, place+".du", "must not be before df")
	}
	// Regulation (EU) 2021/953, article 7: valid from the 11th day after the
	// test, for 180 days after it.
	if n, ok := days(fr, df); ok && n >= 0 && n < 11 {
		p.add(FindRecoveryEarly, Remark, place+".df", "is before the 11th day after fr")
	}
	if n, ok := days(fr, du); ok && n > 180 {
		p.add(FindRecoveryLong, Remark, place+".du", "is over 180 days after fr")
	}
}

// day returns the date of a date or date and time, or "".
func day(s string) string {
	if len(s) < 10 || !calendarDate(s[:10]) {
		return ""
	}
	return s[:10]
}

// days returns the days from one date to another.
func days(from, to string) (int, bool) {
	a, err := time.Parse(time.DateOnly, from)
	if err != nil {
		return 0, false
	}
	b, err := time.Parse(time.DateOnly, to)
	return int(b.Sub(a).Hours() / 24), err == nil
}

// event checks the date of what is certified.
func (p *inspector) event(e map[string]any, place, key string) {
	s := text(e, key)
	if key != "sc" && key != "dr" && len(s) > 10 {
		p.add(FindDateForm, Remark, place+"."+key, "has a time part")
	}
	d := day(s)
	if d == "" {
		return
	}
	// Dates of ISO 8601 compare as text; a partial one is the whole period.
	if n := min(len(p.birth), len(d)); n >= 4 && p.birth[:n] > d[:n] {
		p.add(FindBirthOrder, Wrong, place+"."+key, "must not be before the date of birth")
	}
	p.notAfter(d, place+"."+key)
}

func (p *inspector) notAfter(d, path string) {
	n := min(len(d), 10)
	switch {
	case n < 4:
	case p.today != "" && d[:n] > p.today[:n]:
		p.add(FindInFuture, Wrong, path, "must not be in the future")
	case p.issued != "" && d[:n] > p.issued[:n]:
		p.add(FindAfterIssue, Doubtful, path, "is after the certificate's issue")
	}
}

func (p *inspector) uvci(e map[string]any, place string) {
	s := text(e, "ci")
	if strings.TrimSpace(s) == "" {
		return
	}
	u := ParseUVCI(s)
	if !strings.HasPrefix(s, uvciPrefix) || u.Version == "" || strings.ToUpper(s) != s {
		p.add(FindUVCIForm, Remark, place+".ci", "is not written as URN:UVCI:, version, country in capitals")
	}
	if u.Check == CheckWrong {
		p.add(FindUVCICheck, Doubtful, place+".ci", "has a wrong check character")
	}
	if p.Claims != nil && u.Country != "" && p.Claims.Issuer != "" && u.Country != strings.ToUpper(p.Claims.Issuer) {
		p.add(FindUVCICountry, Doubtful, place+".ci", "names another country than the certificate's issuer")
	}
}

// Texts returns what the codes of a payload mean, by their places (v[0].mp), in
// the first of the languages that there is a text in. Codes that no set has
// are left out.
func Texts(tree map[string]any, sets *valueset.Sets, languages ...string) map[string]string {
	out := map[string]string{}
	for _, g := range groups {
		list, _ := tree[g.key].([]any)
		for n, e := range list {
			for _, f := range codeFields {
				if f.group != "" && f.group != g.key {
					continue
				}
				entry, _ := e.(map[string]any)
				code := text(entry, f.key)
				if _, ok := sets.Get(f.set).Lookup(code); ok && code != "" && n < maxFindings {
					out[at{g.key, n}.String()+"."+f.key] = sets.Text(f.set, code, languages...)
				}
			}
		}
	}
	return out
}

// codeFields are the fields that hold codes; group "" is all of them.
var codeFields = [...]struct {
	group, key string
	set        valueset.ID
}{
	{"", "tg", valueset.Diseases}, {"", "co", valueset.Countries},
	{"v", "vp", valueset.Prophylaxes}, {"v", "mp", valueset.Products}, {"v", "ma", valueset.Holders},
	{"t", "tt", valueset.TestTypes}, {"t", "tr", valueset.Results}, {"t", "ma", valueset.TestDevices},
}

package hcert

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Issue is one violation of the schema.
type Issue struct {
	Path string // such as v[0].dn
	Why  string // never contains the value
}

// SchemaError lists what is wrong with a payload, at most 20 issues.
type SchemaError struct {
	Version string // of the DCC schema that was applied, or another Profile
	Issues  []Issue
}

// Error lists the fields and why each is wrong.
func (e *SchemaError) Error() string {
	var b strings.Builder
	name := "DCC schema " + e.Version
	if strings.ContainsAny(e.Version, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		name = e.Version // another profile
	}
	b.WriteString(name + ": ")
	for i, is := range e.Issues {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(is.Path + " " + is.Why)
	}
	return b.String()
}

// maxIssues bounds the length of a SchemaError.
const maxIssues = 20

// profile is what differs between the releases of the DCC schema.
type profile struct {
	version     string
	maxText     int   // names, issuer, identifier, test centre
	maxTestName int   // 0: unbounded
	maxDose     int64 // 0: unbounded
	maxEntries  int   // 0: unbounded
	centre      bool  // t.tc is required
	family      bool  // nam.fnt is required; else fnt or gnt
	resulted    bool  // t.dr is defined
	birth       func(string) bool
}

// The releases with different rules, oldest first. Releases between two of
// them changed nothing that can be checked without value sets.
var profiles = [...]profile{
	{version: "1.0.0", maxText: 50, maxDose: 9, centre: true, family: true, resulted: true, birth: birthContains},
	{version: "1.2.1", maxText: 50, maxDose: 9, centre: true, family: true, birth: birthPartial},
	{version: "1.3.0", maxText: 80, maxTestName: 80, maxEntries: 1, family: true, birth: birthPartialOrEmpty},
	{version: "1.3.3", maxText: 80, maxTestName: 80, maxEntries: 1, birth: birthPartialOrEmpty},
}

// profileFor returns the release whose rules govern a declared version: the
// newest that is not newer than it. A version that was never released thus
// gets the rules that were in force.
func profileFor(version string) *profile {
	p := &profiles[0]
	for i := range profiles {
		if compareVersions(profiles[i].version, version) <= 0 {
			p = &profiles[i]
		}
	}
	return p
}

// compareVersions compares three dotted numbers; what is no number counts as 0.
func compareVersions(a, b string) int {
	for range 3 {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if d := versionNumber(x) - versionNumber(y); d != 0 {
			return d
		}
	}
	return 0
}

func versionNumber(s string) int {
	n := 0
	for i := range len(s) {
		if !digit(s[i]) || n > 1<<20 {
			return 0
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// Validate checks a payload as a verifier does: it must satisfy the schema
// release that its `ver` declares or, because certificates of an old version
// that use newer freedoms are in circulation, the newest. It returns the
// release that accepted it. Whatever the release, exactly one of v, t and r
// must be present; null counts as absent.
//
// Dates may carry a time part, as several countries write them. Value sets are
// not consulted.
func Validate(tree map[string]any) (release string, err error) {
	declared := profileFor(text(tree, "ver"))
	if err = declared.check(tree); err == nil {
		return declared.version, nil
	}
	newest := &profiles[len(profiles)-1]
	if declared != newest && newest.check(tree) == nil {
		return newest.version, nil
	}
	return "", err
}

// ValidateDeclared checks a payload against the release that its `ver`
// declares, as an issuer must.
func ValidateDeclared(tree map[string]any) error { return profileFor(text(tree, "ver")).check(tree) }

// ValidateAs checks a payload against the rules of the given version.
func ValidateAs(tree map[string]any, version string) error { return profileFor(version).check(tree) }

// check is one run of a profile over a payload.
type check struct {
	*profile
	issues []Issue
}

func (p *profile) check(tree map[string]any) error {
	c := check{profile: p}
	c.payload(tree)
	if len(c.issues) > 0 {
		return &SchemaError{Version: p.version, Issues: c.issues}
	}
	return nil
}

// at is a place in the payload; its text is only built for an issue.
type at struct {
	group string
	index int // -1: no list
}

func (a at) String() string {
	if a.index < 0 {
		return a.group
	}
	return a.group + "[" + strconv.Itoa(a.index) + "]"
}

func (c *check) add(where at, key, why string) {
	if len(c.issues) < maxIssues {
		c.issues = append(c.issues, Issue{Path: join(where.String(), key), Why: why})
	}
}

func join(path, key string) string {
	switch {
	case path == "":
		return key
	case key == "":
		return path
	}
	return path + "." + key
}

var groups = [...]struct {
	key  string
	kind Kind
}{{"v", KindVaccination}, {"t", KindTest}, {"r", KindRecovery}}

func (c *check) payload(tree map[string]any) {
	root := at{index: -1}
	c.string(tree, root, "ver", true, 0, versionForm, "must look like 1.3.0")
	c.string(tree, root, "dob", true, 0, c.birth, "must be a date of birth from 1900 to 2099 in a form that this version allows")
	if nam, ok := tree["nam"].(map[string]any); ok {
		c.name(nam)
	} else {
		c.add(root, "nam", missingOr(tree, "nam", "must be an object"))
	}
	present := 0
	for _, g := range groups {
		v := tree[g.key]
		if v == nil {
			continue
		}
		present++
		list, ok := v.([]any)
		switch {
		case !ok:
			c.add(root, g.key, "must be a list")
		case len(list) == 0:
			c.add(root, g.key, "must have an entry")
		case c.maxEntries > 0 && len(list) > c.maxEntries:
			c.add(root, g.key, "must have one entry only")
		}
		for i, e := range list {
			where := at{g.key, i}
			entry, ok := e.(map[string]any)
			if !ok {
				c.add(where, "", "must be an object")
				continue
			}
			c.entry(entry, where, g.kind)
		}
	}
	if present != 1 {
		c.add(root, "v, t, r", "exactly one of them must be present")
	}
}

func (c *check) name(nam map[string]any) {
	where := at{"nam", -1}
	c.string(nam, where, "fn", false, c.maxText, nil, "")
	c.string(nam, where, "fnt", c.family, c.maxText, standardised, "must consist of A to Z and <")
	c.string(nam, where, "gn", false, c.maxText, nil, "")
	c.string(nam, where, "gnt", false, c.maxText, standardised, "must consist of A to Z and <")
	if !c.family {
		if _, ok := nam["fnt"]; ok {
			return
		}
		if _, ok := nam["gnt"]; ok {
			return
		}
		c.add(where, "", "must have fnt or gnt")
	}
}

const (
	dateWhy     = "must be a date YYYY-MM-DD"
	dateTimeWhy = "must be a date and time as in ISO 8601"
)

func (c *check) entry(e map[string]any, where at, kind Kind) {
	c.string(e, where, "tg", true, 0, nil, "")
	switch kind {
	case KindVaccination:
		c.string(e, where, "vp", true, 0, nil, "")
		c.string(e, where, "mp", true, 0, nil, "")
		c.string(e, where, "ma", true, 0, nil, "")
		c.dose(e, where, "dn")
		c.dose(e, where, "sd")
		c.string(e, where, "dt", true, 0, isDate, dateWhy)
	case KindTest:
		c.string(e, where, "tt", true, 0, nil, "")
		c.string(e, where, "nm", false, c.maxTestName, nil, "")
		c.string(e, where, "ma", false, 0, nil, "")
		c.string(e, where, "sc", true, 0, isDateTime, dateTimeWhy)
		if c.resulted {
			c.string(e, where, "dr", false, 0, isDateTime, dateTimeWhy)
		}
		c.string(e, where, "tr", true, 0, nil, "")
		c.string(e, where, "tc", c.centre, c.maxText, nil, "")
	case KindRecovery:
		c.string(e, where, "fr", true, 0, isDate, dateWhy)
		c.string(e, where, "df", true, 0, isDate, dateWhy)
		c.string(e, where, "du", true, 0, isDate, dateWhy)
	}
	c.string(e, where, "co", true, 0, hasCapital, "must contain a country code in capitals")
	c.string(e, where, "is", true, c.maxText, nil, "")
	c.string(e, where, "ci", true, c.maxText, nil, "")
}

// string checks a text field: presence, length in code points (0: unbounded)
// and form.
func (c *check) string(m map[string]any, where at, key string, required bool, maxLen int, form func(string) bool, why string) {
	v, ok := m[key]
	if !ok {
		if required {
			c.add(where, key, "is missing")
		}
		return
	}
	s, ok := v.(string)
	switch {
	case !ok:
		c.add(where, key, "must be text")
	case maxLen > 0 && len(s) > maxLen && utf8.RuneCountInString(s) > maxLen:
		c.add(where, key, "must not be longer than "+strconv.Itoa(maxLen)+" characters")
	case form != nil && !form(s):
		c.add(where, key, why)
	}
}

func (c *check) dose(e map[string]any, where at, key string) {
	var n int64
	switch v := e[key].(type) {
	case int64:
		n = v
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > 1<<53 {
			c.add(where, key, "must be a whole number")
			return
		}
		n = int64(v)
	default:
		c.add(where, key, missingOr(e, key, "must be a number"))
		return
	}
	switch {
	case n < 1:
		c.add(where, key, "must be at least 1")
	case c.maxDose > 0 && n > c.maxDose:
		c.add(where, key, "must be at most "+strconv.FormatInt(c.maxDose, 10))
	}
}

func missingOr(m map[string]any, key, otherwise string) string {
	if _, ok := m[key]; !ok {
		return "is missing"
	}
	return otherwise
}

func digit(b byte) bool { return '0' <= b && b <= '9' }

// versionForm is the schema's pattern ^\d+.\d+.\d+$, whose dots stand for any
// character.
func versionForm(s string) bool {
	// Greedy matching as a regular expression would backtrack; the shapes
	// that matter are few, so try every split.
	rs := []rune(s)
	allDigits := func(p []rune) bool {
		for _, r := range p {
			if r < '0' || r > '9' {
				return false
			}
		}
		return len(p) > 0
	}
	if len(rs) > 32 {
		return false
	}
	for i := 1; i < len(rs); i++ {
		for j := i + 2; j < len(rs)-1; j++ {
			if rs[i] != '\n' && rs[j] != '\n' && allDigits(rs[:i]) && allDigits(rs[i+1:j]) && allDigits(rs[j+1:]) {
				return true
			}
		}
	}
	return false
}

func standardised(s string) bool {
	for i := range len(s) {
		if s[i] != '<' && (s[i] < 'A' || s[i] > 'Z') {
			return false
		}
	}
	return true
}

func hasCapital(s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}

// birthContains is the pattern of 1.0.0, which is not anchored: a time part
// may follow.
func birthContains(s string) bool {
	for i := 0; i+10 <= len(s); i++ {
		if len(s[i:i+10]) == 10 && birthDigits(s[i:i+10]) {
			return true
		}
	}
	return false
}

// birthPartial accepts YYYY, YYYY-MM and YYYY-MM-DD.
func birthPartial(s string) bool {
	return (len(s) == 4 || len(s) == 7 || len(s) == 10) && birthDigits(s)
}

func birthPartialOrEmpty(s string) bool { return s == "" || birthPartial(s) }

func birthDigits(s string) bool {
	if s[:2] != "19" && s[:2] != "20" {
		return false
	}
	for i := 2; i < len(s); i++ {
		if i == 4 || i == 7 {
			if s[i] != '-' {
				return false
			}
		} else if !digit(s[i]) {
			return false
		}
	}
	return true
}

// isDate accepts a complete calendar date, alone or followed by a time part.
func isDate(s string) bool {
	if len(s) < 10 || !calendarDate(s[:10]) {
		return false
	}
	return len(s) == 10 || timePart(s[10:])
}

// isDateTime accepts a complete date with a time part; the zone may be
// missing or written as Z, ±hh, ±hhmm or ±hh:mm.
func isDateTime(s string) bool { return len(s) > 10 && calendarDate(s[:10]) && timePart(s[10:]) }

func calendarDate(s string) bool {
	for i := range 10 {
		if i == 4 || i == 7 {
			if s[i] != '-' {
				return false
			}
		} else if !digit(s[i]) {
			return false
		}
	}
	month, day := two(s[5:]), two(s[8:])
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	if day <= 28 {
		return true
	}
	year := two(s)*100 + two(s[2:])
	return day <= time.Date(year, time.Month(month+1), 0, 0, 0, 0, 0, time.UTC).Day()
}

func two(s string) int { return int(s[0]-'0')*10 + int(s[1]-'0') }

func timePart(s string) bool {
	if s[0] != 'T' && s[0] != 't' && s[0] != ' ' {
		return false
	}
	s = s[1:]
	ok := false
	if s, ok = clock(s, 23); !ok {
		return false
	}
	if s == "" || s[0] != ':' {
		return false
	}
	if s, ok = clock(s[1:], 59); !ok {
		return false
	}
	if s != "" && s[0] == ':' {
		if s, ok = clock(s[1:], 60); !ok {
			return false
		}
		if s != "" && (s[0] == '.' || s[0] == ',') {
			n := 1
			for n < len(s) && digit(s[n]) {
				n++
			}
			if n == 1 || n > 13 {
				return false
			}
			s = s[n:]
		}
	}
	return zone(s)
}

// clock reads two digits up to max.
func clock(s string, max int) (string, bool) {
	if len(s) < 2 || !digit(s[0]) || !digit(s[1]) || two(s) > max {
		return "", false
	}
	return s[2:], true
}

func zone(s string) bool {
	if s == "" || s == "Z" || s == "z" {
		return true
	}
	if s[0] != '+' && s[0] != '-' {
		return false
	}
	s, ok := clock(s[1:], 23)
	if !ok || s == "" {
		return ok
	}
	s = strings.TrimPrefix(s, ":")
	s, ok = clock(s, 59)
	return ok && s == ""
}

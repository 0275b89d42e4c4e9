package hcert

import (
	"fmt"
	"slices"
	"strconv"
)

// Profile says what kind of document a health certificate is: which sub-claim
// of the health certificate claim it holds.
type Profile string

// The profiles that are read and written.
const (
	// ProfileDCC is the EU Digital COVID Certificate, sub-claim 1. Business
	// rules apply to it only.
	ProfileDCC Profile = "EU DCC"
	// ProfileVaccination is the WHO's Digital Documentation of COVID-19
	// Certificates: Vaccination Status (DDCC:VS), sub-claim 3.
	ProfileVaccination Profile = "WHO DDCC:VS"
	// ProfileTest is its Test Result (DDCC:TR), sub-claim 4.
	ProfileTest Profile = "WHO DDCC:TR"
	// ProfileHealthLink is a Verifiable Health Link, sub-claim 5: where to
	// fetch a document, not the document.
	ProfileHealthLink Profile = "Verifiable Health Link"
	// ProfileICVP is the International Certificate of Vaccination or
	// Prophylaxis, sub-claim -6.
	ProfileICVP Profile = "ICVP"
)

// profiles in the order in which they are looked for.
var subclaimProfiles = [...]struct {
	id      int64
	profile Profile
	kind    Kind
}{
	{SubclaimDCC, ProfileDCC, ""},
	{SubclaimVaccination, ProfileVaccination, KindVaccination},
	{SubclaimTest, ProfileTest, KindTest},
	{SubclaimHealthLink, ProfileHealthLink, KindHealthLink},
	{SubclaimICVP, ProfileICVP, KindVaccination},
}

// Content is a document that is no DCC: a *DDCCVaccination, a *DDCCTest, a
// HealthLinks or an *ICVP.
type Content interface {
	Profile() Profile
	// Check names the fields that the profile demands and the document lacks;
	// the error is a *SchemaError.
	Check() error
	// Tree is the document as JSON would hold it.
	Tree() any
}

// Document is a decoded document other than a DCC, not checked.
type Document struct {
	Content Content
	// Tree is what was decoded, fields that Content does not know included, in
	// the form of Payload.Tree; not always a map.
	Tree any
	// CBOR is the encoding it was read from.
	CBOR string
}

// String names the profile only.
func (d *Document) String() string {
	if d == nil {
		return "no document"
	}
	return string(d.Content.Profile())
}

// Profile returns the document's profile.
func (d *Document) Profile() Profile { return d.Content.Profile() }

// Kind returns what a document signer must be allowed to sign.
func (d *Document) Kind() Kind { return profileKind(d.Profile()) }

func profileKind(p Profile) Kind {
	for _, s := range subclaimProfiles {
		if s.profile == p {
			return s.kind
		}
	}
	return ""
}

func profileID(p Profile) int64 {
	for _, s := range subclaimProfiles {
		if s.profile == p {
			return s.id
		}
	}
	return 0
}

// ParseDocument parses an encoded sub-claim of profile p, which is not
// ProfileDCC. It is tolerant of what a field holds: codes may be text or FHIR
// Codings, numbers may be text, unknown fields stay in Tree only.
func ParseDocument(p Profile, cbor []byte, l Limits) (*Document, error) {
	return parseDocument(p, string(cbor), l)
}

func parseDocument(p Profile, cbor string, l Limits) (*Document, error) {
	r := reader{s: cbor, items: l.items(), depth: l.depth(), stage: StagePayload}
	tree, err := r.tree()
	if err != nil {
		return nil, err
	}
	if r.rest() > 0 {
		return nil, r.bad("bytes after the payload")
	}
	d := &Document{Tree: tree, CBOR: cbor}
	m, isMap := tree.(map[string]any)
	switch {
	case p == ProfileHealthLink:
		links, ok := readLinks(tree)
		if !ok {
			return nil, r.bad("not a link, nor a list of links")
		}
		d.Content = links
		return d, nil
	case !isMap:
		return nil, r.bad("not a map")
	case p == ProfileVaccination:
		d.Content = readDDCCVaccination(m)
	case p == ProfileTest:
		d.Content = readDDCCTest(m)
	case p == ProfileICVP:
		d.Content = readICVP(m)
	default:
		return nil, refuse(StagePayload, NoPayload, "profile "+string(p)+" is no document's")
	}
	return d, nil
}

// EncodeContent encodes a document as CBOR, map keys sorted.
func EncodeContent(c Content) ([]byte, error) { return appendTree(nil, c.Tree()) }

// Coding is a code with the system that it is of (FHIR's Coding). One with
// nothing but a code is written as text.
type Coding struct {
	System  string `json:"system,omitempty"`
	Version string `json:"version,omitempty"`
	Code    string `json:"code,omitempty"`
	Display string `json:"display,omitempty"`
}

// Identifier is a number that somebody gave (FHIR's Identifier). One with
// nothing but a value is written as text.
type Identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value,omitempty"`
}

// words returns text, or a number as text, because issuers write either.
func words(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// count returns a number, or text of digits as one.
func count(v any) int {
	switch v := v.(type) {
	case int64:
		if v >= 0 && v <= 1<<31-1 {
			return int(v)
		}
	case string:
		if n, err := strconv.ParseUint(v, 10, 31); err == nil {
			return int(n)
		}
	}
	return 0
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func coding(v any) Coding {
	if m := object(v); m != nil {
		return Coding{System: text(m, "system"), Version: text(m, "version"), Code: words(m["code"]), Display: text(m, "display")}
	}
	return Coding{Code: words(v)}
}

func identifier(v any) Identifier {
	if m := object(v); m != nil {
		return Identifier{System: text(m, "system"), Value: words(m["value"])}
	}
	return Identifier{Value: words(v)}
}

func putCoding(m map[string]any, key string, c Coding) {
	if c.System == "" && c.Version == "" && c.Display == "" {
		putText(m, key, c.Code)
		return
	}
	v := map[string]any{}
	putText(v, "system", c.System)
	putText(v, "version", c.Version)
	putText(v, "code", c.Code)
	putText(v, "display", c.Display)
	m[key] = v
}

func putIdentifier(m map[string]any, key string, i Identifier) {
	if i.System == "" {
		putText(m, key, i.Value)
		return
	}
	v := map[string]any{"system": i.System}
	putText(v, "value", i.Value)
	m[key] = v
}

func putCount(m map[string]any, key string, n int) {
	if n > 0 {
		m[key] = int64(n)
	}
}

// demand collects what a document lacks.
type demand struct {
	profile Profile
	issues  []Issue
}

func (d *demand) filled(path, s string) {
	if s == "" {
		d.issues = append(d.issues, Issue{path, "is missing"})
	}
}

func (d *demand) that(ok bool, path, why string) {
	if !ok {
		d.issues = append(d.issues, Issue{path, why})
	}
}

// date demands a complete date, alone or with a time part, if it is there.
func (d *demand) date(path, s string) {
	if s != "" {
		d.that(isDate(s), path, dateWhy)
	}
}

func (d *demand) err() error {
	if len(d.issues) == 0 {
		return nil
	}
	return &SchemaError{Version: string(d.profile), Issues: d.issues}
}

// findProfile decodes the first sub-claim that is known.
func (u *Unverified) findProfile(p *Payload, l Limits) error {
	for _, s := range subclaimProfiles {
		raw := u.Claims.Subclaim(s.id)
		if raw == "" {
			continue
		}
		u.Profile = s.profile
		if s.profile == ProfileDCC {
			if err := p.parse(raw, l); err != nil {
				return err
			}
			u.Payload = p
			return nil
		}
		var err error
		u.Document, err = parseDocument(s.profile, raw, l)
		return err
	}
	ids := []int64{}
	for _, s := range u.Claims.Subclaims {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		return refuse(StagePayload, NoPayload, "")
	}
	return refuse(StagePayload, NoPayload, fmt.Sprintf("it has sub-claim %d", ids[0]))
}

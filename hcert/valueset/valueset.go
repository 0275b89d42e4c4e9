// Package valueset holds the value sets of EU Digital COVID Certificates: the
// codes that stand in a certificate for diseases, vaccines, tests, results and
// countries, and what they mean to a person.
//
// It promises the sets of the eHealth Network in every version that it was
// given, under the identifiers that the EU gateway uses (Builtin, BuiltinAt),
// readers and writers of the gateway's JSON form (Parse, Set.JSON), and names
// in the reader's language where there are some, else in the set's own.
//
// It refuses nothing about a code: whether a code that no set has matters is
// for the caller to say (Check). Codes in circulation are newer than any copy.
//
// A Set and a Sets do not change and are safe for concurrent use.
package valueset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// ID names a value set as the gateway does.
type ID string

// The value sets of a DCC.
const (
	Countries   ID = "country-2-codes"
	Results     ID = "covid-19-lab-result"
	TestDevices ID = "covid-19-lab-test-manufacturer-and-name"
	TestTypes   ID = "covid-19-lab-test-type"
	Diseases    ID = "disease-agent-targeted"
	Prophylaxes ID = "sct-vaccines-covid-19"
	Holders     ID = "vaccines-covid-19-auth-holders"
	Products    ID = "vaccines-covid-19-names"
)

// Entry is one code.
type Entry struct {
	Code string
	// Display is what the code means, in Language.
	Display  string
	Language string
	// Active is false for codes that are not to be issued any more.
	Active bool
	// System and Version say whose code it is.
	System  string
	Version string

	texts map[string]string // by language
}

// Text returns what the code means in the first of the languages that it has a
// text in, else in the set's own. A language may name a region: de-AT takes
// the text in German.
func (e Entry) Text(languages ...string) string {
	for _, l := range languages {
		l = strings.ToLower(l)
		base, _, _ := strings.Cut(l, "-")
		if base == strings.ToLower(e.Language) {
			break
		}
		for _, l := range []string{l, base} {
			if t, ok := e.texts[l]; ok {
				return t
			}
		}
	}
	return e.Display
}

// Set is one version of one value set.
type Set struct {
	id      ID
	date    string
	codes   []string // sorted
	entries map[string]Entry
}

// ID returns the set's identifier.
func (s *Set) ID() ID { return s.id }

// Date returns the date of the set's version, YYYY-MM-DD.
func (s *Set) Date() string { return s.date }

// Len returns the number of codes.
func (s *Set) Len() int { return len(s.codes) }

// Lookup returns the entry of a code. Codes are compared exactly.
func (s *Set) Lookup(code string) (Entry, bool) {
	if s == nil {
		return Entry{}, false
	}
	e, ok := s.entries[code]
	return e, ok
}

// Codes returns every code in order, inactive ones too.
func (s *Set) Codes() []string { return slices.Clone(s.codes) }

// Entries returns the entries in the order of their text in the language;
// without the inactive ones, as a form offers them, if active is true.
func (s *Set) Entries(language string, active bool) []Entry {
	if s == nil {
		return nil
	}
	out := make([]Entry, 0, len(s.codes))
	for _, code := range s.codes {
		if e := s.entries[code]; e.Active || !active {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return strings.Compare(a.Text(language), b.Text(language)) })
	return out
}

// MaxJSON bounds the JSON form of a set. The EU's largest, of rapid tests, has
// about 1 MB.
const MaxJSON = 2 << 20

// maxCodes bounds the codes of a set; the list of rapid tests has about 2000.
const maxCodes = 5000

// wireSet and wireEntry are the gateway's JSON.
type wireSet struct {
	ID     ID                         `json:"valueSetId"`
	Date   string                     `json:"valueSetDate"`
	Values map[string]json.RawMessage `json:"valueSetValues"`
}

type wireEntry struct {
	Display string `json:"display"`
	Lang    string `json:"lang"`
	Active  *bool  `json:"active"`
	System  string `json:"system"`
	Version string `json:"version"`
}

// Parse reads the gateway's JSON form. A set without identifier or values, and
// one above the bounds, is refused; fields that it does not know are ignored,
// and an entry that does not say whether it is active is.
func Parse(src []byte) (*Set, error) {
	if len(src) > MaxJSON {
		return nil, fmt.Errorf("value set: over %d bytes", MaxJSON)
	}
	if !utf8.Valid(src) {
		return nil, errors.New("value set: not UTF-8")
	}
	// Every code takes a few bytes of JSON and some hundred of memory; count
	// before they are built.
	if n := bytes.Count(src, []byte(":")); n > maxCodes*12 {
		return nil, fmt.Errorf("value set: more than %d codes", maxCodes)
	}
	var w wireSet
	if err := json.Unmarshal(src, &w); err != nil {
		return nil, fmt.Errorf("value set: not of a value set's form: %w", err)
	}
	switch {
	case w.ID == "" || len(w.ID) > 100:
		return nil, errors.New("value set: it has no valueSetId, or one over 100 characters")
	case w.Values == nil:
		return nil, fmt.Errorf("value set %s: it has no valueSetValues", w.ID)
	case len(w.Values) > maxCodes:
		return nil, fmt.Errorf("value set %s: more than %d codes", w.ID, maxCodes)
	}
	s := &Set{id: w.ID, date: w.Date, codes: slices.Sorted(maps.Keys(w.Values)), entries: make(map[string]Entry, len(w.Values))}
	for code, raw := range w.Values {
		var v wireEntry
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("value set %s: the entry of code %q is not an object with texts: %w", w.ID, code, err)
		}
		s.entries[code] = Entry{Code: code, Display: v.Display, Language: v.Lang, Active: v.Active == nil || *v.Active, System: v.System, Version: v.Version}
	}
	return s, nil
}

// JSON returns the gateway's form, the same bytes for the same set.
func (s *Set) JSON() []byte {
	w := wireSet{ID: s.id, Date: s.date, Values: make(map[string]json.RawMessage, len(s.codes))}
	for code, e := range s.entries {
		w.Values[code], _ = json.Marshal(wireEntry{e.Display, e.Language, &e.Active, e.System, e.Version}) // texts always encode
	}
	out, _ := json.Marshal(w)
	return out
}

// Sets are value sets by identifier, one version of each.
type Sets struct{ sets map[ID]*Set }

// New returns the given sets; of two with one identifier the last counts.
func New(sets ...*Set) *Sets { return (*Sets)(nil).With(sets...) }

// With returns these sets with others added or put in place of theirs.
func (s *Sets) With(sets ...*Set) *Sets {
	out := &Sets{sets: make(map[ID]*Set)}
	if s != nil {
		maps.Copy(out.sets, s.sets)
	}
	for _, set := range sets {
		out.sets[set.id] = set
	}
	return out
}

// Get returns a set, or nil.
func (s *Sets) Get(id ID) *Set {
	if s == nil {
		return nil
	}
	return s.sets[id]
}

// IDs returns the identifiers in order.
func (s *Sets) IDs() []ID {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.sets))
}

// Codes returns every code by set, as rules compare with them: inactive ones
// too, because certificates with them are in circulation.
func (s *Sets) Codes() map[string][]string {
	out := make(map[string][]string)
	for _, id := range s.IDs() {
		out[string(id)] = s.sets[id].Codes()
	}
	return out
}

// Text returns what a code means in the first of the languages that there is a
// text in, or the code itself if the set does not have it.
func (s *Sets) Text(id ID, code string, languages ...string) string {
	if e, ok := s.Get(id).Lookup(code); ok {
		if t := e.Text(languages...); t != "" {
			return t
		}
	}
	return code
}

// State says whether a set has a code.
type State string

// The states of a code.
const (
	Active   State = "active"
	Inactive State = "inactive" // not to be issued any more
	Missing  State = "missing"
	NoSet    State = "no such set"
)

// Check says whether a set has a code.
func (s *Sets) Check(id ID, code string) State {
	set := s.Get(id)
	if set == nil {
		return NoSet
	}
	switch e, ok := set.entries[code]; {
	case !ok:
		return Missing
	case !e.Active:
		return Inactive
	}
	return Active
}

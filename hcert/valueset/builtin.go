package valueset

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// sets.tsv is the eHealth Network's value sets in all versions that we have,
// in a form of our own that generate_test.go writes: columns parted by tabs.
//
//	system   <number> <URI of a code system>
//	set      <identifier> <date of each version, oldest first>
//	+        <from> <code> <language> <system> <version> <text>   an active code
//	-        <from> <code> <language> <system> <version> <text>   an inactive one
//	vaccine  <product> <holder> <prophylaxis, the most exact first>
//
// A row for a code holds from the version of its date until the next row for
// the same code.
//
//go:embed sets.tsv
var generated string

// texts.tsv is our translations: set, code, language, text.
//
//go:embed texts.tsv
var translated string

// Vaccine says which codes go together in a certificate.
type Vaccine struct {
	Product string
	Holder  string
	// Prophylaxes are the types that the product may be coded as, the most
	// exact first.
	Prophylaxes []string
}

type history struct {
	dates map[ID][]string
	rows  map[ID][]row
	vacc  []Vaccine
}

type row struct {
	from  string
	entry Entry
}

// parsed reads the embedded files once: they are part of the program, so what
// is wrong with them is found by the tests.
var parsed = sync.OnceValues(func() (*history, error) { return readHistory(generated, translated) })

var newest = sync.OnceValue(func() *Sets { return BuiltinAt("9999-12-31") })

// Builtin returns the newest version of every set.
func Builtin() *Sets { return newest() }

// BuiltinAt returns the versions that were in force on a day (YYYY-MM-DD). A
// set that had none yet is in its oldest version.
func BuiltinAt(day string) *Sets {
	h, err := parsed()
	if err != nil {
		return New()
	}
	return h.at(day)
}

func (h *history) at(day string) *Sets {
	var out []*Set
	for id, dates := range h.dates {
		date := dates[0]
		for _, d := range dates {
			if d <= day {
				date = d
			}
		}
		s := &Set{id: id, date: date, entries: make(map[string]Entry)}
		for _, r := range h.rows[id] {
			if r.from <= date {
				s.entries[r.entry.Code] = r.entry
			}
		}
		s.codes = slices.Sorted(maps.Keys(s.entries))
		out = append(out, s)
	}
	return New(out...)
}

// Versions returns the dates of the versions of a set that are built in, the
// oldest first.
func Versions(id ID) []string {
	h, err := parsed()
	if err != nil {
		return nil
	}
	return slices.Clone(h.dates[id])
}

// Vaccines returns which codes of products, holders and prophylaxes go
// together, by the eHealth Network's encoding instructions.
func Vaccines() []Vaccine {
	h, err := parsed()
	if err != nil {
		return nil
	}
	return slices.Clone(h.vacc)
}

func readHistory(sets, texts string) (*history, error) {
	h := &history{dates: map[ID][]string{}, rows: map[ID][]row{}}
	translations := map[ID]map[string]map[string]string{}
	for line := range records(texts) {
		if len(line) != 4 {
			return nil, fmt.Errorf("texts.tsv: %q", line)
		}
		id, code := ID(line[0]), line[1]
		if translations[id] == nil {
			translations[id] = map[string]map[string]string{}
		}
		if translations[id][code] == nil {
			translations[id][code] = map[string]string{}
		}
		translations[id][code][line[2]] = line[3]
	}
	systems := map[string]string{}
	var id ID
	for f := range records(sets) {
		switch {
		case f[0] == "system" && len(f) == 3:
			systems[f[1]] = f[2]
		case f[0] == "set" && len(f) == 3:
			id = ID(f[1])
			h.dates[id] = strings.Split(f[2], ",")
		case (f[0] == "+" || f[0] == "-") && len(f) == 7 && id != "":
			h.rows[id] = append(h.rows[id], row{f[1], Entry{Code: f[2], Language: f[3], System: systems[f[4]], Version: f[5], Display: f[6],
				Active: f[0] == "+", texts: translations[id][f[2]]}})
		case f[0] == "vaccine" && len(f) == 4:
			h.vacc = append(h.vacc, Vaccine{f[1], f[2], strings.Split(f[3], ",")})
		default:
			return nil, fmt.Errorf("sets.tsv: %q", f)
		}
	}
	return h, nil
}

// records yields the columns of each line that is not blank or a comment.
func records(s string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(s) {
			line = strings.TrimSuffix(line, "\n")
			if line == "" || line[0] == '#' {
				continue
			}
			if !yield(strings.Split(line, "\t")) {
				return
			}
		}
	}
}

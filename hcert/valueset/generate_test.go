package valueset

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSetsAreGenerated holds sets.tsv against the eHealth Network's files, and
// writes it if VERDANT_UPDATE_VALUESETS is set.
func TestSetsAreGenerated(t *testing.T) {
	const dir = "../../../shared/data/valuesets"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the public value sets are not here")
	}
	got := generate(t, dir)
	if os.Getenv("VERDANT_UPDATE_VALUESETS") != "" {
		if err := os.WriteFile("sets.tsv", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("sets.tsv")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("sets.tsv is not what the files give: VERDANT_UPDATE_VALUESETS=1 go test ./hcert/valueset")
	}
	// What was written reads back as what was read.
	h, err := readHistory(got, "")
	if err != nil {
		t.Fatal(err)
	}
	for id, versions := range read(t, dir) {
		for i, v := range versions {
			if h.dates[id][i] != v.date {
				t.Errorf("%s: got version %s, want %s", id, h.dates[id][i], v.date)
			}
			back := h.at(v.date).Get(id)
			if string(back.JSON()) != string(v.JSON()) {
				t.Errorf("%s of %s: the built-in set differs from the file", id, v.date)
			}
		}
	}
}

const instructions ID = "vaccines-covid-19-encoding-instructions"

// read returns the versions of each set, the oldest first; of two files with
// one date the one of the eHealth Network counts.
func read(t *testing.T, dir string) map[ID][]*Set {
	out := map[ID][]*Set{}
	newest, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	older, _ := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	for _, name := range append(newest, older...) {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.id == instructions || slices.ContainsFunc(out[s.id], func(o *Set) bool { return o.date == s.date }) {
			continue
		}
		out[s.id] = append(out[s.id], s)
		slices.SortFunc(out[s.id], func(a, b *Set) int { return cmp.Compare(a.date, b.date) })
	}
	return out
}

func generate(t *testing.T, dir string) string {
	var b strings.Builder
	b.WriteString("# The eHealth Network's value sets; see NOTICE. Made by generate_test.go, the\n# columns are explained in builtin.go.\n")
	sets := read(t, dir)
	var ids []ID
	systems := map[string]int{}
	var names []string
	for id, versions := range sets {
		ids = append(ids, id)
		for _, v := range versions {
			for _, e := range v.entries {
				if _, ok := systems[e.System]; !ok {
					systems[e.System] = 0
					names = append(names, e.System)
				}
			}
		}
	}
	slices.Sort(ids)
	slices.Sort(names)
	for i, n := range names {
		systems[n] = i + 1
		fmt.Fprintf(&b, "system\t%d\t%s\n", i+1, n)
	}
	for _, id := range ids {
		var dates []string
		for _, v := range sets[id] {
			dates = append(dates, v.date)
		}
		fmt.Fprintf(&b, "set\t%s\t%s\n", id, strings.Join(dates, ","))
		before := map[string]Entry{}
		for _, v := range sets[id] {
			for code := range before {
				if _, ok := v.entries[code]; !ok {
					t.Errorf("%s: code %s is gone in %s: the form has no row for that", id, code, v.date)
				}
			}
			for _, code := range v.codes {
				e := v.entries[code]
				if old, ok := before[code]; ok && old.Active == e.Active && old.Display == e.Display && old.Version == e.Version && old.System == e.System {
					continue
				}
				before[code] = e
				sign := "+"
				if !e.Active {
					sign = "-"
				}
				fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", sign, v.date, code, e.Language, systems[e.System], e.Version, e.Display)
			}
		}
	}
	writeVaccines(t, &b, dir, sets)
	return b.String()
}

func writeVaccines(t *testing.T, b *strings.Builder, dir string, sets map[ID][]*Set) {
	src, err := os.ReadFile(filepath.Join(dir, "vaccine-encoding-instructions.json"))
	if err != nil {
		t.Fatal(err)
	}
	var in struct {
		Values map[string]struct {
			Product string   `json:"vaccine-code"`
			Holder  string   `json:"vaccine-manufacturer"`
			Types   []string `json:"sct-codes"`
		} `json:"valueSetValues"`
	}
	if err := json.Unmarshal(src, &in); err != nil {
		t.Fatal(err)
	}
	products := sets[Products][len(sets[Products])-1]
	var lines []string
	for name, v := range in.Values {
		v.Product = strings.TrimSuffix(v.Product, " (deprecated)") // a remark inside the code
		if _, ok := products.Lookup(v.Product); !ok {
			t.Errorf("the instructions for %s name product %q, which no set has", name, v.Product)
		}
		// "COVID-19 vaccine" fits all, so it is the least exact.
		slices.SortStableFunc(v.Types, func(x, y string) int {
			const any = "28531000087107"
			return cmp.Compare(b2i(x == any), b2i(y == any))
		})
		lines = append(lines, fmt.Sprintf("vaccine\t%s\t%s\t%s\n", v.Product, v.Holder, strings.Join(v.Types, ",")))
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

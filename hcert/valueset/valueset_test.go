package valueset

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func TestBuiltinFilesAreWellFormed(t *testing.T) {
	h, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[ID]int{Countries: 250, Results: 2, TestTypes: 2, Diseases: 1, Prophylaxes: 9, Holders: 31, Products: 39, TestDevices: 88} {
		if got := Builtin().Get(id).Len(); got != want {
			t.Errorf("%s: got %d codes, want %d", id, got, want)
		}
	}
	for _, v := range h.vacc {
		if Builtin().Check(Holders, v.Holder) == Missing {
			t.Errorf("%s: holder %s is in no set", v.Product, v.Holder)
		}
		for _, p := range v.Prophylaxes {
			if Builtin().Check(Prophylaxes, p) == Missing {
				t.Errorf("%s: prophylaxis %s is in no set", v.Product, p)
			}
		}
	}
	for f := range records(translated) {
		if Builtin().Check(ID(f[0]), f[1]) == Missing {
			t.Errorf("the translation of %s %s is for no code", f[0], f[1])
		}
	}
}

func TestVersions(t *testing.T) {
	if got := strings.Join(Versions(Products), " "); got != "2021-05-07 2022-11-30" {
		t.Errorf("got versions %s", got)
	}
	for _, c := range []struct {
		day, code, text string
		state           State
	}{
		{"2021-06-01", "EU/1/20/1525", "COVID-19 Vaccine Janssen", Active},
		{"2022-11-29", "EU/1/20/1525", "COVID-19 Vaccine Janssen", Active},
		{"2022-11-30", "EU/1/20/1525", "Jcovden", Active},
		{"2021-06-01", "EU/1/22/1709", "EU/1/22/1709", Missing},
		{"2026-01-01", "NVX-CoV2373", "NVX-CoV2373 (deprecated)", Inactive},
		{"1999-01-01", "EU/1/20/1528", "Comirnaty", Active},
	} {
		sets := BuiltinAt(c.day)
		if got := sets.Check(Products, c.code); got != c.state {
			t.Errorf("%s at %s: got %s, want %s", c.code, c.day, got, c.state)
		}
		if got := sets.Text(Products, c.code); got != c.text {
			t.Errorf("%s at %s: got %s, want %s", c.code, c.day, got, c.text)
		}
	}
}

func TestTextIsInTheReadersLanguage(t *testing.T) {
	for _, c := range []struct {
		languages []string
		want      string
	}{
		{[]string{"de"}, "nicht nachgewiesen"}, {[]string{"de-AT"}, "nicht nachgewiesen"}, {[]string{"ga", "FR"}, "non détecté"},
		{[]string{"en", "de"}, "Not detected"}, {[]string{"ga"}, "Not detected"}, {nil, "Not detected"},
	} {
		if got := Builtin().Text(Results, "260415000", c.languages...); got != c.want {
			t.Errorf("%v: got %s, want %s", c.languages, got, c.want)
		}
	}
	if got := Builtin().Text("no-such-set", "x", "de"); got != "x" {
		t.Errorf("got %s for a code without set", got)
	}
}

func TestEntriesForAForm(t *testing.T) {
	all, active := Builtin().Get(Prophylaxes).Entries("en", false), Builtin().Get(Prophylaxes).Entries("en", true)
	if len(all) != 9 || len(active) != 8 {
		t.Fatalf("got %d and %d entries", len(all), len(active))
	}
	for i := 1; i < len(active); i++ {
		if active[i-1].Text("en") > active[i].Text("en") {
			t.Errorf("%s before %s", active[i-1].Display, active[i].Display)
		}
	}
}

func TestWithReplaces(t *testing.T) {
	own, err := Parse([]byte(`{"valueSetId": "disease-agent-targeted", "valueSetDate": "2026-01-01", "valueSetValues": {"1": {"display": "One", "lang": "en", "active": false}, "2": {}}}`))
	if err != nil {
		t.Fatal(err)
	}
	sets := Builtin().With(own)
	for code, want := range map[string]State{"1": Inactive, "2": Active, "840539006": Missing} {
		if got := sets.Check(Diseases, code); got != want {
			t.Errorf("%s: got %s, want %s", code, got, want)
		}
	}
	if Builtin().Check(Diseases, "840539006") != Active || Builtin().Check("x", "y") != NoSet || (*Sets)(nil).Check(Diseases, "1") != NoSet {
		t.Error("the built-in sets were changed, or a missing set is no missing set")
	}
	if got := sets.Codes()["disease-agent-targeted"]; len(got) != 2 || got[0] != "1" {
		t.Errorf("got %v", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for what, src := range map[string]string{
		"nothing": ``, "no set": `{}`, "no id": `{"valueSetValues": {}}`, "no values": `{"valueSetId": "x"}`, "an entry that is no object": `{"valueSetId": "x", "valueSetValues": {"a": 1}}`,
		"text of wrong type": `{"valueSetId": "x", "valueSetValues": {"a": {"display": 1}}}`, "not UTF-8": "{\"valueSetId\": \"\xff\", \"valueSetValues\": {}}",
		"too large": `{"valueSetId": "x", "valueSetValues": {}}` + strings.Repeat(" ", MaxJSON), "too many": `{"valueSetId": "x", "valueSetValues": {` + strings.TrimSuffix(manyEntries(maxCodes+1), ",") + `}}`,
	} {
		if s, err := Parse([]byte(src)); err == nil {
			t.Errorf("%s: got %v", what, s.ID())
		}
	}
}

func manyEntries(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":{},`, i)
	}
	return b.String()
}

// TestHostileInputCostsLittle: a set as large as the bounds allow, or just
// larger, allocates under 16 MB.
func TestHostileInputCostsLittle(t *testing.T) {
	for what, src := range map[string]string{
		"many codes":  `{"valueSetId": "x", "valueSetValues": {` + strings.TrimSuffix(manyEntries(maxCodes), ",") + `}}`,
		"many fields": `{"valueSetId": "x", "a": {` + strings.TrimSuffix(manyEntries(maxCodes*11), ",") + `}}`,
		"many values": `{"valueSetId": "x", "valueSetValues": {` + strings.TrimSuffix(manyEntries(maxCodes*11), ",") + `}}`,
		"long texts":  `{"valueSetId": "x", "valueSetValues": {"a": {"display": "` + strings.Repeat(`\u0041`, MaxJSON/6-20) + `"}}}`,
		"deep":        `{"valueSetId": "x", "valueSetValues": {"a": ` + strings.Repeat("[", MaxJSON-100),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = Parse([]byte(src))
		runtime.ReadMemStats(&after)
		got := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d kB of JSON, %d kB allocated", what, len(src)>>10, got>>10)
		if got > 16<<20 {
			t.Errorf("%s: %d kB allocated", what, got>>10)
		}
	}
}

// FuzzParse: what is read is written and read again as the same.
func FuzzParse(f *testing.F) {
	for _, id := range Builtin().IDs() {
		f.Add(Builtin().Get(id).JSON())
	}
	f.Add([]byte(`{"valueSetId": "x", "valueSetValues": {"a": {"active": null}}}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := Parse(src)
		if err != nil {
			return
		}
		again, err := Parse(s.JSON())
		if err != nil || string(again.JSON()) != string(s.JSON()) {
			t.Errorf("got %s, %v, then %s", s.JSON(), err, again.JSON())
		}
		for _, code := range s.Codes() {
			if New(s).Check(s.ID(), code) == Missing {
				t.Errorf("code %q is missing", code)
			}
		}
	})
}

package certlogic

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkCountry applies the 16 rules of Ireland, compiled once, to a
// certificate of each type; the public data must be beside the repository. One
// operation is the whole rule set.
func BenchmarkCountry(b *testing.B) {
	files, _ := filepath.Glob("../../shared/data/ie-rules/*/rule.json")
	if len(files) == 0 {
		b.Skip("public test data is not beside the repository")
	}
	var rules []*Rule
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		r, err := ParseRule(src)
		if err != nil {
			b.Fatal(err)
		}
		rules = append(rules, r)
	}
	codes := map[string][]string{"disease-agent-targeted": {"840539006"}, "covid-19-lab-test-manufacturer-and-name": {}}
	for i := range 2000 {
		codes["covid-19-lab-test-manufacturer-and-name"] = append(codes["covid-19-lab-test-manufacturer-and-name"], fmt.Sprint(i))
	}
	sets, err := NewValueSets(codes)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, payload string }{
		{"vaccination", `{"ver": "1.3.0", "dob": "1990-01-01", "nam": {"fn": "A"}, "v": [{"tg": "840539006", "dt": "2021-07-01", "mp": "EU/1/20/1528", "dn": 2, "sd": 2, "vp": "1119349007", "ma": "ORG-100030215", "co": "IE", "is": "HSE", "ci": "URN:UVCI:01:IE:1"}]}`},
		{"test", `{"ver": "1.3.0", "dob": "1990-01-01", "nam": {"fn": "A"}, "t": [{"tg": "840539006", "tt": "LP6464-4", "sc": "2021-07-31T10:00:00Z", "tr": "260415000", "ma": "1232", "co": "IE", "is": "HSE", "ci": "URN:UVCI:01:IE:1"}]}`},
		{"recovery", `{"ver": "1.3.0", "dob": "1990-01-01", "nam": {"fn": "A"}, "r": [{"tg": "840539006", "fr": "2021-07-01", "df": "2021-07-15", "du": "2021-12-15", "co": "IE", "is": "HSE", "ci": "URN:UVCI:01:IE:1"}]}`},
	} {
		in := &Input{Payload: mustData(b, c.payload), Clock: at(b, "2021-08-01T12:00:00Z"), ValueSets: sets, Country: "IE", Issuer: "IE"}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if results := Evaluate(rules, in); !Accepted(results) {
					b.Fatal(results)
				}
			}
			b.ReportMetric(float64(len(rules)), "rules")
		})
	}
}

// BenchmarkParseRule reads a rule: JSON, checks, closures.
func BenchmarkParseRule(b *testing.B) {
	src := ruleSource(fourteenDays, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRule(src); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExplain explains a failed rule, with the search over the clock.
func BenchmarkExplain(b *testing.B) {
	r := newRule(b, fourteenDays, nil)
	in := vaccination(b, "2021-07-01", "2021-07-10")
	b.ReportAllocs()
	for b.Loop() {
		if ex := r.Explain(in); ex.Earliest.IsZero() {
			b.Fatal("no time was found")
		}
	}
}

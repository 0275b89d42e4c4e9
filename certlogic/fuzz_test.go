package certlogic

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// publicRules adds the logic of the public rules to a corpus, where they are.
func publicRules(f *testing.F, add func([]byte)) {
	files, _ := filepath.Glob("../../shared/data/*rules/*/rule.json")
	more, _ := filepath.Glob("../../shared/data/rules/*/*/rule.json")
	for _, name := range append(files, more...) {
		if src, err := os.ReadFile(name); err == nil {
			add(src)
		}
	}
}

// FuzzParse: whatever parses is rendered, evaluated and explained without a
// panic, with the same result each time, traced or not.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`true`, `{"var": "payload.v.0"}`, fourteenDays, `{"reduce": [[1,2], {"+": [{"var": "accumulator"}, {"var": "current"}]}, 0]}`,
		`{"extractFromUVCI": ["URN:UVCI:a:b", 1]}`, `{"dccDateOfBirth": ["2004"]}`, `{"and": [{"!": [0]}, {"in": [1, [1, "a", []]]}, {"<": [1, 2, 3]}]}`, `[[], {"or": 1}, null, 1.5]`, `{"if": [1]}`} {
		f.Add([]byte(s))
	}
	publicRules(f, func(src []byte) {
		var r struct{ Logic json.RawMessage }
		if json.Unmarshal(src, &r) == nil {
			f.Add([]byte(r.Logic))
		}
	})
	in := &Input{Payload: mustData(f, `{"ver": "1.3.0", "dob": "1990-01", "v": [{"dt": "2021-07-01", "mp": "EU/1/20/1528", "dn": 2, "sd": 2, "ci": "URN:UVCI:01:NL:X#Y"}]}`), Clock: time.Date(2021, 7, 10, 0, 0, 0, 0, time.UTC)}
	data := in.Data()
	f.Fuzz(func(t *testing.T, src []byte) {
		e, problems, err := ParseTolerant(src)
		if err != nil {
			return
		}
		_ = problems.Error()
		if len(e.String()) > 10*maxText {
			t.Errorf("the text has %d bytes", len(e.String()))
		}
		v, err := e.Evaluate(data)
		w, _, err2 := e.explain(data, in.Clock, newEffort())
		if (err == nil) != (err2 == nil) || err == nil && !v.Equal(w) {
			t.Errorf("got %v, %v; traced %v, %v", v, err, w, err2)
		}
		if err == nil {
			again, err := FromJSON([]byte(v.String()))
			if err == nil && again.String() != v.String() {
				t.Errorf("got %s, read back %s", v, again)
			}
		}
		r := &Rule{Logic: e, Engine: "CERTLOGIC", SchemaVersion: Version{1, 0, 0}}
		ex := r.Explain(in)
		if ex.TimeKnown && !ex.Earliest.IsZero() {
			at := *in
			at.Clock = ex.Earliest
			if got := r.Evaluate(at.Data()); got.Outcome != Passed {
				t.Errorf("at %v it is %s", ex.Earliest, got.Outcome)
			}
		}
	})
}

// FuzzParseRule: a rule that parses can be selected and applied.
func FuzzParseRule(f *testing.F) {
	f.Add(ruleSource(fourteenDays, nil))
	publicRules(f, func(src []byte) { f.Add(src) })
	in := vaccination(f, "2021-07-01", "2021-08-01")
	f.Fuzz(func(t *testing.T, src []byte) {
		r, err := ParseRule(src)
		var malformed *LogicError
		if errors.As(err, &malformed) {
			r = malformed.Rule
		} else if err != nil {
			return
		}
		set := NewRuleSet(r, r)
		if n := len(set.Select(in.Selection())); n > 1 {
			t.Errorf("selected %d of one rule", n)
		}
		_ = r.Describe("de")
		Evaluate(set.Rules(), in)
	})
}

// FuzzFromJSON: what is read is written and read again as the same.
func FuzzFromJSON(f *testing.F) {
	for _, s := range []string{`null`, `{"a": [1, -0.5, 1e300, "é\u0000", true, {}], "a": 1}`, `[[[[]]]]`, `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		v, err := FromJSON(src)
		if err != nil {
			return
		}
		w, err := FromJSON([]byte(v.String()))
		if err != nil || !v.Equal(w) {
			t.Errorf("got %s, then %s, %v", v, w, err)
		}
		var tree any
		if err := json.Unmarshal([]byte(v.String()), &tree); err != nil {
			t.Errorf("%s is not JSON: %v", v, err)
		}
	})
}

// FuzzParseDate: a date that parses is written in a form that parses as the
// same, and agrees with the standard library where that reads it.
func FuzzParseDate(f *testing.F) {
	for _, s := range []string{"2021", "2020-02", "2021-05-04", "2021-05-04T13:37:42.123456+130", "2021-05-04T24:00:00Z", "2021-02-29", "0000-01-01T00:00:00+23:59"} {
		f.Add(s, int64(1), uint8(0))
	}
	f.Fuzz(func(t *testing.T, s string, amount int64, u uint8) {
		ms, err := parseDate(s)
		if std, stdErr := time.Parse(time.RFC3339, s); stdErr == nil && err == nil {
			if want := std.UnixNano() / 1e6; std.Year() > 1970 && std.Year() < 2200 && ms != want {
				t.Errorf("%s: got %d, want %d", s, ms, want)
			}
		}
		if err != nil {
			return
		}
		if text := formatDate(ms); len(text) == len("2021-05-04T13:37:42.000Z") {
			if again, err := parseDate(text); err != nil || again != ms {
				t.Errorf("%s is %s is %d, %v, not %d", s, text, again, err, ms)
			}
		}
		got, ok := plusTime(ms, amount, unit(u%4))
		if !ok || amount > 100_000 || amount < -100_000 {
			return
		}
		at := time.UnixMilli(ms).UTC()
		want := at.Add(time.Duration(amount) * time.Hour)
		switch unit(u % 4) {
		case year:
			want = at.AddDate(int(amount), 0, 0)
		case month:
			want = at.AddDate(0, int(amount), 0)
		case day:
			want = at.AddDate(0, 0, int(amount))
		}
		if got != want.UnixMilli() {
			t.Errorf("%s + %d %s: got %d, want %d", s, amount, unit(u%4), got, want.UnixMilli())
		}
	})
}

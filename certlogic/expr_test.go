package certlogic

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func mustParse(t testing.TB, src string) *Expr {
	t.Helper()
	e, err := Parse([]byte(src))
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return e
}

func mustData(t testing.TB, src string) Value {
	t.Helper()
	v, err := FromJSON([]byte(src))
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return v
}

// TestEvaluation holds what the specification says, above all where
// implementations differ. An expectation that begins with "!" is part of an
// error.
func TestEvaluation(t *testing.T) {
	const data = `{"s": "text", "i": 2, "whole": 1.0, "x": 1.5, "n": null, "a": [1, "b", null], "o": {"0": "zero", "k": 1}, "e": [], "eo": {}, "d": "2021-06-01",
		"l": ["a","b","c","d","e","f","g","h","i","j"]}`
	for name, test := range map[string]struct{ logic, want string }{
		"a missing member is null":                              {`{"var": "nothing.at.all"}`, `null`},
		"an index into an object is its key":                    {`{"var": "o.0"}`, `"zero"`},
		"an index into a string is null":                        {`{"var": "s.0"}`, `null`},
		"a negative index is null":                              {`{"var": "a.-1"}`, `null`},
		"a member of an array is null":                          {`{"var": "a.length"}`, `null`},
		"a guard of a fraction is neither truthy nor falsy":     {`{"if": [{"var": "x"}, 1, 2]}`, `!neither truthy nor falsy`},
		"a whole number with a fraction part is an integer":     {`{"if": [{"var": "whole"}, 1, 2]}`, `1`},
		"a guard of a date-time is neither truthy nor falsy":    {`{"if": [{"plusTime": ["2021-06-01", 0, "day"]}, 1, 2]}`, `!neither truthy nor falsy`},
		"not of a date-time is an error":                        {`{"!": [{"plusTime": ["2021-06-01", 0, "day"]}]}`, `!neither truthy nor falsy`},
		"the last operand of and must be truthy or falsy too":   {`{"and": [true, {"var": "x"}]}`, `!neither truthy nor falsy`},
		"an empty object is falsy":                              {`{"!": [{"var": "eo"}]}`, `true`},
		"and gives its first falsy operand":                     {`{"and": [1, {"var": "e"}, 0]}`, `[]`},
		"and gives its last operand":                            {`{"and": [1, "a"]}`, `"a"`},
		"and does not evaluate after a falsy operand":           {`{"and": [false, {"in": [1, 2]}]}`, `false`},
		"if does not evaluate the other branch":                 {`{"if": [true, 1, {"in": [1, 2]}]}`, `1`},
		"equality does not coerce":                              {`{"===": [1, "1"]}`, `false`},
		"false is not zero":                                     {`{"===": [false, 0]}`, `false`},
		"null equals null":                                      {`{"===": [{"var": "n"}, {"var": "nothing"}]}`, `true`},
		"a whole number equals an integer":                      {`{"===": [{"var": "whole"}, 1]}`, `true`},
		"a date-time is not its text":                           {`{"===": [{"plusTime": ["2021-06-01", 0, "day"]}, "2021-06-01T00:00:00.000Z"]}`, `false`},
		"date-times are equal by instant":                       {`{"===": [{"plusTime": ["2021-06-01", 0, "day"]}, {"plusTime": ["2021-06-01T02:00:00+02:00", 0, "day"]}]}`, `true`},
		"null is in an array with null":                         {`{"in": [{"var": "n"}, {"var": "a"}]}`, `true`},
		"a number is not in an array of its text":               {`{"in": [1, ["1"]]}`, `false`},
		"a string is in a long array":                           {`{"in": ["j", {"var": "l"}]}`, `true`},
		"a string is not in a long array":                       {`{"in": ["k", {"var": "l"}]}`, `false`},
		"null is not in a long array with an empty string":      {`{"in": [{"var": "n"}, ["","b","c","d","e","f","g","h","i","j"]]}`, `false`},
		"a number is not in a long array of strings":            {`{"in": [1, {"var": "l"}]}`, `false`},
		"in null is an error":                                   {`{"in": [1, {"var": "n"}]}`, `!null, not an array`},
		"in a string is an error":                               {`{"in": ["t", {"var": "s"}]}`, `!a string, not an array`},
		"a comparison of a string is an error":                  {`{"<": [1, {"var": "s"}]}`, `!a string, not an integer`},
		"a comparison of null is an error":                      {`{">=": [{"var": "n"}, 0]}`, `!null, not an integer`},
		"a comparison of a fraction is an error":                {`{"<": [1, {"var": "x"}]}`, `!not an integer`},
		"all operands of a ternary comparison are checked":      {`{"<": [2, 1, "x"]}`, `!not an integer`},
		"a ternary comparison holds between neighbours":         {`{"<": [1, 3, 2]}`, `false`},
		"a comparison of date-times takes no strings":           {`{"after": ["2021-06-02", {"plusTime": ["2021-06-01", 0, "day"]}]}`, `!a string, not a date-time`},
		"integers are no date-times":                            {`{"before": [1, 2]}`, `!a number, not a date-time`},
		"not-after includes the same time":                      {`{"not-after": [{"plusTime": ["2021-06-01", 0, "day"]}, {"plusTime": ["2021-06-01", 0, "hour"]}]}`, `true`},
		"plus takes integers only":                              {`{"+": ["a", "b"]}`, `!a string, not an integer`},
		"plus adds":                                             {`{"+": [{"var": "i"}, -3]}`, `-1`},
		"plusTime takes no date-time":                           {`{"plusTime": [{"plusTime": ["2021-06-01", 0, "day"]}, 0, "day"]}`, `!a date-time, not a string`},
		"plusTime takes no null":                                {`{"plusTime": [{"var": "n"}, 0, "day"]}`, `!null, not a string`},
		"a date-time becomes text in the result":                {`{"plusTime": [{"var": "d"}, 1, "day"]}`, `"2021-06-02T00:00:00.000Z"`},
		"reduce of null is the initial value":                   {`{"reduce": [{"var": "n"}, {"var": "current"}, 7]}`, `7`},
		"reduce of an empty array is the initial value":         {`{"reduce": [[], {"var": "current"}, 7]}`, `7`},
		"reduce of a string is an error":                        {`{"reduce": [{"var": "s"}, {"var": "current"}, 7]}`, `!a string, not an array`},
		"reduce folds from the left":                            {`{"reduce": [["a", "b"], [{"var": "accumulator"}, {"var": "current"}], ""]}`, `[["","a"],"b"]`},
		"reduce hides the data":                                 {`{"reduce": [[1], {"var": "s"}, 7]}`, `null`},
		"reduce within reduce has its own data":                 {`{"reduce": [[[1,2],[3]], {"+": [{"var": "accumulator"}, {"reduce": [{"var": "current"}, {"+": [{"var": "accumulator"}, {"var": "current"}]}, 0]}]}, 0]}`, `6`},
		"reduce's whole data":                                   {`{"reduce": [[1], {"var": ""}, 0]}`, `{"accumulator":0,"current":1}`},
		"an initial value sees the data":                        {`{"reduce": [[1], {"var": "accumulator"}, {"var": "s"}]}`, `"text"`},
		"a UVCI with its prefix":                                {`{"extractFromUVCI": ["URN:UVCI:01:NL:ABC#S", 1]}`, `"NL"`},
		"a UVCI without its prefix":                             {`{"extractFromUVCI": ["foo/bar::baz#999lizards", 2]}`, `""`},
		"the last part of a UVCI":                               {`{"extractFromUVCI": ["foo/bar::baz#999lizards", 4]}`, `"999lizards"`},
		"a part beyond the end is null":                         {`{"extractFromUVCI": ["foo/bar", 2]}`, `null`},
		"a negative part is null":                               {`{"extractFromUVCI": ["foo/bar", -1]}`, `null`},
		"the first part of nothing is empty":                    {`{"extractFromUVCI": ["", 0]}`, `""`},
		"a prefix in lower case is no prefix":                   {`{"extractFromUVCI": ["urn:uvci:01", 0]}`, `"urn"`},
		"a UVCI of null is null":                                {`{"extractFromUVCI": [{"var": "n"}, 0]}`, `null`},
		"a UVCI of a number is an error":                        {`{"extractFromUVCI": [{"var": "i"}, 0]}`, `!a number, not a string or null`},
		"a date of birth is a date only":                        {`{"dccDateOfBirth": ["2004-02-01T00:00:00Z"]}`, `!format`},
		"an empty date of birth is an error":                    {`{"dccDateOfBirth": [""]}`, `!format`},
		"a date of birth of a month is its last day":            {`{"dccDateOfBirth": ["2004-02"]}`, `"2004-02-29T00:00:00.000Z"`},
		"an array is evaluated element by element":              {`[{"var": "i"}, "x", [{"var": "n"}]]`, `[2,"x",[null]]`},
		"an error names the place":                              {`{"and": [true, {"if": [{"in": [1, 2]}, 1, 2]}]}`, `!$.and[1].if[0]`},
		"adding beyond the range of dates is an error":          {`{"plusTime": ["2021-06-01", 1000000, "year"]}`, `!out of range`},
		"adding a number of hours beyond the range is an error": {`{"plusTime": ["2021-06-01", 1099511627776, "hour"]}`, `!out of range`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mustParse(t, test.logic).Evaluate(mustData(t, data))
			if want, isError := strings.CutPrefix(test.want, "!"); isError {
				var at *EvalError
				if !errors.As(err, &at) || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, %v, want an error about %q", got, err, want)
				}
				return
			}
			if err != nil || got.String() != test.want {
				t.Errorf("got %v, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestDatesAreReadAsTheSpecificationSays(t *testing.T) {
	for text, want := range map[string]string{
		"2021":                           "2021-12-31T00:00:00.000Z",
		"2021-02":                        "2021-02-28T00:00:00.000Z",
		"2020-02":                        "2020-02-29T00:00:00.000Z",
		"2021-12":                        "2021-12-31T00:00:00.000Z",
		"2021-05-04":                     "2021-05-04T00:00:00.000Z",
		"2021-05-04T13:37:42":            "2021-05-04T13:37:42.000Z",
		"2021-05-04T13:37:42Z":           "2021-05-04T13:37:42.000Z",
		"2021-05-04T13:37:42+1":          "2021-05-04T12:37:42.000Z",
		"2021-05-04T13:37:42+01":         "2021-05-04T12:37:42.000Z",
		"2021-05-04T13:37:42+130":        "2021-05-04T12:07:42.000Z",
		"2021-05-04T13:37:42-0130":       "2021-05-04T15:07:42.000Z",
		"2021-05-04T13:37:42+1:30":       "2021-05-04T12:07:42.000Z",
		"2021-05-04T13:37:42-01:30":      "2021-05-04T15:07:42.000Z",
		"2021-05-04T13:37:42.1":          "2021-05-04T13:37:42.100Z",
		"2021-05-04T13:37:42.0019999Z":   "2021-05-04T13:37:42.001Z",
		"2021-05-04T13:37:42.999999999Z": "2021-05-04T13:37:42.999Z",
		"2021-05-04T13:37:42.12+2":       "2021-05-04T11:37:42.120Z",
		"2021-05-04T13:37:42.123-10:00":  "2021-05-04T23:37:42.123Z",
		"2021-05-04T24:00:00Z":           "2021-05-05T00:00:00.000Z",
		"2021-01-01T00:00:00+02:00":      "2020-12-31T22:00:00.000Z",
		"0000-01-01":                     "0000-01-01T00:00:00.000Z",
	} {
		got, err := mustParse(t, `{"plusTime": [{"var": ""}, 0, "day"]}`).Evaluate(StringValue(text))
		if err != nil || got.String() != `"`+want+`"` {
			t.Errorf("%s: got %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "21", "2021-", "2021-1", "2021-13", "2021-00", "2021-02-29", "2021-02-30", "2021-04-31", "2021-05-4", "20210504", "2021/05/04",
		"2021-05-04 13:37:42", "2021-05-04T", "2021-05-04T13:37", "2021-05-04T13:37Z", "2021-05-04t13:37:42z", "2021-05-04T25:00:00", "2021-05-04T24:00:01", "2021-05-04T13:60:00",
		"2021-05-04T13:37:60", "2021-05-04T13:37:42.", "2021-05-04T13:37:42.Z", "2021-05-04T13:37:42+", "2021-05-04T13:37:42+01:", "2021-05-04T13:37:42+01:3", "2021-05-04T13:37:42+24:00",
		"2021-05-04T13:37:42+00:60", "2021-05-04T13:37:42+00000", "2021-05-04T13:37:42 Z", "2021-05-04T13:37:42Zx", " 2021-05-04", "+2021-05-04", "２０２１-05-04", "2021-05-04T1a:37:42"} {
		if got, err := mustParse(t, `{"plusTime": [{"var": ""}, 0, "day"]}`).Evaluate(StringValue(text)); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestTimesAreAddedAsECMAScriptDoes(t *testing.T) {
	for _, test := range []struct {
		from   string
		amount int
		unit   string
		want   string
	}{
		{"2020-02-29", 1, "day", "2020-03-01"}, {"2020-02-29", 1, "month", "2020-03-29"}, {"2020-02-29", 1, "year", "2021-03-01"},
		{"2020-02-29", 4, "year", "2024-02-29"}, {"2020-02-29", -1, "year", "2019-03-01"},
		{"2021-01-31", 1, "month", "2021-03-03"}, {"2020-01-31", 1, "month", "2020-03-02"}, {"2021-03-31", -1, "month", "2021-03-03"},
		{"2021-12-31", 2, "month", "2022-03-03"}, {"2021-12-01", -12, "month", "2020-12-01"}, {"2021-05-31", 1, "month", "2021-07-01"},
		{"2021-06-23", -180, "day", "2020-12-25"}, {"2021-06-23", 48, "hour", "2021-06-25"}, {"2021-06-23", -72, "hour", "2021-06-20"},
		{"2021", 1, "year", "2022-12-31"}, {"2020-02", 1, "year", "2021-03-01"}, {"2004-02", 18, "year", "2022-03-01"},
		{"1999-12-31", 1, "day", "2000-01-01"}, {"1969-12-31", -1, "month", "1969-12-01"}, {"1900-02-28", 1, "day", "1900-03-01"},
	} {
		got, err := mustParse(t, fmt.Sprintf(`{"plusTime": [%q, %d, %q]}`, test.from, test.amount, test.unit)).Evaluate(Value{})
		if want := `"` + test.want + `T00:00:00.000Z"`; err != nil || got.String() != want {
			t.Errorf("%s + %d %s: got %v, %v, want %s", test.from, test.amount, test.unit, got, err, want)
		}
	}
}

// TestEveryProblemIsReportedWithItsPlace: path, line and column of each.
func TestEveryProblemIsReportedWithItsPlace(t *testing.T) {
	const src = `{"and": [
  {"if": [{"var": "a..b"}, null]},
  {"plusTime": [{"var": 0}, 1.5, "week"]},
  {"or": [1, 2]},
  {"var": "x", "if": []},
  {"===": "x"},
  [1, [2.5]],
  {"extractFromUVCI": ["a", "0"]},
  {"!": []},
  {"<": [1]}
]}`
	_, err := Parse([]byte(src))
	var got Problems
	if !errors.As(err, &got) {
		t.Fatalf("got %v", err)
	}
	want := []struct {
		place, says string
	}{
		{"2:10 ($.and[0].if)", "exactly 3 operands, here are 2"},
		{"2:19 ($.and[0].if[0].var)", "empty fragment"},
		{"2:28 ($.and[0].if[1])", "null is not an expression"},
		{"3:25 ($.and[1].plusTime[0].var)", "data access has the form"},
		{"3:29 ($.and[1].plusTime[1])", "literal integer"},
		{"3:34 ($.and[1].plusTime[2])", `"hour"`},
		{"4:3 ($.and[2].or)", "is not an operation"},
		{"5:3 ($.and[3])", "exactly one key, this one has 2"},
		{"6:11 ($.and[4].===)", "an operation has the form"},
		{"7:8 ($.and[5][1][0])", "2.5 is not an integer"},
		{"8:29 ($.and[6].extractFromUVCI[1])", "literal integer"},
		{"9:9 ($.and[7].!)", "exactly 1 operand, here are 0"},
		{"10:9 ($.and[8].<)", "2 or 3 operands, here are 1"},
	}
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d:\n%v", len(got), len(want), err)
	}
	for i := range min(len(got), len(want)) {
		if s := got[i].String(); !strings.HasPrefix(s, want[i].place+": ") || !strings.Contains(s, want[i].says) {
			t.Errorf("got %q, want %s … %s", s, want[i].place, want[i].says)
		}
		if p := got[i]; src[p.Offset] == ' ' || src[p.Offset] == ',' {
			t.Errorf("%s: the offset %d is not at a value", p, p.Offset)
		}
	}
}

func TestWhatIsNoExpressionIsRefused(t *testing.T) {
	for name, src := range map[string]string{
		"nothing":             "",
		"no JSON":             "{",
		"half a string":       `"a`,
		"two expressions":     "true false",
		"no UTF-8":            "\"\xff\"",
		"a number too large":  "1e999",
		"too deep":            strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
		"too many nodes":      "[" + strings.Repeat("1,", MaxNodes) + "1]",
		"too large":           `"` + strings.Repeat("a", MaxSource) + `"`,
		"an operation twice":  `{"!": [true], "!": [true]}`,
		"an unknown constant": `nil`,
	} {
		if e, err := Parse([]byte(src)); err == nil {
			t.Errorf("%s: got %v", name, e)
		}
	}
	if _, err := Parse([]byte(strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1))); err != nil {
		t.Errorf("as deep as is allowed: %v", err)
	}
}

// TestEvaluationIsBounded: what would work or grow without bound ends in an
// error.
func TestEvaluationIsBounded(t *testing.T) {
	items := make([]string, 400)
	for i := range items {
		items[i] = "1"
	}
	list := "[" + strings.Join(items, ",") + "]"
	for name, logic := range map[string]string{
		"doubling":        `{"reduce": [` + list + `, [{"var": "accumulator"}, {"var": "accumulator"}], 1]}`,
		"doubling data":   `{"reduce": [` + list + `, [{"var": ""}, {"var": ""}], 1]}`,
		"loops in loops":  `{"reduce": [` + list + `, {"reduce": [` + list + `, {"reduce": [` + list + `, 1, 1]}, 1]}, 1]}`,
		"comparing":       `{"reduce": [` + list + `, {"===": [` + list + `, ` + list + `]}, 1]}`,
		"searching":       `{"reduce": [` + list + `, {"in": [2, ` + list + `]}, 1]}`,
		"doubling and ==": `{"reduce": [[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30], [{"var": "accumulator"}, {"var": "accumulator"}], 1]}`,
	} {
		if v, err := mustParse(t, logic).Evaluate(Value{}); err == nil || !strings.Contains(err.Error(), "over") {
			t.Errorf("%s: got %d values, %v", name, v.weight(), err)
		}
	}
}

func TestDataIsBoundedAndPlain(t *testing.T) {
	for name, src := range map[string]string{
		"nothing": "", "no JSON": "{", "two values": "1 2", "no UTF-8": "\"\xff\"", "too large a number": "1e999",
		"too deep":        strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
		"too many values": "[" + strings.Repeat("1,", MaxValues) + "1]",
		"too large":       `"` + strings.Repeat("a", MaxData) + `"`,
	} {
		if v, err := FromJSON([]byte(src)); err == nil {
			t.Errorf("%s: got %d values", name, v.weight())
		}
	}
	if got := mustData(t, `{"b": 1, "a": {"x": [1.50, -0, 1e2, "\u0001\"<\u2028é"]}, "b": 2}`).String(); got != `{"a":{"x":[1.5,0,100,"\u0001\"<\u2028é"]},"b":2}` {
		t.Errorf("got %s", got)
	}
	if v, err := FromAny(map[string]any{"f": func() {}}); err == nil {
		t.Errorf("a function: got %v", v)
	}
	v, err := FromAny(map[string]any{"i": int64(3), "u": uint64(4), "s": []string{"a"}, "v": StringValue("x"), "n": nil, "b": true})
	if err != nil || !v.Equal(mustData(t, `{"i":3,"u":4,"s":["a"],"v":"x","n":null,"b":true}`)) {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestAccessesAndText(t *testing.T) {
	e := mustParse(t, `{"if": [{"and": [{"var": "payload.v.0"}, {"!": [{"var": "payload.t.0"}]}]},
		{"not-after": [{"plusTime": [{"var": "payload.v.0.dt"}, 14, "day"]}, {"plusTime": [{"var": "external.validationClock"}, -1, "hour"]}]},
		{"reduce": [{"var": "payload.v"}, {"var": "current.dt"}, {"var": "payload.v.0"}]}]}`)
	if got, want := strings.Join(e.Accesses(), " "), "payload.v.0 payload.t.0 payload.v.0.dt external.validationClock payload.v"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := `if payload.v.0 and not payload.t.0 then payload.v.0.dt + 14 days not-after external.validationClock - 1 hour else reduce(payload.v, current.dt, payload.v.0)`
	if got := e.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

package conformance

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	vectors       = "../../../shared/data/dcc"
	disagreements = "../../docs/compat/dcc-disagreements.md"
)

// readDisagreements returns the flags that the list explains, by file.
func readDisagreements(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(disagreements)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 5 || !strings.Contains(cells[1], ".json") {
			continue
		}
		if why := strings.TrimSpace(cells[3]); len(why) < 40 {
			t.Errorf("%s is listed without an explanation", cells[1])
		}
		flags := strings.Fields(cells[2])
		slices.Sort(flags)
		list[strings.TrimSpace(cells[1])] = flags
	}
	return list
}

func TestPublicVectorsPassOrAreExplained(t *testing.T) {
	if _, err := os.Stat(vectors); err != nil {
		t.Skipf("public test data is not beside the repository: %v", err)
	}
	results, err := Run(vectors)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(results), 82; got != want {
		t.Errorf("got %d vectors, want %d", got, want)
	}
	explained := readDisagreements(t)
	for _, r := range results {
		var differ []string
		for flag, want := range r.Expected {
			if r.Steps[flag] != want {
				differ = append(differ, flag)
			}
		}
		slices.Sort(differ)
		if !slices.Equal(differ, explained[r.File]) {
			t.Errorf("%s: disagrees on %v, the list explains %v: %s", r.File, differ, explained[r.File], r.Error)
		}
		if r.Passed() != (len(differ) == 0) {
			t.Errorf("%s: passed is %v but %d flags differ", r.File, r.Passed(), len(differ))
		}
		delete(explained, r.File)
	}
	for file := range maps.Keys(explained) {
		t.Errorf("%s is listed but there is no such vector", file)
	}
}

func TestMisspeltFlagsMeanTheNearestOne(t *testing.T) {
	for name, want := range map[string]string{
		"EXPECTEDVERIFY": Verify, "EXPECTEDVERFIY": Verify, "expectedVerify": Verify, "EXPECTED_VERIFY": Verify,
		"EXPTECTEDEXPIRED": ExpirationCheck, "EXPECTEDEXPIRATIONCHEK": ExpirationCheck, "EXPECTEDEXPIRATIONCHECK ": ExpirationCheck,
		"EXPECTEDPICTURDECODE": PictureDecode, "EXPECTEDUNPREFX": Unprefix, "EXPECTEDVALIDOBJEKT": ValidObject,
		"EXPECTEDSCHEMAVALIDTION": SchemaValidation, "EXPECTEDCOMPRESION": Compression, "EXPECTEDDECODE": Decode, "EXPECTEDENCODE": Encode,
		"EXPECTEDB45DECODE": Base45Decode, "EXPECTEDKEYUSGAE": KeyUsage, "EXPECTEDVALIDJSON": ValidJSON,
		"EXPECTEDWEATHER": "", "DESCRIPTION": "", "": "",
	} {
		if got := rightName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestClocks(t *testing.T) {
	want := time.Date(2021, 6, 9, 13, 15, 34, 0, time.UTC)
	for _, s := range []string{
		"2021-06-09T13:15:34Z", "2021-06-09T15:15:34+02:00", "2021-06-09T15:15:34+0200", "2021-06-09T15:15:34+02",
		"2021-06-09T13:15:34", "2021-06-09 13:15:34", "2021-06-09T13:15:34.0Z", "2021-06-09T13:15:34.000000000",
		"2021-06-09T15:15:34.000+02:00", " 2021-06-09T13:15:34Z ",
	} {
		if got, err := parseClock(s); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
	if got, err := parseClock("2021-06-08T20:17:27.9906293Z"); err != nil || got.Nanosecond() != 990629300 {
		t.Errorf("seven digits: got %v, %v", got, err)
	}
	for _, s := range []string{"", "yesterday", "2021-06-09T25:00:00Z", "2021-06-09T13:15:34Zx"} {
		if _, err := parseClock(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestWhatIsNoVector(t *testing.T) {
	if _, ok := Evaluate("package.json", []byte(`{"name":"x"}`)); ok {
		t.Error("a JSON file without test context was taken for a vector")
	}
	for name, data := range map[string]string{
		"broken":         `{`,
		"wrong type":     `{"TESTCTX":{},"PREFIX":1,"EXPECTEDRESULTS":{"EXPECTEDUNPREFIX":true}}`,
		"no object":      `[]`,
		"unknown flag":   `{"TESTCTX":{},"EXPECTEDRESULTS":{"EXPECTEDWEATHER":true}}`,
		"no boolean":     `{"TESTCTX":{},"EXPECTEDRESULTS":{"EXPECTEDVERIFY":"maybe"}}`,
		"nothing to run": `{"TESTCTX":{},"EXPECTEDRESULTS":{"EXPECTEDVERIFY":true}}`,
	} {
		r, ok := Evaluate(name, []byte(data))
		if !ok || r.Passed() || len(r.Steps) < len(Flags()) {
			t.Errorf("%s: got %+v, %v", name, r, ok)
		}
	}
	// Failure can be what is expected, and booleans may be quoted.
	r, ok := Evaluate("x", []byte("\ufeff"+`{"TESTCTX":{"VALIDATIONCLOCK":1},"EXPECTEDRESULTS":{"EXPECTEDVERIFY":"false","EXPECTEDDECODE":null}}`))
	if !ok || !r.Passed() {
		t.Errorf("an expected failure: %+v", r)
	}
}

// TestTamperingIsSeen changes a public vector and expects the steps to tell.
func TestTamperingIsSeen(t *testing.T) {
	data, err := os.ReadFile(vectors + "/IE/2DCode/Raw/1.json")
	if err != nil {
		t.Skipf("public test data is not beside the repository: %v", err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(v, ctx map[string]any)
		fail []string // the flags whose steps must fail, and no others
	}{
		{"nothing", func(v, ctx map[string]any) {}, nil},
		{"a signature bit", func(v, ctx map[string]any) {
			cose := v["COSE"].(string)
			v["COSE"] = cose[:len(cose)-1] + map[bool]string{true: "1", false: "0"}[strings.HasSuffix(cose, "0")]
		}, []string{Compression, Verify}},
		{"the prefix", func(v, ctx map[string]any) { v["PREFIX"] = "HC2:" + v["PREFIX"].(string)[4:] }, []string{Unprefix, ValidJSON}},
		{"the clock", func(v, ctx map[string]any) { ctx["VALIDATIONCLOCK"] = "2001-01-01T00:00:00Z" }, []string{ExpirationCheck}},
		{"the certificate", func(v, ctx map[string]any) { ctx["CERTIFICATE"] = "AAAA" }, []string{Verify, KeyUsage}},
		{"the JSON", func(v, ctx map[string]any) { v["JSON"].(map[string]any)["dob"] = "1980-01-02" }, []string{Encode, Decode, ValidJSON}},
		{"the JSON's form", func(v, ctx map[string]any) { v["JSON"].(map[string]any)["dob"] = int64(5) }, []string{ValidObject, Encode, Decode, ValidJSON}},
		{"base45", func(v, ctx map[string]any) { v["BASE45"] = "!" + v["BASE45"].(string)[1:] }, []string{Unprefix, Base45Decode}},
		{"the compressed form", func(v, ctx map[string]any) { v["COMPRESSED"] = v["COMPRESSED"].(string)[4:] }, []string{Base45Decode, Compression}},
	} {
		copied := map[string]any{}
		if err := json.Unmarshal(data, &copied); err != nil {
			t.Fatal(err)
		}
		c.edit(copied, copied["TESTCTX"].(map[string]any))
		changed, err := json.Marshal(copied)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := Evaluate("changed", changed)
		var failed []string
		for _, f := range Flags() {
			if !r.Steps[f] {
				failed = append(failed, f)
			}
		}
		slices.Sort(failed)
		slices.Sort(c.fail)
		if !slices.Equal(failed, c.fail) {
			t.Errorf("%s changed: %v failed, want %v; %v", c.name, failed, c.fail, r.Why)
		}
	}
}

func TestBase64InTheFormsOfTheFiles(t *testing.T) {
	want := []byte{0xfb, 0xff, 0xbf, 1}
	for name, text := range map[string]field{
		"plain":            "+/+/AQ==",
		"without padding":  "+/+/AQ",
		"URL alphabet":     "-_-_AQ==",
		"in lines":         "+/+/\r\nAQ==\n",
		"with PEM armour":  "-----BEGIN CERTIFICATE-----\n+/+/AQ==\n-----END CERTIFICATE-----\n",
		"as a data URL":    "data:image/png;base64,+/+/AQ==",
		"between blanks":   " +/+/AQ== ",
		"armour, CRLF":     "-----BEGIN CERTIFICATE-----\r\n+/+/AQ==\r\n-----END CERTIFICATE-----",
		"padding in lines": "+/+/\nAQ\n==",
	} {
		if got, err := unbase64(text); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, %v, want %x", name, got, err, want)
		}
	}
	if _, err := unbase64("?"); err == nil {
		t.Error("a question mark was accepted")
	}
}

func TestWhatCountsAsTheSameContent(t *testing.T) {
	test := func(sc any) map[string]any { return map[string]any{"t": []any{map[string]any{"sc": sc}}} }
	for _, c := range []struct {
		name string
		a, b map[string]any
		want bool
	}{
		{"null and absent", map[string]any{"v": nil}, map[string]any{}, true},
		{"null and something", map[string]any{"v": nil}, map[string]any{"v": false}, false},
		{"absent and something", map[string]any{}, map[string]any{"v": int64(1)}, false},
		{"integer and float", map[string]any{"n": int64(2)}, map[string]any{"n": 2.0}, true},
		{"number and text", map[string]any{"n": int64(2)}, map[string]any{"n": "2"}, false},
		{"composed and decomposed", map[string]any{"n": "Gößinger"}, map[string]any{"n": "Go\u0308ßinger"}, true},
		{"other letters", map[string]any{"n": "Gößinger"}, map[string]any{"n": "Goessinger"}, false},
		{"the same instant", test("2021-06-05T02:00:00+02:00"), test("2021-06-05T00:00:00Z"), true},
		{"another instant", test("2021-06-05T02:00:00Z"), test("2021-06-05T00:00:00Z"), false},
		{"the same instant elsewhere", map[string]any{"x": "2021-06-05T02:00:00+02:00"}, map[string]any{"x": "2021-06-05T00:00:00Z"}, false},
		{"lists of other length", map[string]any{"v": []any{}}, map[string]any{"v": []any{int64(1)}}, false},
		{"list and object", map[string]any{"v": []any{}}, map[string]any{"v": map[string]any{}}, false},
		{"other truth", map[string]any{"v": true}, map[string]any{"v": false}, false},
	} {
		if got := same(c.a, c.b) == nil; got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if got := same(c.b, c.a) == nil; got != c.want {
			t.Errorf("%s, the other way: got %v, want %v", c.name, got, c.want)
		}
	}
}

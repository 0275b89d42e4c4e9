package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"verdant/kql"
)

// kqlProbes are small queries, one for each tabular operator and source of the
// language. An operator is implemented if its query binds.
var kqlProbes = []struct{ name, query string }{
	{"as", "T | as X"},
	{"assert-schema", "T | assert-schema (S:string)"},
	{"consume", "T | consume"},
	{"count", "T | count"},
	{"datatable", "datatable(x:long)[1]"},
	{"distinct", "T | distinct S"},
	{"evaluate", "T | evaluate bag_unpack(D)"},
	{"extend", "T | extend x = 1"},
	{"externaldata", `externaldata(x:string)["https://example.org/x.csv"]`},
	{"facet", "T | facet by S"},
	{"filter", "T | filter N > 1"},
	{"find", "find in (T) where N > 1"},
	{"fork", "T | fork (count)"},
	{"getschema", "T | getschema"},
	{"graph-match", "T | graph-match (a)-->(b)"},
	{"invoke", "let f = (t:(N:long)) { t | count }; T | invoke f()"},
	{"join kind=anti", "T | join kind=anti (T) on S"},
	{"join kind=fullouter", "T | join kind=fullouter (T) on S"},
	{"join kind=inner", "T | join kind=inner (T) on S"},
	{"join kind=innerunique (the default)", "T | join (T) on S"},
	{"join kind=leftanti", "T | join kind=leftanti (T) on S"},
	{"join kind=leftouter", "T | join kind=leftouter (T) on S"},
	{"join kind=leftsemi", "T | join kind=leftsemi (T) on S"},
	{"join kind=rightanti", "T | join kind=rightanti (T) on S"},
	{"join kind=rightouter", "T | join kind=rightouter (T) on S"},
	{"join kind=rightsemi", "T | join kind=rightsemi (T) on S"},
	{"limit", "T | limit 1"},
	{"lookup", "T | lookup (T) on S"},
	{"make-graph", "T | make-graph S --> S"},
	{"make-series", "T | make-series c = count() on TimeGenerated from datetime(2024-01-01) to datetime(2024-01-02) step 1h"},
	{"mv-apply", "T | mv-apply x = D on (take 1)"},
	{"mv-expand", "T | mv-expand D"},
	{"mvexpand", "T | mvexpand D"},
	{"order", "T | order by N"},
	{"parse", `T | parse S with "a" b:string`},
	{"parse-kv", "T | parse-kv S as (a:string) with (pair_delimiter=',', kv_delimiter='=')"},
	{"parse-where", `T | parse-where S with "a" b:string`},
	{"partition", "T | partition by S (top 1 by N)"},
	{"print", "print x = 1"},
	{"project", "T | project S"},
	{"project-away", "T | project-away S"},
	{"project-keep", "T | project-keep S"},
	{"project-rename", "T | project-rename x = S"},
	{"project-reorder", "T | project-reorder N"},
	{"range", "range x from 1 to 3 step 1"},
	{"reduce", "T | reduce by S"},
	{"render", "T | render timechart"},
	{"sample", "T | sample 1"},
	{"sample-distinct", "T | sample-distinct 1 of S"},
	{"scan", "T | sort by N | scan declare (x:long) with (step s: true => x = N;)"},
	{"search", `search "x"`},
	{"serialize", "T | serialize"},
	{"sort", "T | sort by N"},
	{"summarize", "T | summarize count() by S"},
	{"take", "T | take 1"},
	{"top", "T | top 1 by N"},
	{"top-hitters", "T | top-hitters 1 of S"},
	{"top-nested", "T | top-nested 1 of S by count()"},
	{"union", "union T, T"},
	{"where", "T | where N > 1"},
}

// kqlForms are counted as functions in the frequencies but have a syntax of
// their own, which the probes cover.
var kqlForms = []string{"dynamic", "datetime", "timespan", "datatable", "materialize", "toscalar", "workspace"}

// kqlStatements are the parts of queries that are no operators.
var kqlStatements = []struct{ name, query string }{
	{"let with a value", "let a = 1; print a"},
	{"let with a table", "let a = T; a | count"},
	{"let with a function", "let f = (x:long) { x + 1 }; print f(1)"},
	{"dynamic paths a.b and a[0]", "T | project D.a[0]"},
	{"dynamic literals", `print dynamic({"a":[1]})`},
	{"materialize()", "let a = materialize(T); a | count"},
	{"toscalar()", "print toscalar(T | count)"},
	{"column wildcards", "T | project-away Time*"},
	{"union isfuzzy=true", "union isfuzzy=true T, NoSuchTable"},
	{"table wildcards in union", "union T*"},
	{"hint.", "T | join hint.strategy=broadcast (T) on S"},
	{"set", "set notruncation; T"},
	{"declare query_parameters", "declare query_parameters (x:long = 1); print x"},
	{"workspace()", `workspace("w").T | count`},
	{"app()", `app("a").T | count`},
}

// oneWorkspace is a catalog that is its own neighbour.
type oneWorkspace struct{ kql.MapCatalog }

func (c oneWorkspace) Workspace(string) (kql.Catalog, bool) { return c, true }

// implemented binds a query; false means that the engine says that it does not
// have what the query needs.
func implemented(query string) (bool, error) {
	schema := kql.Schema{{Name: "TimeGenerated", Type: kql.DateTime}, {Name: "S", Type: kql.String}, {Name: "N", Type: kql.Long}, {Name: "R", Type: kql.Real}, {Name: "B", Type: kql.Bool}, {Name: "D", Type: kql.Dynamic}}
	q, err := kql.Parse(query)
	if err == nil {
		_, err = kql.Bind(q, oneWorkspace{kql.MapCatalog{"T": kql.NewMemTable(schema)}}, kql.BindOptions{Now: time.Unix(0, 0)})
	}
	var refusal *kql.Error
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &refusal) && refusal.Code == kql.NotImplemented:
		return false, nil
	}
	return false, err
}

// kqlValues are arguments of every type, the commonest first.
var kqlValues = []string{"S", "N", "D", "R", "TimeGenerated", "B", "1h", "50", `"1.2.3.4"`, `dynamic([50])`, `"day"`, "toguid(S)", "toscalar(T | count)"}

// kqlCalls are whole calls where the search below does not find one.
var kqlCalls = map[string]string{
	"case": `case(B, "a", "b")`, "make_string": "make_string(97)", "row_number": "row_number()", "table": `toscalar(table("T") | count)`, "ipv4_lookup": "ipv4_lookup(T, S, S)",
	"percentile": "percentile(N, 50)", "percentiles": "percentiles(N, 50)", "column_ifexists": `column_ifexists("S", "")`,
	"columnifexists": `columnifexists("S", "")`, "datetime_diff": `datetime_diff("day", TimeGenerated, TimeGenerated)`, "bag_pack": `bag_pack("a", N)`,
	"pack": `pack("a", N)`, "pack_dictionary": `pack_dictionary("a", N)`, "geo_info_from_ip_address": "geo_info_from_ip_address(S)", "iscolumnexists": `iscolumnexists("S")`,
	"row_window_session": "row_window_session(TimeGenerated, 1h, 1m, B)", "format_datetime": `format_datetime(TimeGenerated, "yyyy")`,
	"format_timespan": `format_timespan(1h, "hh")`, "percentilesw": "percentilesw(N, N, 50, 90)", "percentilesw_array": "percentilesw_array(N, N, 50, 90)",
	"datetime_part": `datetime_part("day", TimeGenerated)`, "datetime_add": `datetime_add("day", 1, TimeGenerated)`, "datepart": `datepart("day", TimeGenerated)`,
	"replace_strings": `replace_strings(S, dynamic(["a"]), dynamic(["b"]))`, "percentiles_array": "percentiles_array(N, 50, 90)",
	"bag_pack_columns": "bag_pack_columns(S, N)", "arg_max": "arg_max(N, *)", "arg_min": "arg_min(N, *)", "argmax": "argmax(N, *)", "argmin": "argmin(N, *)",
}

var (
	wrongCount    = regexp.MustCompile(`does not take \d+ arguments`)
	wrongArgument = regexp.MustCompile(`as argument (\d+)$`)
)

// hasFunction looks for arguments with which a call binds. where is the query
// around the call, with %s for it. The answer is "yes", "no" (the engine says
// that it does not have the function) or what stood in the way.
func hasFunction(where, name string) string {
	if call, ok := kqlCalls[name]; ok {
		return verdict(fmt.Sprintf(where, call))
	}
	last := "no"
	for arity := range 8 {
		chosen := make([]int, arity)
		for range arity*len(kqlValues) + 1 {
			args := make([]string, arity)
			for i, c := range chosen {
				args[i] = kqlValues[c]
			}
			answer := verdict(fmt.Sprintf(where, name+"("+strings.Join(args, ", ")+")"))
			if answer == "yes" || answer == "no" {
				return answer
			}
			if wrongCount.MatchString(answer) {
				break
			}
			last = answer
			at := wrongArgument.FindStringSubmatch(answer)
			i := arity - 1 // where the message does not say which
			if at != nil {
				n, _ := strconv.Atoi(at[1])
				i = n - 1
			}
			if i < 0 || i >= arity || chosen[i]+1 >= len(kqlValues) {
				break
			}
			chosen[i]++
		}
	}
	return last
}

// verdict is what the engine says of a query.
func verdict(query string) string {
	ok, err := implemented(query)
	var refusal *kql.Error
	switch {
	case ok:
		return "yes"
	case err == nil, errors.As(err, &refusal) && strings.Contains(refusal.Message, "no known function"):
		return "no"
	case errors.As(err, &refusal):
		return refusal.Message
	}
	return err.Error()
}

func hasScalar(name string) string { return hasFunction("T | sort by N asc | extend x = %s", name) }

func hasAggregate(name string) string { return hasFunction("T | summarize x = %s", name) }

func hasPlugin(name string) string { return hasFunction("T | evaluate %s", name) }

type kqlSymbols struct {
	Scalar     []string `json:"scalar_functions"`
	Aggregates []string `json:"aggregates"`
	Plugins    []string `json:"plugins"`
}

type kqlFrequency struct {
	N         int      `json:"n"`
	Functions [][2]any `json:"functions"`
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		if os.Getenv("VERDANT_REQUIRE_DATA") != "" {
			t.Fatal(err)
		}
		t.Skipf("the public data is absent: %v", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// TestCompatKQL prints what of the language is implemented, by asking the
// binder, and compares it with docs/compat/kql.md.
func TestCompatKQL(t *testing.T) {
	var symbols kqlSymbols
	readJSON(t, "../../shared/data/kql/kql-symbols.json", &symbols)
	var frequency kqlFrequency
	readJSON(t, "../../shared/data/kql/kql-frequency.json", &frequency)
	if ok, err := implemented("T | nonsense"); ok || err == nil {
		t.Fatalf("an operator that does not exist: got %v, %v", ok, err)
	}
	if hasAggregate("nonsense") != "no" || hasScalar("nonsense") != "no" || hasPlugin("nonsense") != "no" {
		t.Fatal("a function that does not exist is found")
	}
	var b strings.Builder
	b.WriteString("<!-- Printed from package kql by the test TestCompatKQL; do not edit. -->\n# KQL\n\n" +
		"What of the Kusto query language the log query API answers. Names are those of the published\n" +
		"grammar (Kusto.Language). What is not here is refused with `NotImplemented`, its name and its\n" +
		"position (line and column, from 1); nothing is guessed.\n")
	table := func(title string, probes []struct{ name, query string }) {
		fmt.Fprintf(&b, "\n## %s\n\n", title)
		var yes, no []string
		for _, p := range probes {
			ok, err := implemented(p.query)
			switch {
			case err != nil:
				t.Errorf("the probe for %s does not bind: %v", p.name, err)
			case ok:
				yes = append(yes, "`"+p.name+"`")
			default:
				no = append(no, "`"+p.name+"`")
			}
		}
		fmt.Fprintf(&b, "Implemented (%d): %s.\n\nNot implemented (%d): %s.\n", len(yes), list(yes), len(no), list(no))
	}
	table("Tabular operators and sources", kqlProbes)
	table("Statements and other parts", kqlStatements)
	split := func(title string, names []string, has func(string) string) {
		var yes, no []string
		for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
			switch answer := has(name); answer {
			case "yes":
				yes = append(yes, "`"+name+"`")
			case "no":
				no = append(no, "`"+name+"`")
			default:
				no = append(no, "`"+name+"`")
				t.Logf("no call of %s was found that binds: %s", name, answer)
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\nImplemented (%d of %d): %s.\n\nNot implemented: %s.\n", title, len(yes), len(yes)+len(no), list(yes), list(no))
	}
	split("Scalar functions", symbols.Scalar, hasScalar)
	split("Aggregates", symbols.Aggregates, hasAggregate)
	split("Plugins of evaluate", symbols.Plugins, hasPlugin)
	writeFrequency(&b, frequency)
	checkPage(t, "kql.md", b.String())
}

// writeFrequency says how much of what people use is implemented.
func writeFrequency(b *strings.Builder, f kqlFrequency) {
	var all, covered float64
	var missing []string
	for _, pair := range f.Functions {
		name, _ := pair[0].(string)
		uses, _ := pair[1].(float64)
		all += uses
		if slices.Contains(kqlForms, name) || hasScalar(name) == "yes" || hasAggregate(name) == "yes" || hasPlugin(name) == "yes" {
			covered += uses
		} else {
			missing = append(missing, fmt.Sprintf("`%s` (%.0f)", name, uses))
		}
	}
	fmt.Fprintf(b, "\n## In practice\n\nOf the %.0f uses of functions and aggregates in %d published queries, %.1f %% are of implemented ones.\n"+
		"Those that are missing, with their uses: %s.\n", all, f.N, 100*covered/all, list(missing))
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

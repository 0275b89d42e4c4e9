package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
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

// aggregateArguments are tried in this order until one binds.
var aggregateArguments = []string{"", "N", "S", "D", "B", "R", "S, N", "N, N", "N, S", "N, B", "S, B", "B, N", "N, 50", "N, N, 50", "N, N, B", "N, 50, 90", "N, dynamic([50])", "N, N, dynamic([50])"}

// hasScalar tells whether a scalar function is implemented; those that need an
// ordered table or the whole row are not among the listed ones.
func hasScalar(name string) bool {
	return slices.Contains(kql.Functions(), name) || slices.ContainsFunc(aggregateArguments, func(args string) bool {
		ok, err := implemented("T | sort by N asc | extend x = " + name + "(" + args + ")")
		return ok && err == nil
	})
}

// hasAggregate tells whether an aggregate is implemented.
func hasAggregate(name string) bool {
	return slices.ContainsFunc(aggregateArguments, func(args string) bool {
		ok, err := implemented("T | summarize x = " + name + "(" + args + ")")
		return ok && err == nil
	})
}

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
	if hasAggregate("nonsense") || hasScalar("nonsense") {
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
	split := func(title, kind string, names []string, has func(string) bool) {
		var yes, no []string
		for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
			if has(name) {
				yes = append(yes, "`"+name+"`")
			} else {
				no = append(no, "`"+name+"`")
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\nImplemented (%d of %d): %s.\n\nNot implemented: %s.\n", title, len(yes), len(yes)+len(no), list(yes), list(no))
	}
	split("Scalar functions", "scalar function", symbols.Scalar, hasScalar)
	split("Aggregates", "aggregate", symbols.Aggregates, hasAggregate)
	split("Plugins of evaluate", "plugin", symbols.Plugins, func(n string) bool {
		ok, err := implemented("T | evaluate " + n + "(D)")
		return ok && err == nil
	})
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
		if slices.Contains(kqlForms, name) || hasScalar(name) || hasAggregate(name) {
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

package kql

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustPlan(t *testing.T, text string, cat Catalog, opt BindOptions) *Plan {
	t.Helper()
	q, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	opt.Now = testNow
	p, err := Bind(q, cat, opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// recordingTable remembers what it was asked for.
type recordingTable struct {
	*MemTable
	mu   sync.Mutex
	reqs []ScanRequest
}

func (r *recordingTable) Scan(ctx context.Context, req ScanRequest) iter.Seq2[*Batch, error] {
	r.mu.Lock()
	r.reqs = append(r.reqs, req)
	r.mu.Unlock()
	return r.MemTable.Scan(ctx, req)
}

func logTable(t *testing.T) *recordingTable {
	t.Helper()
	cols := Schema{{"TimeGenerated", DateTime}, {"Name", String}, {"Count", Long}, {"Extra", Dynamic}}
	b := NewBuilder(cols)
	for i := range 10 {
		row := []any{time.Date(2026, 1, 1, i, 0, 0, 0, time.UTC), []string{"a", "b"}[i%2], i, map[string]any{"k": i}}
		if err := b.AppendRow(row); err != nil {
			t.Fatal(err)
		}
	}
	return &recordingTable{MemTable: NewMemTable(cols, b.Batch())}
}

func TestAScanIsAskedOnlyForWhatTheQueryNeeds(t *testing.T) {
	hour := func(h int) Ticks { return TicksOf(time.Date(2026, 1, 1, h, 0, 0, 0, time.UTC)) }
	for name, c := range map[string]struct {
		query    string
		opt      BindOptions
		columns  []string
		from, to Ticks
		rows     string
	}{
		"columns of a filter and a result": {query: `Logs | where Name == "a" | project Count | take 1`, columns: []string{"Name", "Count"}, rows: `[[0]]`},
		"no column for a count":            {query: `Logs | count`, rows: `[[10]]`},
		"the column inside bin":            {query: `Logs | summarize count() by bin(TimeGenerated, 6h)`, columns: []string{"TimeGenerated"}, rows: `[["2026-01-01T00:00:00Z",6],["2026-01-01T06:00:00Z",4]]`},
		"bounds of a comparison":           {query: `Logs | where TimeGenerated > datetime(2026-01-01 03:00) and TimeGenerated <= datetime(2026-01-01 05:00) | count`, columns: []string{"TimeGenerated"}, from: hour(3), to: hour(5) + 1, rows: `[[2]]`},
		"bounds of a between behind a let": {query: `let t = Logs | where Count >= 0; t | where TimeGenerated between (datetime(2026-01-01 03:00) .. 2h) | count`, columns: []string{"TimeGenerated", "Count"}, from: hour(3), to: hour(5) + 1, rows: `[[3]]`},
		"a time span from outside":         {query: `Logs | count`, opt: BindOptions{From: hour(8), To: hour(9)}, columns: []string{"TimeGenerated"}, from: hour(8), to: hour(9), rows: `[[1]]`},
		"no bound from an or":              {query: `Logs | where TimeGenerated > datetime(2026-01-01 08:00) or Count == 0 | count`, columns: []string{"TimeGenerated", "Count"}, rows: `[[2]]`},
	} {
		t.Run(name, func(t *testing.T) {
			table := logTable(t)
			p := mustPlan(t, c.query, MapCatalog{"Logs": table}, c.opt)
			res, err := p.Run(context.Background(), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(res.Tables[0].AppendRowsJSON(nil)); got != c.rows {
				t.Errorf("rows: got %s, want %s", got, c.rows)
			}
			req := table.reqs[0]
			if len(table.reqs) != 1 || !slices.Equal(req.Columns, c.columns) || req.From != c.from || req.To != c.to {
				t.Errorf("request: got %+v, want columns %v from %d to %d", table.reqs, c.columns, c.from, c.to)
			}
		})
	}
}

func TestAPlanMayRunConcurrently(t *testing.T) {
	p := mustPlan(t, `let big = materialize(Logs | where Count > 2);
		let most = toscalar(big | summarize max(Count));
		big | where Count in ((Logs | project Count)) and Count <= most
		| join kind=inner (Logs | summarize total = sum(Count) by Name) on Name
		| make-series n = count() on TimeGenerated from datetime(2026-01-01) to datetime(2026-01-02) step 12h by Name
		| sort by Name asc`, MapCatalog{"Logs": logTable(t)}, BindOptions{})
	want := `[["a","[3,0]","[\"2026-01-01T00:00:00.0000000Z\",\"2026-01-01T12:00:00.0000000Z\"]"],["b","[4,0]","[\"2026-01-01T00:00:00.0000000Z\",\"2026-01-01T12:00:00.0000000Z\"]"]]`
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			res, err := p.Run(context.Background(), Limits{})
			if err != nil {
				t.Error(err)
				return
			}
			if got := string(res.Tables[0].AppendRowsJSON(nil)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	wg.Wait()
}

func TestLimitsEndARun(t *testing.T) {
	cat := MapCatalog{"Logs": logTable(t)}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		query  string
		ctx    context.Context
		limits Limits
		code   ErrorCode
	}{
		"too many rows":      {query: "range x from 1 to 100 step 1", limits: Limits{MaxRows: 99}, code: LimitExceeded},
		"too much memory":    {query: "range x from 1 to 1000000 step 1 | sort by x | count", limits: Limits{MaxBytes: 1 << 20}, code: LimitExceeded},
		"too many groups":    {query: "range x from 1 to 1000000 step 1 | summarize count() by x | count", limits: Limits{MaxBytes: 1 << 20}, code: LimitExceeded},
		"a done context":     {query: "Logs | count", ctx: cancelled, code: Cancelled},
		"too little time":    {query: "range x from 1 to 9000000000000000000 step 1 | count", limits: Limits{Timeout: time.Millisecond}, code: Cancelled},
		"a schema-only plan": {query: `print geo_info_from_ip_address("1.1.1.1")`, code: NotImplemented},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			p := mustPlan(t, c.query, cat, BindOptions{SchemaOnly: c.code == NotImplemented})
			res, err := p.Run(ctx, c.limits)
			var kerr *Error
			if !errors.As(err, &kerr) || kerr.Code != c.code || res != nil {
				t.Errorf("got %v, %v; want code %s", res, err, c.code)
			}
		})
	}
}

// failingTable fails in the middle of a scan.
type failingTable struct{ *MemTable }

func (f failingTable) Scan(ctx context.Context, req ScanRequest) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		for b, err := range f.MemTable.Scan(ctx, req) {
			if !yield(b, err) {
				return
			}
		}
		yield(nil, errSegment)
	}
}

var errSegment = errors.New("segment 7 is unreadable")

func TestATablesErrorEndsTheRunAndIsWrapped(t *testing.T) {
	p := mustPlan(t, "Logs | count", MapCatalog{"Logs": failingTable{logTable(t).MemTable}}, BindOptions{})
	_, err := p.Run(context.Background(), Limits{})
	if !errors.Is(err, errSegment) || !strings.Contains(err.Error(), "Logs") {
		t.Errorf("got %v, want the table's error, named", err)
	}
}

func TestBuilderConvertsGoValues(t *testing.T) {
	cols := Schema{{"b", Bool}, {"i", Int}, {"l", Long}, {"r", Real}, {"s", String}, {"t", DateTime}, {"n", TimeSpan}, {"g", GUID}, {"d", Dynamic}, {"m", Decimal}}
	b := NewBuilder(cols)
	when := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	rows := [][]any{
		{true, int32(1), int64(2), 2.5, "x", when, time.Second, "74BE27DE-1e4e-49d9-b579-fe0b331d3642", map[string]any{"a": []any{1.0, nil}}, "1.50"},
		{"true", "7", 8, 1, 9, "2026-01-02", "00:00:01", nil, nil, 3},
		{nil, "no number", nil, nil, nil, "no date", nil, "no guid", "text", nil},
	}
	for _, r := range rows {
		if err := b.AppendRow(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.AppendRow([]any{1}); err == nil {
		t.Error("a row of the wrong width was taken")
	}
	p := mustPlan(t, "T", MapCatalog{"T": NewMemTable(cols, b.Batch())}, BindOptions{})
	res, err := p.Run(context.Background(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got := string(res.Tables[0].AppendRowsJSON(nil))
	want := `[[true,1,2,2.5,"x","2026-01-02T03:04:05.6789Z","00:00:01","74be27de-1e4e-49d9-b579-fe0b331d3642","{\"a\":[1.0,null]}","1.5"],` +
		`[true,7,8,1,"9","2026-01-02T00:00:00Z","00:00:01",null,null,"3"],` +
		`[null,null,null,null,"",null,null,null,"text",null]]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

package loganalytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"verdant/azure/rest"
	"verdant/internal/telemetry"
	"verdant/kql"
)

// Result is an answer as the query API sends it.
type Result struct {
	// Tables are {"name", "columns": [{"name", "type"}], "rows"}; the first is
	// the PrimaryResult.
	Tables     []json.RawMessage `json:"tables"`
	Statistics json.RawMessage   `json:"statistics,omitempty"`
	Render     json.RawMessage   `json:"render,omitempty"`
	// Sources lists what was asked, if that was preferred.
	Sources json.RawMessage `json:"dataSources,omitempty"`
	// Error is set if the tables are not whole.
	Error error `json:"error,omitempty"`

	rows  int
	bytes int
}

// job is a query whose caller may ask it.
type job struct {
	request
	correlation string
	caller      rest.Caller
	workspaces  []*workspace // the first one is addressed
	// resolve finds a workspace that the query itself names.
	resolve func(name string) (*workspace, error)
	span    timeRange
}

// Query answers a query in process; nobody's permissions are checked. The
// timespan is the API's, "" is all time.
func (s *Server) Query(ctx context.Context, workspaceName, query, timespan string) (*Result, error) {
	w, err := s.workspace(workspaceName)
	if err != nil {
		return nil, err
	}
	r, err := parseTimespan(timespan, s.deps.Now())
	if err != nil {
		return nil, fmt.Errorf("timespan: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.MaxTimeout)
	defer cancel()
	return s.run(ctx, job{request: request{query: query}, correlation: newCorrelation(), workspaces: []*workspace{w}, resolve: s.workspace, span: r})
}

// run evaluates a job and records it.
func (s *Server) run(ctx context.Context, j job) (*Result, error) {
	q := &view{text: j.query, span: j.span, resolve: j.resolve}
	start := time.Now()
	res, err := s.evaluate(ctx, j, q)
	took := time.Since(start)
	if err == nil && j.prefer.statistics {
		res.Statistics = q.statistics(took, res)
	}
	if err == nil && j.prefer.sources {
		res.Sources = j.sources()
	}
	if w := j.workspaces[0]; w.AuditQueries {
		// The record is part of the answer: a query that cannot be recorded
		// is not answered.
		if aerr := w.audit(context.WithoutCancel(ctx), j, q, res, err, took); aerr != nil && err == nil {
			return nil, fmt.Errorf("record the query: %w", aerr)
		}
	}
	return res, err
}

// evaluate parses, binds and runs a job's query.
func (s *Server) evaluate(ctx context.Context, j job, q *view) (*Result, error) {
	plan, err := s.plan(j, q)
	if err != nil {
		return nil, refusal(ctx, q, err)
	}
	// The language refuses an answer with too many rows; this service cuts
	// it, as the real one does. What bounds the answer there is its memory.
	out, err := plan.Run(ctx, kql.Limits{MaxRows: math.MaxInt64, MaxBytes: s.config.QueryBytes, Timeout: s.config.MaxTimeout})
	if err != nil {
		return nil, refusal(ctx, q, err)
	}
	res := &Result{Tables: []json.RawMessage{}}
	rowsLeft, bytesLeft := s.config.MaxRows, int(s.config.MaxBytes)
	for i := range out.Tables {
		t := &out.Tables[i]
		raw, n, over, err := encodeTable(ctx, t, rowsLeft, bytesLeft)
		if err != nil {
			return nil, err
		}
		if over != "" {
			res.Error = tooLarge(over)
		}
		res.Tables = append(res.Tables, raw)
		res.rows += n
		res.bytes += len(raw)
		rowsLeft, bytesLeft = rowsLeft-n, bytesLeft-len(raw)
	}
	if j.prefer.render {
		if res.Render, err = renderJSON(out.Render); err != nil {
			return nil, err
		}
	}
	return res, nil
}

func (s *Server) plan(j job, q *view) (*kql.Plan, error) {
	parsed, err := kql.Parse(j.query)
	if err != nil {
		return nil, err
	}
	return kql.Bind(parsed, &catalog{j.workspaces, q}, kql.BindOptions{Now: s.deps.Now()})
}

// encodeTable is the table in the API's JSON, cut to the limits; over says
// which of them it was cut for.
func encodeTable(ctx context.Context, t *kql.ResultTable, rows, bytes int) (raw []byte, n int, over string, err error) {
	n = t.Len()
	if n > rows {
		n, over = max(rows, 0), fmt.Sprintf("%d records", rows)
	}
	for {
		cut := t
		if n < t.Len() {
			if cut, err = firstRows(ctx, t, n); err != nil {
				return nil, 0, over, err
			}
		}
		raw = cut.AppendJSON(nil)
		if len(raw) <= bytes || n == 0 {
			return raw, n, over, nil
		}
		over = fmt.Sprintf("%d bytes", bytes)
		n = int(float64(n) * max(float64(bytes), 0) / float64(len(raw)) * 0.95)
	}
}

// firstRows is the first n rows of t, by the language's own take.
func firstRows(ctx context.Context, t *kql.ResultTable, n int) (*kql.ResultTable, error) {
	parsed, err := kql.Parse(fmt.Sprintf("T | take %d", n))
	if err != nil {
		return nil, err
	}
	plan, err := kql.Bind(parsed, kql.MapCatalog{"T": kql.NewMemTable(t.Columns, t.Batches()...)}, kql.BindOptions{})
	if err != nil {
		return nil, err
	}
	out, err := plan.Run(ctx, kql.Limits{MaxRows: math.MaxInt64, MaxBytes: math.MaxInt64})
	if err != nil {
		return nil, err
	}
	cut := out.Tables[0]
	cut.Name = t.Name
	return &cut, nil
}

// refusal is the API's error for what the language or the storage said.
func refusal(ctx context.Context, q *view, err error) error {
	if errors.Is(q.failed, ErrWorkspace) {
		return unresolved()
	}
	if q.failed != nil && !errors.Is(q.failed, context.Canceled) && !errors.Is(q.failed, context.DeadlineExceeded) {
		return q.failed
	}
	var e *kql.Error
	if !errors.As(err, &e) {
		return err
	}
	if strings.HasPrefix(e.Message, "internal defect") {
		return err // a 500; what went wrong inside is not the caller's
	}
	place := &inner{Code: string(e.Code), Message: e.Message, Line: e.Line, Token: e.Token}
	if e.Line > 0 {
		place.Pos = &e.Column
	}
	switch e.Code {
	case kql.Cancelled:
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return ctx.Err()
		}
		return &failure{status: http.StatusGatewayTimeout, Code: "GatewayTimeout", Message: "The query did not end within its time. Ask for less, or for more time with Prefer: wait."}
	case kql.SyntaxError:
		f := badArgument("SyntaxError", "A recognition error occurred in the query.")
		place.Code = "SYN0002"
		f.Inner.Inner = place
		return f
	case kql.NotImplemented, kql.SemanticError:
		f := badArgument("SemanticError", "A semantic error occurred.")
		if e.Code == kql.SemanticError {
			place.Code = "SEM0100"
		}
		f.Inner.Inner = place
		return f
	default:
		f := badArgument("QueryExecutionError", "The query could not be evaluated.")
		f.Inner.Inner = place
		return f
	}
}

// tooLarge is the error beside tables that were cut.
func tooLarge(limit string) error {
	message := fmt.Sprintf("The results of this query exceed the set limit of %s, so not all records were returned (E_QUERY_RESULT_SET_TOO_LARGE, 0x80DA0003).", limit)
	return &failure{status: http.StatusOK, Code: "PartialError", Message: "There were some errors when processing your query.",
		Details: []inner{{Code: "EngineError", Message: "Something went wrong processing your query on the server.",
			Inner: &inner{Code: "-2133196797", Message: message, Severity: 2, Name: "Error"}}}}
}

// renderProperties are the members of the render object; what a query does not
// set is null, false or empty as the real service sends it.
func renderJSON(r *kql.Render) (json.RawMessage, error) {
	out := map[string]any{"visualization": nil, "title": nil, "accumulate": false, "isQuerySorted": false, "kind": nil, "legend": nil,
		"series": nil, "yMin": "NaN", "yMax": "NaN", "xAxis": nil, "xColumn": nil, "xTitle": nil, "yAxis": nil, "yColumns": nil,
		"ySplit": nil, "yTitle": nil, "anomalyColumns": nil, "annotation": nil, "by": nil}
	if r != nil {
		out["visualization"] = r.Visualization
		for name, value := range r.Properties {
			for member := range out {
				if strings.EqualFold(member, name) {
					name = member
				}
			}
			if name == "accumulate" {
				out[name] = strings.EqualFold(value, "true")
				continue
			}
			out[name] = value
		}
	}
	return json.Marshal(out)
}

// statistics is what the query read and how long it took.
func (q *view) statistics(took time.Duration, res *Result) json.RawMessage {
	st := &q.stats
	raw, err := json.Marshal(map[string]any{"query": map[string]any{
		"executionTime": took.Seconds(),
		"inputDatasetStatistics": map[string]any{
			"extents": map[string]any{"total": st.segments.Load(), "scanned": st.segmentsRead.Load(), "scannedBytes": st.bytes.Load()},
			"rows":    map[string]any{"total": st.rowsTotal.Load(), "scanned": st.rows.Load()},
		},
		"datasetStatistics": []any{map[string]any{"table_row_count": res.rows, "table_size": res.bytes}},
	}})
	if err != nil {
		return nil
	}
	return raw
}

func (j job) sources() json.RawMessage {
	type source struct {
		Workspace  string `json:"workspaceId"`
		ResourceID string `json:"resourceId"`
		Region     string `json:"region"`
	}
	var out []source
	for _, w := range j.workspaces {
		out = append(out, source{w.CustomerID, w.ResourceID, w.Location})
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return raw
}

// audit writes the LAQueryLogs row of a query.
func (w *workspace) audit(ctx context.Context, j job, q *view, res *Result, err error, took time.Duration) error {
	r := telemetry.Row{"CorrelationId": j.correlation, "AADObjectId": j.caller.ObjectID, "AADTenantId": j.caller.TenantID, "AADEmail": j.caller.Name,
		"AADClientId": j.caller.AppID, "RequestClientApp": j.client, "QueryText": j.query, "RequestTarget": w.ResourceID, "WorkspaceRegion": w.Location,
		"RequestContext": map[string]any{"workspaces": j.others}, "ResponseDurationMs": float64(took) / float64(time.Millisecond),
		"StatsWorkspaceCount": len(j.workspaces), "StatsRegionCount": 1, "StatsDataProcessedKB": float64(q.stats.bytes.Load()) / 1024,
		"IsBillableQuery": false, "IsWorkspaceInFailover": false, "_ResourceId": w.ResourceID, "ResponseCode": http.StatusOK}
	if j.span != allTime {
		r["QueryTimeRangeStart"], r["QueryTimeRangeEnd"] = fromTicks(j.span.from), fromTicks(j.span.to)
	}
	if err != nil {
		r["ResponseCode"], _, _ = answered(err, "")
	} else {
		r["ResponseRowCount"] = res.rows
	}
	return w.store.emit(ctx, "LAQueryLogs", []telemetry.Row{r})
}

package kql

import (
	"context"
	"errors"
	"iter"
	"time"
)

// batchRows is how many rows a batch of the evaluator holds at most.
const batchRows = 1 << 13

// BindOptions are the circumstances of a query.
type BindOptions struct {
	// Now is what now() and ago() count from.
	Now time.Time
	// From and To restrict every table that has a TimeGenerated column, on
	// top of the query's own filters: From inclusive, To exclusive, zero
	// means unbounded.
	From, To Ticks
	// Limits bound what is read while binding (see BindContext).
	Limits Limits
	// SchemaOnly binds names and types and accepts functions and operators of
	// the language that cannot be evaluated yet; such a plan has a schema but
	// refuses to run.
	SchemaOnly bool
}

// Limits bound a run; zero values mean the defaults.
type Limits struct {
	// MaxRows is the number of result rows (default 500,000).
	MaxRows int64
	// MaxBytes bounds the memory that operators and the result keep,
	// estimated and added up over the run (default 1 GiB).
	MaxBytes int64
	// Timeout ends the run (default 3 minutes).
	Timeout time.Duration
}

const (
	defaultMaxRows  = 500_000
	defaultMaxBytes = 1 << 30
	defaultTimeout  = 3 * time.Minute
)

// rel is a bound tabular operator, its inputs below it: the typed plan.
type rel interface {
	schema() Schema
	// run yields batches with the schema's columns; a column that prune
	// found unneeded may be nil. It bails on an error.
	run(x *exec) iter.Seq[*Batch]
	// prune tells which of its columns the reader needs.
	prune(need []bool)
}

// Plan is a bound query. It is immutable and may be run many times, also
// concurrently.
type Plan struct {
	text    string
	results []rel
	renders []*Render
	refusal *Error
}

// Schema returns the columns of the first result table.
func (p *Plan) Schema() Schema { return p.results[0].schema().clone() }

// Render returns the render operator of the first result, or nil.
func (p *Plan) Render() *Render { return p.renders[0] }

// exec is one run of a plan. It is used by one goroutine.
type exec struct {
	ctx     context.Context
	limits  Limits
	held    int64
	scalars map[*onceExpr]val
	tables  map[*cacheRel][]*Batch
	sets    map[*tableInExpr]*valueSet
	feeds   map[*feedRel][]*Batch
	axes    map[*binAxisExpr]axisBounds
}

// check ends the run when the context is done or the time is up.
func (x *exec) check() {
	if err := x.ctx.Err(); err != nil {
		e := plainError(Cancelled, "the query was cancelled")
		if errors.Is(err, context.DeadlineExceeded) {
			e = plainError(Cancelled, "the query ran out of time")
		}
		e.cause = err
		panic(bail{e})
	}
}

// hold accounts for memory that an operator keeps.
func (x *exec) hold(n int64) {
	x.held += n
	if x.held > x.limits.MaxBytes {
		panic(bail{plainError(LimitExceeded, "the query needs more than %d bytes of memory; filter or summarize earlier", x.limits.MaxBytes)})
	}
}

func (x *exec) once(e *onceExpr) val {
	if v, ok := x.scalars[e]; ok {
		return v
	}
	v := e.get(x)
	x.scalars[e] = v
	return v
}

// fail ends the run.
func (x *exec) fail(format string, args ...any) {
	panic(bail{plainError(RuntimeError, format, args...)})
}

// refuse ends the run over something that only the data shows to be beyond this
// engine.
func (x *exec) refuse(format string, args ...any) {
	panic(bail{plainError(NotImplemented, format, args...)})
}

// collect reads a whole input into memory.
func (x *exec) collect(r rel) *Batch {
	var parts []*Batch
	for b := range r.run(x) {
		x.check()
		if b.n == 0 {
			continue
		}
		x.hold(b.size())
		parts = append(parts, b)
	}
	return concatBatches(r.schema(), parts)
}

// Run evaluates the plan. The error is an *Error: LimitExceeded, RuntimeError,
// Cancelled, or what a Table returned, wrapped.
func (p *Plan) Run(ctx context.Context, limits Limits) (*Result, error) {
	if p.refusal != nil {
		return nil, p.refusal
	}
	x, cancel := newExec(ctx, limits)
	defer cancel()
	var out Result
	if err := p.fill(x, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// newExec starts a run; the caller ends it with cancel.
func newExec(ctx context.Context, limits Limits) (*exec, context.CancelFunc) {
	if limits.MaxRows <= 0 {
		limits.MaxRows = defaultMaxRows
	}
	if limits.MaxBytes <= 0 {
		limits.MaxBytes = defaultMaxBytes
	}
	if limits.Timeout <= 0 {
		limits.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	return &exec{ctx: ctx, limits: limits, scalars: map[*onceExpr]val{}, tables: map[*cacheRel][]*Batch{}, sets: map[*tableInExpr]*valueSet{}, feeds: map[*feedRel][]*Batch{}, axes: map[*binAxisExpr]axisBounds{}}, cancel
}

func (p *Plan) fill(x *exec, res *Result) (err error) {
	defer recoverBail(p.text, &err)
	for i, r := range p.results {
		t := ResultTable{Name: resultName(i), Columns: r.schema().clone()}
		for b := range r.run(x) {
			x.check()
			if b.n == 0 {
				continue
			}
			t.rows += b.n
			if int64(t.rows) > x.limits.MaxRows {
				return plainError(LimitExceeded, "the result has more than %d rows; add take, top, summarize or a narrower filter", x.limits.MaxRows)
			}
			x.hold(b.size())
			t.batches = append(t.batches, b)
		}
		res.Tables = append(res.Tables, t)
		if p.renders[i] != nil {
			res.Render = p.renders[i]
		}
	}
	return nil
}

func resultName(i int) string {
	if i == 0 {
		return "PrimaryResult"
	}
	return "Table_" + string(appendPadded(nil, i, 1))
}

// allNeeded marks every column.
func allNeeded(r rel) []bool {
	need := make([]bool, len(r.schema()))
	for i := range need {
		need[i] = true
	}
	return need
}

package kql

import (
	"errors"
	"iter"
)

// scanRel reads a table of the catalog.
type scanRel struct {
	name     string
	table    Table
	cols     Schema
	need     []bool
	from, to Ticks
	limit    int64
}

const timeColumn = "TimeGenerated"

func (b *binder) scan(name string, t Table) rel {
	s := &scanRel{name: name, table: t, cols: t.Schema().clone(), from: b.opt.From, to: b.opt.To}
	s.need = make([]bool, len(s.cols))
	if b.opt.From == 0 && b.opt.To == 0 {
		return s
	}
	i := s.cols.Index(timeColumn)
	if i < 0 || s.cols[i].Type != DateTime {
		s.from, s.to = 0, 0
		return s
	}
	var cond expr
	col := &colExpr{DateTime, i}
	if b.opt.From != 0 {
		cond = &compareExpr{opGe, col, &constExpr{intVal(DateTime, int64(b.opt.From))}}
	}
	if b.opt.To != 0 {
		hi := &compareExpr{opLt, col, &constExpr{intVal(DateTime, int64(b.opt.To))}}
		if cond == nil {
			cond = hi
		} else {
			cond = &logicExpr{true, cond, hi}
		}
	}
	return &filterRel{in: s, cond: cond}
}

func (r *scanRel) schema() Schema { return r.cols }

func (r *scanRel) prune(need []bool) {
	for i, n := range need {
		r.need[i] = r.need[i] || n
	}
}

func (r *scanRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		req := ScanRequest{From: r.from, To: r.to, Limit: r.limit}
		var at []int
		for i, c := range r.cols {
			if r.need[i] {
				req.Columns = append(req.Columns, c.Name)
				at = append(at, i)
			}
		}
		for b, err := range r.table.Scan(x.ctx, req) {
			if err != nil {
				x.check()
				var own *Error
				if errors.As(err, &own) {
					panic(bail{own})
				}
				e := plainError(RuntimeError, "reading the table %s: %v", r.name, err)
				e.cause = err
				panic(bail{e})
			}
			x.check()
			if len(b.Columns) != len(at) {
				x.fail("the table %s handed out %d columns where %d were asked for", r.name, len(b.Columns), len(at))
			}
			out := &Batch{Columns: make([]*Vector, len(r.cols)), n: b.n}
			for k, i := range at {
				if b.Columns[k].typ != r.cols[i].Type {
					x.fail("the table %s handed out column %s as %s", r.name, r.cols[i].Name, b.Columns[k].typ)
				}
				out.Columns[i] = b.Columns[k]
			}
			for lo := 0; lo < out.n; lo += batchRows * 8 {
				if !yield(out.slice(lo, min(lo+batchRows*8, out.n))) {
					return
				}
			}
		}
	}
}

// cacheRel is materialize(): its input is computed once a run.
type cacheRel struct{ in rel }

func (r *cacheRel) schema() Schema    { return r.in.schema() }
func (r *cacheRel) prune(need []bool) { r.in.prune(allNeeded(r.in)) }

func (r *cacheRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		parts, ok := x.tables[r]
		if !ok {
			for b := range r.in.run(x) {
				x.check()
				x.hold(b.size())
				parts = append(parts, b)
			}
			x.tables[r] = parts
		}
		for _, b := range parts {
			if !yield(b) {
				return
			}
		}
	}
}

// valuesRel is rows that the query itself holds: datatable.
type valuesRel struct {
	cols  Schema
	batch *Batch
}

func (r *valuesRel) schema() Schema { return r.cols }
func (r *valuesRel) prune([]bool)   {}
func (r *valuesRel) run(*exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for lo := 0; lo < r.batch.n; lo += batchRows {
			if !yield(r.batch.slice(lo, min(lo+batchRows, r.batch.n))) {
				return
			}
		}
	}
}

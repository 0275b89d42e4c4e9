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

// aliasRel is a table that let names. Several operators may read it, so it
// passes a need on only when it is new: a chain of lets that each read the one
// before twice would otherwise be walked exponentially often.
type aliasRel struct {
	in   rel
	need []bool
	seen bool
}

func (r *aliasRel) schema() Schema { return r.in.schema() }

func (r *aliasRel) prune(need []bool) {
	if r.need == nil {
		r.need = make([]bool, len(need))
	}
	grown := !r.seen
	r.seen = true
	for i, n := range need {
		if n && !r.need[i] {
			r.need[i], grown = true, true
		}
	}
	if grown {
		r.in.prune(r.need)
	}
}

func (r *aliasRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		x.check()
		for b := range r.in.run(x) {
			if !yield(b) {
				return
			}
		}
	}
}

// plainScan is the scan below an alias with nothing but filters between, or
// nil.
func (r *aliasRel) plainScan() rel {
	for in := r.in; ; {
		switch f := in.(type) {
		case *scanRel:
			return r.in
		case *filterRel:
			in = f.in
		default:
			return nil
		}
	}
}

// valuesRel is rows that the query itself holds: datatable. It hands out only
// the columns that were asked for, as a scan does.
type valuesRel struct {
	cols  Schema
	batch *Batch
	need  []bool
}

func (r *valuesRel) schema() Schema { return r.cols }

func (r *valuesRel) prune(need []bool) {
	if r.need == nil {
		r.need = make([]bool, len(r.cols))
	}
	for i, n := range need {
		r.need[i] = r.need[i] || n
	}
}

func (r *valuesRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		x.check()
		asked := &Batch{Columns: make([]*Vector, len(r.cols)), n: r.batch.n}
		for i, n := range r.need {
			if n {
				asked.Columns[i] = r.batch.Columns[i]
			}
		}
		for lo := 0; lo < asked.n; lo += batchRows {
			if !yield(asked.slice(lo, min(lo+batchRows, asked.n))) {
				return
			}
		}
	}
}

package kql

import (
	"iter"
	"slices"
	"strings"
)

// summarize [AGGREGATES] [by KEYS]

type summarizeOp struct {
	opBase
	aggs []node
	keys []node
}

func readSummarize(p *parser, o opBase) operator {
	op := &summarizeOp{opBase: o}
	p.params()
	if !p.isWord("by") {
		op.aggs = p.namedExprs()
	}
	if p.acceptWord("by") {
		op.keys = p.namedExprs()
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *summarizeOp) bind(b *binder, in rel) rel {
	g := &groupRel{in: in}
	out := &projectRel{in: g}
	names := &namer{}
	keyCols := map[string]bool{}
	row := rowOf(in)
	add := func(at node, name string, explicit bool, e expr) {
		switch {
		case name == "":
			name = names.column()
		case explicit && slices.Contains(names.used, name):
			b.fail(at, SemanticError, "the column %q is there twice", name)
		default:
			name = names.unique(name)
		}
		names.used = append(names.used, name)
		out.cols = append(out.cols, Column{name, e.typ()})
		out.exprs = append(out.exprs, e)
	}
	b.withRow(row, func() {
		for i, k := range o.keys {
			x, name, explicit := k, "", false
			if n, ok := k.(*namedNode); ok {
				x, name, explicit = n.x, n.names[0], true
			} else {
				name = b.autoName(k)
			}
			if c, ok := x.(*nameNode); ok {
				keyCols[c.name] = true
			}
			e := b.expr(x)
			if e.typ() == Dynamic && !b.opt.SchemaOnly {
				b.fail(x, SemanticError, "rows cannot be grouped by a dynamic value; convert it first, for instance with tostring()")
			}
			g.keys = append(g.keys, e)
			g.window = g.window || hasWindow(e)
			add(k, name, explicit, &colExpr{e.typ(), i})
			keyCols[out.cols[i].Name] = true
		}
		scope := &aggScope{row: row, nkeys: len(g.keys)}
		for _, item := range o.aggs {
			o.bindItem(b, scope, item, in.schema(), keyCols, add)
		}
		g.calls = scope.calls
	})
	for _, c := range g.calls {
		for _, a := range c.args {
			g.window = g.window || hasWindow(a)
		}
	}
	g.layout()
	return out
}

// bindItem binds one aggregate expression; arg_max, take_any and percentiles
// give several columns.
func (o *summarizeOp) bindItem(b *binder, scope *aggScope, item node, cols Schema, keyCols map[string]bool, add func(node, string, bool, expr)) {
	x, names, explicit := item, []string(nil), false
	if n, ok := item.(*namedNode); ok {
		x, names, explicit = n.x, n.names, true
	}
	if c, ok := x.(*callNode); ok {
		if outs := b.multiAggregate(scope, c, cols, keyCols); outs != nil {
			for i, m := range outs {
				name, exp := m.name, false
				if i < len(names) {
					name, exp = names[i], explicit
				}
				add(item, name, exp, m.e)
			}
			return
		}
	}
	name := ""
	if explicit {
		name = names[0]
		if len(names) > 1 {
			b.unsupported(item, "several names for one expression are not implemented")
		}
	} else {
		name = b.autoName(x)
	}
	b.aggs = scope
	e := b.expr(x)
	b.aggs = nil
	add(item, name, explicit, e)
}

type namedOut struct {
	name string
	e    expr
}

// multiAggregate binds arg_max, arg_min, take_any and percentiles, or returns
// nil for another call.
func (b *binder) multiAggregate(scope *aggScope, c *callNode, cols Schema, keyCols map[string]bool) []namedOut {
	var outs []namedOut
	emit := func(name string, a *aggCall) {
		outs = append(outs, namedOut{name, scope.add(a)})
	}
	switch c.name {
	case "arg_max", "arg_min", "argmax", "argmin":
		if len(c.args) == 0 {
			b.fail(c, SemanticError, "%s takes the expression to order by", c.name)
		}
		by := b.expr(c.args[0].x)
		if by.typ() == Dynamic {
			if b.opt.SchemaOnly {
				b.unsupported(c, "%s over a dynamic value is not defined", c.name)
			} else {
				b.fail(c.args[0].x, SemanticError, "%s cannot order by a dynamic value; convert it first", c.name)
			}
		}
		name := b.autoName(c.args[0].x)
		if name == "" {
			name = strings.TrimLeft(strings.TrimPrefix(c.name, "arg"), "_") + "_"
		}
		legacy := c.name[3] != '_' // argmax names its columns after the first
		if legacy {
			name = c.name[3:] + "_" + b.autoName(c.args[0].x)
		}
		group := &argGroup{max: strings.HasSuffix(c.name, "max")}
		first := &aggCall{name: c.name, t: by.typ(), args: []expr{by}, arg: group}
		emit(name, first)
		for _, a := range c.args[1:] {
			b.eachOutput(a.x, cols, func(n string, col Column, e expr) {
				if _, star := a.x.(*starNode); star && (keyCols[n] || n == b.autoName(c.args[0].x)) {
					return
				}
				if legacy {
					n = name + "_" + n
				}
				emit(n, &aggCall{name: c.name, t: e.typ(), args: []expr{by, e}, arg: group})
			})
		}
	case "take_any", "any":
		if len(c.args) == 0 {
			b.fail(c, SemanticError, "%s takes at least one expression", c.name)
		}
		for _, a := range c.args {
			b.eachOutput(a.x, cols, func(n string, col Column, e expr) {
				_, star := a.x.(*starNode)
				if star && keyCols[n] {
					return
				}
				if c.name == "any" {
					n = "any_" + n
				}
				t := e.typ()
				emit(n, &aggCall{name: "take_any", t: t, args: []expr{e}, make: func() aggregate { return &anyAgg{t: t} }})
			})
		}
	case "percentile", "percentiles":
		if len(c.args) < 2 {
			b.fail(c, SemanticError, "percentiles takes an expression and percentages")
		}
		e := b.expr(c.args[0].x)
		for _, p := range c.args[1:] {
			pe := b.expr(p.x)
			emit("percentile_"+b.autoName(c.args[0].x)+"_"+strings.ReplaceAll(b.source(p.x.place()), ".", "_"), b.percentileCall(c, e, pe))
		}
	default:
		return nil
	}
	return outs
}

// eachOutput lists the columns of an argument that may be *.
func (b *binder) eachOutput(x node, cols Schema, fn func(name string, c Column, e expr)) {
	if _, star := x.(*starNode); star {
		for i, c := range cols {
			fn(c.Name, c, &colExpr{c.Type, i})
		}
		return
	}
	if n, ok := x.(*namedNode); ok {
		e := b.expr(n.x)
		fn(n.names[0], Column{n.names[0], e.typ()}, e)
		return
	}
	e := b.expr(x)
	fn(b.autoName(x), Column{"", e.typ()}, e)
}

// aggCall is one aggregate over the groups.
type aggCall struct {
	name string
	t    Type
	args []expr
	cond expr // the …if forms: rows for which it is not true are skipped
	make func() aggregate
	arg  *argGroup
}

// argGroup ties the outputs of one arg_max to the same row.
type argGroup struct{ max bool }

// add registers a call and returns the column that will hold its result.
func (s *aggScope) add(c *aggCall) expr {
	s.calls = append(s.calls, c)
	return &colExpr{c.t, s.nkeys + len(s.calls) - 1}
}

// groupRel groups rows by keys and computes aggregates: its columns are the
// keys, then the aggregates.
type groupRel struct {
	in     rel
	keys   []expr
	calls  []*aggCall
	cols   Schema
	window bool
	flat   []expr // every argument, evaluated once a batch
	at     [][]int
	conds  []int
}

// layout lists the distinct argument expressions.
func (r *groupRel) layout() {
	for _, k := range r.keys {
		r.cols = append(r.cols, Column{"", k.typ()})
	}
	slot := func(e expr) int {
		if i := slices.Index(r.flat, e); i >= 0 {
			return i
		}
		r.flat = append(r.flat, e)
		return len(r.flat) - 1
	}
	for _, c := range r.calls {
		r.cols = append(r.cols, Column{"", c.t})
		var at []int
		for _, a := range c.args {
			at = append(at, slot(a))
		}
		cond := -1
		if c.cond != nil {
			cond = slot(c.cond)
		}
		r.at = append(r.at, at)
		r.conds = append(r.conds, cond)
	}
}

func (r *groupRel) schema() Schema { return r.cols }

func (r *groupRel) prune([]bool) {
	need := make([]bool, len(r.in.schema()))
	for _, e := range append(append([]expr(nil), r.keys...), r.flat...) {
		walkColumns(e, func(i int) { need[i] = true })
	}
	r.in.prune(need)
}

func (r *groupRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		g := newGrouper(r.keys)
		aggs := make([]aggregate, len(r.calls))
		shared := map[*argGroup]*argPick{}
		for i, c := range r.calls {
			if c.arg != nil {
				p := shared[c.arg]
				if p == nil {
					p = &argPick{max: c.arg.max}
					shared[c.arg] = p
				}
				aggs[i] = &argAgg{pick: p, t: c.t, leader: len(c.args) == 1}
				continue
			}
			aggs[i] = c.make()
		}
		for b := range wholeIf(r.window, x, r.in) {
			x.check()
			if b.n == 0 {
				continue
			}
			r.feed(x, g, aggs, b)
		}
		if len(r.keys) == 0 && g.n == 0 {
			g.n = 1
		}
		if g.n == 0 {
			return
		}
		out := &Batch{Columns: g.keyColumns(), n: g.n}
		for _, a := range aggs {
			a.grow(g.n)
			out.Columns = append(out.Columns, a.result())
		}
		for lo := 0; lo < out.n; lo += batchRows {
			if !yield(out.slice(lo, min(lo+batchRows, out.n))) {
				return
			}
		}
	}
}

func (r *groupRel) feed(x *exec, g *grouper, aggs []aggregate, b *Batch) {
	groups := g.assign(x, b)
	vs := make([]*Vector, len(r.flat))
	for i, e := range r.flat {
		vs[i] = e.eval(x, b)
	}
	for i, a := range aggs {
		a.grow(g.n)
		args := make([]*Vector, len(r.at[i]))
		for k, s := range r.at[i] {
			args[k] = vs[s]
		}
		gs := groups
		if c := r.conds[i]; c >= 0 {
			idx := truth(vs[c], b.n)
			for k := range args {
				args[k] = args[k].gather(idx)
			}
			gs = make([]uint32, len(idx))
			for k, row := range idx {
				gs[k] = groups[row]
			}
		}
		x.hold(a.update(gs, args))
	}
}

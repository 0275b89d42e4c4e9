package kql

import (
	"iter"
	"math"
)

// make-series [NAME=]AGG [default=V], … on AXIS [from A] [to B] step S [by KEYS]
// make-series … on AXIS in range(A, B, S) [by KEYS]

type seriesItem struct {
	x   node
	def node
}

type makeSeriesOp struct {
	opBase
	items          []seriesItem
	axis           node
	from, to, step node
	inRange        bool
	nonEmpty       bool
	keys           []node
}

func readMakeSeries(p *parser, o opBase) operator {
	op := &makeSeriesOp{opBase: o}
	params := p.params("kind")
	op.nonEmpty = p.paramWord(params["kind"], "kind") == "nonempty"
	for {
		it := seriesItem{x: p.namedExpr()}
		if p.acceptWord("default") {
			p.expectPunct("=")
			it.def = p.expr()
		}
		op.items = append(op.items, it)
		if !p.acceptPunct(",") {
			break
		}
	}
	p.expectWord("on")
	op.axis = p.namedExprNoIn()
	switch {
	case p.isWord("in") && p.peekAt(1).text == "range":
		p.next()
		p.next()
		p.expectPunct("(")
		op.inRange = true
		op.from = p.expr()
		p.expectPunct(",")
		op.to = p.expr()
		p.expectPunct(",")
		op.step = p.expr()
		p.expectPunct(")")
	default:
		if p.acceptWord("from") {
			op.from = p.expr()
		}
		if p.acceptWord("to") {
			op.to = p.expr()
		}
		p.expectWord("step")
		op.step = p.expr()
	}
	if p.acceptWord("by") {
		op.keys = p.namedExprs()
	}
	op.span = p.spanFrom(o)
	return op
}

// namedExprNoIn reads the axis, after which "in" is not the operator.
func (p *parser) namedExprNoIn() node {
	start := p.peek().pos
	if n := p.nameAhead(0); n > 0 && p.peekAt(n).text == "=" {
		name := p.name()
		p.next()
		x := p.additive()
		return &namedNode{p.since(start), []string{name}, x}
	}
	return p.additive()
}

func (o *makeSeriesOp) bind(b *binder, in rel) rel {
	r := &seriesRel{in: in, inclusive: o.inRange, nonEmpty: o.nonEmpty}
	g := &groupRel{in: in}
	names := &namer{}
	axisName := b.autoName(o.axis)
	row := rowOf(in)
	b.withRow(row, func() {
		for _, k := range o.keys {
			x, name := k, b.autoName(k)
			if n, ok := k.(*namedNode); ok {
				x = n.x
			}
			e := b.expr(x)
			g.keys = append(g.keys, e)
			if name == "" {
				name = names.column()
			}
			name = names.unique(name)
			names.used = append(names.used, name)
			r.cols = append(r.cols, Column{name, e.typ()})
		}
		ax := o.axis
		if n, ok := ax.(*namedNode); ok {
			ax = n.x
		}
		r.axis = b.expr(ax)
		o.bounds(b, r)
		scope := &aggScope{row: row, nkeys: len(o.keys) + 1}
		for _, it := range o.items {
			x, name := it.x, b.autoName(it.x)
			if n, ok := it.x.(*namedNode); ok {
				x = n.x
			}
			b.aggs = scope
			e := b.expr(x)
			b.aggs = nil
			r.values = append(r.values, e)
			def := val{t: e.typ()}
			if it.def != nil {
				d := b.expr(it.def)
				c, ok := d.(*constExpr)
				if !ok {
					b.fail(it.def, SemanticError, "the default must be a constant")
				}
				def = convert(c.v, e.typ())
			} else if e.typ() == String || e.typ() == Dynamic || e.typ() == Decimal {
				def = nullOf(e.typ())
			}
			r.defaults = append(r.defaults, def)
			if name == "" {
				name = names.column()
			}
			name = names.unique(name)
			names.used = append(names.used, name)
			r.cols = append(r.cols, Column{name, Dynamic})
		}
		g.calls = scope.calls
	})
	if axisName == "" {
		axisName = names.column()
	}
	r.cols = append(r.cols, Column{names.unique(axisName), Dynamic})
	r.group = g
	r.nkeys = len(o.keys)
	r.bin = &binAxisExpr{x: r.axis}
	g.keys = append(g.keys, r.bin)
	g.layout()
	return r
}

func (o *makeSeriesOp) bounds(b *binder, r *seriesRel) {
	t := r.axis.typ()
	stepType := t
	if t == DateTime {
		stepType = TimeSpan
	}
	bound := func(n node, want Type) expr {
		if n == nil {
			return nil
		}
		var e expr
		b.withRow(nil, func() { e = b.expr(n) })
		if !isConst(e) || e.typ() != want && !(e.typ().isNumber() && want.isNumber()) {
			b.fail(n, SemanticError, "a constant %s is expected", want)
		}
		return cast(e, want)
	}
	if !(t == DateTime || t == TimeSpan || t.isInteger() || t == Real) {
		b.fail(o.axis, SemanticError, "the axis must be a datetime, timespan or number, not %s", t)
	}
	if t == Real {
		b.unsupported(o.axis, "make-series over a real axis is not implemented")
	}
	r.from, r.to, r.step = bound(o.from, t), bound(o.to, t), bound(o.step, stepType)
}

// binAxisExpr numbers the bin of each row; outside the axis it is null. Its
// bounds are set at the start of a run.
type binAxisExpr struct{ x expr }

func (e *binAxisExpr) typ() Type        { return Long }
func (e *binAxisExpr) operands() []expr { return []expr{e.x} }

func (e *binAxisExpr) eval(x *exec, b *Batch) *Vector {
	ax := x.axes[e]
	v := e.x.eval(x, b)
	out := newVector(Long, b.n)
	for i := range b.n {
		if v.IsNull(i) {
			out.setNull(i)
			continue
		}
		k := floorDiv(v.ints[v.at(i)]-ax.from, ax.step)
		if k < 0 || k >= ax.n {
			out.setNull(i)
			continue
		}
		out.ints[i] = k
	}
	return out
}

type axisBounds struct{ from, step, n int64 }

// seriesRel makes arrays over an axis of equal bins.
type seriesRel struct {
	in             rel
	group          *groupRel
	bin            *binAxisExpr
	axis           expr
	from, to, step expr
	inclusive      bool
	nonEmpty       bool
	nkeys          int
	values         []expr // over the group's columns
	defaults       []val
	cols           Schema
}

func (r *seriesRel) schema() Schema { return r.cols }

func (r *seriesRel) prune([]bool) {
	need := make([]bool, len(r.in.schema()))
	for _, e := range append(append([]expr{r.axis}, r.group.keys[:r.nkeys]...), r.group.flat...) {
		walkColumns(e, func(i int) { need[i] = true })
	}
	r.in.prune(need)
}

// maxBins bounds an axis.
const maxBins = 1_048_576

func (r *seriesRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		all := x.collect(r.in)
		ax, ok := r.bounds(x, all)
		if !ok {
			return
		}
		x.axes[r.bin] = ax
		g := *r.group
		g.in = &heldRel{r.in.schema(), all}
		groups := newGrouper(seriesKeys(r))
		var series [][]any // group by group, value by value
		grow := func(n int) {
			for len(series) < n*len(r.values) {
				bins := make([]any, ax.n)
				d := valToDynamic(r.defaultOf(len(series) % len(r.values)))
				for i := range bins {
					bins[i] = d
				}
				x.hold(16 * ax.n)
				series = append(series, bins)
			}
		}
		for b := range g.run(x) {
			x.check()
			ids := groups.assign(x, b)
			bins := b.Columns[r.nkeys]
			vals := make([]*Vector, len(r.values))
			for k, e := range r.values {
				vals[k] = e.eval(x, b)
			}
			for i := range b.n {
				if bins.IsNull(i) {
					continue
				}
				grow(int(ids[i]) + 1)
				for k, v := range vals {
					cell := v.val(i)
					if cell.null {
						cell = r.nullCell(k)
					}
					series[int(ids[i])*len(r.values)+k][bins.ints[bins.at(i)]] = valToDynamic(cell)
				}
			}
		}
		if r.nkeys == 0 && r.nonEmpty {
			groups.n = 1
		}
		if r.nkeys == 0 && len(series) == 0 && !r.nonEmpty {
			return
		}
		grow(groups.n)
		r.emit(groups, series, ax, yield)
	}
}

// seriesKeys are the by keys as columns of the grouped rows.
func seriesKeys(r *seriesRel) []expr {
	keys := make([]expr, r.nkeys)
	for i := range keys {
		keys[i] = &colExpr{r.group.keys[i].typ(), i}
	}
	return keys
}

// defaultOf is the default of a bin; integers have no null in a series.
func (r *seriesRel) defaultOf(k int) val {
	if d := r.defaults[k]; !d.null {
		return d
	}
	return r.nullCell(k)
}

func (r *seriesRel) nullCell(k int) val {
	if t := r.values[k].typ(); t.isInteger() {
		return val{t: t}
	}
	return nullOf(r.values[k].typ())
}

func (r *seriesRel) emit(groups *grouper, series [][]any, ax axisBounds, yield func(*Batch) bool) {
	times := make([]any, ax.n)
	for i := range times {
		times[i] = valToDynamic(intVal(r.axis.typ(), ax.from+int64(i)*ax.step))
	}
	out := &Batch{n: groups.n}
	if r.nkeys > 0 {
		out.Columns = groups.keyColumns()
	}
	for k := range r.values {
		v := newVector(Dynamic, out.n)
		for g := range out.n {
			v.anys[g] = series[g*len(r.values)+k]
		}
		out.Columns = append(out.Columns, v)
	}
	v := newVector(Dynamic, out.n)
	for g := range out.n {
		v.anys[g] = times
	}
	out.Columns = append(out.Columns, v)
	yield(out)
}

func (r *seriesRel) bounds(x *exec, all *Batch) (axisBounds, bool) {
	step := constValue(x, r.step)
	if step.null || step.i <= 0 {
		x.fail("the step of make-series must be positive")
	}
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	if r.from == nil || r.to == nil {
		v := r.axis.eval(x, all)
		for i := range all.n {
			if !v.IsNull(i) {
				lo, hi = min(lo, v.ints[v.at(i)]), max(hi, v.ints[v.at(i)])
			}
		}
		if lo > hi && r.from == nil {
			return axisBounds{}, false
		}
	}
	ax := axisBounds{step: step.i}
	if r.from != nil {
		c := constValue(x, r.from)
		if c.null {
			x.fail("the start of make-series is null")
		}
		ax.from = c.i
	} else {
		ax.from = floorInt(lo, step.i)
	}
	switch {
	case r.to == nil:
		ax.n = floorDiv(hi-ax.from, step.i) + 1
	default:
		c := constValue(x, r.to)
		if c.null {
			x.fail("the end of make-series is null")
		}
		if r.inclusive {
			ax.n = floorDiv(c.i-ax.from, step.i) + 1
		} else {
			ax.n = floorDiv(c.i-ax.from+step.i-1, step.i)
		}
	}
	if ax.n > maxBins {
		x.fail("make-series would make %d bins; the limit is %d", ax.n, maxBins)
	}
	return ax, ax.n > 0
}

// heldRel is rows in memory.
type heldRel struct {
	cols  Schema
	batch *Batch
}

func (r *heldRel) schema() Schema { return r.cols }
func (r *heldRel) prune([]bool)   {}
func (r *heldRel) run(*exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		if r.batch.n > 0 {
			yield(r.batch)
		}
	}
}

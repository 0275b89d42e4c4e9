package kql

import "iter"

// join [kind=K] (T) on CONDITIONS; lookup [kind=K] (T) on CONDITIONS

type joinOp struct {
	opBase
	kind  string
	right node
	on    []node
}

func readJoin(p *parser, o opBase) operator {
	op := &joinOp{opBase: o}
	params := p.params("kind", "withsource")
	at := p.peek()
	op.kind = p.paramWord(params["kind"], "kind")
	op.right = p.joinSide()
	p.params("kind")
	if p.acceptWord("on") {
		for {
			op.on = append(op.on, p.expr())
			if !p.acceptPunct(",") {
				break
			}
		}
	} else if op.kind != "cross" {
		p.fail("%q is expected", "on")
	}
	op.span = p.spanFrom(o)
	if !knownJoin(o.name, op.kind) {
		p.failAt(at, SyntaxError, "%s has no kind %q", o.name, op.kind)
	}
	return op
}

// joinSide reads the right side: a name, a call or a parenthesised query.
func (p *parser) joinSide() node {
	if p.isPunct("(") {
		p.next()
		x := p.pipe()
		p.expectPunct(")")
		return x
	}
	return p.path()
}

func knownJoin(op, kind string) bool {
	switch kind {
	case "", "inner", "leftouter":
		return true
	case "innerunique", "rightouter", "fullouter", "leftsemi", "rightsemi", "leftanti", "rightanti", "anti", "leftantisemi", "rightantisemi":
		return op == "join"
	}
	return false
}

func (o *joinOp) bind(b *binder, in rel) rel {
	if o.kind == "cross" {
		b.fail(o, NotImplemented, "join kind=cross is not implemented")
	}
	var right rel
	b.withRow(nil, func() { right = b.table(o.right) })
	r := &joinRel{left: in, right: right, kind: o.kind}
	if o.kind == "" {
		r.kind = "innerunique"
		if o.name == "lookup" {
			r.kind = "leftouter"
		}
	}
	dropRight := map[int]bool{}
	ls, rs := in.schema(), right.schema()
	row := &rowScope{cols: ls, right: rs, isJoin: true}
	for _, c := range o.on {
		o.condition(b, row, r, dropRight, c)
	}
	if o.name != "lookup" {
		dropRight = nil
	}
	r.layout(dropRight)
	return r
}

// condition binds one equality: a common name, or $left.a == $right.b.
func (o *joinOp) condition(b *binder, row *rowScope, r *joinRel, drop map[int]bool, c node) {
	var l, rt expr
	switch c := c.(type) {
	case *nameNode:
		i, k := row.cols.Index(c.name), row.right.Index(c.name)
		if i < 0 || k < 0 {
			side, cols := "left", row.cols
			if i >= 0 {
				side, cols = "right", row.right
			}
			b.fail(c, SemanticError, "the %s side has no column %q%s", side, c.name, hint(c.name, cols.Names()))
		}
		l, rt = &colExpr{row.cols[i].Type, i}, &colExpr{row.right[k].Type, k}
		drop[k] = true
	case *binaryNode:
		if c.op == "and" {
			o.condition(b, row, r, drop, c.l)
			o.condition(b, row, r, drop, c.r)
			return
		}
		if c.op != "==" {
			b.fail(c, SemanticError, "a join condition is an equality of $left and $right columns")
		}
		b.withRow(row, func() { l, rt = b.expr(c.l), b.expr(c.r) })
		n := len(row.cols)
		if sideOf(l, n) > 0 {
			l, rt = rt, l
		}
		if sideOf(l, n) != -1 || sideOf(rt, n) != 1 {
			b.fail(c, SemanticError, "a join condition compares a column of $left with one of $right")
		}
		rt = shiftColumn(rt, n)
		if col, ok := rt.(*colExpr); ok {
			drop[col.idx] = true
		}
	default:
		b.fail(c, SemanticError, "a join condition is a column name or an equality of $left and $right columns")
	}
	lt, rtt := l.typ(), rt.typ()
	switch {
	case lt == Dynamic || rtt == Dynamic:
		if !b.opt.SchemaOnly {
			b.fail(c, SemanticError, "a dynamic column cannot be a join key; convert it first, for instance with tostring()")
		}
	case lt == rtt:
	case lt.isNumber() && rtt.isNumber():
		t := widest(lt, rtt)
		l, rt = cast(l, t), cast(rt, t)
	case !b.opt.SchemaOnly:
		b.fail(c, SemanticError, "the join keys have types %s and %s", lt, rtt)
	}
	r.lkeys = append(r.lkeys, l)
	r.rkeys = append(r.rkeys, rt)
}

// sideOf is -1 for the left side's column, 1 for the right's, 0 for neither.
func sideOf(e expr, leftCols int) int {
	c, ok := e.(*colExpr)
	switch {
	case !ok:
		return 0
	case c.idx < leftCols:
		return -1
	}
	return 1
}

func shiftColumn(e expr, n int) expr {
	c := e.(*colExpr)
	return &colExpr{c.t, c.idx - n}
}

// joinRel is a hash join; the right side is held in memory. Null keys are equal
// to each other.
type joinRel struct {
	left, right  rel
	lkeys, rkeys []expr
	kind         string
	cols         Schema
	lcols, rcols []int // the output's columns by side
	lneed, rneed []bool
}

func (r *joinRel) layout(dropRight map[int]bool) {
	useLeft, useRight := true, true
	switch r.kind {
	case "leftsemi", "leftanti", "anti", "leftantisemi":
		useRight = false
	case "rightsemi", "rightanti", "rightantisemi":
		useLeft = false
	}
	names := &namer{}
	if useLeft {
		for i, c := range r.left.schema() {
			r.cols = append(r.cols, c)
			r.lcols = append(r.lcols, i)
			names.used = append(names.used, c.Name)
		}
	}
	if useRight {
		for i, c := range r.right.schema() {
			if !dropRight[i] && r.cols.Index(c.Name) < 0 {
				names.used = append(names.used, c.Name)
			}
		}
		for i, c := range r.right.schema() {
			if dropRight[i] {
				continue
			}
			if r.cols[:len(r.lcols)].Index(c.Name) >= 0 {
				c.Name = names.unique(c.Name)
				names.used = append(names.used, c.Name)
			}
			r.cols = append(r.cols, c)
			r.rcols = append(r.rcols, i)
		}
	}
	r.lneed, r.rneed = make([]bool, len(r.left.schema())), make([]bool, len(r.right.schema()))
}

func (r *joinRel) schema() Schema { return r.cols }

func (r *joinRel) prune(need []bool) {
	for i, c := range r.lcols {
		r.lneed[c] = r.lneed[c] || need[i]
	}
	for i, c := range r.rcols {
		r.rneed[c] = r.rneed[c] || need[len(r.lcols)+i]
	}
	for i := range r.lkeys {
		walkColumns(r.lkeys[i], func(k int) { r.lneed[k] = true })
		walkColumns(r.rkeys[i], func(k int) { r.rneed[k] = true })
	}
	r.left.prune(r.lneed)
	r.right.prune(r.rneed)
}

// rowChains maps a key to the rows that have it, in order.
type rowChains struct {
	first map[string]int32
	last  map[string]int32
	next  []int32
}

func keyVectors(x *exec, keys []expr, b *Batch) []*Vector {
	vs := make([]*Vector, len(keys))
	for i, k := range keys {
		vs[i] = k.eval(x, b)
	}
	return vs
}

func (r *joinRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		right := x.collect(r.right)
		chains := rowChains{map[string]int32{}, map[string]int32{}, make([]int32, right.n)}
		vs := keyVectors(x, r.rkeys, right)
		var buf []byte
		for i := range right.n {
			buf = appendKey(buf[:0], vs, i)
			chains.next[i] = -1
			if last, ok := chains.last[string(buf)]; ok {
				chains.next[last] = int32(i)
			} else {
				chains.first[string(buf)] = int32(i)
			}
			chains.last[string(buf)] = int32(i)
		}
		x.hold(int64(right.n) * 64)
		j := &joiner{joinRel: r, x: x, right: right, chains: &chains, yield: yield, matched: make([]bool, right.n)}
		for b := range r.left.run(x) {
			x.check()
			if !j.probe(b) {
				return
			}
		}
		j.finish()
	}
}

// joiner is one run of a join.
type joiner struct {
	*joinRel
	x       *exec
	right   *Batch
	chains  *rowChains
	yield   func(*Batch) bool
	matched []bool
	seen    map[string]struct{} // innerunique: the keys of the left side so far
	buf     []byte
}

func (j *joiner) probe(b *Batch) bool {
	vs := keyVectors(j.x, j.lkeys, b)
	var li, ri []int32
	emit := func(l, r int32) bool {
		li, ri = append(li, l), append(ri, r)
		if len(li) < batchRows {
			return true
		}
		j.x.check()
		ok := j.emit(b, li, ri)
		li, ri = li[:0], ri[:0]
		return ok
	}
	for i := range b.n {
		j.buf = appendKey(j.buf[:0], vs, i)
		first, found := j.chains.first[string(j.buf)]
		switch j.kind {
		case "innerunique":
			if !found {
				continue
			}
			if j.seen == nil {
				j.seen = map[string]struct{}{}
			}
			if _, dup := j.seen[string(j.buf)]; dup {
				continue
			}
			j.seen[string(j.buf)] = struct{}{}
			j.x.hold(int64(len(j.buf)) + 32)
		case "leftsemi":
			if found && !emit(int32(i), -1) {
				return false
			}
			continue
		case "leftanti", "anti", "leftantisemi":
			if !found && !emit(int32(i), -1) {
				return false
			}
			continue
		}
		if !found {
			if (j.kind == "leftouter" || j.kind == "fullouter") && !emit(int32(i), -1) {
				return false
			}
			continue
		}
		for k := first; k >= 0; k = j.chains.next[k] {
			switch j.kind {
			case "rightsemi", "rightanti", "rightantisemi", "fullouter", "rightouter":
				j.matched[k] = true
			}
			if j.kind != "rightsemi" && j.kind != "rightanti" && j.kind != "rightantisemi" && !emit(int32(i), k) {
				return false
			}
		}
	}
	return len(li) == 0 || j.emit(b, li, ri)
}

func (j *joiner) emit(left *Batch, li, ri []int32) bool {
	out := &Batch{n: len(li)}
	for _, c := range j.lcols {
		var v *Vector
		if left == nil {
			v = newVector(j.left.schema()[c].Type, 0).gather(li)
		} else if left.Columns[c] != nil {
			v = left.Columns[c].gather(li)
		}
		out.Columns = append(out.Columns, v)
	}
	for _, c := range j.rcols {
		var v *Vector
		if j.right.Columns[c] != nil {
			v = j.right.Columns[c].gather(ri)
		}
		out.Columns = append(out.Columns, v)
	}
	return j.yield(out)
}

// finish yields the right side's rows that depend on having no match, or only
// on having one.
func (j *joiner) finish() {
	want := false
	switch j.kind {
	case "rightsemi":
		want = true
	case "rightanti", "rightantisemi", "rightouter", "fullouter":
	default:
		return
	}
	var li, ri []int32
	for i, m := range j.matched {
		if m == want {
			li, ri = append(li, -1), append(ri, int32(i))
		}
		if len(li) == batchRows || i == len(j.matched)-1 && len(li) > 0 {
			if !j.emit(nil, li, ri) {
				return
			}
			li, ri = li[:0], ri[:0]
		}
	}
}

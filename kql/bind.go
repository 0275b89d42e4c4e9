package kql

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// maxBound bounds how many syntax nodes one query may bind: calls of functions
// inline their bodies, so a short text can mean a large plan.
const maxBound = 200_000

// Bind resolves the names and types of a query against a catalog. The error is
// an *Error with SemanticError, NotImplemented or LimitExceeded and the place
// of the first fault.
func Bind(q *Query, cat Catalog, opt BindOptions) (*Plan, error) {
	return BindContext(context.Background(), q, cat, opt)
}

// BindContext is Bind under a context. A query whose columns depend on its data
// (evaluate bag_unpack) reads that operator's input while it is bound, within
// opt.Limits; its plan then answers from the rows that were read.
func BindContext(ctx context.Context, q *Query, cat Catalog, opt BindOptions) (plan *Plan, err error) {
	if cat == nil {
		cat = MapCatalog{}
	}
	x, cancel := newExec(ctx, opt.Limits)
	defer cancel()
	b := &binder{text: q.text, cat: cat, opt: opt, exec: x}
	defer recoverBail(q.text, &err)
	p := &Plan{text: q.text}
	for i, s := range q.stmts {
		switch s := s.(type) {
		case *letStmt:
			b.let(s)
		case *exprStmt:
			r := b.table(s.x)
			var render *Render
			if rr, ok := r.(*renderRel); ok {
				render, r = rr.render, rr.in
			}
			r.prune(allNeeded(r))
			p.results = append(p.results, r)
			p.renders = append(p.renders, render)
		case *setStmt:
		default:
			b.fail(q.stmts[i], NotImplemented, "this statement is not implemented")
		}
	}
	if len(p.results) == 0 {
		last := q.stmts[len(q.stmts)-1]
		b.fail(last, SemanticError, "the query has no tabular expression statement")
	}
	p.refusal = b.refusal
	return p, nil
}

// env is the chain of names that let and function parameters bind.
type env struct {
	parent *env
	name   string
	v      binding
}

type binding interface{}

type (
	scalarBinding struct {
		e   expr
		row *rowScope // whose columns e may read; nil when it reads none
	}
	tableBinding struct{ r rel }
	funcBinding  struct {
		fn  *lambdaNode
		env *env
	}
)

func (e *env) lookup(name string) (binding, bool) {
	for ; e != nil; e = e.parent {
		if e.name == name {
			return e.v, true
		}
	}
	return nil, false
}

// rowScope is the columns that an expression may name.
type rowScope struct {
	cols       Schema
	right      Schema // the right side inside join's on; cols is the left
	isJoin     bool
	step       string // the step of a scan: step.column is the row matched last
	serialized bool
}

type binder struct {
	text    string
	cat     Catalog
	opt     BindOptions
	env     *env
	row     *rowScope // the visible columns
	rowID   *rowScope // the row that expressions are computed over
	depth   int
	bound   int
	refusal *Error
	aggs    *aggScope
	exec    *exec // for what must be read while binding
}

func (b *binder) fail(at node, code ErrorCode, format string, args ...any) {
	s := at.place()
	panic(bail{errorAt(b.text, code, s.pos, clip(b.source(s), 60), format, args...)})
}

// discover reads an input while binding.
func (b *binder) discover(in rel) *Batch {
	in.prune(allNeeded(in))
	return b.exec.collect(in)
}

func (b *binder) source(s span) string {
	if s.pos < 0 || s.end > len(b.text) || s.pos > s.end {
		return ""
	}
	return b.text[s.pos:s.end]
}

// unsupported refuses what the language has and this engine lacks. When only
// the schema is wanted it takes note and goes on.
func (b *binder) unsupported(at node, format string, args ...any) {
	if !b.opt.SchemaOnly {
		b.fail(at, NotImplemented, format, args...)
	}
	if b.refusal == nil {
		s := at.place()
		b.refusal = errorAt(b.text, NotImplemented, s.pos, clip(b.source(s), 60), format, args...)
	}
}

func (b *binder) enter(at node) {
	b.depth++
	b.bound++
	if b.depth > 10*maxNesting {
		b.fail(at, LimitExceeded, "the query is nested too deeply")
	}
	if b.bound > maxBound {
		b.fail(at, LimitExceeded, "the query is too large once its functions are expanded")
	}
}

func (b *binder) leave() { b.depth-- }

// withRow runs fn with other columns in scope.
func (b *binder) withRow(row *rowScope, fn func()) {
	saveRow, saveID := b.row, b.rowID
	b.row, b.rowID = row, row
	fn()
	b.row, b.rowID = saveRow, saveID
}

func (b *binder) define(name string, v binding) { b.env = &env{b.env, name, v} }

func (b *binder) let(s *letStmt) {
	if fn, ok := s.x.(*lambdaNode); ok {
		b.define(s.name, &funcBinding{fn, b.env})
		return
	}
	b.define(s.name, b.letValue(s.x))
}

// letValue binds a let's right side as a table where it is one, else as a
// scalar.
func (b *binder) letValue(x node) binding {
	if b.isTable(x) {
		return &tableBinding{&aliasRel{in: b.table(x)}}
	}
	return &scalarBinding{e: b.expr(x)}
}

// isTable tells whether a node is a tabular expression.
func (b *binder) isTable(x node) bool {
	switch x := x.(type) {
	case *pipeNode, *sourceNode:
		return true
	case *nameNode:
		if v, ok := b.env.lookup(x.name); ok {
			_, is := v.(*tableBinding)
			return is
		}
		if b.row != nil && b.row.cols.Index(x.name) >= 0 {
			return false
		}
		_, is := b.cat.Table(x.name)
		return is || strings.Contains(x.name, "*")
	case *callNode:
		if v, ok := b.env.lookup(x.name); ok {
			f, is := v.(*funcBinding)
			return is && b.returnsTable(f)
		}
		switch x.name {
		case "materialize", "table", "view":
			return true
		}
	case *pathNode:
		return b.workspaceOf(x.base) != nil
	case *pathCallNode:
		return true
	}
	return false
}

// returnsTable tells whether a function's body ends in a table. Parameters are
// bound by kind only.
func (b *binder) returnsTable(f *funcBinding) bool {
	save := b.env
	defer func() { b.env = save }()
	b.enter(f.fn)
	defer b.leave()
	b.env = f.env
	for _, p := range f.fn.params {
		if p.table != nil {
			b.define(p.name, &tableBinding{})
		} else {
			b.define(p.name, &scalarBinding{e: &constExpr{nullOf(p.typ)}})
		}
	}
	for _, s := range f.fn.body {
		switch s := s.(type) {
		case *letStmt:
			switch {
			case isLambda(s.x):
				b.define(s.name, &funcBinding{s.x.(*lambdaNode), b.env})
			case b.isTable(s.x):
				b.define(s.name, &tableBinding{})
			default:
				b.define(s.name, &scalarBinding{e: &constExpr{nullOf(Dynamic)}})
			}
		case *exprStmt:
			return b.isTable(s.x)
		}
	}
	return false
}

func isLambda(n node) bool {
	_, ok := n.(*lambdaNode)
	return ok
}

// table binds a tabular expression.
func (b *binder) table(x node) rel {
	b.enter(x)
	defer b.leave()
	switch x := x.(type) {
	case *pipeNode:
		r := b.table(x.src)
		for _, op := range x.ops {
			r = b.apply(op, r)
		}
		return r
	case *sourceNode:
		return b.apply(x.op, nil)
	case *nameNode:
		return b.namedTable(x)
	case *callNode:
		return b.tableCall(x)
	case *pathNode:
		if c := b.workspaceOf(x.base); c != nil {
			t, ok := c.Table(x.name)
			if !ok {
				b.fail(x, SemanticError, "the workspace has no table %q%s", x.name, hint(x.name, c.TableNames()))
			}
			return b.scan(x.name, t)
		}
	case *lambdaNode:
		b.fail(x, SemanticError, "a function is no table")
	}
	b.fail(x, SemanticError, "a tabular expression is expected")
	return nil
}

func (b *binder) apply(op operator, in rel) rel {
	b.enter(op)
	defer b.leave()
	return op.bind(b, in)
}

func (b *binder) namedTable(x *nameNode) rel {
	if v, ok := b.env.lookup(x.name); ok {
		switch v := v.(type) {
		case *tableBinding:
			return v.r
		case *funcBinding:
			if len(v.fn.params) == 0 {
				return b.callTable(x, v, nil, nil)
			}
			b.fail(x, SemanticError, "the function %q needs its arguments in parentheses", x.name)
		}
		b.fail(x, SemanticError, "%q is a scalar, where a table is expected", x.name)
	}
	t, ok := b.cat.Table(x.name)
	if !ok {
		b.fail(x, SemanticError, "the name %q is no table, let variable or function%s", x.name, hint(x.name, append(b.envNames(), b.cat.TableNames()...)))
	}
	return b.scan(x.name, t)
}

func (b *binder) envNames() []string {
	var names []string
	for e := b.env; e != nil; e = e.parent {
		names = append(names, e.name)
	}
	return names
}

func (b *binder) tableCall(x *callNode) rel {
	if v, ok := b.env.lookup(x.name); ok {
		f, is := v.(*funcBinding)
		if !is {
			b.fail(x, SemanticError, "%q is no function", x.name)
		}
		return b.callTable(x, f, x.args, nil)
	}
	switch x.name {
	case "materialize":
		if len(x.args) < 1 {
			b.fail(x, SemanticError, "materialize takes a tabular expression")
		}
		return &cacheRel{in: b.table(x.args[0].x)}
	case "table":
		if len(x.args) > 0 {
			if l, ok := x.args[0].x.(*literalNode); ok && l.v.t == String {
				return b.namedTable(&nameNode{x.span, l.v.s})
			}
		}
		b.fail(x, SemanticError, "table takes the table's name as a string literal")
	}
	if _, ok := functionSignatures()[x.name]; ok {
		b.fail(x, SemanticError, "the function %q yields a scalar, where a table is expected", x.name)
	}
	b.fail(x, SemanticError, "the name %q is no known function%s", x.name, hint(x.name, b.envNames()))
	return nil
}

// workspaceOf resolves workspace("id") in front of a table's name.
func (b *binder) workspaceOf(x node) Catalog {
	c, ok := x.(*callNode)
	if !ok || c.name != "workspace" && c.name != "app" || len(c.args) != 1 {
		return nil
	}
	l, ok := c.args[0].x.(*literalNode)
	if !ok || l.v.t != String {
		b.fail(x, SemanticError, "workspace takes a string literal")
	}
	if c.name == "app" {
		b.fail(x, NotImplemented, "app() is not implemented")
	}
	cat, ok := b.cat.Workspace(l.v.s)
	if !ok {
		b.fail(x, SemanticError, "the workspace %q is unknown or not permitted", l.v.s)
	}
	return cat
}

// inBody binds a function's body with its parameters in scope.
func (b *binder) inBody(at node, f *funcBinding, args []argument, piped rel, last func(node)) {
	b.enter(at)
	defer b.leave()
	bound := b.arguments(at, f.fn, args, piped)
	saveEnv, saveRow, saveAggs := b.env, b.row, b.aggs
	defer func() { b.env, b.row, b.aggs = saveEnv, saveRow, saveAggs }()
	b.env, b.row, b.aggs = f.env, nil, nil
	for i, p := range f.fn.params {
		b.define(p.name, bound[i])
	}
	for i, s := range f.fn.body {
		switch s := s.(type) {
		case *letStmt:
			b.let(s)
		case *exprStmt:
			if i != len(f.fn.body)-1 {
				b.fail(s.x, SemanticError, "a function's result must be its last statement")
			}
			last(s.x)
			return
		}
	}
	b.fail(at, SemanticError, "the function has no result")
}

// arguments binds a call's arguments to the parameters, by position or name.
func (b *binder) arguments(at node, fn *lambdaNode, args []argument, piped rel) []binding {
	out := make([]binding, len(fn.params))
	next := 0
	if piped != nil {
		if len(fn.params) == 0 || fn.params[0].table == nil {
			b.fail(at, SemanticError, "the function's first parameter is no table")
		}
		out[0] = b.tableArgument(at, fn.params[0], piped)
		next = 1
	}
	for _, a := range args {
		k := next
		if a.name != "" {
			k = slices.IndexFunc(fn.params, func(p parameter) bool { return p.name == a.name })
		} else {
			next++
		}
		if k < 0 || k >= len(fn.params) || out[k] != nil {
			b.fail(a.x, SemanticError, "the function has no parameter for this argument")
		}
		p := fn.params[k]
		if p.table != nil {
			out[k] = b.tableArgument(a.x, p, b.table(a.x))
			continue
		}
		e := b.expr(a.x)
		if !assignable(e.typ(), p.typ) {
			b.fail(a.x, SemanticError, "the parameter %q has type %s, the argument %s", p.name, p.typ, e.typ())
		}
		out[k] = &scalarBinding{cast(e, p.typ), b.rowID}
	}
	for i, p := range fn.params {
		if out[i] != nil {
			continue
		}
		if p.def == nil {
			b.fail(at, SemanticError, "the argument for parameter %q is missing", p.name)
		}
		out[i] = &scalarBinding{e: cast(b.expr(p.def), p.typ)}
	}
	return out
}

func assignable(from, to Type) bool {
	return from == to || to == Dynamic || from == Dynamic || from == Int && to == Long || from.isInteger() && to == Real || from == Long && to == Int || from.isNumber() && to == Decimal
}

func (b *binder) tableArgument(at node, p parameter, r rel) binding {
	s := r.schema()
	for _, c := range p.table.cols {
		if i := s.Index(c.Name); i < 0 || !assignable(s[i].Type, c.Type) {
			b.fail(at, SemanticError, "the table lacks column %s:%s that parameter %q declares", c.Name, c.Type, p.name)
		}
	}
	if !p.table.open && len(p.table.cols) > 0 {
		out := &projectRel{in: r}
		for _, c := range p.table.cols {
			i := s.Index(c.Name)
			out.cols = append(out.cols, c)
			out.exprs = append(out.exprs, cast(&colExpr{s[i].Type, i}, c.Type))
		}
		return &tableBinding{out}
	}
	return &tableBinding{r}
}

func (b *binder) callTable(at node, f *funcBinding, args []argument, piped rel) (r rel) {
	b.inBody(at, f, args, piped, func(x node) { r = b.table(x) })
	return r
}

func (b *binder) callScalar(at node, f *funcBinding, args []argument) (e expr) {
	b.inBody(at, f, args, nil, func(x node) {
		if b.isTable(x) {
			b.fail(at, SemanticError, "the function yields a table, where a scalar is expected; toscalar() takes its first value")
		}
		e = b.expr(x)
	})
	return e
}

// hint names the closest of the candidates.
func hint(name string, candidates []string) string {
	best, dist := "", 3
	lower := strings.ToLower(name)
	for _, c := range candidates {
		if d := editDistance(lower, strings.ToLower(c), dist); d < dist {
			best, dist = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is Levenshtein's, given up at limit.
func editDistance(a, b string, limit int) int {
	if len(a) > 64 || len(b) > 64 || len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j]+cost, prev[j+1]+1, cur[j]+1)
		}
		prev = cur
	}
	return prev[len(b)]
}

// aggScope is set while aggregates are allowed: it turns an aggregate call into
// the column that will hold its result.
type aggScope struct {
	row   *rowScope
	nkeys int
	calls []*aggCall
}

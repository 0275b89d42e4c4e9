package kql

import (
	"strconv"
	"strings"
)

// expr binds a scalar expression over the row in scope.
func (b *binder) expr(n node) expr {
	b.enter(n)
	defer b.leave()
	switch n := n.(type) {
	case *literalNode:
		return &constExpr{n.v}
	case *badLiteralNode:
		if b.opt.SchemaOnly {
			b.unsupported(n, "malformed %s literal", n.typ)
			return &constExpr{nullOf(n.typ)}
		}
		b.fail(n, SemanticError, "malformed %s literal", n.typ)
	case *nameNode:
		return b.nameExpr(n)
	case *unaryNode:
		return b.unaryExpr(n)
	case *binaryNode:
		return b.binaryExpr(n)
	case *inNode:
		return b.inExpr(n)
	case *betweenNode:
		return b.betweenExpr(n)
	case *pathNode:
		return b.pathExpr(n)
	case *indexNode:
		return b.indexExpr(n)
	case *callNode:
		return b.callExpr(n)
	case *namedNode:
		b.fail(n, SyntaxError, "a name and = are not allowed here")
	case *starNode:
		b.fail(n, SyntaxError, "* is not allowed here")
	case *typeofNode:
		b.fail(n, SemanticError, "typeof is not allowed here")
	case *pipeNode, *sourceNode:
		b.fail(n, SemanticError, "a table stands where a scalar is expected; toscalar() takes its first value")
	case *clientParamNode:
		b.fail(n, SemanticError, "the client parameter %s was not filled in", b.source(n.span))
	case *pathCallNode:
		b.unsupported(n, "a call on a path is not implemented")
		return &constExpr{nullOf(Dynamic)}
	}
	b.fail(n, SemanticError, "a scalar expression is expected")
	return nil
}

func (b *binder) nameExpr(n *nameNode) expr {
	if b.row != nil {
		if b.row.isJoin {
			switch n.name {
			case "$left", "$right":
				b.fail(n, SemanticError, "%s needs a column", n.name)
			}
		}
		if i := b.row.cols.Index(n.name); i >= 0 {
			if b.aggs != nil {
				b.fail(n, SemanticError, "the column %q is neither in the by clause nor inside an aggregate", n.name)
			}
			return &colExpr{b.row.cols[i].Type, i}
		}
	}
	v, ok := b.env.lookup(n.name)
	if !ok {
		names := b.envNames()
		if b.row != nil {
			names = append(names, b.row.cols.Names()...)
		}
		b.fail(n, SemanticError, "the name %q is no column, let variable or function%s", n.name, hint(n.name, names))
	}
	switch v := v.(type) {
	case *scalarBinding:
		if v.row != nil && v.row != b.rowID {
			reads := false
			walkColumns(v.e, func(int) { reads = true })
			if reads {
				b.fail(n, SemanticError, "the argument %q reads a column and cannot be used inside another table", n.name)
			}
		}
		return v.e
	case *funcBinding:
		if len(v.fn.params) == 0 {
			return b.callScalar(n, v, nil)
		}
		b.fail(n, SemanticError, "the function %q needs its arguments in parentheses", n.name)
	}
	b.fail(n, SemanticError, "%q is a table, where a scalar is expected; toscalar() takes its first value", n.name)
	return nil
}

func (b *binder) unaryExpr(n *unaryNode) expr {
	x := b.expr(n.x)
	t := x.typ()
	if t.isNumber() || t == TimeSpan {
		if n.op == "+" {
			return x
		}
		if t == Int {
			t = Long
			x = cast(x, Long)
		}
		zero := val{t: t}
		if t == Decimal {
			zero.d = numberOfInt(0)
		}
		if c, ok := x.(*constExpr); ok && !c.v.null && t == Real {
			return &constExpr{realVal(-c.v.f)} // keeps the sign of zero
		}
		return b.fold(&arithExpr{'-', t, &constExpr{zero}, x})
	}
	if t == Dynamic {
		b.unsupported(n, "%s over a dynamic value is not implemented; convert it first", n.op)
		return x
	}
	b.fail(n, SemanticError, "the operator %s is not defined for %s", n.op, t)
	return nil
}

// fold evaluates an expression of constants now.
func (b *binder) fold(e expr) expr {
	switch c := e.(type) {
	case *arithExpr:
		if !isLiteral(c.l) || !isLiteral(c.r) {
			return e
		}
	case *compareExpr:
		if !isLiteral(c.l) || !isLiteral(c.r) {
			return e
		}
	case *callExpr:
		if c.volatile {
			return e
		}
		for _, a := range c.args {
			if !isLiteral(a) {
				return e
			}
		}
	default:
		return e
	}
	x := &exec{}
	return &constExpr{e.eval(x, &Batch{n: 1}).val(0)}
}

func isLiteral(e expr) bool {
	_, ok := e.(*constExpr)
	return ok
}

func (b *binder) toBool(n node, e expr) expr {
	switch e.typ() {
	case Bool, Dynamic:
		return cast(e, Bool)
	}
	b.fail(n, SemanticError, "the expression must have type bool, not %s", e.typ())
	return nil
}

// predicate binds a condition.
func (b *binder) predicate(n node) expr { return b.toBool(n, b.expr(n)) }

func (b *binder) binaryExpr(n *binaryNode) expr {
	if _, star := n.l.(*starNode); star {
		return b.anyColumn(n)
	}
	l := b.expr(n.l)
	r := b.expr(n.r)
	switch n.op {
	case "and", "or":
		return &logicExpr{n.op == "and", b.toBool(n.l, l), b.toBool(n.r, r)}
	case "+", "-", "*", "/", "%":
		return b.fold(b.arith(n, n.op[0], l, r))
	case "==", "!=", "<", "<=", ">", ">=":
		return b.fold(b.compare(n, compareOps(n.op), l, r))
	}
	return b.fold(b.stringOp(n, n.op, l, r))
}

// anyColumn is "* has x": true where any string column matches.
func (b *binder) anyColumn(n *binaryNode) expr {
	if b.row == nil {
		b.fail(n, SyntaxError, "* is not allowed here")
	}
	var e expr
	r := b.expr(n.r)
	for i, c := range b.row.cols {
		var m expr
		col := &colExpr{c.Type, i}
		switch {
		case n.op == "==" || n.op == "!=":
			if c.Type != r.typ() {
				continue
			}
			m = b.compare(n, compareOps(n.op), col, r)
		case c.Type == String || c.Type == Dynamic:
			m = b.stringOp(n, n.op, col, r)
		default:
			continue
		}
		if e == nil {
			e = m
		} else {
			e = &logicExpr{false, e, m}
		}
	}
	if e == nil {
		return &constExpr{boolVal(false)}
	}
	return e
}

func compareOps(s string) compareOp {
	switch s {
	case "==":
		return opEq
	case "!=":
		return opNe
	case "<":
		return opLt
	case "<=":
		return opLe
	case ">":
		return opGt
	}
	return opGe
}

func (b *binder) arith(n node, op byte, l, r expr) expr {
	lt, rt := l.typ(), r.typ()
	if lt == Dynamic || rt == Dynamic {
		return b.dynamicArith(n, op, l, r)
	}
	switch {
	case lt.isNumber() && rt.isNumber():
		t := widest(lt, rt)
		if t == Int {
			t = Long
		}
		return &arithExpr{op, t, cast(l, t), cast(r, t)}
	case lt == TimeSpan && rt == TimeSpan:
		switch op {
		case '+', '-', '%':
			return &arithExpr{op, TimeSpan, l, r}
		case '/':
			return &arithExpr{op, Real, l, r}
		}
	case lt == DateTime && rt == TimeSpan:
		switch op {
		case '+', '-':
			return &arithExpr{op, DateTime, l, r}
		case '%':
			return &arithExpr{op, TimeSpan, l, r}
		}
	case lt == TimeSpan && rt == DateTime && op == '+':
		return &arithExpr{op, DateTime, l, r}
	case lt == DateTime && rt == DateTime && op == '-':
		return &arithExpr{op, TimeSpan, l, r}
	case lt == TimeSpan && rt.isNumber() && rt != Decimal && (op == '*' || op == '/' || op == '%'):
		return &arithExpr{op, TimeSpan, l, r}
	case lt.isNumber() && lt != Decimal && rt == TimeSpan && op == '*':
		return &arithExpr{op, TimeSpan, l, r}
	case lt == DateTime && (rt == DateTime || rt == TimeSpan) && (op == '/' || op == '%'),
		lt == DateTime && rt == DateTime && op == '+',
		lt == TimeSpan && rt == DateTime && op == '-',
		(lt == DateTime || rt == DateTime) && (lt.isNumber() || rt.isNumber()) && op != '+' && op != '-':
		b.unsupported(n, "%s %c %s is not implemented", lt, op, rt)
		return &constExpr{nullOf(TimeSpan)}
	}
	b.fail(n, SemanticError, "the operator %c is not defined for %s and %s", op, lt, rt)
	return nil
}

// dynamicArith converts the dynamic side to the other's type. Two dynamics are
// refused, as the engine does.
func (b *binder) dynamicArith(n node, op byte, l, r expr) expr {
	lt, rt := l.typ(), r.typ()
	if lt == rt {
		if b.opt.SchemaOnly {
			b.unsupported(n, "arithmetic of two dynamic values is not defined; convert them first")
			return &constExpr{nullOf(Dynamic)}
		}
		b.fail(n, SemanticError, "the operator %c is not defined for two dynamic values; convert them first with tolong() or toreal()", op)
	}
	t := lt
	if lt == Dynamic {
		t = rt
	}
	if t == DateTime && op == '-' {
		if lt == Dynamic {
			return &arithExpr{op, TimeSpan, cast(l, DateTime), r}
		}
		return &arithExpr{op, TimeSpan, l, cast(r, DateTime)}
	}
	if t == Int {
		t = Long
	}
	if t == String || t == Bool || t == GUID || t == DateTime {
		b.fail(n, SemanticError, "the operator %c is not defined for %s and %s", op, lt, rt)
	}
	if t == TimeSpan && (op == '*' || op == '/') {
		b.unsupported(n, "%s %c %s is not implemented; convert the dynamic value first", lt, op, rt)
		return &constExpr{nullOf(TimeSpan)}
	}
	return &arithExpr{op, t, cast(l, t), cast(r, t)}
}

func (b *binder) compare(n node, op compareOp, l, r expr) expr {
	lt, rt := l.typ(), r.typ()
	equality := op == opEq || op == opNe
	switch {
	case lt == rt && lt != Dynamic:
		if (lt == String || lt == GUID) && !equality {
			b.fail(n, SemanticError, "this comparison is not defined for %s; use strcmp()", lt)
		}
		return &compareExpr{op, l, r}
	case lt.isNumber() && rt.isNumber():
		t := widest(lt, rt)
		return &compareExpr{op, cast(l, t), cast(r, t)}
	case lt == Bool && rt.isNumber():
		return &compareExpr{op, cast(l, rt), r}
	case rt == Bool && lt.isNumber():
		return &compareExpr{op, l, cast(r, lt)}
	case lt == Dynamic && rt == Dynamic:
		if b.opt.SchemaOnly {
			b.unsupported(n, "two dynamic values cannot be compared; convert them first")
			return &constExpr{nullOf(Bool)}
		}
		b.fail(n, SemanticError, "two dynamic values cannot be compared; convert them first, for instance with tostring()")
	case (lt == Dynamic || rt == Dynamic) && equality:
		return dynamicEquality(op, l, r)
	case lt == Dynamic && rt != String:
		return &compareExpr{op, cast(l, rt), r}
	case rt == Dynamic && lt != String:
		return &compareExpr{op, l, cast(r, lt)}
	case equality && lt == GUID && rt == String:
		return &compareExpr{op, l, cast(r, GUID)}
	case equality && lt == String && rt == GUID:
		return &compareExpr{op, cast(l, GUID), r}
	case equality && b.opt.SchemaOnly:
		b.unsupported(n, "values of types %s and %s cannot be compared", lt, rt)
		return &constExpr{nullOf(Bool)}
	}
	b.fail(n, SemanticError, "values of types %s and %s cannot be compared", lt, rt)
	return nil
}

func dynamicEquality(op compareOp, l, r expr) expr {
	if l.typ() != Dynamic {
		l, r = r, l
	}
	isString := r.typ() == String
	return &callExpr{name: "==", t: Bool, nulls: true, args: []expr{l, r}, fn: func(x *exec, a []val) val {
		if a[0].null || a[1].null {
			if a[0].null && a[1].null {
				return nullOf(Bool)
			}
			if isString && a[1].s == "" { // a missing path reads as the empty string
				return boolVal(op == opEq)
			}
			return boolVal(op == opNe)
		}
		if isString {
			refuseMixedText(x, a[0].d, a[1].s)
		}
		return boolVal(dynamicEqual(a[0].d, a[1]) == (op == opEq))
	}}
}

// refuseMixedText ends the run where a dynamic number or bool meets a string
// that spells it: whether the engine takes 1 for "1" is not known, and a guess
// would be silent.
func refuseMixedText(x *exec, d any, s string) {
	switch d.(type) {
	case bool, int64, float64:
		if s != "" && valText(dynVal(d)) == s {
			x.refuse("a dynamic %s is compared with a string that spells it; convert it first, for instance with tostring()", dynamicType(d))
		}
	}
}

func (b *binder) betweenExpr(n *betweenNode) expr {
	x, lo, hi := b.expr(n.x), b.expr(n.lo), b.expr(n.hi)
	if x.typ() == DateTime && hi.typ() == TimeSpan {
		hi = b.fold(b.arith(n, '+', lo, hi))
	}
	e := &logicExpr{true, b.compare(n, opGe, x, lo), b.compare(n, opLe, x, hi)}
	if !n.not {
		return e
	}
	return notExpr(e)
}

func notExpr(e expr) expr {
	return &callExpr{name: "not", t: Bool, args: []expr{e}, fn: func(_ *exec, a []val) val { return boolVal(a[0].i == 0) }}
}

func (b *binder) pathExpr(n *pathNode) expr {
	if base, ok := n.base.(*nameNode); ok && b.row != nil && b.row.isJoin && (base.name == "$left" || base.name == "$right") {
		cols, off := b.row.cols, 0
		if base.name == "$right" {
			cols, off = b.row.right, len(b.row.cols)
		}
		i := cols.Index(n.name)
		if i < 0 {
			b.fail(n, SemanticError, "%s has no column %q%s", base.name, n.name, hint(n.name, cols.Names()))
		}
		return &colExpr{cols[i].Type, off + i}
	}
	if base, ok := n.base.(*nameNode); ok && b.row != nil && b.row.step != "" && base.name == b.row.step {
		i := b.row.cols.Index(n.name)
		if i < 0 {
			b.fail(n, SemanticError, "the step has no column %q%s", n.name, hint(n.name, b.row.cols.Names()))
		}
		return &colExpr{b.row.cols[i].Type, len(b.row.cols) + i}
	}
	x := b.expr(n.base)
	if x.typ() != Dynamic {
		b.fail(n, SemanticError, "a property is read of %s; only dynamic values have properties", x.typ())
	}
	return b.fold(propertyExpr(x, n.name))
}

func propertyExpr(x expr, name string) expr {
	return &callExpr{name: "." + name, t: Dynamic, args: []expr{x}, fn: func(_ *exec, a []val) val {
		return dynVal(property(a[0].d, name))
	}}
}

func property(d any, name string) any {
	if bag, ok := d.(*Bag); ok {
		v, _ := bag.Get(name)
		return v
	}
	return nil
}

func element(d any, i int64) any {
	if list, ok := d.([]any); ok {
		if i < 0 {
			i += int64(len(list))
		}
		if i >= 0 && i < int64(len(list)) {
			return list[i]
		}
	}
	return nil
}

func (b *binder) indexExpr(n *indexNode) expr {
	x, idx := b.expr(n.base), b.expr(n.index)
	if x.typ() != Dynamic {
		b.fail(n, SemanticError, "an element is read of %s; only dynamic values have elements", x.typ())
	}
	switch t := idx.typ(); {
	case t == String, t == Dynamic, t.isInteger():
	default:
		b.fail(n.index, SemanticError, "an index is an integer or a string, not %s", t)
	}
	return b.fold(&callExpr{name: "[]", t: Dynamic, args: []expr{x, idx}, fn: func(_ *exec, a []val) val {
		k := a[1]
		if k.t == Dynamic {
			k = dynamicToVal(k.d)
		}
		switch k.t {
		case String:
			return dynVal(property(a[0].d, k.s))
		case Int, Long:
			return dynVal(element(a[0].d, k.i))
		}
		return nullOf(Dynamic)
	}})
}

// autoName is the name that an unnamed expression gives its column, or "".
func (b *binder) autoName(n node) string {
	switch n := n.(type) {
	case *nameNode:
		return n.name
	case *namedNode:
		return n.names[0]
	case *pathNode:
		if base := b.autoName(n.base); base != "" {
			if base == "$left" || base == "$right" {
				return n.name
			}
			return base + "_" + n.name
		}
	case *indexNode:
		if base := b.autoName(n.base); base != "" {
			if l, ok := n.index.(*literalNode); ok {
				return base + "_" + valText(l.v)
			}
			if u, ok := n.index.(*unaryNode); ok {
				if l, ok := u.x.(*literalNode); ok && l.v.t == Long {
					return base + "_" + strconv.FormatInt(l.v.i, 10)
				}
			}
		}
	case *callNode:
		return b.callName(n)
	}
	return ""
}

func (b *binder) callName(n *callNode) string {
	if _, own := b.env.lookup(n.name); own {
		return ""
	}
	s, agg := aggregateSignatures()[n.name]
	if !agg {
		s = functionSignatures()[n.name]
	}
	if s == nil {
		return ""
	}
	first := ""
	if len(n.args) > 0 {
		first = b.autoName(n.args[0].x)
	}
	switch s.naming {
	case '1':
		return first
	case 'a':
		if len(n.args) == 1 {
			return first
		}
	case 'v':
		if c, ok := n.args[0].x.(*nameNode); ok {
			return c.name
		}
	case 'n':
		if first != "" {
			return n.name + "_" + first
		}
	case 'p':
		if strings.HasPrefix(n.name, "covariance") && len(n.args) > 1 {
			first += "_" + b.autoName(n.args[1].x)
		}
		if agg || first != "" {
			return s.prefix + "_" + first
		}
	case 'o':
		return s.prefix
	}
	return ""
}

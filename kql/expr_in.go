package kql

import "strings"

// inExpr binds in, !in, in~, has_any and has_all.
func (b *binder) inExpr(n *inNode) expr {
	var x expr
	if _, star := n.l.(*starNode); star {
		return b.anyColumnIn(n)
	}
	x = b.expr(n.l)
	return b.inList(n, x)
}

func (b *binder) anyColumnIn(n *inNode) expr {
	if b.row == nil {
		b.fail(n, SyntaxError, "* is not allowed here")
	}
	var e expr = &constExpr{boolVal(false)}
	for i, c := range b.row.cols {
		if c.Type == String || c.Type == Dynamic {
			e = &logicExpr{false, e, b.inList(n, &colExpr{c.Type, i})}
		}
	}
	return e
}

func (b *binder) inList(n *inNode, x expr) expr {
	op, not := n.op, false
	if op[0] == '!' {
		op, not = op[1:], true
	}
	if op == "in~" || op == "has_any" || op == "has_all" {
		x = b.stringOperand(n.l, x)
	}
	if len(n.list) == 1 && b.isTable(n.list[0]) {
		sub := b.table(n.list[0])
		if len(sub.schema()) == 0 {
			b.fail(n, SemanticError, "the table after %s has no column", n.op)
		}
		sub.prune(allNeeded(sub))
		return &tableInExpr{op: op, not: not, x: x, in: sub}
	}
	var consts []val
	var dynamic []expr
	for _, item := range n.list {
		e := b.expr(item)
		c, ok := e.(*constExpr)
		if !ok {
			dynamic = append(dynamic, e)
			continue
		}
		consts = append(consts, flatten(c.v)...)
	}
	set := b.valueSet(n, op, x.typ(), consts)
	if len(dynamic) == 0 {
		return b.fold(&callExpr{name: op, t: Bool, nulls: true, args: []expr{x}, fn: func(x *exec, a []val) val {
			return boolVal(set.test(x, a[0]) != not)
		}})
	}
	args := append([]expr{x}, dynamic...)
	return &callExpr{name: op, t: Bool, nulls: true, args: args, fn: func(x *exec, a []val) val {
		s := set.clone()
		for _, v := range a[1:] {
			for _, f := range flatten(v) {
				s.add(f)
			}
		}
		return boolVal(s.test(x, a[0]) != not)
	}}
}

// flatten lists the elements of a dynamic array, or the value alone.
func flatten(v val) []val {
	if v.t == Dynamic {
		if list, ok := v.d.([]any); ok {
			out := make([]val, 0, len(list))
			for _, e := range list {
				out = append(out, flatten(dynamicToVal(e))...)
			}
			return out
		}
		return []val{dynamicToVal(v.d)}
	}
	return []val{v}
}

// valueSet is the right side of a list operator.
type valueSet struct {
	op      string
	t       Type // of the left side
	keys    map[string]struct{}
	strings []string // has_any, has_all: folded
}

func (b *binder) valueSet(n *inNode, op string, t Type, items []val) *valueSet {
	s := &valueSet{op: op, t: t, keys: map[string]struct{}{}}
	for _, v := range items {
		if v.t != Dynamic && t != Dynamic && !v.null && !comparable(t, v.t) {
			if b.opt.SchemaOnly {
				continue
			}
			b.fail(n, SemanticError, "the list holds a %s, which cannot be compared with %s", v.t, t)
		}
		s.add(v)
	}
	return s
}

func comparable(a, b Type) bool {
	return a == b || a.isNumber() && b.isNumber() || a == GUID && b == String || a == String && b == GUID || a == Bool && b.isNumber() || a.isNumber() && b == Bool
}

func (s *valueSet) clone() *valueSet {
	c := *s
	c.keys = make(map[string]struct{}, len(s.keys))
	for k := range s.keys {
		c.keys[k] = struct{}{}
	}
	c.strings = append([]string(nil), s.strings...)
	return &c
}

func (s *valueSet) add(v val) {
	switch s.op {
	case "has_any", "has_all":
		if !v.null {
			s.strings = append(s.strings, foldCase(valText(v)))
		}
		return
	}
	s.keys[s.key(v)] = struct{}{}
}

// key makes values that compare equal equal.
func (s *valueSet) key(v val) string {
	if v.null {
		return "\x00null"
	}
	if v.t == Dynamic {
		v = dynamicToVal(v.d)
	}
	if s.op == "in~" {
		return foldCase(valText(v))
	}
	if v.t == GUID || s.t == GUID {
		return "s" + strings.ToLower(valText(v))
	}
	switch v.t {
	case Bool, Int, Long:
		return "n" + formatReal(float64(v.i)) + integerTail(v.i)
	case Real:
		if i := int64(v.f); float64(i) == v.f {
			return "n" + formatReal(v.f) + integerTail(i)
		}
		return "n" + formatReal(v.f)
	case Decimal:
		return "n" + v.d.(Number).String()
	case DateTime:
		return "t" + valText(v)
	case TimeSpan:
		return "d" + valText(v)
	}
	return "s" + valText(v)
}

// integerTail tells apart integers that one float stands for.
func integerTail(i int64) string {
	if i > -1<<53 && i < 1<<53 {
		return ""
	}
	return "/" + valText(longVal(i))
}

func (s *valueSet) test(x *exec, v val) bool {
	switch s.op {
	case "has_any", "has_all":
		all := s.op == "has_all"
		text := foldCase(v.s)
		for _, t := range s.strings {
			if hasTerm(text, t, true, true) != all {
				return !all
			}
		}
		return all
	}
	if v.null {
		return false
	}
	if v.t == Dynamic && s.op == "in" {
		if text := valText(v); text != "" {
			if _, ok := s.keys["s"+text]; ok {
				refuseMixedText(x, v.d, text)
			}
		}
	}
	_, ok := s.keys[s.key(v)]
	return ok
}

// tableInExpr is in (T): the set is read once a run, from the first column.
type tableInExpr struct {
	op  string
	not bool
	x   expr
	in  rel
}

func (e *tableInExpr) typ() Type        { return Bool }
func (e *tableInExpr) operands() []expr { return []expr{e.x} }

func (e *tableInExpr) eval(x *exec, b *Batch) *Vector {
	set := x.sets[e]
	if set == nil {
		set = &valueSet{op: e.op, t: e.x.typ(), keys: map[string]struct{}{}}
		for batch := range e.in.run(x) {
			x.check()
			x.hold(64 * int64(batch.n))
			for i := range batch.n {
				for _, f := range flatten(batch.Columns[0].val(i)) {
					set.add(f)
				}
			}
		}
		x.sets[e] = set
	}
	v := e.x.eval(x, b)
	out := newVector(Bool, b.n)
	for i := range b.n {
		out.bools[i] = set.test(x, v.val(i)) != e.not
	}
	return out
}

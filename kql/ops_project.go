package kql

import (
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
)

// project, project-away, project-keep, project-rename, project-reorder

type projectOp struct {
	opBase
	items    []node
	patterns []*nameNode
	orders   []string // project-reorder: "", asc, desc, granny-asc …
}

func readProject(p *parser, o opBase) operator {
	op := &projectOp{opBase: o}
	switch o.name {
	case "project", "project-rename":
		if p.isPunct("|") || p.peek().kind == tokEOF || p.isPunct(";") || p.isPunct(")") {
			if o.name == "project" {
				p.fail("an expression is expected")
			}
		}
		op.items = p.namedExprs()
	default:
		for {
			op.patterns = append(op.patterns, p.columnPattern())
			order := ""
			if o.name == "project-reorder" && p.isWord("asc", "desc", "granny") {
				order = p.next().text
				if order == "granny" {
					p.expectPunct("-")
					order = "granny-" + p.next().text
				}
			}
			op.orders = append(op.orders, order)
			if !p.acceptPunct(",") {
				break
			}
		}
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *projectOp) bind(b *binder, in rel) rel {
	switch o.name {
	case "project":
		return b.project(in, o.items, false)
	case "project-rename":
		return o.rename(b, in)
	case "project-reorder":
		return o.reorder(b, in)
	}
	s := in.schema()
	var keep []int
	for i, c := range s {
		matched := false
		for _, p := range o.patterns {
			matched = matched || matchName(p.name, c.Name)
		}
		if matched == (o.name == "project-keep") {
			keep = append(keep, i)
		}
	}
	for _, p := range o.patterns {
		if !strings.Contains(p.name, "*") && s.Index(p.name) < 0 {
			b.fail(p, SemanticError, "the table has no column %q%s", p.name, hint(p.name, s.Names()))
		}
	}
	return pick(in, keep)
}

// matchName matches a column pattern, in which * stands for any text.
func matchName(pattern, name string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == name
	}
	ok, _ := path.Match(strings.NewReplacer(`\`, `\\`, "[", `\[`, "?", `\?`, "/", "\x01").Replace(pattern), strings.ReplaceAll(name, "/", "\x01"))
	return ok
}

// pick is a projection of columns as they are.
func pick(in rel, cols []int) *projectRel {
	s := in.schema()
	out := &projectRel{in: in}
	for _, i := range cols {
		out.cols = append(out.cols, s[i])
		out.exprs = append(out.exprs, &colExpr{s[i].Type, i})
	}
	return out
}

func (o *projectOp) rename(b *binder, in rel) rel {
	s := in.schema()
	names := s.Names()
	for _, item := range o.items {
		n, ok := item.(*namedNode)
		if !ok {
			b.fail(item, SyntaxError, "project-rename takes NewName = OldName")
		}
		old, ok := n.x.(*nameNode)
		if !ok {
			b.fail(n.x, SemanticError, "a column name is expected")
		}
		i := s.Index(old.name)
		if i < 0 {
			b.fail(old, SemanticError, "the table has no column %q%s", old.name, hint(old.name, s.Names()))
		}
		names[i] = n.names[0]
	}
	out := pick(in, seq(len(s)))
	for i, name := range names {
		if slices.Index(names, name) != i {
			b.fail(o, SemanticError, "the column %q would be there twice", name)
		}
		out.cols[i].Name = name
	}
	return out
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func (o *projectOp) reorder(b *binder, in rel) rel {
	s := in.schema()
	var order []int
	taken := make([]bool, len(s))
	for k, p := range o.patterns {
		if !strings.Contains(p.name, "*") && s.Index(p.name) < 0 {
			b.fail(p, SemanticError, "the table has no column %q%s", p.name, hint(p.name, s.Names()))
		}
		var group []int
		for i, c := range s {
			if !taken[i] && matchName(p.name, c.Name) {
				taken[i] = true
				group = append(group, i)
			}
		}
		switch o.orders[k] {
		case "asc":
			slices.SortStableFunc(group, func(x, y int) int { return strings.Compare(s[x].Name, s[y].Name) })
		case "desc":
			slices.SortStableFunc(group, func(x, y int) int { return strings.Compare(s[y].Name, s[x].Name) })
		case "":
		default:
			b.unsupported(p, "the order %s is not implemented", o.orders[k])
		}
		order = append(order, group...)
	}
	for i := range s {
		if !taken[i] {
			order = append(order, i)
		}
	}
	return pick(in, order)
}

// extend, serialize

type extendOp struct {
	opBase
	items []node
}

func readExtend(p *parser, o opBase) operator {
	op := &extendOp{opBase: o}
	if o.name == "extend" || !(p.isPunct("|") || p.peek().kind == tokEOF || p.isPunct(";") || p.isPunct(")") || p.isPunct("}")) {
		p.params()
		if o.name == "extend" || p.peek().kind != tokEOF && !p.isPunct("|") {
			op.items = p.namedExprs()
		}
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *extendOp) bind(b *binder, in rel) rel {
	var r *projectRel
	if o.name == "serialize" {
		base := pick(in, seq(len(in.schema())))
		base.serial = true
		in = base
	}
	r = b.project(in, o.items, true)
	return r
}

// projectRel computes expressions over its input.
type projectRel struct {
	in     rel
	cols   Schema
	exprs  []expr
	need   []bool
	window bool
	serial bool
}

// project binds the items of project or, with extend, of extend.
func (b *binder) project(in rel, items []node, extend bool) *projectRel {
	out := &projectRel{in: in}
	names := &namer{}
	if extend {
		out = pick(in, seq(len(in.schema())))
		for _, c := range out.cols {
			names.used = append(names.used, c.Name)
		}
	}
	declared := map[string]bool{}
	put := func(at node, name string, explicit, auto bool, e expr) {
		if e.typ() == Unknown {
			e = cast(e, Dynamic)
		}
		col := Column{name, e.typ()}
		if i := out.cols.Index(name); i >= 0 && name != "" {
			switch {
			case extend && !(explicit && declared[name]):
				out.cols[i], out.exprs[i] = col, e
				declared[name] = explicit
				return
			case auto:
				col.Name = names.unique(name)
			default:
				b.fail(at, SemanticError, "the column %q is there twice", name)
			}
		}
		if col.Name == "" {
			col.Name = names.column()
		}
		declared[col.Name] = explicit
		names.used = append(names.used, col.Name)
		out.cols = append(out.cols, col)
		out.exprs = append(out.exprs, e)
	}
	b.withRow(rowOf(in), func() {
		for _, item := range items {
			x, given := item, []string(nil)
			if n, ok := item.(*namedNode); ok {
				x, given = n.x, n.names
			}
			if parts := b.tupleCall(x); parts != nil {
				for i, p := range b.tupleColumns(item, parts, given) {
					put(item, p.name, i < len(given), i >= len(given), p.e)
				}
				continue
			}
			if len(given) > 1 {
				b.fail(item, SemanticError, "the expression has one value, not %d", len(given))
			}
			name, explicit := b.autoName(item), len(given) == 1
			_, isName := x.(*nameNode)
			if _, star := x.(*starNode); star && !explicit && !extend {
				for i, c := range in.schema() {
					put(item, c.Name, false, false, &colExpr{c.Type, i})
				}
				continue
			}
			if p, ok := x.(*nameNode); ok && strings.Contains(p.name, "*") && !explicit && !extend {
				for i, c := range in.schema() {
					if matchName(p.name, c.Name) {
						put(item, c.Name, false, false, &colExpr{c.Type, i})
					}
				}
				continue
			}
			e := b.expr(x)
			put(item, name, explicit, !explicit && !isName, e)
		}
	})
	for _, e := range out.exprs {
		out.window = out.window || hasWindow(e)
	}
	return out
}

// namer finds free column names.
type namer struct {
	used []string
	next int
}

func (n *namer) unique(base string) string {
	if !slices.Contains(n.used, base) {
		return base
	}
	for i := 1; ; i++ {
		if name := base + strconv.Itoa(i); !slices.Contains(n.used, name) {
			return name
		}
	}
}

func (n *namer) column() string {
	for {
		n.next++
		if name := "Column" + strconv.Itoa(n.next); !slices.Contains(n.used, name) {
			return name
		}
	}
}

func (r *projectRel) schema() Schema { return r.cols }

func (r *projectRel) prune(need []bool) {
	if r.need == nil {
		r.need = make([]bool, len(r.cols))
	}
	below := make([]bool, len(r.in.schema()))
	for i := range r.cols {
		if need[i] {
			r.need[i] = true
			walkColumns(r.exprs[i], func(k int) { below[k] = true })
		}
	}
	r.in.prune(below)
}

func (r *projectRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for b := range wholeIf(r.window, x, r.in) {
			out := &Batch{Columns: make([]*Vector, len(r.exprs)), n: b.n}
			for i, e := range r.exprs {
				if r.need == nil || r.need[i] {
					out.Columns[i] = e.eval(x, b)
				}
			}
			if !yield(out) {
				return
			}
		}
	}
}

package kql

import (
	"iter"
	"slices"
	"strconv"
	"strings"
)

// union [kind=inner|outer] [withsource=C] [isfuzzy=B] T, …

type unionOp struct {
	opBase
	inner  bool
	source string
	fuzzy  bool
	items  []node
}

func readUnion(p *parser, o opBase) operator {
	op := &unionOp{opBase: o}
	params := p.params("kind", "withsource", "with_source", "isfuzzy")
	kind := p.paramWord(params["kind"], "kind")
	if kind != "" && kind != "inner" && kind != "outer" {
		p.fail("union has no kind %q", kind)
	}
	op.inner = kind == "inner"
	op.source = p.paramWord(params["withsource"], "withsource")
	if op.source == "" {
		op.source = p.paramWord(params["with_source"], "with_source")
	}
	op.fuzzy = strings.EqualFold(p.paramWord(params["isfuzzy"], "isfuzzy"), "true")
	for {
		op.items = append(op.items, p.unionItem())
		if !p.acceptPunct(",") {
			break
		}
	}
	op.span = p.spanFrom(o)
	return op
}

func (p *parser) unionItem() node {
	if p.isPunct("*") || p.peek().kind == tokIdent && p.peekAt(1).text == "*" && p.peekAt(1).pos == p.peek().end {
		return p.columnPattern()
	}
	return p.joinSide()
}

type unionInput struct {
	name string
	r    rel
}

func (o *unionOp) bind(b *binder, in rel) rel {
	var ins []unionInput
	add := func(name string, r rel) {
		if name == "" {
			name = "union_arg" + strconv.Itoa(len(ins))
		}
		ins = append(ins, unionInput{name, r})
	}
	if in != nil {
		add(sourceName(in), in)
	}
	b.withRow(nil, func() {
		for _, item := range o.items {
			o.bindItem(b, item, add)
		}
	})
	if len(ins) == 0 {
		b.fail(o, SemanticError, "union has no table that exists")
	}
	r := &unionRel{}
	for _, i := range ins {
		r.ins = append(r.ins, i.r)
		r.names = append(r.names, i.name)
	}
	r.layout(o.source, o.inner)
	if r.conflict != "" {
		b.unsupported(o, "union kind=inner of tables that type the column %q differently is not implemented", r.conflict)
	}
	return r
}

func (o *unionOp) bindItem(b *binder, item node, add func(string, rel)) {
	if n, ok := item.(*nameNode); ok && strings.Contains(n.name, "*") {
		found := false
		for _, name := range b.cat.TableNames() {
			if matchName(n.name, name) {
				t, ok := b.cat.Table(name)
				if ok {
					found = true
					add(name, b.scan(name, t))
				}
			}
		}
		if !found && !o.fuzzy {
			b.fail(item, SemanticError, "no table matches %q", n.name)
		}
		return
	}
	r, err := b.tryTable(item, o.fuzzy)
	if err != nil {
		return
	}
	name := ""
	switch n := item.(type) {
	case *nameNode:
		v, ok := b.env.lookup(n.name)
		if _, isFunc := v.(*funcBinding); isFunc || !ok {
			name = n.name
		}
	case *callNode:
		name = n.name
	default:
		name = sourceName(r)
	}
	add(name, r)
}

// tryTable binds a table; with fuzzy a semantic error is returned, not raised.
func (b *binder) tryTable(x node, fuzzy bool) (r rel, err *Error) {
	if fuzzy {
		save := *b
		defer func() {
			if p := recover(); p != nil {
				e, ok := p.(bail)
				if !ok || e.err.Code != SemanticError {
					panic(p)
				}
				refusal, bound := b.refusal, b.bound
				*b = save
				b.refusal, b.bound = refusal, bound
				err = e.err
			}
		}()
	}
	return b.table(x), nil
}

// sourceName is the catalog's name of the table that rows come from unchanged.
func sourceName(r rel) string {
	switch r := r.(type) {
	case *scanRel:
		return r.name
	case *filterRel:
		return sourceName(r.in)
	case *aliasRel:
		return sourceName(r.in)
	}
	return ""
}

// unionRel appends its inputs, column by name.
type unionRel struct {
	ins    []rel
	names  []string
	cols   Schema
	source bool
	// conflict names a column that an inner union's tables type differently.
	conflict string
	maps     [][]int // for each input the column of the input, or -1
}

func (r *unionRel) layout(source string, inner bool) {
	if source != "" {
		r.source = true
		r.cols = append(r.cols, Column{source, String})
	}
	type slot struct {
		name  string
		types []Type
		count int
	}
	var slots []*slot
	at := map[string]*slot{}
	for _, in := range r.ins {
		for _, c := range in.schema() {
			s := at[c.Name]
			if s == nil {
				s = &slot{name: c.Name}
				at[c.Name] = s
				slots = append(slots, s)
			}
			s.count++
			if !slices.Contains(s.types, c.Type) {
				s.types = append(s.types, c.Type)
			}
		}
	}
	names := &namer{}
	for _, s := range slots {
		names.used = append(names.used, s.name)
	}
	if source != "" {
		names.used = append(names.used, source)
	}
	r.maps = make([][]int, len(r.ins))
	put := func(name string, col Column) {
		r.cols = append(r.cols, col)
		for i, in := range r.ins {
			k := in.schema().Index(name)
			if k >= 0 && in.schema()[k].Type != col.Type {
				k = -1
			}
			r.maps[i] = append(r.maps[i], k)
		}
	}
	for _, s := range slots {
		if inner && s.count == len(r.ins) && len(s.types) > 1 {
			r.conflict = s.name
		}
		if inner && (s.count < len(r.ins) || len(s.types) > 1) {
			continue
		}
		if len(s.types) == 1 {
			put(s.name, Column{s.name, s.types[0]})
			continue
		}
		for _, t := range s.types {
			name := names.unique(s.name + "_" + t.String())
			names.used = append(names.used, name)
			put(s.name, Column{name, t})
		}
	}
}

func (r *unionRel) schema() Schema { return r.cols }

func (r *unionRel) prune(need []bool) {
	off := len(r.cols) - len(r.maps[0])
	for i, in := range r.ins {
		below := make([]bool, len(in.schema()))
		for k, c := range r.maps[i] {
			if c >= 0 && need[off+k] {
				below[c] = true
			}
		}
		in.prune(below)
	}
}

func (r *unionRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		off := len(r.cols) - len(r.maps[0])
		for i, in := range r.ins {
			for b := range in.run(x) {
				out := &Batch{n: b.n}
				if r.source {
					out.Columns = append(out.Columns, constVector(strVal(r.names[i]), b.n))
				}
				for k, c := range r.maps[i] {
					if c >= 0 {
						out.Columns = append(out.Columns, b.Columns[c])
					} else {
						out.Columns = append(out.Columns, constVector(nullOf(r.cols[off+k].Type), b.n))
					}
				}
				if !yield(out) {
					return
				}
			}
		}
	}
}

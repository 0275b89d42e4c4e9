package kql

import (
	"iter"
	"slices"
)

// evaluate PLUGIN(ARGS) [: SCHEMA]

type evaluateOp struct {
	opBase
	call   *callNode
	schema *schemaNode
}

func readEvaluate(p *parser, o opBase) operator {
	p.params()
	t := p.peek()
	p.name()
	op := &evaluateOp{opBase: o, call: p.call(t).(*callNode)}
	if p.acceptPunct(":") {
		op.schema = p.schemaDecl()
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *evaluateOp) bind(b *binder, in rel) rel {
	if in == nil {
		b.fail(o, SemanticError, "evaluate cannot begin a query")
	}
	switch o.call.name {
	case "bag_unpack":
		return o.bagUnpack(b, in)
	case "ipv4_lookup":
		return o.ipv4Lookup(b, in)
	case "narrow":
		if b.opt.SchemaOnly {
			b.unsupported(o, "the plugin %q is not implemented", o.call.name)
			cols := Schema{{"Row", Long}, {"Column", String}, {"Value", String}}
			return &valuesRel{cols: cols, batch: NewBuilder(cols).Batch()}
		}
	case "pivot":
		if b.opt.SchemaOnly {
			b.unsupported(o, "the plugin %q is not implemented", o.call.name)
			return o.pivotSchema(b, in)
		}
	}
	b.unsupported(o.call, "the plugin %q is not implemented", o.call.name)
	if o.schema != nil {
		return &valuesRel{cols: o.schema.cols, batch: NewBuilder(o.schema.cols).Batch()}
	}
	return in
}

// pivotSchema is what is known of pivot's columns without data: those that it
// groups by.
func (o *evaluateOp) pivotSchema(b *binder, in rel) rel {
	if o.schema != nil {
		return &valuesRel{cols: o.schema.cols, batch: NewBuilder(o.schema.cols).Batch()}
	}
	used := map[string]bool{}
	var keep []int
	var walk func(n node)
	walk = func(n node) {
		switch n := n.(type) {
		case *nameNode:
			used[n.name] = true
		case *callNode:
			for _, a := range n.args {
				walk(a.x)
			}
		case *pathNode:
			walk(n.base)
		}
	}
	explicit := len(o.call.args) > 2
	for i, a := range o.call.args {
		if i < 2 {
			walk(a.x)
		} else if n, ok := a.x.(*nameNode); ok {
			if k := in.schema().Index(n.name); k >= 0 {
				keep = append(keep, k)
			}
		}
	}
	if !explicit {
		for i, c := range in.schema() {
			if !used[c.Name] {
				keep = append(keep, i)
			}
		}
	}
	return pick(in, keep)
}

// bagUnpack makes a column of each property of a bag. Which there are only the
// rows tell, so the input is read while binding and the plan answers from what
// was read.
func (o *evaluateOp) bagUnpack(b *binder, in rel) rel {
	prefix, ignore, col := "", map[string]bool{}, -1
	for i, a := range o.call.args {
		name := a.name
		if name == "" && i < 4 {
			name = []string{"column", "columnPrefix", "columnsConflict", "ignoredProperties"}[i]
		}
		if name == "column" {
			n, ok := a.x.(*nameNode)
			if !ok {
				b.fail(a.x, SemanticError, "bag_unpack takes a column's name")
			}
			if col = in.schema().Index(n.name); col < 0 || in.schema()[col].Type != Dynamic {
				b.fail(a.x, SemanticError, "the table has no dynamic column %q%s", n.name, hint(n.name, in.schema().Names()))
			}
			continue
		}
		var e expr
		b.withRow(nil, func() { e = b.expr(a.x) })
		c, ok := e.(*constExpr)
		if !ok {
			b.fail(a.x, SemanticError, "the arguments of bag_unpack are constants")
		}
		switch name {
		case "columnPrefix", "OutputColumnPrefix":
			prefix = valText(c.v)
		case "ignoredProperties":
			for _, v := range flatten(c.v) {
				ignore[valText(v)] = true
			}
		case "columnsConflict":
			if c.v.s != "error" {
				b.unsupported(a.x, "bag_unpack with columnsConflict=%q is not implemented", c.v.s)
			}
		default:
			b.fail(a.x, SemanticError, "bag_unpack has no parameter %q", name)
		}
	}
	if col < 0 {
		b.fail(o.call, SemanticError, "bag_unpack takes a column")
	}
	keep := slices.DeleteFunc(seq(len(in.schema())), func(i int) bool { return i == col })
	if b.opt.SchemaOnly {
		return pick(in, keep)
	}
	held := b.discover(in)
	names, types := bagColumns(held.Columns[col], ignore)
	out := pick(&heldRel{in.schema(), held}, keep)
	bag := &colExpr{Dynamic, col}
	for i, name := range names {
		c := Column{prefix + name, types[i]}
		if out.cols.Index(c.Name) >= 0 {
			b.fail(o.call, SemanticError, "the column %q would be there twice", c.Name)
		}
		if o.schema != nil {
			k := o.schema.cols.Index(c.Name)
			if k < 0 {
				continue
			}
			c.Type = o.schema.cols[k].Type
		}
		out.cols = append(out.cols, c)
		out.exprs = append(out.exprs, cast(propertyExpr(bag, name), c.Type))
	}
	if o.schema != nil {
		b.unsupported(o.schema, "a declared schema for bag_unpack is not implemented")
	}
	return out
}

// bagColumns lists the properties in order of name, each with the one type that
// its values have, or dynamic.
func bagColumns(v *Vector, ignore map[string]bool) ([]string, []Type) {
	kinds := map[string]any{}
	found := map[string]Type{}
	for i := range v.n {
		bag, ok := v.val(i).d.(*Bag)
		if !ok {
			continue
		}
		for k, name := range bag.keys {
			if ignore[name] {
				continue
			}
			kinds[name] = nil
			if bag.vals[k] == nil {
				continue
			}
			t := dynamicToVal(bag.vals[k]).t
			switch have, seen := found[name]; {
			case !seen:
				found[name] = t
			case have != t:
				if have.isNumber() && t.isNumber() {
					found[name] = Real
				} else {
					found[name] = Dynamic
				}
			}
		}
	}
	names := sortedKeys(kinds)
	types := make([]Type, len(names))
	for i, n := range names {
		types[i] = Dynamic
		if t, ok := found[n]; ok {
			types[i] = t
		}
	}
	return names, types
}

// ipv4Lookup joins addresses with a table of networks: the longest network
// that holds the address.
func (o *evaluateOp) ipv4Lookup(b *binder, in rel) rel {
	if len(o.call.args) < 3 {
		b.fail(o.call, SemanticError, "ipv4_lookup takes a table, a column of addresses and a column of networks")
	}
	var table rel
	b.withRow(nil, func() { table = b.table(o.call.args[0].x) })
	r := &ipv4LookupRel{in: in, table: table}
	column := func(a argument, s Schema) int {
		n, ok := a.x.(*nameNode)
		if !ok {
			b.fail(a.x, SemanticError, "a column's name is expected")
		}
		i := s.Index(n.name)
		if i < 0 || s[i].Type != String {
			b.fail(a.x, SemanticError, "there is no string column %q%s", n.name, hint(n.name, s.Names()))
		}
		return i
	}
	r.ip, r.network = column(o.call.args[1], in.schema()), column(o.call.args[2], table.schema())
	for _, a := range o.call.args[3:] {
		c, ok := b.expr(a.x).(*constExpr)
		if a.name != "return_unmatched" || !ok {
			b.unsupported(a.x, "this argument of ipv4_lookup is not implemented")
			continue
		}
		r.unmatched = c.v.i != 0
	}
	names := &namer{used: in.schema().Names()}
	r.cols = in.schema().clone()
	for _, c := range table.schema() {
		c.Name = names.unique(c.Name)
		names.used = append(names.used, c.Name)
		r.cols = append(r.cols, c)
	}
	return r
}

type ipv4LookupRel struct {
	in, table   rel
	ip, network int
	unmatched   bool
	cols        Schema
}

func (r *ipv4LookupRel) schema() Schema { return r.cols }

func (r *ipv4LookupRel) prune([]bool) {
	r.in.prune(allNeeded(r.in))
	r.table.prune(allNeeded(r.table))
}

func (r *ipv4LookupRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		table := x.collect(r.table)
		var byPrefix [33]map[uint32][]int32
		for i := range table.n {
			addr, prefix, ok := parseIPv4(table.Columns[r.network].str(i))
			if !ok {
				continue
			}
			if byPrefix[prefix] == nil {
				byPrefix[prefix] = map[uint32][]int32{}
			}
			key := maskIPv4(addr, prefix)
			byPrefix[prefix][key] = append(byPrefix[prefix][key], int32(i))
		}
		for b := range r.in.run(x) {
			x.check()
			var left, right []int32
			for i := range b.n {
				n := len(left)
				if addr, _, ok := parseIPv4(b.Columns[r.ip].str(i)); ok {
					for p := 32; p >= 0 && len(left) == n; p-- {
						for _, k := range byPrefix[p][maskIPv4(addr, p)] {
							left, right = append(left, int32(i)), append(right, k)
						}
					}
				}
				if len(left) == n && r.unmatched {
					left, right = append(left, int32(i)), append(right, -1)
				}
			}
			out := b.gather(left)
			out.Columns = append(out.Columns, table.gather(right).Columns...)
			if !yield(out) {
				return
			}
		}
	}
}

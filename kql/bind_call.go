package kql

import (
	"maps"
	"slices"
	"sync"
)

// impl is how a function of the language is evaluated.
type impl struct {
	fn       scalarFn
	nulls    bool // the function sees null arguments
	volatile bool // its value differs from row to row
	// bind replaces fn where the function needs its syntax or prepares
	// something; args are converted to the signature's types and ret is the
	// signature's result.
	bind func(b *binder, n *callNode, args []expr, ret Type) expr
}

// implementations is every function that can be evaluated, by name.
var implementations = sync.OnceValue(func() map[string]impl {
	all := map[string]impl{}
	for _, family := range []map[string]impl{
		conversionFunctions(), stringFunctions(), regexFunctions(), parseFunctions(), conditionalFunctions(), mathFunctions(), timeFunctions(),
		dynamicFunctions(), bagFunctions(), bagEdits(), arrayFunctions(), setFunctions(), seriesFunctions(),
		encodingFunctions(), digestFunctions(), networkFunctions(), addressFunctions(),
	} {
		for name, f := range family {
			all[name] = f
		}
	}
	return all
})

func (b *binder) matchCall(n *callNode, sigs *signatures, types []Type) (*signature, []param) {
	sig, params, arity := sigs.match(types)
	if sig != nil {
		return sig, params
	}
	if !arity {
		b.fail(n, SemanticError, "%s does not take %d arguments", n.name, len(types))
	}
	for i, t := range types {
		fits := false
		for _, s := range sigs.list {
			for _, ps := range s.expand(len(types)) {
				fits = fits || ps[i].accepts(t) > 0
			}
		}
		if !fits {
			b.fail(n.args[i].x, SemanticError, "%s does not take a %s as argument %d", n.name, t, i+1)
		}
	}
	b.fail(n, SemanticError, "%s does not take arguments of these types", n.name)
	return nil, nil
}

func (b *binder) callExpr(n *callNode) expr {
	if v, ok := b.env.lookup(n.name); ok {
		if f, is := v.(*funcBinding); is {
			return b.callScalar(n, f, n.args)
		}
		b.fail(n, SemanticError, "%q is no function", n.name)
	}
	switch n.name {
	case "toscalar":
		return b.toScalar(n)
	case "materialize", "table":
		b.fail(n, SemanticError, "%s yields a table, where a scalar is expected", n.name)
	case "pack_all":
		return b.packAll(n)
	case "ingestion_time":
		if b.row != nil && b.row.cols.Index("_TimeReceived") >= 0 && len(n.args) == 0 {
			return b.nameExpr(&nameNode{n.span, "_TimeReceived"})
		}
	case "column_ifexists", "columnifexists":
		return b.columnIfExists(n)
	}
	if sigs, ok := aggregateSignatures()[n.name]; ok {
		if b.aggs != nil {
			return b.aggregateCall(n, sigs)
		}
		if _, scalar := functionSignatures()[n.name]; !scalar {
			b.fail(n, SemanticError, "the aggregate %q is allowed only in summarize, make-series and their like", n.name)
		}
	}
	sigs, ok := functionSignatures()[n.name]
	if !ok {
		b.fail(n, SemanticError, "the name %q is no known function%s", n.name, hint(n.name, append(b.envNames(), slices.Sorted(maps.Keys(functionSignatures()))...)))
	}
	args := make([]expr, len(n.args))
	types := make([]Type, len(n.args))
	for i, a := range n.args {
		switch x := a.x.(type) {
		case *typeofNode:
			args[i] = &constExpr{strVal(x.typ.String())}
			types[i] = String
			continue
		case *starNode:
			b.unsupported(n, "* as an argument of %s is not implemented", n.name)
			args[i] = &constExpr{nullOf(Dynamic)}
		case *namedNode:
			args[i] = b.expr(x.x)
		default:
			args[i] = b.expr(x)
		}
		types[i] = args[i].typ()
	}
	return b.scalarCall(n, sigs, args, types)
}

func (b *binder) scalarCall(n *callNode, sigs *signatures, args []expr, types []Type) expr {
	sig, params := b.matchCall(n, sigs, types)
	ret, common := sig.result(params, types)
	if sig.ret == "C" && common == Dynamic {
		for i, p := range params {
			if (p.kind == 'C' || p.kind == 'K' || p.kind == 'P') && types[i] != Dynamic {
				if !b.opt.SchemaOnly || p.kind != 'C' {
					b.fail(n, SemanticError, "the values of %s have no common type; convert them, for instance with tostring()", n.name)
				}
			}
		}
	}
	if sig.ret == "C" && common == Real && !b.opt.SchemaOnly {
		for i, p := range params {
			if (p.kind == 'C' || p.kind == 'K') && types[i].isInteger() {
				b.fail(n, SemanticError, "the values of %s have types %s and real; convert them to one type", n.name, types[i])
			}
		}
	}
	for i, p := range params {
		switch p.kind {
		case 'D':
			args[i] = cast(args[i], p.declared(types[i]))
		case 'C', 'K', 'P':
			args[i] = cast(args[i], common)
		case 'N', 'M':
			if sig.ret == "W" {
				args[i] = cast(args[i], common)
			}
		}
	}
	if isWindowFunction(n.name) {
		return b.windowCall(n, args, ret)
	}
	f, ok := implementations()[n.name]
	if !ok {
		b.unsupported(n, "the function %q is not implemented", n.name)
		return &callExpr{name: n.name, t: ret, args: args, volatile: true}
	}
	if f.bind != nil {
		return b.fold(f.bind(b, n, args, ret))
	}
	return b.fold(&callExpr{name: n.name, t: ret, fn: f.fn, args: args, nulls: f.nulls, volatile: f.volatile})
}

// toScalar binds toscalar(T): the first column of the first row.
func (b *binder) toScalar(n *callNode) expr {
	if len(n.args) != 1 {
		b.fail(n, SemanticError, "toscalar takes one expression")
	}
	if !b.isTable(n.args[0].x) {
		return b.expr(n.args[0].x)
	}
	var r rel
	saveAggs := b.aggs
	b.aggs = nil
	b.withRow(nil, func() { r = b.table(n.args[0].x) })
	b.aggs = saveAggs
	if len(r.schema()) == 0 {
		b.fail(n, SemanticError, "the table inside toscalar has no column")
	}
	r.prune(allNeeded(r))
	t := r.schema()[0].Type
	return &onceExpr{t, func(x *exec) val {
		for batch := range r.run(x) {
			x.check()
			if batch.n > 0 {
				return batch.Columns[0].val(0)
			}
		}
		return nullOf(t)
	}}
}

// packAll binds pack_all([ignore]): a bag of the row.
func (b *binder) packAll(n *callNode) expr {
	if b.row == nil {
		b.fail(n, SemanticError, "pack_all needs a row")
	}
	ignore := false
	if len(n.args) > 0 {
		c, ok := b.expr(n.args[0].x).(*constExpr)
		if !ok || c.v.t != Bool || len(n.args) > 1 {
			b.fail(n, SemanticError, "pack_all takes one constant bool")
		}
		ignore = c.v.i != 0
	}
	names := b.row.cols.Names()
	args := make([]expr, len(names))
	for i, c := range b.row.cols {
		args[i] = &colExpr{c.Type, i}
	}
	return &callExpr{name: n.name, t: Dynamic, args: args, nulls: true, volatile: len(args) == 0, fn: func(_ *exec, a []val) val {
		bag := NewBag()
		for i, v := range a {
			if ignore && (v.null || v.t == String && v.s == "") {
				continue
			}
			bag.Set(names[i], valToDynamic(v))
		}
		return dynVal(bag)
	}}
}

func (b *binder) columnIfExists(n *callNode) expr {
	if len(n.args) != 2 {
		b.fail(n, SemanticError, "%s takes a column's name and a default", n.name)
	}
	c, ok := b.expr(n.args[0].x).(*constExpr)
	if !ok || c.v.t != String {
		b.fail(n.args[0].x, SemanticError, "the column's name must be a string literal")
	}
	if b.row != nil && b.row.cols.Index(c.v.s) >= 0 {
		return b.nameExpr(&nameNode{n.span, c.v.s})
	}
	return b.expr(n.args[1].x)
}

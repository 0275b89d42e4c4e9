package kql

import (
	"math"
	"strings"
)

// aggregateCall binds an aggregate inside summarize or make-series.
func (b *binder) aggregateCall(n *callNode, sigs *signatures) expr {
	scope := b.aggs
	b.aggs = nil // aggregates do not nest
	defer func() { b.aggs = scope }()
	args := make([]expr, len(n.args))
	types := make([]Type, len(n.args))
	for i, a := range n.args {
		if _, star := a.x.(*starNode); star {
			b.fail(a.x, SemanticError, "* is allowed only where %s is the whole expression", n.name)
		}
		args[i] = b.expr(a.x)
		types[i] = args[i].typ()
	}
	sig, params := b.matchCall(n, sigs, types)
	ret, _ := sig.result(params, types)
	for i, p := range params {
		args[i] = cast(args[i], p.declared(types[i]))
	}
	c := &aggCall{name: n.name, t: ret}
	base := n.name
	if s, ok := strings.CutSuffix(base, "if"); ok && base != "countif" {
		base = strings.TrimSuffix(s, "_")
		k := len(args) - 1
		switch base {
		case "dcount", "make_list", "make_set", "make_bag", "hll":
			k = 1
		case "covariance", "covariancep":
			k = 2
		}
		if k < len(args) {
			c.cond = b.toBool(n.args[k].x, args[k])
			args = append(args[:k:k], args[k+1:]...)
		}
	}
	if !b.makeAggregate(n, base, c, args) {
		b.unsupported(n, "the aggregate %q is not implemented", n.name)
		c.make = func() aggregate { return &countAgg{} }
	}
	return scope.add(c)
}

func (b *binder) makeAggregate(n *callNode, base string, c *aggCall, args []expr) bool {
	if len(args) > 0 {
		c.args = args[:1]
	}
	switch base {
	case "count", "cnt":
		if len(args) == 1 { // count(x) counts rows, nulls too
			if args[0].typ() == Bool {
				b.unsupported(n, "count of a bool is not implemented; use countif()")
			}
			c.args = nil
		}
		c.make = func() aggregate { return &countAgg{} }
	case "countif":
		c.cond, c.args = args[0], nil
		c.make = func() aggregate { return &countAgg{} }
	case "sum":
		t := c.t
		c.args = []expr{cast(args[0], t)}
		c.make = func() aggregate { return &sumAgg{t: t} }
	case "avg":
		t := c.t
		c.make = func() aggregate { return &avgAgg{t: t} }
	case "min", "max":
		t := c.t
		c.make = func() aggregate { return &extremeAgg{t: t, max: base == "max"} }
	case "dcount", "count_distinct":
		c.make = func() aggregate { return &distinctAgg{nulls: base == "count_distinct"} }
	case "take_any", "any":
		t := c.t
		c.make = func() aggregate { return &anyAgg{t: t} }
	case "make_list", "make_set", "makelist", "makeset", "make_list_with_nulls":
		limit := b.limitArg(n, args)
		c.make = func() aggregate {
			return &listAgg{set: strings.Contains(base, "set"), withNulls: base == "make_list_with_nulls", limit: limit}
		}
	case "make_bag", "make_dictionary":
		limit := b.limitArg(n, args)
		c.make = func() aggregate { return &bagAgg{limit: limit} }
	case "stdev", "stdevp", "variance", "variancep":
		c.args = []expr{cast(args[0], Real)}
		c.make = func() aggregate {
			return &momentAgg{population: strings.HasSuffix(base, "p"), root: strings.HasPrefix(base, "stdev")}
		}
	case "covariance", "covariancep":
		c.args = []expr{cast(args[0], Real), cast(args[1], Real)}
		c.make = func() aggregate { return &covarianceAgg{population: base == "covariancep"} }
	case "percentile":
		*c = *b.percentileCall(n, args[0], args[1])
	case "binary_all_and", "binary_all_or", "binary_all_xor":
		op := map[string]byte{"binary_all_and": '&', "binary_all_or": '|', "binary_all_xor": '^'}[base]
		c.make = func() aggregate { return &bitsAgg{op: op} }
	default:
		return false
	}
	return true
}

// maxListElements is what make_list and make_set keep unless told otherwise.
const maxListElements = 1_048_576

func (b *binder) limitArg(n *callNode, args []expr) int64 {
	if len(args) < 2 {
		return maxListElements
	}
	c, ok := args[1].(*constExpr)
	if !ok || c.v.null || !c.v.t.isInteger() {
		b.fail(n, SemanticError, "the size limit of %s must be a constant integer", n.name)
	}
	if c.v.i < 0 {
		return maxListElements
	}
	return min(c.v.i, maxListElements)
}

func (b *binder) percentileCall(n *callNode, e, p expr) *aggCall {
	c, ok := p.(*constExpr)
	t := e.typ()
	if t == Int {
		t = Long
	}
	call := &aggCall{name: "percentile", t: t, args: []expr{e}}
	f := convert(val{t: Real, f: math.NaN()}, Real)
	if ok {
		f = convert(c.v, Real)
	}
	if !ok || f.null || f.f < 0 || f.f > 100 || !(t.isNumber() || t == DateTime || t == TimeSpan) {
		b.unsupported(n, "a percentile of %s at a percentage that is no constant from 0 to 100 is not implemented", t)
		f = realVal(0)
	}
	call.make = func() aggregate { return &percentileAgg{t: t, p: f.f} }
	return call
}

package kql

import (
	"math"
	"slices"
	"strconv"
)

// Functions with several values: array_sort_asc(a, b), series_stats(a) … As an
// item of print, project or extend each value is a column; anywhere else the
// call is a dynamic array of the values.

type tuplePart struct {
	name string
	e    expr
}

// tupleCall binds an item that yields several columns, or returns nil.
func (b *binder) tupleCall(x node) []tuplePart {
	n, ok := x.(*callNode)
	if !ok || len(n.args) == 0 || b.aggs != nil {
		return nil
	}
	if _, own := b.env.lookup(n.name); own {
		return nil
	}
	first := b.autoName(n.args[0].x)
	var suffixes []string
	var types string
	switch n.name {
	case "array_sort_asc", "array_sort_desc":
		return b.sortTuple(n)
	case "series_stats":
		suffixes, types = []string{"min", "min_idx", "max", "max_idx", "avg", "stdev", "variance"}, "rlrlrrr"
	case "series_fit_line":
		suffixes, types = []string{"rsquare", "slope", "variance", "rvariance", "interception", "line_fit"}, "rrrrry"
	case "series_fit_2lines":
		suffixes, types = []string{"rsquare", "split_idx", "variance", "rvariance", "line_fit", "right_rsquare", "right_slope", "right_interception", "right_variance", "right_rvariance",
			"left_rsquare", "left_slope", "left_interception", "left_variance", "left_rvariance"}, "rlrryrrrrrrrrrr"
	case "series_periods_detect":
		suffixes, types = []string{"periods", "scores"}, "yy"
	case "series_decompose_anomalies":
		suffixes, types = []string{"ad_flag", "ad_score", "baseline"}, "yyy"
	default:
		return nil
	}
	call := b.expr(n)
	parts := make([]tuplePart, len(suffixes))
	for i, s := range suffixes {
		parts[i] = tuplePart{n.name + "_" + first + "_" + s, cast(elementExpr(call, i), letterType(types[i]))}
	}
	return parts
}

func elementExpr(x expr, i int) expr {
	return &callExpr{name: "[]", t: Dynamic, args: []expr{x}, fn: func(_ *exec, a []val) val { return dynVal(element(a[0].d, int64(i))) }}
}

// sortTuple names the arrays that array_sort_asc moves together.
func (b *binder) sortTuple(n *callNode) []tuplePart {
	var names []string
	for i, a := range n.args {
		e := b.expr(a.x)
		if e.typ() == Bool {
			break
		}
		name := b.autoName(a.x)
		if name == "" {
			name = "array" + strconv.Itoa(i)
		}
		names = append(names, name+"_sorted")
	}
	if len(names) < 2 {
		return nil
	}
	call := b.expr(n)
	parts := make([]tuplePart, len(names))
	for i, name := range names {
		parts[i] = tuplePart{name, elementExpr(call, i)}
	}
	return parts
}

// columns gives a tuple's parts their names: the explicit ones first. The engine
// yields only the first value where a single plain name is given; the parser
// names them all, so for a schema all are there.
func (b *binder) tupleColumns(at node, parts []tuplePart, names []string) []tuplePart {
	if len(names) == 1 && !b.opt.SchemaOnly {
		if c, ok := at.(*namedNode).x.(*callNode); ok && c.name != "series_stats" {
			b.fail(at, NotImplemented, "one name for the %d values of %s is not implemented; name them all in parentheses", len(parts), c.name)
		}
		parts = parts[:1]
	}
	if len(names) > len(parts) {
		b.fail(at, SemanticError, "%d names are given to %d values", len(names), len(parts))
	}
	out := slices.Clone(parts)
	for i, name := range names {
		out[i].name = name
	}
	return out
}

// seriesStats is min, its place, max, its place, mean, and the sample's
// standard deviation and variance.
func seriesStats(_ *exec, a []val) val {
	vals, ok, _, isList := numbers(a[0].d)
	if !isList || len(vals) == 0 || slices.Contains(ok, false) {
		return nullOf(Dynamic)
	}
	lo, hi, sum := 0, 0, 0.0
	for i, v := range vals {
		if v < vals[lo] {
			lo = i
		}
		if v > vals[hi] {
			hi = i
		}
		sum += v
	}
	mean := sum / float64(len(vals))
	variance := 0.0
	for _, v := range vals {
		variance += (v - mean) * (v - mean)
	}
	if len(vals) > 1 {
		variance /= float64(len(vals) - 1)
	}
	return dynVal([]any{vals[lo], int64(lo), vals[hi], int64(hi), mean, math.Sqrt(variance), variance})
}

// bindFitLine binds series_fit_line to the values of series_fit_line_dynamic.
func bindFitLine(b *binder, n *callNode, args []expr, ret Type) expr {
	return &callExpr{name: n.name, t: Dynamic, args: args, fn: func(x *exec, a []val) val {
		bag, ok := seriesFitLine(x, a).d.(*Bag)
		if !ok {
			return nullOf(Dynamic)
		}
		return dynVal(slices.Clone(bag.vals))
	}}
}

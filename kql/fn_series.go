package kql

import (
	"math"
	"slices"
)

// Functions over arrays of numbers.

// numbers reads an array of numbers; what is no number is NaN and not ok.
func numbers(d any) (vals []float64, ok []bool, ints bool, isList bool) {
	list, isList := d.([]any)
	if !isList {
		return nil, nil, false, false
	}
	vals, ok = make([]float64, len(list)), make([]bool, len(list))
	ints = true
	for i, e := range list {
		switch e := e.(type) {
		case int64:
			vals[i], ok[i] = float64(e), true
		case float64:
			vals[i], ok[i] = e, true
			ints = false
		default:
			vals[i] = math.NaN()
		}
	}
	return vals, ok, ints, true
}

// elementwise combines two arrays, or an array and a number, place by place;
// where either lacks a number the result is null.
func elementwise(f func(a, b any) any) impl {
	return impl{fn: func(_ *exec, a []val) val {
		x, y := valToDynamic(a[0]), valToDynamic(a[1])
		xs, xList := x.([]any)
		ys, yList := y.([]any)
		n := max(len(xs), len(ys))
		if !xList && !yList {
			return nullOf(Dynamic)
		}
		at := func(list []any, isList bool, v any, i int) any {
			switch {
			case !isList:
				return v
			case i < len(list):
				return list[i]
			}
			return nil
		}
		out := make([]any, n)
		for i := range out {
			p, q := at(xs, xList, x, i), at(ys, yList, y, i)
			if isNumeric(p) && isNumeric(q) {
				out[i] = f(p, q)
			}
		}
		return dynVal(out)
	}}
}

func isNumeric(d any) bool {
	switch d.(type) {
	case int64, float64:
		return true
	}
	return false
}

func asFloat(d any) float64 {
	if i, ok := d.(int64); ok {
		return float64(i)
	}
	f, _ := d.(float64)
	return f
}

// arithmeticOf keeps integers where both sides are.
func arithmeticOf(op byte) impl {
	return elementwise(func(a, b any) any {
		x, okX := a.(int64)
		y, okY := b.(int64)
		if okX && okY && op != '/' {
			n, _ := intArith(op, x, y)
			return n
		}
		return floatArith(op, asFloat(a), asFloat(b))
	})
}

func comparisonOf(op compareOp) impl {
	return elementwise(func(a, b any) any {
		x, y := asFloat(a), asFloat(b)
		switch {
		case x < y:
			return op.holds(-1)
		case x > y:
			return op.holds(1)
		}
		return op.holds(0) && x == y
	})
}

func mapReal(f func(float64) float64) impl {
	return impl{fn: func(_ *exec, a []val) val {
		vals, ok, _, isList := numbers(a[0].d)
		if !isList {
			return nullOf(Dynamic)
		}
		out := make([]any, len(vals))
		for i, v := range vals {
			if ok[i] {
				out[i] = f(v)
			}
		}
		return dynVal(out)
	}}
}

func seriesFunctions() map[string]impl {
	return map[string]impl{
		"series_add": arithmeticOf('+'), "series_subtract": arithmeticOf('-'), "series_multiply": arithmeticOf('*'), "series_divide": arithmeticOf('/'),
		"series_equals": comparisonOf(opEq), "series_not_equals": comparisonOf(opNe), "series_less": comparisonOf(opLt),
		"series_less_equals": comparisonOf(opLe), "series_greater": comparisonOf(opGt), "series_greater_equals": comparisonOf(opGe),
		"series_sin": mapReal(math.Sin), "series_cos": mapReal(math.Cos), "series_tan": mapReal(math.Tan),
		"series_asin": mapReal(math.Asin), "series_acos": mapReal(math.Acos), "series_atan": mapReal(math.Atan),
		"series_exp":                 mapReal(math.Exp),
		"series_fill_const":          {nulls: true, fn: seriesFillConst},
		"series_fill_forward":        {nulls: true, bind: bindFill(false)},
		"series_fill_backward":       {nulls: true, bind: bindFill(true)},
		"series_fill_linear":         {nulls: true, fn: seriesFillLinear},
		"series_iir":                 {fn: seriesIIR},
		"series_fir":                 {bind: bindFIR},
		"series_fit_line_dynamic":    {fn: seriesFitLine},
		"series_fit_line":            {bind: bindFitLine},
		"series_stats":               {fn: seriesStats},
		"series_pearson_correlation": {fn: seriesPearson},
		"series_sum":                 {fn: func(_ *exec, a []val) val { return reduceSeries(a[0], 0, func(s, v float64) float64 { return s + v }) }},
		"series_product":             {fn: func(_ *exec, a []val) val { return reduceSeries(a[0], 1, func(s, v float64) float64 { return s * v }) }},
	}
}

func reduceSeries(v val, start float64, f func(s, v float64) float64) val {
	vals, ok, _, isList := numbers(v.d)
	if !isList || slices.Contains(ok, false) {
		return nullOf(Real)
	}
	for _, x := range vals {
		start = f(start, x)
	}
	return realVal(start)
}

// missing tells the places that a fill function fills: nulls, or the elements
// equal to the placeholder if one is given.
func missing(a []val, at int) func(e any) bool {
	if len(a) <= at || a[at].null {
		return func(e any) bool { return e == nil }
	}
	hole := convert(a[at], Real).f
	return func(e any) bool { return isNumeric(e) && asFloat(e) == hole }
}

func seriesFillConst(_ *exec, a []val) val {
	list, ok := a[0].d.([]any)
	if !ok || a[1].null {
		return nullOf(Dynamic)
	}
	hole := missing(a, 2)
	out := slices.Clone(list)
	for i, e := range out {
		if hole(e) {
			out[i] = valToDynamic(a[1])
		}
	}
	return dynVal(out)
}

func bindFill(backward bool) func(*binder, *callNode, []expr, Type) expr {
	return func(b *binder, n *callNode, args []expr, ret Type) expr {
		return &callExpr{name: n.name, t: ret, args: args, nulls: true, fn: func(_ *exec, a []val) val {
			list, ok := a[0].d.([]any)
			if !ok {
				return nullOf(ret)
			}
			hole := missing(a, 1)
			out := slices.Clone(list)
			if backward {
				slices.Reverse(out)
			}
			for i := 1; i < len(out); i++ {
				if hole(out[i]) && !hole(out[i-1]) {
					out[i] = out[i-1]
				}
			}
			if backward {
				slices.Reverse(out)
			}
			return dynVal(out)
		}}
	}
}

// seriesFillLinear(series[, placeholder[, edges[, constant]]]) interpolates; of
// integers it keeps the whole part, and where nothing is known the constant.
func seriesFillLinear(_ *exec, a []val) val {
	list, ok := a[0].d.([]any)
	if !ok {
		return nullOf(Dynamic)
	}
	hole := missing(a, 1)
	edges := len(a) < 3 || a[2].null || a[2].i != 0
	ints := true
	var known []int
	for i, e := range list {
		if hole(e) {
			continue
		}
		if !isNumeric(e) {
			return nullOf(Dynamic)
		}
		_, isInt := e.(int64)
		ints = ints && isInt
		known = append(known, i)
	}
	number := func(f float64) any {
		if ints {
			return int64(f)
		}
		return f
	}
	out := slices.Clone(list)
	if len(known) == 0 {
		fill := realVal(0)
		if len(a) > 3 {
			fill = a[3]
		}
		for i := range out {
			out[i] = convert(fill, Real).f
		}
		return dynVal(out)
	}
	for k := 0; k+1 < len(known); k++ {
		lo, hi := known[k], known[k+1]
		x, y := asFloat(list[lo]), asFloat(list[hi])
		for i := lo + 1; i < hi; i++ {
			out[i] = number(x + (y-x)*float64(i-lo)/float64(hi-lo))
		}
	}
	if edges {
		for i := range known[0] {
			out[i] = list[known[0]]
		}
		last := known[len(known)-1]
		for i := last + 1; i < len(out); i++ {
			out[i] = list[last]
		}
	}
	return dynVal(out)
}

// seriesIIR(series, numerators, denominators) is a recursive filter.
func seriesIIR(_ *exec, a []val) val {
	xs, _, _, ok1 := numbers(a[0].d)
	bs, okB, _, ok2 := numbers(a[1].d)
	as, okA, _, ok3 := numbers(a[2].d)
	if !ok1 || !ok2 || !ok3 || len(as) == 0 || as[0] == 0 || slices.Contains(okA, false) || slices.Contains(okB, false) {
		return nullOf(Dynamic)
	}
	if len(xs)*(len(as)+len(bs)) > 1<<26 {
		return nullOf(Dynamic)
	}
	ys := make([]float64, len(xs))
	out := make([]any, len(xs))
	for i := range xs {
		y := 0.0
		for k, b := range bs {
			if i >= k {
				y += b * xs[i-k]
			}
		}
		for k, c := range as[1:] {
			if i > k {
				y -= c * ys[i-k-1]
			}
		}
		ys[i] = y / as[0]
		out[i] = ys[i]
	}
	return dynVal(out)
}

// bindFIR binds series_fir(series, filter, normalize, center); only the plain
// form is known to answer as the engine does.
func bindFIR(b *binder, n *callNode, args []expr, ret Type) expr {
	off := func(k int) bool {
		if len(args) <= k {
			return k == 3 // centring is off by default, normalizing is on
		}
		c, ok := args[k].(*constExpr)
		return ok && !c.v.null && c.v.i == 0
	}
	if !off(2) || !off(3) {
		b.unsupported(n, "series_fir with normalizing or centring is not implemented")
	}
	return &callExpr{name: n.name, t: Dynamic, args: args[:2], fn: func(_ *exec, a []val) val {
		xs, _, xi, ok1 := numbers(a[0].d)
		fs, _, fi, ok2 := numbers(a[1].d)
		if !ok1 || !ok2 || len(xs)*len(fs) > 1<<26 {
			return nullOf(Dynamic)
		}
		out := make([]any, len(xs))
		for i := range xs {
			y := 0.0
			for k, f := range fs {
				if i >= k {
					y += f * xs[i-k]
				}
			}
			out[i] = y
			if xi && fi {
				out[i] = int64(y)
			}
		}
		return dynVal(out)
	}}
}

// seriesFitLine is the least-squares line over the places 0, 1, 2 …
func seriesFitLine(_ *exec, a []val) val {
	ys, ok, _, isList := numbers(a[0].d)
	if !isList || len(ys) < 2 || slices.Contains(ok, false) {
		return nullOf(Dynamic)
	}
	n := float64(len(ys))
	var sx, sy, sxx, sxy float64
	for i, y := range ys {
		x := float64(i)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	start := (sy - slope*sx) / n
	mean := sy / n
	var total, rest float64
	line := make([]any, len(ys))
	for i, y := range ys {
		fit := start + slope*float64(i)
		line[i] = fit
		total += (y - mean) * (y - mean)
		rest += (y - fit) * (y - fit)
	}
	bag := NewBag()
	r2 := 1.0
	if total > 0 {
		r2 = 1 - rest/total
	}
	bag.Set("rsquare", r2)
	bag.Set("slope", slope)
	bag.Set("variance", total/(n-1))
	bag.Set("rvariance", rest/(n-1))
	bag.Set("interception", start)
	bag.Set("line_fit", line)
	return dynVal(bag)
}

func seriesPearson(_ *exec, a []val) val {
	xs, okX, _, ok1 := numbers(a[0].d)
	ys, okY, _, ok2 := numbers(a[1].d)
	if !ok1 || !ok2 || len(xs) != len(ys) || len(xs) == 0 || slices.Contains(okX, false) || slices.Contains(okY, false) {
		return nullOf(Real)
	}
	n := float64(len(xs))
	var mx, my float64
	for i := range xs {
		mx, my = mx+xs[i]/n, my+ys[i]/n
	}
	var sxy, sxx, syy float64
	for i := range xs {
		dx, dy := xs[i]-mx, ys[i]-my
		sxy, sxx, syy = sxy+dx*dy, sxx+dx*dx, syy+dy*dy
	}
	return realVal(sxy / math.Sqrt(sxx*syy))
}

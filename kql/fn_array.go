package kql

import (
	"math"
	"slices"
	"strings"
)

// maxArrayElements bounds what an array function may build.
const maxArrayElements = 1_048_576

// listFn is a function whose first argument must be an array.
func listFn(f func(x *exec, list []any, a []val) val) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		return &callExpr{name: n.name, t: ret, args: args, fn: func(x *exec, a []val) val {
			list, ok := a[0].d.([]any)
			if !ok {
				return nullOf(ret)
			}
			return f(x, list, a)
		}}
	}}
}

func arrayFunctions() map[string]impl {
	length := impl{fn: func(_ *exec, a []val) val {
		if list, ok := a[0].d.([]any); ok {
			return longVal(int64(len(list)))
		}
		return nullOf(Long)
	}}
	shift := func(sign int64, rotate bool) impl {
		return impl{nulls: true, fn: func(_ *exec, a []val) val {
			list, ok := a[0].d.([]any)
			if !ok || a[1].null {
				return nullOf(Dynamic)
			}
			var fill any
			if len(a) > 2 {
				fill = valToDynamic(a[2])
			}
			return dynVal(shiftList(list, sign*a[1].i, rotate, fill))
		}}
	}
	choose := impl{nulls: true, fn: arrayIff}
	return map[string]impl{
		"array_length": length, "arraylength": length,
		"pack_array": {nulls: true, fn: func(_ *exec, a []val) val {
			out := make([]any, len(a))
			for i, v := range a {
				out[i] = valToDynamic(v)
			}
			return dynVal(out)
		}},
		"array_concat": {nulls: true, fn: func(x *exec, a []val) val {
			out := []any{}
			for _, v := range a {
				if list, ok := v.d.([]any); ok {
					out = append(out, list...)
				}
			}
			if len(out) > maxArrayElements {
				x.fail("an array of more than %d elements would be built", maxArrayElements)
			}
			return dynVal(out)
		}},
		"array_iff": choose, "array_iif": choose,
		"array_index_of": {nulls: true, fn: arrayIndexOf},
		"array_reverse": listFn(func(_ *exec, list []any, _ []val) val {
			out := slices.Clone(list)
			slices.Reverse(out)
			return dynVal(out)
		}),
		"array_rotate_left": shift(1, true), "array_rotate_right": shift(-1, true),
		"array_shift_left": shift(1, false), "array_shift_right": shift(-1, false),
		"array_slice": listFn(arraySlice),
		"array_split": listFn(arraySplit),
		"array_sum": listFn(func(_ *exec, list []any, _ []val) val {
			sum := 0.0
			for _, e := range list {
				switch e := e.(type) {
				case int64:
					sum += float64(e)
				case float64:
					sum += e
				case nil:
				default:
					return nullOf(Real)
				}
			}
			return realVal(sum)
		}),
		"array_sort_asc":  {bind: bindArraySort(1)},
		"array_sort_desc": {bind: bindArraySort(-1)},
		"zip":             {nulls: true, fn: zipLists},
		"repeat":          {nulls: true, fn: repeatValue},
		"range":           {fn: rangeList},
	}
}

// setFunctions see arrays as sets; elements keep the order of their first
// appearance.
func setFunctions() map[string]impl {
	return map[string]impl{
		"set_union": {nulls: true, fn: setUnion},
		"set_intersect": {nulls: true, fn: setOf(func(in []bool) bool {
			return !slices.Contains(in, false)
		})},
		"set_difference": {nulls: true, fn: setOf(func(in []bool) bool {
			return !slices.Contains(in[1:], true)
		})},
		"set_has_element": {nulls: true, fn: func(_ *exec, a []val) val {
			list, ok := a[0].d.([]any)
			if !ok {
				return boolVal(false)
			}
			want := elementKey(valToDynamic(a[1]))
			for _, e := range list {
				if elementKey(e) == want {
					return boolVal(true)
				}
			}
			return boolVal(false)
		}},
		"set_equals": listFn(func(_ *exec, list []any, a []val) val {
			other, ok := a[1].d.([]any)
			if !ok {
				return nullOf(Bool)
			}
			x, y := keysOf(list), keysOf(other)
			return boolVal(len(x) == len(y) && !slices.ContainsFunc(list, func(e any) bool { _, in := y[elementKey(e)]; return !in }))
		}),
	}
}

// arraySlice(array, start, end) counts from the end where negative; the end is
// included.
func arraySlice(_ *exec, list []any, a []val) val {
	n := int64(len(list))
	lo, hi := a[1].i, a[2].i
	if lo < 0 {
		lo = max(lo+n, 0)
	}
	if hi < 0 {
		hi += n
	}
	hi = min(hi, n-1)
	if lo > hi {
		return dynVal([]any{})
	}
	return dynVal(slices.Clone(list[lo : hi+1]))
}

// elementKey is equal for equal elements.
func elementKey(e any) string {
	if f, ok := e.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		e = int64(f)
	}
	return string(appendJSON(nil, e))
}

func keysOf(list []any) map[string]struct{} {
	out := make(map[string]struct{}, len(list))
	for _, e := range list {
		out[elementKey(e)] = struct{}{}
	}
	return out
}

func shiftList(list []any, n int64, rotate bool, fill any) []any {
	size := int64(len(list))
	out := make([]any, size)
	for i := range size {
		j := i + n
		switch {
		case rotate:
			out[i] = list[floorMod(i+n%size, size)]
		case n > size || n < -size || j < 0 || j >= size:
			out[i] = fill
		default:
			out[i] = list[j]
		}
	}
	return out
}

// arrayIff picks element by element; a scalar stands for every place.
func arrayIff(_ *exec, a []val) val {
	conds, ok := a[0].d.([]any)
	if !ok {
		return nullOf(Dynamic)
	}
	pick := func(v val, i int) any {
		if v.t == Dynamic {
			if list, ok := v.d.([]any); ok {
				if i < len(list) {
					return list[i]
				}
				return nil
			}
		}
		return valToDynamic(v)
	}
	out := make([]any, len(conds))
	for i, c := range conds {
		b := convert(dynamicToVal(c), Bool)
		switch {
		case b.null || b.t != Bool:
		case dynamicToVal(c).t == String:
		case b.i != 0:
			out[i] = pick(a[1], i)
		default:
			out[i] = pick(a[2], i)
		}
	}
	return dynVal(out)
}

// arrayIndexOf(array, value[, start[, length[, occurrence]]]).
func arrayIndexOf(_ *exec, a []val) val {
	list, ok := a[0].d.([]any)
	if !ok {
		return nullOf(Long)
	}
	arg := func(i int, def int64) int64 {
		if len(a) > i && !a[i].null {
			return a[i].i
		}
		return def
	}
	n := int64(len(list))
	start, length, nth := arg(2, 0), arg(3, -1), arg(4, 1)
	if length < -1 || nth <= 0 {
		return nullOf(Long)
	}
	if start < 0 {
		start = max(start+n, 0)
	}
	end := n
	if length >= 0 {
		end = min(n, start+length)
	}
	want := elementKey(valToDynamic(a[1]))
	for i := start; i < end; i++ {
		if elementKey(list[i]) == want {
			if nth--; nth == 0 {
				return longVal(i)
			}
		}
	}
	return longVal(-1)
}

// arraySplit cuts at an index or at a list of indexes.
func arraySplit(x *exec, list []any, a []val) val {
	n := int64(len(list))
	var cuts []int64
	if a[1].t == Dynamic {
		idx, ok := a[1].d.([]any)
		if !ok {
			return nullOf(Dynamic)
		}
		for _, e := range idx {
			k, ok := e.(int64)
			if !ok {
				return nullOf(Dynamic)
			}
			cuts = append(cuts, k)
		}
	} else {
		cuts = []int64{a[1].i}
	}
	out := []any{}
	prev := int64(0)
	for _, c := range cuts {
		if c < 0 {
			c += n
		}
		c = min(max(c, prev), n)
		out = append(out, slices.Clone(list[prev:c]))
		prev = c
	}
	return dynVal(append(out, slices.Clone(list[prev:])))
}

// bindArraySort sorts the first array and moves the others along; nulls come
// last. Of several arrays it gives an array of arrays.
func bindArraySort(sign int) func(b *binder, n *callNode, args []expr, ret Type) expr {
	return func(b *binder, n *callNode, args []expr, ret Type) expr {
		nullsLast := true
		if k := len(args) - 1; k > 0 && args[k].typ() == Bool {
			c, ok := args[k].(*constExpr)
			if !ok {
				b.unsupported(n, "the order of nulls must be a constant")
			} else {
				nullsLast = c.v.i != 0
			}
			args = args[:k]
		}
		return &callExpr{name: n.name, t: Dynamic, args: args, nulls: true, fn: func(_ *exec, a []val) val {
			return sortArrays(a, sign, nullsLast)
		}}
	}
}

// sortArrays sorts the first array and moves the others along; an array of
// another length becomes null.
func sortArrays(a []val, sign int, nullsLast bool) val {
	list, ok := a[0].d.([]any)
	if !ok {
		return nullOf(Dynamic)
	}
	order := seq(len(list))
	slices.SortStableFunc(order, func(i, k int) int {
		x, y := list[i], list[k]
		switch {
		case x == nil && y == nil:
			return 0
		case x == nil || y == nil:
			if (x == nil) == nullsLast {
				return 1
			}
			return -1
		}
		c, sameKind := compareElements(x, y)
		if !sameKind { // kinds keep their order either way
			return c
		}
		return sign * c
	})
	sorted := make([]any, len(a))
	for k, v := range a {
		other, ok := v.d.([]any)
		if !ok || len(other) != len(list) {
			continue
		}
		out := make([]any, len(list))
		for i, from := range order {
			out[i] = other[from]
		}
		sorted[k] = out
	}
	if len(a) == 1 {
		return dynVal(sorted[0])
	}
	return dynVal(sorted)
}

func compareElements(x, y any) (c int, sameKind bool) {
	a, b := dynamicToVal(x), dynamicToVal(y)
	if a.t.isNumber() && b.t.isNumber() {
		if a.t == Long && b.t == Long {
			return compareVals(a, b), true
		}
		return compareVals(convert(a, Real), convert(b, Real)), true
	}
	if a.t != b.t {
		return int(a.t) - int(b.t), false
	}
	if a.t == Dynamic {
		return strings.Compare(string(appendJSON(nil, x)), string(appendJSON(nil, y))), true
	}
	return compareVals(a, b), true
}

func setUnion(_ *exec, a []val) val {
	out := []any{}
	seen := map[string]struct{}{}
	found := false
	for _, v := range a {
		list, ok := v.d.([]any)
		if !ok {
			continue
		}
		found = true
		for _, e := range list {
			k := elementKey(e)
			if _, dup := seen[k]; !dup {
				seen[k] = struct{}{}
				out = append(out, e)
			}
		}
	}
	if !found {
		return nullOf(Dynamic)
	}
	return dynVal(out)
}

// setOf keeps the elements of the first array by their presence in each.
func setOf(keep func(in []bool) bool) scalarFn {
	return func(_ *exec, a []val) val {
		sets := make([]map[string]struct{}, len(a))
		for i, v := range a {
			list, ok := v.d.([]any)
			if !ok {
				return nullOf(Dynamic)
			}
			sets[i] = keysOf(list)
		}
		out := []any{}
		seen := map[string]struct{}{}
		in := make([]bool, len(a))
		for _, e := range a[0].d.([]any) {
			k := elementKey(e)
			if _, dup := seen[k]; dup {
				continue
			}
			seen[k] = struct{}{}
			for i := range sets {
				_, in[i] = sets[i][k]
			}
			if keep(in) {
				out = append(out, e)
			}
		}
		return dynVal(out)
	}
}

func zipLists(_ *exec, a []val) val {
	lists := make([][]any, len(a))
	n := 0
	for i, v := range a {
		list, ok := v.d.([]any)
		if !ok {
			list = []any{v.d}
		}
		lists[i] = list
		n = max(n, len(list))
	}
	out := make([]any, n)
	for i := range out {
		row := make([]any, len(lists))
		for k, l := range lists {
			if i < len(l) {
				row[k] = l[i]
			}
		}
		out[i] = row
	}
	return dynVal(out)
}

func repeatValue(x *exec, a []val) val {
	n := a[1].i
	if a[1].null || n < 0 {
		return nullOf(Dynamic)
	}
	if n > maxArrayElements {
		x.fail("an array of more than %d elements would be built", maxArrayElements)
	}
	out := make([]any, n)
	for i := range out {
		out[i] = valToDynamic(a[0])
	}
	return dynVal(out)
}

// rangeList(start, stop[, step]) counts inclusively.
func rangeList(x *exec, a []val) val {
	from, to := a[0], a[1]
	step := longVal(1)
	t := widest(from.t, to.t)
	if from.t == DateTime || from.t == TimeSpan {
		t = from.t
		step = intVal(TimeSpan, int64(TicksPerHour))
		if len(a) > 2 {
			step = a[2]
		}
		if to.t != t || step.t != TimeSpan {
			return nullOf(Dynamic)
		}
	} else {
		if len(a) > 2 {
			step = a[2]
		}
		t = widest(t, step.t)
		if t == Int {
			t = Long
		}
		if t == Decimal || !t.isNumber() {
			return nullOf(Dynamic)
		}
		from, to, step = convert(from, t), convert(to, t), convert(step, t)
	}
	n := min(rangeCount(t, from, to, step), maxArrayElements)
	out := make([]any, n)
	for i := range out {
		v := val{t: t, i: from.i + int64(i)*step.i, f: from.f + float64(i)*step.f}
		out[i] = valToDynamic(v)
	}
	return dynVal(out)
}

package kql

import (
	"strconv"
	"strings"
)

func converter(t Type) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		return cast(args[0], t)
	}}
}

func conversionFunctions() map[string]impl {
	gettype := impl{nulls: true, fn: func(_ *exec, a []val) val {
		if a[0].t == Dynamic {
			return strVal(dynamicType(a[0].d))
		}
		return strVal(a[0].t.String())
	}}
	parseJSON := impl{fn: func(_ *exec, a []val) val {
		if a[0].t != String {
			return convert(a[0], Dynamic)
		}
		if a[0].s == "" {
			return nullOf(Dynamic)
		}
		return dynVal(parseJSONLoose(a[0].s))
	}}
	return map[string]impl{
		"tostring": converter(String), "tolong": converter(Long), "toint": converter(Int),
		"toreal": converter(Real), "todouble": converter(Real), "tobool": converter(Bool), "toboolean": converter(Bool),
		"todatetime": converter(DateTime), "totimespan": converter(TimeSpan), "totime": converter(TimeSpan),
		"todecimal": converter(Decimal), "toguid": converter(GUID),
		"parse_json": parseJSON, "parsejson": parseJSON, "todynamic": parseJSON, "toobject": parseJSON,
		"gettype": gettype,
		"tohex": {fn: func(_ *exec, a []val) val {
			s := strconv.FormatUint(uint64(a[0].i), 16)
			if len(a) > 1 && int64(len(s)) < a[1].i && a[1].i <= 64 {
				s = strings.Repeat("0", int(a[1].i)-len(s)) + s
			}
			return strVal(s)
		}},
		"dynamic_to_json": {fn: func(_ *exec, a []val) val { return strVal(string(appendJSON(nil, canonical(a[0].d)))) }},
	}
}

// canonical sorts the properties of all bags.
func canonical(d any) any {
	switch d := d.(type) {
	case []any:
		out := make([]any, len(d))
		for i, e := range d {
			out[i] = canonical(e)
		}
		return out
	case *Bag:
		m := map[string]any{}
		for i, k := range d.keys {
			m[k] = canonical(d.vals[i])
		}
		out := NewBag()
		for _, k := range sortedKeys(m) {
			out.Set(k, m[k])
		}
		return out
	}
	return d
}

func conditionalFunctions() map[string]impl {
	branch := impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		for i := 0; i+1 < len(args); i += 2 {
			args[i] = b.toBool(n.args[i].x, args[i])
		}
		return &branchExpr{ret, args}
	}}
	isEmpty := func(v val) bool {
		return v.null || v.t == String && v.s == "" || v.t == Dynamic && (v.d == nil || v.d == "")
	}
	test := func(f func(v val) bool) impl {
		return impl{nulls: true, fn: func(_ *exec, a []val) val { return boolVal(f(a[0])) }}
	}
	extreme := func(sign int) impl {
		return impl{nulls: true, fn: func(_ *exec, a []val) val {
			best := nullOf(a[0].t)
			for _, v := range a {
				if v.null {
					continue
				}
				if best.null || beats(v, best, sign > 0) {
					best = v
				}
			}
			return best
		}}
	}
	return map[string]impl{
		"iff": branch, "iif": branch, "case": branch,
		"not":        {fn: func(_ *exec, a []val) val { return boolVal(a[0].i == 0) }},
		"isempty":    test(isEmpty),
		"isnotempty": test(func(v val) bool { return !isEmpty(v) }),
		"notempty":   test(func(v val) bool { return !isEmpty(v) }),
		"isnull":     test(func(v val) bool { return v.null && v.t != String }),
		"isnotnull":  test(func(v val) bool { return !v.null || v.t == String }),
		"notnull":    test(func(v val) bool { return !v.null || v.t == String }),
		"coalesce": {nulls: true, fn: func(_ *exec, a []val) val {
			for _, v := range a {
				if !v.null && !(v.t == String && v.s == "") {
					return v
				}
			}
			return nullOf(a[0].t)
		}},
		"max_of": extreme(1),
		"min_of": extreme(-1),
	}
}

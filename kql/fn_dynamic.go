package kql

import "strings"

// Functions over property bags.

func dynamicFunctions() map[string]impl {
	pack := impl{nulls: true, bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		if len(args)%2 != 0 {
			b.fail(n, SemanticError, "%s takes names and values in pairs", n.name)
		}
		return &callExpr{name: n.name, t: Dynamic, args: args, nulls: true, fn: func(_ *exec, a []val) val {
			bag := NewBag()
			for i := 0; i < len(a); i += 2 {
				bag.Set(valText(a[i]), valToDynamic(a[i+1]))
			}
			return dynVal(bag)
		}}
	}}
	return map[string]impl{
		"bag_pack": pack, "pack": pack, "pack_dictionary": pack,
		"bag_pack_columns": {bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
			names := make([]string, len(args))
			for i, a := range n.args {
				c, ok := a.x.(*nameNode)
				if !ok {
					b.fail(a.x, SemanticError, "bag_pack_columns takes column names")
				}
				names[i] = c.name
			}
			return &callExpr{name: n.name, t: Dynamic, args: args, nulls: true, fn: func(_ *exec, a []val) val {
				bag := NewBag()
				for i, v := range a {
					bag.Set(names[i], valToDynamic(v))
				}
				return dynVal(bag)
			}}
		}},
	}
}

// bagFunctions read and change property bags.
func bagFunctions() map[string]impl {
	return map[string]impl{
		"bag_keys": {fn: func(_ *exec, a []val) val {
			bag, ok := a[0].d.(*Bag)
			if !ok {
				return nullOf(Dynamic)
			}
			out := make([]any, len(bag.keys))
			for i, k := range bag.keys {
				out[i] = k
			}
			return dynVal(out)
		}},
		"bag_has_key": {fn: func(_ *exec, a []val) val {
			bag, ok := a[0].d.(*Bag)
			if !ok {
				return nullOf(Bool)
			}
			if strings.HasPrefix(a[1].s, "$.") || strings.HasPrefix(a[1].s, "$[") {
				_, has := jsonPathOK(bag, a[1].s)
				return boolVal(has)
			}
			_, has := bag.Get(a[1].s)
			return boolVal(has)
		}},
		"bag_merge": {nulls: true, fn: func(_ *exec, a []val) val {
			out := NewBag()
			found := false
			for _, v := range a {
				bag, ok := v.d.(*Bag)
				if !ok {
					continue
				}
				found = true
				for i, k := range bag.keys {
					if _, dup := out.Get(k); !dup {
						out.Set(k, bag.vals[i])
					}
				}
			}
			if !found {
				return nullOf(Dynamic)
			}
			return dynVal(out)
		}},
		"bag_set_key": {nulls: true, fn: func(_ *exec, a []val) val {
			bag, ok := a[0].d.(*Bag)
			if !ok {
				return nullOf(Dynamic)
			}
			out := bag.clone()
			out.Set(a[1].s, valToDynamic(a[2]))
			return dynVal(out)
		}},
	}
}

// bagEdits make bags of bags and arrays.
func bagEdits() map[string]impl {
	return map[string]impl{
		"bag_remove_keys": {fn: func(x *exec, a []val) val {
			bag, ok := a[0].d.(*Bag)
			list, isList := a[1].d.([]any)
			if !ok || !isList {
				return nullOf(Dynamic)
			}
			drop := map[string]bool{}
			for _, k := range list {
				if s, ok := k.(string); ok && strings.HasPrefix(s, "$") {
					x.refuse("bag_remove_keys with a path is not implemented")
				}
				drop[valText(dynVal(k))] = true
			}
			return dynVal(bag.without(drop))
		}},
		"bag_zip": {fn: func(_ *exec, a []val) val {
			keys, ok1 := a[0].d.([]any)
			vals, ok2 := a[1].d.([]any)
			if !ok1 || !ok2 {
				return nullOf(Dynamic)
			}
			bag := NewBag()
			for i, k := range keys {
				s, ok := k.(string)
				if !ok {
					continue
				}
				var v any
				if i < len(vals) {
					v = vals[i]
				}
				bag.Set(s, v)
			}
			return dynVal(bag)
		}},
	}
}

package kql

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// withRegex prepares a function whose argument at is a pattern: a constant one
// is compiled, and refused if it does not compile, when the query is bound.
func withRegex(at int, nulls bool, f func(x *exec, re *regexp.Regexp, a []val) val) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		var fixed *regexp.Regexp
		if c, ok := args[at].(*constExpr); ok {
			re, err := compileRegex(valText(c.v))
			if err != nil {
				b.fail(n.args[at].x, SemanticError, "the regular expression does not compile: %v", err)
			}
			fixed = re
		}
		return &callExpr{name: n.name, t: ret, args: args, nulls: nulls, fn: func(x *exec, a []val) val {
			re := fixed
			if re == nil {
				var err error
				if re, err = compileRegex(valText(a[at])); err != nil {
					return nullOf(ret)
				}
			}
			v := f(x, re, a)
			if v.null && ret == String {
				return strVal("")
			}
			return v
		}}
	}}
}

func regexFunctions() map[string]impl {
	trim := func(start, end bool) impl {
		return withRegex(0, false, func(_ *exec, re *regexp.Regexp, a []val) val {
			return strVal(trimRegex(re, a[1].s, start, end))
		})
	}
	replace := withRegex(1, false, func(x *exec, re *regexp.Regexp, a []val) val {
		out := re.ReplaceAllString(a[0].s, goTemplate(a[2].s))
		boundString(x, len(out))
		return strVal(out)
	})
	extract := impl{bind: bindExtract}
	all := impl{bind: bindExtractAll}
	return map[string]impl{
		"trim": trim(true, true), "trim_start": trim(true, false), "trim_end": trim(false, true),
		"replace_regex": replace, "replace": replace,
		"extract": extract, "extract_all": all, "extractall": all,
		"regex_quote":   text1(regexp.QuoteMeta),
		"countof":       {fn: countOf},
		"indexof_regex": {bind: bindIndexOfRegex},
	}
}

func bindIndexOfRegex(b *binder, n *callNode, args []expr, ret Type) expr {
	if len(args) > 2 {
		b.unsupported(n, "indexof_regex with a start, length or occurrence is not implemented")
	}
	f := withRegex(1, true, func(_ *exec, re *regexp.Regexp, a []val) val {
		s := valText(a[0])
		loc := re.FindStringIndex(s)
		if loc == nil {
			return longVal(-1)
		}
		return longVal(int64(utf8.RuneCountInString(s[:loc[0]])))
	})
	return f.bind(b, n, args, ret)
}

// trimRegex removes one match at each end.
func trimRegex(re *regexp.Regexp, s string, start, end bool) string {
	if start {
		if loc := re.FindStringIndex(s); loc != nil && loc[0] == 0 {
			s = s[loc[1]:]
		}
	}
	if end {
		best := -1
		for _, loc := range re.FindAllStringIndex(s, -1) {
			if loc[1] == len(s) && loc[0] < loc[1] {
				best = loc[0]
				break
			}
		}
		if best >= 0 {
			s = s[:best]
		}
	}
	return s
}

// goTemplate turns \1 into ${1} and keeps a dollar as it is.
func goTemplate(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '$':
			b.WriteString("$$")
		case c == '\\' && i+1 < len(s) && isDigit(s[i+1]):
			b.WriteString("${" + s[i+1:i+2] + "}")
			i++
		case c == '\\' && i+1 < len(s) && s[i+1] == '\\':
			b.WriteByte('\\')
			i++
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// bindExtract binds extract(regex, group, text[, typeof(T)]).
func bindExtract(b *binder, n *callNode, args []expr, ret Type) expr {
	t := String
	if len(args) == 4 {
		if ty, ok := n.args[3].x.(*typeofNode); ok {
			t = ty.typ
		} else {
			b.fail(n.args[3].x, SemanticError, "extract takes a typeof() as its fourth argument")
		}
	}
	f := withRegex(0, false, func(_ *exec, re *regexp.Regexp, a []val) val {
		m := re.FindStringSubmatch(a[2].s)
		if m == nil || a[1].i < 0 || a[1].i >= int64(len(m)) {
			return strVal("")
		}
		return strVal(m[a[1].i])
	})
	return cast(f.bind(b, n, args[:3], String), t)
}

func bindExtractAll(b *binder, n *callNode, args []expr, ret Type) expr {
	text := len(args) - 1
	f := withRegex(0, false, func(_ *exec, re *regexp.Regexp, a []val) val {
		groups := seq(re.NumSubexp() + 1)[1:]
		if len(groups) == 0 {
			return nullOf(Dynamic)
		}
		if text == 2 {
			list, ok := a[1].d.([]any)
			if !ok {
				return nullOf(Dynamic)
			}
			groups = nil
			for _, e := range list {
				g := dynamicToVal(e)
				if g.t == String {
					g = longVal(int64(re.SubexpIndex(g.s)))
				}
				if g.t != Long || g.i < 0 || g.i > int64(re.NumSubexp()) {
					return nullOf(Dynamic)
				}
				groups = append(groups, int(g.i))
			}
		}
		out := []any{}
		for _, m := range re.FindAllStringSubmatch(a[text].s, -1) {
			if len(groups) == 1 {
				out = append(out, m[groups[0]])
				continue
			}
			row := make([]any, len(groups))
			for i, g := range groups {
				row[i] = m[g]
			}
			out = append(out, row)
		}
		if len(out) == 0 {
			return nullOf(Dynamic)
		}
		return dynVal(out)
	})
	return f.bind(b, n, args, Dynamic)
}

// countOf(text, search[, kind]): plain counts overlapping occurrences, regex
// does not.
func countOf(x *exec, a []val) val {
	s, sub := a[0].s, a[1].s
	if len(a) > 2 && a[2].s == "regex" {
		re, err := compileRegex(sub)
		if err != nil {
			return nullOf(Long)
		}
		return longVal(int64(len(re.FindAllStringIndex(s, -1))))
	}
	if len(a) > 2 && a[2].s != "normal" {
		x.refuse("countof has no kind %q", a[2].s)
	}
	if sub == "" {
		return longVal(0)
	}
	var n int64
	for {
		i := strings.Index(s, sub)
		if i < 0 {
			return longVal(n)
		}
		n++
		s = s[i+1:]
	}
}

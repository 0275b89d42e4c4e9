package kql

import (
	"math"
	"strings"
	"unicode/utf8"
)

// maxStringBytes bounds what a string function may build in one value.
const maxStringBytes = 16 << 20

// text1 is a function of one value's text to a string; a null reads as "".
func text1(f func(s string) string) impl {
	return impl{nulls: true, fn: func(_ *exec, a []val) val { return strVal(f(valText(a[0]))) }}
}

func stringFunctions() map[string]impl {
	return map[string]impl{
		"strlen":      {fn: func(_ *exec, a []val) val { return longVal(int64(utf8.RuneCountInString(valText(a[0])))) }},
		"string_size": {fn: func(_ *exec, a []val) val { return longVal(int64(len(valText(a[0])))) }},
		"toupper":     text1(strings.ToUpper),
		"tolower":     text1(strings.ToLower),
		"reverse":     text1(reverseText),
		"strcat":      {nulls: true, fn: func(x *exec, a []val) val { return concatText(x, "", a) }},
		"strcat_delim": {nulls: true, fn: func(x *exec, a []val) val {
			return concatText(x, valText(a[0]), a[1:])
		}},
		"strcat_array": {fn: strcatArray}, "array_strcat": {fn: strcatArray},
		"substring":       {nulls: true, fn: substring},
		"split":           {nulls: true, fn: splitText},
		"replace_string":  {fn: func(x *exec, a []val) val { return replaceText(x, a[0].s, a[1].s, a[2].s) }},
		"replace_strings": {fn: replaceStrings},
		"indexof":         {nulls: true, fn: indexOf},
		"strrep":          {nulls: true, fn: repeatText},
		"strcmp": {nulls: true, fn: func(_ *exec, a []val) val {
			return longVal(int64(strings.Compare(valText(a[0]), valText(a[1]))))
		}},
		"translate":                      {fn: translate},
		"has_any_index":                  {fn: hasAnyIndex},
		"unicode_codepoints_from_string": {nulls: true, fn: codepoints}, "to_utf8": {nulls: true, fn: codepoints},
		"unicode_codepoints_to_string": {nulls: true, fn: fromCodepoints}, "make_string": {nulls: true, fn: fromCodepoints},
	}
}

func reverseText(s string) string {
	r := []rune(s)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}

func boundString(x *exec, n int) {
	if n > maxStringBytes {
		x.fail("a string longer than %d bytes would be built", maxStringBytes)
	}
}

func concatText(x *exec, delim string, a []val) val {
	var b strings.Builder
	for i, v := range a {
		if i > 0 {
			b.WriteString(delim)
		}
		b.WriteString(valText(v))
	}
	boundString(x, b.Len())
	return strVal(b.String())
}

func strcatArray(x *exec, a []val) val {
	list, ok := a[0].d.([]any)
	if !ok {
		return strVal("")
	}
	parts := make([]string, len(list))
	n := 0
	delim := valText(a[1])
	for i, e := range list {
		parts[i] = valText(val{t: Dynamic, null: e == nil, d: e})
		n += len(parts[i]) + len(delim)
	}
	boundString(x, n)
	return strVal(strings.Join(parts, delim))
}

// substring counts characters; a negative start counts from the end.
func substring(_ *exec, a []val) val {
	s := valText(a[0])
	if a[1].null || len(a) > 2 && a[2].null {
		return strVal("")
	}
	n := int64(utf8.RuneCountInString(s))
	start := a[1].i
	if start < 0 {
		start = max(n+start, 0)
	}
	end := n
	if len(a) > 2 && a[2].i >= 0 {
		end = start + min(a[2].i, n)
	}
	if start >= n {
		return strVal("")
	}
	end = min(end, n)
	if int(n) == len(s) {
		return strVal(s[start:end])
	}
	return strVal(string([]rune(s)[start:end]))
}

func splitText(x *exec, a []val) val {
	s, sep := valText(a[0]), valText(a[1])
	var parts []string
	if sep == "" {
		parts = []string{s}
	} else {
		parts = strings.Split(s, sep)
	}
	if len(a) > 2 && !a[2].null {
		i := a[2].i
		if i < 0 || i >= int64(len(parts)) {
			return dynVal([]any{})
		}
		return dynVal([]any{parts[i]})
	}
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return dynVal(out)
}

func replaceText(x *exec, s, old, with string) val {
	if old == "" {
		return strVal(s)
	}
	boundString(x, len(s)+strings.Count(s, old)*(len(with)-len(old)))
	return strVal(strings.ReplaceAll(s, old, with))
}

// replaceStrings replaces each text of the first list by the one at its place
// in the second. What was replaced is not searched again; a pair whose
// replacement is no string leaves its text alone.
func replaceStrings(x *exec, a []val) val {
	from, ok1 := a[1].d.([]any)
	to, ok2 := a[2].d.([]any)
	if !ok1 || !ok2 {
		return strVal("")
	}
	type part struct {
		text string
		done bool
	}
	parts := []part{{a[0].s, false}}
	for i, f := range from {
		old, ok := f.(string)
		if !ok || old == "" || i >= len(to) {
			continue
		}
		with, ok := to[i].(string)
		if !ok {
			with = old
		}
		var next []part
		for _, p := range parts {
			if p.done {
				next = append(next, p)
				continue
			}
			for k, piece := range strings.Split(p.text, old) {
				if k > 0 {
					next = append(next, part{with, true})
				}
				next = append(next, part{piece, false})
			}
		}
		parts = next
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.text)
	}
	boundString(x, b.Len())
	return strVal(b.String())
}

// indexOf(source, lookup[, start[, length[, occurrence]]]) counts characters.
func indexOf(_ *exec, a []val) val {
	s, sub := valText(a[0]), valText(a[1])
	arg := func(i int, def int64) (int64, bool) {
		if len(a) > i {
			return a[i].i, !a[i].null
		}
		return def, true
	}
	r := []rune(s)
	n := int64(len(r))
	start, ok1 := arg(2, 0)
	length, ok2 := arg(3, -1)
	nth, ok3 := arg(4, 1)
	if !ok1 || !ok2 || !ok3 || length < -1 || nth <= 0 {
		return nullOf(Long)
	}
	if start < 0 {
		start = max(n+start, 0)
	}
	if start > n {
		return longVal(-1)
	}
	end := n
	if length >= 0 {
		end = min(start+length, n)
	}
	window := string(r[start:end])
	pos := start
	for {
		i := strings.Index(window, sub)
		if i < 0 {
			return longVal(-1)
		}
		pos += int64(utf8.RuneCountInString(window[:i]))
		if nth--; nth == 0 {
			return longVal(pos)
		}
		if sub == "" {
			return longVal(-1)
		}
		_, step := utf8.DecodeRuneInString(window[i:])
		window = window[i+step:]
		pos++
	}
}

func repeatText(x *exec, a []val) val {
	s, delim := valText(a[0]), ""
	if len(a) > 2 {
		delim = valText(a[2])
	}
	n := a[1].i
	if a[1].null || n <= 0 {
		return strVal("")
	}
	n = min(n, 1024)
	boundString(x, int(n)*(len(s)+len(delim)))
	return strVal(strings.TrimSuffix(strings.Repeat(s+delim, int(n)), delim))
}

// translate(from, to, text) maps characters; the last of to stands for all that
// follow, and an empty to removes.
func translate(_ *exec, a []val) val {
	from, to := []rune(a[0].s), []rune(a[1].s)
	m := map[rune]rune{}
	for i, r := range from {
		if _, dup := m[r]; dup {
			continue
		}
		switch {
		case i < len(to):
			m[r] = to[i]
		case len(to) > 0:
			m[r] = to[len(to)-1]
		default:
			m[r] = -1
		}
	}
	return strVal(strings.Map(func(r rune) rune {
		if t, ok := m[r]; ok {
			return t
		}
		return r
	}, a[2].s))
}

func hasAnyIndex(_ *exec, a []val) val {
	list, ok := a[1].d.([]any)
	if !ok {
		return nullOf(Long)
	}
	s := foldCase(valText(a[0]))
	for i, e := range list {
		if hasTerm(s, foldCase(valText(dynVal(e))), true, true) {
			return longVal(int64(i))
		}
	}
	return longVal(-1)
}

func codepoints(_ *exec, a []val) val {
	out := []any{}
	for _, r := range valText(a[0]) {
		out = append(out, int64(r))
	}
	return dynVal(out)
}

func fromCodepoints(x *exec, a []val) val {
	var b strings.Builder
	var put func(v val)
	put = func(v val) {
		if list, ok := v.d.([]any); ok {
			for _, e := range list {
				put(dynamicToVal(e))
			}
			return
		}
		if v = convert(v, Long); !v.null && v.i >= 0 && v.i <= math.MaxInt32 {
			b.WriteRune(rune(v.i))
		}
	}
	for _, v := range a {
		put(v)
	}
	boundString(x, b.Len())
	return strVal(b.String())
}

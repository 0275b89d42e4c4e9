package kql

import (
	"encoding/csv"
	"net/url"
	"strconv"
	"strings"
)

// Functions that take texts apart.

func parseFunctions() map[string]impl {
	extractJSON := impl{bind: bindExtractJSON}
	return map[string]impl{
		"parse_csv":          {fn: parseCSV},
		"parse_url":          {fn: parseURL},
		"parse_urlquery":     {fn: func(_ *exec, a []val) val { return dynVal(urlQuery(a[0].s)) }},
		"parse_version":      {fn: parseVersion},
		"parse_path":         {fn: parsePath},
		"extract_json":       extractJSON,
		"extractjson":        extractJSON,
		"format_bytes":       {fn: formatBytes},
		"treepath":           {fn: treePaths},
		"parse_command_line": {fn: parseCommandLine},
	}
}

func parseCSV(_ *exec, a []val) val {
	r := csv.NewReader(strings.NewReader(valText(a[0])))
	r.FieldsPerRecord = -1
	r.LazyQuotes = true
	rec, err := r.Read()
	if err != nil {
		return dynVal([]any{""})
	}
	out := make([]any, len(rec))
	for i, f := range rec {
		out[i] = f
	}
	return dynVal(out)
}

func parseURL(_ *exec, a []val) val {
	bag := NewBag()
	s := a[0].s
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
		if before, after, colon := strings.Cut(s, ":"); colon && !strings.ContainsAny(before, "/?#.") {
			scheme, rest = before, after
		}
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	host, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	user, password := "", ""
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		user, password, _ = strings.Cut(host[:i], ":")
		host = host[i+1:]
	}
	port := ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i+1:]
	}
	for _, kv := range [][2]string{{"Scheme", scheme}, {"Host", host}, {"Port", port}, {"Path", path}, {"Username", user}, {"Password", password}} {
		bag.Set(kv[0], kv[1])
	}
	q := urlQuery(query)
	params, _ := q.Get("Query Parameters")
	bag.Set("Query Parameters", params)
	bag.Set("Fragment", fragment)
	return dynVal(bag)
}

func urlQuery(query string) *Bag {
	params := NewBag()
	query = strings.TrimPrefix(query, "?")
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		if u, err := url.QueryUnescape(v); err == nil {
			v = u
		}
		if u, err := url.QueryUnescape(k); err == nil {
			k = u
		}
		params.Set(k, v)
	}
	bag := NewBag()
	bag.Set("Query Parameters", params)
	return bag
}

// parseVersion gives a decimal that orders versions of up to four parts.
func parseVersion(_ *exec, a []val) val {
	parts := strings.Split(a[0].s, ".")
	if len(parts) > 4 {
		return nullOf(Decimal)
	}
	var b strings.Builder
	for i := range 4 {
		n := uint64(0)
		if i < len(parts) {
			v, err := strconv.ParseUint(strings.TrimSpace(parts[i]), 10, 31)
			if err != nil || v > 99_999_999 {
				return nullOf(Decimal)
			}
			n = v
		}
		b.Write(appendPadded(nil, int(n), 8))
	}
	num, _ := parseNumber(b.String())
	return val{t: Decimal, d: num}
}

func parsePath(_ *exec, a []val) val {
	s := a[0].s
	bag := NewBag()
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
	}
	root := ""
	full := rest
	i := strings.LastIndexAny(full, `/\`)
	dir, file := "", full
	if i >= 0 {
		dir, file = full[:i], full[i+1:]
	}
	switch {
	case len(full) > 2 && full[1] == ':':
		root = full[:3]
	}
	dirname := dir
	if k := strings.LastIndexAny(dir, `/\`); k >= 0 {
		dirname = dir[k+1:]
	}
	alt := ""
	if k := strings.IndexByte(file, ':'); k >= 0 {
		file, alt = file[:k], file[k+1:]
	}
	ext := ""
	if k := strings.LastIndexByte(file, '.'); k >= 0 {
		ext = file[k+1:]
	}
	for _, kv := range [][2]string{{"Scheme", scheme}, {"RootPath", root}, {"DirectoryPath", dir}, {"DirectoryName", dirname}, {"Filename", file}, {"Extension", ext}, {"AlternateDataStreamName", alt}} {
		bag.Set(kv[0], kv[1])
	}
	return dynVal(bag)
}

// jsonPath reads $.a.b[0]['c'].
func jsonPath(d any, path string) any {
	v, _ := jsonPathOK(d, path)
	return v
}

// jsonPathOK also tells whether the path is there.
func jsonPathOK(d any, path string) (any, bool) {
	path = strings.TrimPrefix(path, "$")
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			bag, ok := d.(*Bag)
			if !ok {
				return nil, false
			}
			if d, ok = bag.Get(path[:end]); !ok {
				return nil, false
			}
			path = path[end:]
		case '[':
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return nil, false
			}
			key := path[1:end]
			path = path[end+1:]
			if len(key) >= 2 && (key[0] == '\'' || key[0] == '"') {
				bag, ok := d.(*Bag)
				if !ok {
					return nil, false
				}
				if d, ok = bag.Get(key[1 : len(key)-1]); !ok {
					return nil, false
				}
				continue
			}
			n, err := strconv.ParseInt(key, 10, 64)
			list, ok := d.([]any)
			if err != nil || !ok || n >= int64(len(list)) || n < -int64(len(list)) {
				return nil, false
			}
			d = element(d, n)
		default:
			return nil, false
		}
	}
	return d, true
}

func bindExtractJSON(b *binder, n *callNode, args []expr, ret Type) expr {
	t := String
	if len(args) == 3 {
		ty, ok := n.args[2].x.(*typeofNode)
		if !ok {
			b.fail(n.args[2].x, SemanticError, "%s takes a typeof() as its third argument", n.name)
		}
		t = ty.typ
	}
	return cast(&callExpr{name: n.name, t: Dynamic, args: args[:2], fn: func(_ *exec, a []val) val {
		d, ok := parseJSON(a[1].s)
		if !ok {
			return nullOf(Dynamic)
		}
		return dynVal(jsonPath(d, a[0].s))
	}}, t)
}

func formatBytes(_ *exec, a []val) val {
	f := convert(a[0], Real).f
	precision, unit := int64(0), ""
	if len(a) > 1 {
		precision = convert(a[1], Long).i
	}
	if len(a) > 2 {
		unit = a[2].s
	}
	units := []string{"Bytes", "KB", "MB", "GB", "TB", "PB", "EB"}
	i := 0
	for ; i < len(units)-1; i++ {
		if unit == units[i] || unit == "" && f < 1024 && f > -1024 {
			break
		}
		f /= 1024
	}
	if precision < 0 || precision > 15 {
		return strVal("")
	}
	s := strconv.FormatFloat(f, 'f', int(precision), 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return strVal(s + " " + units[i])
}

func treePaths(_ *exec, a []val) val {
	out := []any{}
	var walk func(d any, path string)
	walk = func(d any, path string) {
		switch d := d.(type) {
		case *Bag:
			for i, k := range d.keys {
				p := path + "['" + k + "']"
				out = append(out, p)
				walk(d.vals[i], p)
			}
		case []any:
			if len(d) > 0 {
				p := path + "[0]"
				out = append(out, p)
				walk(d[0], p)
			}
		}
	}
	walk(a[0].d, "")
	return dynVal(out)
}

// parseCommandLine splits as Windows does: spaces outside quotes; a backslash
// before a quote escapes it.
func parseCommandLine(_ *exec, a []val) val {
	s := valText(a[0])
	if a[1].s != "windows" || strings.TrimSpace(s) == "" {
		return nullOf(Dynamic)
	}
	out := []any{}
	var cur strings.Builder
	quoted, have := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			j := i
			for j < len(s) && s[j] == '\\' {
				j++
			}
			n := j - i
			if j < len(s) && s[j] == '"' {
				cur.WriteString(strings.Repeat(`\`, n/2))
				if n%2 == 1 {
					cur.WriteByte('"')
					j++
				}
			} else {
				cur.WriteString(strings.Repeat(`\`, n))
			}
			i, have = j-1, true
		case c == '"':
			quoted, have = !quoted, true
		case (c == ' ' || c == '\t') && !quoted:
			if have {
				out = append(out, cur.String())
				cur.Reset()
				have = false
			}
		default:
			cur.WriteByte(c)
			have = true
		}
	}
	if have {
		out = append(out, cur.String())
	}
	return dynVal(out)
}

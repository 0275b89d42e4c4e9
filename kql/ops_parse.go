package kql

import (
	"fmt"
	"iter"
	"regexp"
	"strings"
)

// parse [kind=simple|regex|relaxed] [flags=F] EXPR with [*] TEXT NAME[:TYPE] …
// parse-where keeps the rows that match.

type parsePart struct {
	text string // a literal; with isText
	name string // a column
	typ  Type
	kind byte // 't' text, 'c' column, '*'
}

type parseOp struct {
	opBase
	kind  string
	flags string
	x     node
	parts []parsePart
}

func readParse(p *parser, o opBase) operator {
	op := &parseOp{opBase: o}
	params := p.params("kind", "flags")
	op.kind = p.paramWord(params["kind"], "kind")
	op.flags = p.paramWord(params["flags"], "flags")
	op.x = p.unary()
	p.expectWord("with")
	for {
		t := p.peek()
		switch {
		case t.kind == tokString:
			p.next()
			op.parts = append(op.parts, parsePart{kind: 't', text: t.str})
			continue
		case p.acceptPunct("*"):
			op.parts = append(op.parts, parsePart{kind: '*'})
			continue
		case p.nameAhead(0) > 0:
			part := parsePart{kind: 'c', name: p.name(), typ: String}
			if p.acceptPunct(":") {
				part.typ = p.typeName()
			}
			op.parts = append(op.parts, part)
			continue
		}
		break
	}
	if len(op.parts) == 0 {
		p.fail("a pattern is expected")
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *parseOp) bind(b *binder, in rel) rel {
	r := &parseRel{in: in, filter: o.name == "parse-where"}
	switch o.kind {
	case "", "simple":
		r.strict = true
	case "regex":
		r.strict = true
	case "relaxed":
	default:
		b.fail(o, SemanticError, "parse has no kind %q", o.kind)
	}
	b.withRow(rowOf(in), func() { r.x = b.stringOperand(o.x, b.expr(o.x)) })
	r.cols = in.schema().clone()
	for _, p := range o.parts {
		if p.kind != 'c' {
			continue
		}
		at := r.cols.Index(p.name)
		if at < 0 {
			at = len(r.cols)
			r.cols = append(r.cols, Column{p.name, p.typ})
		} else {
			r.cols[at].Type = p.typ
		}
		r.at = append(r.at, at)
		r.types = append(r.types, p.typ)
	}
	pattern := o.pattern(b)
	re, err := compileRegex(pattern)
	if err != nil {
		b.fail(o, SemanticError, "the pattern does not compile: %v", err)
	}
	r.re = re
	return r
}

// pattern translates the parts to one regular expression with a group a column.
func (o *parseOp) pattern(b *binder) string {
	var s strings.Builder
	any := ".*?"
	flags := "s"
	if o.kind == "regex" {
		any = ".*"
		for _, f := range o.flags {
			switch f {
			case 'U':
				any = ".*?"
			case 'i', 'm', 's':
				flags += string(f)
			default:
				b.unsupported(o, "the flag %q of parse is not implemented", string(f))
			}
		}
	}
	fmt.Fprintf(&s, "(?%s)", flags)
	if o.kind != "regex" {
		s.WriteString("^")
	}
	for i, p := range o.parts {
		last := i == len(o.parts)-1
		switch p.kind {
		case 't':
			if o.kind == "regex" {
				s.WriteString("(?:" + nonCapturing(p.text) + ")")
			} else {
				s.WriteString(regexp.QuoteMeta(p.text))
			}
		case '*':
			if last {
				s.WriteString(".*")
			} else {
				s.WriteString(any)
			}
		default:
			followedByStar := !last && o.parts[i+1].kind == '*'
			switch {
			case p.typ.isInteger() && o.kind != "relaxed":
				s.WriteString(`\s*([-+]?\d+)`)
			case p.typ.isNumber() && o.kind != "relaxed":
				s.WriteString(`\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)`)
			case last:
				s.WriteString("(.*)")
			case followedByStar && p.typ != String:
				b.unsupported(o, "a %s column right before * in parse is not implemented", p.typ)
				s.WriteString("(.*?)")
			default:
				s.WriteString("(" + any + ")")
			}
			if p.typ == Bool || p.typ == Decimal || p.typ == Dynamic {
				b.unsupported(o, "parse into a %s column is not implemented", p.typ)
			}
		}
	}
	if o.kind != "regex" {
		s.WriteString("$")
	}
	return s.String()
}

// nonCapturing turns the plain groups of a pattern into non-capturing ones, so
// that the columns keep their numbers.
func nonCapturing(p string) string {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\\' && i+1 < len(p):
			b.WriteByte(c)
			i++
		case c == '[':
			inClass = true
		case c == ']':
			inClass = false
		case c == '(' && !inClass && (i+1 >= len(p) || p[i+1] != '?'):
			b.WriteString("(?:")
			continue
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// parseRel extends rows by what a pattern captures. Where the pattern, or with
// strict a conversion, fails, every column is null.
type parseRel struct {
	in     rel
	x      expr
	re     *regexp.Regexp
	cols   Schema
	at     []int
	types  []Type
	strict bool
	filter bool
}

func (r *parseRel) schema() Schema { return r.cols }

func (r *parseRel) prune(need []bool) {
	n := len(r.in.schema())
	below := append([]bool(nil), need[:n]...)
	for _, at := range r.at {
		if at < n {
			below[at] = false
		}
	}
	walkColumns(r.x, func(i int) { below[i] = true })
	r.in.prune(below)
}

func (r *parseRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for b := range r.in.run(x) {
			v := r.x.eval(x, b)
			out := &Batch{Columns: make([]*Vector, len(r.cols)), n: b.n}
			copy(out.Columns, b.Columns)
			for k, at := range r.at {
				out.Columns[at] = newVector(r.types[k], b.n)
			}
			var keep []int32
			for i := range b.n {
				if i&1023 == 0 {
					x.check()
				}
				if r.row(out, i, v.str(i)) {
					keep = append(keep, int32(i))
				}
			}
			if r.filter && len(keep) < b.n {
				out = out.gather(keep)
			}
			if !yield(out) {
				return
			}
		}
	}
}

func (r *parseRel) row(out *Batch, i int, s string) bool {
	m := r.re.FindStringSubmatch(s)
	vals := make([]val, len(r.at))
	ok := m != nil
	for k := range r.at {
		if m == nil {
			vals[k] = nullOf(r.types[k])
			continue
		}
		vals[k] = convert(strVal(m[k+1]), r.types[k])
		ok = ok && !vals[k].null
	}
	for k, at := range r.at {
		if !ok && r.strict {
			vals[k] = nullOf(r.types[k])
		}
		out.Columns[at].set(i, vals[k])
	}
	return ok
}

// parse-kv EXPR as (k:type, …) with (pair_delimiter=P, kv_delimiter=K, quote=Q)

type parseKVOp struct {
	opBase
	x    node
	cols Schema
	opts map[string]node
}

func readParseKV(p *parser, o opBase) operator {
	op := &parseKVOp{opBase: o, x: p.expr(), opts: map[string]node{}}
	p.expectWord("as")
	op.cols = p.schemaDecl().cols
	if p.acceptWord("with") {
		p.expectPunct("(")
		for !p.isPunct(")") {
			name := p.name()
			p.expectPunct("=")
			op.opts[name] = p.expr()
			if !p.acceptPunct(",") {
				break
			}
		}
		p.expectPunct(")")
	}
	op.span = p.spanFrom(o)
	return op
}

func (o *parseKVOp) bind(b *binder, in rel) rel {
	r := &parseKVRel{in: in, keys: o.cols}
	b.withRow(rowOf(in), func() {
		r.x = b.stringOperand(o.x, b.expr(o.x))
		text := func(name string) string {
			n := o.opts[name]
			if n == nil {
				return ""
			}
			c, ok := b.expr(n).(*constExpr)
			if !ok || c.v.t != String {
				b.fail(n, SemanticError, "%s takes a string literal", name)
			}
			return c.v.s
		}
		r.pair, r.kv, r.quote = text("pair_delimiter"), text("kv_delimiter"), text("quote")
		for name, n := range o.opts {
			switch name {
			case "pair_delimiter", "kv_delimiter", "quote":
			default:
				b.unsupported(n, "the option %q of parse-kv is not implemented", name)
			}
		}
	})
	if r.pair == "" || r.kv == "" {
		b.unsupported(o, "parse-kv without both delimiters is not implemented")
	}
	if len(r.quote) > 1 {
		b.unsupported(o, "a pair of quotes in parse-kv is not implemented")
	}
	r.cols = in.schema().clone()
	for _, c := range o.cols {
		at := r.cols.Index(c.Name)
		if at < 0 {
			at = len(r.cols)
			r.cols = append(r.cols, c)
		} else {
			r.cols[at] = c
		}
		r.at = append(r.at, at)
	}
	return r
}

// parseKVRel extends rows by the values of named keys; the first of a key wins.
type parseKVRel struct {
	in              rel
	x               expr
	keys            Schema
	cols            Schema
	at              []int
	pair, kv, quote string
}

func (r *parseKVRel) schema() Schema { return r.cols }
func (r *parseKVRel) prune([]bool)   { r.in.prune(allNeeded(r.in)) }

func (r *parseKVRel) run(x *exec) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		for b := range r.in.run(x) {
			v := r.x.eval(x, b)
			out := &Batch{Columns: make([]*Vector, len(r.cols)), n: b.n}
			copy(out.Columns, b.Columns)
			for k, at := range r.at {
				out.Columns[at] = newVector(r.keys[k].Type, b.n)
			}
			for i := range b.n {
				found := r.pairs(v.str(i))
				for k, at := range r.at {
					c := nullOf(r.keys[k].Type)
					if s, ok := found[r.keys[k].Name]; ok {
						c = convert(strVal(s), r.keys[k].Type)
					}
					out.Columns[at].set(i, c)
				}
			}
			if !yield(out) {
				return
			}
		}
	}
}

func (r *parseKVRel) pairs(s string) map[string]string {
	out := map[string]string{}
	for _, pair := range r.split(s) {
		k, v, ok := strings.Cut(pair, r.kv)
		if !ok {
			continue
		}
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		if i := strings.LastIndexAny(k, " \t"); i >= 0 { // the key is the last word
			k = k[i+1:]
		}
		if r.quote != "" && len(v) >= 2 && strings.HasPrefix(v, r.quote) && strings.HasSuffix(v, r.quote) {
			v = v[1 : len(v)-1]
		}
		if _, dup := out[k]; !dup {
			out[k] = v
		}
	}
	return out
}

func (r *parseKVRel) split(s string) []string {
	if r.quote == "" {
		return strings.Split(s, r.pair)
	}
	var out []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == r.quote[0]:
			quoted = !quoted
		case !quoted && strings.HasPrefix(s[i:], r.pair):
			out = append(out, s[start:i])
			i += len(r.pair) - 1
			start = i + 1
		}
	}
	return append(out, s[start:])
}

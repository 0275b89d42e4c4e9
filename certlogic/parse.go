package certlogic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong with an expression.
type Problem struct {
	// Path leads to the place from the root of the expression: $.if[0].var.
	Path string `json:"path"`
	// Line and Column count from 1, Column in bytes; Offset counts bytes from 0.
	Line   int `json:"line"`
	Column int `json:"column"`
	Offset int `json:"offset"`
	// Message says what is wrong and what is allowed.
	Message string `json:"message"`
	// Expr is the source of the expression that has the problem.
	Expr json.RawMessage `json:"expr,omitempty"`
}

func (p Problem) String() string {
	return fmt.Sprintf("%d:%d (%s): %s", p.Line, p.Column, p.Path, p.Message)
}

// Problems are all problems of an expression, in the order of the source.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds how many problems are reported.
const maxProblems = 100

// source is a node of the JSON that an expression is written in, with its
// place.
type source struct {
	kind       Kind
	value      Value // of a literal
	start, end int
	keys       []string
	items      []*source
}

// reader builds sources.
type reader struct {
	src   []byte
	dec   *json.Decoder
	nodes int
}

func readSource(src []byte) (*source, error) {
	if len(src) > MaxSource {
		return nil, fmt.Errorf("the expression is over %d bytes", MaxSource)
	}
	if !utf8.Valid(src) {
		return nil, errors.New("the expression is not UTF-8")
	}
	r := &reader{src: src, dec: json.NewDecoder(bytes.NewReader(src))}
	r.dec.UseNumber()
	s, err := r.read(MaxDepth)
	if err != nil {
		return nil, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, r.fail(r.next(), "something follows the expression")
	}
	return s, nil
}

// next returns where the next token begins.
func (r *reader) next() int {
	i := int(r.dec.InputOffset())
	for i < len(r.src) && strings.IndexByte(" \t\r\n,:", r.src[i]) >= 0 {
		i++
	}
	return i
}

func (r *reader) fail(at int, why string) error {
	line, column := place(r.src, at)
	return Problems{{Path: "$", Line: line, Column: column, Offset: at, Message: why}}
}

func place(src []byte, at int) (line, column int) {
	before := src[:min(at, len(src))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

func (r *reader) read(depth int) (*source, error) {
	s := &source{start: r.next()}
	if depth <= 0 {
		return nil, r.fail(s.start, fmt.Sprintf("nested deeper than %d", MaxDepth))
	}
	if r.nodes++; r.nodes > MaxNodes {
		return nil, r.fail(s.start, fmt.Sprintf("the expression has over %d nodes", MaxNodes))
	}
	token, err := r.dec.Token()
	if err != nil {
		return nil, r.fail(s.start, "not JSON: "+err.Error())
	}
	switch t := token.(type) {
	case json.Delim:
		s.kind = Object
		if t == '[' {
			s.kind = Array
		}
		if err := r.readInto(s, depth); err != nil {
			return nil, err
		}
	case bool:
		s.kind, s.value = Bool, BoolValue(t)
	case string:
		s.kind, s.value = String, StringValue(t)
	case json.Number:
		n, err := t.Float64()
		if err != nil {
			return nil, r.fail(s.start, "a number out of range")
		}
		s.kind, s.value = Number, NumberValue(n)
	}
	s.end = int(r.dec.InputOffset())
	return s, nil
}

func (r *reader) readInto(s *source, depth int) error {
	for r.dec.More() {
		if s.kind == Object {
			at := r.next()
			token, err := r.dec.Token()
			if err != nil {
				return r.fail(at, "not JSON: "+err.Error())
			}
			key, _ := token.(string)
			s.keys = append(s.keys, key)
		}
		item, err := r.read(depth - 1)
		if err != nil {
			return err
		}
		s.items = append(s.items, item)
	}
	if _, err := r.dec.Token(); err != nil {
		return r.fail(r.next(), "not JSON: "+err.Error())
	}
	return nil
}

// node is a well-formed expression.
type node struct {
	op   string // "" for a literal, "[]" for an array
	args []*node
	// value is a literal's value, and that of an array of literals.
	value Value
	path  string     // of var
	steps []fragment // of var
	index int        // of extractFromUVCI
	shift shift      // of plusTime
	where *where
	// lambda says that the node is evaluated with reduce's data.
	lambda bool
	// bad says why the node cannot be evaluated.
	bad string
}

// where is the way to a node from the root: a step and what comes before it.
// The root is nil.
type where struct {
	before *where
	op     string // or an index
	index  int
}

func (w *where) in(op string) *where { return &where{before: w, op: op, index: -1} }

func (w *where) at(i int) *where { return &where{before: w, index: i} }

func (w *where) String() string {
	if w == nil {
		return "$"
	}
	if w.index >= 0 {
		return w.before.String() + "[" + strconv.Itoa(w.index) + "]"
	}
	return w.before.String() + "." + clip(w.op)
}

// operation says how many operands an operation has, and its form.
type operation struct {
	least, most int // most 0: any number
	what        string
	// tolerant says that implementations ignore operands beyond the most.
	tolerant bool
}

func operationOf(op string) (operation, bool) {
	switch op {
	case "if", "plusTime", "reduce":
		return operation{3, 3, "exactly 3 operands", true}, true
	case "and":
		return operation{2, 0, "at least 2 operands", false}, true
	case "<", ">", "<=", ">=", "after", "before", "not-after", "not-before":
		return operation{2, 3, "2 or 3 operands", false}, true
	case "===", "in", "+":
		return operation{2, 2, "exactly 2 operands", false}, true
	case "extractFromUVCI":
		return operation{2, 2, "exactly 2 operands", true}, true
	case "!", "dccDateOfBirth":
		return operation{1, 1, "exactly 1 operand", true}, true
	}
	return operation{}, false
}

// checker turns sources into nodes and notes what is wrong.
type checker struct {
	src      []byte
	problems Problems
}

// breaks notes a problem that keeps the node from being evaluated.
func (c *checker) breaks(n *node, s, expr *source, w *where, format string, args ...any) {
	n.bad = fmt.Sprintf(format, args...)
	c.note(s, expr, w, "%s", n.bad)
}

func (c *checker) note(s, expr *source, w *where, format string, args ...any) {
	if len(c.problems) >= maxProblems {
		return
	}
	line, column := place(c.src, s.start)
	c.problems = append(c.problems, Problem{Path: w.String(), Line: line, Column: column, Offset: s.start,
		Message: fmt.Sprintf(format, args...), Expr: json.RawMessage(c.src[expr.start:expr.end])})
}

// expression checks one expression. A node with a problem fails when it is
// evaluated, except where implementations agree to look over it.
func (c *checker) expression(s *source, where *where, lambda bool) *node {
	n := &node{where: where, lambda: lambda, value: s.value}
	switch s.kind {
	case Bool, String:
	case Number:
		if !s.value.isInteger() {
			c.breaks(n, s, s, where, "%s is not an integer", s.value)
		}
	case Null:
		c.breaks(n, s, s, where, "null is not an expression")
	case Array:
		c.array(n, s)
	case Object:
		c.operation(n, s)
	}
	return n
}

// array checks an array; one of literals only is a literal.
func (c *checker) array(n *node, s *source) {
	values := make([]Value, len(s.items))
	for i, item := range s.items {
		if item.kind == String || item.kind == Bool || item.value.isInteger() {
			values[i] = item.value
			if n.args != nil {
				n.args = append(n.args, &node{value: item.value})
			}
			continue
		}
		arg := c.expression(item, n.where.at(i), n.lambda)
		if n.args == nil && arg.isLiteral() {
			values[i] = arg.value
			continue
		}
		if n.args == nil {
			n.op, n.args = "[]", make([]*node, 0, len(s.items))
			for _, v := range values[:i] {
				n.args = append(n.args, &node{value: v})
			}
		}
		n.args = append(n.args, arg)
	}
	if n.args == nil {
		n.value = arrayValue(values)
	}
}

func (n *node) isLiteral() bool { return n.op == "" && n.bad == "" }

func (c *checker) operation(n *node, s *source) {
	if len(s.keys) != 1 {
		c.breaks(n, s, s, n.where, "an operation is an object with exactly one key, this one has %d", len(s.keys))
		return
	}
	n.op = s.keys[0]
	where, operands := n.where.in(n.op), s.items[0]
	if n.op == "var" {
		c.access(n, s, operands, where)
		return
	}
	if operands.kind != Array {
		c.breaks(n, operands, s, where, "an operation has the form {%q: [operands]}", clip(n.op))
		return
	}
	form, ok := operationOf(n.op)
	if !ok {
		c.breaks(n, s, s, where, "%q is not an operation", clip(n.op))
		return
	}
	count := len(operands.items)
	if count < form.least || form.most > 0 && count > form.most {
		c.breaks(n, operands, s, where, "%q takes %s, here are %d", n.op, form.what, count)
		if count > form.most && form.tolerant {
			n.bad = ""
		} else if form.most == 1 {
			return
		}
	}
	for i, item := range operands.items {
		at := where.at(i)
		switch {
		case form.most > 0 && i >= form.most: // noted as one too many
		case i == 1 && n.op == "plusTime":
			if !item.value.isInteger() {
				c.breaks(n, item, s, at, "the amount of plusTime is a literal integer")
			} else if math.Abs(item.value.num) > 1<<40 {
				c.breaks(n, item, s, at, "the amount of plusTime is out of range")
			}
			n.shift.amount = int64(item.value.num)
		case i == 2 && n.op == "plusTime":
			var ok bool
			if n.shift.unit, ok = parseUnit(item.value.Text()); !ok {
				c.breaks(n, item, s, at, `the unit of plusTime is "year", "month", "day" or "hour"`)
			}
		case i == 1 && n.op == "extractFromUVCI":
			if !item.value.isInteger() {
				c.breaks(n, item, s, at, "the index of extractFromUVCI is a literal integer")
			}
			n.index = int(min(max(item.value.num, -1), 1<<30))
		default:
			n.args = append(n.args, c.expression(item, at, n.lambda || n.op == "reduce" && i == 1))
		}
	}
}

func (c *checker) access(n *node, s, operand *source, where *where) {
	if operand.kind != String {
		c.breaks(n, operand, s, where, `a data access has the form {"var": "path"}`)
		return
	}
	n.path = operand.value.str
	if n.path == "" {
		return
	}
	if strings.Count(n.path, ".") >= MaxDepth {
		c.breaks(n, operand, s, where, "the path has over %d fragments", MaxDepth)
		return
	}
	empty := false
	for _, f := range strings.Split(n.path, ".") {
		empty = empty || f == ""
		n.steps = append(n.steps, newFragment(f))
	}
	if empty {
		c.note(operand, s, where, "the path %q has an empty fragment", clip(n.path))
	}
}

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	for i := range s {
		if i > most {
			return s[:i] + "…"
		}
	}
	return s
}

package kql

// span is the place of a node in the text, in bytes.
type span struct{ pos, end int }

func (s span) place() span { return s }

// node is a syntax tree node that yields a value or a table.
type node interface{ place() span }

type (
	nameNode struct { // a column, variable, table or a wildcard pattern
		span
		name string
	}
	literalNode struct {
		span
		v val
	}
	badLiteralNode struct { // datetime(nonsense): syntax, but no value
		span
		typ Type
	}
	starNode  struct{ span }
	unaryNode struct {
		span
		op string
		x  node
	}
	binaryNode struct {
		span
		op    string
		opPos int
		l, r  node
	}
	inNode struct { // in, !in, in~, !in~, has_any, has_all
		span
		op   string
		l    node
		list []node
	}
	betweenNode struct {
		span
		not    bool
		x      node
		lo, hi node
	}
	callNode struct {
		span
		name string
		args []argument
	}
	pathNode struct { // base.name
		span
		base node
		name string
	}
	indexNode struct { // base[index]
		span
		base  node
		index node
	}
	typeofNode struct {
		span
		typ  Type
		star bool
	}
	clientParamNode struct{ span } // {name}
	namedNode       struct {       // name = expr, (a, b) = expr
		span
		names []string
		x     node
	}
	pipeNode struct { // source | operator | …
		span
		src node
		ops []operator
	}
	sourceNode struct { // an operator that begins a query: print, range, union …
		span
		op operator
	}
	lambdaNode struct {
		span
		params []parameter
		body   []statement
	}
	schemaNode struct { // (a:string, b:long), (*)
		span
		cols Schema
		open bool
	}
)

type argument struct {
	name string // "" when positional
	x    node
}

// parameter of a lambda: scalar (typ), or tabular (table, open when it ends
// in *).
type parameter struct {
	name  string
	typ   Type
	table *schemaNode
	def   node
	pos   int
}

// operator is a tabular operator of the syntax tree. It binds itself onto its
// input; in is nil where the operator begins a query.
type operator interface {
	node
	opName() string
	bind(b *binder, in rel) rel
}

type opBase struct {
	span
	name string
}

func (o opBase) opName() string { return o.name }

type statement interface{ place() span }

type (
	letStmt struct {
		span
		name string
		x    node
	}
	exprStmt struct {
		span
		x node
	}
	setStmt struct {
		span
		name string
	}
)

// Query is a parsed text. It is immutable and may be bound many times, also
// concurrently.
type Query struct {
	text  string
	stmts []statement
}

// Text returns the text that was parsed.
func (q *Query) Text() string { return q.text }

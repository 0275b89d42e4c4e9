package certlogic

import (
	"slices"
)

// clockPath is where rules find the validation clock.
const clockPath = "external.validationClock"

// Expr is a well-formed CertLogic expression. It is immutable and safe for
// concurrent use.
type Expr struct {
	root *node
	eval evalFunc
	// explained is the same program, noting what each node evaluated to.
	explained evalFunc
}

// Parse reads, checks and compiles an expression. An error about the expression
// is Problems: everything that is wrong with it.
func Parse(src []byte) (*Expr, error) {
	s, err := readSource(src)
	if err != nil {
		return nil, err
	}
	c := &checker{src: src}
	root := c.expression(s, nil, false)
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	return &Expr{root: root, eval: compile(root, false), explained: compile(root, true)}, nil
}

// Evaluate evaluates the expression over data. An error is an *EvalError.
func (e *Expr) Evaluate(data Value) (Value, error) {
	m := machine{data: data, steps: MaxSteps}
	return e.eval(&m)
}

// Accesses returns the paths of the data that the expression may read, in the
// order of the source, without those of reduce's own data.
func (e *Expr) Accesses() []string {
	var paths []string
	e.root.walk(func(n *node) {
		if n.op == "var" && !n.lambda && !slices.Contains(paths, n.path) {
			paths = append(paths, n.path)
		}
	})
	return paths
}

// String returns the expression in infix notation, for people.
func (e *Expr) String() string { return e.root.String() }

func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, a := range n.args {
		a.walk(visit)
	}
}

// isClock reports whether the node is the validation clock.
func (n *node) isClock() bool { return n.op == "var" && !n.lambda && n.path == clockPath }

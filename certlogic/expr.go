package certlogic

import (
	"slices"
)

// clockPath is where rules find the validation clock.
const clockPath = "external.validationClock"

// Expr is a CertLogic expression. It is immutable and safe for concurrent use.
type Expr struct {
	root *node
	eval evalFunc
	// explained is the same program, noting what each node evaluated to.
	explained evalFunc
}

// Parse reads, checks and compiles an expression, and refuses one that has any
// problem. An error about the expression is Problems: everything that is wrong
// with it.
func Parse(src []byte) (*Expr, error) {
	e, problems, err := ParseTolerant(src)
	if err == nil && len(problems) > 0 {
		err = problems
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ParseTolerant reads, checks and compiles an expression as the EU's verifiers
// take it: what is malformed is an error only when evaluation gets there, and
// operands that are too many for if, !, plusTime, reduce, dccDateOfBirth and
// extractFromUVCI are ignored. It is for rules of others that have to be
// applied as they are; problems are everything that Parse would refuse. The
// error is about what is no expression at all, or too large.
func ParseTolerant(src []byte) (*Expr, Problems, error) {
	s, err := readSource(src)
	if err != nil {
		return nil, nil, err
	}
	c := &checker{src: src}
	root := c.expression(s, nil, false)
	return &Expr{root: root, eval: compile(root, false), explained: compile(root, true)}, c.problems, nil
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

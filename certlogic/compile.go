package certlogic

import (
	"fmt"
	"strings"
)

// EvalError says which operation could not be evaluated, and why. It names the
// kinds of values, never a value.
type EvalError struct {
	// Path leads to the operation from the root of the expression.
	Path    string
	Message string
}

func (e *EvalError) Error() string { return e.Path + ": " + e.Message }

// machine is the state of one evaluation.
type machine struct {
	data Value
	// current and accumulator are the data of the innermost reduce.
	current, accumulator Value
	steps                int
	// trace is nil unless the evaluation is to be explained.
	trace *trace
}

type evalFunc func(*machine) (Value, error)

func (n *node) fail(format string, args ...any) (Value, error) {
	return Value{}, &EvalError{Path: n.where.String(), Message: fmt.Sprintf(format, args...)}
}

// spend counts work; false means that the evaluation did too much.
func (m *machine) spend(steps int) bool {
	m.steps -= steps
	return m.steps >= 0
}

func (n *node) tooMuch() (Value, error) {
	return n.fail("the evaluation took over %d steps", MaxSteps)
}

// compile makes a closure of a node. A traced closure notes what it evaluated
// to; that is all the difference.
func compile(n *node, traced bool) evalFunc {
	f := build(n, traced)
	if !traced {
		return f
	}
	return func(m *machine) (Value, error) {
		v, err := f(m)
		if err == nil && m.trace != nil && !n.lambda {
			m.trace.values[n] = v
		}
		return v, err
	}
}

func build(n *node, traced bool) evalFunc {
	if n.bad != "" {
		return func(*machine) (Value, error) { return n.fail("%s", n.bad) }
	}
	args := make([]evalFunc, len(n.args))
	for i, a := range n.args {
		args[i] = compile(a, traced)
	}
	switch n.op {
	case "":
		v := n.value
		return func(*machine) (Value, error) { return v, nil }
	case "[]":
		return buildArray(n, args)
	case "var":
		return buildVar(n)
	case "if":
		return buildIf(n, args)
	case "and":
		return buildAnd(n, args)
	case "!":
		return buildNot(n, args[0])
	case "===":
		return buildEqual(n, args)
	case "in":
		return buildIn(n, args)
	case "+":
		return buildPlus(n, args)
	case "<", ">", "<=", ">=":
		return buildCompare(n, args, Number, "an integer", n.op)
	case "after":
		return buildCompare(n, args, DateTime, "a date-time", ">")
	case "before":
		return buildCompare(n, args, DateTime, "a date-time", "<")
	case "not-after":
		return buildCompare(n, args, DateTime, "a date-time", "<=")
	case "not-before":
		return buildCompare(n, args, DateTime, "a date-time", ">=")
	case "plusTime":
		return buildPlusTime(n, args[0])
	case "dccDateOfBirth":
		return buildDateOfBirth(n, args[0])
	case "extractFromUVCI":
		return buildExtract(n, args[0])
	case "reduce":
		return buildReduce(n, args)
	}
	// The checker lets no other operation through.
	return func(*machine) (Value, error) { return n.fail("unknown operation") }
}

func buildArray(n *node, args []evalFunc) evalFunc {
	return func(m *machine) (Value, error) {
		if !m.spend(len(args)) {
			return n.tooMuch()
		}
		items := make([]Value, len(args))
		weight := 1
		for i, arg := range args {
			var err error
			if items[i], err = arg(m); err != nil {
				return Value{}, err
			}
			if weight += items[i].weight(); weight > MaxValues {
				return n.fail("the array has over %d values", MaxValues)
			}
		}
		return arrayValue(items), nil
	}
}

func buildVar(n *node) evalFunc {
	steps := n.steps
	if n.lambda {
		return buildLambdaVar(n)
	}
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		return m.data.drill(steps), nil
	}
}

// buildLambdaVar reads reduce's data, {"accumulator": …, "current": …}, without
// building that object for every item.
func buildLambdaVar(n *node) evalFunc {
	steps := n.steps
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		if len(steps) == 0 {
			v := objectValue([]string{"accumulator", "current"}, []Value{m.accumulator, m.current})
			if v.weight() > MaxValues {
				return n.fail("the data of reduce has over %d values", MaxValues)
			}
			return v, nil
		}
		switch steps[0].key {
		case "current":
			return m.current.drill(steps[1:]), nil
		case "accumulator":
			return m.accumulator.drill(steps[1:]), nil
		}
		return Value{}, nil
	}
}

// condition evaluates an operand that must be truthy or falsy.
func (n *node) condition(m *machine, arg evalFunc) (v Value, truthy bool, err error) {
	if v, err = arg(m); err != nil {
		return v, false, err
	}
	truthy, ok := v.truth()
	if !ok {
		what := v.kind.String()
		if v.kind == Number {
			what = "a number that is not an integer"
		}
		_, err = n.fail("a condition is %s, which is neither truthy nor falsy", what)
	}
	return v, truthy, err
}

func buildIf(n *node, args []evalFunc) evalFunc {
	guard, then, otherwise := args[0], args[1], args[2]
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		_, truthy, err := n.condition(m, guard)
		if err != nil {
			return Value{}, err
		}
		if truthy {
			return then(m)
		}
		return otherwise(m)
	}
}

// buildAnd evaluates lazily and gives the first falsy operand, or the last.
func buildAnd(n *node, args []evalFunc) evalFunc {
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		var v Value
		for _, arg := range args {
			var truthy bool
			var err error
			if v, truthy, err = n.condition(m, arg); err != nil || !truthy {
				return v, err
			}
		}
		return v, nil
	}
}

func buildNot(n *node, arg evalFunc) evalFunc {
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		_, truthy, err := n.condition(m, arg)
		if err != nil {
			return Value{}, err
		}
		return BoolValue(!truthy), nil
	}
}

func buildEqual(n *node, args []evalFunc) evalFunc {
	left, right := args[0], args[1]
	return func(m *machine) (Value, error) {
		l, err := left(m)
		if err != nil {
			return Value{}, err
		}
		r, err := right(m)
		if err != nil {
			return Value{}, err
		}
		if !m.spend(l.weight()) {
			return n.tooMuch()
		}
		return BoolValue(l.equal(r)), nil
	}
}

func buildIn(n *node, args []evalFunc) evalFunc {
	member, list := args[0], args[1]
	return func(m *machine) (Value, error) {
		v, err := member(m)
		if err != nil {
			return Value{}, err
		}
		in, err := list(m)
		if err != nil {
			return Value{}, err
		}
		if in.kind != Array {
			return n.fail("the second operand of in is %s, not an array", in.kind)
		}
		if in.ref.set != nil {
			if !m.spend(1) {
				return n.tooMuch()
			}
			return BoolValue(v.kind == String && in.ref.set[v.str]), nil
		}
		for _, item := range in.ref.items {
			if !m.spend(min(v.weight(), item.weight())) {
				return n.tooMuch()
			}
			if v.equal(item) {
				return BoolValue(true), nil
			}
		}
		return BoolValue(false), nil
	}
}

func buildPlus(n *node, args []evalFunc) evalFunc {
	left, right := args[0], args[1]
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		l, err := left(m)
		if err != nil {
			return Value{}, err
		}
		r, err := right(m)
		if err != nil {
			return Value{}, err
		}
		for _, v := range []Value{l, r} {
			if !v.isInteger() {
				return n.fail("an operand is %s, not an integer", v.kind)
			}
		}
		return NumberValue(l.num + r.num), nil
	}
}

// buildCompare is for integers and for date-times: a op b, or a op b and
// b op c. All operands are evaluated first.
func buildCompare(n *node, args []evalFunc, kind Kind, want, op string) evalFunc {
	holds := comparison(op)
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		var v [3]Value
		for i, arg := range args {
			var err error
			if v[i], err = arg(m); err != nil {
				return Value{}, err
			}
		}
		for _, operand := range v[:len(args)] {
			if operand.kind != kind || kind == Number && !operand.isInteger() {
				return n.fail("an operand of %s is %s, not %s", n.op, operand.kind, want)
			}
		}
		if m.trace != nil && kind == DateTime {
			for i := range len(args) - 1 {
				m.trace.compared(v[i], v[i+1])
			}
		}
		ok := holds(v[0].num, v[1].num)
		if ok && len(args) == 3 {
			ok = holds(v[1].num, v[2].num)
		}
		return BoolValue(ok), nil
	}
}

func comparison(op string) func(a, b float64) bool {
	switch op {
	case "<":
		return func(a, b float64) bool { return a < b }
	case ">":
		return func(a, b float64) bool { return a > b }
	case "<=":
		return func(a, b float64) bool { return a <= b }
	}
	return func(a, b float64) bool { return a >= b }
}

func buildPlusTime(n *node, arg evalFunc) evalFunc {
	amount, unit := n.shift.amount, n.shift.unit
	// The clock's date-times say so, for the search over the clock.
	var ref *composite
	if n.args[0].isClock() {
		ref = &composite{shift: &n.shift}
	}
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		v, err := arg(m)
		if err != nil {
			return Value{}, err
		}
		if v.kind != String {
			return n.fail("the date of plusTime is %s, not a string", v.kind)
		}
		ms, err := parseDate(v.str)
		if err != nil {
			return n.fail("the date of plusTime is %v", err)
		}
		ms, ok := plusTime(ms, amount, unit)
		if !ok {
			return n.fail("the date-time is out of range")
		}
		return Value{kind: DateTime, num: float64(ms), ref: ref}, nil
	}
}

func buildDateOfBirth(n *node, arg evalFunc) evalFunc {
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		v, err := arg(m)
		if err != nil {
			return Value{}, err
		}
		if v.kind != String {
			return n.fail("the operand of dccDateOfBirth is %s, not a string", v.kind)
		}
		ms, err := parsePartialDate(v.str)
		if err != nil {
			return n.fail("the operand of dccDateOfBirth is %v", err)
		}
		return dateValue(ms), nil
	}
}

// buildExtract takes a UVCI apart at its separators, after the optional prefix.
func buildExtract(n *node, arg evalFunc) evalFunc {
	return func(m *machine) (Value, error) {
		v, err := arg(m)
		if err != nil {
			return Value{}, err
		}
		if v.kind == Null {
			return Value{}, nil
		}
		if v.kind != String {
			return n.fail("the operand of extractFromUVCI is %s, not a string or null", v.kind)
		}
		if !m.spend(1 + len(v.str)/16) {
			return n.tooMuch()
		}
		if n.index < 0 {
			return Value{}, nil
		}
		rest := strings.TrimPrefix(v.str, "URN:UVCI:")
		for range n.index {
			end := strings.IndexAny(rest, "/#:")
			if end < 0 {
				return Value{}, nil
			}
			rest = rest[end+1:]
		}
		if end := strings.IndexAny(rest, "/#:"); end >= 0 {
			rest = rest[:end]
		}
		return StringValue(rest), nil
	}
}

func buildReduce(n *node, args []evalFunc) evalFunc {
	operand, lambda, initial := args[0], args[1], args[2]
	return func(m *machine) (Value, error) {
		if !m.spend(1) {
			return n.tooMuch()
		}
		list, err := operand(m)
		if err != nil {
			return Value{}, err
		}
		if list.kind != Null && list.kind != Array {
			return n.fail("the operand of reduce is %s, not an array", list.kind)
		}
		result, err := initial(m)
		if err != nil || list.kind == Null {
			return result, err
		}
		current, accumulator := m.current, m.accumulator
		defer func() { m.current, m.accumulator = current, accumulator }()
		for _, item := range list.ref.items {
			if !m.spend(1) {
				return n.tooMuch()
			}
			m.current, m.accumulator = item, result
			if result, err = lambda(m); err != nil {
				return Value{}, err
			}
		}
		return result, nil
	}
}

package certlogic

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fact is a piece of data that decided a rule.
type Fact struct {
	// Path is where it is: payload.v.0.dt.
	Path  string `json:"path"`
	Value Value  `json:"value"`
}

// Reason is a condition that decided a rule.
type Reason struct {
	// Condition is the condition in infix notation, Values what its operands
	// evaluated to, Result what it evaluated to.
	Condition string  `json:"condition"`
	Values    []Value `json:"values,omitempty"`
	Result    Value   `json:"result"`
	Facts     []Fact  `json:"facts,omitempty"`
}

// Explanation says why a rule came out as it did. It holds values of the
// certificate: it is for the person who holds it, not for a log.
type Explanation struct {
	Result Result `json:"-"`
	// Descriptions are the rule's own texts.
	Descriptions []Description `json:"descriptions"`
	// Reasons are the conditions that decided, in the order of the rule. There
	// are none if the rule is open.
	Reasons []Reason `json:"reasons,omitempty"`
	// Earliest is when the rule will first pass with this certificate, if it
	// does not pass now and time alone decides; else it is zero.
	Earliest time.Time `json:"earliest,omitzero"`
	// Until is when the rule then, or now, ceases to pass by time alone; zero
	// if it does not, or if it is not known.
	Until time.Time `json:"until,omitzero"`
	// TimeKnown says that Earliest and Until are exact: the rule uses the clock
	// for nothing but date-times.
	TimeKnown bool `json:"timeKnown"`
}

// trace is what an explained evaluation notes.
type trace struct {
	values map[*node]Value
	// at is the clock, next the earliest later time at which a comparison of
	// date-times comes out differently; 0 if there is none.
	at, next int64
	// months is how many more months may be looked through for it.
	months int
}

// effort bounds what one explanation may cost, over all its evaluations.
type effort struct{ steps, months int }

func newEffort() *effort { return &effort{steps: MaxSteps, months: MaxSteps} }

// explain evaluates, noting what each node evaluated to.
func (e *Expr) explain(data Value, clock time.Time, left *effort) (Value, *trace, error) {
	m := machine{data: data, steps: left.steps, trace: &trace{values: map[*node]Value{}, at: clock.UnixMilli(), months: left.months}}
	v, err := e.explained(&m)
	left.steps, left.months = m.steps, m.trace.months
	return v, m.trace, err
}

// Explain applies a rule to a certificate and says why it came out as it did.
func (r *Rule) Explain(in *Input) Explanation {
	ex := Explanation{Descriptions: slices.Clone(r.Descriptions)}
	ex.Result = Evaluate([]*Rule{r}, in)[0]
	if ex.Result.Err != nil {
		return ex
	}
	v, tr, err := r.Logic.explain(in.Data(), in.Clock, newEffort())
	if err != nil {
		return ex
	}
	r.Logic.root.blame(tr, v, &ex.Reasons)
	if r.Logic.clockIsOpaque() {
		return ex
	}
	ex.Earliest, ex.Until, ex.TimeKnown = r.window(in)
	return ex
}

// blame collects the conditions to which a value is due. A condition of an if
// is one of them only if the branch that it chose says nothing itself.
func (n *node) blame(tr *trace, v Value, into *[]Reason) {
	switch n.op {
	case "and":
		truthy, _ := v.truth()
		for _, a := range n.args {
			got, ok := tr.values[a]
			if !ok {
				return
			}
			if t, _ := got.truth(); t == truthy {
				a.blame(tr, got, into)
			}
		}
	case "if":
		guard := tr.values[n.args[0]]
		branch := n.args[2]
		if t, _ := guard.truth(); t {
			branch = n.args[1]
		}
		if branch.isLiteral() {
			n.args[0].blame(tr, guard, into)
			return
		}
		branch.blame(tr, v, into)
	case "!":
		before := len(*into)
		n.args[0].blame(tr, tr.values[n.args[0]], into)
		if n.args[0].op == "var" && len(*into) == before+1 {
			(*into)[before].Condition, (*into)[before].Result = n.String(), v
		}
	case "":
	default:
		*into = append(*into, n.reason(tr, v))
	}
}

func (n *node) reason(tr *trace, v Value) Reason {
	r := Reason{Condition: n.String(), Result: v}
	if n.op != "var" {
		for _, a := range n.args {
			if got, ok := tr.values[a]; ok {
				r.Values = append(r.Values, got)
			}
		}
	}
	n.walk(func(in *node) {
		got, ok := tr.values[in]
		known := slices.ContainsFunc(r.Facts, func(f Fact) bool { return f.Path == in.path })
		if ok && in.op == "var" && in.path != "" && !known {
			r.Facts = append(r.Facts, Fact{Path: in.path, Value: got})
		}
	})
	return r
}

// String tells a reason: the condition, and the values in it.
func (r Reason) String() string {
	verdict := "holds"
	if truthy, _ := r.Result.truth(); !truthy {
		verdict = "does not hold"
	}
	facts := make([]string, len(r.Facts))
	for i, f := range r.Facts {
		facts[i] = f.Path + " is " + f.Value.display()
	}
	return fmt.Sprintf("%s %s: %s", r.Condition, verdict, strings.Join(facts, ", "))
}

// clockIsOpaque reports whether the expression uses the validation clock for
// anything but making date-times, so that the times at which its value changes
// cannot be known from its comparisons of date-times.
func (e *Expr) clockIsOpaque() bool {
	opaque := false
	var visit func(n *node, dates bool)
	visit = func(n *node, dates bool) {
		if n.op == "var" && !n.lambda && strings.HasPrefix(clockPath+".", n.path+".") && !dates {
			opaque = true
		}
		if n.op == "var" && !n.lambda && n.path == "" {
			opaque = true
		}
		for i, a := range n.args {
			visit(a, n.op == "plusTime" || n.op == "!" || n.op == "if" && i == 0)
		}
	}
	visit(e.root, false)
	return opaque
}

// maxSweep bounds the evaluations of one search over the clock.
const maxSweep = 500

// window searches the clock for when the rule first passes, and from there for
// when it ceases to. Between two changes of a comparison that its evaluation
// makes, a rule takes the same way and has the same value; so the search goes
// from change to change and misses nothing.
func (r *Rule) window(in *Input) (earliest, until time.Time, known bool) {
	at := *in
	at.Clock = time.UnixMilli(in.Clock.UnixMilli())
	passed, left := false, newEffort()
	for range maxSweep {
		v, tr, err := r.Logic.explain(at.Data(), at.Clock, left)
		if left.steps < 0 || left.months < 0 {
			break
		}
		passes := r.result(v, err).Outcome == Passed
		switch {
		case passes && !passed:
			passed = true
			if !at.Clock.Equal(time.UnixMilli(in.Clock.UnixMilli())) {
				earliest = at.Clock.UTC()
			}
		case !passes && passed:
			return earliest, at.Clock.UTC(), true
		}
		if tr.next == 0 {
			return earliest, time.Time{}, true
		}
		at.Clock = time.UnixMilli(tr.next)
	}
	return time.Time{}, time.Time{}, false
}

// horizon is how far the search over the clock looks for a change of a
// comparison that moves by months: two hundred years.
const horizon = 200 * 366 * msDay

// compared notes when the comparison of two date-times next comes out
// differently.
func (t *trace) compared(a, b Value) {
	if next := nextChange(a, b, t.at, &t.months); next > 0 && (t.next == 0 || next < t.next) {
		t.next = next
	}
}

func (v Value) clockShift() *shift {
	if v.ref == nil {
		return nil
	}
	return v.ref.shift
}

// nextChange returns the earliest time after at at which a and b compare
// differently, given how they move with the clock; 0 if there is none. A
// date-time moves as the clock does, by a constant that changes only from one
// month to the next, and only if it is made by adding months or years. months is
// how many months may be looked through; it falls below 0 if those were too few.
func nextChange(a, b Value, at int64, months *int) int64 {
	sa, sb := a.clockShift(), b.clockShift()
	if sa == nil && sb == nil {
		return 0
	}
	byMonth := sa != nil && sa.byMonth() || sb != nil && sb.byMonth()
	sign := func(clock int64) int {
		x, y := valueAt(a, sa, clock), valueAt(b, sb, clock)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	now := sign(at)
	for from := at; ; *months-- {
		if *months < 0 {
			return 0
		}
		end := int64(maxDate)
		if byMonth {
			y, m, _ := civil(floorDiv(from, msDay))
			end = daysFromCivil(y, m+1, 1) * msDay
		}
		// Within the month, the one that moves meets the other at one time.
		if (sa == nil) != (sb == nil) {
			distance := valueAt(b, sb, from) - valueAt(a, sa, from)
			if sb != nil {
				distance = -distance
			}
			for _, t := range []int64{from + distance, from + distance + 1} {
				if t > at && t >= from && t < end && sign(t) != now {
					return t
				}
			}
		}
		if !byMonth || end-at > horizon {
			return 0
		}
		if sign(end) != now {
			return end
		}
		from = end
	}
}

func (s *shift) byMonth() bool { return s.unit <= month && s.amount != 0 }

func valueAt(v Value, s *shift, clock int64) int64 {
	if s == nil {
		return int64(v.num)
	}
	ms, _ := plusTime(clock, s.amount, s.unit)
	return ms
}

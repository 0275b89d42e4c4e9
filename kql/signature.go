package kql

import (
	_ "embed"
	"strings"
	"sync"
)

// The signatures of every function and aggregate of the language, implemented
// or not: names, argument kinds, result types and how a result column is named
// are facts of the language, and the binder needs them all to type a query.
//
// A line is: name, naming, signatures. Naming: "-" none, "1" the first
// argument's name, "a" the only argument's, "v" the first argument's if it is a
// column, "n" function_argument, "pX" X_argument, "oX" X. A signature is
// result(parameters); "?" marks an optional parameter, "+" a repeated one.
//
// Types: b bool, i int, l long, r real, m decimal, s string, t datetime, n
// timespan, g guid, y dynamic, […] one of. Kinds: * any scalar, I integer, N
// number, M number, datetime or timespan, S string or dynamic, A array, B bag,
// C and K any with all C alike (C also dynamic), X not dynamic, O and P
// orderable, Q number or bool, Y string or array, J integer or array, Z neither
// real nor bool, T table, V typeof(). Results: @0 and @1 the type of that
// parameter, W the widest number, C the common type, P the first one widened,
// L the type named by a typeof argument.
var (
	//go:embed functions.txt
	functionText string
	//go:embed aggregates.txt
	aggregateText string
)

var functionSignatures = sync.OnceValue(func() map[string]*signatures { return parseSignatures(functionText) })
var aggregateSignatures = sync.OnceValue(func() map[string]*signatures { return parseSignatures(aggregateText) })

type signatures struct {
	name   string
	naming byte
	prefix string
	list   []signature
}

type signature struct {
	ret    string
	params []param
}

type param struct {
	kind     byte
	oneOf    string // letters of declared types
	optional bool
	repeat   bool
}

func parseSignatures(text string) map[string]*signatures {
	out := map[string]*signatures{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] == "#" {
			continue
		}
		s := &signatures{name: f[0], naming: f[1][0], prefix: f[1][1:]}
		for _, t := range f[2:] {
			open := strings.IndexByte(t, '(')
			s.list = append(s.list, signature{t[:open], parseParams(t[open+1 : len(t)-1])})
		}
		out[s.name] = s
	}
	return out
}

func parseParams(t string) []param {
	var ps []param
	for i := 0; i < len(t); i++ {
		switch c := t[i]; c {
		case '?':
			ps[len(ps)-1].optional = true
		case '+':
			ps[len(ps)-1].repeat = true
		case '[':
			end := i + strings.IndexByte(t[i:], ']')
			ps = append(ps, param{kind: 'D', oneOf: t[i+1 : end]})
			i = end
		default:
			if strings.IndexByte("bilrmstngy", c) >= 0 {
				ps = append(ps, param{kind: 'D', oneOf: string(c)})
			} else {
				ps = append(ps, param{kind: c})
			}
		}
	}
	return ps
}

func letterType(c byte) Type {
	switch c {
	case 'b':
		return Bool
	case 'i':
		return Int
	case 'l':
		return Long
	case 'r':
		return Real
	case 'm':
		return Decimal
	case 's':
		return String
	case 't':
		return DateTime
	case 'n':
		return TimeSpan
	case 'g':
		return GUID
	}
	return Dynamic
}

// expand lays a signature's parameters out for n arguments in every possible
// way: the repeated block repeated, optional parameters at the end left out.
func (s *signature) expand(n int) [][]param {
	first, last := -1, -1
	need := 0
	for i, p := range s.params {
		if p.repeat {
			if first < 0 {
				first = i
			}
			last = i
		}
		if !p.optional {
			need++
		}
	}
	if first < 0 {
		if n < need || n > len(s.params) {
			return nil
		}
		return [][]param{s.params[:n]}
	}
	block := s.params[first : last+1]
	head, tail := s.params[:first], s.params[last+1:]
	var all [][]param
	for {
		left := n - len(head) - len(tail)
		if left >= 0 && (left > 0 || block[0].optional) && left%len(block) == 0 {
			out := append([]param(nil), head...)
			for range left / len(block) {
				out = append(out, block...)
			}
			all = append(all, append(out, tail...))
		}
		if len(tail) == 0 || !tail[len(tail)-1].optional {
			return all
		}
		tail = tail[:len(tail)-1]
	}
}

// accepts scores an argument of type t for the parameter: 0 does not fit, 3
// fits exactly.
func (p param) accepts(t Type) int {
	yes := func(ok bool) int {
		if ok {
			return 2
		}
		return 0
	}
	switch p.kind {
	case 'D':
		best := 0
		for i := range len(p.oneOf) {
			want := letterType(p.oneOf[i])
			switch {
			case want == t:
				return 3
			case want == Long && t == Int, want == Real && t.isInteger(), want == Decimal && t.isNumber(), want == String && t == Dynamic:
				best = max(best, 1)
			}
		}
		return best
	case '*', 'C', 'K', 'V':
		return 2
	case 'I':
		return yes(t.isInteger())
	case 'N':
		return yes(t.isNumber())
	case 'M':
		return yes(t.isNumber() || t == DateTime || t == TimeSpan)
	case 'S':
		return yes(t == String || t == Dynamic)
	case 'A', 'B':
		return yes(t == Dynamic)
	case 'X':
		return yes(t != Dynamic)
	case 'O', 'P':
		return yes(t != Dynamic)
	case 'Q':
		return yes(t.isNumber() || t == Bool)
	case 'Y':
		return yes(t == String || t == Dynamic)
	case 'J':
		return yes(t.isInteger() || t == Dynamic)
	case 'Z':
		return yes(t != Real && t != Bool)
	}
	return 0
}

// declared is the type to convert an argument of type t to.
func (p param) declared(t Type) Type {
	if p.kind != 'D' {
		return t
	}
	for i := range len(p.oneOf) {
		if letterType(p.oneOf[i]) == t {
			return t
		}
	}
	return letterType(p.oneOf[0])
}

// match picks the signature that fits the argument types best.
func (s *signatures) match(args []Type) (sig *signature, params []param, arity bool) {
	best := -1
	for i := range s.list {
		for _, ps := range s.list[i].expand(len(args)) {
			arity = true
			score := 0
			for k, p := range ps {
				a := p.accepts(args[k])
				if a == 0 {
					score = -1
					break
				}
				score += a
			}
			if score > best {
				best, sig, params = score, &s.list[i], ps
			}
		}
	}
	return sig, params, arity
}

// result is the type of a call, and the type that parameters of common kind
// are converted to (Unknown where none is).
func (sig *signature) result(params []param, args []Type) (ret, common Type) {
	switch sig.ret {
	case "@0":
		return params[0].declared(args[0]), Unknown
	case "@1":
		return params[1].declared(args[1]), Unknown
	case "W":
		w := Int
		for _, t := range args {
			w = widest(w, t)
		}
		if w == Int {
			w = Long
		}
		return w, w
	case "P":
		if args[0] == Int {
			return Long, Unknown
		}
		return args[0], Unknown
	case "C":
		c := Unknown
		for i, p := range params {
			if p.kind == 'C' || p.kind == 'K' || p.kind == 'P' {
				c = commonType(c, args[i])
			}
		}
		return c, c
	case "L":
		return Dynamic, Unknown
	}
	return letterType(sig.ret[0]), Unknown
}

func widest(a, b Type) Type {
	rank := func(t Type) int {
		switch t {
		case Int:
			return 1
		case Long:
			return 2
		case Real:
			return 3
		case Decimal:
			return 4
		}
		return 0
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// commonType is the type of iff, case and coalesce over both; Unknown is
// neutral, dynamic gives way.
func commonType(a, b Type) Type {
	switch {
	case a == Unknown || a == Dynamic && b != Unknown:
		return b
	case b == Unknown || b == Dynamic || a == b:
		return a
	case a.isNumber() && b.isNumber():
		return widest(a, b)
	}
	return Dynamic
}

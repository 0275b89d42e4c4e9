package certlogic

import (
	"strconv"
	"strings"
)

// maxText bounds the text of an expression or a value.
const maxText = 300

// String writes a node in infix notation.
func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *node) write(b *strings.Builder) {
	if b.Len() > maxText {
		if !strings.HasSuffix(b.String(), "…") {
			b.WriteString("…")
		}
		return
	}
	if n.bad != "" {
		b.WriteString("(malformed)")
		return
	}
	switch n.op {
	case "":
		b.WriteString(n.value.display())
	case "[]":
		b.WriteString("[")
		n.writeArgs(b, ", ")
		b.WriteString("]")
	case "var":
		if n.path == "" {
			b.WriteString("it")
			return
		}
		b.WriteString(n.path)
	case "if":
		b.WriteString("if ")
		n.args[0].write(b)
		b.WriteString(" then ")
		n.args[1].write(b)
		b.WriteString(" else ")
		n.args[2].write(b)
	case "!":
		b.WriteString("not ")
		n.args[0].writeOperand(b)
	case "plusTime":
		n.args[0].writeOperand(b)
		b.WriteString(n.shift.String())
	case "extractFromUVCI":
		b.WriteString("extractFromUVCI(")
		n.args[0].write(b)
		b.WriteString(", " + strconv.Itoa(n.index) + ")")
	case "reduce", "dccDateOfBirth":
		b.WriteString(n.op + "(")
		n.writeArgs(b, ", ")
		b.WriteString(")")
	default:
		n.writeArgs(b, " "+n.op+" ")
	}
}

func (n *node) writeArgs(b *strings.Builder, between string) {
	for i, a := range n.args {
		if i > 0 {
			b.WriteString(between)
		}
		if between == ", " {
			a.write(b)
		} else {
			a.writeOperand(b)
		}
	}
}

// writeOperand puts an operation that has operands beside it in parentheses.
func (n *node) writeOperand(b *strings.Builder) {
	switch n.op {
	case "", "[]", "var", "!", "reduce", "dccDateOfBirth", "extractFromUVCI", "plusTime":
		n.write(b)
		return
	}
	b.WriteString("(")
	n.write(b)
	b.WriteString(")")
}

func (s shift) String() string {
	if s.amount == 0 {
		return ""
	}
	sign, n := " + ", s.amount
	if n < 0 {
		sign, n = " - ", -n
	}
	text := sign + strconv.FormatInt(n, 10) + " " + s.unit.String()
	if n != 1 {
		text += "s"
	}
	return text
}

// display writes a value for people, shortened.
func (v Value) display() string {
	switch v.kind {
	case DateTime:
		return formatDate(int64(v.num))
	case Array, Object:
		if v.ref.weight > maxText {
			return v.kind.String()[len("an "):] + " of " + strconv.Itoa(v.Len())
		}
	}
	text := v.String()
	if len(text) > maxText {
		return clip(text)
	}
	return text
}

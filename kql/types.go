package kql

import "strings"

// Type is one of the ten scalar types of the language.
type Type uint8

// The scalar types. Unknown is the type of nothing and never leaves the
// package in a schema.
const (
	Unknown Type = iota
	Bool
	Int
	Long
	Real
	Decimal
	String
	DateTime
	TimeSpan
	GUID
	Dynamic
)

// String returns the type's name as the query API spells it.
func (t Type) String() string {
	switch t {
	case Bool:
		return "bool"
	case Int:
		return "int"
	case Long:
		return "long"
	case Real:
		return "real"
	case Decimal:
		return "decimal"
	case String:
		return "string"
	case DateTime:
		return "datetime"
	case TimeSpan:
		return "timespan"
	case GUID:
		return "guid"
	case Dynamic:
		return "dynamic"
	}
	return "unknown"
}

// ParseType resolves a type name, aliases included (double, date, time …).
// Names are compared as written: Kusto's type names are lower case.
func ParseType(name string) (Type, bool) {
	switch name {
	case "bool", "boolean":
		return Bool, true
	case "int", "int32":
		return Int, true
	case "long", "int64":
		return Long, true
	case "real", "double":
		return Real, true
	case "decimal":
		return Decimal, true
	case "string":
		return String, true
	case "datetime", "date":
		return DateTime, true
	case "timespan", "time":
		return TimeSpan, true
	case "guid", "uuid", "uniqueid":
		return GUID, true
	case "dynamic":
		return Dynamic, true
	}
	return Unknown, false
}

// physical says which slice of a Vector holds values of the type.
type physical uint8

const (
	physBool physical = iota
	physInt
	physFloat
	physString
	physAny
)

func (t Type) physical() physical {
	switch t {
	case Bool:
		return physBool
	case Int, Long, DateTime, TimeSpan:
		return physInt
	case Real:
		return physFloat
	case String, GUID:
		return physString
	}
	return physAny
}

func (t Type) isInteger() bool { return t == Int || t == Long }

func (t Type) isNumber() bool {
	return t == Int || t == Long || t == Real || t == Decimal
}

// Column is a named, typed column.
type Column struct {
	Name string
	Type Type
}

// Schema is an ordered list of columns. Names are unique and compared as
// written.
type Schema []Column

// Index returns the position of the named column, or -1.
func (s Schema) Index(name string) int {
	for i := range s {
		if s[i].Name == name {
			return i
		}
	}
	return -1
}

// Names returns the column names in order.
func (s Schema) Names() []string {
	names := make([]string, len(s))
	for i := range s {
		names[i] = s[i].Name
	}
	return names
}

// String renders the schema as "a:long, b:string".
func (s Schema) String() string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Name)
		b.WriteByte(':')
		b.WriteString(c.Type.String())
	}
	return b.String()
}

func (s Schema) clone() Schema { return append(Schema(nil), s...) }

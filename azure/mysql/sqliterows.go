package mysql

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

const (
	// undecidedRows and undecidedBytes bound how many rows are looked at
	// before the type of a computed column is fixed.
	undecidedRows  = 64
	undecidedBytes = 256 << 10
)

// columns describes the result as the catalogue has it. A computed column has
// type 0.
func (st *sqliteStatement) columns() []Column {
	n := st.stmt.ColumnCount()
	if n == 0 {
		return nil
	}
	columns := make([]Column, n)
	for i := range columns {
		table := st.stmt.ColumnTableName(i)
		columns[i] = Column{Database: st.session.name, Table: table, OrgTable: table,
			Name: columnName(st.stmt.ColumnName(i)), OrgName: st.stmt.ColumnOriginName(i), Type: declaredType(st.stmt.ColumnDeclType(i))}
	}
	return columns
}

// columnName is the name of a result's column: of a computed one, the
// beginning of its text, as MySQL's names are of at most 256 characters.
func columnName(name string) string {
	if len(name) > 256 {
		name = name[:256]
	}
	return strings.TrimSpace(strings.ToValidUTF8(name, ""))
}

// declaredType is the wire type of a declared type.
func declaredType(declared string) ColumnType {
	word, _, _ := strings.Cut(declared, "(")
	word, _, _ = strings.Cut(word, " ")
	switch types[strings.ToUpper(word)].class {
	case "int":
		return TypeLongLong
	case "real":
		return TypeDouble
	case "text":
		return TypeText
	case "blob":
		return TypeBlob
	case "time":
		if strings.EqualFold(word, "DATE") {
			return TypeDate
		}
		return TypeDateTime
	}
	return 0
}

// rows steps through the result and sends it. The types of computed columns
// are those of the first rows; where they differ among them, text.
func (st *sqliteStatement) rows(out Rows) error {
	columns := st.columns()
	var held [][]Value
	size, more := 0, true
	for more && len(held) < undecidedRows && size < undecidedBytes {
		if more = st.stmt.Step(); more {
			row := st.row(make([]Value, len(columns)))
			for i, v := range row {
				if b, ok := v.([]byte); ok {
					row[i] = bytes.Clone(b)
					size += len(b)
				}
			}
			held = append(held, row)
		}
	}
	if err := st.stmt.Err(); err != nil {
		return st.session.failed(err)
	}
	decide(columns, held)
	if err := out.Columns(columns); err != nil {
		return err
	}
	for _, row := range held {
		if err := send(out, columns, row); err != nil {
			return err
		}
	}
	row := make([]Value, len(columns))
	for more && st.stmt.Step() {
		if err := send(out, columns, st.row(row)); err != nil {
			return err
		}
	}
	return st.session.failed(st.stmt.Err())
}

// row reads the current row into dst. Bytes are valid until the next step.
func (st *sqliteStatement) row(dst []Value) []Value {
	for i := range dst {
		switch st.stmt.ColumnType(i) {
		case sqlite3.INTEGER:
			dst[i] = st.stmt.ColumnInt64(i)
		case sqlite3.FLOAT:
			dst[i] = st.stmt.ColumnFloat(i)
		case sqlite3.TEXT:
			dst[i] = orEmpty(st.stmt.ColumnRawText(i))
		case sqlite3.BLOB:
			dst[i] = orEmpty(st.stmt.ColumnRawBlob(i))
		default:
			dst[i] = nil
		}
	}
	return dst
}

func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// decide fixes the types of computed columns.
func decide(columns []Column, held [][]Value) {
	for i := range columns {
		if columns[i].Type != 0 {
			continue
		}
		t := ColumnType(0)
		for _, row := range held {
			seen := valueType(row[i])
			switch {
			case seen == 0 || seen == t:
			case t == 0:
				t = seen
			case t == TypeLongLong && seen == TypeDouble || t == TypeDouble && seen == TypeLongLong:
				t = TypeDouble
			default:
				t = TypeText
			}
		}
		if t == 0 {
			t = TypeText
		}
		columns[i].Type = t
	}
}

func valueType(v Value) ColumnType {
	switch v.(type) {
	case int64:
		return TypeLongLong
	case float64:
		return TypeDouble
	case []byte:
		return TypeText
	}
	return 0
}

func send(out Rows, columns []Column, row []Value) error {
	for i, v := range row {
		fitted, ok := fit(v, columns[i].Type)
		if !ok {
			return errorf(1366, "HY000", "A value of column '%s' does not fit its type; CAST the expression", clip(columns[i].Name))
		}
		row[i] = fitted
	}
	return out.Row(row)
}

// fit turns a value into what a column of type t holds.
func fit(v Value, t ColumnType) (Value, bool) {
	switch x := v.(type) {
	case int64:
		switch t {
		case TypeLongLong:
			return x, true
		case TypeDouble:
			return float64(x), true
		}
		return strconv.AppendInt(nil, x, 10), true
	case float64:
		switch {
		case t == TypeDouble:
			return x, true
		case t == TypeLongLong && x == math.Trunc(x) && math.Abs(x) < 1<<62:
			return int64(x), true
		case t == TypeLongLong:
			return nil, false
		}
		return strconv.AppendFloat(nil, x, 'g', -1, 64), true
	case []byte:
		return x, t != TypeLongLong && t != TypeDouble
	}
	return v, true
}

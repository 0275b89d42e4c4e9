package mysql

// functions maps MySQL's functions to SQLite's or to our own (vd_…), which the
// session registers. What is not here does not exist.
var functions = map[string]string{
	"COUNT": "count", "SUM": "sum", "MIN": "min", "MAX": "max", "AVG": "avg", "GROUP_CONCAT": "group_concat",
	"ROW_NUMBER": "row_number", "RANK": "rank", "DENSE_RANK": "dense_rank", "LAG": "lag", "LEAD": "lead",
	"FIRST_VALUE": "first_value", "LAST_VALUE": "last_value",
	"COALESCE": "coalesce", "IFNULL": "ifnull", "NULLIF": "nullif", "IF": "iif", "GREATEST": "max", "LEAST": "min",
	"ABS": "abs", "ROUND": "round", "SIGN": "sign",
	"UPPER": "upper", "UCASE": "upper", "LOWER": "lower", "LCASE": "lower", "TRIM": "trim", "LTRIM": "ltrim", "RTRIM": "rtrim",
	"REPLACE": "replace", "SUBSTR": "substr", "SUBSTRING": "substr", "INSTR": "instr", "HEX": "hex", "UNHEX": "unhex",
	"LENGTH": "octet_length", "OCTET_LENGTH": "octet_length", "CHAR_LENGTH": "length", "CHARACTER_LENGTH": "length",
	"CONCAT": "vd_concat", "CONCAT_WS": "concat_ws", "LEFT": "vd_left", "RIGHT": "vd_right",
	"JSON_EXTRACT": "json_extract", "JSON_VALID": "json_valid",
	"NOW": "vd_now", "CURRENT_TIMESTAMP": "vd_now", "LOCALTIME": "vd_now", "LOCALTIMESTAMP": "vd_now", "SYSDATE": "vd_now", "UTC_TIMESTAMP": "vd_now",
	"CURDATE": "vd_today", "CURRENT_DATE": "vd_today", "UTC_DATE": "vd_today", "UNIX_TIMESTAMP": "vd_unix",
	"DATABASE": "vd_database", "SCHEMA": "vd_database", "VERSION": "vd_version", "CONNECTION_ID": "vd_connection_id",
	"USER": "vd_user", "SESSION_USER": "vd_user", "SYSTEM_USER": "vd_user", "CURRENT_USER": "vd_user",
	"LAST_INSERT_ID": "vd_last_insert_id", "ROW_COUNT": "vd_row_count", "UUID": "vd_uuid",
}

// calledKeywords are keywords that are functions too when a parenthesis
// follows.
var calledKeywords = set(`LEFT RIGHT REPLACE IF`)

// isCall reports whether t, which a parenthesis follows, is a function's name.
// A name behind INTO or WITH is a table with a list of columns.
func (p *parser) isCall(t token) bool {
	before := p.peek(-2)
	if before.is("WITH") || before.is("RECURSIVE") || t.is("CAST") {
		return t.is("CAST")
	}
	return !keywords[t.upper] || calledKeywords[t.upper] || t.is("VALUES") && p.upsert
}

// call writes the name of a function; its arguments follow as any expression.
func (p *parser) call(t token) error {
	switch t.upper {
	case "CAST":
		p.next()
		p.parens = append(p.parens, "CAST")
		p.out.WriteString(" CAST(")
		return nil
	case "VALUES": // of ON DUPLICATE KEY UPDATE
		p.next()
		column := p.next()
		if !column.ident() || !p.accept(")") {
			p.pos--
			return p.unexpected()
		}
		p.out.WriteString(" excluded.")
		writeIdent(&p.out, column.text)
		return nil
	}
	name, known := functions[t.upper]
	if !known {
		return errorf(1305, "42000", "FUNCTION %s does not exist", clip(t.text))
	}
	p.out.WriteString(" " + name)
	return nil
}

// sqliteFunctions are what the authorizer lets a statement call: the right
// side of functions, what SQLite calls for its own syntax, and what the
// constraints and defaults of a translated table call.
func sqliteFunctions() map[string]bool {
	allowed := set("like -> ->> typeof glob strftime")
	for _, name := range functions {
		allowed[name] = true
	}
	return allowed
}

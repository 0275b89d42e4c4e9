package mysql

import (
	"strings"
	"unicode/utf8"
)

// listEnds are the words behind a list of columns.
var listEnds = set(`FROM WHERE GROUP HAVING ORDER LIMIT UNION EXCEPT INTERSECT WINDOW FOR LOCK INTO`)

// valueEnds are the keywords that end a value, so that a name behind one is
// its alias.
var valueEnds = set(`END NULL TRUE FALSE`)

// aliases gives the computed columns of a SELECT the names that MySQL gives
// them: their own text in the statement. The key is the position of the token
// behind the column.
func aliases(query string, tokens []token) map[int]string {
	if !tokens[0].is("SELECT") {
		return nil
	}
	start := 1
	for start < len(tokens) && (tokens[start].is("DISTINCT") || tokens[start].is("ALL") || tokens[start].is("SQL_NO_CACHE")) {
		start++
	}
	names := map[int]string{}
	depth := 0
	for i := start; i <= len(tokens); i++ {
		switch {
		case i == len(tokens), depth == 0 && (tokens[i].op(",") || tokens[i].kind == kindWord && listEnds[tokens[i].upper]):
			if name, ok := computedName(query, tokens[start:i]); ok {
				names[i] = name
			}
			start = i + 1
			if i == len(tokens) || !tokens[i].op(",") {
				return names
			}
		case tokens[i].op("("):
			depth++
		case tokens[i].op(")"):
			depth--
		}
	}
	return names
}

// computedName is the text of a column that is neither named nor plain.
func computedName(query string, column []token) (string, bool) {
	n := len(column)
	if n == 0 || column[n-1].op("*") && (n == 1 || column[n-2].op(".")) {
		return "", false
	}
	plain, depth := true, 0
	for i, t := range column {
		switch {
		case t.op("("):
			depth++
		case t.op(")"):
			depth--
		case depth == 0 && t.is("AS"):
			return "", false
		}
		plain = plain && (i%2 == 0 && t.ident() || i%2 == 1 && t.op("."))
	}
	if plain && !keywords[column[0].upper] && functions[column[0].upper] == "" {
		return "", false
	}
	if n > 1 && (column[n-1].kind == kindQuoted || column[n-1].kind == kindString || column[n-1].kind == kindWord && !keywords[column[n-1].upper]) && endsValue(column[n-2]) {
		return "", false
	}
	name := query[column[0].at:column[n-1].end]
	if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return "", false
	}
	// MySQL's names have at most 256 characters.
	if len(name) > 4*256 {
		name = strings.ToValidUTF8(name[:4*256], "")
	}
	if runes := []rune(name); len(runes) > 256 {
		name = string(runes[:256])
	}
	return name, true
}

func endsValue(t token) bool {
	switch t.kind {
	case kindString, kindNumber, kindHex, kindParam, kindQuoted, kindSystem:
		return true
	case kindWord:
		return valueEnds[t.upper] || !keywords[t.upper] && t.upper != "COLLATE" && t.upper != "BINARY"
	}
	return t.op(")")
}

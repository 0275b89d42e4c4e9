package mysql

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// show answers SHOW and DESCRIBE from the catalogue and the variables.
func (s *sqliteSession) show(tokens []token, out Rows) error {
	p := &parser{tokens: tokens, env: environment{database: s.name}}
	if verb := p.next(); !verb.is("SHOW") {
		return s.showColumns(p, out, false)
	}
	full := p.accept("FULL")
	if !full {
		_ = p.accept("SESSION") || p.accept("GLOBAL") || p.accept("LOCAL")
	}
	switch {
	case p.accept("DATABASES"), p.accept("SCHEMAS"):
		names := slices.DeleteFunc(slices.Clone(s.backend.names), func(n string) bool { return !s.who.MayUse(n) })
		return s.showNames(p, out, "Database", names)
	case p.accept("TABLES"):
		return s.showTables(p, out, full)
	case p.accept("COLUMNS"), p.accept("FIELDS"):
		if !p.accept("FROM") && !p.accept("IN") {
			return p.unexpected()
		}
		return s.showColumns(p, out, full)
	case p.accept("VARIABLES"):
		return s.showVariables(p, out)
	case p.accept("STATUS"):
		return s.showPairs(p, out, map[string]string{"Ssl_version": "TLS"})
	case p.accept("WARNINGS"), p.accept("ERRORS"):
		return out.Columns([]Column{{Name: "Level", Type: TypeText}, {Name: "Code", Type: TypeLongLong}, {Name: "Message", Type: TypeText}})
	}
	return errUnsupported("SHOW " + strings.ToUpper(clip(p.peek(0).text)))
}

// pattern reads [LIKE 'x'] at the end of a SHOW.
func (p *parser) pattern() (func(string) bool, error) {
	if !p.accept("LIKE") {
		return func(string) bool { return true }, p.mustEnd()
	}
	t := p.next()
	if t.kind != kindString {
		p.pos--
		return nil, p.unexpected()
	}
	pattern := []rune(strings.ToLower(t.text))
	return func(s string) bool { return matches(pattern, []rune(strings.ToLower(s)), '\\') }, p.mustEnd()
}

func (s *sqliteSession) showNames(p *parser, out Rows, title string, names []string) error {
	like, err := p.pattern()
	if err != nil {
		return err
	}
	slices.Sort(names)
	if err := out.Columns([]Column{{Name: title, Type: TypeText}}); err != nil {
		return err
	}
	for _, n := range names {
		if like(n) {
			if err := out.Row([]Value{[]byte(n)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sqliteSession) showTables(p *parser, out Rows, full bool) error {
	if p.accept("FROM") || p.accept("IN") {
		if t := p.next(); t.text != s.name {
			return errOtherDatabase(t.text)
		}
	}
	if s.name == "" {
		return errNoDatabase()
	}
	names, err := s.catalogue("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'", 1)
	if err != nil {
		return err
	}
	tables := make([]string, len(names))
	for i, row := range names {
		tables[i] = row[0]
	}
	if !full {
		return s.showNames(p, out, "Tables_in_"+s.name, tables)
	}
	like, err := p.pattern()
	if err != nil {
		return err
	}
	slices.Sort(tables)
	if err := out.Columns([]Column{{Name: "Tables_in_" + s.name, Type: TypeText}, {Name: "Table_type", Type: TypeText}}); err != nil {
		return err
	}
	for _, n := range tables {
		if like(n) {
			if err := out.Row([]Value{[]byte(n), []byte("BASE TABLE")}); err != nil {
				return err
			}
		}
	}
	return nil
}

// catalogue reads SQLite's own tables for the session, never with text from a
// client: args are bound.
func (s *sqliteSession) catalogue(sql string, width int, args ...string) (rows [][]string, err error) {
	s.defining = true
	defer func() { s.defining = false }()
	stmt, _, err := s.conn.Prepare(sql)
	if err != nil {
		return nil, s.failed(err)
	}
	defer stmt.Close()
	for i, a := range args {
		if err := stmt.BindText(i+1, a); err != nil {
			return nil, s.failed(err)
		}
	}
	for stmt.Step() {
		row := make([]string, width)
		for i := range row {
			row[i] = stmt.ColumnText(i)
		}
		rows = append(rows, row)
	}
	return rows, s.failed(stmt.Err())
}

func (s *sqliteSession) showColumns(p *parser, out Rows, full bool) error {
	table, err := p.tableName()
	if err != nil {
		return err
	}
	if p.accept("FROM") || p.accept("IN") {
		if t := p.next(); t.text != s.name {
			return errOtherDatabase(t.text)
		}
	}
	like, err := p.pattern()
	if err != nil {
		return err
	}
	if s.name == "" {
		return errNoDatabase()
	}
	rows, err := s.catalogue("SELECT name, type, `notnull`, pk, dflt_value FROM pragma_table_info(?)", 5, table)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return errorf(1146, "42S02", "Table '%s.%s' doesn't exist", s.name, clip(table))
	}
	titles := []string{"Field", "Type", "Null", "Key", "Default", "Extra"}
	if full {
		titles = []string{"Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"}
	}
	columns := make([]Column, len(titles))
	for i, t := range titles {
		columns[i] = Column{Name: t, Type: TypeText}
	}
	if err := out.Columns(columns); err != nil {
		return err
	}
	for _, r := range rows {
		if !like(r[0]) {
			continue
		}
		values := map[string]Value{"Field": []byte(r[0]), "Type": []byte(strings.ToLower(r[1])), "Null": []byte("YES"), "Key": []byte(""), "Extra": []byte(""),
			"Privileges": []byte("select,insert,update"), "Comment": []byte("")}
		if r[2] == "1" || r[3] != "0" {
			values["Null"] = []byte("NO")
		}
		if r[3] != "0" {
			values["Key"] = []byte("PRI")
		}
		switch {
		case strings.HasPrefix(r[4], "strftime("):
			values["Default"] = []byte("CURRENT_TIMESTAMP")
		case r[4] != "":
			values["Default"] = []byte(strings.Trim(r[4], " '"))
		}
		row := make([]Value, len(titles))
		for i, t := range titles {
			row[i] = values[t]
		}
		if err := out.Row(row); err != nil {
			return err
		}
	}
	return nil
}

func (s *sqliteSession) showVariables(p *parser, out Rows) error {
	pairs := map[string]string{}
	for name := range s.backend.system {
		v, _ := s.system(name)
		pairs[name] = fmt.Sprint(v)
	}
	return s.showPairs(p, out, pairs)
}

func (s *sqliteSession) showPairs(p *parser, out Rows, pairs map[string]string) error {
	like := func(string) bool { return true }
	if p.accept("WHERE") {
		// WHERE Variable_name = 'x' [OR …] as some drivers ask: all are sent and
		// the driver picks.
		p.pos = len(p.tokens)
	} else {
		var err error
		if like, err = p.pattern(); err != nil {
			return err
		}
	}
	if err := out.Columns([]Column{{Name: "Variable_name", Type: TypeText}, {Name: "Value", Type: TypeText}}); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		if like(name) {
			if err := out.Row([]Value{[]byte(name), []byte(pairs[name])}); err != nil {
				return err
			}
		}
	}
	return nil
}

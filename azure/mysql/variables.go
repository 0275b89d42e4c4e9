package mysql

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// systemVariables are the values of the variables that clients ask for. A SET
// that asks for something else than what holds is refused rather than ignored,
// but for those in setVariable that only promise more than the client asked.
func systemVariables() map[string]Value {
	return map[string]Value{
		"version": serverVersion, "version_comment": "Verdant: MySQL protocol over encrypted SQLite", "version_compile_os": "Linux", "version_compile_machine": "any",
		"license": "Apache-2.0", "hostname": "verdant", "port": int64(3306), "protocol_version": int64(10), "socket": "",
		"autocommit": int64(1), "auto_increment_increment": int64(1), "auto_increment_offset": int64(1), "max_allowed_packet": int64(maxPacket),
		"character_set_client": "utf8mb4", "character_set_connection": "utf8mb4", "character_set_results": "utf8mb4", "character_set_server": "utf8mb4", "character_set_database": "utf8mb4", "character_set_system": "utf8mb3",
		"collation_connection": "utf8mb4_bin", "collation_server": "utf8mb4_bin", "collation_database": "utf8mb4_bin",
		"sql_mode": "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION", "time_zone": "+00:00", "system_time_zone": "UTC",
		"tx_isolation": "SERIALIZABLE", "transaction_isolation": "SERIALIZABLE", "tx_read_only": int64(0), "transaction_read_only": int64(0),
		"lower_case_table_names": int64(0), "init_connect": "", "interactive_timeout": int64(900), "wait_timeout": int64(900), "net_write_timeout": int64(30), "net_read_timeout": int64(30), "net_buffer_length": int64(16384),
		"performance_schema": int64(0), "have_ssl": "YES", "have_openssl": "YES", "require_secure_transport": int64(1), "local_infile": int64(0), "read_only": int64(0), "sql_safe_updates": int64(0),
		"sql_select_limit": int64(1<<63 - 1), "max_execution_time": int64(0), "foreign_key_checks": int64(1), "unique_checks": int64(1), "sql_notes": int64(1), "sql_auto_is_null": int64(0), "query_cache_type": "OFF", "query_cache_size": int64(0), "storage_engine": "SQLite", "default_storage_engine": "SQLite",
	}
}

// variableName drops the scope: @@session.x and @@global.x are x.
func variableName(name string) string {
	name = strings.ToLower(name)
	for _, scope := range []string{"session.", "global.", "local."} {
		name = strings.TrimPrefix(name, scope)
	}
	return name
}

func (s *sqliteSession) system(name string) (Value, bool) {
	name = variableName(name)
	if name == "autocommit" {
		if s.autocommit {
			return int64(1), true
		}
		return int64(0), true
	}
	if v, ok := s.variables[name]; ok {
		return v, true
	}
	v, ok := s.backend.system[name]
	return v, ok
}

// set carries out SET. Several assignments are separated by commas.
func (s *sqliteSession) set(tokens []token) error {
	p := &parser{tokens: tokens[1:]}
	for {
		if err := s.assign(p); err != nil {
			return err
		}
		if p.accept(",") {
			continue
		}
		return p.mustEnd()
	}
}

func (s *sqliteSession) assign(p *parser) error {
	switch {
	case p.accept("NAMES"), p.accept("CHARACTER", "SET"), p.accept("CHARSET"):
		return s.setNames(p)
	case p.accept("SESSION", "TRANSACTION"), p.accept("LOCAL", "TRANSACTION"), p.accept("TRANSACTION"):
		// Every isolation level is met: what runs is serializable.
		return transactionCharacteristics(p)
	case p.accept("GLOBAL"), p.accept("PERSIST"), p.accept("PASSWORD"), p.accept("ROLE"), p.accept("DEFAULT", "ROLE"):
		return errorf(1227, "42000", "Access denied; settings of the server are not changed by statements")
	}
	if !p.accept("SESSION") {
		p.accept("LOCAL")
	}
	t := p.next()
	switch {
	case t.kind == kindUser:
		return errUnsupported("user variables such as @" + clip(t.text))
	case t.kind != kindSystem && !t.ident():
		p.pos--
		return p.unexpected()
	case strings.HasPrefix(strings.ToLower(t.text), "global."):
		return errorf(1227, "42000", "Access denied; settings of the server are not changed by statements")
	}
	if !p.accept("=") && !p.accept(":=") {
		return p.unexpected()
	}
	if p.accept("-") { // a negative number is out of every variable's range
		return errorf(1231, "42000", "Variable '%s' can't be set to a negative value", clip(t.text))
	}
	value := p.next()
	if value.kind == kindSystem {
		v, ok := s.system(value.text)
		if !ok {
			return errorf(1193, "HY000", "Unknown system variable '%s'", clip(value.text))
		}
		value = token{kind: kindString, text: fmt.Sprint(v)}
	}
	if value.kind != kindString && value.kind != kindNumber && !value.ident() {
		p.pos--
		return p.unexpected()
	}
	return s.setVariable(variableName(t.text), value.text)
}

func (s *sqliteSession) setNames(p *parser) error {
	t := p.next()
	name := strings.ToLower(t.text)
	if !t.ident() && t.kind != kindString || !charsets[name] && name != "default" {
		return errorf(1115, "42000", "Unknown character set: '%s'; the connection's is utf8mb4", clip(t.text))
	}
	if p.accept("COLLATE") {
		p.next()
	}
	return nil
}

func transactionCharacteristics(p *parser) error {
	for {
		switch {
		case p.accept("ISOLATION", "LEVEL", "READ", "UNCOMMITTED"), p.accept("ISOLATION", "LEVEL", "READ", "COMMITTED"),
			p.accept("ISOLATION", "LEVEL", "REPEATABLE", "READ"), p.accept("ISOLATION", "LEVEL", "SERIALIZABLE"), p.accept("READ", "WRITE"):
		case p.accept("READ", "ONLY"):
			return errUnsupported("SET TRANSACTION READ ONLY; use START TRANSACTION READ ONLY")
		default:
			return p.unexpected()
		}
		if !p.accept(",") {
			return nil
		}
	}
}

// setVariable takes a value only where it is what already holds or where it is
// carried out.
func (s *sqliteSession) setVariable(name, value string) error {
	if strings.EqualFold(value, "DEFAULT") {
		delete(s.variables, name)
		if v, known := s.backend.system[name]; known {
			value = fmt.Sprint(v)
		}
	}
	current, known := s.system(name)
	if !known {
		return errorf(1193, "HY000", "Unknown system variable '%s'", clip(name))
	}
	wrong := errorf(1231, "42000", "Variable '%s' can't be set to the value of '%s'", clip(name), clip(value))
	on := map[string]bool{"1": true, "ON": true, "TRUE": true}[strings.ToUpper(value)]
	off := map[string]bool{"0": true, "OFF": true, "FALSE": true}[strings.ToUpper(value)]
	switch name {
	case "autocommit":
		if !on && !off {
			return wrong
		}
		if on && !s.autocommit && s.conn != nil { // as MySQL: turning it on commits
			if err := s.commit(); err != nil {
				return err
			}
		}
		s.autocommit = on
	case "sql_mode":
		for mode := range strings.SplitSeq(strings.ToUpper(value), ",") {
			switch strings.TrimSpace(mode) {
			case "ANSI_QUOTES", "ANSI", "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT", "HIGH_NOT_PRECEDENCE", "IGNORE_SPACE":
				return wrong // would change how statements are read
			}
		}
		s.variables[name] = value
	case "time_zone":
		if !strings.EqualFold(value, "+00:00") && !strings.EqualFold(value, "UTC") && !strings.EqualFold(value, "SYSTEM") && !strings.EqualFold(value, "-00:00") {
			return wrong
		}
	case "character_set_client", "character_set_connection", "character_set_results":
		if !charsets[strings.ToLower(value)] && !strings.EqualFold(value, "null") {
			return wrong
		}
	case "collation_connection":
		if !strings.HasPrefix(strings.ToLower(value), "utf8") {
			return wrong
		}
	case "tx_isolation", "transaction_isolation", "wait_timeout", "interactive_timeout", "net_write_timeout", "net_read_timeout", "sql_notes", "sql_auto_is_null", "unique_checks":
		s.variables[name] = value
	default:
		if !strings.EqualFold(fmt.Sprint(current), value) && !(current == int64(1) && on) && !(current == int64(0) && off) {
			return wrong
		}
	}
	return nil
}

// register gives the connection the functions that MySQL has and SQLite lacks.
func (s *sqliteSession) register() error {
	text := func(name string, value func() string) error {
		return s.conn.CreateFunction(name, 0, 0, func(c sqlite3.Context, _ ...sqlite3.Value) { c.ResultText(value()) })
	}
	number := func(name string, value func() int64) error {
		return s.conn.CreateFunction(name, 0, 0, func(c sqlite3.Context, _ ...sqlite3.Value) { c.ResultInt64(value()) })
	}
	now := func() time.Time { return s.backend.now().UTC() }
	for _, err := range []error{
		text("vd_now", func() string { return now().Format("2006-01-02 15:04:05") }),
		s.conn.CreateFunction("vd_now", 1, 0, func(c sqlite3.Context, arg ...sqlite3.Value) {
			layout := "2006-01-02 15:04:05"
			if n := arg[0].Int(); n > 0 && n <= 6 {
				layout += "." + strings.Repeat("0", n)
			}
			c.ResultText(now().Format(layout))
		}),
		text("vd_today", func() string { return now().Format("2006-01-02") }),
		number("vd_unix", func() int64 { return now().Unix() }),
		text("vd_version", func() string { return serverVersion }),
		text("vd_user", func() string { return s.who.Account + "@" + s.who.Host }),
		number("vd_connection_id", func() int64 { return int64(s.who.ConnectionID) }),
		number("vd_last_insert_id", func() int64 { return s.lastInsertID }),
		number("vd_row_count", func() int64 { return s.rowCount }),
		text("vd_uuid", newUUID),
		s.conn.CreateFunction("vd_database", 0, 0, func(c sqlite3.Context, _ ...sqlite3.Value) {
			if s.name != "" {
				c.ResultText(s.name)
			}
		}),
		s.conn.CreateFunction("vd_concat", -1, sqlite3.DETERMINISTIC, concat),
		s.conn.CreateFunction("vd_left", 2, sqlite3.DETERMINISTIC, func(c sqlite3.Context, arg ...sqlite3.Value) { side(c, arg, true) }),
		s.conn.CreateFunction("vd_right", 2, sqlite3.DETERMINISTIC, func(c sqlite3.Context, arg ...sqlite3.Value) { side(c, arg, false) }),
		s.conn.CreateFunction("like", 2, sqlite3.DETERMINISTIC, func(c sqlite3.Context, arg ...sqlite3.Value) { like(c, arg, '\\') }),
		s.conn.CreateFunction("like", 3, sqlite3.DETERMINISTIC, func(c sqlite3.Context, arg ...sqlite3.Value) {
			escape := []rune(arg[2].Text())
			if len(escape) != 1 {
				c.ResultError(errorf(1210, "HY000", "Incorrect arguments to ESCAPE"))
				return
			}
			like(c, arg, escape[0])
		}),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, as documented
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// concat is MySQL's CONCAT: NULL where one argument is.
func concat(c sqlite3.Context, arg ...sqlite3.Value) {
	var b strings.Builder
	for _, a := range arg {
		if a.Type() == sqlite3.NULL {
			return
		}
		b.WriteString(a.Text())
		if b.Len() > maxPacket {
			c.ResultError(sqlite3.TOOBIG)
			return
		}
	}
	c.ResultText(b.String())
}

func side(c sqlite3.Context, arg []sqlite3.Value, left bool) {
	if arg[0].Type() == sqlite3.NULL || arg[1].Type() == sqlite3.NULL {
		return
	}
	text := []rune(arg[0].Text())
	n := int(min(max(arg[1].Int64(), 0), int64(len(text))))
	if left {
		c.ResultText(string(text[:n]))
	} else {
		c.ResultText(string(text[len(text)-n:]))
	}
}

// like is LIKE under utf8mb4_bin: upper and lower case differ, and back-slash
// escapes where the statement names no other character.
func like(c sqlite3.Context, arg []sqlite3.Value, escape rune) {
	if arg[0].Type() == sqlite3.NULL || arg[1].Type() == sqlite3.NULL {
		return
	}
	pattern := arg[0].Text()
	if len(pattern) > 4096 {
		c.ResultError(errorf(1210, "HY000", "Incorrect arguments to LIKE: the pattern is over 4096 bytes"))
		return
	}
	c.ResultBool(matches([]rune(pattern), []rune(arg[1].Text()), escape))
}

// matches goes back only to the last %, so its time is bounded by the product
// of the lengths.
func matches(pattern, text []rune, escape rune) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		if p < len(pattern) {
			switch c := pattern[p]; {
			case c == escape && p+1 < len(pattern):
				if pattern[p+1] == text[t] {
					p, t = p+2, t+1
					continue
				}
			case c == '%':
				star, mark = p, t
				p++
				continue
			case c == '_' || c == text[t]:
				p, t = p+1, t+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, t = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '%' {
		p++
	}
	return p == len(pattern)
}

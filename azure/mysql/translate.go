package mysql

import (
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// action is what a session does with a statement.
type action byte

const (
	actRead      action = iota // a query
	actLockRead                // a query that wants to write next (FOR UPDATE)
	actWrite                   // INSERT, UPDATE, DELETE, REPLACE, TRUNCATE
	actDefine                  // CREATE, ALTER, DROP
	actBegin                   // BEGIN, START TRANSACTION
	actBeginRead               // START TRANSACTION READ ONLY
	actCommit                  // COMMIT
	actRollback                // ROLLBACK
	actSavepoint               // SAVEPOINT, RELEASE, ROLLBACK TO
	actSet                     // SET
	actUse                     // USE
	actShow                    // SHOW, DESCRIBE: answered from the catalogue
	actNothing                 // accepted and without effect
)

// plan is a translated statement.
type plan struct {
	action action
	// sql holds SQLite's statements; more than one only for actDefine.
	sql []string
	// insert says that LAST_INSERT_ID may change.
	insert bool
	// tokens are the statement's own, without space, for actions that the
	// session carries out itself.
	tokens []token
}

// environment is what a translation may depend on.
type environment struct {
	database string
	system   func(name string) (Value, bool) // the value of a @@variable
}

// translate turns one MySQL statement into what SQLite is given. It is an
// allow-list: statements by their leading keyword, functions by name, and every
// other word is emitted as a quoted identifier, so that nothing a client wrote
// is ever taken for syntax that only SQLite has. Behind it stands the
// authorizer of package sqlite.go, which sees what SQLite understood.
func translate(query string, env environment) (plan, error) {
	all, err := lex(query)
	if err != nil {
		return plan{}, err
	}
	tokens := slices.DeleteFunc(all, func(t token) bool { return t.kind == kindSpace })
	if len(tokens) == 0 {
		return plan{}, errorf(1065, "42000", "Query was empty")
	}
	if err := checkNames(tokens); err != nil {
		return plan{}, err
	}
	p := &parser{tokens: tokens, env: env, aliases: aliases(query, tokens)}
	return p.statement()
}

// checkNames refuses every name that SQLite reserves for its own catalogue.
func checkNames(tokens []token) error {
	for _, t := range tokens {
		if !t.ident() {
			continue
		}
		name := strings.ToLower(t.text)
		if strings.HasPrefix(name, "sqlite_") || strings.HasPrefix(name, "pragma_") || strings.HasPrefix(name, "vd_") {
			return errDenied("the name '" + t.text + "'")
		}
	}
	return nil
}

// parser walks the tokens of one statement and writes SQLite's text.
type parser struct {
	tokens []token
	pos    int
	env    environment
	out    strings.Builder
	// parens holds, for each open parenthesis, what it belongs to: "" or
	// "CAST".
	parens []string
	// upsert is set behind ON DUPLICATE KEY UPDATE, where VALUES(c) means the
	// row that was to be inserted.
	upsert bool
	lock   bool
	insert bool
	// aliases holds names for computed columns by the position behind them.
	aliases map[int]string
}

func (p *parser) peek(n int) token {
	if p.pos+n < len(p.tokens) && p.pos+n >= 0 {
		return p.tokens[p.pos+n]
	}
	return token{kind: kindEnd}
}

func (p *parser) next() token {
	t := p.peek(0)
	p.pos++
	return t
}

// accept moves past the words if they come next, in this order.
func (p *parser) accept(words ...string) bool {
	for i, w := range words {
		if t := p.peek(i); !t.is(w) && !t.op(w) {
			return false
		}
	}
	p.pos += len(words)
	return true
}

func (p *parser) unexpected() error {
	t := p.peek(0)
	if t.kind == kindEnd {
		return errSyntax("the statement ends too early")
	}
	return errSyntax("unexpected '%s' at position %d", clip(t.text), t.at+1)
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

func (p *parser) statement() (plan, error) {
	first := p.peek(0)
	switch first.upper {
	case "SELECT", "WITH", "VALUES":
		return p.query()
	case "INSERT", "REPLACE":
		return p.insertInto()
	case "UPDATE", "DELETE":
		if err := p.rest(); err != nil {
			return plan{}, err
		}
		return p.done(actWrite), nil
	case "TRUNCATE":
		p.next()
		p.accept("TABLE")
		p.out.WriteString("DELETE FROM ")
		if err := p.table(); err != nil {
			return plan{}, err
		}
		return p.ended(actWrite)
	case "CREATE", "DROP", "ALTER":
		return p.define()
	case "BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE":
		return p.transaction()
	case "SET", "USE", "SHOW", "DESCRIBE", "DESC":
		act := map[string]action{"SET": actSet, "USE": actUse}[first.upper]
		if act == 0 {
			act = actShow
		}
		return plan{action: act, tokens: p.tokens}, nil
	case "GRANT", "REVOKE", "KILL", "SHUTDOWN", "FLUSH", "RESET", "PURGE", "CHANGE", "INSTALL", "UNINSTALL", "RENAME":
		return plan{}, errDenied(first.upper)
	case "LOAD", "LOCK", "UNLOCK", "CALL", "HANDLER", "PREPARE", "EXECUTE", "DEALLOCATE", "EXPLAIN", "ANALYZE", "OPTIMIZE", "CHECK", "REPAIR", "DO", "XA", "TABLE":
		return plan{}, errUnsupported(first.upper)
	}
	return plan{}, p.unexpected()
}

func (p *parser) done(act action) plan {
	return plan{action: act, sql: []string{p.out.String()}, insert: p.insert}
}

// ended is done where nothing may follow.
func (p *parser) ended(act action) (plan, error) {
	if p.pos < len(p.tokens) {
		return plan{}, p.unexpected()
	}
	return p.done(act), nil
}

func (p *parser) query() (plan, error) {
	if err := p.rest(); err != nil {
		return plan{}, err
	}
	if p.lock {
		return p.done(actLockRead), nil
	}
	return p.done(actRead), nil
}

func (p *parser) insertInto() (plan, error) {
	verb := p.next().upper
	p.insert = true
	p.out.WriteString(verb + " ")
	for p.accept("LOW_PRIORITY") || p.accept("HIGH_PRIORITY") || p.accept("DELAYED") {
	}
	if verb == "INSERT" && p.accept("IGNORE") {
		p.out.WriteString("OR IGNORE ")
	}
	p.accept("INTO")
	p.out.WriteString("INTO ")
	if err := p.table(); err != nil {
		return plan{}, err
	}
	if p.peek(0).is("SET") {
		return plan{}, errUnsupported("INSERT … SET; write INSERT … (columns) VALUES (…)")
	}
	p.out.WriteByte(' ')
	if p.accept("VALUE") {
		p.out.WriteString("VALUES ")
	}
	if err := p.rest(); err != nil {
		return plan{}, err
	}
	return p.done(actWrite), nil
}

// table writes the name of a table, which may be qualified by the current
// database.
func (p *parser) table() error {
	t := p.next()
	if !t.ident() {
		p.pos--
		return p.unexpected()
	}
	if p.accept(".") {
		if t.text != p.env.database {
			return errOtherDatabase(t.text)
		}
		if t = p.next(); !t.ident() {
			p.pos--
			return p.unexpected()
		}
	}
	writeIdent(&p.out, t.text)
	return nil
}

func errOtherDatabase(name string) *Error {
	return errorf(1142, "42000", "command denied for tables of database '%s': a connection reaches only its current database", clip(name))
}

func writeIdent(b *strings.Builder, name string) {
	b.WriteByte('`')
	b.WriteString(strings.ReplaceAll(name, "`", "``"))
	b.WriteByte('`')
}

// rest writes all that is left, token by token.
func (p *parser) rest() error {
	for p.pos < len(p.tokens) {
		p.alias()
		if err := p.expression(); err != nil {
			return err
		}
	}
	p.alias()
	return nil
}

func (p *parser) alias() {
	if name, ok := p.aliases[p.pos]; ok {
		p.out.WriteString(" AS ")
		writeIdent(&p.out, name)
	}
}

// expression writes the next token, or the few that belong together.
func (p *parser) expression() error {
	t := p.peek(0)
	switch t.kind {
	case kindWord:
		return p.word(t)
	case kindQuoted:
		p.next()
		p.identifier(t)
	case kindString:
		p.next()
		return p.bytes(t)
	case kindHex:
		p.next()
		return p.bytes(t)
	case kindNumber:
		p.next()
		return p.number(t)
	case kindParam:
		p.next()
		p.out.WriteString(" ? ")
	case kindUser:
		return errUnsupported("user variables such as @" + clip(t.text))
	case kindSystem:
		p.next()
		return p.system(t)
	default:
		p.next()
		return p.operator(t)
	}
	return nil
}

// identifier writes a name; the current database's as the schema it is here.
func (p *parser) identifier(t token) {
	if p.peek(0).op(".") && !p.peek(-2).op(".") && t.text == p.env.database {
		p.out.WriteString(" main")
		return
	}
	p.out.WriteByte(' ')
	writeIdent(&p.out, t.text)
}

// bytes writes a string or binary literal. A string of bytes is text where it
// is UTF-8 and a blob where it is not, for literals and for arguments alike, so
// that one compares equal to the other.
func (p *parser) bytes(t token) error {
	p.out.WriteByte(' ')
	switch {
	case !utf8.ValidString(t.text):
		p.out.WriteString("X'" + hex.EncodeToString([]byte(t.text)) + "'")
	case strings.ContainsRune(t.text, 0):
		p.out.WriteString("CAST(X'" + hex.EncodeToString([]byte(t.text)) + "' AS TEXT)")
	default:
		p.out.WriteString("'" + strings.ReplaceAll(t.text, "'", "''") + "'")
	}
	return nil
}

func (p *parser) number(t token) error {
	text := t.text
	if !strings.ContainsAny(text, ".eE") {
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			// The idiom for "all the rest" in LIMIT is the largest unsigned number.
			if _, err := strconv.ParseUint(text, 10, 64); err != nil {
				return errorf(1264, "22003", "Out of range value at position %d", t.at+1)
			}
			text = strconv.FormatInt(math.MaxInt64, 10)
		}
	}
	p.out.WriteString(" " + text)
	return nil
}

// system writes the value of a @@variable.
func (p *parser) system(t token) error {
	v, ok := p.env.system(t.text)
	if !ok {
		return errorf(1193, "HY000", "Unknown system variable '%s'", clip(t.text))
	}
	if n, isInt := v.(int64); isInt {
		p.out.WriteString(" " + strconv.FormatInt(n, 10))
	} else {
		s, _ := v.(string)
		p.out.WriteString(" '" + strings.ReplaceAll(s, "'", "''") + "'")
	}
	return nil
}

func (p *parser) operator(t token) error {
	switch t.text {
	case "(":
		p.parens = append(p.parens, "")
		p.out.WriteByte('(')
	case ")":
		if len(p.parens) == 0 {
			p.pos--
			return p.unexpected()
		}
		p.parens = p.parens[:len(p.parens)-1]
		p.out.WriteByte(')')
	case ",", ".":
		p.out.WriteString(t.text)
	case "||":
		p.out.WriteString(" OR ")
	case "&&":
		p.out.WriteString(" AND ")
	case "!":
		p.out.WriteString(" NOT ")
	case "<=>":
		p.out.WriteString(" IS ")
	case "/":
		p.out.WriteString(" *1.0/ ") // MySQL's division is never integer division
	case ":=", "^", "[", "]", "{", "}", ":":
		p.pos--
		return p.unexpected()
	default:
		p.out.WriteString(" " + t.text + " ")
	}
	return nil
}

// keywords are the words that mean the same to both and pass as they are.
var keywords = set(`SELECT DISTINCT ALL FROM WHERE GROUP BY HAVING ORDER ASC DESC LIMIT OFFSET AS ON USING JOIN INNER LEFT
	RIGHT FULL OUTER CROSS NATURAL UNION EXCEPT INTERSECT WITH RECURSIVE AND OR NOT NULL IS IN BETWEEN LIKE ESCAPE EXISTS
	CASE WHEN THEN ELSE END CAST INSERT INTO VALUES UPDATE SET DELETE TRUE FALSE OVER PARTITION ROWS RANGE UNBOUNDED
	PRECEDING FOLLOWING CURRENT ROW WINDOW RETURNING`)

// refused are words that mean something to MySQL which is not offered here,
// where taking them for a name would give a misleading error or a wrong result.
var refused = set(`REGEXP RLIKE DIV XOR MOD INTERVAL STRAIGHT_JOIN SQL_CALC_FOUND_ROWS OUTFILE DUMPFILE MATCH
	LATERAL PROCEDURE`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

func (p *parser) word(t token) error {
	p.next()
	following := p.peek(0)
	switch {
	case p.peek(-2).op("."): // a column or table, whatever it is called
		p.identifier(t)
		return nil
	case strings.HasPrefix(t.text, "_") && following.kind == kindString && charsets[strings.ToLower(t.text[1:])],
		t.upper == "N" && following.kind == kindString,
		t.upper == "_BINARY" && following.kind == kindHex:
		return nil // a character set introducer: the literal says the same without
	case following.op("(") && p.isCall(t):
		return p.call(t)
	case following.op("."):
		p.identifier(t)
		return nil
	}
	switch t.upper {
	case "FOR":
		if p.accept("UPDATE") || p.accept("SHARE") {
			p.lock = true
			p.accept("NOWAIT")
			return p.mustEnd()
		}
	case "LOCK":
		if p.accept("IN", "SHARE", "MODE") {
			p.lock = true
			return p.mustEnd()
		}
	case "FROM":
		if p.accept("DUAL") {
			return nil
		}
	case "ON":
		if p.insert && p.accept("DUPLICATE", "KEY", "UPDATE") {
			return p.duplicate()
		}
	case "AS":
		if len(p.parens) > 0 && p.parens[len(p.parens)-1] == "CAST" {
			return p.castType()
		}
	case "COLLATE":
		return p.collate()
	case "SQL_NO_CACHE", "SQL_CACHE", "HIGH_PRIORITY", "LOW_PRIORITY", "BINARY":
		return nil
	case "CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_USER", "LOCALTIME", "LOCALTIMESTAMP", "UTC_TIMESTAMP", "UTC_DATE":
		name := functions[t.upper]
		if name == "" {
			return errUnsupported(t.upper)
		}
		p.out.WriteString(" " + name + "()")
		return nil
	}
	switch {
	case refused[t.upper]:
		return errUnsupported(t.upper)
	case keywords[t.upper]:
		p.out.WriteString(" " + t.upper + " ")
	default:
		p.identifier(t)
	}
	return nil
}

func (p *parser) mustEnd() error {
	if p.pos < len(p.tokens) {
		return p.unexpected()
	}
	return nil
}

// duplicate writes the conflict clause of INSERT … ON DUPLICATE KEY UPDATE.
func (p *parser) duplicate() error {
	for _, t := range p.tokens {
		if t.is("SELECT") {
			return errUnsupported("INSERT … SELECT … ON DUPLICATE KEY UPDATE")
		}
	}
	p.upsert = true
	p.out.WriteString(" ON CONFLICT DO UPDATE SET ")
	return nil
}

// castType writes the type of CAST(… AS type).
func (p *parser) castType() error {
	t := p.next()
	types := map[string]string{"SIGNED": "INTEGER", "UNSIGNED": "INTEGER", "CHAR": "TEXT", "NCHAR": "TEXT", "BINARY": "BLOB", "DOUBLE": "REAL", "FLOAT": "REAL", "REAL": "REAL", "DATETIME": "TEXT", "DATE": "TEXT"}
	name := types[t.upper]
	if name == "" || t.kind != kindWord {
		return errUnsupported("CAST to " + clip(t.text))
	}
	p.accept("INTEGER")
	if p.accept("(") {
		p.next()
		if !p.accept(")") {
			return p.unexpected()
		}
	}
	p.out.WriteString(" AS " + name)
	return nil
}

// collate drops the binary collations, which is how everything compares here.
func (p *parser) collate() error {
	t := p.next()
	name := strings.ToLower(t.text)
	switch {
	case strings.HasSuffix(name, "_bin") || name == "binary":
	case strings.HasSuffix(name, "_ci"):
		p.out.WriteString(" COLLATE NOCASE ")
	default:
		return errorf(1273, "HY000", "Unknown collation: '%s'", clip(t.text))
	}
	return nil
}

var charsets = map[string]bool{"utf8mb4": true, "utf8mb3": true, "utf8": true, "binary": true, "ascii": true, "us_ascii": true}

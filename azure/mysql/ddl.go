package mysql

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// define translates CREATE, ALTER and DROP of tables and indexes. A column
// keeps its MySQL type as its declared type, from which the type on the wire
// comes, and gets a constraint that holds SQLite to it: what does not fit the
// type is refused, as MySQL's strict mode does.
func (p *parser) define() (plan, error) {
	switch {
	case p.accept("CREATE", "TABLE"):
		return p.createTable()
	case p.accept("CREATE", "INDEX"):
		return p.createIndex(false)
	case p.accept("CREATE", "UNIQUE", "INDEX"):
		return p.createIndex(true)
	case p.accept("DROP", "TABLE"):
		return p.dropTable()
	case p.accept("DROP", "INDEX"):
		return p.dropIndex()
	case p.accept("ALTER", "TABLE"):
		return p.alterTable()
	}
	verb, object := p.peek(0), p.peek(1)
	switch object.upper {
	case "DATABASE", "SCHEMA", "USER", "AADUSER", "ROLE", "SERVER":
		return plan{}, errDenied(verb.upper + " " + object.upper)
	}
	return plan{}, errUnsupported(verb.upper + " " + strings.ToUpper(clip(object.text)))
}

// tableDefinition is a CREATE TABLE as it is being read.
type tableDefinition struct {
	name        string
	columns     []columnDefinition
	primary     []string // columns of a PRIMARY KEY clause
	constraints []string // SQLite's text
	indexes     []string // CREATE INDEX statements
}

type columnDefinition struct {
	name, typ, check string
	attributes       string // SQLite's text
	notNull          bool
	autoIncrement    bool
	primary          bool
}

func (p *parser) name() (string, error) {
	t := p.next()
	if !t.ident() {
		p.pos--
		return "", p.unexpected()
	}
	return t.text, nil
}

// tableName is table's name without writing it.
func (p *parser) tableName() (string, error) {
	name, err := p.name()
	if err == nil && p.accept(".") {
		if name != p.env.database {
			return "", errOtherDatabase(name)
		}
		return p.name()
	}
	return name, err
}

func quoteIdent(name string) string {
	var b strings.Builder
	writeIdent(&b, name)
	return b.String()
}

func (p *parser) createTable() (plan, error) {
	ifNot := ""
	if p.accept("IF", "NOT", "EXISTS") {
		ifNot = "IF NOT EXISTS "
	}
	d := &tableDefinition{}
	var err error
	if d.name, err = p.tableName(); err != nil {
		return plan{}, err
	}
	if !p.accept("(") {
		return plan{}, errUnsupported("CREATE TABLE without a list of columns")
	}
	for {
		if err := p.tableItem(d); err != nil {
			return plan{}, err
		}
		if p.accept(",") {
			continue
		}
		if p.accept(")") {
			break
		}
		return plan{}, p.unexpected()
	}
	if err := p.tableOptions(); err != nil {
		return plan{}, err
	}
	text, err := d.text(ifNot)
	if err != nil {
		return plan{}, err
	}
	return plan{action: actDefine, sql: append([]string{text}, d.indexes...)}, nil
}

// tableOptions reads away ENGINE=…, DEFAULT CHARSET=… and the like: the store
// has one engine and one character set.
func (p *parser) tableOptions() error {
	for p.pos < len(p.tokens) {
		p.accept("DEFAULT")
		switch {
		case p.accept("ENGINE"), p.accept("CHARSET"), p.accept("CHARACTER", "SET"), p.accept("COLLATE"), p.accept("COMMENT"), p.accept("AUTO_INCREMENT"), p.accept("ROW_FORMAT"):
		default:
			return p.unexpected()
		}
		p.accept("=")
		if t := p.next(); !t.ident() && t.kind != kindString && t.kind != kindNumber {
			p.pos--
			return p.unexpected()
		}
		p.accept(",")
	}
	return nil
}

func (p *parser) tableItem(d *tableDefinition) error {
	constraint := ""
	if p.accept("CONSTRAINT") {
		if t := p.peek(0); t.ident() && !t.is("PRIMARY") && !t.is("UNIQUE") && !t.is("FOREIGN") && !t.is("CHECK") {
			constraint = "CONSTRAINT " + quoteIdent(p.next().text) + " "
		}
	}
	switch {
	case p.accept("PRIMARY", "KEY"):
		columns, err := p.columnList()
		if err != nil {
			return err
		}
		d.primary = columns
		return nil
	case p.accept("UNIQUE", "KEY"), p.accept("UNIQUE", "INDEX"), p.accept("UNIQUE"):
		return p.tableIndex(d, true)
	case constraint == "" && (p.accept("KEY") || p.accept("INDEX")):
		return p.tableIndex(d, false)
	case p.accept("FOREIGN", "KEY"):
		columns, err := p.columnList()
		if err != nil {
			return err
		}
		references, err := p.references()
		d.constraints = append(d.constraints, constraint+"FOREIGN KEY ("+joinIdents(columns)+")"+references)
		return err
	case p.peek(0).is("CHECK"):
		check, err := p.check()
		d.constraints = append(d.constraints, constraint+check)
		return err
	case constraint != "":
		return p.unexpected()
	}
	c, err := p.column()
	d.columns = append(d.columns, c)
	return err
}

func (p *parser) tableIndex(d *tableDefinition, unique bool) error {
	name := ""
	if p.peek(0).ident() {
		name = p.next().text
	}
	columns, err := p.columnList()
	if err != nil {
		return err
	}
	if name == "" {
		name = columns[0]
		for i := 2; slices.ContainsFunc(d.indexes, func(s string) bool { return strings.Contains(s, indexName(d.name, name)) }); i++ {
			name = fmt.Sprint(columns[0], "_", i)
		}
	}
	d.indexes = append(d.indexes, indexText(d.name, name, columns, unique, true))
	return nil
}

// indexName: names of indexes belong to their table in MySQL, to the whole
// file in SQLite.
func indexName(table, name string) string { return quoteIdent(table + "." + name) }

func indexText(table, name string, columns []string, unique, ifNot bool) string {
	verb := "CREATE INDEX "
	if unique {
		verb = "CREATE UNIQUE INDEX "
	}
	if ifNot {
		verb += "IF NOT EXISTS "
	}
	return verb + indexName(table, name) + " ON " + quoteIdent(table) + " (" + joinIdents(columns) + ")"
}

func joinIdents(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quoteIdent(n)
	}
	return strings.Join(quoted, ", ")
}

// columnList reads (a, b(10) DESC, …). Prefix lengths and directions only
// tune MySQL's index and are dropped.
func (p *parser) columnList() ([]string, error) {
	if !p.accept("(") {
		return nil, p.unexpected()
	}
	var columns []string
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		columns = append(columns, name)
		if p.accept("(") {
			if p.next().kind != kindNumber || !p.accept(")") {
				return nil, p.unexpected()
			}
		}
		if !p.accept("ASC") {
			p.accept("DESC")
		}
		switch {
		case p.accept(","):
		case p.accept(")"):
			return columns, nil
		default:
			return nil, p.unexpected()
		}
	}
}

func (p *parser) references() (string, error) {
	if !p.accept("REFERENCES") {
		return "", p.unexpected()
	}
	table, err := p.tableName()
	if err != nil {
		return "", err
	}
	columns, err := p.columnList()
	if err != nil {
		return "", err
	}
	text := " REFERENCES " + quoteIdent(table) + " (" + joinIdents(columns) + ")"
	for p.peek(0).is("ON") && (p.peek(1).is("DELETE") || p.peek(1).is("UPDATE")) {
		text += " ON " + p.peek(1).upper
		p.pos += 2
		switch {
		case p.accept("CASCADE"):
			text += " CASCADE"
		case p.accept("RESTRICT"):
			text += " RESTRICT"
		case p.accept("SET", "NULL"):
			text += " SET NULL"
		case p.accept("NO", "ACTION"):
			text += " NO ACTION"
		default:
			return "", p.unexpected()
		}
	}
	return text, nil
}

// check reads CHECK (…), or DEFAULT's (…), and returns it translated.
func (p *parser) check() (string, error) {
	p.next()
	expression, err := p.parenthesised()
	return "CHECK " + expression, err
}

func (p *parser) parenthesised() (string, error) {
	if !p.peek(0).op("(") {
		return "", p.unexpected()
	}
	outer := p.out
	p.out = strings.Builder{}
	p.parens = nil
	for {
		if p.pos >= len(p.tokens) {
			return "", p.unexpected()
		}
		if p.peek(0).kind == kindParam {
			return "", p.unexpected()
		}
		if err := p.expression(); err != nil {
			return "", err
		}
		if len(p.parens) == 0 {
			break
		}
	}
	text := p.out.String()
	p.out = outer
	return text, nil
}

// sqlType is what a MySQL type becomes.
type sqlType struct {
	class   string // int, real, text, blob, time
	low, hi string // range of an int
	chars   int    // longest text; 0 for no limit beside the packet's
}

var types = map[string]sqlType{
	"TINYINT": {class: "int", low: "-128", hi: "127"}, "BOOL": {class: "int", low: "-128", hi: "127"}, "BOOLEAN": {class: "int", low: "-128", hi: "127"},
	"SMALLINT": {class: "int", low: "-32768", hi: "32767"}, "MEDIUMINT": {class: "int", low: "-8388608", hi: "8388607"},
	"INT": {class: "int", low: "-2147483648", hi: "2147483647"}, "INTEGER": {class: "int", low: "-2147483648", hi: "2147483647"}, "BIGINT": {class: "int"},
	"FLOAT": {class: "real"}, "DOUBLE": {class: "real"}, "REAL": {class: "real"},
	"CHAR": {class: "text", chars: 1}, "VARCHAR": {class: "text", chars: -1}, "TINYTEXT": {class: "text", chars: 255}, "TEXT": {class: "text", chars: 65535}, "MEDIUMTEXT": {class: "text"}, "LONGTEXT": {class: "text"}, "JSON": {class: "text"},
	"BINARY": {class: "blob", chars: 1}, "VARBINARY": {class: "blob", chars: -1}, "TINYBLOB": {class: "blob", chars: 255}, "BLOB": {class: "blob", chars: 65535}, "MEDIUMBLOB": {class: "blob"}, "LONGBLOB": {class: "blob"},
	"DATE": {class: "time"}, "DATETIME": {class: "time"}, "TIMESTAMP": {class: "time"},
}

var unsignedHigh = map[string]string{"TINYINT": "255", "SMALLINT": "65535", "MEDIUMINT": "16777215", "INT": "4294967295", "INTEGER": "4294967295"}

// column reads one column's definition.
func (p *parser) column() (columnDefinition, error) {
	name, err := p.name()
	if err != nil {
		return columnDefinition{}, err
	}
	c := columnDefinition{name: name}
	word := p.next()
	typ, known := types[word.upper]
	if !known || word.kind != kindWord {
		return c, errUnsupported("the type " + strings.ToUpper(clip(word.text)) + " of column " + clip(name))
	}
	c.typ = word.upper
	// SQLite takes a column's affinity from words within its type; these two
	// lack the word and would turn digits into numbers.
	switch {
	case word.is("JSON"):
		c.typ += " TEXT"
	case strings.HasSuffix(word.upper, "BINARY"):
		c.typ += " BLOB"
	}
	args, err := p.typeArguments()
	if err != nil {
		return c, err
	}
	if typ.chars != 0 && len(args) == 1 {
		typ.chars = args[0]
	} else if typ.chars < 0 {
		return c, errSyntax("%s of column %s needs a length", word.upper, clip(name))
	}
	if len(args) == 1 && typ.class != "int" && typ.class != "real" {
		c.typ += "(" + strconv.Itoa(args[0]) + ")"
	}
	p.accept("PRECISION")
	if p.accept("UNSIGNED") && typ.class == "int" {
		typ.low = "0"
		if high, ok := unsignedHigh[word.upper]; ok {
			typ.hi = high
		}
		c.typ += " UNSIGNED"
	}
	c.check = typ.check(name)
	return c, p.columnAttributes(&c, typ)
}

func (p *parser) typeArguments() (args []int, err error) {
	if !p.accept("(") {
		return nil, nil
	}
	for {
		n, convErr := strconv.Atoi(p.peek(0).text)
		if p.next().kind != kindNumber || convErr != nil {
			p.pos--
			return nil, p.unexpected()
		}
		args = append(args, n)
		if p.accept(")") {
			return args, nil
		}
		if !p.accept(",") {
			return nil, p.unexpected()
		}
	}
}

// check is the constraint that holds a column to its type. Its name tells the
// translation of errors what was violated.
func (t sqlType) check(column string) string {
	c := quoteIdent(column)
	constraint := func(kind, condition string) string {
		return " CONSTRAINT " + quoteIdent("vd:"+kind+":"+column) + " CHECK (" + condition + ")"
	}
	switch t.class {
	case "int":
		text := constraint("int", "typeof("+c+") IN ('integer','null')")
		if t.hi != "" {
			text += constraint("range", c+" BETWEEN "+t.low+" AND "+t.hi)
		} else if t.low != "" {
			text += constraint("range", c+" >= "+t.low)
		}
		return text
	case "real":
		return constraint("real", "typeof("+c+") IN ('real','integer','null')")
	case "blob":
		if t.chars > 0 {
			return constraint("length", "octet_length("+c+") <= "+strconv.Itoa(t.chars))
		}
	case "text":
		text := constraint("text", "typeof("+c+") IN ('text','null')")
		if t.chars > 0 {
			text += constraint("length", "length("+c+") <= "+strconv.Itoa(t.chars))
		}
		return text
	case "time":
		return constraint("time", c+" GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'")
	}
	return ""
}

func (p *parser) columnAttributes(c *columnDefinition, typ sqlType) error {
	for {
		switch {
		case p.accept("NOT", "NULL"):
			c.notNull = true
		case p.accept("NULL"):
		case p.accept("PRIMARY", "KEY"):
			c.primary = true
		case p.accept("UNIQUE", "KEY"), p.accept("UNIQUE"):
			c.attributes += " UNIQUE"
		case p.accept("AUTO_INCREMENT"):
			if typ.class != "int" {
				return errorf(1063, "42000", "Incorrect column specifier for column '%s'", clip(c.name))
			}
			c.autoIncrement = true
		case p.accept("COMMENT"):
			if p.next().kind != kindString {
				p.pos--
				return p.unexpected()
			}
		case p.accept("CHARACTER", "SET"), p.accept("CHARSET"):
			if _, err := p.name(); err != nil {
				return err
			}
		case p.accept("COLLATE"):
			name, err := p.name()
			if err != nil {
				return err
			}
			if strings.HasSuffix(strings.ToLower(name), "_ci") {
				c.attributes += " COLLATE NOCASE"
			}
		case p.accept("DEFAULT"):
			if err := p.columnDefault(c); err != nil {
				return err
			}
		case p.peek(0).is("REFERENCES"):
			text, err := p.references()
			if err != nil {
				return err
			}
			c.attributes += text
		case p.peek(0).is("CHECK"):
			text, err := p.check()
			if err != nil {
				return err
			}
			c.attributes += " " + text
		case p.peek(0).is("ON"), p.peek(0).is("GENERATED"):
			return errUnsupported("ON UPDATE and generated columns")
		default:
			return nil
		}
	}
}

func (p *parser) columnDefault(c *columnDefinition) error {
	if p.peek(0).op("(") {
		text, err := p.parenthesised()
		c.attributes += " DEFAULT " + text
		return err
	}
	sign := ""
	if p.accept("-") {
		sign = "-"
	}
	t := p.next()
	switch {
	case t.kind == kindNumber:
		c.attributes += " DEFAULT " + sign + t.text
	case sign != "":
		return p.unexpected()
	case t.kind == kindString || t.kind == kindHex:
		outer := p.out
		p.out = strings.Builder{}
		err := p.bytes(t)
		c.attributes += " DEFAULT (" + p.out.String() + ")"
		p.out = outer
		return err
	case t.is("NULL") || t.is("TRUE") || t.is("FALSE"):
		c.attributes += " DEFAULT " + t.upper
	case t.is("CURRENT_TIMESTAMP") || t.is("NOW"):
		if _, err := p.optionalPrecision(); err != nil {
			return err
		}
		c.attributes += " DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now'))"
	default:
		p.pos--
		return p.unexpected()
	}
	return nil
}

func (p *parser) optionalPrecision() (int, error) {
	if !p.accept("(") || p.accept(")") {
		return 0, nil
	}
	n, err := strconv.Atoi(p.next().text)
	if err != nil || !p.accept(")") {
		return 0, p.unexpected()
	}
	return n, nil
}

// text is the CREATE TABLE that SQLite gets.
func (d *tableDefinition) text(ifNot string) (string, error) {
	auto := -1
	for i := range d.columns {
		c := &d.columns[i]
		if c.primary {
			d.primary = append(d.primary, c.name)
		}
		if c.autoIncrement {
			auto = i
		}
	}
	if auto >= 0 && !(len(d.primary) == 1 && strings.EqualFold(d.primary[0], d.columns[auto].name)) {
		return "", errorf(1075, "42000", "Incorrect table definition; the one AUTO_INCREMENT column must be the primary key")
	}
	items := make([]string, 0, len(d.columns)+len(d.constraints)+1)
	for i, c := range d.columns {
		items = append(items, c.text(slices.ContainsFunc(d.primary, func(n string) bool { return strings.EqualFold(n, c.name) }), i == auto))
	}
	if len(d.primary) > 0 && auto < 0 {
		items = append(items, "PRIMARY KEY ("+joinIdents(d.primary)+")")
	}
	items = append(items, d.constraints...)
	return "CREATE TABLE " + ifNot + quoteIdent(d.name) + " (" + strings.Join(items, ", ") + ")", nil
}

func (c columnDefinition) text(primary, auto bool) string {
	if auto {
		return quoteIdent(c.name) + " INTEGER PRIMARY KEY AUTOINCREMENT"
	}
	text := quoteIdent(c.name) + " " + c.typ
	if c.notNull || primary {
		text += " NOT NULL"
	}
	return text + c.attributes + c.check
}

func (p *parser) createIndex(unique bool) (plan, error) {
	ifNot := p.accept("IF", "NOT", "EXISTS")
	name, err := p.name()
	if err != nil {
		return plan{}, err
	}
	if !p.accept("ON") {
		return plan{}, p.unexpected()
	}
	table, err := p.tableName()
	if err != nil {
		return plan{}, err
	}
	columns, err := p.columnList()
	if err != nil {
		return plan{}, err
	}
	p.out.WriteString(indexText(table, name, columns, unique, ifNot))
	return p.ended(actDefine)
}

func (p *parser) dropTable() (plan, error) {
	ifExists := ""
	if p.accept("IF", "EXISTS") {
		ifExists = "IF EXISTS "
	}
	var statements []string
	for {
		name, err := p.tableName()
		if err != nil {
			return plan{}, err
		}
		statements = append(statements, "DROP TABLE "+ifExists+quoteIdent(name))
		if !p.accept(",") {
			break
		}
	}
	if !p.accept("CASCADE") {
		p.accept("RESTRICT")
	}
	_, err := p.ended(actDefine)
	return plan{action: actDefine, sql: statements}, err
}

func (p *parser) dropIndex() (plan, error) {
	name, err := p.name()
	if err != nil {
		return plan{}, err
	}
	if !p.accept("ON") {
		return plan{}, p.unexpected()
	}
	table, err := p.tableName()
	if err != nil {
		return plan{}, err
	}
	p.out.WriteString("DROP INDEX " + indexName(table, name))
	return p.ended(actDefine)
}

// alterTable takes the changes that SQLite can make in place.
func (p *parser) alterTable() (plan, error) {
	table, err := p.tableName()
	if err != nil {
		return plan{}, err
	}
	var statements []string
	for {
		text, err := p.alteration(table)
		if err != nil {
			return plan{}, err
		}
		statements = append(statements, text)
		if !p.accept(",") {
			break
		}
	}
	_, err = p.ended(actDefine)
	return plan{action: actDefine, sql: statements}, err
}

func (p *parser) alteration(table string) (string, error) {
	alter := "ALTER TABLE " + quoteIdent(table)
	switch {
	case p.accept("ADD", "UNIQUE"), p.accept("ADD", "INDEX"), p.accept("ADD", "KEY"):
		unique := p.peek(-1).is("UNIQUE")
		if unique && !p.accept("INDEX") {
			p.accept("KEY")
		}
		d := &tableDefinition{name: table}
		if err := p.tableIndex(d, unique); err != nil {
			return "", err
		}
		return d.indexes[0], nil
	case p.accept("ADD", "COLUMN"), p.peek(0).is("ADD") && !p.peek(1).is("CONSTRAINT") && !p.peek(1).is("PRIMARY") && !p.peek(1).is("FOREIGN") && p.accept("ADD"):
		c, err := p.column()
		if err != nil {
			return "", err
		}
		if c.primary || c.autoIncrement {
			return "", errUnsupported("ADD COLUMN with a primary key")
		}
		return alter + " ADD COLUMN " + c.text(false, false), nil
	case p.accept("DROP", "COLUMN"):
		name, err := p.name()
		return alter + " DROP COLUMN " + quoteIdent(name), err
	case p.accept("DROP", "INDEX"), p.accept("DROP", "KEY"):
		name, err := p.name()
		return "DROP INDEX " + indexName(table, name), err
	case p.accept("RENAME", "COLUMN"):
		from, err := p.name()
		if err != nil || !p.accept("TO") {
			return "", p.unexpected()
		}
		to, err := p.name()
		return alter + " RENAME COLUMN " + quoteIdent(from) + " TO " + quoteIdent(to), err
	}
	return "", errUnsupported("this ALTER TABLE")
}

// transaction translates what begins and ends one.
func (p *parser) transaction() (plan, error) {
	switch {
	case p.accept("BEGIN"):
		p.accept("WORK")
		return p.ended(actBegin)
	case p.accept("START", "TRANSACTION"):
		act := actBegin
		for {
			switch {
			case p.accept("READ", "ONLY"):
				act = actBeginRead
			case p.accept("READ", "WRITE"), p.accept("WITH", "CONSISTENT", "SNAPSHOT"):
			default:
				return p.ended(act)
			}
			p.accept(",")
		}
	case p.accept("COMMIT"):
		p.accept("WORK")
		p.accept("AND", "NO", "CHAIN")
		return p.ended(actCommit)
	case p.accept("ROLLBACK", "TO"), p.accept("ROLLBACK", "WORK", "TO"):
		p.accept("SAVEPOINT")
		return p.savepoint("ROLLBACK TO ")
	case p.accept("ROLLBACK"):
		p.accept("WORK")
		p.accept("AND", "NO", "CHAIN")
		return p.ended(actRollback)
	case p.accept("SAVEPOINT"):
		return p.savepoint("SAVEPOINT ")
	case p.accept("RELEASE", "SAVEPOINT"):
		return p.savepoint("RELEASE ")
	}
	return plan{}, p.unexpected()
}

func (p *parser) savepoint(verb string) (plan, error) {
	name, err := p.name()
	if err != nil {
		return plan{}, err
	}
	p.out.WriteString(verb)
	writeIdent(&p.out, name)
	return p.ended(actSavepoint)
}

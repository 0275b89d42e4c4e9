package mysql

import (
	"context"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/ncruces/go-sqlite3"
)

// sqliteStatement is a prepared statement. SQLite compiles it again by itself
// when the tables changed, and the session does when the database did.
type sqliteStatement struct {
	session *sqliteSession
	plan    plan
	stmt    *sqlite3.Stmt // nil for what the session carries out itself
	conn    *sqlite3.Conn // where stmt lives
	params  int
}

// Prepare translates and compiles.
func (s *sqliteSession) Prepare(ctx context.Context, query string) (Statement, error) {
	p, err := translate(query, environment{database: s.name, system: s.system})
	if err != nil {
		return nil, err
	}
	st := &sqliteStatement{session: s, plan: p}
	switch p.action {
	case actRead, actLockRead, actWrite:
		if err := st.compile(ctx); err != nil {
			return nil, err
		}
		st.params = st.stmt.BindCount()
	}
	return st, nil
}

// connect makes sure that there is a connection: a query without tables needs
// no database, but an engine.
func (s *sqliteSession) connect() error {
	if s.conn != nil {
		return nil
	}
	conn, err := sqlite3.Open(":memory:")
	if err != nil {
		return s.failed(err)
	}
	s.conn, s.db = conn, &sqliteDatabase{writer: make(chan struct{}, 1)}
	if err := conn.Exec("PRAGMA temp_store=MEMORY"); err != nil { // a sort writes no file
		return s.failed(err)
	}
	return s.confine()
}

func (st *sqliteStatement) compile(ctx context.Context) error {
	s := st.session
	if err := s.connect(); err != nil {
		return err
	}
	if st.stmt != nil && st.conn == s.conn {
		return nil
	}
	if s.name == "" && st.plan.action == actWrite {
		return errNoDatabase()
	}
	old := s.conn.SetInterrupt(ctx)
	defer s.conn.SetInterrupt(old)
	stmt, tail, err := s.conn.Prepare(st.plan.sql[0])
	if err != nil {
		return s.failed(err)
	}
	if stmt == nil || tail != "" {
		_ = stmt.Close()
		return errSyntax("only one statement at a time is accepted")
	}
	// What translation took for a query must be one for SQLite too.
	if st.plan.action != actWrite && !stmt.ReadOnly() {
		_ = stmt.Close()
		return errSyntax("a query must not change anything")
	}
	st.stmt, st.conn = stmt, s.conn
	return nil
}

func (st *sqliteStatement) Params() int { return st.params }

func (st *sqliteStatement) Columns() []Column {
	if st.stmt == nil || st.conn != st.session.conn {
		return nil
	}
	return st.columns()
}

func (st *sqliteStatement) Close() error {
	if st.stmt == nil || st.conn != st.session.conn {
		return nil // closed with its connection
	}
	return st.stmt.Close()
}

// Run executes.
func (st *sqliteStatement) Run(ctx context.Context, args []Value, out Rows) (Result, error) {
	s := st.session
	switch st.plan.action {
	case actSet:
		return Result{}, s.set(st.plan.tokens)
	case actShow:
		return Result{}, s.show(st.plan.tokens, out)
	case actNothing:
		return Result{}, nil
	case actRead, actLockRead, actWrite:
		if err := st.compile(ctx); err != nil {
			return Result{}, err
		}
	}
	if s.name == "" && st.plan.action != actRead {
		switch st.plan.action {
		case actBegin, actBeginRead, actCommit, actRollback, actSavepoint:
			return Result{}, nil // nothing to begin or end
		}
		return Result{}, errNoDatabase()
	}
	if s.doomed && st.plan.action != actRollback {
		// The end of a transaction that is gone is told once; everything else
		// would take effect outside of the transaction that it was meant for.
		s.doomed = st.plan.action != actCommit && st.plan.action != actBegin && st.plan.action != actBeginRead
		return Result{}, errDoomed()
	}
	old := s.conn.SetInterrupt(ctx)
	defer s.conn.SetInterrupt(old)
	defer s.settle()
	switch st.plan.action {
	case actRead, actLockRead, actWrite, actSavepoint:
		if s.inTransaction() {
			defer func() { s.doomed = !s.inTransaction() }()
		}
	}
	switch st.plan.action {
	case actBegin, actBeginRead:
		return Result{}, s.begin(ctx, st.plan.action == actBeginRead)
	case actCommit:
		return Result{}, s.commit()
	case actRollback:
		return Result{}, s.failed(s.rollback())
	case actSavepoint:
		return Result{}, s.savepoint(ctx, st.plan.sql[0])
	case actDefine:
		return Result{}, s.define(ctx, st.plan.sql)
	case actRead:
		return st.step(args, out)
	}
	if s.readOnly {
		return Result{}, errorf(1792, "25006", "Cannot execute statement in a READ ONLY transaction.")
	}
	if !s.inTransaction() && (!s.autocommit || st.plan.action == actLockRead) {
		if err := s.begin(ctx, false); err != nil {
			return Result{}, err
		}
		if s.autocommit { // a locking read by itself: its lock ends with it
			r, err := st.step(args, out)
			return r, errors.Join(err, s.commit())
		}
	}
	if err := s.acquire(ctx); err != nil {
		return Result{}, err
	}
	return st.step(args, out)
}

func (s *sqliteSession) savepoint(ctx context.Context, sql string) error {
	if !s.inTransaction() {
		if s.autocommit {
			return nil // as MySQL: without a transaction it has no effect
		}
		if err := s.begin(ctx, false); err != nil {
			return err
		}
	}
	return s.failed(s.conn.Exec(sql))
}

// define runs a translated definition as a whole or not at all. As in MySQL
// it commits the open transaction first.
func (s *sqliteSession) define(ctx context.Context, statements []string) error {
	if err := s.begin(ctx, false); err != nil {
		return err
	}
	s.defining = true
	defer func() { s.defining = false }()
	for _, sql := range statements {
		if err := s.conn.Exec(sql); err != nil {
			return s.failed(errors.Join(err, s.rollback()))
		}
	}
	return s.commit()
}

// step binds the arguments and runs the statement to its end.
func (st *sqliteStatement) step(args []Value, out Rows) (res Result, err error) {
	s := st.session
	if len(args) != st.params {
		return Result{}, errorf(1210, "HY000", "Incorrect arguments: the statement has %d placeholders, %d values came", st.params, len(args))
	}
	defer func() {
		err = errors.Join(err, s.resetError(st.stmt, err))
	}()
	for i, a := range args {
		if err := bind(st.stmt, i+1, a); err != nil {
			return Result{}, s.failed(err)
		}
	}
	before := s.conn.TotalChanges()
	s.conn.SetLastInsertRowID(0)
	if st.stmt.ColumnCount() > 0 {
		if err := st.rows(out); err != nil {
			return Result{}, err
		}
	} else {
		for st.stmt.Step() {
		}
		if err := st.stmt.Err(); err != nil {
			return Result{}, s.failed(err)
		}
	}
	s.rowCount = -1
	if st.plan.action == actWrite {
		s.rowCount = s.conn.Changes()
		if s.conn.TotalChanges() == before {
			s.rowCount = 0
		}
		res.Affected = uint64(s.rowCount)
	}
	if id := s.conn.LastInsertRowID(); st.plan.insert && id > 0 && res.Affected > 0 {
		s.lastInsertID = id
		res.LastInsertID = uint64(id)
	}
	return res, nil
}

// resetError resets the statement so that it holds no lock and no argument.
// Reset repeats the error of the step, which was reported already.
func (s *sqliteSession) resetError(stmt *sqlite3.Stmt, reported error) error {
	err := errors.Join(stmt.Reset(), stmt.ClearBindings())
	if reported != nil {
		return nil
	}
	return s.failed(err)
}

func bind(stmt *sqlite3.Stmt, i int, v Value) error {
	switch v := v.(type) {
	case nil:
		return stmt.BindNull(i)
	case int64:
		return stmt.BindInt64(i, v)
	case uint64:
		if v > math.MaxInt64 {
			return errorf(1264, "22003", "Out of range value for placeholder %d", i)
		}
		return stmt.BindInt64(i, int64(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errorf(1264, "22003", "Out of range value for placeholder %d", i)
		}
		return stmt.BindFloat(i, v)
	case string:
		return stmt.BindText(i, v)
	case []byte:
		if utf8.Valid(v) { // see (*parser).bytes
			return stmt.BindText(i, string(v))
		}
		return stmt.BindBlob(i, v)
	}
	return errorf(1210, "HY000", "Incorrect arguments: placeholder %d has a type that is not supported", i)
}

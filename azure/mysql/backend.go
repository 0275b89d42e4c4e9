package mysql

import "context"

// Backend is what answers statements behind the gate. The gate owns the
// network, TLS, who may log in and which databases an account may use, and the
// audit log; a Backend owns the data. The one of this package is SQLite files
// under a customer-managed key; a MariaDB server behind the same gate is
// another.
type Backend interface {
	// Open starts a session of an account that was let in. The database may be
	// empty. An error wraps cmk.ErrInaccessible while there is no key.
	Open(ctx context.Context, who Identity, database string) (Session, error)
	// Databases lists what exists.
	Databases() []string
}

// Identity is what a session knows about its client, for CURRENT_USER() and
// the like.
type Identity struct {
	Account      string
	Host         string
	ConnectionID uint32
	// MayUse says whether the account may use a database.
	MayUse func(database string) bool
	// FoundRows makes UPDATE report the rows it matched (CLIENT_FOUND_ROWS).
	FoundRows bool
}

// Session is one client's state: its database, transaction and variables. It
// is used by one goroutine at a time. Its errors are *Error or wrap
// cmk.ErrInaccessible; any other is reported as an internal error without its
// text.
type Session interface {
	// Use changes the database; the caller has checked that the account may.
	Use(ctx context.Context, database string) error
	// Prepare parses one statement in MySQL's spelling.
	Prepare(ctx context.Context, query string) (Statement, error)
	// Status is the transaction state, as in an OK packet.
	Status() Status
	// Reset rolls back and forgets the session's variables
	// (COM_RESET_CONNECTION).
	Reset(ctx context.Context) error
	// Database is the current database; empty for none.
	Database() string
	// Close rolls back and frees the session.
	Close() error
}

// Statement is one prepared statement of a Session, which outlives it.
type Statement interface {
	// Params is the number of placeholders.
	Params() int
	// Columns describes the result as far as that is known before execution;
	// nil for a statement without one.
	Columns() []Column
	// Run executes with one argument a placeholder and sends a result's rows,
	// if any, to out. It may be called again.
	Run(ctx context.Context, args []Value, out Rows) (Result, error)
	Close() error
}

// Value is nil, int64, uint64, float64, string (text) or []byte.
type Value any

// Rows takes a result: once its columns, then each row. The values of a row
// are valid only during the call.
type Rows interface {
	Columns([]Column) error
	Row([]Value) error
}

// Result is what an OK packet says about a statement.
type Result struct {
	Affected     uint64
	LastInsertID uint64
}

// Column describes one column of a result.
type Column struct {
	Database, Table, OrgTable, Name, OrgName string
	Type                                     ColumnType
	NotNull, PrimaryKey, Unsigned            bool
}

// ColumnType is a column's type on the wire.
type ColumnType byte

// The types that results are sent in.
const (
	TypeDouble   ColumnType = 0x05
	TypeNull     ColumnType = 0x06
	TypeLongLong ColumnType = 0x08
	TypeDate     ColumnType = 0x0a
	TypeDateTime ColumnType = 0x0c
	TypeBlob     ColumnType = 0xfc
	TypeText     ColumnType = 0xfd
)

// Status is the part of the server status flags that changes.
type Status uint16

// The status flags.
const (
	StatusInTransaction       Status = 0x0001
	StatusAutocommit          Status = 0x0002
	StatusReadOnlyTransaction Status = 0x2000
)

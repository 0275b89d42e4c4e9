package mysql

import (
	"errors"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"verdant/internal/sqlstore"
)

// failed is the one place where SQLite's errors become MySQL's. Nothing of the
// data is in them: where MySQL names a duplicate value, only its key is named.
func (s *sqliteSession) failed(err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	if sqlstore.Full(err) {
		return errorf(1114, "HY000", "The disk is full; nothing of this statement was kept")
	}
	var e *sqlite3.Error
	message := ""
	if errors.As(err, &e) {
		_, message, _ = strings.Cut(strings.TrimPrefix(e.Error(), "sqlite3: "), ": ")
	}
	var code sqlite3.ErrorCode
	if !errors.As(err, &code) {
		return err
	}
	switch code {
	case sqlite3.CONSTRAINT:
		return constraintError(err, message)
	case sqlite3.BUSY, sqlite3.LOCKED:
		return errLockWait()
	case sqlite3.INTERRUPT:
		return errInterrupted()
	case sqlite3.AUTH, sqlite3.PERM:
		return errDenied("this")
	case sqlite3.TOOBIG:
		return errorf(1406, "22001", "Data too long: a value or statement is over %d bytes", maxPacket)
	case sqlite3.MISMATCH:
		return errorf(1366, "HY000", "Incorrect integer value for the primary key")
	case sqlite3.NOTADB, sqlite3.CORRUPT:
		return fatalf(1030, "HY000", "Got error from the storage engine: the file of database '%s' does not open with its key or is damaged", s.name)
	case sqlite3.CANTOPEN, sqlite3.IOERR, sqlite3.READONLY:
		return fatalf(1030, "HY000", "Got error %v from the storage engine of database '%s'", code, s.name)
	case sqlite3.ERROR:
		return s.statementError(message)
	}
	return err
}

func constraintError(err error, message string) error {
	_, what, _ := strings.Cut(message, ": ")
	switch {
	case errors.Is(err, sqlite3.CONSTRAINT_UNIQUE), errors.Is(err, sqlite3.CONSTRAINT_PRIMARYKEY), errors.Is(err, sqlite3.CONSTRAINT_ROWID):
		return errorf(1062, "23000", "Duplicate entry for key '%s'", what)
	case errors.Is(err, sqlite3.CONSTRAINT_NOTNULL):
		return errorf(1048, "23000", "Column '%s' cannot be null", lastPart(what))
	case errors.Is(err, sqlite3.CONSTRAINT_FOREIGNKEY):
		return errorf(1452, "23000", "Cannot add, update or delete a row: a foreign key constraint fails")
	case errors.Is(err, sqlite3.CONSTRAINT_CHECK):
		parts := strings.SplitN(what, ":", 3)
		if len(parts) != 3 || parts[0] != "vd" {
			return errorf(3819, "HY000", "Check constraint '%s' is violated.", what)
		}
		switch kind, column := parts[1], parts[2]; kind {
		case "length":
			return errorf(1406, "22001", "Data too long for column '%s'", column)
		case "range":
			return errorf(1264, "22003", "Out of range value for column '%s'", column)
		case "time":
			return errorf(1292, "22007", "Incorrect datetime value for column '%s'", column)
		case "text":
			return errorf(1366, "HY000", "Incorrect string value for column '%s'", column)
		default:
			return errorf(1366, "HY000", "Incorrect number for column '%s'", column)
		}
	}
	return errorf(3819, "HY000", "A constraint is violated")
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// statementError maps what SQLite says about a statement that it cannot
// compile, which is only known by its text.
func (s *sqliteSession) statementError(message string) error {
	after := func(prefix string) (string, bool) { return strings.CutPrefix(message, prefix) }
	if name, ok := after("no such table: "); ok {
		if s.name == "" {
			return errNoDatabase()
		}
		name = strings.TrimPrefix(name, "main.")
		if other, _, qualified := strings.Cut(name, "."); qualified {
			return errOtherDatabase(other)
		}
		return errorf(1146, "42S02", "Table '%s.%s' doesn't exist", s.name, clip(name))
	}
	if name, ok := after("no such column: "); ok {
		return errorf(1054, "42S22", "Unknown column '%s'", clip(name))
	}
	if name, ok := after("no such index: "); ok {
		return errorf(1091, "42000", "Can't DROP '%s'; check that column/key exists", clip(lastPart(name)))
	}
	if name, ok := after("no such savepoint: "); ok {
		return errorf(1305, "42000", "SAVEPOINT %s does not exist", clip(name))
	}
	if name, ok := after("ambiguous column name: "); ok {
		return errorf(1052, "23000", "Column '%s' is ambiguous", clip(name))
	}
	if _, ok := after("unknown database "); ok {
		return errOtherDatabase(message[len("unknown database "):])
	}
	switch {
	case strings.Contains(message, "has no column named"):
		return errorf(1054, "42S22", "Unknown column: %s", clip(message))
	case strings.HasPrefix(message, "table ") && strings.HasSuffix(message, "already exists"):
		return errorf(1050, "42S01", "Table '%s' already exists", clip(strings.Trim(message[len("table "):len(message)-len(" already exists")], "`\"")))
	case strings.HasPrefix(message, "index ") && strings.HasSuffix(message, "already exists"):
		return errorf(1061, "42000", "Duplicate key name '%s'", clip(lastPart(strings.Trim(message[len("index "):len(message)-len(" already exists")], "`\""))))
	case strings.HasPrefix(message, "duplicate column name"):
		return errorf(1060, "42S21", "Duplicate column name '%s'", clip(strings.TrimPrefix(message, "duplicate column name: ")))
	case strings.Contains(message, "not authorized") || strings.Contains(message, "prohibited"):
		return errDenied("this")
	case strings.Contains(message, "values for") || strings.Contains(message, "values were supplied"):
		return errorf(1136, "21S01", "Column count doesn't match value count at row 1")
	case strings.HasPrefix(message, "wrong number of arguments"):
		return errorf(1582, "42000", "Incorrect parameter count in the call to a native function")
	case message == "":
		return errorf(1105, "HY000", "The statement could not be executed")
	}
	return errSyntax("%s", clip80(message))
}

func clip80(s string) string {
	if len(s) > 160 {
		s = s[:160]
	}
	return strings.ToValidUTF8(s, "?")
}

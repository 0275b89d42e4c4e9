package mysql

import (
	"fmt"
)

// Error is an answer other than success, with the code and SQLSTATE of the
// MySQL server for it (MySQL 8.0 Error Message Reference, server errors).
type Error struct {
	Code    uint16
	State   string
	Message string
	// fatal ends the connection after the error was sent.
	fatal bool
}

func (e *Error) Error() string { return fmt.Sprintf("error %d (%s): %s", e.Code, e.State, e.Message) }

func errorf(code uint16, state, format string, args ...any) *Error {
	return &Error{Code: code, State: state, Message: fmt.Sprintf(format, args...)}
}

func fatalf(code uint16, state, format string, args ...any) *Error {
	e := errorf(code, state, format, args...)
	e.fatal = true
	return e
}

func errSyntax(format string, args ...any) *Error {
	return errorf(1064, "42000", "You have an error in your SQL syntax: "+format, args...)
}

func errUnsupported(what string) *Error {
	return errorf(1235, "42000", "This server doesn't support %s", what)
}

func errDenied(what string) *Error {
	return errorf(1142, "42000", "%s is denied to every account of this server", what)
}

func errNoDatabase() *Error { return errorf(1046, "3D000", "No database selected") }

func errDatabaseDenied(account, database string) *Error {
	return errorf(1044, "42000", "Access denied for user '%s' to database '%s'", account, database)
}

func errUnknownDatabase(database string) *Error {
	return errorf(1049, "42000", "Unknown database '%s'", database)
}

// errInaccessible ends the connection: without its key the server has no data.
func errInaccessible(name string, cause error) *Error {
	return fatalf(3185, "HY000", "Server %s is inaccessible: %v", name, cause)
}

func (e *Error) packet() []byte {
	b := []byte{0xff, byte(e.Code), byte(e.Code >> 8), '#'}
	b = append(b, e.State...)
	message := e.Message
	if len(message) > 1024 {
		message = message[:1024]
	}
	return append(b, message...)
}

package kql

import "fmt"

// ErrorCode is the class of a refusal, as the query API names it.
type ErrorCode string

// The classes.
const (
	// SyntaxError: the text is not the language.
	SyntaxError ErrorCode = "SyntaxError"
	// SemanticError: names or types do not resolve.
	SemanticError ErrorCode = "SemanticError"
	// NotImplemented: the language has it, this engine does not yet.
	NotImplemented ErrorCode = "NotImplemented"
	// LimitExceeded: rows, memory, nesting or length above the bound.
	LimitExceeded ErrorCode = "LimitExceeded"
	// RuntimeError: evaluation cannot go on, for instance an externally given
	// value is outside what an operator accepts.
	RuntimeError ErrorCode = "RuntimeError"
	// Cancelled: the context or the time limit ended the query.
	Cancelled ErrorCode = "Cancelled"
)

// Error is a refusal with its place. Line and Column count from 1 (columns in
// characters), Pos is the byte offset, Token the text found there. Line is 0
// where an error has no place in the text. A Message quotes names from the
// query, never values from the data.
type Error struct {
	Code    ErrorCode
	Message string
	Line    int
	Column  int
	Pos     int
	Token   string

	cause error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s at line %d, column %d: %s", e.Code, e.Line, e.Column, e.Message)
}

// Unwrap gives the context's error behind a Cancelled.
func (e *Error) Unwrap() error { return e.cause }

// position turns a byte offset into a line and a column.
func position(text string, pos int) (line, col int) {
	line, col = 1, 1
	for i, r := range text {
		if i >= pos {
			break
		}
		if r == '\n' {
			line++
			col = 1
		} else {
			col++
		}
	}
	return line, col
}

func errorAt(text string, code ErrorCode, pos int, token, format string, args ...any) *Error {
	line, col := position(text, pos)
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Line: line, Column: col, Pos: pos, Token: token}
}

func plainError(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

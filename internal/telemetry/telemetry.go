// Package telemetry names the seam between those who produce log rows and the
// store that keeps them. A row is a map from the column names of a standard
// log table to Go values; the store checks them against the table's schema.
package telemetry

import "context"

// Row is one log record: column name to string, bool, int64, float64,
// time.Time, or any JSON value for a dynamic column.
type Row map[string]any

// Sink accepts log rows. Emit returns after the rows are durable, or with an
// error and none of them kept. It is safe for concurrent use.
type Sink interface {
	Emit(ctx context.Context, table string, rows ...Row) error
}

// Discard is a Sink that keeps nothing, for services run without a workspace.
type Discard struct{}

// Emit returns nil.
func (Discard) Emit(context.Context, string, ...Row) error { return nil }

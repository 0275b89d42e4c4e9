package kql

import (
	"context"
	"iter"
	"slices"
)

// ScanRequest says what a query needs of a table. All of it is advice: a table
// may hand out more rows than the bounds ask for, since the plan filters again,
// but must hand out every row inside them.
type ScanRequest struct {
	// Columns are the needed columns; a batch has exactly these, in this
	// order. Empty means that only the number of rows matters.
	Columns []string
	// From and To bound the column TimeGenerated, From inclusive, To
	// exclusive (ticks). Zero means unbounded.
	From, To Ticks
	// Limit is the number of rows after which the reader will stop, or 0.
	Limit int64
}

// Table is a source of rows. Scan must be safe for concurrent use; its
// iteration ends after the first error. Batches are not to be changed after
// they were yielded.
type Table interface {
	Schema() Schema
	Scan(ctx context.Context, req ScanRequest) iter.Seq2[*Batch, error]
}

// Catalog resolves the names that a query may use.
type Catalog interface {
	// Table resolves a table by its exact name.
	Table(name string) (Table, bool)
	// TableNames lists the tables: for wildcards in union and for the hint in
	// an error about an unknown name.
	TableNames() []string
	// Workspace resolves workspace("id").Table; ok is false where the id is
	// unknown or not permitted.
	Workspace(id string) (c Catalog, ok bool)
}

// MapCatalog is a Catalog in memory with one workspace.
type MapCatalog map[string]Table

// Table implements Catalog.
func (m MapCatalog) Table(name string) (Table, bool) {
	t, ok := m[name]
	return t, ok
}

// TableNames implements Catalog.
func (m MapCatalog) TableNames() []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Workspace implements Catalog: there are no others.
func (m MapCatalog) Workspace(string) (Catalog, bool) { return nil, false }

// MemTable is a Table of batches in memory. The batches have the schema's
// columns in order.
type MemTable struct {
	schema  Schema
	batches []*Batch
}

// NewMemTable makes a table of the batches; it keeps the slice.
func NewMemTable(schema Schema, batches ...*Batch) *MemTable {
	return &MemTable{schema: schema, batches: batches}
}

// Schema implements Table.
func (t *MemTable) Schema() Schema { return t.schema }

// Scan implements Table; it ignores the time bounds.
func (t *MemTable) Scan(ctx context.Context, req ScanRequest) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		cols := make([]int, len(req.Columns))
		for i, name := range req.Columns {
			cols[i] = t.schema.Index(name)
		}
		for _, b := range t.batches {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			out := &Batch{Columns: make([]*Vector, len(cols)), n: b.n}
			for i, c := range cols {
				out.Columns[i] = b.Columns[c]
			}
			for lo := 0; lo < out.n; lo += batchRows {
				if !yield(out.slice(lo, min(lo+batchRows, out.n)), nil) {
					return
				}
			}
		}
	}
}

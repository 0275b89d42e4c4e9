package loganalytics

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"

	"verdant/kql"
)

// catalog is one or more workspaces as one query sees them: a table is the
// union of theirs. It is made for the query.
type catalog struct {
	workspaces []*workspace
	query      *view
}

// view is what one query may read and what it has read.
type view struct {
	text    string
	span    timeRange // of TimeGenerated, from the request
	stats   scanStats
	resolve func(name string) (*workspace, error)
	// failed is the first error of storage or authorisation.
	failed error
}

// Table implements kql.Catalog.
func (c *catalog) Table(name string) (kql.Table, bool) {
	if _, ok := c.workspaces[0].store.tables[name]; !ok {
		return nil, false
	}
	return c.view(name), true
}

// TableNames implements kql.Catalog.
func (c *catalog) TableNames() []string {
	return slices.Sorted(maps.Keys(c.workspaces[0].store.tables))
}

// Workspace implements kql.Catalog for workspace("…").
func (c *catalog) Workspace(id string) (kql.Catalog, bool) {
	w, err := c.query.resolve(id)
	if err != nil {
		c.query.fail(err)
		return nil, false
	}
	return &catalog{[]*workspace{w}, c.query}, true
}

// kqlType maps this package's kinds to the language's types.
func kqlType(k kind) kql.Type {
	switch k {
	case kindBool:
		return kql.Bool
	case kindInt:
		return kql.Int
	case kindLong:
		return kql.Long
	case kindReal:
		return kql.Real
	case kindDateTime:
		return kql.DateTime
	case kindTimespan:
		return kql.TimeSpan
	case kindDynamic:
		return kql.Dynamic
	case kindGUID:
		return kql.GUID
	case kindDecimal:
		return kql.Decimal
	}
	return kql.String
}

// tableView is one table as one query sees it.
type tableView struct {
	stores []*store
	table  *table
	query  *view
	schema kql.Schema
	at     map[string]int // position in the table's schema
}

// view makes the table's columns for a query: the hidden ones are among them
// if the query's text has their names.
func (c *catalog) view(name string) *tableView {
	t := c.workspaces[0].store.tables[name].schema
	v := &tableView{table: t, query: c.query, at: map[string]int{}}
	for _, w := range c.workspaces {
		v.stores = append(v.stores, w.store)
	}
	add := func(name string, at int) {
		v.schema = append(v.schema, kql.Column{Name: name, Type: kqlType(t.columns[at].kind)})
		v.at[name] = at
	}
	for i, column := range t.columns {
		if !column.hidden || c.query.names(column.name) {
			add(column.name, i)
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(t.aliases)) {
		if c.query.names(alias) {
			add(alias, t.index[t.aliases[alias]])
		}
	}
	return v
}

// names reports whether a hidden column may be meant somewhere in the query.
func (q *view) names(column string) bool {
	return strings.Contains(q.text, column) || column == "_TimeReceived" && strings.Contains(q.text, "ingestion_time")
}

// Schema implements kql.Table.
func (v *tableView) Schema() kql.Schema { return v.schema }

var errEnough = errors.New("the query has enough rows")

// Scan implements kql.Table. It hands out the rows inside the request's
// timespan and no others.
func (v *tableView) Scan(ctx context.Context, req kql.ScanRequest) iter.Seq2[*kql.Batch, error] {
	return func(yield func(*kql.Batch, error) bool) {
		span := v.query.span
		bounds := span
		if req.From != 0 {
			bounds.from = max(bounds.from, int64(req.From))
		}
		if req.To != 0 {
			bounds.to = min(bounds.to, int64(req.To)-1)
		}
		columns := make([]int, 0, len(req.Columns)+1)
		for _, name := range req.Columns {
			columns = append(columns, v.at[name])
		}
		read := columns
		if span != allTime {
			read = append(slices.Clone(columns), v.table.timeGenerated)
		}
		for _, s := range v.stores {
			err := s.scan(ctx, s.tables[v.table.name], read, bounds, &v.query.stats, func(b batch) error {
				for from := 0; from < b.rows; from += groupRows {
					part := v.inSpan(b.part(from, min(from+groupRows, b.rows)), span)
					if part.rows > 0 && !yield(v.convert(s.id, part, columns), nil) {
						return errEnough
					}
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				v.query.fail(err)
				yield(nil, err)
				return
			}
		}
	}
}

// fail remembers the first error, so that the answer is about it and not about
// what the language makes of it.
func (q *view) fail(err error) {
	if q.failed == nil {
		q.failed = err
	}
}

// part is rows [from, to) of b.
func (b batch) part(from, to int) batch {
	if from == 0 && to == b.rows {
		return b
	}
	p := batch{rows: to - from, columns: make([]*column, len(b.columns)), min: b.min, max: b.max}
	for i, c := range b.columns {
		p.columns[i] = c.slice(from, to)
	}
	return p
}

// inSpan is the rows of b whose TimeGenerated is in span.
func (v *tableView) inSpan(b batch, span timeRange) batch {
	if span.from <= b.min && b.max <= span.to {
		return b
	}
	var rows []int32
	for i, t := range b.columns[v.table.timeGenerated].ints {
		if span.from <= t && t <= span.to {
			rows = append(rows, int32(i))
		}
	}
	if len(rows) == b.rows {
		return b
	}
	p := batch{rows: len(rows), columns: make([]*column, len(b.columns)), min: span.from, max: span.to}
	for i, c := range b.columns {
		p.columns[i] = c.pick(rows)
	}
	return p
}

// convert makes the language's batch of the given columns.
func (v *tableView) convert(workspace string, b batch, columns []int) *kql.Batch {
	out := make([]*kql.Vector, len(columns))
	for i, at := range columns {
		out[i] = v.vector(workspace, b, at)
	}
	return kql.NewBatch(b.rows, out...)
}

// vector is one column; constant ones are not stored.
func (v *tableView) vector(workspace string, b batch, at int) *kql.Vector {
	t := v.table
	switch at {
	case t.typ:
		return constant(t.name, b.rows)
	case t.billable:
		if t.free {
			return constant("False", b.rows)
		}
		return constant("True", b.rows)
	case t.workspace:
		ids := make([]string, b.rows)
		for i := range ids {
			ids[i] = workspace
		}
		return kql.NewGUIDs(ids, nil)
	}
	c, k := b.columns[at], t.columns[at].kind
	if c == nil && k == kindDynamic {
		return kql.NewDynamics(make([]any, b.rows))
	}
	if c == nil {
		c = &column{kind: k}
		c.padTo(b.rows)
	}
	nulls := bitmap(c.null)
	switch k {
	case kindBool:
		bools := make([]bool, b.rows)
		for i, n := range c.ints {
			bools[i] = n != 0
		}
		return kql.NewBools(bools, nulls)
	case kindInt, kindLong, kindDateTime, kindTimespan:
		return kql.NewInts(kqlType(k), c.ints, nulls)
	case kindReal:
		return kql.NewFloats(c.floats, nulls)
	case kindGUID:
		return kql.NewGUIDs(c.texts(), nulls)
	case kindDynamic, kindDecimal:
		return v.built(c, k)
	}
	if c.codes != nil {
		return kql.NewDictionary(c.codes, c.dict)
	}
	return kql.NewStrings(c.strs)
}

// built goes by the language's builder, which parses JSON and decimals; what
// is in a dictionary is parsed once.
func (v *tableView) built(c *column, k kind) *kql.Vector {
	if c.codes == nil || k != kindDynamic {
		return parsed(k, c.n, c.isNull, c.str)
	}
	entries := parsed(k, len(c.dict), func(int) bool { return false }, func(i int) string { return c.dict[i] })
	values := make([]any, len(c.dict))
	for i := range values {
		values[i] = entries.Value(i)
	}
	out := make([]any, c.n)
	for i, code := range c.codes {
		if !c.isNull(i) {
			out[i] = values[code]
		}
	}
	return kql.NewDynamics(out)
}

func parsed(k kind, n int, null func(int) bool, text func(int) string) *kql.Vector {
	b := kql.NewBuilder(kql.Schema{{Name: "value", Type: kqlType(k)}})
	one := make([]any, 1)
	for i := range n {
		switch {
		case null(i):
			one[0] = nil
		case k == kindDynamic:
			one[0] = json.RawMessage(text(i))
		default:
			one[0] = text(i)
		}
		if err := b.AppendRow(one); err != nil {
			// Nested deeper than the language goes: the value is null there.
			one[0] = nil
			_ = b.AppendRow(one)
		}
	}
	return b.Batch().Columns[0]
}

func constant(s string, n int) *kql.Vector {
	return kql.NewDictionary(make([]uint32, n), []string{s})
}

// texts is the column's text values, row by row.
func (c *column) texts() []string {
	if c.codes == nil {
		return c.strs
	}
	out := make([]string, c.n)
	for i, code := range c.codes {
		out[i] = c.dict[code]
	}
	return out
}

func bitmap(null []bool) kql.Bitmap {
	if null == nil {
		return nil
	}
	b := kql.NewBitmap(len(null))
	for i, is := range null {
		if is {
			b.Set(i)
		}
	}
	return b
}

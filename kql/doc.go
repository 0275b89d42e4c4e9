// Package kql is the Kusto query language: a lexer, a recursive-descent
// parser, a binder that gives every expression a type, a typed plan, and a
// columnar evaluator in pure Go.
//
// It promises that an answer is the one Kusto gives: strings are never null,
// integers wrap, datetime and timespan count ticks of 100 ns, the default sort
// is descending, join is innerunique unless told otherwise. What the package
// does not implement is refused by name, with its line and column
// (ErrorCode NotImplemented); it never guesses. No input panics, and every
// query is bounded in length, nesting, rows, memory and time, and stops when
// its context does.
//
// The order of work is Parse, Bind, Plan.Run. A Catalog names the tables that
// a query may read; a Table hands out batches of typed columns. The Plan is
// the seam for other back ends: it holds bound, typed operators and no text.
// Each tabular operator has one file (ops_NAME.go) with its syntax, its
// binding and its evaluation; scalar functions are grouped by family
// (fn_FAMILY.go), aggregates in agg_*.go.
//
// The language is that of Microsoft's public documentation of Kusto (Azure
// Data Explorer and Azure Monitor); results are encoded as the Log Analytics
// query API of 2022-10-27 does. The package imports nothing else of this
// module.
package kql

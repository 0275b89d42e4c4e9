package kql

type readOperator func(p *parser, o opBase) operator

// operatorParser returns the reader of an operator that follows a pipe.
func operatorParser(name string) readOperator {
	switch name {
	case "where", "filter":
		return readWhere
	case "extend", "serialize":
		return readExtend
	case "project", "project-away", "project-keep", "project-rename", "project-reorder":
		return readProject
	case "summarize":
		return readSummarize
	case "sort", "order":
		return readSort
	case "top":
		return readTop
	case "take", "limit":
		return readTake
	case "distinct":
		return readDistinct
	case "count":
		return readCount
	case "render":
		return readRender
	case "join", "lookup":
		return readJoin
	case "union":
		return readUnion
	case "search":
		return readSearch
	case "evaluate":
		return readEvaluate
	case "scan":
		return readScan
	case "as":
		return readAs
	case "getschema":
		return readGetschema
	case "invoke":
		return readInvoke
	case "sample", "sample-distinct":
		return readSample
	case "partition":
		return readPartition
	case "top-nested":
		return readTopNested
	case "top-hitters":
		return readTopHitters
	case "parse", "parse-where":
		return readParse
	case "parse-kv":
		return readParseKV
	case "make-series":
		return readMakeSeries
	case "mv-expand", "mvexpand", "mv-apply", "mvapply":
		return readExpand
	}
	return nil
}

// sourceParser returns the reader of an operator that begins a query, if the
// tokens after its name look like one.
func sourceParser(p *parser, name string) readOperator {
	next := p.peekAt(1)
	if p.peek().text != name { // the name was read already
		next = p.peek()
	}
	switch name {
	case "print":
		if next.text != "=" && next.text != "." {
			return readPrint
		}
	case "range":
		if next.kind == tokIdent {
			return readRange
		}
	case "datatable":
		if next.text == "(" {
			return readDatatable
		}
	case "search":
		if next.kind == tokString || next.kind == tokIdent || next.text == "*" || next.text == "(" {
			return readSearch
		}
	case "find":
		if next.kind == tokIdent && (next.text == "in" || next.text == "where" || next.text == "withsource") {
			p.failAt(p.peek(), NotImplemented, "the operator %q is not implemented", "find")
		}
	case "union":
		if next.text != "=" && next.text != "." {
			return readUnion
		}
	case "externaldata":
		if next.text == "(" {
			return readExternaldata
		}
	}
	return nil
}

// knownOperator lists the operators of the language that have no syntax here.
func knownOperator(name string) bool {
	switch name {
	case "assert-schema", "consume", "execute-and-cache", "facet", "find", "fork",
		"graph-mark-components", "graph-match", "graph-merge", "graph-shortest-paths", "graph-to-table", "graph-where-edges", "graph-where-nodes",
		"macro-expand", "make-graph",
		"partition-by", "__partitionby", "project-by-names", "reduce":
		return true
	}
	return false
}

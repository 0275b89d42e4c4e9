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
	case "as", "assert-schema", "consume", "evaluate", "execute-and-cache", "facet", "find", "fork", "getschema",
		"graph-mark-components", "graph-match", "graph-merge", "graph-shortest-paths", "graph-to-table", "graph-where-edges", "graph-where-nodes",
		"invoke", "macro-expand", "make-graph", "make-series",
		"parse", "parse-kv", "parse-where", "partition", "partition-by", "__partitionby", "project-by-names", "reduce", "sample", "sample-distinct", "scan", "search",
		"top-hitters", "top-nested":
		return true
	}
	return false
}

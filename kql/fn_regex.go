package kql

func regexFunctions() map[string]impl { return map[string]impl{} }

package kql

func encodingFunctions() map[string]impl { return map[string]impl{} }

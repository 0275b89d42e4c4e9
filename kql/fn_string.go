package kql

func stringFunctions() map[string]impl { return map[string]impl{} }

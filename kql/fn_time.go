package kql

func timeFunctions() map[string]impl { return map[string]impl{} }

package kql

func parseFunctions() map[string]impl { return map[string]impl{} }

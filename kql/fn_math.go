package kql

func mathFunctions() map[string]impl { return map[string]impl{} }

package kql

func dynamicFunctions() map[string]impl { return map[string]impl{} }

package kql

func arrayFunctions() map[string]impl { return map[string]impl{} }

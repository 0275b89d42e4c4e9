package kql

func networkFunctions() map[string]impl { return map[string]impl{} }

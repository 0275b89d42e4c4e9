//go:build !linux

package main

import (
	"os"
	"time"
)

// ticker returns a wait for the next of ticks that are d apart.
func ticker(d time.Duration) (wait func() error, stop func(), err error) {
	t := time.NewTicker(d)
	return func() error { <-t.C; return nil }, t.Stop, nil
}

// syncData is the call with which the journal makes its records durable.
func syncData(f *os.File) error { return f.Sync() }

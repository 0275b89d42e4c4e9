//go:build !linux

package journal

import "os"

// syncData waits until the file is on stable storage.
func syncData(f *os.File) error { return f.Sync() }

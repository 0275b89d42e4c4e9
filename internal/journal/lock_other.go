//go:build !unix

package journal

import (
	"os"
	"path/filepath"
)

// lockDir keeps a file open; without flock two processes are told apart only
// as far as the system refuses to share it.
func lockDir(dir string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

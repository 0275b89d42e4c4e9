package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData waits until the file's bytes, and what is needed to find them, are
// on stable storage; times of access and change may come later.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

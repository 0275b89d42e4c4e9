package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ticker returns a wait for the next of ticks that are d apart. The kernel's
// timer wakes to the microsecond; Go's wakes to the millisecond where a
// processor has nothing else to do.
func ticker(d time.Duration) (wait func() error, stop func(), err error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, nil, os.NewSyscallError("timerfd_create", err)
	}
	every := unix.NsecToTimespec(max(d, 20*time.Microsecond).Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		_ = unix.Close(fd)
		return nil, nil, os.NewSyscallError("timerfd_settime", err)
	}
	f := os.NewFile(uintptr(fd), "ticker")
	var ticks [8]byte
	return func() error { _, err := f.Read(ticks[:]); return err }, func() { _ = f.Close() }, nil
}

// syncData is the call with which the journal makes its records durable.
func syncData(f *os.File) error { return os.NewSyscallError("fdatasync", unix.Fdatasync(int(f.Fd()))) }

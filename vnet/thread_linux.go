package vnet

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsThread is an operating system thread in a network namespace of its own.
// It is the only thing that keeps the namespace alive besides sockets and
// processes in it. The thread is never given back to the runtime: it dies with
// stop, and so does what was started from it with a parent death signal.
type nsThread struct {
	jobs chan func()
	quit chan struct{}
	gone chan struct{}
	// ns is the namespace, for the other side of a virtual cable.
	ns *os.File
}

// newNSThread starts a thread in a new network namespace.
func newNSThread() (*nsThread, error) {
	t := &nsThread{jobs: make(chan func()), quit: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error)
	onThread(func() {
		defer close(t.gone)
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err != nil {
			err = fmt.Errorf("make a network namespace: %w", err)
		} else {
			t.ns, err = os.Open("/proc/thread-self/ns/net")
		}
		started <- err
		if err != nil {
			return
		}
		for {
			select {
			case job := <-t.jobs:
				job()
			case <-t.quit:
				return
			}
		}
	})
	if err := <-started; err != nil {
		return nil, err
	}
	return t, nil
}

// onThread runs fn on a thread that ends with it. The process's first thread is
// spared: it cannot end, and /proc/self shows its namespaces.
func onThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn()
			return
		}
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			fn()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// do runs fn in the namespace. fn must not wait for the network.
func (t *nsThread) do(fn func() error) error {
	result := make(chan error, 1)
	select {
	case t.jobs <- func() { result <- fn() }:
		return <-result
	case <-t.gone:
		return net.ErrClosed
	}
}

// stop ends the thread.
func (t *nsThread) stop() {
	close(t.quit)
	<-t.gone
	_ = t.ns.Close()
}

// listen opens a TCP socket in the namespace.
func (t *nsThread) listen(at net.TCPAddr) (ln net.Listener, err error) {
	err = t.do(func() error {
		ln, err = net.ListenTCP("tcp4", &at)
		return err
	})
	return ln, err
}

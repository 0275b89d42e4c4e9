package vnet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// ReexecConfig describes a supervisor to start.
type ReexecConfig struct {
	// Driver decides into which namespaces it is born.
	Driver Driver
	// Args follow the program's name.
	Args []string
	// Env is its environment; nil means this process's.
	Env []string
	// Dir is its working directory; empty means this process's.
	Dir string
	// Stdin, Stdout and Stderr; nil is the null device.
	Stdin, Stdout, Stderr *os.File
	// Files become descriptors 3, 4, … They remain the caller's to close.
	// Sockets among them stay in the network in which they were opened.
	Files []*os.File
	// Grace is how long it may take to end after ctx did; default 10 s.
	Grace time.Duration
}

// Child is a running supervisor.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// originEnv tells a supervisor in which network namespace its parent lives, so
// that Open can refuse to build on the host's own network.
const originEnv = "VERDANT_VNET_ORIGIN"

// Reexec starts this same binary as a supervisor: in new network and mount
// namespaces for Root, in a user namespace as well for Rootless, as a plain
// child for Loopback. The child is killed when this process dies, however that
// happens (Linux). When ctx ends the child gets SIGTERM, and SIGKILL after
// Grace.
func Reexec(ctx context.Context, cfg ReexecConfig) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	if cfg.Grace == 0 {
		cfg.Grace = 10 * time.Second
	}
	c := exec.CommandContext(ctx, self, cfg.Args...)
	c.Env, c.Dir, c.ExtraFiles = cfg.Env, cfg.Dir, cfg.Files
	setStdio(c, Command{Stdin: cfg.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr})
	c.Cancel = func() error { return terminate(c.Process) }
	c.WaitDelay = cfg.Grace
	if err := intoNamespaces(c, cfg.Driver); err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	child := &Child{cmd: c, done: make(chan struct{})}
	if err := keepThread(c.Start, child.done); err != nil {
		return nil, fmt.Errorf("start the supervisor with driver %s: %w", cfg.Driver, err)
	}
	go func() { // Ends with the child.
		child.err = c.Wait()
		close(child.done)
	}()
	return child, nil
}

// Pid is the supervisor's process id.
func (c *Child) Pid() int { return c.cmd.Process.Pid }

// Done is closed when the supervisor has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait returns when the supervisor has ended: nil for exit status 0, else an
// *exec.ExitError.
func (c *Child) Wait() error {
	<-c.done
	return c.err
}

// Signal sends sig to the supervisor.
func (c *Child) Signal(sig os.Signal) error { return c.cmd.Process.Signal(sig) }

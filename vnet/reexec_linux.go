package vnet

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

func terminate(p *os.Process) error { return p.Signal(unix.SIGTERM) }

// intoNamespaces prepares c to be born into the driver's namespaces.
func intoNamespaces(c *exec.Cmd, d Driver) error {
	attr := &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	c.SysProcAttr = attr
	switch d {
	case Loopback:
		return nil
	case Root, Rootless:
	default:
		return fmt.Errorf("unknown driver %q", d)
	}
	origin, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	c.Env = append(c.Env[:len(c.Env):len(c.Env)], originEnv+"="+origin)
	attr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWNS
	if d == Rootless {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return nil
}

// insideNamespaces refuses a process that Reexec did not start: what it built
// would land in the host's network.
func insideNamespaces() error {
	origin := os.Getenv(originEnv)
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	if origin == "" || origin == here {
		return fmt.Errorf("this process lives in the host's network; start it with Reexec")
	}
	return nil
}

package vnet

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// The environment of a process that vnet started to become something else.
const (
	bootEnv   = "VERDANT_VNET_BOOT"
	bootFDEnv = "VERDANT_VNET_BOOT_FD"
	bootPod   = "pod"
	bootProbe = "probe"
)

// Boot must be the first statement of main, and of TestMain, in every program
// that starts pods or probes drivers: vnet runs that program's own binary to
// furnish a namespace. In such a process Boot does not return. In every other
// it only sees to it that descriptors which this process inherited, such as the
// host's listeners, are not inherited further by pods.
func Boot() {
	if stage := os.Getenv(bootEnv); stage != "" {
		os.Exit(boot(stage))
	}
	inherited, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // Kernel pods close what is not theirs once more.
	}
	for _, entry := range inherited {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

func setStdio(c *exec.Cmd, cmd Command) {
	// A nil *os.File in an interface would not be nil.
	if cmd.Stdin != nil {
		c.Stdin = cmd.Stdin
	}
	if cmd.Stdout != nil {
		c.Stdout = cmd.Stdout
	}
	if cmd.Stderr != nil {
		c.Stderr = cmd.Stderr
	}
}

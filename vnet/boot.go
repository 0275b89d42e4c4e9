package vnet

import (
	"os"
	"os/exec"
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
// furnish a namespace. In such a process Boot does not return; in every other
// it does nothing.
func Boot() {
	if stage := os.Getenv(bootEnv); stage != "" {
		os.Exit(boot(stage))
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

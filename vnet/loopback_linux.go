package vnet

import (
	"net/netip"
	"os/exec"
	"syscall"
)

// loopbackAddr gives every pod an address of its own in 127.0.0.0/8.
func loopbackAddr(block [2]byte, host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{127, block[0], block[1], host})
}

// tie lets c die with this process.
func tie(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true} }

//go:build !linux

package vnet

import (
	"net/netip"
	"os/exec"
	"syscall"
)

// loopbackAddr is the one address that a loopback device has without being
// told; ports keep the pods apart.
func loopbackAddr([2]byte, byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// tie starts c in a session of its own. There is no parent death signal here:
// after a kill -9 of this process its pods live on until they are ended.
func tie(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

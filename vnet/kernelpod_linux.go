package vnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelPod is a pod's network namespace: a device wired to the network's
// bridge, and the metadata address on its own loopback device.
type kernelPod struct {
	pod    *Pod
	thread *nsThread
}

func (k *kernel) addPod(n *network, p *Pod) (podBackend, error) {
	r := routerOf(n)
	thread, err := newNSThread()
	if err != nil {
		return nil, err
	}
	kp := &kernelPod{pod: p, thread: thread}
	k.cables++
	if err := kp.wire(r, fmt.Sprintf("pod%d", k.cables)); err != nil {
		thread.stop()
		return nil, err
	}
	return kp, nil
}

// wire connects the pod with the router's bridge. The default route ends at
// the router, which has none: it answers what leads nowhere.
func (kp *kernelPod) wire(r *router, name string) error {
	const device = "eth0"
	if err := kp.thread.do(func() error { quietIPv6(); return nil }); err != nil {
		return err
	}
	bridge, err := r.links.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	cable := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: bridge.Attrs().Index},
		PeerName:  device, PeerNamespace: netlink.NsFd(int(kp.thread.ns.Fd())),
	}
	if err := r.links.LinkAdd(cable); err != nil {
		return fmt.Errorf("lay a cable to the bridge: %w", err)
	}
	if err := up(r.links, name); err != nil {
		return err
	}
	subnet := kp.pod.subnet
	return kp.thread.do(func() error {
		links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open rtnetlink: %w", err)
		}
		defer links.Close()
		own := netip.PrefixFrom(kp.pod.config.Addr, subnet.Prefix.Bits())
		for _, step := range []func() error{
			func() error { return up(links, "lo") },
			func() error { return addAddr(links, "lo", netip.PrefixFrom(MetadataAddr, 32)) },
			func() error { return addAddr(links, device, own) },
			func() error { return up(links, device) },
			func() error {
				return addRoute(links, device, netip.MustParsePrefix("0.0.0.0/0"), subnet.gateway(), own.Addr())
			},
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (kp *kernelPod) listen(at netip.AddrPort) (net.Listener, error) {
	return kp.thread.listen(*net.TCPAddrFromAddrPort(at))
}

func (kp *kernelPod) listenAddr(port uint16) (netip.AddrPort, error) {
	return netip.AddrPortFrom(kp.pod.config.Addr, port), nil
}

func (kp *kernelPod) env() []string { return nil }

// ended has nothing to do: a process's mounts go with it.
func (kp *kernelPod) ended(Command, bool) {}

func (kp *kernelPod) close() error {
	kp.thread.stop()
	return nil
}

// start runs this binary again as the pod's first process, which furnishes the
// namespaces (podinit_linux.go) and becomes the command.
func (kp *kernelPod) start(cmd Command, sealed bool, _ <-chan struct{}) (*exec.Cmd, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	order := initOrder{
		Hostname: kp.pod.config.Name, Addr: kp.pod.config.Addr, Sealed: sealed,
		Self: self, Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Files: len(cmd.Files),
	}
	if sealed {
		order.Mounts = kp.pod.config.Mounts
		order.SecretsDir, order.Secrets = cmd.SecretsDir, cmd.Secrets
	}
	for _, m := range order.Mounts {
		if !filepath.IsAbs(m.Path) || filepath.Clean(m.Path) != m.Path || m.Path == "/" {
			return nil, fmt.Errorf("mount %q: want a clean absolute path below the root", m.Path)
		}
	}
	encoded, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	orders, orderWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = orders.Close() }()
	complaints, complaintWriter, err := os.Pipe()
	if err != nil {
		_ = orderWriter.Close()
		return nil, err
	}
	defer func() { _ = complaints.Close() }()

	c := exec.Command("/proc/self/exe")
	c.Args = []string{filepath.Base(self)}
	c.Env = []string{bootEnv + "=" + bootPod, fmt.Sprintf("%s=%d", bootFDEnv, 3+len(cmd.Files))}
	c.ExtraFiles = append(append(c.ExtraFiles, cmd.Files...), orders, complaintWriter)
	setStdio(c, cmd)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
		Setsid:     true,
	}
	err = kp.thread.do(c.Start)
	_ = complaintWriter.Close()
	if err != nil {
		_ = orderWriter.Close()
		return nil, err
	}
	_, err = orderWriter.Write(encoded)
	clear(encoded) // it may hold secrets
	_ = orderWriter.Close()
	complaint, readErr := io.ReadAll(io.LimitReader(complaints, 4096))
	if err = errors.Join(err, readErr); err == nil && len(complaint) > 0 {
		err = errors.New(strings.TrimSpace(string(complaint)))
	}
	if err != nil {
		_ = c.Process.Kill()
		_ = c.Wait()
		return nil, err
	}
	return c, nil
}

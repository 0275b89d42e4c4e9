package vnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"verdant/internal/conninfo"
)

// PodConfig describes a pod's place in a network.
type PodConfig struct {
	// Name is unique in its network and becomes the host name: letters, digits
	// and hyphens, at most 63.
	Name string
	// Network is where the pod lives.
	Network string
	// Subnet gives the address; default the network's first.
	Subnet string
	// Addr is the pod's address; default the subnet's next free one.
	Addr netip.Addr
	// Mounts are the files and directories of the host that the pod sees
	// beside the system's read-only ones. The loopback driver cannot hide
	// anything and ignores it.
	Mounts []Mount
}

// Mount shows a file or directory of the host to a pod, at the same path.
type Mount struct {
	// Path is absolute and exists.
	Path string
	// Writable lets the pod change it.
	Writable bool
}

// Command is a program to run in a pod.
type Command struct {
	// Path is the program; empty means this same binary. A name without a slash
	// is looked up in the PATH of Env.
	Path string
	// Args follow the program's name.
	Args []string
	// Env is the whole environment; the pod's own entries (Pod.Env) are added.
	Env []string
	// Dir is the working directory; default "/".
	Dir string
	// Stdin, Stdout and Stderr are given to the program; nil is the null
	// device. They remain the caller's to close.
	Stdin, Stdout, Stderr *os.File
	// Files become descriptors 3, 4, … of the program.
	Files []*os.File
	// Secrets are files below SecretsDir that Start gives to this process and
	// that end with it. In the kernel drivers they are in memory that is never
	// swapped, in a read-only file system that no other process sees, and
	// SecretsDir is a path in the pod. The loopback driver can hide nothing:
	// SecretsDir is a directory of this host, whose parent exists; it is made
	// anew for this user and removed when the process has ended. Exec gives none.
	SecretsDir string
	Secrets    []SecretFile
}

// Pod is a place for processes in a network: an address, a resolver, a
// metadata address. It stays while its processes come and go.
type Pod struct {
	fabric  *Fabric
	config  PodConfig
	network *network
	subnet  Subnet
	backend podBackend

	mu        sync.Mutex
	released  bool
	processes map[*Process]struct{}
	hubs      []*hub
}

// podBackend is a driver's part of a pod. Methods are called without locks.
type podBackend interface {
	// listen opens a socket that only this pod reaches.
	listen(at netip.AddrPort) (net.Listener, error)
	// listenAddr is where a process of the pod must listen so that others reach
	// it at port of the pod's address.
	listenAddr(port uint16) (netip.AddrPort, error)
	env() []string
	// start runs cmd; a sealed process sees only the pod's files. ended is
	// closed when the process has been waited for.
	start(cmd Command, sealed bool, ended <-chan struct{}) (*exec.Cmd, error)
	// ended takes away what start left for a process that has ended.
	ended(cmd Command, sealed bool)
	close() error
}

// AddPod makes a place for a pod; nothing runs in it yet.
func (f *Fabric) AddPod(cfg PodConfig) (*Pod, error) {
	if !validHostname(cfg.Name) {
		return nil, fmt.Errorf("add pod %q: a name has letters, digits and inner hyphens, at most 63", cfg.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.network(cfg.Network)
	if err != nil {
		return nil, fmt.Errorf("add pod %s: %w", cfg.Name, err)
	}
	for p := range f.pods {
		if p.network == n && p.config.Name == cfg.Name {
			return nil, fmt.Errorf("add pod %s: network %s has one of that name", cfg.Name, n.Name)
		}
	}
	addr, subnet, err := n.take(cfg.Subnet, cfg.Addr, "pod "+cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("add pod %s: %w", cfg.Name, err)
	}
	cfg.Addr = addr
	p := &Pod{fabric: f, config: cfg, network: n, subnet: subnet, processes: map[*Process]struct{}{}}
	p.backend, err = f.backend.addPod(n, p)
	if err != nil {
		delete(n.owners, addr)
		return nil, fmt.Errorf("add pod %s: %w", cfg.Name, err)
	}
	f.pods[p] = struct{}{}
	return p, nil
}

func validHostname(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// Name is the pod's name in its network.
func (p *Pod) Name() string { return p.config.Name }

// Network is the name of the pod's network.
func (p *Pod) Network() string { return p.config.Network }

// Addr is the pod's address in its network.
func (p *Pod) Addr() netip.Addr { return p.config.Addr }

// Env is what the driver adds to the environment of the pod's processes:
// nothing in a kernel driver, the proxy variables in loopback. It holds a
// secret in loopback.
func (p *Pod) Env() []string { return p.backend.env() }

// ListenAddr is the address on which a process of this pod listens so that its
// network reaches it at (Addr, port). The two are the same except in loopback.
func (p *Pod) ListenAddr(port uint16) (string, error) {
	at, err := p.backend.listenAddr(port)
	if err != nil {
		return "", fmt.Errorf("pod %s: address to listen on for port %d: %w", p.config.Name, port, err)
	}
	return at.String(), nil
}

// Listen opens a socket of the supervisor that only this pod reaches, such as
// MetadataAddr port 80: who asks is known from the socket. In loopback the
// listener's Addr is another address of this host, to be told to the pod.
func (p *Pod) Listen(at netip.AddrPort) (net.Listener, error) {
	raw, err := p.backend.listen(at)
	if err != nil {
		return nil, fmt.Errorf("pod %s: listen on %s: %w", p.config.Name, at, err)
	}
	h := p.fabric.newHub(addrPort(raw.Addr()))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		_ = raw.Close()
		return nil, fmt.Errorf("pod %s: listen on %s: the pod is gone", p.config.Name, at)
	}
	p.hubs = append(p.hubs, h)
	info := conninfo.Info{Kind: conninfo.VNet, VNet: p.config.Network}
	_ = h.open(func(deliver deliverFunc) (func(), error) { return acceptAll(raw, deliver), nil }, info)
	return h, nil
}

// Start runs cmd as the pod's own: in the kernel drivers it sees only the
// system's programs and the pod's mounts, as pid 1 of a pid namespace. Errors
// of the way into the namespaces are returned here.
func (p *Pod) Start(cmd Command) (*Process, error) { return p.start(cmd, true) }

// Exec runs an operator's command in the pod's network, with its name
// resolution and without capabilities, but with the host's files.
func (p *Pod) Exec(cmd Command) (*Process, error) { return p.start(cmd, false) }

func (p *Pod) start(cmd Command, sealed bool) (*Process, error) {
	p.mu.Lock()
	released := p.released
	p.mu.Unlock()
	if released {
		return nil, fmt.Errorf("pod %s: start: the pod is gone", p.config.Name)
	}
	if err := checkSecrets(cmd); err != nil {
		return nil, fmt.Errorf("pod %s: start %s: %w", p.config.Name, cmd.name(), err)
	}
	done := make(chan struct{})
	c, err := p.backend.start(cmd, sealed, done)
	if err != nil {
		return nil, fmt.Errorf("pod %s: start %s: %w", p.config.Name, cmd.name(), err)
	}
	proc := &Process{pid: c.Process.Pid, cmd: c, done: done}
	p.mu.Lock()
	if p.released {
		_ = c.Process.Kill()
	}
	p.processes[proc] = struct{}{}
	p.mu.Unlock()
	go func() { // Ends with the process.
		proc.err = c.Wait()
		p.backend.ended(cmd, sealed)
		p.mu.Lock()
		delete(p.processes, proc)
		p.mu.Unlock()
		close(proc.done)
	}()
	return proc, nil
}

func (c Command) name() string {
	if c.Path == "" {
		return strings.Join(append([]string{"itself"}, c.Args...), " ")
	}
	return c.Path
}

// Close ends the pod's processes and gives its address back.
func (p *Pod) Close() error {
	p.fabric.mu.Lock()
	delete(p.fabric.pods, p)
	p.fabric.mu.Unlock()
	err := p.release()
	p.fabric.mu.Lock()
	delete(p.network.owners, p.config.Addr)
	p.fabric.mu.Unlock()
	return err
}

func (p *Pod) release() error {
	p.mu.Lock()
	if p.released {
		p.mu.Unlock()
		return nil
	}
	p.released = true
	running := make([]*Process, 0, len(p.processes))
	for proc := range p.processes {
		running = append(running, proc)
	}
	hubs := p.hubs
	p.mu.Unlock()
	for _, h := range hubs {
		h.shut()
	}
	for _, proc := range running {
		_ = proc.Kill()
	}
	for _, proc := range running {
		<-proc.done
	}
	return p.backend.close()
}

// Process is a running program of a pod.
type Process struct {
	pid  int
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Pid is the process id as this process sees it.
func (p *Process) Pid() int { return p.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns when the process has ended: nil for exit status 0, else an
// *exec.ExitError.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends sig; os.ErrProcessDone if it has ended.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the process at once, with its process group; in the kernel drivers
// all its children end with it, whatever their group.
func (p *Process) Kill() error {
	select {
	case <-p.done:
		return nil // its id may be another's by now
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // no such group where it leads none
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop asks the process to end (SIGTERM) and kills it after grace. It returns
// when the process has ended.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		if err := p.Kill(); err != nil {
			return err
		}
	}
	return p.Wait()
}

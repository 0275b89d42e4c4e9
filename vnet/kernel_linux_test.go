package vnet_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"verdant/vnet"
	"verdant/vnet/vnettest"
)

var programs = map[string]vnettest.Program{
	"inspect":   func(args []string) error { return json.NewEncoder(os.Stdout).Encode(inspect(args)) },
	"read":      func(args []string) error { return json.NewEncoder(os.Stdout).Encode(readAll(args)) },
	"dial":      func(args []string) error { return json.NewEncoder(os.Stdout).Encode(dialAll(args)) },
	"dig":       func(args []string) error { return json.NewEncoder(os.Stdout).Encode(dig(args)) },
	"supervise": supervise,
}

// eachKernel runs body inside both kernel drivers.
func eachKernel(t *testing.T, body func(t *testing.T, d vnet.Driver)) {
	for _, d := range []vnet.Driver{vnet.Root, vnet.Rootless} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			vnettest.Inside(t, d, func(t *testing.T) { body(t, d) })
		})
	}
}

// view is what a pod sees of itself and of the machine.
type view struct {
	Status                   map[string]string
	Hostname, Resolv, Hosts  string
	PID                      int
	Root, Processes, Devices []string
	// Files tells, for each path asked about, what reading and writing give.
	Read, Write map[string]string
	// Forbidden tells what came of calls that need a capability.
	Forbidden map[string]string
	Vsock     string
	Routes    int
	FDs       []string
}

// inspect also tries what a pod must not be able to do, so it refuses to run
// anywhere but as the first process of a pod: on the host it would succeed.
func inspect(paths []string) view {
	if os.Getpid() != 1 {
		panic("inspect runs in the pods of the kernel drivers only")
	}
	v := view{Status: map[string]string{}, Read: map[string]string{}, Write: map[string]string{}, Forbidden: map[string]string{}}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			v.Status[name] = strings.TrimSpace(value)
		}
	}
	v.Hostname, _ = os.Hostname()
	v.PID = os.Getpid()
	read := func(p string) string { b, _ := os.ReadFile(p); return string(b) }
	v.Resolv, v.Hosts = read("/etc/resolv.conf"), read("/etc/hosts")
	list := func(p string) (names []string) {
		entries, _ := os.ReadDir(p)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	v.Root, v.FDs = list("/"), list("/proc/self/fd")
	for _, name := range list("/proc") {
		if _, err := strconv.Atoi(name); err == nil {
			v.Processes = append(v.Processes, name)
		}
	}
	said := func(err error) string {
		if err == nil {
			return "done"
		}
		return err.Error()
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		v.Read[p] = string(b)
		if err != nil {
			v.Read[p] = err.Error()
		}
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err == nil {
			_ = f.Close()
		}
		v.Write[p] = said(err)
	}
	_, raw := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	v.Forbidden["raw socket"] = said(raw)
	v.Forbidden["mount"] = said(unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	v.Forbidden["network namespace"] = said(unix.Unshare(unix.CLONE_NEWNET))
	child, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && child == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	v.Forbidden["user namespace by clone"] = said(errno)
	v.Forbidden["user namespace"] = said(unix.Unshare(unix.CLONE_NEWUSER))
	v.Forbidden["keys of other pods"] = said(func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); return err }())
	_, vsock := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	v.Vsock = said(vsock)
	v.Forbidden["chroot"] = said(unix.Chroot("/tmp"))
	return v
}

func TestAPodHoldsNoPrivilegeAndSeesOnlyItsOwn(t *testing.T) {
	eachKernel(t, func(t *testing.T, d vnet.Driver) {
		w := vnettest.Build(t, d)
		secret, state := t.TempDir(), t.TempDir()
		hidden, shown, kept := filepath.Join(secret, "hidden"), filepath.Join(state, "shown"), filepath.Join(state, "kept")
		for _, f := range []string{hidden, shown, kept} {
			if err := os.WriteFile(f, []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		pod, err := w.Fabric.AddPod(vnet.PodConfig{Name: "inspected", Network: "ie", Mounts: []vnet.Mount{
			{Path: state, Writable: true}, {Path: shown},
		}})
		if err != nil {
			t.Fatal(err)
		}
		asked := []string{hidden, shown, kept, "/etc/resolv.conf", "/etc/shadow", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/usr/bin/env"}
		leak, err := unix.Dup(2) // A descriptor that an exec does not close.
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(leak) }()
		var got view
		w.Run(t, pod, &got, "inspect", asked...)

		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			if got.Status[set] != "0000000000000000" {
				t.Errorf("%s is %s, want none", set, got.Status[set])
			}
		}
		if got.Status["NoNewPrivs"] != "1" || got.PID != 1 || got.Hostname != "inspected" {
			t.Errorf("got no_new_privs %s, pid %d, host name %s", got.Status["NoNewPrivs"], got.PID, got.Hostname)
		}
		if !strings.Contains(got.Resolv, "nameserver 168.63.129.16\n") || strings.Count(got.Resolv, "nameserver") != 1 {
			t.Errorf("resolv.conf is %q", got.Resolv)
		}
		if want := "127.0.0.1 localhost\n" + pod.Addr().String() + " inspected\n"; got.Hosts != want {
			t.Errorf("hosts is %q, want %q", got.Hosts, want)
		}
		if !slices.Equal(got.Processes, []string{"1"}) {
			t.Errorf("it sees processes %v", got.Processes)
		}
		if len(got.FDs) > 6 { // three, the directory, and the poller's two
			t.Errorf("it inherited descriptors: %v", got.FDs)
		}
		for _, name := range got.Root {
			if slices.Contains([]string{"root", "home", "var", "sys", "run", "mnt", "boot"}, name) {
				t.Errorf("it sees the host's /%s", name)
			}
		}
		for what, said := range got.Forbidden {
			if !strings.Contains(said, "not permitted") {
				t.Errorf("%s: %s", what, said)
			}
		}
		if got.Vsock != unix.EAFNOSUPPORT.Error() {
			t.Errorf("a socket to the hypervisor: %s", got.Vsock)
		}
		for path, want := range map[string]string{hidden: "no such file", shown: "content", "/etc/shadow": "no such file"} {
			if !strings.Contains(got.Read[path], want) {
				t.Errorf("reading %s gave %q, want %q", path, got.Read[path], want)
			}
		}
		if !strings.Contains(got.Write[shown], "read-only file system") {
			t.Errorf("writing what is shown read-only gave %q", got.Write[shown])
		}
		if got.Write[kept] != "done" {
			t.Errorf("writing its own state gave %q", got.Write[kept])
		}
		for _, path := range []string{"/etc/resolv.conf", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/usr/bin/env"} {
			if got.Write[path] == "done" {
				t.Errorf("it can write %s", path)
			}
		}

		var operator view
		cmd := vnettest.Command("inspect", hidden)
		if err := json.Unmarshal(w.Output(t, pod.Exec, cmd), &operator); err != nil {
			t.Fatal(err)
		}
		if operator.Vsock != got.Vsock {
			t.Errorf("an operator's command opens a socket to the hypervisor: %s", operator.Vsock)
		}
		if operator.Read[hidden] != "content" || operator.Resolv != got.Resolv || operator.Status["CapEff"] != "0000000000000000" {
			t.Errorf("an operator's command sees %q, resolv.conf %q, capabilities %s", operator.Read[hidden], operator.Resolv, operator.Status["CapEff"])
		}
	})
}

// dialAll tries TCP connections from where it runs.
func dialAll(addrs []string) map[string]string {
	said := map[string]string{}
	for _, a := range addrs {
		c, err := net.DialTimeout("tcp", a, 200*time.Millisecond)
		if err != nil {
			said[a] = err.Error()
			continue
		}
		_ = c.Close()
		said[a] = "connected"
	}
	return said
}

func TestNoPodReachesTheHost(t *testing.T) {
	const addrEnv = "VERDANT_TEST_HOST_LISTENER"
	if os.Getenv(addrEnv) == "" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		t.Setenv(addrEnv, ln.Addr().String())
		if got := dialAll([]string{ln.Addr().String()}); got[ln.Addr().String()] != "connected" {
			t.Fatalf("the host does not reach its own listener: %v", got)
		}
	}
	for _, d := range []vnet.Driver{vnet.Root, vnet.Rootless} { // not parallel: the listener lives as long as this function
		t.Run(string(d), func(t *testing.T) {
			vnettest.Inside(t, d, func(t *testing.T) {
				w := vnettest.Build(t, d)
				listener := os.Getenv(addrEnv)
				for name, pod := range w.Pods {
					var got map[string]string
					w.Run(t, pod, &got, "dial", listener)
					if got[listener] == "connected" {
						t.Errorf("pod %s reached the host's %s", name, listener)
					}
				}
				if got := dialAll([]string{listener}); got[listener] == "connected" {
					t.Error("the supervisor reached the host by itself")
				}
			})
		})
	}
}

// answer is a DNS reply as text.
type answer struct {
	Rcode   string
	Records []string
	TTLs    []uint32
	SOA     bool
}

// dig asks over the transport in args[0] for type and name pairs.
func dig(args []string) (answers []answer) {
	client := dns.Client{Net: args[0], Timeout: 5 * time.Second}
	for _, q := range args[1:] {
		kind, name, _ := strings.Cut(q, " ")
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(name), dns.StringToType[kind])
		r, _, err := client.Exchange(m, net.JoinHostPort(vnet.ResolverAddr.String(), "53"))
		if err != nil {
			answers = append(answers, answer{Rcode: err.Error()})
			continue
		}
		a := answer{Rcode: dns.RcodeToString[r.Rcode], SOA: len(r.Ns) == 1 && r.Ns[0].Header().Rrtype == dns.TypeSOA}
		for _, rr := range r.Answer {
			fields := strings.Fields(rr.String())
			a.Records = append(a.Records, strings.Join(append(fields[:1], fields[3:]...), " "))
			a.TTLs = append(a.TTLs, rr.Header().Ttl)
		}
		answers = append(answers, a)
	}
	return answers
}

func TestTheResolverSpeaksDNSToThePodsOfItsNetwork(t *testing.T) {
	eachKernel(t, func(t *testing.T, d vnet.Driver) {
		w := vnettest.Build(t, d)
		pod := w.Pods["ie/verifier"]
		const zone = "privatelink.vaultcore.azure.net."
		for _, transport := range []string{"udp", "tcp"} {
			var got []answer
			w.Run(t, pod, &got, "dig", transport, "A KV-ie.vault.azure.net", "AAAA kv-ie.vault.azure.net",
				"A kv-eu.vault.azure.net", "A example.com", "CNAME kv-ie.vault.azure.net", "SOA "+zone)
			want := []answer{
				{Rcode: "NOERROR", Records: []string{"KV-ie.vault.azure.net. CNAME kv-ie." + zone, "kv-ie." + zone + " A 192.168.5.10"}},
				{Rcode: "NOERROR", Records: []string{"kv-ie.vault.azure.net. CNAME kv-ie." + zone}, SOA: true},
				{Rcode: "NXDOMAIN", Records: []string{"kv-eu.vault.azure.net. CNAME kv-eu." + zone}, SOA: true},
				{Rcode: "NXDOMAIN", SOA: true},
				{Rcode: "NOERROR", Records: []string{"kv-ie.vault.azure.net. CNAME kv-ie." + zone}},
				{Rcode: "NOERROR", SOA: true},
			}
			for i, g := range got {
				if g.Rcode != want[i].Rcode || !slices.Equal(g.Records, want[i].Records) || g.SOA != want[i].SOA {
					t.Errorf("%s, question %d: got %+v, want %+v", transport, i, g, want[i])
				}
				for _, ttl := range g.TTLs {
					if ttl != vnet.TTL {
						t.Errorf("time to live %d", ttl)
					}
				}
			}
		}
	})
}

func TestOpenRefusesTheHostsOwnNetwork(t *testing.T) {
	for _, d := range []vnet.Driver{vnet.Root, vnet.Rootless} {
		if _, err := vnet.Open(vnet.Config{Driver: d}); err == nil || !strings.Contains(err.Error(), "Reexec") {
			t.Errorf("%s: got %v, want a hint to Reexec", d, err)
		}
	}
}

func TestACloseLeavesNoNamespaceThreadOrProcess(t *testing.T) {
	eachKernel(t, func(t *testing.T, d vnet.Driver) {
		var pids []int
		t.Run("in use", func(t *testing.T) {
			w := vnettest.Build(t, d) // closed at the end of this subtest
			p, err := w.Pods["ie/verifier"].Start(vnettest.Command("serve", "127.0.0.1:9000", "idle"))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, p.Pid())
			if got := len(namespaces()); got != 1+5+7 {
				t.Errorf("%d namespaces, want the supervisor's, five networks' and seven pods'", got)
			}
		})
		await(t, "the end of all namespaces", func() bool { return len(namespaces()) == 1 })
		for _, pid := range pids {
			if alive(pid) {
				t.Errorf("process %d of a pod lives", pid)
			}
		}
	})
}

// namespaces lists the network namespaces of this process's threads.
func namespaces() map[string]bool {
	found := map[string]bool{}
	links, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil {
			found[to] = true
		}
	}
	return found
}

// supervise is a supervisor with a pod, behind an inherited listener.
func supervise(args []string) error {
	f, err := vnet.Open(vnet.Config{Driver: vnet.Driver(args[0])})
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	prefix := netip.MustParsePrefix("10.0.0.0/24")
	if err := f.CreateNetwork(vnet.Network{Name: "n", Prefixes: []netip.Prefix{prefix}, Subnets: []vnet.Subnet{{Name: "s", Prefix: prefix}}}); err != nil {
		return err
	}
	pod, err := f.AddPod(vnet.PodConfig{Name: "pod", Network: "n"})
	if err != nil {
		return err
	}
	addr, err := pod.ListenAddr(8080)
	if err != nil {
		return err
	}
	cmd := vnettest.Command("serve", addr, "pod")
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = writer
	process, err := pod.Start(cmd)
	if err != nil {
		return err
	}
	if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
		return err
	}
	plain, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", process.Pid()))
	fmt.Println(process.Pid(), ns)
	ln := vnet.Ingress(plain)
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		to, err := f.Dial(context.Background(), "n", netip.AddrPortFrom(pod.Addr(), 8080))
		if err != nil {
			return err
		}
		go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
		go func() { _, _ = io.Copy(c, to); _ = c.Close() }()
	}
}

func TestTheHostComesInByInheritedListenersAndKillLeavesNothing(t *testing.T) {
	for _, d := range []vnet.Driver{vnet.Root, vnet.Rootless, vnet.Loopback} {
		t.Run(string(d), func(t *testing.T) {
			if _, err := vnet.Choose(t.Context(), string(d)); err != nil {
				t.Skip(err)
			}
			mounts, _ := os.ReadFile("/proc/self/mountinfo")
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			file, err := ln.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			_ = ln.Close() // The supervisor has its own copy.
			var inode unix.Stat_t
			if err := unix.Fstat(int(file.Fd()), &inode); err != nil {
				t.Fatal(err)
			}
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			child, err := vnet.Reexec(t.Context(), vnet.ReexecConfig{
				Driver: d, Args: []string{string(d)}, Env: append(os.Environ(), vnettest.Env("supervise")...),
				Files: []*os.File{file}, Stdout: writer, Stderr: os.Stderr,
			})
			_, _ = writer.Close(), file.Close()
			if err != nil {
				t.Fatal(err)
			}
			var pid int
			var ns string
			line, err := bufio.NewReader(reader).ReadString('\n')
			if _, scanErr := fmt.Sscan(line, &pid, &ns); err != nil || scanErr != nil {
				t.Fatalf("the supervisor said %q: %v, %v", line, err, scanErr)
			}
			response, err := http.Get("http://" + ln.Addr().String() + "/")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if !strings.Contains(string(body), `"Name":"pod"`) {
				t.Errorf("through the ingress: %s", body)
			}

			held, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
			for _, fd := range held {
				if to, _ := os.Readlink(fd); to == fmt.Sprintf("socket:[%d]", inode.Ino) {
					t.Error("the pod inherited the host's listener")
				}
			}

			if err := child.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := child.Wait(); err == nil {
				t.Error("the killed supervisor ended well")
			}
			await(t, "the pod's end", func() bool { return !alive(pid) })
			here, _ := os.Readlink("/proc/self/ns/net")
			if ns != here {
				await(t, "the end of the pod's namespace", func() bool { return !inUse(ns) })
			}
			if after, _ := os.ReadFile("/proc/self/mountinfo"); string(after) != string(mounts) {
				t.Errorf("mounts changed from\n%s\nto\n%s", mounts, after)
			}
		})
	}
}

// await polls until done; the test's own deadline bounds it.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for !done() {
		if deadline, ok := t.Deadline(); ok && time.Until(deadline) < 5*time.Second {
			t.Fatalf("still waiting for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// alive reports whether pid runs; one that only waits for its burial does not.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// inUse reports whether a thread that we may see lives in the namespace.
func inUse(ns string) bool {
	threads, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
	return slices.ContainsFunc(threads, func(link string) bool {
		found, err := os.Readlink(link)
		return err == nil && found == ns
	})
}

func TestAnOrdinaryUserCanDoTheSame(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the other tests run as an ordinary user already")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "vnet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vnet.test"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), filepath.Join(dir, "vnet.test"), "-test.run=^(TestRootlessConforms|TestLoopbackConforms|TestAPodHoldsNoPrivilegeAndSeesOnlyItsOwn)$", "-test.v")
	c.Dir = dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	said, err := c.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("this root cannot become another user: %v", err)
	}
	if err != nil {
		t.Fatalf("as an ordinary user: %v\n%s", err, said)
	}
	for _, name := range []string{"TestLoopbackConforms", "TestRootlessConforms", "TestAPodHoldsNoPrivilegeAndSeesOnlyItsOwn/rootless"} {
		if !strings.Contains(string(said), "--- PASS: "+name) && !strings.Contains(string(said), "--- SKIP: "+name) {
			t.Errorf("%s did not run:\n%s", name, said)
		}
	}
}

func TestTheProbeTellsWhatWorksAndWhatDoesNot(t *testing.T) {
	for _, f := range vnet.Probe(t.Context()) {
		t.Logf("%s: %v, %s %v", f.Driver, f.Works, f.Why, f.Limits)
		if f.Why == "" {
			t.Errorf("%s: no reason", f.Driver)
		}
		if f.Driver == vnet.Root && f.Works && os.Geteuid() != 0 {
			t.Error("root works without root")
		}
		if f.Driver == vnet.Loopback && (!f.Works || len(f.Limits) == 0) {
			t.Errorf("loopback: got %+v", f)
		}
	}
	if _, err := vnet.Choose(t.Context(), "imaginary"); err == nil || !strings.Contains(err.Error(), "auto, isolated, loopback") {
		t.Errorf("an unknown mode: got %v", err)
	}
	auto, err := vnet.Choose(t.Context(), "auto")
	if err != nil || !auto.Works {
		t.Errorf("auto: got %+v, %v", auto, err)
	}
	if isolated, err := vnet.Choose(t.Context(), "isolated"); err == nil && isolated.Driver != auto.Driver {
		t.Errorf("auto chose %s although %s works", auto.Driver, isolated.Driver)
	}
}

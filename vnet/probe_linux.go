package vnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// probeTimeout bounds a probe; a machine where it is not enough is too slow or
// a kernel call hangs.
const probeTimeout = 10 * time.Second

func probeKernel(ctx context.Context, d Driver) Finding {
	no := func(format string, args ...any) Finding {
		return Finding{Driver: d, Why: fmt.Sprintf(format, args...)}
	}
	if d == Root && os.Geteuid() != 0 {
		return no("needs root")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	reader, writer, err := os.Pipe()
	if err != nil {
		return no("%v", err)
	}
	defer func() { _ = reader.Close() }()
	child, err := Reexec(ctx, ReexecConfig{
		Driver: d, Env: []string{bootEnv + "=" + bootProbe, bootFDEnv + "=" + string(d)},
		Stdout: writer, Grace: time.Second,
	})
	_ = writer.Close()
	// ENOSPC is how the kernel says that a limit of namespaces is reached.
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOSPC) {
		return no("the kernel refuses new namespaces: %s", advice(d))
	}
	if err != nil {
		return no("%v", err)
	}
	said, _ := io.ReadAll(io.LimitReader(reader, 4096))
	if err := child.Wait(); err != nil {
		if text := strings.TrimSpace(string(said)); text != "" {
			return no("%s", text)
		}
		return no("the trial ended with %v", err)
	}
	why := "kernel namespaces, tried and working"
	if d == Rootless {
		why = "kernel namespaces inside a user namespace, tried and working"
	}
	return Finding{Driver: d, Works: true, Why: why, Limits: podLimits()}
}

// advice names what usually forbids namespaces and who can allow them.
func advice(d Driver) string {
	if d == Root {
		return "root lacks CAP_SYS_ADMIN here, as in most containers"
	}
	for file, text := range map[string]string{
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "set kernel.apparmor_restrict_unprivileged_userns=0 or give the program an AppArmor profile with userns",
		"/proc/sys/kernel/unprivileged_userns_clone":             "set kernel.unprivileged_userns_clone=1",
	} {
		value, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		forbids := "1"
		if strings.HasSuffix(file, "clone") {
			forbids = "0"
		}
		if strings.TrimSpace(string(value)) == forbids {
			return text
		}
	}
	return "a container's seccomp profile or user.max_user_namespaces=0 forbids them"
}

// bootAsProbe builds a small network with a pod that resolves and ends.
func bootAsProbe() int {
	err := trial(Driver(os.Getenv(bootFDEnv)))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func trial(d Driver) (err error) {
	f, err := Open(Config{Driver: d})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	prefix := netip.MustParsePrefix("192.168.0.0/24")
	for _, name := range []string{"a", "b"} {
		err := f.CreateNetwork(Network{Name: name, Prefixes: []netip.Prefix{prefix}, Subnets: []Subnet{{"s", prefix}}})
		if err != nil {
			return err
		}
		prefix = netip.MustParsePrefix("192.168.1.0/24")
	}
	if err := f.Peer("a", "b"); err != nil {
		return err
	}
	pod, err := f.AddPod(PodConfig{Name: "trial", Network: "a"})
	if err != nil {
		return err
	}
	// The pod's program need not exist: what is tried is the way there.
	p, err := pod.Start(Command{Path: "/", Env: []string{}})
	if err == nil {
		return p.Wait()
	}
	if !errors.Is(err, fs.ErrPermission) && !strings.Contains(err.Error(), "exec /: permission denied") {
		return err
	}
	return nil
}

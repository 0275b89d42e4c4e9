package vnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// initOrder is what a pod's first process is told through a pipe.
type initOrder struct {
	Hostname string
	Addr     netip.Addr
	// Sealed pods get a root of their own; others see the host's files.
	Sealed bool
	Mounts []Mount
	// SecretsDir is where Secrets are put in a sealed pod.
	SecretsDir string
	Secrets    []SecretFile
	// Self is the path of this binary.
	Self string
	Path string
	Args []string
	Env  []string
	Dir  string
	// Files counts the descriptors after the standard three that the command
	// inherits.
	Files int
}

// boot runs in a process that vnet started; see Boot.
func boot(stage string) int {
	switch stage {
	case bootPod:
		return bootAsPod()
	case bootProbe:
		return bootAsProbe()
	}
	fmt.Fprintf(os.Stderr, "%s=%s: unknown stage; unset the variable\n", bootEnv, stage)
	return 2
}

// bootAsPod furnishes the namespaces in which it was started and becomes the
// command. It returns only on failure, which it reports through the second
// pipe; the first pipe and the second close at the exec.
func bootAsPod() int {
	runtime.LockOSThread() // Capabilities belong to the thread that will exec.
	fd, err := strconv.Atoi(os.Getenv(bootFDEnv))
	if err != nil || fd < 3 {
		fmt.Fprintf(os.Stderr, "%s=%s is set without its pipe; unset it\n", bootEnv, bootPod)
		return 2
	}
	// From the two pipes on nothing belongs to the command.
	if err := unix.CloseRange(uint(fd), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintf(os.Stderr, "close inherited descriptors (Linux 5.11 or later is needed): %v\n", err)
		return 2
	}
	complaints := os.NewFile(uintptr(fd+1), "complaints")
	orders := os.NewFile(uintptr(fd), "orders")
	var order initOrder
	encoded, err := io.ReadAll(orders)
	if err == nil {
		err = json.Unmarshal(encoded, &order)
	}
	if err == nil {
		err = order.become()
	}
	_, _ = fmt.Fprintln(complaints, err)
	return 127
}

// become does not return unless it fails.
func (o initOrder) become() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	furnish := o.furnishSealed
	if !o.Sealed {
		furnish = o.furnishOpen
	}
	if err := furnish(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	dir := o.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	path, err := o.program()
	if err != nil {
		return err
	}
	// A crash must not write keys and personal data into a core file.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := filterCalls(o.Sealed); err != nil {
		return err
	}
	argv := append([]string{path}, o.Args...)
	if o.Path == "" {
		argv[0] = filepath.Base(o.Self)
	}
	return &fs.PathError{Op: "exec", Path: path, Err: syscall.Exec(path, argv, o.Env)}
}

// program finds the command's file as the pod sees it.
func (o initOrder) program() (string, error) {
	if o.Path == "" {
		return o.Self, nil
	}
	if strings.Contains(o.Path, "/") {
		return o.Path, nil
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, entry := range o.Env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			search = value
		}
	}
	for _, dir := range filepath.SplitList(search) {
		candidate := filepath.Join(dir, o.Path)
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("command %q was not found in the pod (PATH=%s)", o.Path, search)
}

// etcFiles are the pod's own files of name resolution. Other sources than
// these, such as a resolver daemon of the host's, are left out.
func (o initOrder) etcFiles() map[string]string {
	return map[string]string{
		"resolv.conf":   "nameserver " + ResolverAddr.String() + "\noptions timeout:2 attempts:2\n",
		"hosts":         "127.0.0.1 localhost\n" + o.Addr.String() + " " + o.Hostname + "\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	}
}

// base is where the private file system is put together: a directory that
// every Linux system has and that pods get anew in any case.
const base = "/proc"

// furnishOpen keeps the host's files and replaces those of name resolution.
func (o initOrder) furnishOpen() error {
	if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
		return fmt.Errorf("mount a private file system: %w", err)
	}
	for name, content := range o.etcFiles() {
		source := filepath.Join(base, name)
		if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
			return err
		}
		target, err := filepath.EvalSymlinks("/etc/" + name)
		if errors.Is(err, fs.ErrNotExist) && name != "resolv.conf" {
			continue // The libraries' own default is files and dns.
		}
		if err != nil {
			return fmt.Errorf("the host's /etc/%s, to be covered by the pod's: %w", name, err)
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", target, err)
		}
		if err := readOnly(target); err != nil {
			return err
		}
	}
	// The files stay alive through their mounts.
	if err := unix.Unmount(base, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the private file system: %w", err)
	}
	return mountProc("/proc")
}

// systemDirs are the host's directories that every pod sees, read-only, besides
// javaDirs.
var systemDirs = [...]string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives", "/etc/localtime", "/etc/ld.so.cache",
}

// javaDirs matches where Debian keeps part of /usr/lib/jvm.
const javaDirs = "/etc/java-*-openjdk"

// furnishSealed gives the pod a root of its own: the system's programs and
// libraries read-only, this binary, the pod's mounts, and nothing else of the
// host.
func (o initOrder) furnishSealed() error {
	if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount a root for the pod: %w", err)
	}
	java, err := filepath.Glob(javaDirs)
	if err != nil {
		return err
	}
	for _, dir := range append(java, systemDirs[:]...) {
		if err := showSystem(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, device := range []string{"null", "zero", "full", "random", "urandom"} {
		if err := show("/dev/"+device, true); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(base, "dev", link)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(base, "etc"), 0o755); err != nil {
		return err
	}
	files := o.etcFiles()
	files["passwd"] = "root:x:0:0:pod:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
	files["group"] = "root:x:0:\nnogroup:x:65534:\n"
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(base, "etc", name), []byte(content), 0o444); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp", "dev/shm"} {
		target := filepath.Join(base, dir)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=256m"); err != nil {
			return fmt.Errorf("mount /%s: %w", dir, err)
		}
	}
	if err := os.Mkdir(filepath.Join(base, "proc"), 0o555); err != nil {
		return err
	}
	// Before the host's /proc goes: in a user namespace the kernel grants a new
	// one only to who sees a whole one.
	if err := mountProc(filepath.Join(base, "proc")); err != nil {
		return err
	}
	if err := show(o.Self, false); err != nil {
		return err
	}
	for _, m := range o.Mounts {
		if err := show(m.Path, m.Writable); err != nil {
			return fmt.Errorf("mount %s: %w", m.Path, err)
		}
	}
	if err := o.mountSecrets(); err != nil {
		return err
	}
	if err := os.Chdir(base); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter the pod's root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's files: %w", err)
	}
	// The root itself, without what is mounted in it.
	return setMount("/", 0, unix.MOUNT_ATTR_RDONLY)
}

// mountSecrets puts the pod's secret files into a file system of their own, in
// memory that is never swapped. It goes with the mount namespace.
func (o initOrder) mountSecrets() error {
	if len(o.Secrets) == 0 {
		return nil
	}
	target := filepath.Join(base, o.SecretsDir)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("ramfs", target, "ramfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("mount %s: %w", o.SecretsDir, err)
	}
	if err := writeSecrets(target, o.Secrets); err != nil {
		return err
	}
	for _, f := range o.Secrets {
		clear(f.Contents)
	}
	return setMount(target, 0, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// showSystem makes one of the system's directories visible, or repeats the
// symbolic link that stands in its place.
func showSystem(path string) error {
	points, err := os.Readlink(path)
	if err != nil {
		return show(path, false)
	}
	target := filepath.Join(base, path)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.Symlink(points, target)
}

// show makes the host's path visible at the same place below base.
func show(path string, writable bool) error {
	target := filepath.Join(base, path)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if info.IsDir() {
			err = os.Mkdir(target, 0o755)
		} else {
			err = os.WriteFile(target, nil, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Mount(path, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("show %s to the pod: %w", path, err)
	}
	if writable {
		return nil
	}
	return readOnly(target)
}

func readOnly(path string) error {
	return setMount(path, unix.AT_RECURSIVE, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID)
}

func setMount(path string, flags uint, attributes uint64) error {
	err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: attributes})
	if err != nil {
		return fmt.Errorf("make %s read-only (Linux 5.12 or later is needed): %w", path, err)
	}
	return nil
}

// mountProc mounts the pid namespace's own /proc, in which the kernel's
// settings cannot be changed: user 0 owns their files, capabilities or not.
func mountProc(target string) error {
	if err := unix.Mount("proc", target, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the pod's own /proc (a container that masks parts of /proc does not allow it): %w", err)
	}
	for _, name := range []string{"sys", "irq", "bus", "fs", "sysrq-trigger"} {
		path := filepath.Join(target, name)
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("protect %s: %w", path, err)
		}
		if err := readOnly(path); err != nil {
			return err
		}
	}
	return nil
}

// dropPrivileges takes every capability from the calling thread, now and after
// any exec.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for c := uintptr(0); c < 64; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // The kernel knows no further ones.
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	// SECBIT_NOROOT and its lock: user 0 is a user like any other.
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, 0x1|0x2, 0, 0, 0); err != nil {
		return fmt.Errorf("take user 0's privileges: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

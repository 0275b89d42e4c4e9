package vnet

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketFamilies are the address families that a network namespace confines.
// Others, such as AF_VSOCK between a virtual machine and its host, would be a
// way around it.
var socketFamilies = [...]uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// deniedCalls are of no use to a service and reach parts of the kernel that
// its capabilities would have to guard alone: new namespaces above all, in
// which a process has every capability again.
var deniedCalls = [...]uint32{
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV,
	unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_BPF,
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_KEXEC_LOAD,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SWAPON,
}

// newNamespaces are the flags of clone that make any.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// auditArch is the kernel's name of this processor in a filter; 0 if system
// calls are not filtered on it.
func auditArch() uint32 {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64
	}
	return 0
}

// filterCalls restricts the calling thread and what it becomes: always to the
// address families above, and if sealed from the calls above as well.
func filterCalls(sealed bool) error {
	arch := auditArch()
	if arch == 0 {
		return nil // podLimits says so.
	}
	program := callFilter(arch, sealed)
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0)
	runtime.KeepAlive(program)
	if err != nil {
		return fmt.Errorf("filter system calls (does this kernel have seccomp?): %w", err)
	}
	return nil
}

// callFilter is the program, over struct seccomp_data: the call's number at 0,
// the architecture at 4, the arguments from 16 on, 8 bytes each, low half first.
func callFilter(arch uint32, sealed bool) []unix.SockFilter {
	const number, architecture, firstArgument = 0, 4, 16
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// jump skips yes or no instructions.
	jump := func(test uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	fail := func(errno unix.Errno) unix.SockFilter { return answer(unix.SECCOMP_RET_ERRNO | uint32(errno)) }

	program := []unix.SockFilter{
		// Another architecture's numbers mean other calls.
		load(architecture), jump(unix.BPF_JEQ, arch, 1, 0), fail(unix.ENOSYS),
		load(number),
	}
	if arch == unix.AUDIT_ARCH_X86_64 {
		program = append(program, jump(unix.BPF_JGE, 0x40000000, 0, 1), fail(unix.ENOSYS)) // x32
	}
	program = append(program, jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, uint8(len(socketFamilies)+3)), load(firstArgument))
	for i, family := range socketFamilies {
		program = append(program, jump(unix.BPF_JEQ, family, uint8(len(socketFamilies)-i), 0))
	}
	program = append(program, fail(unix.EAFNOSUPPORT), answer(unix.SECCOMP_RET_ALLOW))
	if sealed {
		for _, call := range deniedCalls {
			program = append(program, jump(unix.BPF_JEQ, call, 0, 1), fail(unix.EPERM))
		}
		program = append(program,
			// The flags of clone3 lie in memory, where a filter cannot see them;
			// libraries go back to clone.
			jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), fail(unix.ENOSYS),
			jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 3), load(firstArgument),
			jump(unix.BPF_JSET, newNamespaces, 0, 1), fail(unix.EPERM),
		)
	}
	return append(program, answer(unix.SECCOMP_RET_ALLOW))
}

// podLimits says what pods of the kernel drivers lack on this machine.
func podLimits() []string {
	if auditArch() == 0 {
		return []string{"system calls of pods are not filtered on " + runtime.GOARCH + ": address families beside the network, such as vsock, stay open to them"}
	}
	return nil
}

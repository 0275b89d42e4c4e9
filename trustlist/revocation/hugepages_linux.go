package revocation

import (
	"syscall"
	"unsafe"
)

// inHugePages asks the kernel to move memory, which is filled, into huge pages:
// a look-up is a random read, and a good part of what that costs in hundreds of
// megabytes is finding the page. The kernel may refuse (MADV_COLLAPSE came with
// Linux 6.1); nothing depends on it.
func inHugePages(mem []byte) {
	const collapse = 25
	if len(mem) >= 4<<20 { // of the runtime's own pages then, shared with nothing
		whole := mem[:len(mem)&^(pageSize-1)]
		at := uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
		if at%pageSize == 0 {
			_ = syscall.Madvise(whole, collapse)
		}
	}
}

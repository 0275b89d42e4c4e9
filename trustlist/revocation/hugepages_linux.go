package revocation

import (
	"syscall"
	"unsafe"
)

// inHugePages asks the kernel to back memory, before it is first written, with
// huge pages: a look-up is a random read, and half of what that costs in
// hundreds of megabytes is finding the page. The kernel may refuse; nothing
// depends on it.
func inHugePages[T any](mem []T) []T {
	const adviseHugePage = 14
	whole := mem[:cap(mem)]
	if len(whole) == 0 {
		return mem
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(whole))), uintptr(len(whole))*unsafe.Sizeof(whole[0]))
	if len(raw) >= 4<<20 { // of the runtime's own pages then, shared with nothing
		_ = syscall.Madvise(raw, adviseHugePage)
	}
	return mem
}

//go:build !linux

package revocation

// inHugePages does nothing where the kernel takes no such advice.
func inHugePages([]byte) {}

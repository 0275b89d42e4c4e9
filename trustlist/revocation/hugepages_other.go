//go:build !linux

package revocation

// inHugePages does nothing where the kernel takes no such advice.
func inHugePages[T any](mem []T) []T { return mem }

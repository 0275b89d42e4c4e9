// Package csi is a provider for the Secrets Store CSI driver: it fetches what a
// SecretProviderClass names from a key vault and hands it to the driver, which
// mounts it into the pod as files. Parameters and results are those of the
// Azure Key Vault provider.
//
// It promises that it has no right of its own. The driver passes on a service
// account token of the pod; the provider exchanges it at the identity service
// for a token of the pod's own identity (workload identity federation) and asks
// the vault with that. So a pod's mount holds what the pod itself may read. It
// keeps neither tokens nor contents after a call, writes no file, and no secret
// value or token is in an error or a log.
//
// It refuses: file names that lead out of the mount, or into each other; modes
// beyond 0777; service principals' passwords (nodePublishSecretRef);
// usePodIdentity, which its makers withdrew; the node's identity
// (useVMManagedIdentity) unless the operator allowed it, as it would give every
// pod of the node the same rights; parameters that it does not know.
//
// The protocol is the gRPC service v1alpha1.CSIDriverProvider on a Unix socket,
// as provider.proto in this directory describes it. Messages are encoded by
// hand over protowire (messages.go), and a test holds the codec against the
// protocol buffers runtime and that file.
package csi

package vnet_test

import (
	"testing"

	"verdant/vnet"
	"verdant/vnet/vnettest"
)

func TestMain(m *testing.M) { vnettest.Main(m, programs) }

func TestLoopbackConforms(t *testing.T) {
	t.Parallel()
	vnettest.Inside(t, vnet.Loopback, func(t *testing.T) { vnettest.Conformance(t, vnet.Loopback) })
}

func TestRootConforms(t *testing.T) {
	t.Parallel()
	vnettest.Inside(t, vnet.Root, func(t *testing.T) { vnettest.Conformance(t, vnet.Root) })
}

func TestRootlessConforms(t *testing.T) {
	t.Parallel()
	vnettest.Inside(t, vnet.Rootless, func(t *testing.T) { vnettest.Conformance(t, vnet.Rootless) })
}

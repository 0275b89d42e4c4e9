package vnet_test

import (
	"testing"

	"verdant/vnet"
	"verdant/vnet/vnettest"
)

func TestMain(m *testing.M) { vnettest.Main(m) }

func TestLoopbackConforms(t *testing.T) {
	vnettest.Inside(t, vnet.Loopback, func(t *testing.T) { vnettest.Conformance(t, vnet.Loopback) })
}

func TestRootConforms(t *testing.T) {
	vnettest.Inside(t, vnet.Root, func(t *testing.T) { vnettest.Conformance(t, vnet.Root) })
}

func TestRootlessConforms(t *testing.T) {
	vnettest.Inside(t, vnet.Rootless, func(t *testing.T) { vnettest.Conformance(t, vnet.Rootless) })
}

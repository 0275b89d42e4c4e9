//go:build !linux

package vnet_test

import "verdant/vnet/vnettest"

var programs map[string]vnettest.Program

package cmk_test

import (
	"verdant/azure/client"
	"verdant/cmk"
)

// The vault's KEK is what a Guard wraps with, and its errors tell a refusal.
var (
	_ cmk.Wrapper                    = (*client.KEK)(nil)
	_ interface{ KeyRefused() bool } = (*client.KeyError)(nil)
)

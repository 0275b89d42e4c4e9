package vnet_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"verdant/internal/conninfo"
	"verdant/vnet"
)

func TestTheBackboneMarksItsConnectionsAndEnds(t *testing.T) {
	b := vnet.NewBackbone()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := b.Accept(); err == nil {
			accepted <- c
		}
	}()
	near, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	far := <-accepted
	defer near.Close()
	defer far.Close()
	if info := far.(conninfo.Carrier).ConnInfo(); info.Kind != conninfo.Platform || info.Source.IsValid() {
		t.Errorf("got %+v", info)
	}
	go func() { _, _ = near.Write([]byte("x")) }()
	var one [1]byte
	if _, err := far.Read(one[:]); err != nil || one[0] != 'x' {
		t.Errorf("read %q, %v", one, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody accepts: got %v", err)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if _, err := b.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
	if _, err := b.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}

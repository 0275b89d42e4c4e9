package estate

import (
	"net"
	"testing"
	"time"
)

func TestStrangersBeyondTheBoundAreClosedAndPlacesComeBack(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := newBoundedListener(raw, 2)
	defer ln.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	first := <-accepted
	dial()
	<-accepted
	third := dial()
	_ = third.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("the third connection was served")
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("the third connection was left waiting")
	}
	_ = first.Close()
	_ = first.Close() // a second Close gives no second place
	dial()
	<-accepted
	fifth := dial()
	_ = fifth.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := fifth.Read(make([]byte, 1)); err == nil {
		t.Error("closing twice gave two places")
	}
}

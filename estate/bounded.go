package estate

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// boundedListener closes connections beyond a number of live ones. One table
// of descriptors serves the ingress, the vaults and the control socket;
// strangers at the front door must not use it up.
type boundedListener struct {
	net.Listener
	slots chan struct{}
}

func newBoundedListener(ln net.Listener, limit int) *boundedListener {
	return &boundedListener{ln, make(chan struct{}, limit)}
}

// maxFrontConnections is a quarter of the descriptors that this process may
// have, and 16384 at most.
func maxFrontConnections() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 256
	}
	return int(min(max(limit.Cur/4, 64), 16384))
}

// Accept waits for a connection that there is room for.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			_ = c.Close()
		}
	}
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	release func()
}

func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}

// NetConn is the connection below, which carries the network's evidence.
func (c *boundedConn) NetConn() net.Conn { return c.Conn }

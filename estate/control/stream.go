package control

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// streamConn is a Unix connection that keeps the file descriptors which
// arrive with its bytes.
type streamConn struct {
	*net.UnixConn
	mu    sync.Mutex
	files []*os.File
}

const maxFiles = 3

func (c *streamConn) Read(p []byte) (int, error) {
	oob := make([]byte, syscall.CmsgSpace(maxFiles*4))
	n, oobn, _, _, err := c.ReadMsgUnix(p, oob)
	if oobn > 0 {
		c.keep(oob[:oobn])
	}
	if err == nil && n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return max(n, 0), err // an error comes with -1
}

func (c *streamConn) keep(oob []byte) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			if len(c.files) < maxFiles {
				c.files = append(c.files, os.NewFile(uintptr(fd), "stream"))
				continue
			}
			_ = syscall.Close(fd)
		}
	}
}

func (c *streamConn) takeFiles() []*os.File {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	files := c.files
	c.files = nil
	return files
}

func (c *streamConn) Close() error {
	closeAll(c.takeFiles())
	return c.UnixConn.Close()
}

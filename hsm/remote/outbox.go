package remote

import (
	"net"
	"runtime"
	"sync"
	"time"
)

// outbox sends messages on a connection, whole and in order. Who finds nobody
// sending sends its own message and, in one write, all that others leave
// meanwhile: under load a write carries many messages.
type outbox struct {
	conn   net.Conn
	within time.Duration // for a write; 0 is for ever

	mu      sync.Mutex
	waiting []byte // messages that nobody sends yet
	spare   []byte // memory for waiting
	busy    bool
	err     error // of a write: what came after it was not sent
}

// send sends m or leaves it to who is sending; then an error of the write is
// another caller's, and ends the connection for all. m is the caller's again.
func (o *outbox) send(m message) error {
	m.finish()
	o.mu.Lock()
	if o.err != nil {
		defer o.mu.Unlock()
		return o.err
	}
	o.waiting = append(o.waiting, m...)
	if o.busy {
		o.mu.Unlock()
		return nil
	}
	o.busy = true
	o.mu.Unlock()
	runtime.Gosched() // who is about to send gets the processor first, and joins
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.waiting) > 0 && o.err == nil {
		b := o.waiting
		o.waiting = o.spare[:0]
		o.mu.Unlock()
		if o.within > 0 {
			_ = o.conn.SetWriteDeadline(time.Now().Add(o.within)) // the kernel's clock, not the estate's
		}
		_, err := o.conn.Write(b)
		clear(b) // a key to import may have been among them
		o.mu.Lock()
		o.spare, o.err = b[:0], err
	}
	o.busy = false
	return o.err
}

package jumpbox

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxRefusals ends a connection that keeps asking for what it does not get.
const maxRefusals = 4096

// How a connection ends, as it is recorded.
const (
	endedByClient    = "closed by the client"
	endedByExpiry    = "certificate expired"
	endedByWithdraw  = "no longer allowed"
	endedBySilence   = "no answer to keep-alive"
	endedByRefusals  = "too many refused requests"
	endedByServer    = "jump-box stopped"
	endedByNoRecord  = "log store did not take the record"
	endedByTooMany   = "too many connections"
	keepaliveRequest = "keepalive@openssh.com"
)

// connection is a signed-in connection.
type connection struct {
	server   *Server
	who      login
	raw      net.Conn
	conn     ssh.Conn
	channels chan struct{} // slots

	mu       sync.Mutex
	reason   string // of the end; the first counts
	refusals int
}

// handle serves one connection to its end. It holds a handshake slot until
// the sign-in, and a connection slot afterwards.
func (s *Server) handle(ctx context.Context, raw net.Conn, slots bounds) {
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn, channels, requests, who := s.signIn(ctx, raw)
	<-slots.handshakes
	if conn == nil {
		return
	}
	select {
	case slots.connections <- struct{}{}:
		defer func() { <-slots.connections }()
	default:
		s.records.refusedSignIn(ctx, raw.RemoteAddr(), who, endedByTooMany)
		return
	}
	c := &connection{server: s, who: who, raw: raw, conn: conn, channels: make(chan struct{}, s.cfg.MaxChannels)}
	c.run(ctx, channels, requests)
}

// signIn does the handshake; the connection is nil if it failed.
func (s *Server) signIn(ctx context.Context, raw net.Conn) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, login) {
	_ = raw.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout))
	a := &attempt{server: s, reason: refusedNoSignIn}
	config, err := a.config(ctx)
	if err != nil {
		return nil, nil, nil, login{}
	}
	conn, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		var auth *ssh.ServerAuthError
		if errors.As(err, &auth) || a.reason != refusedNoSignIn { // a port scan is no sign-in
			s.records.refusedSignIn(ctx, raw.RemoteAddr(), a.who, a.reason)
		}
		return nil, nil, nil, login{}
	}
	_ = raw.SetDeadline(time.Time{})
	return conn, channels, requests, conn.Permissions.ExtraData[loginKey{}].(login)
}

// run serves the connection until the client, the certificate, the right or
// the server ends it, and returns when all that it started has ended.
func (c *connection) run(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := c.server.deps.Now()
	var work sync.WaitGroup
	// Sign-in is recorded before anything is served.
	if c.record(ctx, "info", "signIn", map[string]any{"result": "ok", "expires": c.who.expires.UTC().Format(time.RFC3339)}) != nil {
		c.end(endedByNoRecord)
	}
	expiry := time.AfterFunc(c.who.expires.Sub(begun), func() { c.end(endedByExpiry) })
	defer expiry.Stop()
	work.Go(func() { c.answer(ctx, requests) })
	work.Go(func() { c.keepalive(ctx) })
	for ch := range channels { // until the connection is closed
		c.open(ctx, ch, &work)
	}
	if ctx.Err() != nil {
		c.end(endedByServer)
	}
	c.end(endedByClient)
	cancel()
	work.Wait()
	_ = c.record(ctx, "info", "signOut", map[string]any{"result": c.ended(), "durationMs": c.server.deps.Now().Sub(begun).Milliseconds()})
}

// end closes the connection. The first reason stays.
func (c *connection) end(reason string) {
	c.mu.Lock()
	if c.reason == "" {
		c.reason = reason
	}
	c.mu.Unlock()
	_ = c.raw.Close()
}

func (c *connection) ended() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

func (c *connection) record(ctx context.Context, level, event string, fields map[string]any) error {
	for k, v := range c.who.fields(c.raw.RemoteAddr()) {
		fields[k] = v
	}
	return c.server.records.emit(ctx, level, event, fields)
}

// answer declines global requests, remote forwarding among them, until the
// connection is closed.
func (c *connection) answer(ctx context.Context, requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case keepaliveRequest, "hostkeys-prove-00@openssh.com", "no-more-sessions@openssh.com":
		default:
			c.refused(ctx, map[string]any{"request": legible(r.Type), "result": "request not offered"})
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
}

// refused records a refusal and counts it.
func (c *connection) refused(ctx context.Context, fields map[string]any) {
	_ = c.record(ctx, "warn", "refused", fields)
	c.mu.Lock()
	c.refusals++
	over := c.refusals > maxRefusals
	c.mu.Unlock()
	if over {
		c.end(endedByRefusals)
	}
}

// valid says whether the person may still be here, and ends the connection if
// not. The timer at the certificate's end does not count the time for which a
// machine was suspended; the clock does.
func (c *connection) valid(ctx context.Context) *refusal {
	if !c.server.deps.Now().Before(c.who.expires) {
		return prohibited(endedByExpiry, "your certificate has expired; %s", howToGetIn)
	}
	if c.server.deps.Allowed(ctx, c.who.Principal) != nil {
		return prohibited(endedByWithdraw, "%s", askAdministrator)
	}
	return nil
}

// keepalive looks after the connection until ctx ends or the client is gone.
func (c *connection) keepalive(ctx context.Context) {
	tick := time.NewTicker(c.server.cfg.Keepalive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if no := c.valid(ctx); no != nil && ctx.Err() == nil {
			c.end(no.reason)
			return
		}
		silence := time.AfterFunc(c.server.cfg.Keepalive, func() { c.end(endedBySilence) })
		_, _, err := c.conn.SendRequest(keepaliveRequest, true, nil)
		silence.Stop()
		if err != nil {
			return
		}
	}
}

// open starts a channel, or refuses it.
func (c *connection) open(ctx context.Context, ch ssh.NewChannel, work *sync.WaitGroup) {
	if ch.ChannelType() != "direct-tcpip" {
		c.reject(ctx, ch, map[string]any{"request": legible(ch.ChannelType())},
			prohibited("channel not offered", "the jump-box only carries connections: use ssh -N with -L, -D or -W, or ProxyJump"))
		return
	}
	select {
	case c.channels <- struct{}{}:
		work.Go(func() {
			defer func() { <-c.channels }()
			c.forward(ctx, ch)
		})
	default:
		c.reject(ctx, ch, map[string]any{}, &refusal{ssh.ResourceShortage, "too many channels", "too many connections at once over this sign-in"})
	}
}

func (c *connection) reject(ctx context.Context, ch ssh.NewChannel, fields map[string]any, no *refusal) {
	fields["result"] = no.reason
	c.refused(ctx, fields)
	_ = ch.Reject(no.code, no.message)
}

// directTCPIP is the extra data of such a channel, RFC 4254 §7.2.
type directTCPIP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// forward carries one channel to its end.
func (c *connection) forward(ctx context.Context, ch ssh.NewChannel) {
	s := c.server
	var asked directTCPIP
	if ssh.Unmarshal(ch.ExtraData(), &asked) != nil {
		c.reject(ctx, ch, map[string]any{}, prohibited("malformed request", "the channel request is malformed"))
		return
	}
	fields := map[string]any{"destination": legible(asked.Host), "port": int64(asked.Port)}
	region, address, no := s.destination(c.who.region, asked.Host, asked.Port)
	if no != nil {
		c.reject(ctx, ch, fields, no)
		return
	}
	fields["region"] = region
	if no := c.valid(ctx); no != nil {
		c.reject(ctx, ch, fields, no)
		c.end(no.reason)
		return
	}
	dialing, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	target, err := s.deps.Dial(dialing, region, address)
	cancel()
	if err != nil {
		c.reject(ctx, ch, fields, &refusal{ssh.ConnectionFailed, "no connection",
			"no connection to " + address + " from the development network of " + region + ": " + err.Error()})
		return
	}
	defer target.Close()
	if c.record(ctx, "info", "channelOpen", with(fields, nil)) != nil {
		c.reject(ctx, ch, fields, &refusal{ssh.ResourceShortage, endedByNoRecord, "the log store does not take the record of this connection; see verdant status"})
		return
	}
	begun := s.deps.Now()
	sent, received := carry(ch, target)
	_ = c.record(ctx, "info", "channelClose", with(fields, map[string]any{
		"bytesSent": sent, "bytesReceived": received, "durationMs": s.deps.Now().Sub(begun).Milliseconds(), "result": c.outcome(ctx),
	}))
}

// outcome is why a channel ended: by itself, or with its connection.
func (c *connection) outcome(ctx context.Context) string {
	if reason := c.ended(); reason != "" {
		return reason
	}
	if ctx.Err() != nil {
		return endedByServer
	}
	return "ok"
}

func with(fields, more map[string]any) map[string]any {
	all := make(map[string]any, len(fields)+len(more)+8)
	for _, m := range []map[string]any{fields, more} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// carry accepts the channel and copies both ways until both directions are at
// their end, or the channel or the connection below it is closed. It waits for the client to close its
// side, so that a channel's slot is not free before the channel is. sent
// counts bytes to target, received bytes from it.
func carry(open ssh.NewChannel, target net.Conn) (sent, received int64) {
	ch, requests, err := open.Accept()
	if err != nil {
		return 0, 0
	}
	closed := make(chan struct{})
	go func() { // Ends when the client closes the channel, or the connection.
		ssh.DiscardRequests(requests)
		_ = target.Close()
		close(closed)
	}()
	up := make(chan int64, 1)
	go func() { // Ends with the channel's data, or with target.
		n, err := io.Copy(target, ch)
		if half, ok := target.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
		} else {
			_ = target.Close()
		}
		up <- n
	}()
	received, err = io.Copy(ch, target)
	if err == nil {
		_ = ch.CloseWrite()
	} else {
		_ = ch.Close()
		_ = target.Close()
	}
	sent = <-up
	_ = ch.Close()
	<-closed
	return sent, received
}

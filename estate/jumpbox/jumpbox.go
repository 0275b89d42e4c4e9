// Package jumpbox is the only administrative way into the estate's private
// networks: an SSH server that carries TCP connections and does nothing else.
//
// It promises that every connection belongs to a person whose certificate the
// estate's user authority signed within the hour and who still has the right
// when a channel opens; that a connection ends with its certificate and, at
// the latest one keep-alive after the right is withdrawn, with that; and that
// no sign-in and no channel is served before the log store has its record. A
// record holds who, from where, to where, how long and how many bytes, and
// never what was said.
//
// It refuses plain keys, passwords and keyboard-interactive sign-in;
// certificates without permit-port-forwarding, without an end, of another
// authority or for another principal; sessions, agent, X11 and remote
// forwarding, Unix sockets; and every destination whose port is not allowed.
//
// The person's sign-in name (UPN, lower case) is the SSH user name. The
// development network that a connection leaves from is that of the region
// which the destination's name carries ("eudcc-ie-kv-g1.vault.azure.net"),
// else the default region. A region put before the user name with a plus
// ("eudcc-eu+admin@verdant.localhost") overrides both, and is required for
// destinations given as IP addresses, since the regions' ranges overlap.
//
// Protocol: RFC 4251 to 4254 (direct-tcpip is RFC 4254 §7.2) and OpenSSH's
// PROTOCOL.certkeys.
package jumpbox

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"verdant/internal/telemetry"
)

// Config is what the server needs to know of its estate.
type Config struct {
	// Regions are the names of the regions, in lower case. A destination
	// belongs to the region whose name it contains, with or without dashes.
	Regions []string
	// DefaultRegion serves names that carry no region; "" refuses them.
	DefaultRegion string
	// Ports that may be reached. Default: 443, 3306, 8080.
	Ports []uint16
	// Addresses are the ranges of destinations that may be given as IP
	// addresses. Default: none.
	Addresses []netip.Prefix
	// HostNames are the names and addresses under which clients reach the
	// server: the principals of its host certificate. Required.
	HostNames []string
	// MaxConnections bounds signed-in connections (default 64), MaxHandshakes
	// those that have not signed in yet (default 32), and MaxChannels the
	// channels of one connection (default 128).
	MaxConnections, MaxHandshakes, MaxChannels int
	// HandshakeTimeout bounds key exchange and sign-in (default 15 s),
	// DialTimeout the connection to a destination (default 10 s).
	HandshakeTimeout, DialTimeout time.Duration
	// Keepalive is how often the client must show that it is there and the
	// right to be here is checked (default 15 s).
	Keepalive time.Duration
}

// Deps are the parts that the server works with. All are required.
type Deps struct {
	// HostKey identifies the server; HostCA signs its host certificate.
	HostKey, HostCA crypto.Signer
	// UserCA signs the certificates of those who may sign in: an
	// ssh.PublicKey, or what ssh.NewPublicKey takes.
	UserCA crypto.PublicKey
	// Dial connects to a host name and port from the development network of a
	// region, whose private DNS resolves the name.
	Dial func(ctx context.Context, region, address string) (net.Conn, error)
	// Allowed says whether the person may use the jump-box now. Every error
	// means no. It is asked at sign-in, before every channel and at every
	// keep-alive.
	Allowed func(ctx context.Context, p Principal) error
	// Sink takes the records, in table ContainerLogV2.
	Sink telemetry.Sink
	// Now is the clock.
	Now func() time.Time
}

// Server is a jump-box.
type Server struct {
	cfg     Config
	deps    Deps
	userCA  ssh.PublicKey
	hostCA  ssh.PublicKey
	host    ssh.Signer
	records recorder

	mu       sync.Mutex
	identity ssh.Signer // the host key under its certificate
	renew    time.Time  // when to make the next
}

// New checks the configuration and makes the host certificate.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.HostKey == nil || deps.HostCA == nil || deps.UserCA == nil || deps.Dial == nil || deps.Allowed == nil || deps.Sink == nil || deps.Now == nil {
		return nil, errors.New("jump-box: a dependency is missing; all of Deps are required")
	}
	if len(cfg.HostNames) == 0 {
		return nil, errors.New("jump-box: HostNames is empty, so no client could verify the server")
	}
	if cfg.DefaultRegion != "" && !slices.Contains(cfg.Regions, cfg.DefaultRegion) {
		return nil, fmt.Errorf("jump-box: the default region %q is none of %q", cfg.DefaultRegion, cfg.Regions)
	}
	cfg.setDefaults()
	s := &Server{cfg: cfg, deps: deps, records: recorder{sink: deps.Sink, now: deps.Now}}
	var err error
	if s.userCA, err = publicKey(deps.UserCA); err != nil {
		return nil, fmt.Errorf("jump-box: user authority: %w", err)
	}
	if s.host, err = ssh.NewSignerFromSigner(deps.HostKey); err != nil {
		return nil, fmt.Errorf("jump-box: host key: %w", err)
	}
	if s.hostCA, err = publicKey(deps.HostCA.Public()); err != nil {
		return nil, fmt.Errorf("jump-box: host authority: %w", err)
	}
	_, err = s.hostIdentity()
	return s, err
}

func (c *Config) setDefaults() {
	if c.Ports == nil {
		c.Ports = []uint16{443, 3306, 8080}
	}
	for field, value := range map[*int]int{&c.MaxConnections: 64, &c.MaxHandshakes: 32, &c.MaxChannels: 128} {
		if *field <= 0 {
			*field = value
		}
	}
	for field, value := range map[*time.Duration]time.Duration{
		&c.HandshakeTimeout: 15 * time.Second, &c.DialTimeout: 10 * time.Second, &c.Keepalive: 15 * time.Second,
	} {
		if *field <= 0 {
			*field = value
		}
	}
}

func publicKey(key crypto.PublicKey) (ssh.PublicKey, error) {
	if k, ok := key.(ssh.PublicKey); ok {
		return k, nil
	}
	return ssh.NewPublicKey(key)
}

// hostLifetime is short since the server makes the next certificate itself.
const hostLifetime = 24 * time.Hour

// hostIdentity is the host key under a certificate with at least half its life
// ahead.
func (s *Server) hostIdentity() (ssh.Signer, error) {
	now := s.deps.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity != nil && now.Before(s.renew) {
		return s.identity, nil
	}
	cert, err := issueHostCertificate(s.deps.HostCA, s.host.PublicKey(), s.cfg.HostNames, hostLifetime, now)
	if err != nil {
		return nil, err
	}
	identity, err := ssh.NewCertSigner(cert, s.host)
	if err != nil {
		return nil, fmt.Errorf("host certificate: %w", err)
	}
	s.identity, s.renew = identity, now.Add(hostLifetime/2)
	return identity, nil
}

// KnownHosts is the line for a client's known_hosts file that makes it trust
// the host certificate at addresses ("127.0.0.1:2222").
func (s *Server) KnownHosts(addresses ...string) string { return KnownHosts(s.hostCA, addresses...) }

// Serve answers on ln until ctx ends, closes it, and returns when every
// connection has ended. Each Serve has the bounds of Config for itself.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer ln.Close()
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel() // before the wait: connections end when the listener broke, too
	slots := bounds{handshakes: make(chan struct{}, s.cfg.MaxHandshakes), connections: make(chan struct{}, s.cfg.MaxConnections)}
	pause := time.Duration(0)
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("jump-box: the listener was closed: %w", err)
			}
			// Out of descriptors, or the client gave up while it waited.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		select {
		case slots.handshakes <- struct{}{}:
			connections.Go(func() { s.handle(ctx, conn, slots) })
		default:
			_ = conn.Close()
		}
	}
}

// bounds are the slots of one listener's connections.
type bounds struct{ handshakes, connections chan struct{} }

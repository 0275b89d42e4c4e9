// Package mysql is the region's database server: Azure Database for MySQL's
// gate over the MySQL client/server protocol, and behind it databases in
// encrypted SQLite files under a customer-managed key.
//
// The gate promises: TLS before anything else (a client that does not ask for
// it gets an error before it could send a password, and mysql_clear_password
// is only asked for inside TLS); the password is an Entra access token for
// https://ossrdbms-aad.database.windows.net, checked when connecting
// (signature, issuer, audience, time), whose object id must be that of the
// account named; an account reaches exactly its databases; connections come
// through a private endpoint or not at all; every login and every statement
// (without its literals) goes to MySqlAuditLogs.
//
// The store promises: an acknowledged commit survives kill -9; a statement
// takes effect as a whole or not at all; writers wait for each other and never
// see a busy error; a session reaches the one file of its database and none of
// SQLite's own means (ATTACH, PRAGMA, virtual tables, extensions). While the
// key is inaccessible every connection is cut and new ones are refused with
// the reason.
//
// It speaks protocol version 10 with capabilities that need no more: no
// compression, no LOCAL INFILE, no several statements in one, no COM_CHANGE_USER,
// commands under 16 MiB. SQL is the portable subset of translate.go; what is
// not in it is refused by name. Isolation is serializable within a transaction
// that writes and read-committed before its first write under autocommit=0.
package mysql

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verdant/azure/rest"
	"verdant/cmk"
	"verdant/internal/conninfo"
	"verdant/internal/telemetry"
)

// Audience is the resource that a token must be for.
const Audience = "https://ossrdbms-aad.database.windows.net"

// Config describes one server.
type Config struct {
	// Name is the server's name, such as eudcc-ie-mysql.
	Name string
	// ResourceID is its ARM id.
	ResourceID string
	// Databases are the schemas that exist; each is one file.
	Databases []string
	// Accounts are who may log in.
	Accounts []Account
	// TLS holds the server's certificate. TLS 1.2 is the least whatever it says.
	TLS *tls.Config
	// Limits bound what clients may use; zero fields have defaults.
	Limits Limits
}

// Account is one principal that may log in.
type Account struct {
	// Name is the MySQL user name; case matters.
	Name string
	// ObjectID is the principal's object id in the tenant.
	ObjectID string
	// Databases are what it may use.
	Databases []string
	// Admin may use every database.
	Admin bool
}

func (a Account) mayUse(database string) bool {
	return a.Admin || slices.Contains(a.Databases, database)
}

// Limits bound what clients may use.
type Limits struct {
	// Connections at one time, and of one account; 0 means 151 and 64.
	Connections, AccountConnections int
	// Login bounds the time to log in (10 s), Idle the time between commands
	// (15 min) and TransactionIdle the same inside a transaction (1 min),
	// Statement the time of one command (1 min), LockWait that to wait for
	// another writer (20 s).
	Login, Idle, TransactionIdle, Statement, LockWait time.Duration
	// ResultRows and ResultBytes bound one result (1,000,000 and 256 MiB).
	ResultRows, ResultBytes int
	// Statements a connection may have prepared at one time (1024).
	Statements int
	// Memory that SQLite may use for one connection, in bytes (96 MiB: a
	// command of 16 MiB is in there up to five times).
	Memory int64
}

func (l Limits) withDefaults() Limits {
	orInt := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	orTime := func(t *time.Duration, d time.Duration) {
		if *t <= 0 {
			*t = d
		}
	}
	orInt(&l.Connections, 151)
	orInt(&l.AccountConnections, 64)
	orTime(&l.Login, 10*time.Second)
	orTime(&l.Idle, 15*time.Minute)
	orTime(&l.TransactionIdle, time.Minute)
	orTime(&l.Statement, time.Minute)
	orTime(&l.LockWait, 20*time.Second)
	orInt(&l.ResultRows, 1_000_000)
	orInt(&l.ResultBytes, 256<<20)
	orInt(&l.Statements, 1024)
	if l.Memory <= 0 {
		l.Memory = 96 << 20
	}
	return l
}

// TokenVerifier is *rest.Verifier.
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (rest.Caller, error)
}

// Deps are what the server works with.
type Deps struct {
	// Verifier checks access tokens; its audience is Audience.
	Verifier TokenVerifier
	// Guard holds the key of the databases.
	Guard Guard
	// Dir holds the databases' files; it exists.
	Dir string
	// Sink takes the audit log.
	Sink telemetry.Sink
	// Now is the clock.
	Now func() time.Time
	// Backend replaces the SQLite files in Dir; nil for them.
	Backend Backend
}

// Server serves one database server's name.
type Server struct {
	cfg      Config
	deps     Deps
	accounts map[string]Account
	backend  Backend
	tls      *tls.Config
	audit    *auditLog
	nextID   atomic.Uint32
	started  time.Time

	mu       sync.Mutex
	sessions map[*session]struct{}
	perUser  map[string]int
}

// New checks the configuration. No file is opened before a session needs it.
func New(cfg Config, deps Deps) (*Server, error) {
	if cfg.Name == "" || cfg.TLS == nil || deps.Verifier == nil || deps.Guard == nil || deps.Sink == nil || deps.Now == nil {
		return nil, errors.New("mysql server needs Name, TLS, Verifier, Guard, Sink and Now")
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{cfg: cfg, deps: deps, accounts: map[string]Account{}, sessions: map[*session]struct{}{}, perUser: map[string]int{}, started: deps.Now()}
	for _, a := range cfg.Accounts {
		if a.Name == "" || a.ObjectID == "" {
			return nil, fmt.Errorf("mysql server %s: account %q needs a name and an object id", cfg.Name, a.Name)
		}
		if _, twice := s.accounts[a.Name]; twice {
			return nil, fmt.Errorf("mysql server %s: account %q is given twice", cfg.Name, a.Name)
		}
		for _, d := range a.Databases {
			if !slices.Contains(cfg.Databases, d) {
				return nil, fmt.Errorf("mysql server %s: account %q may use %q, which is no database of the server", cfg.Name, a.Name, d)
			}
		}
		s.accounts[a.Name] = a
	}
	s.backend = deps.Backend
	if s.backend == nil {
		b, err := newSQLite(deps.Dir, cfg.Databases, deps.Guard, cfg.Limits, deps.Now)
		if err != nil {
			return nil, fmt.Errorf("mysql server %s: %w", cfg.Name, err)
		}
		s.backend = b
	}
	s.tls = cfg.TLS.Clone()
	s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS12)
	s.audit = newAuditLog(cfg.ResourceID, deps.Sink, deps.Now)
	return s, nil
}

// Serve answers on l until ctx ends; then it closes l, cuts the sessions and
// returns when they have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if temporary, ok := err.(net.Error); ok && temporary.Timeout() {
				continue
			}
			return fmt.Errorf("mysql server %s: accept: %w", s.cfg.Name, err)
		}
		group.Go(func() { s.serveConn(ctx, conn) })
	}
}

// Run cuts every connection when the key becomes inaccessible, and writes the
// audit log, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { s.audit.run(ctx) })
	defer group.Wait()
	for {
		state, changed := s.deps.Guard.Watch()
		if !state.Available {
			s.cutAll(fmt.Errorf("%w: %s", cmk.ErrInaccessible, state.Reason))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) cutAll(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		c.cut(why)
	}
}

// Sessions is how many clients are logged in.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// enter counts a session in, or says why there is no room.
func (s *Server) enter(c *session) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= s.cfg.Limits.Connections {
		return fatalf(1040, "08004", "Too many connections")
	}
	s.sessions[c] = struct{}{}
	return nil
}

// claim counts the account of a session that logged in.
func (s *Server) claim(c *session, account string) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perUser[account] >= s.cfg.Limits.AccountConnections {
		return fatalf(1203, "42000", "User %s already has more than %d active connections", account, s.cfg.Limits.AccountConnections)
	}
	s.perUser[account]++
	c.account = account
	return nil
}

func (s *Server) leave(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
	if c.account != "" {
		if s.perUser[c.account]--; s.perUser[c.account] == 0 {
			delete(s.perUser, c.account)
		}
	}
}

// authenticate decides about a login. What is wrong with the client's own
// token it may know; whether an account of that name exists it may not.
func (s *Server) authenticate(ctx context.Context, l login, host string) (Account, *Error) {
	caller, err := s.deps.Verifier.Verify(ctx, l.token)
	detail := ""
	switch {
	case l.token == "":
		detail = ": the password is an access token for " + Audience
	case err != nil:
		detail = ": " + err.Error()
	case strings.TrimRight(caller.Audience, "/") != Audience:
		detail = ": " + rest.ErrToken.Error() + ": audience is another service"
	default:
		account, known := s.accounts[l.user]
		if known && caller.ObjectID == account.ObjectID {
			return account, nil
		}
		detail = ": the token is not that of the account's principal"
	}
	using := "YES"
	if l.token == "" {
		using = "NO"
	}
	return Account{}, fatalf(1045, "28000", "Access denied for user '%s'@'%s' (using password: %s)%s", clip(l.user), host, using, detail)
}

// fromEndpoint is the network's evidence that the connection came through a
// private endpoint.
func fromEndpoint(ctx context.Context, conn net.Conn) (conninfo.Info, bool) {
	info, ok := conninfo.From(conninfo.ConnContext(ctx, conn))
	return info, ok && info.Kind == conninfo.PrivateEndpoint
}

package mysql

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"verdant/cmk"
)

// session is one client's connection.
type session struct {
	server  *Server
	id      uint32
	host    string
	account string
	packets *packetConn
	cancel  context.CancelCauseFunc

	backend  Session
	prepared map[uint32]*preparedStatement
	lastStmt uint32
	longSize int // bytes of all that COM_STMT_SEND_LONG_DATA sent
}

type preparedStatement struct {
	Statement
	text  string // for the audit log: without literals
	types []parameterType
	long  map[int][]byte
}

// cut ends the session from outside: a running statement is interrupted.
func (c *session) cut(why error) { c.cancel(why) }

// serveConn is the life of one connection.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &session{server: s, id: s.nextID.Add(1), packets: newPacketConn(conn), cancel: cancel, prepared: map[uint32]*preparedStatement{}}
	// The deadline, not Close, ends a wait for the client: an answer under way
	// can still be written.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() { _ = c.packets.conn.Close() }()
	info, ok := fromEndpoint(ctx, conn)
	c.host = info.Source.Addr().String()
	if !ok {
		c.host = "unknown"
		c.fail(fatalf(1130, "HY000", "Public network access is disabled on server %s: connect through an approved private endpoint", s.cfg.Name))
		return
	}
	if refused := s.enter(c); refused != nil {
		c.fail(refused)
		return
	}
	defer s.leave(c)
	defer c.end()
	defer func() {
		if p := recover(); p != nil { // SQLite out of memory, or a bug: this session only
			c.fail(fatalf(1037, "HY001", "Out of memory; the statement was undone and the connection ends"))
		}
	}()
	if !c.logIn(ctx) {
		return
	}
	c.loop(ctx)
}

// end frees what the session holds, even where that panics.
func (c *session) end() {
	defer func() { _ = recover() }()
	if c.backend != nil {
		c.record("connection_log", "DISCONNECT", "", nil)
		_ = c.backend.Close()
	}
}

// fail sends an error as the next packet, as far as the client still listens.
func (c *session) fail(e *Error) {
	if c.packets.write(e.packet()) == nil {
		_ = c.packets.flush()
	}
}

func (c *session) logIn(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.server.cfg.Limits.Login)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := c.packets.conn.SetReadDeadline(deadline); err != nil || ctx.Err() != nil {
		return false
	}
	l, err := c.packets.handshake(ctx, c.id, c.server.tls)
	var known *Error
	if errors.As(err, &known) {
		c.recordLogin(l, known)
		c.fail(known)
		return false
	}
	if err != nil {
		return false
	}
	if refused := c.admit(ctx, l); refused != nil {
		c.recordLogin(l, refused)
		c.fail(refused)
		return false
	}
	c.packets.limit = maxPacket
	c.recordLogin(l, nil)
	return c.ok(Result{}) == nil
}

// admit decides about a login whose token has come.
func (c *session) admit(ctx context.Context, l login) *Error {
	account, refused := c.server.authenticate(ctx, l, c.host)
	if refused != nil {
		return refused
	}
	if l.database != "" && !account.mayUse(l.database) {
		return errDatabaseDenied(account.Name, l.database)
	}
	if refused := c.server.claim(c, account.Name); refused != nil {
		return refused
	}
	if _, err := c.server.deps.Guard.Key(); err != nil {
		return errInaccessible(c.server.cfg.Name, err)
	}
	backend, err := c.server.backend.Open(ctx, Identity{Account: account.Name, Host: c.host, ConnectionID: c.id,
		MayUse: account.mayUse, FoundRows: l.caps&capFoundRows != 0}, l.database)
	if err != nil {
		return c.wireError(ctx, err)
	}
	c.backend = backend
	return nil
}

// wireError is the one place where an error gets its form on the wire. What
// has none is internal and keeps its text to itself.
func (c *session) wireError(ctx context.Context, err error) *Error {
	var known *Error
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, cmk.ErrInaccessible):
		return errInaccessible(c.server.cfg.Name, err)
	case errors.Is(cause, cmk.ErrInaccessible):
		return errInaccessible(c.server.cfg.Name, cause)
	case cause != nil && !errors.Is(cause, context.DeadlineExceeded):
		return fatalf(1053, "08S01", "Server shutdown in progress")
	case errors.As(err, &known):
		return known
	}
	return errorf(1105, "HY000", "Internal error; connection id %d", c.id)
}

// loop answers commands until the client or the server ends the session.
func (c *session) loop(ctx context.Context) {
	limits := c.server.cfg.Limits
	for {
		wait := limits.Idle
		if c.backend.Status()&StatusInTransaction != 0 {
			wait = limits.TransactionIdle
		}
		if err := c.packets.conn.SetReadDeadline(time.Now().Add(wait)); err != nil || ctx.Err() != nil {
			c.goodbye(ctx)
			return
		}
		c.packets.seq = 0
		body, err := c.packets.read()
		switch {
		case err == errTooLarge: // read away whole: the session is still in step
			c.fail(errPacket())
			continue
		case errors.Is(err, errSequence):
			c.fail(fatalf(1156, "08S01", "Got packets out of order"))
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.goodbye(ctx)
			return
		case err != nil || len(body) == 0 || body[0] == comQuit:
			return
		}
		if !c.answer(ctx, body) {
			return
		}
	}
}

func errPacket() *Error {
	return errorf(1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes (%d)", maxPacket)
}

// goodbye tells an idle client why it is cut off, where that is more than its
// own silence.
func (c *session) goodbye(ctx context.Context) {
	c.packets.seq = 0
	if ctx.Err() != nil {
		c.fail(c.wireError(ctx, nil))
		return
	}
	c.fail(fatalf(4031, "HY000", "The client was disconnected by the server because of inactivity"))
}

// answer runs one command and reports whether the session goes on.
func (c *session) answer(ctx context.Context, body []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, c.server.cfg.Limits.Statement)
	defer cancel()
	var err error
	if state, _ := c.server.deps.Guard.Watch(); !state.Available {
		err = fmt.Errorf("%w: %s", cmk.ErrInaccessible, state.Reason)
	} else {
		err = c.command(ctx, body[0], body[1:])
	}
	if err != nil {
		var gone *net.OpError
		if errors.Is(err, io.ErrClosedPipe) || errors.As(err, &gone) {
			return false
		}
		e := c.wireError(ctx, err)
		c.fail(e)
		return !e.fatal
	}
	return c.packets.flush() == nil
}

// Commands (MySQL Client/Server Protocol, "Command Phase").
const (
	comQuit            = 0x01
	comInitDB          = 0x02
	comQuery           = 0x03
	comFieldList       = 0x04
	comStatistics      = 0x09
	comPing            = 0x0e
	comChangeUser      = 0x11
	comStmtPrepare     = 0x16
	comStmtExecute     = 0x17
	comStmtLongData    = 0x18
	comStmtClose       = 0x19
	comStmtReset       = 0x1a
	comSetOption       = 0x1b
	comResetConnection = 0x1f
)

func (c *session) command(ctx context.Context, code byte, body []byte) error {
	switch code {
	case comPing:
		return c.ok(Result{})
	case comInitDB:
		return c.use(ctx, string(body))
	case comQuery:
		return c.query(ctx, string(body))
	case comStmtPrepare:
		return c.prepare(ctx, string(body))
	case comStmtExecute:
		return c.execute(ctx, body)
	case comStmtLongData:
		c.longData(body)
		return nil
	case comStmtClose:
		c.closeStatement(body)
		return nil
	case comStmtReset:
		st, err := c.statement(&reader{b: body})
		if err != nil {
			return err
		}
		c.dropLong(st)
		return c.ok(Result{})
	case comResetConnection:
		return c.reset(ctx)
	case comStatistics:
		return c.packets.write(fmt.Appendf(nil, "Uptime: %d  Threads: %d", int(c.server.deps.Now().Sub(c.server.started).Seconds()), c.server.Sessions()))
	case comSetOption:
		if len(body) == 2 && binary.LittleEndian.Uint16(body) == 1 { // several statements off
			return c.packets.write(eofPacket(c.backend.Status()))
		}
		return errUnsupported("several statements in one")
	case comChangeUser:
		return fatalf(1235, "42000", "This server doesn't support COM_CHANGE_USER; open another connection")
	}
	return errorf(1047, "08S01", "Unknown command %#02x", code)
}

func (c *session) ok(r Result) error {
	if err := c.packets.write(okPacket(r, c.backend.Status())); err != nil {
		return err
	}
	return c.packets.flush()
}

func (c *session) use(ctx context.Context, database string) error {
	if !c.server.accounts[c.account].mayUse(database) {
		return errDatabaseDenied(c.account, clip(database))
	}
	if err := c.backend.Use(ctx, database); err != nil {
		return err
	}
	return c.ok(Result{})
}

// query is COM_QUERY: the text protocol.
func (c *session) query(ctx context.Context, text string) (err error) {
	defer func() { c.recordStatement(ctx, withoutLiterals(text), err) }()
	if database, ok := useStatement(text); ok {
		return c.use(ctx, database)
	}
	st, err := c.backend.Prepare(ctx, text)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	if st.Params() > 0 {
		return errSyntax("a placeholder outside a prepared statement")
	}
	return c.run(ctx, st, nil, false)
}

// useStatement reports whether text is USE name.
func useStatement(text string) (database string, ok bool) {
	if len(text) > 200 {
		return "", false
	}
	tokens, err := lex(text)
	if err != nil {
		return "", false
	}
	var words []token
	for _, t := range tokens {
		if t.kind != kindSpace {
			words = append(words, t)
		}
	}
	if len(words) != 2 || !words[0].is("USE") || !words[1].ident() {
		return "", false
	}
	return words[1].text, true
}

// run executes and sends what comes of it.
func (c *session) run(ctx context.Context, st Statement, args []Value, binary bool) error {
	out := &resultWriter{p: c.packets, binary: binary, status: c.backend.Status, limits: c.server.cfg.Limits}
	result, err := st.Run(ctx, args, out)
	if err != nil {
		return err
	}
	if out.started {
		if err := c.packets.write(eofPacket(c.backend.Status())); err != nil {
			return err
		}
		return c.packets.flush()
	}
	return c.ok(result)
}

// prepare is COM_STMT_PREPARE.
func (c *session) prepare(ctx context.Context, text string) error {
	if len(c.prepared) >= c.server.cfg.Limits.Statements {
		return errorf(1461, "42000", "Can't create more than %d prepared statements; close some", c.server.cfg.Limits.Statements)
	}
	st, err := c.backend.Prepare(ctx, text)
	if err != nil {
		c.recordStatement(ctx, withoutLiterals(text), err)
		return err
	}
	columns := st.Columns()
	if st.Params() > 65535 || len(columns) > 65535 {
		_ = st.Close()
		return errorf(1390, "HY000", "Prepared statement contains too many placeholders")
	}
	c.lastStmt++
	c.prepared[c.lastStmt] = &preparedStatement{Statement: st, text: withoutLiterals(text), long: map[int][]byte{}}
	b := binary.LittleEndian.AppendUint32([]byte{0}, c.lastStmt)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(columns)))
	b = binary.LittleEndian.AppendUint16(b, uint16(st.Params()))
	if err := c.packets.write(append(b, 0, 0, 0)); err != nil {
		return err
	}
	params := make([]Column, st.Params())
	for i := range params {
		params[i] = Column{Name: "?", Type: TypeText}
	}
	for i := range columns {
		if columns[i].Type == 0 {
			columns[i].Type = TypeText
		}
	}
	for _, group := range [][]Column{params, columns} {
		for _, column := range group {
			if err := c.packets.write(columnPacket(column)); err != nil {
				return err
			}
		}
		if len(group) > 0 {
			if err := c.packets.write(eofPacket(c.backend.Status())); err != nil {
				return err
			}
		}
	}
	return c.packets.flush()
}

func (c *session) statement(r *reader) (*preparedStatement, error) {
	id := uint32(r.uint(4))
	st := c.prepared[id]
	if r.bad || st == nil {
		return nil, errorf(1243, "HY000", "Unknown prepared statement handler (%d) given to mysqld_stmt_execute", id)
	}
	return st, nil
}

// execute is COM_STMT_EXECUTE. Cursors are not offered; a client that asks for
// one gets the whole result, as the protocol allows.
func (c *session) execute(ctx context.Context, body []byte) (err error) {
	r := &reader{b: body}
	st, err := c.statement(r)
	if err != nil {
		return err
	}
	defer func() { c.recordStatement(ctx, st.text, err) }()
	r.uint(1)
	if r.uint(4) != 1 || r.bad {
		return errorf(1210, "HY000", "Incorrect arguments to mysqld_stmt_execute")
	}
	args, err := readParameters(r, st.Params(), &st.types, st.long)
	tooLong := c.longSize > maxPacket
	c.dropLong(st)
	if tooLong {
		return errPacket()
	}
	if err != nil {
		return err
	}
	return c.run(ctx, st, args, true)
}

// longData keeps a piece of an argument. It has no answer: what is wrong with
// it shows at execution.
func (c *session) longData(body []byte) {
	r := &reader{b: body}
	st, err := c.statement(r)
	i := int(r.uint(2))
	if err != nil || r.bad || i >= st.Params() {
		return
	}
	if c.longSize += len(r.b); c.longSize > maxPacket {
		clear(st.long)
		return
	}
	st.long[i] = append(st.long[i], r.b...)
}

func (c *session) dropLong(st *preparedStatement) {
	clear(st.long)
	c.longSize = 0
	for _, other := range c.prepared {
		for _, data := range other.long {
			c.longSize += len(data)
		}
	}
}

func (c *session) closeStatement(body []byte) {
	r := &reader{b: body}
	id := uint32(r.uint(4))
	if st := c.prepared[id]; st != nil {
		_ = st.Close()
		delete(c.prepared, id)
		c.dropLong(st)
	}
}

func (c *session) reset(ctx context.Context) error {
	for id, st := range c.prepared {
		_ = st.Close()
		delete(c.prepared, id)
	}
	c.longSize = 0
	if err := c.backend.Reset(ctx); err != nil {
		return err
	}
	return c.ok(Result{})
}

package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"verdant/internal/telemetry"
)

// auditTable is where Azure Database for MySQL's audit log goes.
const auditTable = "MySqlAuditLogs"

const (
	auditQueue = 4096
	auditBatch = 256
	maxSQLText = 2048
)

// auditLog hands rows to the sink from a queue, so that a statement does not
// wait for the log's disk. While the sink is down the queue fills, and what
// does not fit is counted and reported as a row of its own when it is back:
// the database does not stop for its log, as Azure's does not.
type auditLog struct {
	resource string
	sink     telemetry.Sink
	now      func() time.Time
	queue    chan telemetry.Row
	lost     chan int // holds the number of rows that did not fit
}

func newAuditLog(resource string, sink telemetry.Sink, now func() time.Time) *auditLog {
	a := &auditLog{resource: resource, sink: sink, now: now, queue: make(chan telemetry.Row, auditQueue), lost: make(chan int, 1)}
	a.lost <- 0
	return a
}

// add queues a row or counts it as lost.
func (a *auditLog) add(row telemetry.Row) {
	now := a.now().UTC()
	row["TimeGenerated"], row["EventTime"] = now, now
	row["Category"], row["_ResourceId"], row["IsAadAuth"] = auditTable, a.resource, "true"
	select {
	case a.queue <- row:
	default:
		a.lost <- <-a.lost + 1
	}
}

// run hands over batches until ctx ends, and then what is left for a moment.
func (a *auditLog) run(ctx context.Context) {
	for {
		select {
		case row := <-a.queue:
			a.hand(ctx, a.batch(row))
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			for {
				select {
				case row := <-a.queue:
					if a.sink.Emit(last, auditTable, a.batch(row)...) != nil {
						return
					}
				default:
					return
				}
			}
		}
	}
}

func (a *auditLog) batch(first telemetry.Row) []telemetry.Row {
	rows := []telemetry.Row{first}
	if n := <-a.lost; n > 0 {
		rows = append(rows, telemetry.Row{"TimeGenerated": a.now().UTC(), "EventTime": a.now().UTC(), "Category": auditTable, "_ResourceId": a.resource,
			"EventClass": "general_log", "EventSubclass": "ERROR", "SqlText": fmt.Sprintf("%d records were lost while the log could not be reached", n)})
	}
	a.lost <- 0
	for len(rows) < auditBatch {
		select {
		case row := <-a.queue:
			rows = append(rows, row)
		default:
			return rows
		}
	}
	return rows
}

// hand gives rows to the sink, again until it takes them.
func (a *auditLog) hand(ctx context.Context, rows []telemetry.Row) {
	for wait := 100 * time.Millisecond; a.sink.Emit(ctx, auditTable, rows...) != nil; wait = min(2*wait, 10*time.Second) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// record makes an audit row of the session.
func (c *session) record(class, subclass, text string, e *Error) {
	row := telemetry.Row{"EventClass": class, "EventSubclass": subclass, "User": c.account, "Host": c.host, "Ip": c.host,
		"ThreadId": int64(c.id), "ConnectionId": fmt.Sprint(c.id), "SqlText": text, "ErrorCode": int64(0), "Status": int64(0), "Db": ""}
	if c.backend != nil {
		row["Db"] = c.backend.Database()
	}
	if e != nil {
		row["ErrorCode"], row["Status"] = int64(e.Code), int64(1)
	}
	c.server.audit.add(row)
}

func (c *session) recordLogin(l login, e *Error) {
	if c.account == "" {
		c.account = l.user
		defer func() { c.account = "" }()
	}
	subclass := "CONNECT"
	if e != nil {
		subclass = "FAILED CONNECT"
	}
	c.record("connection_log", subclass, "", e)
}

func (c *session) recordStatement(ctx context.Context, text string, err error) {
	var e *Error
	if err != nil && !errors.As(err, &e) {
		e = c.wireError(ctx, err)
	}
	subclass := "LOG"
	if e != nil {
		subclass = "ERROR"
	}
	c.record("general_log", subclass, text, e)
}

// withoutLiterals is the statement as the audit log may keep it: every literal
// is a ?, since literals are where a client's data is.
func withoutLiterals(query string) string {
	l := &lexer{s: query}
	var b strings.Builder
	for b.Len() < maxSQLText {
		t, err := l.next()
		if err != nil {
			b.WriteString(" … (does not parse)")
			break
		}
		switch t.kind {
		case kindEnd:
			return b.String()
		case kindString, kindNumber, kindHex, kindParam:
			b.WriteByte('?')
		case kindQuoted:
			writeIdent(&b, t.text)
		case kindUser:
			b.WriteString("@" + t.text)
		case kindSystem:
			b.WriteString("@@" + t.text)
		default:
			b.WriteString(t.text)
		}
	}
	return strings.ToValidUTF8(b.String(), "?")
}

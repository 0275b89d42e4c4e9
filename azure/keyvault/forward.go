package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"verdant/internal/telemetry"
)

const (
	forwardBatch = 1000
	// gather is how long the forwarder lets records come together: a batch
	// costs the sink and the store one write each.
	gather = 50 * time.Millisecond
	// gatherNothing is the same where there is no sink: then only the cursor
	// moves, and its write and the audit's would wait for each other's disk.
	gatherNothing = 2 * time.Second

	retryAfter = 2 * time.Second
	maxRecent  = 8192
)

// recent hands records that were just written to the forwarder, so that it
// need not read them back. It is a shortcut only: what it does not hold is
// read from the journal.
type recent struct {
	mu     sync.Mutex
	events map[uint64]*auditEvent // by journal number
	done   uint64                 // numbers up to this one are forwarded
}

func (r *recent) put(seq uint64, e *auditEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq <= r.done {
		return
	}
	if r.events == nil || len(r.events) >= maxRecent { // the forwarder is behind, or not running
		r.events = map[uint64]*auditEvent{}
	}
	r.events[seq] = e
}

// after returns the events that follow seq without a gap, up to limit.
func (r *recent) after(seq uint64, limit int) []*auditEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	var run []*auditEvent
	for e := r.events[seq+1]; e != nil && len(run) < limit; e = r.events[seq+1] {
		seq++
		run = append(run, e)
	}
	return run
}

// forwarded forgets everything up to a number, and what comes late.
func (r *recent) forwarded(to uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = max(r.done, to)
	maps.DeleteFunc(r.events, func(seq uint64, _ *auditEvent) bool { return seq <= r.done })
}

// forward sends the journal's records to the sink, in order and at least
// once: the cursor moves after the sink has acknowledged. What is away for now
// is tried again; nothing is lost, the records stay in the journal. It ends
// with ctx.
func (s *Server) forward(ctx context.Context) error {
	var cursor uint64
	for known := false; ctx.Err() == nil; {
		var err error
		if !known {
			cursor, err = s.store.Cursor(ctx)
			known = err == nil
		}
		if err == nil {
			err = s.audit.Wait(ctx, cursor)
		}
		if err == nil {
			if s.forwards() {
				wait(ctx, gather)
			} else {
				wait(ctx, gatherNothing)
			}
		}
		for full := true; full && err == nil; {
			cursor, full, err = s.forwardFrom(ctx, cursor)
		}
		if err != nil && ctx.Err() == nil {
			wait(ctx, retryAfter)
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// forwardFrom sends up to a batch of the records after cursor, and returns the
// new cursor and whether the batch was full.
func (s *Server) forwardFrom(ctx context.Context, cursor uint64) (last uint64, full bool, err error) {
	if !s.forwards() {
		last = s.audit.Last()
		return last, false, s.store.SetCursor(context.WithoutCancel(ctx), last)
	}
	events := s.recent.after(cursor, forwardBatch)
	last = cursor + uint64(len(events))
	if len(events) == 0 {
		if events, last, err = s.readBack(ctx, cursor); err != nil {
			return cursor, false, err
		}
	}
	if last == cursor {
		return cursor, false, nil
	}
	rows := make([]telemetry.Row, len(events))
	for i, e := range events {
		rows[i] = e.row()
	}
	if len(rows) > 0 {
		if err := s.sink.Emit(ctx, Table, rows...); err != nil {
			return cursor, false, err
		}
	}
	s.recent.forwarded(last)
	// The sink has the rows: an end of ctx must not make them come again, and
	// a store that refuses must not either, as long as this server runs.
	return last, last-cursor >= forwardBatch, s.store.SetCursor(context.WithoutCancel(ctx), last)
}

var errBatchFull = errors.New("batch is full")

// readBack reads up to a batch of records after cursor from the journal. Those
// of other vaults that share it are passed over.
func (s *Server) readBack(ctx context.Context, cursor uint64) (events []*auditEvent, last uint64, err error) {
	mine := strings.ToUpper(s.cfg.ResourceID)
	last = cursor
	err = s.audit.Read(ctx, cursor+1, func(seq uint64, record []byte) error {
		if last-cursor >= forwardBatch {
			return errBatchFull
		}
		e := new(auditEvent)
		if err := json.Unmarshal(record, e); err != nil {
			return fmt.Errorf("audit record %d: %w", seq, err)
		}
		if e.ResourceID == mine {
			events = append(events, e)
		}
		last = seq
		return nil
	})
	if errors.Is(err, errBatchFull) {
		err = nil
	}
	return events, last, err
}

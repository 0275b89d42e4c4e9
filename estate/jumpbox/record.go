package jumpbox

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"verdant/internal/telemetry"
)

const (
	table = "ContainerLogV2"
	// recordTimeout bounds the wait for the log store.
	recordTimeout = 5 * time.Second
	// maxRefusedSignIns bounds the records of refused sign-ins in a minute,
	// which anybody who reaches the socket can cause. The next record says how
	// many were left out.
	maxRefusedSignIns = 60
)

// recorder writes the records of the jump-box.
type recorder struct {
	sink telemetry.Sink
	now  func() time.Time

	mu      sync.Mutex
	minute  time.Time
	count   int
	omitted int
}

// emit writes one record. It outlives the end of ctx, since the end of a
// connection is recorded when its context has ended.
func (r *recorder) emit(ctx context.Context, level, event string, fields map[string]any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	fields["event"] = event
	return r.sink.Emit(ctx, table, telemetry.Row{
		"TimeGenerated": r.now(), "Computer": "jumpbox", "PodName": "jumpbox", "PodNamespace": "jumpbox",
		"ContainerName": "jumpbox", "ContainerId": "jumpbox", "LogSource": "stdout", "LogLevel": level, "LogMessage": fields,
	})
}

// refusedSignIn records a sign-in that failed, unless there were too many in
// this minute. Nothing depends on the record, so its loss is not an error.
func (r *recorder) refusedSignIn(ctx context.Context, source net.Addr, who login, reason string) {
	r.mu.Lock()
	if minute := r.now().Truncate(time.Minute); !minute.Equal(r.minute) {
		r.minute, r.count = minute, 0
	}
	if r.count++; r.count > maxRefusedSignIns {
		r.omitted++
		r.mu.Unlock()
		return
	}
	omitted := r.omitted
	r.omitted = 0
	r.mu.Unlock()
	fields := who.fields(source)
	fields["result"], fields["omittedBefore"] = reason, omitted
	_ = r.emit(ctx, "warn", "signInRefused", fields)
}

// fields are those of every record about a person.
func (l login) fields(source net.Addr) map[string]any {
	return map[string]any{"user": l.UPN, "objectId": l.ObjectID, "serial": strconv.FormatUint(l.serial, 16), "source": source.String()}
}

// legible makes text from outside fit for a record.
func legible(text string) string {
	const most = 255
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "�")
}

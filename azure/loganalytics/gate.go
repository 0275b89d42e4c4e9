package loganalytics

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"verdant/azure/rest"
)

// rateWindow is the time over which a caller's requests are counted.
const rateWindow = 30 * time.Second

// gate bounds what one caller may ask for at a time, as the service's query
// throttling does: a few queries run, some wait in line for a while, the rest
// is answered 429.
type gate struct {
	concurrent, queue, requests int
	wait                        time.Duration
	now                         func() time.Time

	mu      sync.Mutex
	callers map[string]*visitor
}

// visitor is one caller's state; it goes away when the caller does.
type visitor struct {
	running int
	waiting []chan struct{} // first come, first served; closed when it is one's turn
	window  time.Time
	seen    int
}

func newGate(c Config, now func() time.Time) *gate {
	return &gate{concurrent: c.Concurrent, queue: c.Queue, requests: c.Requests, wait: c.QueueWait, now: now, callers: map[string]*visitor{}}
}

func throttled(after time.Duration, format string, args ...any) error {
	e := rest.Errorf(http.StatusTooManyRequests, "ThrottledError", format, args...)
	e.Header = http.Header{"Retry-After": {strconv.Itoa(max(1, int((after+time.Second-1)/time.Second)))}}
	return e
}

// admit counts a request of caller.
func (g *gate) admit(caller string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	v := g.callers[caller]
	if v == nil {
		g.forget(now)
		v = &visitor{window: now}
		g.callers[caller] = v
	}
	if now.Sub(v.window) >= rateWindow || now.Before(v.window) {
		v.window, v.seen = now, 0
	}
	if v.seen >= g.requests {
		return throttled(v.window.Add(rateWindow).Sub(now), "More than %d requests in %d seconds. Try again later.", g.requests, int(rateWindow.Seconds()))
	}
	v.seen++
	return nil
}

// forget drops callers that have nothing running and no count.
func (g *gate) forget(now time.Time) {
	for id, v := range g.callers {
		if v.running == 0 && len(v.waiting) == 0 && now.Sub(v.window) >= rateWindow {
			delete(g.callers, id)
		}
	}
}

// enter waits for caller's turn to run a query. leave must be called after it.
func (g *gate) enter(ctx context.Context, caller string) (leave func(), err error) {
	g.mu.Lock()
	v := g.callers[caller]
	if v == nil {
		v = &visitor{window: g.now()}
		g.callers[caller] = v
	}
	leave = sync.OnceFunc(func() { g.leave(v) })
	if v.running < g.concurrent {
		v.running++
		g.mu.Unlock()
		return leave, nil
	}
	if len(v.waiting) >= g.queue {
		g.mu.Unlock()
		return nil, throttled(g.wait/10, "%d queries run and %d wait. Try again later.", g.concurrent, g.queue)
	}
	turn := make(chan struct{})
	v.waiting = append(v.waiting, turn)
	g.mu.Unlock()

	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	select {
	case <-turn:
		return leave, nil
	case <-timer.C:
		err = throttled(g.wait/10, "The query waited for its turn for too long.")
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, c := range v.waiting {
		if c == turn {
			v.waiting = append(v.waiting[:i], v.waiting[i+1:]...)
			return nil, err
		}
	}
	return leave, nil // its turn came in the same moment
}

// leave hands the place to the next in line.
func (g *gate) leave(v *visitor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(v.waiting) > 0 {
		close(v.waiting[0])
		v.waiting = v.waiting[1:]
		return
	}
	v.running--
}

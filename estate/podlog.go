package estate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"verdant/internal/plaintext"
	"verdant/internal/telemetry"
)

const (
	keptLines    = 1000     // of each pod, for `verdant logs`
	maxLogLine   = 16 << 10 // longer lines are cut, as a container runtime does
	shipEvery    = 250 * time.Millisecond
	maxUnshipped = 20000 // rows that wait for the workspace before the oldest go
)

// podLogs collects what the pods print and ships it to the region's
// workspace, as the container agent of a cluster does.
type podLogs struct {
	now func() time.Time

	mu      sync.Mutex
	kept    map[string][]string
	pending map[Region][]telemetry.Row
	dropped map[Region]int
	watch   map[chan<- logLine]string // value: the pod watched, "" for all
}

type logLine struct{ pod, text string }

func newPodLogs(now func() time.Time) *podLogs {
	return &podLogs{now: now, kept: map[string][]string{}, pending: map[Region][]telemetry.Row{},
		dropped: map[Region]int{}, watch: map[chan<- logLine]string{}}
}

// collect reads a pod's stream until its end. A line that is longer than
// maxLogLine is cut there and the rest of it thrown away as it comes: what a
// pod prints never takes more memory than that.
func (l *podLogs) collect(pod Pod, region Region, source string, stream io.Reader) {
	r := bufio.NewReaderSize(stream, maxLogLine)
	for {
		line, err := r.ReadSlice('\n')
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			l.add(pod, region, source, text)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// lines is a writer of whole lines that are logged as a pod's.
type lines struct {
	logs   *podLogs
	pod    Pod
	region Region
}

// Write takes one line.
func (w lines) Write(line []byte) (int, error) {
	if text := strings.TrimRight(string(line), "\r\n"); text != "" {
		w.logs.add(w.pod, w.region, "stdout", text)
	}
	return len(line), nil
}

func (l *podLogs) add(pod Pod, region Region, source, text string) {
	var message any = text
	level := ""
	var structured map[string]any
	if json.Unmarshal([]byte(text), &structured) == nil && structured != nil {
		message = structured
		level, _ = structured["level"].(string)
	}
	row := telemetry.Row{
		"TimeGenerated": l.now(), "Computer": string(region) + "-aks", "PodName": pod.Name, "PodNamespace": string(region),
		"ContainerName": pod.Service, "ContainerId": pod.Name, "LogSource": source, "LogMessage": message, "LogLevel": strings.ToLower(level),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := append(l.kept[pod.Name], text)
	if len(lines) > keptLines {
		lines = append([]string(nil), lines[len(lines)-keptLines/2:]...)
	}
	l.kept[pod.Name] = lines
	rows := append(l.pending[region], row)
	if excess := len(rows) - maxUnshipped; excess > 0 {
		rows = rows[excess:]
		l.dropped[region] += excess
	}
	l.pending[region] = rows
	for ch, name := range l.watch {
		if name == "" || name == pod.Name {
			select {
			case ch <- logLine{pod.Name, text}:
			default: // a reader that does not keep up misses lines, the pod does not wait
			}
		}
	}
}

// ship sends collected rows to the workspace until ctx ends, and then once
// more. Rows that the workspace refuses stay and are tried again.
func (l *podLogs) ship(ctx context.Context, sinks map[Region]telemetry.Sink) error {
	tick := time.NewTicker(shipEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			l.shipOnce(last, sinks)
			return nil
		case <-tick.C:
			l.shipOnce(ctx, sinks)
		}
	}
}

func (l *podLogs) shipOnce(ctx context.Context, sinks map[Region]telemetry.Sink) {
	for region, sink := range sinks {
		l.mu.Lock()
		rows := l.pending[region]
		l.pending[region] = nil
		l.mu.Unlock()
		if len(rows) == 0 {
			continue
		}
		if err := sink.Emit(ctx, "ContainerLogV2", rows...); err != nil {
			l.mu.Lock()
			l.pending[region] = append(rows, l.pending[region]...)
			l.mu.Unlock()
		}
	}
}

// print writes the kept lines of a pod, or of all, and then new ones while
// follow is set and ctx lives.
func (l *podLogs) print(ctx context.Context, pod string, pods []string, follow bool, w io.Writer) error {
	ch := make(chan logLine, 1024)
	l.mu.Lock()
	if follow {
		l.watch[ch] = pod
		defer func() {
			l.mu.Lock()
			delete(l.watch, ch)
			l.mu.Unlock()
		}()
	}
	var out []byte
	for _, name := range pods {
		if pod != "" && pod != name {
			continue
		}
		for _, line := range l.kept[name] {
			out = appendLine(out, pod, name, line)
		}
	}
	l.mu.Unlock()
	if _, err := w.Write(out); err != nil {
		return err
	}
	for follow {
		select {
		case <-ctx.Done():
			return nil
		case line := <-ch:
			if _, err := w.Write(appendLine(nil, pod, line.pod, line.text)); err != nil {
				return err
			}
		}
	}
	return nil
}

func appendLine(out []byte, asked, pod, text string) []byte {
	if asked == "" {
		out = append(append(out, pod...), ' ')
	}
	return append(append(out, plaintext.Escape(text)...), '\n')
}

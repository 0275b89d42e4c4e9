package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
)

// script is a transport that gives its outcomes one after the other, the last
// for ever, and notes what it was sent.
type script struct {
	outcomes []outcome
	bodies   []string
}

type outcome struct {
	status int
	header string // "Name: value"
	err    error
}

func (s *script) Do(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		raw, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		body = string(raw)
	}
	o := s.outcomes[min(len(s.bodies), len(s.outcomes)-1)]
	s.bodies = append(s.bodies, body)
	if o.err != nil {
		return nil, o.err
	}
	h := http.Header{}
	if name, value, ok := strings.Cut(o.header, ": "); ok {
		h.Set(name, value)
	}
	return &http.Response{StatusCode: o.status, Header: h, Body: http.NoBody, Request: r}, nil
}

// send gives a request to a pipeline as every client of a Platform has it.
func (s *script) send(ctx context.Context, method, path string) (int, error) {
	p := &Platform{now: time.Now}
	o := p.clientOptions()
	o.Transport = s
	pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{}, &o)
	req, err := runtime.NewRequest(ctx, method, "https://kv.vault.azure.net"+path)
	if err != nil {
		return 0, err
	}
	if method != http.MethodGet {
		if err := req.SetBody(streaming.NopCloser(strings.NewReader("body")), "application/json"); err != nil {
			return 0, err
		}
	}
	resp, err := pipeline.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

func TestARequestIsRepeatedOnlyWhereThatIsSafe(t *testing.T) {
	const read, sign, set, create = "GET /secrets/a", "POST /keys/k/v1/sign", "PUT /secrets/a", "POST /keys/k/create"
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	broken := &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	impostor := &tls.CertificateVerificationError{Err: errors.New("unknown authority")}
	for name, tt := range map[string]struct {
		request string
		first   outcome
		tries   int
		waited  time.Duration // at least; a tenth more at most
	}{
		"a throttled read":                        {read, outcome{429, "Retry-After: 3", nil}, 2, 3 * time.Second},
		"a throttled write":                       {set, outcome{429, "Retry-After: 3", nil}, 2, 3 * time.Second},
		"a date":                                  {read, outcome{429, "Retry-After: Sat, 01 Jan 2000 00:00:07 GMT", nil}, 2, 7 * time.Second},
		"milliseconds":                            {read, outcome{429, "Retry-After-Ms: 40", nil}, 2, 40 * time.Millisecond},
		"Azure's milliseconds":                    {read, outcome{429, "X-Ms-Retry-After-Ms: 40", nil}, 2, 40 * time.Millisecond},
		"longer than anyone waits":                {read, outcome{429, "Retry-After: 11", nil}, 1, 0},
		"a write to a server that says when":      {create, outcome{503, "Retry-After: 1", nil}, 2, time.Second},
		"a write to a server that does not":       {create, outcome{503, "", nil}, 1, 0},
		"a write that may have been done":         {set, outcome{500, "", nil}, 1, 0},
		"a write behind a gateway that gave up":   {set, outcome{504, "Retry-After: 1", nil}, 1, 0},
		"a write whose connection broke":          {set, outcome{err: broken}, 1, 0},
		"a write that never found a connection":   {set, outcome{err: dial}, 2, 0},
		"a read whose connection broke":           {read, outcome{err: broken}, 2, 0},
		"a signature whose connection broke":      {sign, outcome{err: broken}, 2, 0},
		"a signature that the server lost":        {sign, outcome{500, "", nil}, 2, 0},
		"a refused read":                          {read, outcome{403, "Retry-After: 1", nil}, 1, 0},
		"a read from somebody under its name":     {read, outcome{err: impostor}, 1, 0},
		"a date of yesterday":                     {read, outcome{503, "Retry-After: Fri, 31 Dec 1999 00:00:00 GMT", nil}, 2, 0},
		"a Retry-After that is none":              {read, outcome{503, "Retry-After: soon", nil}, 2, 0},
		"a negative Retry-After":                  {read, outcome{503, "Retry-After: -5", nil}, 2, 0},
		"a number that overflows":                 {read, outcome{429, "Retry-After: 99999999999999999999", nil}, 2, 0},
		"an object whose name is an operation":    {"POST /keys/sign/create", outcome{500, "", nil}, 1, 0},
		"a deletion that may have been done":      {"DELETE /secrets/a", outcome{502, "", nil}, 1, 0},
		"an operation that is not one with a key": {"POST /certificates/sign", outcome{500, "", nil}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{outcomes: []outcome{tt.first, {status: 200}}}
				method, path, _ := strings.Cut(tt.request, " ")
				began := time.Now()
				_, _ = s.send(t.Context(), method, path)
				waited := time.Since(began)
				if len(s.bodies) != tt.tries {
					t.Errorf("sent %d times, want %d", len(s.bodies), tt.tries)
				}
				if waited < tt.waited || tt.waited > 0 && waited > tt.waited+tt.waited/10+1 || tt.tries == 1 && waited > 0 {
					t.Errorf("waited %s, want %s", waited, tt.waited)
				}
				for _, body := range s.bodies {
					if method != http.MethodGet && body != "body" {
						t.Errorf("sent the body %q", body)
					}
				}
			})
		})
	}
}

func TestRepeatingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{outcomes: []outcome{{429, "", nil}}}
		began := time.Now()
		if status, err := s.send(t.Context(), http.MethodGet, "/keys"); status != 429 || err != nil || len(s.bodies) != maxTries {
			t.Errorf("a server that never has time: got %d, %v after %d tries", status, err, len(s.bodies))
		}
		if waited := time.Since(began); waited > maxWait {
			t.Errorf("waited %s", waited)
		}
		// Four waits of nine seconds would be more than maxWait.
		s = &script{outcomes: []outcome{{429, "Retry-After: 9", nil}}}
		began = time.Now()
		if status, _ := s.send(t.Context(), http.MethodGet, "/keys"); status != 429 || time.Since(began) > maxWait || len(s.bodies) != 4 {
			t.Errorf("got %d after %d tries and %s", status, len(s.bodies), time.Since(began))
		}
		// The caller's deadline is nearer than the server's word: the answer at once.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s = &script{outcomes: []outcome{{429, "Retry-After: 5", nil}}}
		began = time.Now()
		if status, err := s.send(ctx, http.MethodGet, "/keys"); status != 429 || err != nil || time.Since(began) != 0 {
			t.Errorf("got %d, %v after %s", status, err, time.Since(began))
		}
		// A caller who leaves is not kept.
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		if _, err := s.send(ctx, http.MethodGet, "/keys"); !errors.Is(err, context.Canceled) || time.Since(began) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
}

func TestARefusalSaysWhenToComeBack(t *testing.T) {
	resp := &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"20"}}, Body: http.NoBody, Request: &http.Request{}}
	var r *Refusal
	if err := AsRefusal(&azcore.ResponseError{StatusCode: 429, RawResponse: resp}); !errors.As(err, &r) || r.RetryAfter != 20*time.Second {
		t.Errorf("got %+v", r)
	}
}

var _ policy.Transporter = (*script)(nil)

package client

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Bounds of repeating a request.
const (
	maxTries   = 5
	firstDelay = 200 * time.Millisecond
	// maxDelay is the longest single wait. A service that asks for a longer
	// one gets its answer handed to the caller instead.
	maxDelay = 10 * time.Second
	// maxWait bounds all waits of a request together.
	maxWait = 30 * time.Second
)

// retryPolicy repeats a request that a service of the platform did not answer,
// or answered with "later". The SDK's own policy repeats whatever the method;
// this one repeats a write only when it is certain that nothing was done:
//
//   - 429, and 503 with Retry-After: the service says that it turned the
//     request away. Any request is repeated.
//   - No connection came about: any request is repeated.
//   - 408, 500, 502, 504, 503 without Retry-After, or a connection that broke:
//     the request may have been carried out. Only what changes nothing is
//     repeated: reads, and the operations with a key, which leave no trace.
//
// Retry-After (seconds or an HTTP date, RFC 9110 section 10.2.3, and Azure's
// forms in milliseconds) is the least time to wait; otherwise waits double from
// firstDelay. The end of the request's context ends the waiting, and a wait
// that the context's deadline would cut short is not begun.
type retryPolicy struct{ now func() time.Time }

// Do implements policy.Policy.
func (p retryPolicy) Do(req *policy.Request) (*http.Response, error) {
	ctx := req.Raw().Context()
	for try, waited := 1, time.Duration(0); ; try++ {
		if err := req.RewindBody(); err != nil {
			return nil, err
		}
		resp, err := req.Clone(ctx).Next()
		if ctx.Err() != nil || try == maxTries || !again(req.Raw(), resp, err) {
			return resp, err
		}
		delay := p.delay(resp, try)
		if deadline, ok := ctx.Deadline(); delay > maxDelay || waited+delay > maxWait || ok && time.Until(deadline) < delay {
			return resp, err
		}
		runtime.Drain(resp)
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
			waited += delay
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// again reports whether the request may be sent once more after this outcome.
func again(req *http.Request, resp *http.Response, err error) bool {
	if err != nil {
		var final interface{ NonRetriable() }
		var impostor *tls.CertificateVerificationError
		if errors.As(err, &final) || errors.As(err, &impostor) {
			return false
		}
		var op *net.OpError
		return repeatable(req) || errors.As(err, &op) && op.Op == "dial"
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		return repeatable(req) || resp.Header.Get("Retry-After") != ""
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return repeatable(req)
	}
	return false
}

// repeatable reports whether the request changes nothing at the service.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	case http.MethodPost:
		path := strings.TrimRight(req.URL.Path, "/")
		switch path[strings.LastIndexByte(path, '/')+1:] {
		case "sign", "verify", "encrypt", "decrypt", "wrapkey", "unwrapkey":
			return strings.HasPrefix(path, "/keys/")
		}
	}
	return false
}

// delay is how long to wait before the try after this one. What the service
// asks for is the least; a little more spreads those who were told the same.
func (p retryPolicy) delay(resp *http.Response, try int) time.Duration {
	if asked := retryAfter(resp, p.now()); asked > 0 {
		return asked + rand.N(asked/10+1)
	}
	backoff := firstDelay << (try - 1)
	return backoff*3/4 + rand.N(backoff/2)
}

// retryAfter reads how long the service asks to be left alone; 0 if it does
// not say. What is beyond a day or unreadable counts as not said.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	if resp == nil {
		return 0
	}
	for _, said := range []struct {
		header string
		unit   time.Duration
	}{{"Retry-After-Ms", time.Millisecond}, {"X-Ms-Retry-After-Ms", time.Millisecond}, {"Retry-After", time.Second}} {
		text, unit := resp.Header.Get(said.header), said.unit
		if text == "" {
			continue
		}
		if n, err := strconv.Atoi(text); err == nil {
			if n > 0 && n <= int(24*time.Hour/unit) {
				return time.Duration(n) * unit
			}
			continue
		}
		if at, err := http.ParseTime(text); err == nil && at.After(now) && at.Sub(now) <= 24*time.Hour {
			return at.Sub(now)
		}
	}
	return 0
}

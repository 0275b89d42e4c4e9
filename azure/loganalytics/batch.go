package loganalytics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"verdant/azure/rest"
)

// maxBatch is how many requests a batch may hold.
const maxBatch = 100

type batchRequest struct {
	ID        *string           `json:"id"`
	Headers   map[string]string `json:"headers"`
	Body      *body             `json:"body"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Workspace *string           `json:"workspace"`
}

type batchResponse struct {
	ID      string            `json:"id"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    json.RawMessage   `json:"body"`
}

// batch answers several queries in one response. A query that goes wrong fails
// alone; only a malformed batch fails whole.
func (s *Server) batch(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Requests []batchRequest `json:"requests"`
	}
	empty, err := decodeBody(r, &in)
	if err != nil {
		return err
	}
	if empty {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if err := checkBatch(in.Requests); err != nil {
		return err
	}
	out := make([]batchResponse, len(in.Requests))
	// As many at a time as one caller may run: the rest of the batch waits
	// here and not in the line that it shares with the caller's other queries.
	slots := make(chan struct{}, s.config.Concurrent)
	var wg sync.WaitGroup
	for i, q := range in.Requests {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i] = s.batched(r, q)
		})
	}
	wg.Wait()
	rest.WriteJSON(w, http.StatusOK, map[string]any{"responses": out})
	return nil
}

func checkBatch(requests []batchRequest) error {
	invalid := func(format string, args ...any) error {
		return badArgument("QueryValidationError", "Failed parsing the query",
			map[string]any{"code": "InvalidBatch", "message": fmt.Sprintf(format, args...), "target": nil})
	}
	if len(requests) == 0 || len(requests) > maxBatch {
		return invalid("A batch holds 1 to %d requests", maxBatch)
	}
	seen := map[string]bool{}
	for i, q := range requests {
		switch {
		case q.ID == nil || *q.ID == "":
			return invalid("Request %d has no id", i)
		case q.Workspace == nil || *q.Workspace == "":
			return invalid("Request %.50q has no workspace", *q.ID)
		case seen[*q.ID]:
			return invalid("Two requests have the id %.50q", *q.ID)
		}
		seen[*q.ID] = true
	}
	return nil
}

func (s *Server) batched(r *http.Request, q batchRequest) batchResponse {
	res, err := s.batchedQuery(r, q)
	if err == nil {
		var raw []byte
		if raw, err = json.Marshal(res); err == nil {
			return batchResponse{ID: *q.ID, Status: http.StatusOK, Body: raw}
		}
	}
	status, header, raw := answered(err, correlation(r.Context()))
	out := batchResponse{ID: *q.ID, Status: status, Body: raw, Headers: map[string]string{}}
	for name := range header {
		out.Headers[name] = header.Get(name)
	}
	return out
}

func (s *Server) batchedQuery(r *http.Request, q batchRequest) (*Result, error) {
	// The guide says that a request without a method is a GET and that a GET's
	// body is ignored, the API's definition that it is a POST; a GET has no
	// place for a query here, so a body decides.
	if q.Path != "" && q.Path != "/query" || q.Method != "" && !strings.EqualFold(q.Method, "POST") && !strings.EqualFold(q.Method, "GET") {
		return nil, pathNotFound()
	}
	var b body
	if q.Body != nil {
		b = *q.Body
	}
	one := b.request(*q.Workspace)
	for name, value := range q.Headers {
		if strings.EqualFold(name, "Prefer") {
			one.prefer = parsePrefer([]string{value})
		}
	}
	return s.ask(r.Context(), one)
}

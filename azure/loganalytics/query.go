package loganalytics

import (
	"context"
	"encoding/json"
	"net/http"

	"verdant/azure/rest"
)

// Result is an answer as the query API sends it.
type Result struct {
	Tables     []json.RawMessage `json:"tables"`
	Statistics json.RawMessage   `json:"statistics,omitempty"`
	Render     json.RawMessage   `json:"render,omitempty"`
	// Error is set if the tables are not whole.
	Error error `json:"error,omitempty"`
}

// job is a query whose caller may ask it.
type job struct {
	request
	caller     rest.Caller
	workspaces []*workspace
	// resolve finds a workspace that the query itself names.
	resolve func(name string) (*workspace, error)
	span    timeRange
}

// run evaluates a job. TODO: waits for package kql.
func (s *Server) run(ctx context.Context, j job) (*Result, error) {
	return nil, &failure{status: http.StatusNotImplemented, Code: "NotImplemented", Message: "The query language is not wired in yet."}
}

// Query answers a query in process, with nobody's permissions checked.
func (s *Server) Query(ctx context.Context, workspace, query, timespan string) (*Result, error) {
	w, err := s.workspaceList(workspace)
	if err != nil {
		return nil, err
	}
	r, err := parseTimespan(timespan, s.deps.Now())
	if err != nil {
		return nil, err
	}
	return s.run(ctx, job{request: request{workspace: workspace, query: query}, workspaces: w, resolve: s.workspace, span: r})
}

func (s *Server) workspaceList(name string) ([]*workspace, error) {
	w, err := s.workspace(name)
	if err != nil {
		return nil, err
	}
	return []*workspace{w}, nil
}

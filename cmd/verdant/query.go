package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/internal/plaintext"
)

// queryTable is a table of the log query API's answer.
type queryTable struct {
	Name    string        `json:"name"`
	Columns []queryColumn `json:"columns"`
	Rows    [][]any       `json:"rows"`
}

type queryColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type queryAnswer struct {
	Tables []queryTable `json:"tables"`
}

func newQueryCommand() *cobra.Command {
	var flags sessionFlags
	var workspace, timespan string
	cmd := &cobra.Command{
		Use:     "query -w WORKSPACE 'KQL'",
		Short:   "Query a Log Analytics workspace",
		Example: `  verdant query -w eudcc-ie 'AZKVAuditLogs | summarize n=count() by OperationName'`,
		Args:    exactly(1, "one query; quote it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if workspace == "" {
				return usagef("name a workspace with -w: %s or %s", estate.IE, estate.EU)
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			answer, err := s.query(cmd.Context(), workspace, args[0], timespan)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(os.Stdout, answer)
			}
			for _, t := range answer.Tables {
				if err := printTable(os.Stdout, t); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags.register(cmd)
	flags.registerAs(cmd, "admin")
	cmd.Flags().StringVarP(&workspace, "workspace", "w", "", "the workspace's name (a region's workspace bears the region's name) or id")
	cmd.Flags().StringVar(&timespan, "timespan", "", "ISO 8601 duration or start/end, applied on top of the query's own filters")
	return cmd
}

func (s *session) query(ctx context.Context, workspace, text, timespan string) (queryAnswer, error) {
	var answer queryAnswer
	for _, r := range estate.Regions() {
		if workspace == string(r) { // also where names have a prefix
			workspace = s.names().Workspace(r)
		}
	}
	client, err := s.client(ctx, "")
	if err != nil {
		return answer, err
	}
	token, err := s.token(ctx, "https://api.loganalytics.io")
	if err != nil {
		return answer, err
	}
	request := map[string]string{"query": text}
	if timespan != "" {
		request["timespan"] = timespan
	}
	body, err := json.Marshal(request)
	if err != nil {
		return answer, err
	}
	endpoint := "https://" + estate.LogQueryHost + "/v1/workspaces/" + url.PathEscape(workspace) + "/query"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return answer, err
	}
	if resp.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("workspace %s: %w", workspace, wireError(resp.Status, raw))
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return answer, dec.Decode(&answer)
}

// wireError makes one line of an Azure error body.
func wireError(status string, body []byte) error {
	type inner struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Line    int    `json:"line"` // of the query, where the error is about one
		Pos     int    `json:"pos"`
		Inner   *inner `json:"innererror"`
	}
	var wire struct {
		Error inner `json:"error"`
	}
	if json.Unmarshal(body, &wire) != nil || wire.Error.Code == "" {
		return fmt.Errorf("%s", status)
	}
	var parts []string
	for e := &wire.Error; e != nil; e = e.Inner {
		part := e.Code
		if e.Line > 0 {
			part += fmt.Sprintf(" at line %d, column %d", e.Line, e.Pos+1)
		}
		if e.Message != "" {
			part += ": " + e.Message
		}
		parts = append(parts, part)
	}
	return fmt.Errorf("%s: %s", status, strings.Join(parts, "; "))
}

// printTable prints columns under their names. Control characters in values
// are shown escaped, so that a log line cannot move the reader's cursor.
func printTable(w io.Writer, t queryTable) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	fmt.Fprintln(tw, strings.Join(names, "\t"))
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, v := range row {
			if v != nil {
				cells[i] = plaintext.Escape(fmt.Sprint(v))
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

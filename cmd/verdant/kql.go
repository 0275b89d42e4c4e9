package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"verdant/kql"
)

// maxBatchLine bounds one line of `verdant kql --batch`.
const maxBatchLine = 2 << 20

func newKQLCommand() *cobra.Command {
	var output string
	var batch bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "kql [QUERY]",
		Short: "Evaluate a KQL query without an estate",
		Long: "Evaluates a query that needs no table of a workspace: print, range, datatable and\n" +
			"what follows them. With --batch it reads lines {\"id\", \"query\"} from standard input\n" +
			"and writes a line {\"id\", \"tables\"} or {\"id\", \"error\"} for each.",
		Example: `  verdant kql 'range x from 1 to 5 step 1 | summarize sum(x)'`,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case output != "" && output != "text" && output != "json":
				return usagef("-o is text or json, not %q", output)
			case batch && len(args) > 0:
				return usagef("--batch reads its queries from standard input and takes no argument")
			case batch:
				return kqlBatch(cmd.Context(), os.Stdin, os.Stdout, timeout)
			case len(args) != 1:
				return usagef("%s takes one query; got %d argument(s); quote it", cmd.CommandPath(), len(args))
			}
			res, err := kqlEvaluate(cmd.Context(), args[0], timeout)
			if err != nil {
				return err
			}
			if output == "json" {
				_, err := os.Stdout.Write(append(kqlJSON(nil, res), '\n'))
				return err
			}
			return kqlText(os.Stdout, res)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVar(&batch, "batch", false, "read lines {\"id\", \"query\"} from standard input")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "longest time for one query")
	return cmd
}

func kqlEvaluate(ctx context.Context, text string, timeout time.Duration) (*kql.Result, error) {
	q, err := kql.Parse(text)
	if err != nil {
		return nil, err
	}
	plan, err := kql.Bind(q, nil, kql.BindOptions{Now: time.Now()})
	if err != nil {
		return nil, err
	}
	return plan.Run(ctx, kql.Limits{Timeout: timeout})
}

func kqlJSON(dst []byte, res *kql.Result) []byte {
	dst = append(dst, `{"tables":`...)
	dst = kqlTables(dst, res)
	return append(dst, '}')
}

func kqlTables(dst []byte, res *kql.Result) []byte {
	dst = append(dst, '[')
	for i := range res.Tables {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = res.Tables[i].AppendJSON(dst)
	}
	return append(dst, ']')
}

// kqlText prints the tables for people: control characters are escaped, since
// data must not steer a terminal.
func kqlText(w io.Writer, res *kql.Result) error {
	for i := range res.Tables {
		t := &res.Tables[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(tw, kqlPrintable(strings.Join(t.Columns.Names(), "\t")))
		for _, b := range t.Batches() {
			for r := range b.Len() {
				for c, v := range b.Columns {
					if c > 0 {
						fmt.Fprint(tw, "\t")
					}
					fmt.Fprint(tw, strings.ReplaceAll(kqlPrintable(v.Text(r)), "\t", `\t`))
				}
				fmt.Fprintln(tw)
			}
		}
		if err := tw.Flush(); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	return nil
}

func kqlPrintable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if (r < ' ' && r != '\t') || (r >= 0x7f && r < 0xa0) {
			fmt.Fprintf(&b, `\x%02x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// kqlBatch answers line after line. A query that fails, or runs out of time,
// gives its line an error and the next goes on.
func kqlBatch(ctx context.Context, in io.Reader, out io.Writer, timeout time.Duration) error {
	r := bufio.NewReaderSize(in, 64<<10)
	w := bufio.NewWriter(out)
	for {
		line, tooLong, err := kqlLine(r)
		if len(bytes.TrimSpace(line)) > 0 || tooLong {
			if _, werr := w.Write(append(kqlAnswer(ctx, line, tooLong, timeout), '\n')); werr != nil {
				return fmt.Errorf("write an answer: %w", werr)
			}
			if werr := w.Flush(); werr != nil {
				return fmt.Errorf("write an answer: %w", werr)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the batch was interrupted: %w", ctx.Err())
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a query: %w", err)
		}
	}
}

// kqlLine reads a line; of one longer than the limit the rest is dropped.
func kqlLine(r *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxBatchLine {
			tooLong = true
		} else if !tooLong {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

func kqlAnswer(ctx context.Context, line []byte, tooLong bool, timeout time.Duration) []byte {
	var req struct {
		ID    json.RawMessage `json:"id"`
		Query string          `json:"query"`
	}
	var err error
	if tooLong {
		err = fmt.Errorf("the line is longer than %d bytes", maxBatchLine)
	} else {
		err = json.Unmarshal(line, &req)
	}
	if len(req.ID) == 0 {
		req.ID = json.RawMessage("null")
	}
	dst := append([]byte(`{"id":`), bytes.TrimSpace(req.ID)...)
	var res *kql.Result
	if err == nil {
		res, err = kqlEvaluate(ctx, req.Query, timeout)
	}
	if err != nil {
		text, _ := json.Marshal(err.Error())
		dst = append(dst, `,"error":`...)
		return append(append(dst, text...), '}')
	}
	dst = append(dst, `,"tables":`...)
	return append(kqlTables(dst, res), '}')
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/estate/control"
)

func newStatusCommand() *cobra.Command {
	var flags sessionFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "State of every pod, service, endpoint and row of the reference tables",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			status, err := s.control.Status(cmd.Context())
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(os.Stdout, status)
			}
			return printStatus(os.Stdout, status)
		},
	}
	flags.register(cmd)
	return cmd
}

func printStatus(w io.Writer, s control.Status) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	state := "starting"
	if s.Ready {
		state = fmt.Sprintf("ready (after %s)", s.ReadyAfter.Round(10*time.Millisecond))
	}
	fmt.Fprintf(tw, "estate\t%s\n", state)
	fmt.Fprintf(tw, "network\t%s\n", s.Network)
	for _, limit := range s.Limits {
		fmt.Fprintf(tw, "\tnot enforced: %s\n", limit)
	}
	module := "off"
	if s.FIPS140 {
		module = "on"
	}
	fmt.Fprintf(tw, "crypto\tFIPS 140-3 module: %s\n", module)
	fmt.Fprintf(tw, "memory\t%d MB\n", s.MemoryBytes>>20)
	fmt.Fprintln(tw, "\nREACHABLE FROM THE HOST\t")
	for _, a := range s.Addresses {
		fmt.Fprintf(tw, "%s\t%s\n", a.Name, a.URL)
	}
	fmt.Fprintln(tw, "\nPOD\tREGION\tADDRESS\tPID\tSTATE\t")
	for _, p := range s.Pods {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%s\n", p.Name, p.Region, p.Address, p.PID, p.State, p.Reason)
	}
	fmt.Fprintln(tw, "\nPRIVATE ENDPOINT\tREGION\tADDRESS\tCONNECTION\t")
	for _, e := range s.Endpoints {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", e.Name, e.Region, e.Address, e.State)
	}
	fmt.Fprintln(tw, "\nCUSTOMER-MANAGED KEY\tREGION\tPROTECTS\tSTATE\t")
	for _, k := range s.Keys {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", k.Key, k.Region, k.Protects, k.State, k.Reason)
	}
	table := ""
	for _, r := range s.Rows {
		if r.Table != table {
			table = r.Table
			fmt.Fprintf(tw, "\n%s\tREGION\tSTATE\t\n", strings.ToUpper(table))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.Row, r.Region, r.State, r.Detail)
	}
	return tw.Flush()
}

func newDownCommand() *cobra.Command {
	var flags sessionFlags
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the estate",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			if err := s.control.Stop(ctx); err != nil {
				return err
			}
			for estate.InUse(s.dataDir) {
				select {
				case <-ctx.Done():
					return fmt.Errorf("the estate in %s took the request but has not ended after 30 s", s.dataDir)
				case <-time.After(20 * time.Millisecond):
				}
			}
			fmt.Fprintln(os.Stderr, "The estate has stopped.")
			return nil
		},
	}
	flags.register(cmd)
	return cmd
}

func newLogsCommand() *cobra.Command {
	var flags sessionFlags
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [POD]",
		Short: "Print the log of a pod, or of all",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("logs takes one pod at most")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			pod := ""
			if len(args) == 1 {
				pod = args[0]
			}
			var out io.Writer = os.Stdout
			if s.json {
				out = &logLines{out: os.Stdout, pod: pod}
			}
			err = s.control.Logs(cmd.Context(), pod, follow, out)
			if cmd.Context().Err() != nil {
				return nil // Ctrl-C is how following ends
			}
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing new lines")
	return cmd
}

// logLines turns log lines into one JSON object each.
type logLines struct {
	out     io.Writer
	pod     string // "" if each line begins with its pod's name
	pending []byte
}

func (l *logLines) Write(p []byte) (int, error) {
	l.pending = append(l.pending, p...)
	for {
		line, rest, ok := bytes.Cut(l.pending, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.pending = rest
		pod, text := l.pod, string(line)
		if pod == "" {
			pod, text, _ = strings.Cut(text, " ")
		}
		record := struct {
			Pod     string `json:"pod"`
			Message any    `json:"message"`
		}{pod, text}
		if json.Valid([]byte(text)) {
			record.Message = json.RawMessage(text)
		}
		if err := json.NewEncoder(l.out).Encode(record); err != nil {
			return 0, err
		}
	}
}

func newExecCommand() *cobra.Command {
	var flags sessionFlags
	cmd := &cobra.Command{
		Use:     "exec POD -- CMD...",
		Short:   "Run a command with a pod's network, names, TLS trust and identity",
		Example: `  verdant exec dgca-verifier-service -- curl -s https://eudcc-ie-kv-g1.vault.azure.net/keys`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || cmd.ArgsLenAtDash() != 1 {
				return usagef("write it as: verdant exec POD -- CMD...")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			var env []string
			for _, name := range []string{"TERM", "LANG", "COLUMNS", "LINES"} {
				if v, ok := os.LookupEnv(name); ok {
					env = append(env, name+"="+v)
				}
			}
			code, err := s.control.Exec(cmd.Context(), args[0], args[1:], env, [3]*os.File{os.Stdin, os.Stdout, os.Stderr})
			if cmd.Context().Err() != nil {
				return exitError(130) // interrupted, as a shell says it
			}
			if err == nil && code != 0 {
				err = exitError(code)
			}
			return err
		},
	}
	flags.register(cmd)
	return cmd
}

// Command verdant runs the EU Digital COVID Certificate system and the private
// platform below it, and is the tool to work with both.
//
// Results go to standard output, progress and explanations to standard error.
// The exit code is 0 if the command did what it says, 1 if it could not, and 2
// if it was called wrongly; `verdant exec` has the exit code of what it ran.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"verdant/estate"
)

func main() {
	estate.Boot()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// exitError carries the exit code of a command that ran elsewhere.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is the kind of error that ends with exit code 2.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func run(ctx context.Context, args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage), errors.Is(err, estate.ErrVariables):
		fmt.Fprintln(os.Stderr, "verdant:", err)
		return 2
	}
	fmt.Fprintln(os.Stderr, "verdant:", err)
	return 1
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "verdant",
		Short:         "EU Digital COVID Certificates on a private platform",
		Long:          "Verdant brings up the EU gateway and Ireland's certificate services, each in its own\nprivate network, and works with them.",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; `verdant --help` lists them", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.AddCommand(
		newUpCommand(), newResealCommand(), newDemoCommand(), newStatusCommand(), newDownCommand(), newLogsCommand(),
		newCertCommand(), newExecCommand(), newRestCommand(), newQueryCommand(), newKQLCommand(),
		newBenchCommand(), newVaultCommand(), newAuditCommand(), newJumpboxCommand(), newCertLogicCommand(), newRulesCommand(),
	)
	root.AddCommand(newProcessCommands()...)
	return root
}

// version is what the Go toolchain recorded of the source.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			text += " " + s.Value
		}
	}
	return text
}

// exactly wraps cobra's argument check so that a wrong count is a wrong usage.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %s; got %d argument(s)", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

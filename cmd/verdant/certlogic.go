package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"verdant/certlogic/conformance"
)

func newCertLogicCommand() *cobra.Command {
	return commandGroup("certlogic", "Run the public tests of the rules' language",
		newConformanceCommand("Run the CertLogic test suites below a directory and count what agrees", conformance.RunSuites,
			func(a conformance.Assertion) outcome {
				return outcome{a.Passed, a.Skipped, fmt.Sprintf("%s: case %d %q, assertion %d: %s", a.File, a.Case, a.Name, a.Assertion, a.Error)}
			}))
}

func newRulesCommand() *cobra.Command {
	return commandGroup("rules", "Run the public tests of business rules",
		newConformanceCommand("Run the rules with tests below a directory and count what agrees", conformance.RunRules,
			func(r conformance.RuleTest) outcome {
				return outcome{passed: r.Passed, text: fmt.Sprintf("%s: %s %q: %s", r.File, r.Rule, r.Name, r.Error)}
			}))
}

func commandGroup(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command \"%s %s\"", use, args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(sub...)
	return cmd
}

// outcome is what a conformance command says of one test.
type outcome struct {
	passed, skipped bool
	text            string
}

// newConformanceCommand makes a command that runs tests below a directory. It
// prints those that failed, or with -o json every one on a line; then how many
// passed and failed.
func newConformanceCommand[T any](short string, run func(dir string) ([]T, error), judge func(T) outcome) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "conformance DIR",
		Short: short,
		Args:  exactly(1, "one directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usagef("-o %q: print as text or json", output)
			}
			results, err := run(args[0])
			if err != nil {
				return err
			}
			passed, failed, skipped := 0, 0, 0
			enc := json.NewEncoder(os.Stdout)
			enc.SetEscapeHTML(false)
			for _, r := range results {
				o := judge(r)
				switch {
				case o.skipped:
					skipped++
				case o.passed:
					passed++
				default:
					failed++
				}
				if output == "json" {
					if err := enc.Encode(r); err != nil {
						return err
					}
				} else if !o.passed && !o.skipped {
					fmt.Println(o.text)
				}
			}
			summary := fmt.Sprintf("%d passed, %d failed", passed, failed)
			if skipped > 0 {
				fmt.Fprintf(os.Stderr, "%d skipped, as the suite says\n", skipped)
			}
			if output == "json" {
				fmt.Fprintln(os.Stderr, summary)
			} else {
				fmt.Println(summary)
			}
			switch {
			case len(results) == 0:
				return fmt.Errorf("%s holds no tests", args[0])
			case failed > 0:
				return exitError(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "how to print: text or json (one line a test)")
	return cmd
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/estate/control"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit verify",
		Short: "Prove that the vaults' audit records are complete and unchanged",
		RunE: func(cmd *cobra.Command, args []string) error {
			return usagef("%s takes a command: verify", cmd.CommandPath())
		},
		Args: cobra.ArbitraryArgs,
	}
	var flags sessionFlags
	var replicas []string
	verify := &cobra.Command{
		Use:   "verify [VAULT]",
		Short: "Prove the chain of audit records of a vault, or of every vault",
		Long: `Read every audit record of a vault, or of every vault, and prove that each is there, unchanged
and in its place. Works on a running estate and on a stopped one, in which it changes nothing.
The first break is named by segment file and record number, and the exit code is then 1.

Records that were cut off at the end leave a chain that is whole: keep the chain value that is
printed in another place and look whether a later run still has that record.

Each replica of a vault in a shared database has a chain of its own: name the configuration
file of every one of them, with --replica for each. They must be stopped.`,
		Example: `  verdant audit verify
  verdant audit verify eudcc-ie -o json
  verdant audit verify --replica a.json --replica b.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s takes one vault at most; got %d arguments", cmd.CommandPath(), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(replicas) > 0 {
				if len(args) > 0 {
					return usagef("--replica names the vault; leave %q out", args[0])
				}
				if err := checkOutput(flags.output); err != nil {
					return err
				}
				reports, err := verifyReplicas(cmd.Context(), replicas)
				if err != nil {
					return err
				}
				return printAudit(reports, flags.output == "json")
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			vault := ""
			if len(args) > 0 {
				vault = args[0]
			}
			reports, err := s.verifyAudit(cmd.Context(), vault)
			if err != nil {
				return err
			}
			return printAudit(reports, s.json)
		},
	}
	flags.register(verify)
	verify.Flags().StringArrayVar(&replicas, "replica", nil, "configuration file of a replica of a vault in a shared database; may be given several times")
	cmd.AddCommand(verify)
	return cmd
}

func verifyReplicas(ctx context.Context, files []string) ([]control.AuditReport, error) {
	var configs []estate.ReplicaConfig
	for _, file := range files {
		c, err := estate.ReadReplicaConfig(file)
		if err != nil {
			return nil, err
		}
		configs = append(configs, c)
	}
	return estate.VerifyReplicaAudit(ctx, configs)
}

// verifyAudit asks the estate that runs, else it reads the data directory.
func (s *session) verifyAudit(ctx context.Context, vault string) ([]control.AuditReport, error) {
	reports, err := s.control.VerifyAudit(ctx, vault)
	if errors.Is(err, control.ErrNotRunning) {
		return estate.VerifyAudit(ctx, s.dataDir, vault)
	}
	return reports, err
}

func printAudit(reports []control.AuditReport, asJSON bool) error {
	broken := 0
	for _, r := range reports {
		if !r.Intact {
			broken++
		}
	}
	if asJSON {
		if err := printJSON(os.Stdout, reports); err != nil {
			return err
		}
	} else {
		for _, r := range reports {
			switch {
			case r.Intact && r.TornBytes > 0:
				fmt.Printf("%s: intact, records %d to %d, chain %s; %d bytes of an unfinished write follow\n", r.Vault, r.First, r.Last, r.Chain, r.TornBytes)
			case r.Intact:
				fmt.Printf("%s: intact, records %d to %d, chain %s\n", r.Vault, r.First, r.Last, r.Chain)
			case r.Segment == "":
				fmt.Printf("%s: broken at record %d: %s\n", r.Vault, r.Sequence, r.Reason)
			default:
				fmt.Printf("%s: broken in segment %s at record %d: %s\n", r.Vault, r.Segment, r.Sequence, r.Reason)
			}
		}
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d audit chains are broken", broken, len(reports))
	}
	return nil
}

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/estate/control"
)

func newVaultCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vault who-can|why|serve",
		Short: "Who may do what in a vault, and why; serve one from a shared database",
		RunE: func(cmd *cobra.Command, args []string) error {
			return usagef("%s takes a command: who-can, why or serve", cmd.CommandPath())
		},
		Args: cobra.ArbitraryArgs,
	}
	const notes = `
ACTION is a data or control action; "Microsoft.KeyVault/vaults/" may be left out. OBJECT is an
address in a vault or an ARM id. A role alone opens no vault: requests must also come from where the
vault's network rules let them in. Deny assignments win over roles.`
	cmd.AddCommand(newAccessCommand("who-can ACTION OBJECT", "List the role assignments that allow an action on an object",
		"List the role assignments that allow an action on an object, with the members of groups.\n"+notes,
		"  verdant vault who-can keys/sign/action https://eudcc-ie-kv-g1.vault.azure.net/keys/dsc-key-store", 2, "an action and an object"),
		newAccessCommand("why PRINCIPAL ACTION OBJECT", "Say why somebody may or may not do something",
			"Say which assignments let a principal, or a group it belongs to, perform an action on an object, and\nwhy its other assignments do not. PRINCIPAL is a user, a group, a managed identity (NAME of the\nobject's region, or REGION/NAME) or an object id.\n"+notes,
			"  verdant vault why dgca-verifier-service keys/sign/action https://eudcc-ie-kv-g1.vault.azure.net/keys/dsc-key-store", 3, "a principal, an action and an object"))
	cmd.AddCommand(newServeCommand())
	return cmd
}

// newServeCommand runs one replica of a vault.
func newServeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve CONFIG", Args: exactly(1, "the replica's configuration file"),
		Short: "Serve a vault from a MySQL database that several replicas share",
		Long: `Serve a vault, without an estate, as one of several replicas over one MySQL or MariaDB database:
objects and sealed keys are in the database, the audit journal is the replica's own. What one
replica acknowledged, the others answer with within a second. docs/operations.md says what is in
CONFIG. Prints the address when it answers, and serves until it is interrupted.`,
		Example: "  verdant vault serve /etc/verdant/vault-a.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := estate.ReadReplicaConfig(args[0])
			if err != nil {
				return err
			}
			return estate.RunReplica(cmd.Context(), c, func(addr net.Addr) { fmt.Println("serves", c.Vault.Name, "on", addr) })
		},
	}
}

// newAccessCommand asks about everybody where n is 2, else about the principal
// in the first of 3 arguments.
func newAccessCommand(use, short, long, example string, n int, what string) *cobra.Command {
	var flags sessionFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: exactly(n, what),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.AccessQuestion{Action: args[n-2], Object: args[n-1]}
			if n == 3 {
				q.Principal = args[0]
			}
			if !strings.HasPrefix(q.Object, "/") && !strings.HasPrefix(q.Object, "https://") || n == 3 && q.Principal == "" || q.Action == "" {
				return usagef("%s takes %s; the object is an https:// address or an ARM id", cmd.CommandPath(), what)
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			access, err := s.control.Access(cmd.Context(), q)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(os.Stdout, access)
			}
			return printAccess(os.Stdout, access)
		},
	}
	flags.register(cmd)
	return cmd
}

func printAccess(w io.Writer, a control.Access) error {
	who, verdict := "nobody", "may"
	switch {
	case a.Principal != nil && a.Allowed:
		who = title(*a.Principal)
	case a.Principal != nil:
		who, verdict = title(*a.Principal), "may not"
	case a.Allowed:
		who, verdict = fmt.Sprintf("%d assignment(s)", len(a.Allows)), "allow"
	}
	fmt.Fprintf(w, "%s %s %s on %s\n", who, verdict, a.Action, a.Scope)
	for i, way := range a.From {
		lead := "and from: "
		if i > 0 {
			lead = "      or: "
		}
		fmt.Fprintln(w, lead+way)
	}
	for _, d := range a.Denials {
		fmt.Fprintf(w, "denied by %s at %s to %s", d.Name, d.Scope, titles(d.Principals))
		if len(d.Excluded) > 0 {
			fmt.Fprintf(w, " but not %s", titles(d.Excluded))
		}
		if d.Condition != "" {
			fmt.Fprintf(w, ", if %s", d.Condition)
		}
		fmt.Fprintln(w)
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if len(a.Allows)+len(a.Others) > 0 {
		fmt.Fprintln(tw, "\nPRINCIPAL\tROLE\tSCOPE\tVERDICT\tASSIGNMENT")
	}
	for _, g := range append(append([]control.Grant{}, a.Allows...), a.Others...) {
		verdict := g.Why
		if verdict == "" {
			verdict = "allows"
			if g.Action != "" {
				verdict += ", through " + g.Action
			}
			if g.If != "" {
				verdict += ", if " + g.If
			}
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", title(g.Principal), g.Role, g.Scope, verdict, g.AssignmentID[strings.LastIndexByte(g.AssignmentID, '/')+1:])
		for _, m := range g.Members {
			denied := ""
			if m.DeniedBy != "" {
				denied = "denied by " + m.DeniedBy
			}
			fmt.Fprintf(tw, "  member %s\t\t\t%s\t\n", title(m), denied)
		}
	}
	return tw.Flush()
}

func titles(ps []control.Principal) string {
	var names []string
	for _, p := range ps {
		names = append(names, title(p))
	}
	return strings.Join(names, ", ")
}

// title is a principal's name, or its object id where it has none.
func title(p control.Principal) string {
	if p.Name == "" {
		return p.ID
	}
	return p.Name
}

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"verdant/estate"
)

func newResealCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use: "reseal ROOTKEY", Args: exactly(1, "the file root.key of an estate or a replica"),
		Short: "Change what seals a root key: nothing, a passphrase, a TPM, a token",
		Long: `Change what seals the root key in a file: that of an estate, root.key in its data directory, or of
a vault's replica. The key itself stays as it is, so the estate may be running; and who has an old
copy of the file, with what sealed it then, still has the key. Seals:

  file                                   nothing: who has the file has the key
  passphrase:FILE                        a passphrase, the one line of FILE (/dev/stdin, /dev/fd/3, …)
  tpm:/dev/tpmrm0?pcrs=0,7               a TPM 2.0 (device or Unix socket), and its registers if named
  pkcs11:token=LABEL?module-path=FILE&pin-source=FILE   a key made in a PKCS #11 token`,
		Example: "  verdant reseal ~/.local/state/verdant/root.key --to passphrase:/media/stick/passphrase",
		RunE: func(cmd *cobra.Command, args []string) error {
			for flag, seal := range map[string]*string{"--from": &from, "--to": &to} {
				if *seal == "" && flag == "--from" {
					continue
				}
				checked, err := estate.CheckRootSeal(*seal)
				if err != nil {
					return usagef("%s: %w", flag, err)
				}
				*seal = checked
			}
			file, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if err := estate.Reseal(cmd.Context(), file, from, to); err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%s is sealed by %s\n", file, to)
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "what seals it now, where that has moved (default as the file says)")
	cmd.Flags().StringVar(&to, "to", "", "what shall seal it")
	return cmd
}

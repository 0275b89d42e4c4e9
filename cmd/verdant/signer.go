package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"verdant/estate"
)

// newSignerCommand is the process that loads a vendor's PKCS #11 module. The
// supervisor starts it; signals that are meant for the supervisor do not end
// it before its work is done, the end of the connection does.
func newSignerCommand() *cobra.Command {
	var module, token string
	cmd := &cobra.Command{
		Use: estate.SignerCommand, Hidden: true, Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return estate.RunSigner(context.WithoutCancel(cmd.Context()), module, token)
		},
	}
	cmd.Flags().StringVar(&module, "module", "", "")
	cmd.Flags().StringVar(&token, "token", "", "")
	return cmd
}

// newBareModuleCommand is the process with which bench keyvault measures what a
// PKCS #11 module does by itself.
func newBareModuleCommand() *cobra.Command {
	var uri string
	cmd := &cobra.Command{
		Use: estate.BareModuleCommand, Hidden: true, Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return estate.RunBareModule(cmd.Context(), uri, os.Stdin, os.Stdout)
		},
	}
	cmd.Flags().StringVar(&uri, "uri", "", "")
	return cmd
}

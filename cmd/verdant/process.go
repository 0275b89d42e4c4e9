package main

import (
	"os"

	"github.com/spf13/cobra"

	"verdant/estate"
)

// newProcessCommands are the commands that the estate runs itself: the
// supervisor, one for each service, and a request from inside a pod. They are
// hidden from help, as a person starts none of them.
func newProcessCommands() []*cobra.Command {
	var dataDir, driver string
	supervise := &cobra.Command{
		Use: "supervise", Hidden: true, Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := estate.Supervise(cmd.Context(), dataDir, driver); err != nil {
				return exitError(1) // the starting process was told why
			}
			return nil
		},
	}
	supervise.Flags().StringVar(&dataDir, "data-dir", "", "")
	supervise.Flags().StringVar(&driver, "driver", "", "")
	commands := []*cobra.Command{supervise, newSignerCommand(), newBareModuleCommand(), newScaleCommand(), {
		Use: "pod-request METHOD URL BODY", Hidden: true, Args: exactly(3, "a method, a URL and a body"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return estate.PodRequest(cmd.Context(), os.Getenv, args[0], args[1], args[2], os.Stdout)
		},
	}, {
		Use: "pod-reach ADDRESS", Hidden: true, Args: exactly(1, "a host:port"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return estate.PodReach(cmd.Context(), os.Getenv, args[0])
		},
	}}
	for _, name := range estate.Services() {
		commands = append(commands, &cobra.Command{
			Use: name, Hidden: true, Args: exactly(0, "no arguments; its settings are in the environment"),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return estate.RunService(cmd.Context(), name, os.Getenv, os.Stdout)
			},
		})
	}
	return commands
}

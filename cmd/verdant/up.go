package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/estate/control"
)

// upFlags are the settings of a start.
type upFlags struct {
	session sessionFlags
	varFile string
	network string
	ingress string
	jumpbox string
	detach  bool
	hsm     string
	seal    string
}

func newUpCommand() *cobra.Command {
	var flags upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring the estate up: the EU gateway and Ireland, each in its own private network",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(flags.session.output); err != nil {
				return err
			}
			if flags.detach {
				return detach(cmd.Context(), flags)
			}
			return up(cmd.Context(), flags)
		},
	}
	flags.session.register(cmd)
	cmd.Flags().StringVar(&flags.varFile, "var-file", "", "terraform.tfvars with the estate's variables")
	cmd.Flags().StringVar(&flags.network, "network", "auto", "auto, isolated or loopback")
	cmd.Flags().StringVar(&flags.ingress, "ingress-addr", "127.0.0.1:8443", "where the ingress listens on the host")
	cmd.Flags().StringVar(&flags.jumpbox, "jumpbox-addr", "127.0.0.1:2222", "where the jump-box listens on the host")
	cmd.Flags().StringVar(&flags.hsm, "hsm", "", "PKCS #11 URI of the token for the vaults' keys: pkcs11:token=LABEL?module-path=FILE&pin-source=FILE")
	cmd.Flags().StringVar(&flags.seal, "root-seal", "", "what seals the root key: file, passphrase:FILE, tpm:/dev/tpmrm0?pcrs=7, pkcs11:token=LABEL?module-path=FILE&pin-source=FILE (default as the data directory was made, at first file)")
	cmd.Flags().BoolVar(&flags.detach, "detach", false, "return when the estate is ready and leave it running")
	return cmd
}

// config checks the flags and makes a start of them.
func (f upFlags) config() (estate.StartConfig, error) {
	cfg := estate.StartConfig{DataDir: f.session.dataDir, Network: f.network, IngressAddr: f.ingress, JumpboxAddr: f.jumpbox}
	switch f.network {
	case "auto", "isolated", "loopback":
	default:
		return cfg, usagef("--network %q: must be auto, isolated or loopback", f.network)
	}
	for flag, addr := range map[string]string{"--ingress-addr": f.ingress, "--jumpbox-addr": f.jumpbox} {
		if err := estate.CheckHostAddress(addr); err != nil {
			return cfg, usagef("%s: %w", flag, err)
		}
	}
	cfg.Variables = estate.DefaultVariables()
	if saved, ok := estate.SavedVariables(f.session.dataDir); ok {
		cfg.Variables = saved
	}
	if f.varFile != "" {
		var err error
		if cfg.Variables, err = estate.LoadVariables(f.varFile); err != nil {
			return cfg, err
		}
	}
	// An estate that was made with a token stays with it; another is refused
	// when the data directory is opened.
	if saved, ok := estate.SavedVariables(f.session.dataDir); ok {
		cfg.Variables.HSM = saved.HSM
	}
	if f.hsm != "" {
		var err error
		if cfg.Variables.HSM, err = estate.CheckHSM(f.hsm); err != nil {
			return cfg, usagef("--hsm: %w", err)
		}
	}
	if f.seal != "" {
		var err error
		if cfg.RootSeal, err = estate.CheckRootSeal(f.seal); err != nil {
			return cfg, usagef("--root-seal: %w", err)
		}
	}
	return cfg, nil
}

func up(ctx context.Context, flags upFlags) error {
	cfg, err := flags.config()
	if err != nil {
		return err
	}
	begun := time.Now()
	cfg.Progress = func(e control.Event) {
		fmt.Fprintf(os.Stderr, "%6.2fs  %s\n", e.Time.Sub(begun).Seconds(), e.Text)
	}
	running, err := estate.Start(ctx, cfg)
	if err != nil {
		return err
	}
	if err := running.WaitReady(ctx); err != nil {
		if ctx.Err() != nil {
			return running.Stop()
		}
		if errors.Is(err, estate.ErrStopped) {
			return nil // `verdant down` was faster
		}
		return err
	}
	if err := flags.welcome(ctx, running.Control(), running.Credentials()); err != nil {
		return errors.Join(err, running.Stop())
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "\nStopping …")
		return running.Stop()
	case err := <-running.Ended():
		return err
	}
}

// welcome prints where to go and as whom.
func (f upFlags) welcome(ctx context.Context, client *control.Client, people []estate.Credential) error {
	s, err := client.Summary(ctx)
	if err != nil {
		return err
	}
	dataDir, err := filepath.Abs(f.session.dataDir)
	if err != nil {
		return err
	}
	if f.session.output == "json" {
		return printJSON(os.Stdout, struct {
			Status control.Status      `json:"status"`
			Users  []estate.Credential `json:"users"`
		}{s, people})
	}
	here := ""
	if dataDir != estate.DefaultDataDir() {
		here = " --data-dir " + dataDir
	}
	fmt.Printf("\nThe estate is ready. %s\n", s.Network)
	for _, limit := range s.Limits {
		fmt.Printf("  not enforced: %s\n", limit)
	}
	fmt.Println("\nOpen in a browser (everything else is private):")
	for _, a := range s.Addresses {
		if strings.HasPrefix(a.URL, "https://") {
			fmt.Printf("  %-30s %s\n", a.Name, a.URL)
		}
	}
	fmt.Println("\nSign in as:")
	for _, p := range people {
		fmt.Printf("  %-40s %s   (%s)\n", p.UPN, p.Password, p.Role)
	}
	fmt.Printf("\nBrowsers warn until they trust %s.\n", filepath.Join(dataDir, "ca.pem"))
	fmt.Printf("Try: verdant status%s\n     verdant query%s -w eudcc-ie 'AZKVAuditLogs | take 5'\n", here, here)
	fmt.Printf("Ctrl-C or `verdant down%s` stops it; the next `verdant up` continues where it was.\n", here)
	return nil
}

// detach starts `verdant up` in a session of its own and returns when it is
// ready.
func detach(ctx context.Context, flags upFlags) error {
	cfg, err := flags.config()
	if err != nil {
		return err
	}
	if strings.HasPrefix(cfg.RootSeal, "passphrase:/dev/") {
		return usagef("--root-seal %s: with --detach the passphrase must be in a file, as two processes read it", cfg.RootSeal)
	}
	dir, err := filepath.Abs(flags.session.dataDir)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	output, err := os.CreateTemp("", "verdant-up-*")
	if err != nil {
		return err
	}
	defer output.Close()
	defer os.Remove(output.Name())
	args := []string{"up", "--data-dir", dir, "--network", flags.network, "--ingress-addr", flags.ingress, "--jumpbox-addr", flags.jumpbox}
	if flags.varFile != "" {
		args = append(args, "--var-file", flags.varFile)
	}
	if flags.hsm != "" {
		args = append(args, "--hsm", flags.hsm)
	}
	if flags.seal != "" {
		args = append(args, "--root-seal", flags.seal)
	}
	child := exec.Command(exe, args...)
	child.Stderr = output // progress and complaints; what it says when ready is said here
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	client := control.NewClient(filepath.Join(dir, "control.sock"))
	progress, err := os.Open(output.Name())
	if err != nil {
		return err
	}
	defer progress.Close()
	for {
		_, _ = io.Copy(os.Stderr, progress)
		status, err := client.Summary(ctx)
		if err == nil && status.Ready && status.Parent == child.Process.Pid {
			people, err := estate.Credentials(ctx, dir, cfg.RootSeal)
			if err != nil {
				return err
			}
			return flags.welcome(ctx, client, people)
		}
		select {
		case <-ctx.Done():
			_ = child.Process.Signal(syscall.SIGTERM)
			<-ended
			return ctx.Err()
		case err := <-ended:
			_, _ = io.Copy(os.Stderr, progress)
			return fmt.Errorf("the estate did not come up: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

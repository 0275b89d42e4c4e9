package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"verdant/estate"
	"verdant/estate/jumpbox"
	"verdant/estate/jumpbox/socks"
)

// jumpboxHost is the name of the jump-box in ssh_config files.
const jumpboxHost = "verdant-jumpbox"

func newJumpboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jumpbox",
		Short: "The only administrative way into a private network",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command \"jumpbox %s\"", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(newJumpboxSSHCommand(), newJumpboxSOCKSCommand())
	return cmd
}

func newJumpboxSSHCommand() *cobra.Command {
	var flags sessionFlags
	var from, printConfig string
	cmd := &cobra.Command{
		Use:   "ssh -- SSH-ARGUMENTS...",
		Short: "Forward connections through the jump-box with the system's ssh",
		Long: `Forward connections through the jump-box with the system's ssh. A new key is certified by
the estate for an hour and stays in this process's memory; the connection ends with the
certificate. With --print-config the key, its certificate, known_hosts and an ssh_config
section are written to a directory for plain ssh, VS Code and other programs.`,
		Example: `  verdant jumpbox ssh -- -L 3306:eudcc-ie-mysql.mysql.database.azure.com:3306
  verdant jumpbox ssh -- -D 127.0.0.1:1080
  verdant jumpbox ssh -- -W eudcc-ie-kv-g1.vault.azure.net:443
  verdant jumpbox ssh --print-config ~/.ssh/verdant`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) > 0 && dash != 0:
				return usagef("write arguments of ssh behind --: verdant jumpbox ssh -- -L 8443:HOST:443")
			case len(args) == 0 && printConfig == "":
				return usagef("say what to forward: verdant jumpbox ssh -- -L PORT:HOST:PORT, -D PORT or -W HOST:PORT; the jump-box has no shell")
			case len(args) > 0 && printConfig != "":
				return usagef("--print-config runs no ssh and takes no arguments for it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkRegion(from); err != nil {
				return err
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			if printConfig != "" {
				return s.printSSHConfig(cmd.Context(), from, printConfig)
			}
			return s.ssh(cmd.Context(), from, args)
		},
	}
	flags.register(cmd)
	flags.registerAs(cmd, "admin")
	cmd.Flags().StringVar(&from, "from", "", "region whose development network to leave from; by default the destination's name tells")
	cmd.Flags().StringVar(&printConfig, "print-config", "", "write key, certificate, known_hosts and config to this directory instead of running ssh")
	return cmd
}

func checkRegion(region string) error {
	if region != "" && !slices.Contains(estate.Regions(), estate.Region(region)) {
		return usagef("--from %q: must be %s or %s", region, estate.IE, estate.EU)
	}
	return nil
}

// jumpboxLogin is a key that the running estate has certified.
type jumpboxLogin struct {
	identity    *jumpbox.Identity
	certificate *ssh.Certificate
	knownHosts  string
	section     jumpbox.ClientConfig // files to be filled in
}

func (l jumpboxLogin) expires() time.Time { return time.Unix(int64(l.certificate.ValidBefore), 0) }

// jumpboxLogin makes a key and has it certified for the session's user.
func (s *session) jumpboxLogin(ctx context.Context, from string) (jumpboxLogin, error) {
	identity, err := jumpbox.NewIdentity()
	if err != nil {
		return jumpboxLogin{}, err
	}
	answer, err := s.control.SSHCertificate(ctx, s.user, identity.PublicKey())
	if err != nil {
		return jumpboxLogin{}, fmt.Errorf("certify a key for the jump-box: %w", err)
	}
	cert, err := jumpbox.ParseCertificate(answer.Certificate)
	if err != nil {
		return jumpboxLogin{}, err
	}
	user := cert.ValidPrincipals[0]
	if from != "" {
		user = from + "+" + user
	}
	return jumpboxLogin{identity, cert, answer.KnownHosts,
		jumpbox.ClientConfig{Host: jumpboxHost, Address: answer.Address, User: user}}, nil
}

// ssh runs the system's ssh with a key that an agent in this process holds.
func (s *session) ssh(ctx context.Context, from string, args []string) (err error) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return errors.New("there is no ssh on this machine's PATH; install OpenSSH, or use `verdant jumpbox socks`")
	}
	login, err := s.jumpboxLogin(ctx, from)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "verdant-ssh-") // 0700
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	login.section.KnownHosts, login.section.Agent = filepath.Join(dir, "known_hosts"), filepath.Join(dir, "agent")
	config, err := login.section.Text()
	if err != nil {
		return err
	}
	if err := writeFiles(dir, map[string]string{"known_hosts": login.knownHosts, "config": config}); err != nil {
		return err
	}
	agent, err := net.Listen("unix", login.section.Agent)
	if err != nil {
		return fmt.Errorf("socket for ssh's agent: %w", err)
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- login.identity.ServeAgent(serving, agent, login.certificate) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	fmt.Fprintf(os.Stderr, "Certified as %s until %s; the connection ends then.\n",
		login.certificate.ValidPrincipals[0], login.expires().Format("15:04:05"))
	// The host comes before the caller's arguments: a word among them is then
	// a command, which the jump-box refuses, and never another host.
	child := exec.CommandContext(ctx, program, append([]string{"-F", filepath.Join(dir, "config"), "-N", jumpboxHost}, args...)...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = 3 * time.Second
	err = child.Run()
	if ctx.Err() != nil {
		return nil // Ctrl-C is how forwarding ends
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if !time.Now().Before(login.expires()) {
			return errors.New("the certificate has expired and the jump-box ended the connection; run the command again")
		}
		return fmt.Errorf("ssh ended with %s", exit)
	}
	return err
}

// printSSHConfig writes what other programs need to use the jump-box.
func (s *session) printSSHConfig(ctx context.Context, from, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	login, err := s.jumpboxLogin(ctx, from)
	if err != nil {
		return err
	}
	private, err := login.identity.PEM()
	if err != nil {
		return err
	}
	section := &login.section
	section.KnownHosts, section.Key, section.Certificate = filepath.Join(dir, "known_hosts"), filepath.Join(dir, "id_ed25519"), filepath.Join(dir, "id_ed25519-cert.pub")
	config, err := section.Text()
	if errors.Is(err, jumpbox.ErrPath) {
		return usagef("--print-config: %w", err)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err = writeFiles(dir, map[string]string{"id_ed25519": string(private), "known_hosts": login.knownHosts, "config": config,
		"id_ed25519-cert.pub": string(ssh.MarshalAuthorizedKey(login.certificate))})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "config")
	fmt.Fprintf(os.Stderr, "Good until %s; run this again for another hour.\nUse it: ssh -F %s -N -D 127.0.0.1:1080 %s\nor add to ~/.ssh/config: Include %s\n",
		login.expires().Format("15:04:05"), path, jumpboxHost, path)
	if s.json {
		return printJSON(os.Stdout, map[string]any{"config": path, "host": jumpboxHost, "user": section.User,
			"address": section.Address, "expiresOn": login.expires().UTC()})
	}
	fmt.Println(path)
	return nil
}

// writeFiles writes private files, each whole or not at all.
func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		f, err := os.CreateTemp(dir, "."+name+"-") // 0600
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), filepath.Join(dir, name))
		}
		if err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
	}
	return nil
}

func newJumpboxSOCKSCommand() *cobra.Command {
	var flags sessionFlags
	var listen, from string
	cmd := &cobra.Command{
		Use:   "socks",
		Short: "A SOCKS5 proxy into the private networks, for browsers and curl",
		Long: `A SOCKS5 proxy into the private networks, for browsers and curl. It listens on a loopback
address only and asks for no password: while it runs, every user of this machine can use it.`,
		Example: `  verdant jumpbox socks &
  curl --proxy socks5h://127.0.0.1:1080 --cacert DATA-DIR/ca.pem https://eudcc-ie-kv-g1.vault.azure.net/keys`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkRegion(from); err != nil {
				return err
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			return s.socks(cmd.Context(), listen, from)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:1080", "loopback address and port to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&from, "from", "", "region whose development network to leave from; by default the destination's name tells")
	return cmd
}

// socks serves the proxy until ctx ends.
func (s *session) socks(ctx context.Context, listen, from string) error {
	if _, err := s.control.Summary(ctx); err != nil {
		return err
	}
	ln, err := socks.Listen(ctx, listen)
	if errors.Is(err, socks.ErrAddress) {
		return usagef("--listen: %w", err)
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address with --listen", listen, err)
	}
	url := "socks5h://" + ln.Addr().String()
	if s.json {
		if err := printJSON(os.Stdout, map[string]string{"proxy": url}); err != nil {
			return errors.Join(err, ln.Close())
		}
	} else {
		fmt.Println(url)
	}
	fmt.Fprintf(os.Stderr, "Trust %s in the program that uses it. Ctrl-C stops it.\n", filepath.Join(s.dataDir, "ca.pem"))
	return socks.Serve(ctx, ln, func(ctx context.Context, address string) (net.Conn, error) {
		dialing, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		region := jumpboxFor(from, strings.ToLower(host))
		conn, err := s.control.Dial(dialing, region, address)
		if err != nil {
			fmt.Fprintf(os.Stderr, "no connection to %s from %s: %v\n", address, region, err)
		}
		return conn, err
	})
}

package jumpbox

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Identity is a person's key pair for one sign-in. It is made where the
// person is and stays in memory, unless PEM is asked for.
type Identity struct {
	private ed25519.PrivateKey
	public  ssh.PublicKey
}

// NewIdentity makes a key pair.
func NewIdentity() (*Identity, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("SSH key pair: %w", err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("SSH key pair: %w", err)
	}
	return &Identity{private, key}, nil
}

// PublicKey is the public key as a line of authorized_keys.
func (i *Identity) PublicKey() string { return string(ssh.MarshalAuthorizedKey(i.public)) }

// PEM is the private key as OpenSSH's file format has it.
func (i *Identity) PEM() ([]byte, error) {
	block, err := ssh.MarshalPrivateKey(i.private, "")
	if err != nil {
		return nil, fmt.Errorf("SSH private key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// ParseCertificate reads a certificate from a line of authorized_keys.
func ParseCertificate(line string) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, fmt.Errorf("SSH certificate: %w", err)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || cert.CertType != ssh.UserCert || len(cert.ValidPrincipals) == 0 {
		return nil, errors.New("SSH certificate: it is not a user certificate")
	}
	return cert, nil
}

// ServeAgent is an SSH agent with this one key under its certificate, until
// ctx ends. Whoever may connect to ln can use the key and cannot read it.
func (i *Identity) ServeAgent(ctx context.Context, ln net.Listener, cert *ssh.Certificate) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: i.private, Certificate: cert}); err != nil {
		return fmt.Errorf("SSH agent: %w", err)
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("SSH agent: %w", err)
		}
		connections.Go(func() {
			defer conn.Close()
			closing := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer closing()
			_ = agent.ServeAgent(keys, conn) // ends with the client
		})
	}
}

// ClientConfig describes a section of an ssh_config file that leads to the
// jump-box. The key is in Agent (a socket), or in Key with Certificate.
type ClientConfig struct {
	Host             string // the name of the section
	Address          string // where the jump-box listens
	User             string // the sign-in name, perhaps with a region before it
	KnownHosts       string // file
	Agent            string // socket
	Key, Certificate string // files
}

// ErrPath is wrapped when ssh_config cannot express a path.
var ErrPath = errors.New("not a path that ssh_config can name")

// Text is the section.
func (c ClientConfig) Text() (string, error) {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return "", fmt.Errorf("ssh_config: address of the jump-box: %w", err)
	}
	lines := [][2]string{
		{"HostName", host}, {"Port", port}, {"User", quote(c.User)},
		{"PreferredAuthentications", "publickey"}, {"StrictHostKeyChecking", "yes"}, {"UpdateHostKeys", "no"},
		{"GlobalKnownHostsFile", "/dev/null"}, {"ExitOnForwardFailure", "yes"}, {"ServerAliveInterval", "15"},
		{"ForwardAgent", "no"}, {"ForwardX11", "no"}, {"RequestTTY", "no"}, {"ControlPath", "none"},
		// There is no session to ask for; the option came with OpenSSH 8.7.
		{"IgnoreUnknown", "SessionType"}, {"SessionType", "none"},
	}
	files := [][2]string{{"UserKnownHostsFile", c.KnownHosts}, {"IdentityFile", c.Key}, {"CertificateFile", c.Certificate}, {"IdentityAgent", c.Agent}}
	for _, f := range files {
		if strings.ContainsAny(f[1], "\"\\$\n\r") {
			return "", fmt.Errorf("%w: %q; choose a directory without quotes, backslashes and dollar signs in its path", ErrPath, f[1])
		}
		value := "none"
		if f[1] != "" {
			value = quote(strings.ReplaceAll(f[1], "%", "%%"))
		} else if f[0] == "CertificateFile" {
			continue // has no none
		}
		lines = append(lines, [2]string{f[0], value})
	}
	if c.Agent == "" {
		lines = append(lines, [2]string{"IdentitiesOnly", "yes"})
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Host %s\n", c.Host)
	for _, l := range lines {
		fmt.Fprintf(&text, "  %s %s\n", l[0], l[1])
	}
	return text.String(), nil
}

func quote(value string) string { return `"` + value + `"` }

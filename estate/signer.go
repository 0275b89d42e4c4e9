package estate

import (
	"context"
	"fmt"
	"os"

	"verdant/hsm"
	"verdant/hsm/pkcs11"
	"verdant/hsm/signer"
)

// SignerCommand is the subcommand that runs RunSigner.
const SignerCommand = "signer"

// CheckHSM reads the PKCS #11 URI (RFC 7512) of the token that shall hold the
// vaults' keys, and returns it in the form in which it is remembered.
func CheckHSM(uri string) (string, error) {
	cfg, err := pkcs11.ParseURI(uri)
	if err != nil {
		return "", err
	}
	return cfg.URI(), nil
}

// RunSigner is the signer process: it loads the PKCS #11 module and serves the
// token to the supervisor on the descriptors that it inherited.
func RunSigner(ctx context.Context, module, token string) error {
	return signer.Run(ctx, func(ctx context.Context, pin []byte) (signer.Token, error) {
		return pkcs11.Open(ctx, pkcs11.Config{Module: module, Token: token}, pin)
	})
}

// openSigner starts the signer process, where the estate has a hardware token.
func (p *platform) openSigner(ctx context.Context) error {
	uri := p.names.v.HSM
	if uri == "" {
		return nil
	}
	var err error
	if p.hardware, err = startSigner(ctx, uri); err != nil {
		return err
	}
	p.closers = append(p.closers, p.hardware.Close)
	return nil
}

// startSigner starts the signer process of a token.
func startSigner(ctx context.Context, uri string) (*signer.Signer, error) {
	cfg, err := pkcs11.ParseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("the estate's token: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s, err := signer.Open(ctx, signer.Config{
		Path: self, Args: []string{SignerCommand, "--module", cfg.Module, "--token", cfg.Token},
		PINSource: cfg.PINSource, Stderr: os.Stderr,
	})
	if err != nil {
		return nil, fmt.Errorf("token %q of %s: %w", cfg.Token, cfg.Module, err)
	}
	return s, nil
}

// vaultToken is where a vault's keys are: the hardware token, if the estate has
// one, for every key that is never exported; else, and for the others, the
// vault's software token.
func (p *platform) vaultToken(ctx context.Context, vault string) (hsm.Token, error) {
	software, err := p.openToken(ctx, vault)
	if err != nil || p.hardware == nil {
		return software, err
	}
	return hsm.Split(p.hardware, software), nil
}

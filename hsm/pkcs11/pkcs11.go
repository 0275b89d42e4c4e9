// Package pkcs11 is an hsm.Token in whatever a vendor's PKCS #11 module (OASIS
// PKCS #11 version 2.40) gives access to: a hardware security module, a smart
// card, SoftHSM. It loads the vendor's C library into its own process, which
// therefore ought to hold nothing else: package signer starts one for it.
//
// Keys are made in the token: sensitive, not extractable, stored (token
// objects), with the KeyID as CKA_ID and CKA_LABEL. A key that the token would
// give out is not used, whoever put it there. Exportable keys and keys on
// P-256K are refused; hsm.Split keeps them in software.
//
// One session serves one call; the pool of sessions is bounded and logs in
// once. When the token was reset, taken out or its library finalized, the
// calls that notice wait while it is opened anew, and are made again. Object
// handles never outlive the opening in which they were found.
//
// RSA-OAEP with a hash that the token does not take (SoftHSM takes only SHA-1)
// is done as a raw RSA operation in the token (CKM_RSA_X_509) with the padding
// of RFC 8017 section 7.1.2 removed here in constant time.
//
// The package needs cgo: without it Open returns ErrNoCgo.
package pkcs11

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"verdant/hsm"
)

// ErrURI is wrapped for a PKCS #11 URI that is refused.
var ErrURI = errors.New("PKCS #11 URI refused")

// ErrNoCgo is returned by Open in a binary that was built without cgo.
var ErrNoCgo = fmt.Errorf("%w: this binary was built without cgo and cannot load a PKCS #11 module; build it with CGO_ENABLED=1 and a C compiler", hsm.ErrRefused)

// Config says which token to open.
type Config struct {
	// Module is the absolute path of the vendor's shared library.
	Module string
	// Token is the token's label.
	Token string
	// PINSource is the absolute path of the file with the user's PIN. Open
	// does not read it: whoever starts the signer process opens it.
	PINSource string
	// Sessions bounds the calls at one time; 0 means 8, or twice the
	// processors if that is more. The token's own limit goes before it.
	Sessions int
}

// ParseURI reads a PKCS #11 URI (RFC 7512) with exactly the attributes that
// name a token and how to reach it:
//
//	pkcs11:token=LABEL?module-path=/path/to/module.so&pin-source=/path/to/pin
//
// All three are needed; pin-source may also be a file: URI. pin-value is
// refused, as command lines and environments can be read by others.
func ParseURI(uri string) (Config, error) {
	var c Config
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok {
		return c, fmt.Errorf("%w: its scheme must be pkcs11", ErrURI)
	}
	if len(rest) > 4096 {
		return c, fmt.Errorf("%w: longer than 4096 bytes", ErrURI)
	}
	path, query, _ := strings.Cut(rest, "?")
	if err := attributes(path, ";", map[string]*string{"token": &c.Token}); err != nil {
		return Config{}, err
	}
	if err := attributes(query, "&", map[string]*string{"module-path": &c.Module, "pin-source": &c.PINSource}); err != nil {
		return Config{}, err
	}
	c.PINSource = strings.TrimPrefix(strings.TrimPrefix(c.PINSource, "file://"), "file:")
	return c, c.check()
}

// attributes reads name=value pairs. Every one must be in want, once.
func attributes(text, separator string, want map[string]*string) error {
	if text == "" {
		return nil
	}
	for pair := range strings.SplitSeq(text, separator) {
		name, value, _ := strings.Cut(pair, "=")
		into := want[name]
		switch {
		case name == "pin-value":
			return fmt.Errorf("%w: pin-value shows the PIN to every process; put it into a file and use pin-source", ErrURI)
		case into == nil:
			return fmt.Errorf("%w: attribute %.40q is not one of token before the question mark, module-path and pin-source after it", ErrURI, name)
		case *into != "":
			return fmt.Errorf("%w: attribute %s is there twice", ErrURI, name)
		}
		decoded, err := url.PathUnescape(value)
		if err != nil || decoded == "" {
			return fmt.Errorf("%w: attribute %s is empty or badly percent-encoded", ErrURI, name)
		}
		*into = decoded
	}
	return nil
}

func (c Config) check() error {
	for name, path := range map[string]string{"module-path": c.Module, "pin-source": c.PINSource} {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
			return fmt.Errorf("%w: %s must be the absolute path of a file", ErrURI, name)
		}
	}
	if c.Token == "" || len(c.Token) > 32 || strings.ContainsRune(c.Token, 0) { // CK_TOKEN_INFO has 32 bytes for it
		return fmt.Errorf("%w: token must be a label of 1 to 32 bytes", ErrURI)
	}
	return nil
}

// URI is the URI that ParseURI reads back.
func (c Config) URI() string {
	return "pkcs11:token=" + escape(c.Token) + "?module-path=" + escape(c.Module) + "&pin-source=" + escape(c.PINSource)
}

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%2F", "/")
}

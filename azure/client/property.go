package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Properties reads configuration from a vault the way Spring's Key Vault
// property source does: the property dgc.trustanchor.certificatealias is the
// secret dgc-trustanchor-certificatealias. Spring lists the whole vault to
// find names; this asks for one secret at a time, so that an identity with a
// role on single secrets can use it.
type Properties struct{ vault *Vault }

// Properties returns the vault's property source.
func (v *Vault) Properties() Properties { return Properties{v} }

// Get returns the property's value; ok is false if the vault has no such
// secret.
func (p Properties) Get(ctx context.Context, property string) (value string, ok bool, err error) {
	name, err := SecretName(property)
	if err != nil {
		return "", false, err
	}
	value, err = p.vault.Secret(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("property %s: %w", property, err)
	}
	return value, true, nil
}

// SecretName returns the name of the secret that holds a property: lower
// case, with dashes for dots and underscores. It refuses what a vault cannot
// hold.
func SecretName(property string) (string, error) {
	name := strings.NewReplacer(".", "-", "_", "-").Replace(strings.ToLower(property))
	if name == "" || len(name) > 127 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", fmt.Errorf("property %q cannot be the name of a secret", property)
	}
	return name, nil
}

// PropertyName returns the property that a secret holds, the inverse of
// SecretName for properties written with dots.
func PropertyName(secret string) string { return strings.ReplaceAll(secret, "-", ".") }

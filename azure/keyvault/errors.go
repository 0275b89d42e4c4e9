package keyvault

import (
	"errors"
	"net/http"
	"strings"

	"verdant/azure/rest"
)

func badParameter(format string, args ...any) *rest.Error {
	return rest.Errorf(http.StatusBadRequest, "BadParameter", format, args...)
}

// shorten keeps what a caller sent out of a message beyond recognition of its
// beginning, and control characters out altogether.
func shorten(s string) string {
	return printable(s, 64)
}

// printable is at most n bytes of s, without control characters.
func printable(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}

func isNotFound(err error) bool {
	var e *rest.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// noun is a kind as error codes spell it: Key, Secret, Certificate.
func (k Kind) noun() string {
	switch k {
	case Keys:
		return "Key"
	case Secrets:
		return "Secret"
	}
	return "Certificate"
}

func notFound(kind Kind, name, version string) *rest.Error {
	id := name
	if version != "" {
		id += "/" + version
	}
	noun := strings.ToLower(kind.noun())
	return rest.Errorf(http.StatusNotFound, kind.noun()+"NotFound",
		"A %s with (name/id) %s was not found in this key vault. If you recently deleted this %s you may be able to recover it using the correct recovery command.", noun, id, noun)
}

func deletedNotFound(kind Kind, name string) *rest.Error {
	return rest.Errorf(http.StatusNotFound, kind.noun()+"NotFound", "Deleted %s not found: %s", kind.noun(), name)
}

func conflict(inner, format string, args ...any) *rest.Error {
	e := rest.Errorf(http.StatusConflict, "Conflict", format, args...)
	e.Inner = inner
	return e
}

func nameIsDeleted(kind Kind, name string) *rest.Error {
	return conflict("ObjectIsDeletedButRecoverable",
		"%s %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the %s can only be recovered or purged.",
		kind.noun(), name, strings.ToLower(kind.noun()))
}

func forbidden(inner, format string, args ...any) *rest.Error {
	e := rest.Errorf(http.StatusForbidden, "Forbidden", format, args...)
	e.Inner = inner
	return e
}

func disabled(op string, kind Kind) *rest.Error {
	return forbidden(kind.noun()+"Disabled", "Operation %s is not allowed on a disabled %s.", op, strings.ToLower(kind.noun()))
}

// managedBy refuses to change the key or secret behind a certificate.
func managedBy(op string, kind Kind) *rest.Error {
	return forbidden(kind.noun()+"ManagedByKeyVault",
		"Operation %q is not allowed on this %s, since it is associated with a certificate. Perform the operation on the corresponding certificate.", op, strings.ToLower(kind.noun()))
}

package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// KEKConfig names a key encryption key and how its vault is reached.
type KEKConfig struct {
	// KeyID is the key without a version: https://<vault>/keys/<name>.
	KeyID string
	// Credential is the identity that holds Key Vault Crypto Service
	// Encryption User (get, wrapKey, unwrapKey) on the key.
	Credential azcore.TokenCredential
	// HTTP reaches the vault. It must verify the server's certificate: what is
	// not proved to be the vault can refuse nothing.
	HTTP *http.Client
	// Now is the clock against which the key's expiry is held; required.
	Now func() time.Time
}

// KEK wraps and unwraps data keys under one key of a vault, with RSA-OAEP-256.
// Its errors are *KeyError. It is safe for concurrent use and keeps no data
// key.
type KEK struct {
	vault, name string
	keys        *azkeys.Client
	now         func() time.Time

	mu   sync.Mutex
	seen map[string]lifetime // by version
}

// lifetime is what the vault last said about a version's validity.
type lifetime struct {
	expires time.Time // zero: never
	asked   time.Time
}

// lifetimeStale is how long a version's expiry date is believed. The vault
// itself refuses a disabled key at once, but lets an expired one unwrap; that
// it has expired is for the KEK to see.
const lifetimeStale = 30 * time.Second

// NewKEK makes the KEK that cfg names. It opens no connection.
func NewKEK(cfg KEKConfig) (*KEK, error) {
	vault, name, version, err := splitKeyID(cfg.KeyID)
	if err != nil || version != "" {
		return nil, fmt.Errorf("key encryption key %q: %w: want https://<vault>/keys/<name>, without a version", cfg.KeyID, ErrNotConfigured)
	}
	if cfg.Credential == nil || cfg.HTTP == nil || cfg.Now == nil {
		return nil, fmt.Errorf("key encryption key %s: %w: needs Credential, HTTP and Now", cfg.KeyID, ErrNotConfigured)
	}
	keys, err := azkeys.NewClient(vault, cfg.Credential, &azkeys.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: cfg.HTTP,
		Telemetry: policy.TelemetryOptions{Disabled: true},
		// Whoever polls tries again by itself; a retry inside a round would
		// only delay the answer to "is the right still there?".
		Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		return nil, fmt.Errorf("key encryption key %s: %w", cfg.KeyID, err)
	}
	return &KEK{vault: vault, name: name, keys: keys, now: cfg.Now, seen: map[string]lifetime{}}, nil
}

// KeyID returns the key's id without a version.
func (k *KEK) KeyID() string { return k.vault + "/keys/" + k.name }

// Current returns the full id of the key's newest version.
func (k *KEK) Current(ctx context.Context) (string, error) {
	kid, err := k.get(ctx, "")
	if err != nil {
		return "", k.failed("get", k.KeyID(), err)
	}
	return kid, nil
}

// Wrap encrypts dek under the newest version and returns that version's id.
func (k *KEK) Wrap(ctx context.Context, dek []byte) (kid string, wrapped []byte, err error) {
	alg := azkeys.EncryptionAlgorithmRSAOAEP256
	r, err := k.keys.WrapKey(ctx, k.name, "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: dek}, nil)
	if err != nil {
		return "", nil, k.failed("wrap", k.KeyID(), err)
	}
	if r.KID == nil || len(r.Result) == 0 {
		return "", nil, k.failed("wrap", k.KeyID(), errors.New("the vault's answer lacks kid or value"))
	}
	return string(*r.KID), r.Result, nil
}

// Unwrap decrypts under the version that kid names. A version that has expired
// is a refusal, although a vault would still unwrap with it.
func (k *KEK) Unwrap(ctx context.Context, kid string, wrapped []byte) ([]byte, error) {
	vault, name, version, err := splitKeyID(kid)
	if err != nil || vault != k.vault || name != k.name || version == "" {
		return nil, k.failed("unwrap", kid, fmt.Errorf("not a version of %s", k.KeyID()))
	}
	alg := azkeys.EncryptionAlgorithmRSAOAEP256
	r, err := k.keys.UnwrapKey(ctx, k.name, version, azkeys.KeyOperationParameters{Algorithm: &alg, Value: wrapped}, nil)
	if err != nil {
		return nil, k.failed("unwrap", kid, err)
	}
	if err := k.checkExpiry(ctx, version); err != nil {
		clear(r.Result)
		return nil, k.failed("unwrap", kid, err)
	}
	if len(r.Result) == 0 {
		return nil, k.failed("unwrap", kid, errors.New("the vault's answer lacks the value"))
	}
	return r.Result, nil
}

var errExpired = errors.New("the key has expired")

func (k *KEK) checkExpiry(ctx context.Context, version string) error {
	k.mu.Lock()
	l, ok := k.seen[version]
	k.mu.Unlock()
	if now := k.now(); !ok || now.Sub(l.asked) >= lifetimeStale {
		// A vault that does not answer leaves the last known date in force.
		_, err := k.get(ctx, version)
		if refused, _ := refusedBecause(err); refused {
			return err
		}
		k.mu.Lock()
		l = k.seen[version]
		k.mu.Unlock()
	}
	if !l.expires.IsZero() && !k.now().Before(l.expires) {
		return errExpired
	}
	return nil
}

// get asks for a version, or the newest, and notes when it expires.
func (k *KEK) get(ctx context.Context, version string) (kid string, err error) {
	r, err := k.keys.GetKey(ctx, k.name, version, nil)
	if err != nil {
		return "", err
	}
	if r.Key == nil || r.Key.KID == nil {
		return "", errors.New("the vault's answer lacks kid")
	}
	vault, name, version, err := splitKeyID(string(*r.Key.KID))
	if err != nil || vault != k.vault || name != k.name || version == "" {
		return "", errors.New("the vault answered with another key")
	}
	l := lifetime{asked: k.now()}
	if a := r.Attributes; a != nil && a.Expires != nil {
		l.expires = *a.Expires
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen[version] = l
	return string(*r.Key.KID), nil
}

// KeyError says why an operation with a KEK was not done.
type KeyError struct {
	// Op is wrap, unwrap or get; KeyID the key, with its version if known.
	Op, KeyID string
	// Refused is true for a definite refusal; see refusedBecause.
	Refused bool
	// Reason is for people: the vault's codes or what happened to the
	// connection.
	Reason string

	cause error
}

func (e *KeyError) Error() string { return e.Op + " with key " + e.KeyID + ": " + e.Reason }

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.cause }

// KeyRefused reports whether the vault definitely refused the key.
func (e *KeyError) KeyRefused() bool { return e.Refused }

func (k *KEK) failed(op, kid string, err error) error {
	refused, reason := refusedBecause(err)
	return &KeyError{Op: op, KeyID: kid, Refused: refused, Reason: reason, cause: err}
}

// refusedBecause tells a definite refusal of the key from everything that says
// nothing about the right to it. Revoking what is in use on a mistake is an
// outage of a health service; not revoking for one more poll costs five
// seconds. So a refusal is only what an authenticated vault (TLS verified)
// said in its own error shape, and only these answers:
//
//   - 403 with any inner code: the role was taken away (ForbiddenByRbac), the
//     endpoint's approval or the network rule (ForbiddenByConnection,
//     ForbiddenByFirewall), an access policy, a disabled key (KeyDisabled), an
//     operation no longer in key_ops. Azure's services treat a changed
//     firewall like a revoked role.
//   - 404 KeyNotFound: the key or this version was deleted or purged.
//   - the key's expiry date has passed.
//
// Not a refusal: 401 (the token was not understood: clocks, a signing key
// being rotated at the issuer; a right that was taken away is a 403), 404 or
// 403 without the vault's codes (something else answers under its name), 400,
// 409, 429, any 5xx, no token from the identity endpoint, timeouts, refused or
// reset connections, DNS and TLS failures: with these, nobody who is able to
// decide has decided.
func refusedBecause(err error) (refused bool, reason string) {
	if err == nil {
		return false, ""
	}
	if errors.Is(err, errExpired) {
		return true, err.Error()
	}
	var r *Refusal
	if !errors.As(AsRefusal(err), &r) {
		return false, err.Error()
	}
	if r.Code == IdentityFailed {
		return false, r.Error()
	}
	reason = fmt.Sprintf("the vault answered %d %s", r.Status, r.Code)
	if r.Inner != "" {
		reason += " (" + r.Inner + ")"
	}
	switch r.Status {
	case http.StatusForbidden:
		return strings.HasPrefix(r.Code, "Forbidden") && r.Message != "" || r.Code == "KeyOperationForbidden" || r.Code == "AccessDenied", reason
	case http.StatusNotFound:
		return r.Code == "KeyNotFound", reason
	}
	return false, reason
}

// splitKeyID cuts https://<vault>/keys/<name>[/<version>].
func splitKeyID(id string) (vault, name, version string, err error) {
	u, err := url.Parse(id)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", "", errors.New("not the id of a vault key")
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "keys" || parts[1] == "" {
		return "", "", "", errors.New("not the id of a vault key")
	}
	if len(parts) == 3 {
		version = parts[2]
	}
	return u.Scheme + "://" + u.Host, parts[1], version, nil
}

package keyvault

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"verdant/azure/rest"
)

// Limits are how many operations a vault does in every ten seconds, as Azure
// publishes them ("Azure Key Vault service limits"). A limit of zero is none,
// so that the zero value throttles nothing. Operations of one class add up by
// weight: with 2000 and 250 for two sizes of keys, one operation with the
// larger key counts for eight with the smaller.
//
// Each server counts what it does itself. Of a vault with several servers,
// each gets its share of the limits.
type Limits struct {
	// RSA2048, RSA3072, RSA4096 and EC limit operations with existing keys;
	// symmetric keys count as EC keys do.
	RSA2048, RSA3072, RSA4096, EC KeyLimit
	// Create limits new keys: made, imported, rotated or restored.
	Create KeyLimit
	// SecretCreate limits new secrets and certificates, Other everything else.
	SecretCreate, Other int
}

// KeyLimit tells keys in hardware from keys in software.
type KeyLimit struct{ HSM, Software int }

// AzureLimits are Azure's.
func AzureLimits() Limits {
	return Limits{RSA2048: KeyLimit{2000, 4000}, RSA3072: KeyLimit{500, 1000}, RSA4096: KeyLimit{250, 500}, EC: KeyLimit{2000, 4000},
		Create: KeyLimit{10, 20}, SecretCreate: 300, Other: 4000}
}

// limitWindow is the time over which limits count.
const limitWindow = 10 * time.Second

// meter lets through what fits into a budget that a window's time refills. It
// is one number, the time at which the budget will be whole again: taking
// costs a comparison and a swap, whoever else takes.
type meter struct{ whole atomic.Int64 } // unix nanoseconds

// take spends 1/limit of the budget. If it is not there, it says after how
// long it will be.
func (m *meter) take(now time.Time, limit int) (wait time.Duration, ok bool) {
	if limit <= 0 {
		return 0, true
	}
	at, cost := now.UnixNano(), int64(limitWindow)/int64(limit)
	for {
		whole := m.whole.Load()
		next := max(whole, at) + cost
		if over := next - at - int64(limitWindow); over > 0 {
			return time.Duration(over), false
		}
		if m.whole.CompareAndSwap(whole, next) {
			return 0, true
		}
	}
}

// throttle meters a vault's classes of operations.
type throttle struct {
	limits                                   Limits
	keys, keyCreate, secretCreate, remainder meter
}

// creating are the operations that make a new secret or certificate. Those
// that make a key are metered where its kind is known.
var creating = map[string]bool{"SecretSet": true, "SecretRestore": true, "CertificateCreate": true, "CertificateImport": true, "CertificateRestore": true}

// usingKeys are the operations on a key's material or its current state, which
// are metered when the key is known.
var usingKeys = map[string]bool{"KeyGet": true, "KeyUpdate": true, "KeySign": true, "KeyVerify": true, "KeyEncrypt": true, "KeyDecrypt": true,
	"KeyWrap": true, "KeyUnwrap": true, "KeyRelease": true, "KeyCreate": true, "KeyImport": true, "KeyRotate": true}

// meterOperation charges for an operation that is not about a key.
func (s *Server) meterOperation(op string) error {
	t := s.throttle
	switch {
	case t == nil || usingKeys[op]:
		return nil
	case op == "KeyRestore":
		return s.charge(&t.keyCreate, t.limits.Create.Software)
	case creating[op]:
		return s.charge(&t.secretCreate, t.limits.SecretCreate)
	}
	return s.charge(&t.remainder, t.limits.Other)
}

// meterKey charges for an operation with a key.
func (s *Server) meterKey(k *keyProperties) error {
	t := s.throttle
	if t == nil {
		return nil
	}
	limit := t.limits.EC
	if strings.HasPrefix(k.Type, "RSA") {
		switch {
		case k.Size > 3072:
			limit = t.limits.RSA4096
		case k.Size > 2048:
			limit = t.limits.RSA3072
		default:
			limit = t.limits.RSA2048
		}
	}
	return s.charge(&t.keys, limit.of(k.Type))
}

// meterNewKey charges for a key that is to be made.
func (s *Server) meterNewKey(kty string) error {
	if s.throttle == nil {
		return nil
	}
	return s.charge(&s.throttle.keyCreate, s.throttle.limits.Create.of(kty))
}

func (l KeyLimit) of(kty string) int {
	if strings.HasSuffix(kty, "-HSM") {
		return l.HSM
	}
	return l.Software
}

func (s *Server) charge(m *meter, limit int) error {
	wait, ok := m.take(s.now(), limit)
	if ok {
		return nil
	}
	return &rest.Error{Status: http.StatusTooManyRequests, Code: "Throttled",
		Message: "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
		Header:  http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(wait.Seconds())))}}}
}

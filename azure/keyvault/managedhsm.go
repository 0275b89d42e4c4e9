package keyvault

import (
	"crypto/rand"
	"net/http"
	"strings"

	"verdant/azure/rest"
	"verdant/internal/route"
)

// hsmRoutes adds random bytes, release, attestation and the secure operations.
// What this vault knows and does not offer finds out who asks and whether the
// role would let them before it says so.
func (s *Server) hsmRoutes(add adder) {
	random := s.notSupported("getRandomBytes", "Random bytes come from a managed HSM only.")
	if s.cfg.ManagedHSM {
		random = s.randomBytes
	}
	add("RandomBytesGet", http.MethodPost, "/rng", actions+"rng/action", smallBody, quick, random)
	secureWrap, secureUnwrap := s.secureWrap, s.secureUnwrap
	if !s.cfg.ManagedHSM {
		secureWrap = s.notSupported("secureWrapKey", "Data keys that nobody sees come from a managed HSM only.")
		secureUnwrap = s.notSupported("secureUnwrapKey", "Data keys that nobody sees come from a managed HSM only.")
	}
	withVersion(add, "KeyRelease", http.MethodPost, "/keys", "/release", actionKeys+"release/action", largeBody, s.release)
	withVersion(add, "KeyAttestationGet", http.MethodGet, "/keys", "/attestation", actionKeys+"read", route.NoBody, s.getKeyAttestation)
	withVersion(add, "KeySecureWrap", http.MethodPost, "/keys", "/securewrapkey", actionKeys+"wrap/action", normalBody, secureWrap)
	withVersion(add, "KeySecureUnwrap", http.MethodPost, "/keys", "/secureunwrapkey", actionKeys+"unwrap/action", largeBody, secureUnwrap)
}

func (s *Server) notSupported(op, why string) operation {
	return func(*call, *http.Request) (int, any, error) {
		return 0, nil, rest.Errorf(http.StatusBadRequest, "NotSupported", "Operation %s is not supported. %s", op, why)
	}
}

const maxRandom = 128

// randomBytes answers with bytes of the operating system's generator.
func (s *Server) randomBytes(_ *call, r *http.Request) (int, any, error) {
	var in struct {
		Count int `json:"count"`
	}
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if in.Count < 1 || in.Count > maxRandom {
		return 0, nil, badParameter("Property count must be a number from 1 to %d.", maxRandom)
	}
	out := make(b64, in.Count)
	_, _ = rand.Read(out) // never returns an error (crypto/rand)
	return http.StatusOK, map[string]b64{"value": out}, nil
}

// shownType is the type of a key as the host names it: every key of a managed
// HSM is one in hardware.
func (s *Server) shownType(kty string) string {
	if s.cfg.ManagedHSM && !strings.HasSuffix(kty, "-HSM") {
		return kty + "-HSM"
	}
	return kty
}

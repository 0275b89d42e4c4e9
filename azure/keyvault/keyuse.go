package keyvault

import (
	"slices"
	"strings"
)

// keyOps are the operations a key may be given, with those a type allows.
var keyOps = map[string][]string{
	"RSA": {"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"},
	"EC":  {"sign", "verify"},
	"oct": {"encrypt", "decrypt", "wrapKey", "unwrapKey"},
}

// keyUse is what a key is for. It never changes: a key that takes in other
// keys, or gives out what it wrapped to attested environments only, would
// otherwise be turned into one that decrypts for whoever may update it.
type keyUse string

const (
	plainUse    keyUse = ""
	transferUse keyUse = "import"
	secureUse   keyUse = "secure"
)

func useOf(ops []string) keyUse {
	switch {
	case slices.Contains(ops, "import"):
		return transferUse
	case slices.Contains(ops, "secureWrapKey"), slices.Contains(ops, "secureUnwrapKey"):
		return secureUse
	}
	return plainUse
}

// checkOps checks key_ops against a key type and fills in the default. "export"
// is a mark that only an exportable key may carry.
func checkOps(ops []string, kty string) ([]string, error) {
	family := strings.TrimSuffix(kty, "-HSM")
	all := keyOps[family]
	if len(ops) == 0 {
		return all, nil
	}
	switch useOf(ops) {
	case transferUse:
		if kty != "RSA-HSM" || len(ops) != 1 {
			return nil, badParameter("The key operation import stands alone, on a key of type RSA-HSM: it is for a key that other keys are wrapped with.")
		}
		return ops, nil
	case secureUse:
		if kty != "RSA-HSM" && kty != "oct-HSM" {
			return nil, badParameter("The key operations secureWrapKey and secureUnwrapKey need a key of type RSA-HSM or oct-HSM.")
		}
		all = []string{"secureWrapKey", "secureUnwrapKey"}
	default:
		all = append(slices.Clone(all), "export")
	}
	out := make([]string, 0, len(ops))
	for _, op := range ops {
		if !slices.Contains(all, op) {
			return nil, badParameter("Property key_ops has an invalid value '%s' for a key of type %s, or beside the others.", shorten(op), kty)
		}
		if !slices.Contains(out, op) {
			out = append(out, op)
		}
	}
	return out, nil
}

// checkUse checks the operations of a key against what else it is.
func (s *Server) checkUse(k *keyRecord) error {
	switch use := useOf(k.Ops); {
	case use == secureUse && !s.cfg.ManagedHSM:
		return badParameter("The key operations secureWrapKey and secureUnwrapKey belong to a managed HSM.")
	case use == secureUse && k.Release == nil:
		return badParameter("A key with the operations secureWrapKey and secureUnwrapKey needs a release policy.")
	case use != plainUse && k.Exportable:
		return badParameter("A key with the operation %s cannot be exportable.", k.Ops[0])
	case slices.Contains(k.Ops, "export") && !k.Exportable:
		return badParameter("The key operation export needs an exportable key.")
	}
	return nil
}

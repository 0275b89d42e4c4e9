package hcert

import (
	"crypto/elliptic"
	"errors"
	"testing"
)

// FuzzParseKey: a certificate gives a key whose kid is its own and that an
// algorithm takes, or a refusal with a stage and a reason.
func FuzzParseKey(f *testing.F) {
	for _, k := range []struct{ der []byte }{{newDSC(f, ecKey(f, elliptic.P256()), UsageTest).Raw}, {newDSC(f, ecKey(f, elliptic.P384()), 0).Raw}, {newDSC(f, rsaKey(f, 2048), 0).Raw}} {
		f.Add(k.der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		k, err := ParseKey(der)
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || refused.Reason == "" {
				t.Errorf("refused without a reason: %v", err)
			}
			return
		}
		if k.KID != KIDOf(der) || len(k.KID) != 8 {
			t.Error("the key has another kid")
		}
		alg, err := AlgorithmFor(k.Public)
		if err != nil {
			t.Fatalf("no algorithm for an accepted key: %v", err)
		}
		s := &Sign1{Algorithm: alg, Signature: string(make([]byte, 64)), Payload: "x"}
		if err := s.CheckKey(k.Public); err == nil {
			t.Error("zeros are a signature")
		}
	})
}

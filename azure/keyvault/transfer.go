package keyvault

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"verdant/hsm"
)

// transferBlob is a wrapped key on its way between HSMs: what vendors' tools
// make ("bring your own key"), and what a release gives out.
type transferBlob struct {
	Version    string         `json:"schema_version"`
	Header     transferHeader `json:"header"`
	Ciphertext b64            `json:"ciphertext"`
}

type transferHeader struct {
	KID        string `json:"kid"`
	Algorithm  string `json:"alg"`
	Encryption string `json:"enc"`
}

// parseTransfer reads a blob and checks all but whose key wrapped it.
func parseTransfer(data []byte) (transferBlob, error) {
	var b transferBlob
	if err := json.Unmarshal(data, &b); err != nil {
		return b, badParameter("Property key_hsm is not a key transfer blob: it must be JSON, with a ciphertext in base64url.")
	}
	switch {
	case b.Version != "1.0.0":
		return b, badParameter("The key transfer blob has an unknown schema_version '%s'.", shorten(b.Version))
	case b.Header.Algorithm != "dir" || b.Header.Encryption != wrapTransfer:
		return b, badParameter("The key transfer blob is not of alg dir and enc %s.", wrapTransfer)
	case len(b.Ciphertext) == 0:
		return b, badParameter("The key transfer blob has no ciphertext.")
	}
	return b, nil
}

// transferredMaterial is the key in a transfer blob, opened with the key of this
// vault that the blob names.
func (s *Server) transferredMaterial(ctx context.Context, in *importKeyIn, record *keyRecord, family hsm.KeyType) (*hsm.Material, error) {
	if !record.hardware() {
		return nil, badParameter("Property key_hsm needs a key of an -HSM type, or Hsm set.")
	}
	for _, part := range []b64{in.Key.N, in.Key.E, in.Key.D, in.Key.P, in.Key.Q, in.Key.X, in.Key.Y, in.Key.K} {
		if len(part) > 0 {
			return nil, badParameter("Property key_hsm does not go together with the parts of a JSON web key.")
		}
	}
	blob, err := parseTransfer(in.Key.T)
	if err != nil {
		return nil, err
	}
	kek, err := s.transferKey(ctx, blob.Header.KID)
	if err != nil {
		return nil, err
	}
	m, err := hsm.UnwrapTransfer(kek, family, blob.Ciphertext)
	if err != nil {
		return nil, err
	}
	if curve := hsm.Curve(in.Key.Curve); curve != "" && curve != m.Spec().Curve {
		m.Wipe()
		return nil, badParameter("Property key.crv is not the curve of the key in the transfer blob.")
	}
	return m, nil
}

// transferKey finds the key that a blob was wrapped for. What is wrong with it
// is not told: who may import may not be one who may read.
func (s *Server) transferKey(ctx context.Context, kid string) (hsm.Key, error) {
	refused := badParameter("The kid of the key transfer blob does not name an enabled key of this vault whose only key operation is import.")
	path, ok := strings.CutPrefix(kid, s.url("keys")+"/")
	name, version, _ := strings.Cut(path, "/")
	if !ok || !validName(name) || version != "" && !validVersion(version) {
		return nil, refused
	}
	_, _, k, err := find[keyRecord](ctx, s, Keys, name, version)
	if isNotFound(err) {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	now, a := s.now().Unix(), k.Attributes
	if !slices.Equal(k.Ops, []string{"import"}) || !a.Enabled || a.NotBefore != nil && now < *a.NotBefore || a.Expires != nil && now >= *a.Expires {
		return nil, refused
	}
	return s.tokenKey(ctx, k)
}

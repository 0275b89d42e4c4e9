package keyvault

import "encoding/json"

// attributes are what every version of every kind has. Times are unix seconds.
type attributes struct {
	Enabled   bool   `json:"enabled"`
	NotBefore *int64 `json:"nbf,omitempty"`
	Expires   *int64 `json:"exp,omitempty"`
	Created   int64  `json:"created"`
	Updated   int64  `json:"updated"`
}

// attributesIn is what a client may set.
type attributesIn struct {
	Enabled    *bool  `json:"enabled"`
	NotBefore  *int64 `json:"nbf"`
	Expires    *int64 `json:"exp"`
	Exportable *bool  `json:"exportable"`
	// External is refused: the reference to a key in another's HSM.
	External json.RawMessage `json:"external_key"`
}

// attributesOut is what a client sees.
type attributesOut struct {
	attributes
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
	Exportable      *bool  `json:"exportable,omitempty"`
	HSMPlatform     string `json:"hsmPlatform,omitempty"`
	KeySize         int    `json:"key_size,omitempty"` // of symmetric keys
	// Attestation is shown by getKeyAttestation only.
	Attestation *keyAttestation `json:"attestation,omitempty"`
}

const maxTime = 253402300799 // the end of the year 9999

func (in *attributesIn) check() error {
	if in == nil {
		return nil
	}
	for name, t := range map[string]*int64{"nbf": in.NotBefore, "exp": in.Expires} {
		if t != nil && (*t < 0 || *t > maxTime) {
			return badParameter("Property attributes.%s is out of range.", name)
		}
	}
	if in.NotBefore != nil && in.Expires != nil && *in.Expires < *in.NotBefore {
		return badParameter("Property attributes.exp is before attributes.nbf.")
	}
	return nil
}

// fresh makes the attributes of a new version.
func (in *attributesIn) fresh(now int64) attributes {
	a := attributes{Enabled: true, Created: now, Updated: now}
	if in != nil {
		if in.Enabled != nil {
			a.Enabled = *in.Enabled
		}
		a.NotBefore, a.Expires = in.NotBefore, in.Expires
	}
	return a
}

// apply changes what in sets.
func (a *attributes) apply(in *attributesIn, now int64) {
	a.Updated = now
	if in == nil {
		return
	}
	if in.Enabled != nil {
		a.Enabled = *in.Enabled
	}
	if in.NotBefore != nil {
		a.NotBefore = in.NotBefore
	}
	if in.Expires != nil {
		a.Expires = in.Expires
	}
}

func (s *Server) show(a attributes) attributesOut {
	return attributesOut{attributes: a, RecoveryLevel: s.recoveryLevel(), RecoverableDays: s.cfg.RetentionDays}
}

// recoveryLevel follows the documentation of DeletionRecoveryLevel.
func (s *Server) recoveryLevel() string {
	switch customized := s.cfg.RetentionDays < 90; {
	case customized && s.cfg.PurgeProtection:
		return "CustomizedRecoverable"
	case customized:
		return "CustomizedRecoverable+Purgeable"
	case s.cfg.PurgeProtection:
		return "Recoverable"
	}
	return "Recoverable+Purgeable"
}

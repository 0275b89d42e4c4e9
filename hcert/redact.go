package hcert

import "log/slog"

// The types that hold a citizen's data print and log themselves without it, so
// that a careless %v or slog attribute gives nothing away.

// String names version and type only.
func (d *DCC) String() string {
	if d == nil {
		return "no DCC"
	}
	return "DCC " + string(d.Kind())
}

// LogValue is String.
func (d *DCC) LogValue() slog.Value { return slog.StringValue(d.String()) }

// String names the type only.
func (p *Payload) String() string {
	if p == nil {
		return "no payload"
	}
	return "DCC payload " + string(p.Kind())
}

// LogValue is String.
func (p *Payload) LogValue() slog.Value { return slog.StringValue(p.String()) }

// String tells how far decoding got.
func (u *Unverified) String() string {
	switch {
	case u == nil:
		return "no certificate"
	case u.Payload != nil:
		return "unverified certificate, kid " + u.Sign1.KID.String() + ", " + u.Payload.String()
	case u.Document != nil:
		return "unverified certificate, kid " + u.Sign1.KID.String() + ", " + u.Document.String()
	case u.Claims != nil:
		return "unverified certificate without payload, kid " + u.Sign1.KID.String()
	case u.Sign1 != nil:
		return "unverified certificate without claims, kid " + u.Sign1.KID.String()
	}
	return "certificate that could not be decoded"
}

// LogValue is String.
func (u *Unverified) LogValue() slog.Value { return slog.StringValue(u.String()) }

// String names signer and type.
func (v *Verified) String() string {
	if v == nil {
		return "no certificate"
	}
	if v.u.Document != nil {
		return "verified certificate, kid " + v.key.KID.String() + ", " + v.u.Document.String()
	}
	return "verified certificate, kid " + v.key.KID.String() + ", " + v.u.Payload.String()
}

// LogValue is String.
func (v *Verified) LogValue() slog.Value { return slog.StringValue(v.String()) }

// String names the signer only.
func (i *Issued) String() string {
	if i == nil {
		return "no certificate"
	}
	return "issued certificate, kid " + i.KID.String()
}

// LogValue is String.
func (i *Issued) LogValue() slog.Value { return slog.StringValue(i.String()) }

// LogValue is String.
func (d *Document) LogValue() slog.Value { return slog.StringValue(d.String()) }

// LogValue is String.
func (d *DDCCVaccination) LogValue() slog.Value { return slog.StringValue(d.String()) }

// LogValue is String.
func (d *DDCCTest) LogValue() slog.Value { return slog.StringValue(d.String()) }

// LogValue is String.
func (i *ICVP) LogValue() slog.Value { return slog.StringValue(i.String()) }

// LogValue is String.
func (h HealthLinks) LogValue() slog.Value { return slog.StringValue(h.String()) }

// String names the type only: who has the link has the document.
func (h HealthLink) String() string { return string(ProfileHealthLink) }

// LogValue is String.
func (h HealthLink) LogValue() slog.Value { return slog.StringValue(h.String()) }

package keyvault

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"verdant/hsm"
)

// certPolicy says how a certificate is made and renewed, as it is on the wire.
// Members that are absent in a request keep what the policy had, or get the
// service's defaults.
type certPolicy struct {
	ID         string           `json:"id,omitempty"`
	Key        *certKey         `json:"key_props,omitempty"`
	Secret     *certSecret      `json:"secret_props,omitempty"`
	X509       *certX509        `json:"x509_props,omitempty"`
	Lifetime   []lifetimeAction `json:"lifetime_actions,omitempty"`
	Issuer     *certIssuer      `json:"issuer,omitempty"`
	Attributes *policyAttrs     `json:"attributes,omitempty"`
}

type policyAttrs struct {
	Enabled *bool `json:"enabled,omitempty"`
	Created int64 `json:"created,omitempty"`
	Updated int64 `json:"updated,omitempty"`
}

type certKey struct {
	Exportable *bool  `json:"exportable,omitempty"`
	Type       string `json:"kty,omitempty"`
	Size       *int   `json:"key_size,omitempty"`
	Reuse      *bool  `json:"reuse_key,omitempty"`
	Curve      string `json:"crv,omitempty"`
}

type certSecret struct {
	ContentType string `json:"contentType,omitempty"`
}

type certX509 struct {
	Subject  string            `json:"subject,omitempty"`
	SANs     *certSANs         `json:"sans,omitempty"`
	EKUs     []string          `json:"ekus,omitempty"`
	KeyUsage []string          `json:"key_usage,omitempty"`
	Validity *int              `json:"validity_months,omitempty"`
	Basic    *basicConstraints `json:"basic_constraints,omitempty"`
}

type certSANs struct {
	DNSNames []string `json:"dns_names,omitempty"`
	Emails   []string `json:"emails,omitempty"`
	UPNs     []string `json:"upns,omitempty"`
	IPs      []string `json:"ipAddresses,omitempty"`
	URIs     []string `json:"uris,omitempty"`
}

type basicConstraints struct {
	CA      bool `json:"ca"`
	PathLen *int `json:"path_len_constraint,omitempty"`
}

type lifetimeAction struct {
	Trigger struct {
		Percentage *int `json:"lifetime_percentage,omitempty"`
		Days       *int `json:"days_before_expiry,omitempty"`
	} `json:"trigger"`
	Action struct {
		Type string `json:"action_type"`
	} `json:"action"`
}

type certIssuer struct {
	Name         string `json:"name,omitempty"`
	Type         string `json:"cty,omitempty"`
	Transparency *bool  `json:"cert_transparency,omitempty"`
}

// Content types of the secret behind a certificate.
const (
	contentPFX = "application/x-pkcs12"
	contentPEM = "application/x-pem-file"
)

// merge lays a request's policy over an older one, part by part.
func (p certPolicy) merge(in *certPolicy) certPolicy {
	if in == nil {
		return p
	}
	if in.Key != nil {
		p.Key = in.Key
	}
	if in.Secret != nil {
		p.Secret = in.Secret
	}
	if in.X509 != nil {
		p.X509 = in.X509
	}
	if in.Lifetime != nil {
		p.Lifetime = in.Lifetime
	}
	if in.Issuer != nil {
		p.Issuer = in.Issuer
	}
	if in.Attributes != nil {
		p.Attributes = &policyAttrs{Enabled: in.Attributes.Enabled}
	}
	return p
}

func ptr[T any](v T) *T { return &v }

// complete fills in the defaults of the service. It copies what it changes.
func (p certPolicy) complete(now int64) certPolicy {
	key := certKey{}
	if p.Key != nil {
		key = *p.Key
	}
	if key.Type == "" {
		key.Type = "RSA"
	}
	if key.Exportable == nil {
		key.Exportable = ptr(!strings.HasSuffix(key.Type, "-HSM"))
	}
	if key.Reuse == nil {
		key.Reuse = ptr(false)
	}
	if strings.HasPrefix(key.Type, "RSA") && key.Size == nil {
		key.Size = ptr(2048)
	}
	if strings.HasPrefix(key.Type, "EC") && key.Curve == "" {
		key.Curve = "P-256"
	}
	p.Key = &key
	if p.Secret == nil || p.Secret.ContentType == "" {
		p.Secret = &certSecret{contentPFX}
	}
	x := certX509{}
	if p.X509 != nil {
		x = *p.X509
	}
	if x.EKUs == nil {
		x.EKUs = []string{"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
	}
	if x.KeyUsage == nil {
		x.KeyUsage = []string{"digitalSignature", "keyEncipherment"}
		if strings.HasPrefix(key.Type, "EC") {
			x.KeyUsage = []string{"digitalSignature"}
		}
	}
	if x.Validity == nil {
		x.Validity = ptr(12)
	}
	p.X509 = &x
	if p.Issuer == nil || p.Issuer.Name == "" {
		p.Issuer = &certIssuer{Name: "Unknown"}
	}
	if p.Lifetime == nil {
		var a lifetimeAction
		a.Trigger.Percentage, a.Action.Type = ptr(80), "EmailContacts"
		p.Lifetime = []lifetimeAction{a}
	}
	attrs := policyAttrs{Enabled: ptr(true), Created: now}
	if p.Attributes != nil {
		if p.Attributes.Enabled != nil {
			attrs.Enabled = p.Attributes.Enabled
		}
		if p.Attributes.Created != 0 {
			attrs.Created = p.Attributes.Created
		}
	}
	attrs.Updated = now
	p.Attributes = &attrs
	return p
}

// check refuses values that no policy may have. It does not ask whether this
// vault can make the key: a policy may be written for later.
func (p *certPolicy) check() error {
	if p == nil {
		return nil
	}
	if p.Secret != nil && p.Secret.ContentType != "" && p.Secret.ContentType != contentPFX && p.Secret.ContentType != contentPEM {
		return badParameter("Property policy.secret_props.contentType has an invalid value '%s'.", shorten(p.Secret.ContentType))
	}
	if k := p.Key; k != nil {
		if k.Type != "" && !slices.Contains([]string{"RSA", "RSA-HSM", "EC", "EC-HSM", "oct"}, k.Type) {
			return badParameter("Property policy.key_props.kty has an invalid value '%s'.", shorten(k.Type))
		}
		if strings.HasSuffix(k.Type, "-HSM") && k.Exportable != nil && *k.Exportable {
			return badParameter("Property policy.key_props.exportable must be false for a key of type %s.", k.Type)
		}
	}
	for _, a := range p.Lifetime {
		if a.Action.Type != "AutoRenew" && a.Action.Type != "EmailContacts" {
			return badParameter("Property policy.lifetime_actions has an invalid action '%s'.", shorten(a.Action.Type))
		}
		if n := a.Trigger.Percentage; n != nil && (*n < 1 || *n > 99) {
			return badParameter("Property lifetime_percentage must be from 1 to 99.")
		}
	}
	return p.X509.check()
}

func (x *certX509) check() error {
	if x == nil {
		return nil
	}
	if x.Validity != nil && (*x.Validity < 1 || *x.Validity > 1200) {
		return badParameter("Property policy.x509_props.validity_months must be from 1 to 1200.")
	}
	if _, err := x.usage(); err != nil {
		return err
	}
	if _, err := x.ekus(); err != nil {
		return err
	}
	if _, err := parseDN(x.Subject); err != nil {
		return badParameter("Property policy.x509_props.subject is not a distinguished name: %s.", err)
	}
	return x.SANs.apply(&x509.Certificate{})
}

func (p *certPolicy) spec(sku string) (hsm.KeySpec, error) {
	in := createKeyIn{Type: p.Key.Type, Size: p.Key.Size, Curve: p.Key.Curve}
	if strings.HasPrefix(in.Type, "EC") {
		in.Size = nil // clients send the curve's size
	}
	spec, err := in.spec(sku, false)
	if err == nil && spec.Curve == hsm.P256K {
		err = badParameter("Property policy.key_props.crv has an invalid value: certificates are on P-256, P-384 and P-521.")
	}
	spec.Exportable = *p.Key.Exportable
	return spec, err
}

var keyUsages = map[string]x509.KeyUsage{
	"digitalSignature": x509.KeyUsageDigitalSignature, "nonRepudiation": x509.KeyUsageContentCommitment,
	"keyEncipherment": x509.KeyUsageKeyEncipherment, "dataEncipherment": x509.KeyUsageDataEncipherment,
	"keyAgreement": x509.KeyUsageKeyAgreement, "keyCertSign": x509.KeyUsageCertSign, "cRLSign": x509.KeyUsageCRLSign,
	"encipherOnly": x509.KeyUsageEncipherOnly, "decipherOnly": x509.KeyUsageDecipherOnly,
}

func (x *certX509) usage() (u x509.KeyUsage, err error) {
	for _, name := range x.KeyUsage {
		bit, ok := keyUsages[name]
		if !ok {
			return 0, badParameter("Property policy.x509_props.key_usage has an invalid value '%s'.", shorten(name))
		}
		u |= bit
	}
	return u, nil
}

func (x *certX509) ekus() (oids []asn1.ObjectIdentifier, err error) {
	for _, text := range x.EKUs {
		oid, ok := parseOID(text)
		if !ok {
			return nil, badParameter("Property policy.x509_props.ekus has an invalid value '%s'.", shorten(text))
		}
		oids = append(oids, oid)
	}
	return oids, nil
}

func parseOID(text string) (asn1.ObjectIdentifier, bool) {
	parts := strings.Split(text, ".")
	if len(parts) < 2 || len(parts) > 32 {
		return nil, false
	}
	oid := make(asn1.ObjectIdentifier, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return nil, false
		}
		oid[i] = int(n)
	}
	_, err := asn1.Marshal(oid)
	return oid, err == nil
}

// apply puts the alternative names into a template.
func (s *certSANs) apply(c *x509.Certificate) error {
	if s == nil {
		return nil
	}
	if len(s.UPNs) > 0 {
		return badParameter("Property policy.x509_props.sans.upns is not supported.")
	}
	for _, ip := range s.IPs {
		addr := net.ParseIP(ip)
		if addr == nil {
			return badParameter("Property policy.x509_props.sans.ipAddresses has an invalid value '%s'.", shorten(ip))
		}
		c.IPAddresses = append(c.IPAddresses, addr)
	}
	for _, text := range s.URIs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" {
			return badParameter("Property policy.x509_props.sans.uris has an invalid value '%s'.", shorten(text))
		}
		c.URIs = append(c.URIs, u)
	}
	for _, name := range append(slices.Clone(s.DNSNames), s.Emails...) {
		for i := range len(name) { // IA5String
			if name[i] >= utf8.RuneSelf || name[i] <= ' ' {
				return badParameter("Property policy.x509_props.sans has an invalid value '%s'.", shorten(name))
			}
		}
	}
	c.DNSNames, c.EmailAddresses = s.DNSNames, s.Emails
	return nil
}

var attributeOIDs = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "SN": {2, 5, 4, 4}, "SERIALNUMBER": {2, 5, 4, 5}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7}, "ST": {2, 5, 4, 8}, "S": {2, 5, 4, 8},
	"STREET": {2, 5, 4, 9}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "T": {2, 5, 4, 12}, "G": {2, 5, 4, 42}, "GN": {2, 5, 4, 42},
	"DC": {0, 9, 2342, 19200300, 100, 1, 25}, "E": {1, 2, 840, 113549, 1, 9, 1}, "EMAIL": {1, 2, 840, 113549, 1, 9, 1}, "EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1},
}

// parseDN reads a distinguished name in string form (RFC 4514; also with
// quoted values, RFC 1779) into DER. The string names the most specific part
// first, DER has it last.
func parseDN(text string) ([]byte, error) {
	if len(text) > 1024 {
		return nil, errors.New("it is over 1024 characters")
	}
	parts, err := splitDN(text)
	if err != nil {
		return nil, err
	}
	var seq pkix.RDNSequence
	for _, part := range slices.Backward(parts) {
		name, value, ok := strings.Cut(part, "=")
		name = strings.ToUpper(strings.TrimSpace(name))
		oid, known := attributeOIDs[name]
		if ok && !known {
			oid, known = parseOID(strings.TrimPrefix(name, "OID."))
		}
		if !ok || !known {
			return nil, fmt.Errorf("%q is not <known attribute>=<value>", shorten(part))
		}
		value, err := unquoteDN(value)
		if err != nil {
			return nil, err
		}
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: stringOf(oid, value)}})
	}
	return asn1.Marshal(seq)
}

// stringOf chooses the ASN.1 string type: mail addresses and domain components
// are IA5String (RFC 5280 appendix A), the rest is as encoding/asn1 does it.
func stringOf(oid asn1.ObjectIdentifier, value string) any {
	if !oid.Equal(attributeOIDs["E"]) && !oid.Equal(attributeOIDs["DC"]) {
		return value
	}
	for i := range len(value) {
		if value[i] >= utf8.RuneSelf {
			return value
		}
	}
	return asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(value)}
}

// splitDN cuts at commas that are neither escaped nor quoted.
func splitDN(text string) ([]string, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8")
	}
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case ',', ';':
			if !quoted {
				parts, start = append(parts, text[start:i]), i+1
			}
		}
	}
	if quoted {
		return nil, errors.New("a quotation mark is not closed")
	}
	if last := text[start:]; strings.TrimSpace(last) != "" || len(parts) > 0 {
		parts = append(parts, last)
	}
	return parts, nil
}

func unquoteDN(value string) (string, error) {
	value = strings.TrimSpace(value)
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if i+1 == len(value) {
			return "", errors.New("it ends in a backslash")
		}
		if i+2 < len(value) {
			if n, err := strconv.ParseUint(value[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		i++
		b.WriteByte(value[i])
	}
	if out := b.String(); out != "" && utf8.ValidString(out) {
		return out, nil
	}
	return "", errors.New("a value is empty or not UTF-8")
}

// certMeta is what the store keeps for a certificate's name.
type certMeta struct {
	Policy  certPolicy `json:"policy"`
	Pending *pending   `json:"pending,omitempty"`
	// Noted is the notice that was given last.
	Noted string `json:"noted,omitempty"`
}

func readMeta(o Object) (m certMeta, err error) {
	if len(o.Meta) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(o.Meta, &m); err != nil {
		return m, fmt.Errorf("certificate %s: stored record: %w", o.Name, err)
	}
	return m, nil
}

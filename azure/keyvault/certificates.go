package keyvault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/route"
)

type certBundle struct {
	ID         string        `json:"id"`
	KID        string        `json:"kid,omitempty"`
	SID        string        `json:"sid,omitempty"`
	X5T        b64           `json:"x5t,omitempty"`
	CER        []byte        `json:"cer,omitempty"`
	Attributes attributesOut `json:"attributes"`
	Tags       tags          `json:"tags,omitempty"`
	Policy     *certPolicy   `json:"policy,omitempty"`
	Pending    *idOnly       `json:"pending,omitempty"`
}

type idOnly struct {
	ID string `json:"id"`
}

type deletedCertBundle struct {
	deletion
	certBundle
}

type certItem struct {
	ID         string        `json:"id"`
	X5T        b64           `json:"x5t,omitempty"`
	Subject    string        `json:"subject"`
	Attributes attributesOut `json:"attributes"`
	Tags       tags          `json:"tags,omitempty"`
}

type deletedCertItem struct {
	deletion
	certItem
}

func (s *Server) certBundle(o Object, version string, k *certRecord) (certBundle, error) {
	meta, err := readMeta(o)
	if err != nil {
		return certBundle{}, err
	}
	b := certBundle{ID: s.url("certificates", o.Name, version), KID: s.url("keys", o.Name, version), SID: s.url("secrets", o.Name, version),
		X5T: k.X5T, CER: k.CER, Attributes: s.show(k.Attributes), Tags: k.Tags, Policy: &meta.Policy}
	if p := meta.Pending; p != nil && p.Version == version {
		b.Pending = &idOnly{s.url("certificates", o.Name, "pending")}
	}
	return b, nil
}

func (s *Server) certItem(id string, k *certRecord) certItem {
	item := certItem{ID: id, X5T: k.X5T, Attributes: s.show(k.Attributes), Tags: k.Tags}
	if c, err := x509.ParseCertificate(k.CER); err == nil {
		item.Subject = c.Subject.String()
	}
	return item
}

func (s *Server) deletedCertificate(ctx context.Context, o Object) (any, error) {
	o, v, err := s.store.Get(ctx, Certificates, o.Name, "")
	if err != nil {
		return nil, err
	}
	var k certRecord
	if v.ID != "" { // else it was deleted while it was pending
		if err := json.Unmarshal(v.Data, &k); err != nil {
			return nil, fmt.Errorf("certificate %s: stored record: %w", o.Name, err)
		}
	}
	bundle, err := s.certBundle(o, v.ID, &k)
	if err != nil || o.State == Live {
		return bundle, err
	}
	return deletedCertBundle{s.deletion(o), bundle}, nil
}

type createCertIn struct {
	Policy     *certPolicy   `json:"policy"`
	Attributes *attributesIn `json:"attributes"`
	Tags       tags          `json:"tags"`
}

// createCertificate starts a certificate: issuer Self is completed at once,
// though the answer says in progress as the real service does; issuer Unknown
// waits for somebody to sign the request and merge the result.
func (s *Server) createCertificate(c *call, r *http.Request) (int, any, error) {
	var in createCertIn
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if in.Policy == nil {
		return 0, nil, badParameter("Property policy is required.")
	}
	if err := errors.Join(in.Policy.check(), in.Attributes.check(), in.Tags.check()); err != nil {
		return 0, nil, err
	}
	ctx, now := r.Context(), s.now()
	policy := certPolicy{}.merge(in.Policy).complete(now.Unix())
	self := strings.EqualFold(policy.Issuer.Name, "Self")
	if !self && !strings.EqualFold(policy.Issuer.Name, "Unknown") {
		return 0, nil, badParameter("The issuer '%s' is not known to this vault: use Self or Unknown.", shorten(policy.Issuer.Name))
	}
	if _, err := policy.template(); err != nil { // before the work of making a key
		return 0, nil, err
	}
	if err := s.mayWrite(ctx, Certificates, c.name); err != nil {
		return 0, nil, err
	}
	key, reused, abandon, err := s.keyForCertificate(ctx, c.name, &policy)
	if err != nil {
		return 0, nil, err
	}
	p, new, err := s.prepare(&policy, key, self, in)
	if err == nil {
		var fresh hsm.KeyID
		if !reused {
			fresh = key.ID()
		}
		if !self {
			p.Token = fresh
		}
		err = s.startCertificate(ctx, c, &policy, p, new, fresh)
	}
	if err != nil {
		abandon()
		return 0, nil, err
	}
	c.Header().Set("Location", s.url("certificates", c.name, "pending")+"?api-version="+apiVersion(r.URL.RawQuery)+"&request_id="+p.RequestID)
	c.Header().Set("Retry-After", "10")
	shown := *p
	shown.Status = inProgress
	return http.StatusAccepted, s.operationOut(c.name, &shown), nil
}

// prepare makes the request and, for issuer Self, the certificate.
func (s *Server) prepare(policy *certPolicy, key hsm.Key, self bool, in createCertIn) (*pending, *certified, error) {
	csr, err := policy.request(key)
	if err != nil {
		return nil, nil, err
	}
	public := keyRecord{}
	if err := public.take(key); err != nil {
		return nil, nil, err
	}
	p := &pending{RequestID: strings.ReplaceAll(uuid(), "-", ""), CSR: csr, Issuer: *policy.Issuer, Status: inProgress, Version: newVersion(),
		Public: &public, Attributes: in.Attributes, Tags: in.Tags}
	if !self {
		return p, nil, nil
	}
	leaf, err := policy.selfSigned(key, s.now())
	if err != nil {
		return nil, nil, err
	}
	p.Status = completed
	return p, &certified{version: p.Version, policy: policy, chain: []*x509.Certificate{leaf}, key: public, token: key, attrs: in.Attributes, tags: in.Tags}, nil
}

// startCertificate writes the operation, and with it the certificate if it is
// there already. fresh is the key that was made for it, "" if it has an older
// one.
func (s *Server) startCertificate(ctx context.Context, c *call, policy *certPolicy, p *pending, new *certified, fresh hsm.KeyID) error {
	return s.update(ctx, c.name, func(tx Tx) error {
		if err := c.stillSo(tx); err != nil {
			return err
		}
		if fresh != "" {
			if err := tx.Spare(fresh); err != nil {
				return err
			}
		}
		o, err := s.certForWriting(tx, c.name)
		if err != nil {
			return err
		}
		meta, err := readMeta(o)
		if err != nil {
			return err
		}
		if meta.Pending != nil && meta.Pending.Status == inProgress {
			return conflict("", "Certificate %s has a pending operation that is in progress: complete it with a merge, or delete it.", c.name)
		}
		if err := s.dropPending(tx, meta.Pending); err != nil {
			return err
		}
		created := meta.Policy.Attributes
		meta.Policy, meta.Pending = *policy, p
		if created != nil && created.Created != 0 {
			meta.Policy.Attributes.Created = created.Created
		}
		if o.Meta, err = json.Marshal(meta); err != nil {
			return err
		}
		if new == nil {
			return tx.Put(o)
		}
		_, err = s.publish(ctx, tx, o, *new)
		return err
	})
}

// certForWriting is forWriting for a certificate, whose key and secret must be
// its own.
func (s *Server) certForWriting(tx Tx, name string) (Object, error) {
	_, err := tx.Object(Certificates, name)
	if errors.Is(err, ErrNoObject) {
		for _, kind := range []Kind{Keys, Secrets} {
			twin, err := s.forWriting(tx, kind, name)
			if err != nil {
				return Object{}, err
			}
			if twin.Current != "" {
				return Object{}, conflict("", "A %s with the name %s exists in this vault and is not that of a certificate.", strings.ToLower(kind.noun()), name)
			}
		}
	} else if err != nil {
		return Object{}, err
	}
	return s.forWriting(tx, Certificates, name)
}

// dropPending dooms the key of an operation that will not be completed.
func (s *Server) dropPending(tx Tx, p *pending) error {
	if p == nil || p.Token == "" {
		return nil
	}
	return tx.Doom(p.Token, s.now().UnixNano())
}

// pendingOf reads a live certificate and its operation.
func (s *Server) pendingOf(tx Tx, name string) (o Object, meta certMeta, err error) {
	if o, err = live(tx, Certificates, name); err != nil {
		var wire *rest.Error
		if errors.As(err, &wire) {
			err = pendingNotFound(name)
		}
		return o, meta, err
	}
	if meta, err = readMeta(o); err == nil && meta.Pending == nil {
		err = pendingNotFound(name)
	}
	return o, meta, err
}

func pendingNotFound(name string) *rest.Error {
	return rest.Errorf(http.StatusNotFound, "PendingCertificateNotFound", "Pending certificate not found: %s", name)
}

func (s *Server) getPending(c *call, r *http.Request) (int, any, error) {
	o, _, err := s.store.Get(r.Context(), Certificates, c.name, "")
	if errors.Is(err, ErrNoObject) || err == nil && o.State != Live {
		return 0, nil, pendingNotFound(c.name)
	}
	if err != nil {
		return 0, nil, err
	}
	meta, err := readMeta(o)
	if err != nil {
		return 0, nil, err
	}
	if meta.Pending == nil {
		return 0, nil, pendingNotFound(c.name)
	}
	if meta.Pending.Status == inProgress {
		c.Header().Set("Retry-After", "10")
	}
	return http.StatusOK, s.operationOut(o.Name, meta.Pending), nil
}

func (s *Server) updatePending(c *call, r *http.Request) (int, any, error) {
	var in struct {
		Cancel bool `json:"cancellation_requested"`
	}
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	var body any
	err := s.update(r.Context(), c.name, func(tx Tx) error {
		o, meta, err := s.pendingOf(tx, c.name)
		if err != nil {
			return err
		}
		p := meta.Pending
		if in.Cancel && p.Status == completed {
			return conflict("", "The operation of certificate %s is completed and cannot be cancelled.", c.name)
		}
		if in.Cancel && p.Status == inProgress {
			p.Cancelled, p.Status = true, cancelled
		}
		body = s.operationOut(o.Name, p)
		o.Meta, err = json.Marshal(meta)
		return errors.Join(err, tx.Put(o))
	})
	return http.StatusOK, body, err
}

func (s *Server) deletePending(c *call, r *http.Request) (int, any, error) {
	var body any
	var gone hsm.KeyID
	err := s.update(r.Context(), c.name, func(tx Tx) error {
		o, meta, err := s.pendingOf(tx, c.name)
		if err != nil {
			return err
		}
		body, gone = s.operationOut(o.Name, meta.Pending), meta.Pending.Token
		if err := s.dropPending(tx, meta.Pending); err != nil {
			return err
		}
		if o.Current == "" {
			return tx.Delete(Certificates, o.Name)
		}
		meta.Pending = nil
		o.Meta, err = json.Marshal(meta)
		return errors.Join(err, tx.Put(o))
	})
	if err != nil {
		return 0, nil, err
	}
	if gone != "" {
		s.destroy(context.WithoutCancel(r.Context()), gone)
	}
	return http.StatusOK, body, nil
}

type mergeIn struct {
	Certificates x5c           `json:"x5c"`
	Attributes   *attributesIn `json:"attributes"`
	Tags         tags          `json:"tags"`
}

// mergeCertificate completes a pending operation with the signed certificate.
func (s *Server) mergeCertificate(c *call, r *http.Request) (int, any, error) {
	var in mergeIn
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if len(in.Certificates) == 0 {
		return 0, nil, badParameter("Property x5c is required.")
	}
	if err := errors.Join(in.Attributes.check(), in.Tags.check()); err != nil {
		return 0, nil, err
	}
	ctx := r.Context()
	var body any
	err := s.update(ctx, c.name, func(tx Tx) error {
		o, meta, err := s.pendingOf(tx, c.name)
		if err != nil {
			return err
		}
		p := meta.Pending
		if p.Status != inProgress {
			return conflict("", "The operation of certificate %s is %s: there is nothing to merge with.", c.name, p.Status)
		}
		public, err := p.Public.public()
		if err != nil {
			return err
		}
		new := certified{version: p.Version, policy: &meta.Policy, key: *p.Public, attrs: p.Attributes, tags: p.Tags}
		if new.chain, err = certChain(in.Certificates, public); err != nil {
			return err
		}
		if in.Attributes != nil {
			new.attrs = in.Attributes
		}
		if in.Tags != nil {
			new.tags = in.Tags
		}
		p.Status, p.Token = completed, ""
		if o.Meta, err = json.Marshal(meta); err != nil {
			return err
		}
		record, err := s.publish(ctx, tx, o, new)
		if err != nil {
			return err
		}
		c.objectID = s.url("certificates", o.Name, new.version)
		body, err = s.certBundle(o, new.version, record)
		return err
	})
	return http.StatusCreated, body, err
}

type importCertIn struct {
	Value      string        `json:"value"`
	Password   string        `json:"pwd"`
	Policy     *certPolicy   `json:"policy"`
	Attributes *attributesIn `json:"attributes"`
	Tags       tags          `json:"tags"`
}

func (s *Server) importCertificate(c *call, r *http.Request) (int, any, error) {
	var in importCertIn
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if err := errors.Join(in.Policy.check(), in.Attributes.check(), in.Tags.check()); err != nil {
		return 0, nil, err
	}
	m, chain, contentType, err := readBundle(in.Value, in.Password)
	if err != nil {
		return 0, nil, err
	}
	defer m.Wipe()
	policy := importedPolicy(m, chain[0], contentType).merge(in.Policy).complete(s.now().Unix())
	policy.Secret = &certSecret{contentType}
	spec, err := policy.spec(s.cfg.SKU)
	if err != nil {
		return 0, nil, err
	}
	if got := m.Spec(); got.Type != spec.Type || got.Bits != spec.Bits || got.Curve != spec.Curve {
		return 0, nil, badParameter("The key of the certificate is not the one that policy.key_props describes.")
	}
	ctx := r.Context()
	key, abandon, err := s.newKey(ctx, func(id hsm.KeyID) (hsm.Key, error) { return s.token.Import(ctx, id, m, spec.Exportable) })
	if err != nil {
		return 0, nil, err
	}
	new := certified{version: newVersion(), policy: &policy, chain: chain, token: key, attrs: in.Attributes, tags: in.Tags}
	var body any
	if err = new.key.take(key); err == nil {
		err = s.update(ctx, c.name, func(tx Tx) error {
			o, err := s.certForWriting(tx, c.name)
			if err != nil {
				return err
			}
			meta, err := readMeta(o)
			if err != nil {
				return err
			}
			meta.Policy = policy
			if o.Meta, err = json.Marshal(meta); err != nil {
				return err
			}
			record, err := s.publish(ctx, tx, o, new)
			if err != nil {
				return err
			}
			c.objectID = s.url("certificates", o.Name, new.version)
			body, err = s.certBundle(o, new.version, record)
			return errors.Join(err, tx.Spare(key.ID()))
		})
	}
	if err != nil {
		abandon()
		return 0, nil, err
	}
	return http.StatusOK, body, nil
}

// readBundle reads the value of an import: PEM, or base64 of a PFX or, as the
// Python clients send it, of PEM.
func readBundle(value, password string) (*hsm.Material, []*x509.Certificate, string, error) {
	bundle := []byte(value)
	if !isPEM(bundle) {
		var err error
		if bundle, err = base64.StdEncoding.DecodeString(value); err != nil || len(bundle) == 0 {
			return nil, nil, "", badParameter("Property value is neither a PEM file nor a base64 encoded PFX.")
		}
	}
	defer clear(bundle)
	contentType, read := contentPFX, func() (*hsm.Material, []*x509.Certificate, error) { return hsm.FromPFX(bundle, password) }
	if isPEM(bundle) {
		contentType, read = contentPEM, func() (*hsm.Material, []*x509.Certificate, error) { return hsm.FromPEM(bundle) }
	}
	m, chain, err := read()
	if err == nil {
		chain, err = leafFirst(m, chain)
	}
	return m, chain, contentType, badMaterial(err)
}

func isPEM(bundle []byte) bool { return bytes.Contains(bundle, []byte("-----BEGIN ")) }

func leafFirst(m *hsm.Material, chain []*x509.Certificate) ([]*x509.Certificate, error) {
	leaf := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return samePublic(c.PublicKey, m.Public()) })
	if leaf < 0 {
		return nil, badParameter("The private key does not belong to any of the certificates.")
	}
	return slices.Concat(chain[leaf:leaf+1], chain[:leaf], chain[leaf+1:]), nil
}

// importedPolicy describes a certificate that was made elsewhere.
func importedPolicy(m *hsm.Material, leaf *x509.Certificate, contentType string) certPolicy {
	key := &certKey{Exportable: ptr(true), Reuse: ptr(false)}
	switch pub := m.Public().(type) {
	case *rsa.PublicKey:
		key.Type, key.Size = "RSA", ptr(pub.N.BitLen())
	case *ecdsa.PublicKey:
		key.Type, key.Curve = "EC", pub.Curve.Params().Name
	}
	x := &certX509{Subject: leaf.Subject.String(), EKUs: []string{}, KeyUsage: []string{}}
	for name, bit := range keyUsages {
		if leaf.KeyUsage&bit != 0 {
			x.KeyUsage = append(x.KeyUsage, name)
		}
	}
	slices.Sort(x.KeyUsage)
	if len(leaf.DNSNames)+len(leaf.EmailAddresses) > 0 {
		x.SANs = &certSANs{DNSNames: leaf.DNSNames, Emails: leaf.EmailAddresses}
	}
	return certPolicy{Key: key, Secret: &certSecret{contentType}, X509: x, Issuer: &certIssuer{Name: "Unknown"}}
}

func (s *Server) getCertificate(c *call, r *http.Request) (int, any, error) {
	o, v, k, err := find[certRecord](r.Context(), s, Certificates, c.name, c.version)
	if err != nil {
		bundle, ok := s.startedCertificate(r.Context(), c.name, c.version)
		if !ok {
			return 0, nil, err
		}
		c.objectID = bundle.ID
		return http.StatusOK, bundle, nil
	}
	c.objectID = s.url("certificates", o.Name, v.ID)
	bundle, err := s.certBundle(o, v.ID, k)
	return http.StatusOK, bundle, err
}

// startedCertificate is what there is to see of a certificate whose first
// version waits for its signature: a disabled version with the policy and the
// operation, and neither a certificate nor a key nor a secret.
func (s *Server) startedCertificate(ctx context.Context, name, version string) (certBundle, bool) {
	o, _, err := s.store.Get(ctx, Certificates, name, "")
	if err != nil || o.State != Live || o.Current != "" {
		return certBundle{}, false
	}
	meta, err := readMeta(o)
	if p := meta.Pending; err != nil || p == nil || version != "" && version != p.Version {
		return certBundle{}, false
	}
	attrs := attributes{Created: meta.Policy.Attributes.Updated, Updated: meta.Policy.Attributes.Updated}
	return certBundle{ID: s.url("certificates", o.Name, meta.Pending.Version), Attributes: s.show(attrs), Tags: meta.Pending.Tags,
		Policy: &meta.Policy, Pending: &idOnly{s.url("certificates", o.Name, "pending")}}, true
}

// updateCertificate changes a version and what its key and secret show of it.
func (s *Server) updateCertificate(c *call, r *http.Request) (int, any, error) {
	var in createCertIn
	if err := decode(r, &in, true); err != nil {
		return 0, nil, err
	}
	if err := errors.Join(in.Policy.check(), in.Attributes.check(), in.Tags.check()); err != nil {
		return 0, nil, err
	}
	var body any
	err := s.update(r.Context(), c.name, func(tx Tx) error {
		now := s.now().Unix()
		edit := func(a *attributes, t *tags) error {
			a.apply(in.Attributes, now)
			if in.Tags != nil {
				*t = in.Tags
			}
			return nil
		}
		o, v, k, err := change(tx, Certificates, c.name, c.version, func(k *certRecord) error { return edit(&k.Attributes, &k.Tags) })
		if err != nil {
			return err
		}
		if _, _, _, err := change(tx, Keys, c.name, v.ID, func(k *keyRecord) error { return edit(&k.Attributes, &k.Tags) }); err != nil {
			return err
		}
		if _, _, _, err := change(tx, Secrets, c.name, v.ID, func(k *secretRecord) error { return edit(&k.Attributes, &k.Tags) }); err != nil {
			return err
		}
		if in.Policy != nil {
			if o, err = s.putPolicy(tx, o, in.Policy); err != nil {
				return err
			}
		}
		c.objectID = s.url("certificates", o.Name, v.ID)
		body, err = s.certBundle(o, v.ID, k)
		return err
	})
	return http.StatusOK, body, err
}

func (s *Server) putPolicy(tx Tx, o Object, in *certPolicy) (Object, error) {
	meta, err := readMeta(o)
	if err != nil {
		return o, err
	}
	created := meta.Policy.Attributes
	meta.Policy = meta.Policy.merge(in).complete(s.now().Unix())
	if created != nil && created.Created != 0 {
		meta.Policy.Attributes.Created = created.Created
	}
	if o.Meta, err = json.Marshal(meta); err != nil {
		return o, err
	}
	return o, tx.Put(o)
}

func (s *Server) policyOut(o Object) (certPolicy, error) {
	meta, err := readMeta(o)
	meta.Policy.ID = s.url("certificates", o.Name, "policy")
	return meta.Policy, err
}

func (s *Server) getPolicy(c *call, r *http.Request) (int, any, error) {
	o, _, err := s.store.Get(r.Context(), Certificates, c.name, "")
	if errors.Is(err, ErrNoObject) || err == nil && o.State != Live {
		return 0, nil, notFound(Certificates, c.name, "")
	}
	if err != nil {
		return 0, nil, err
	}
	policy, err := s.policyOut(o)
	return http.StatusOK, policy, err
}

func (s *Server) updatePolicy(c *call, r *http.Request) (int, any, error) {
	var in certPolicy
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	var body any
	err := s.update(r.Context(), c.name, func(tx Tx) error {
		o, err := live(tx, Certificates, c.name)
		if err != nil {
			return err
		}
		if o, err = s.putPolicy(tx, o, &in); err != nil {
			return err
		}
		body, err = s.policyOut(o)
		return err
	})
	return http.StatusOK, body, err
}

// listCertificates leaves out names that are only pending, unless the client
// asks for them: such a page may be shorter than it could be.
func (s *Server) listCertificates(state State, show func(Object, *certRecord) any) operation {
	return func(_ *call, r *http.Request) (int, any, error) {
		all := strings.EqualFold(r.URL.Query().Get("includePending"), "true")
		op := list(s, Certificates, state, func(o Object, k *certRecord) any {
			if o.Current == "" && !all {
				return nil
			}
			return show(o, k)
		})
		status, body, err := op(nil, r)
		if err != nil {
			return status, body, err
		}
		p := body.(page)
		p.Value = slices.DeleteFunc(p.Value.([]any), func(v any) bool { return v == nil })
		if all && p.NextLink != nil {
			*p.NextLink += "&includePending=true"
		}
		return status, p, nil
	}
}

func (s *Server) certificateRoutes(add adder) {
	const read = actionCert + "read"
	add("CertificateCreate", http.MethodPost, "/certificates/{name}/create", actionCert+"create/action", normalBody, slow, s.createCertificate)
	add("CertificateImport", http.MethodPost, "/certificates/{name}/import", actionCert+"import/action", largeBody, slow, s.importCertificate)
	add("CertificateList", http.MethodGet, "/certificates", read, route.NoBody, quick,
		s.listCertificates(Live, func(o Object, k *certRecord) any { return s.certItem(s.url("certificates", o.Name), k) }))
	add("CertificateListVersions", http.MethodGet, "/certificates/{name}/versions", read, route.NoBody, quick,
		listVersionsOf(s, Certificates, func(o Object, v string, k *certRecord) certItem {
			return s.certItem(s.url("certificates", o.Name, v), k)
		}))
	withVersion(add, "CertificateGet", http.MethodGet, "/certificates", "", read, route.NoBody, s.getCertificate)
	withVersion(add, "CertificateUpdate", http.MethodPatch, "/certificates", "", actionCert+"update/action", normalBody, s.updateCertificate)
	add("CertificatePolicyGet", http.MethodGet, "/certificates/{name}/policy", read, route.NoBody, quick, s.getPolicy)
	add("CertificatePolicyUpdate", http.MethodPatch, "/certificates/{name}/policy", actionCert+"update/action", normalBody, quick, s.updatePolicy)
	add("CertificatePendingGet", http.MethodGet, "/certificates/{name}/pending", read, route.NoBody, quick, s.getPending)
	add("CertificatePendingUpdate", http.MethodPatch, "/certificates/{name}/pending", actionCert+"update/action", smallBody, quick, s.updatePending)
	add("CertificatePendingDelete", http.MethodDelete, "/certificates/{name}/pending", actionCert+"delete", smallBody, quick, s.deletePending)
	add("CertificatePendingMerge", http.MethodPost, "/certificates/{name}/pending/merge", actionCert+"create/action", largeBody, quick, s.mergeCertificate)
	add("CertificateDelete", http.MethodDelete, "/certificates/{name}", actionCert+"delete", smallBody, quick, s.remove(Certificates, s.deletedCertificate))
	s.deletedFamily(add, Certificates, actionCert, read, s.deletedCertificate, s.listCertificates(Deleted, func(o Object, k *certRecord) any {
		return deletedCertItem{s.deletion(o), s.certItem(s.url("certificates", o.Name), k)}
	}))
}

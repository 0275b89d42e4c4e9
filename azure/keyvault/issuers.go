package keyvault

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"verdant/azure/rest"
	"verdant/internal/route"
)

// Certificate contacts and issuers are objects of kinds of their own, without
// versions, soft deletion or key. Their addresses lie among those of
// certificates, where no mux could tell them from a certificate's parts
// ("/certificates/issuers/policy"): rewrite moves them out of the way.
const (
	issuers  Kind = "issuers"
	contacts Kind = "contacts"

	issuersPath  = "/certificate-issuers"
	contactsPath = "/certificate-contacts"
)

// rewrite gives contacts and issuers a path of their own. A client that asks
// for such a path itself gets what it would for any unknown one.
func rewrite(path string) string {
	if strings.HasPrefix(path, "/certificate-") {
		return "/"
	}
	rest, ok := strings.CutPrefix(path, "/certificates/")
	if !ok {
		return path
	}
	switch first, more, deeper := strings.Cut(rest, "/"); {
	case first == string(contacts) && !deeper:
		return contactsPath
	case first == string(issuers) && !deeper:
		return issuersPath
	case first == string(issuers) && !strings.Contains(more, "/"):
		return issuersPath + "/" + more
	}
	return path
}

func (s *Server) issuerRoutes(add adder) {
	// The roles know one action for everything about contacts.
	const contact, ca = actions + "certificatecontacts/write", actions + "certificatecas/"
	add("CertificateContactsGet", http.MethodGet, contactsPath, contact, route.NoBody, quick, s.getContacts)
	add("CertificateContactsSet", http.MethodPut, contactsPath, contact, normalBody, quick, s.setContacts)
	add("CertificateContactsDelete", http.MethodDelete, contactsPath, contact, smallBody, quick, s.deleteContacts)
	add("CertificateIssuersList", http.MethodGet, issuersPath, ca+"read", route.NoBody, quick, s.listIssuers)
	add("CertificateIssuerGet", http.MethodGet, issuersPath+"/{issuer}", ca+"read", route.NoBody, quick, s.getIssuer)
	add("CertificateIssuerSet", http.MethodPut, issuersPath+"/{issuer}", ca+"write", normalBody, quick, s.setIssuer)
	add("CertificateIssuerUpdate", http.MethodPatch, issuersPath+"/{issuer}", ca+"write", normalBody, quick, s.updateIssuer)
	add("CertificateIssuerDelete", http.MethodDelete, issuersPath+"/{issuer}", ca+"delete", smallBody, quick, s.deleteIssuer)
}

type contactList struct {
	ID       string    `json:"id,omitempty"`
	Contacts []contact `json:"contacts"`
}

type contact struct {
	Email string `json:"email,omitempty"`
	Name  string `json:"name,omitempty"`
	Phone string `json:"phone,omitempty"`
}

const (
	maxContacts = 100
	maxField    = 256 // characters of a contact's or an issuer's member
)

func (l *contactList) check() error {
	if len(l.Contacts) == 0 || len(l.Contacts) > maxContacts {
		return badParameter("Property contacts must have 1 to %d elements.", maxContacts)
	}
	for _, c := range l.Contacts {
		if !strings.Contains(c.Email, "@") {
			return badParameter("Property contacts has an element without an email address.")
		}
		if err := short("contacts", c.Email, c.Name, c.Phone); err != nil {
			return err
		}
	}
	return nil
}

func short(property string, values ...string) error {
	for _, v := range values {
		if len(v) > maxField {
			return badParameter("Property %s has a member of over %d characters.", property, maxField)
		}
	}
	return nil
}

// readMetaObject reads an object that is nothing but its Meta.
func readMetaObject[T any](s *Server, r *http.Request, kind Kind, name string, absent error) (v T, err error) {
	o, _, err := s.store.Get(r.Context(), kind, name, "")
	if errors.Is(err, ErrNoObject) {
		return v, absent
	}
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(o.Meta, &v)
}

func putMetaObject(tx Tx, kind Kind, name string, v any) error {
	meta, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(Object{Kind: kind, Name: name, Meta: meta})
}

func (s *Server) contactsOut(l contactList) contactList {
	l.ID = s.url("certificates", "contacts")
	return l
}

var errNoContacts = rest.Errorf(http.StatusNotFound, "ContactsNotFound", "Contacts not found")

func (s *Server) getContacts(_ *call, r *http.Request) (int, any, error) {
	l, err := readMetaObject[contactList](s, r, contacts, string(contacts), errNoContacts)
	return http.StatusOK, s.contactsOut(l), err
}

func (s *Server) setContacts(_ *call, r *http.Request) (int, any, error) {
	var in contactList
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	in.ID = ""
	err := s.store.Update(r.Context(), func(tx Tx) error { return putMetaObject(tx, contacts, string(contacts), in) })
	return http.StatusOK, s.contactsOut(in), err
}

func (s *Server) deleteContacts(_ *call, r *http.Request) (int, any, error) {
	l, err := readMetaObject[contactList](s, r, contacts, string(contacts), errNoContacts)
	if err != nil {
		return 0, nil, err
	}
	err = s.store.Update(r.Context(), func(tx Tx) error { return tx.Delete(contacts, string(contacts)) })
	return http.StatusOK, s.contactsOut(l), err
}

// issuer is a certificate issuer as it is on the wire. Its password is never
// kept: no provider is contacted, so it would only be a secret to lose.
type issuer struct {
	ID           string             `json:"id,omitempty"`
	Provider     string             `json:"provider,omitempty"`
	Credentials  *issuerCredentials `json:"credentials,omitempty"`
	Organization *organization      `json:"org_details,omitempty"`
	Attributes   *issuerAttributes  `json:"attributes,omitempty"`
}

type issuerCredentials struct {
	Account string `json:"account_id,omitempty"`
}

type organization struct {
	ID     string          `json:"id,omitempty"`
	Admins []administrator `json:"admin_details,omitempty"`
}

type administrator struct {
	FirstName string `json:"first_name,omitempty"`
	LastName  string `json:"last_name,omitempty"`
	Email     string `json:"email,omitempty"`
	Phone     string `json:"phone,omitempty"`
}

type issuerAttributes struct {
	Enabled *bool `json:"enabled,omitempty"`
	Created int64 `json:"created,omitempty"`
	Updated int64 `json:"updated,omitempty"`
}

func (i *issuer) check() error {
	err := short("provider", i.Provider)
	if i.Credentials != nil {
		err = errors.Join(err, short("credentials", i.Credentials.Account))
	}
	if o := i.Organization; o != nil {
		err = errors.Join(err, short("org_details", o.ID))
		if len(o.Admins) > maxContacts {
			return badParameter("Property admin_details has over %d elements.", maxContacts)
		}
		for _, a := range o.Admins {
			err = errors.Join(err, short("admin_details", a.FirstName, a.LastName, a.Email, a.Phone))
		}
	}
	return err
}

// apply lays a request over an issuer, part by part.
func (i *issuer) apply(in issuer, now int64) {
	if in.Provider != "" {
		i.Provider = in.Provider
	}
	if in.Credentials != nil {
		i.Credentials = in.Credentials
	}
	if in.Organization != nil {
		i.Organization = in.Organization
	}
	if i.Attributes == nil {
		i.Attributes = &issuerAttributes{Enabled: ptr(true), Created: now}
	}
	if in.Attributes != nil && in.Attributes.Enabled != nil {
		i.Attributes.Enabled = in.Attributes.Enabled
	}
	i.Attributes.Updated = now
}

func issuerName(r *http.Request) (string, error) {
	name := r.PathValue("issuer")
	if !validName(name) {
		return "", badParameter("The request URI contains an invalid name: %s", shorten(name))
	}
	return name, nil
}

func noIssuer(name string) error {
	return rest.Errorf(http.StatusNotFound, "CertificateIssuerNotFound", "Issuer not found: %s", name)
}

func (s *Server) issuerOut(name string, i issuer) issuer {
	i.ID = s.url("certificates", "issuers", name)
	return i
}

func (s *Server) getIssuer(_ *call, r *http.Request) (int, any, error) {
	name, err := issuerName(r)
	if err != nil {
		return 0, nil, err
	}
	i, err := readMetaObject[issuer](s, r, issuers, name, noIssuer(name))
	return http.StatusOK, s.issuerOut(name, i), err
}

func (s *Server) setIssuer(_ *call, r *http.Request) (int, any, error) {
	return s.writeIssuer(r, func(tx Tx, name string, in issuer) (issuer, error) {
		if in.Provider == "" {
			return issuer{}, badParameter("Property provider is required.")
		}
		var fresh issuer
		fresh.apply(in, s.now().Unix())
		return fresh, nil
	})
}

func (s *Server) updateIssuer(_ *call, r *http.Request) (int, any, error) {
	return s.writeIssuer(r, func(tx Tx, name string, in issuer) (old issuer, err error) {
		o, err := tx.Object(issuers, name)
		if errors.Is(err, ErrNoObject) {
			return old, noIssuer(name)
		}
		if err == nil {
			err = json.Unmarshal(o.Meta, &old)
		}
		old.apply(in, s.now().Unix())
		return old, err
	})
}

func (s *Server) writeIssuer(r *http.Request, make func(tx Tx, name string, in issuer) (issuer, error)) (int, any, error) {
	name, err := issuerName(r)
	if err != nil {
		return 0, nil, err
	}
	var in, out issuer
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	err = s.store.Update(r.Context(), func(tx Tx) (err error) {
		if out, err = make(tx, name, in); err != nil {
			return err
		}
		return putMetaObject(tx, issuers, name, out)
	})
	return http.StatusOK, s.issuerOut(name, out), err
}

func (s *Server) deleteIssuer(_ *call, r *http.Request) (int, any, error) {
	name, err := issuerName(r)
	if err != nil {
		return 0, nil, err
	}
	i, err := readMetaObject[issuer](s, r, issuers, name, noIssuer(name))
	if err != nil {
		return 0, nil, err
	}
	err = s.store.Update(r.Context(), func(tx Tx) error { return tx.Delete(issuers, name) })
	return http.StatusOK, s.issuerOut(name, i), err
}

type issuerItem struct {
	ID       string `json:"id"`
	Provider string `json:"provider,omitempty"`
}

func (s *Server) listIssuers(_ *call, r *http.Request) (int, any, error) {
	after, limit, err := paging(r)
	if err != nil {
		return 0, nil, err
	}
	entries, err := s.store.List(r.Context(), issuers, Live, after, limit+1)
	if err != nil {
		return 0, nil, err
	}
	p, err := newPage(s, r, limit, entries, func(e Entry) string { return fold(e.Object.Name) }, func(e Entry) (issuerItem, error) {
		var i issuer
		err := json.Unmarshal(e.Object.Meta, &i)
		return issuerItem{s.url("certificates", "issuers", e.Object.Name), i.Provider}, err
	})
	if p.NextLink != nil {
		*p.NextLink = strings.Replace(*p.NextLink, issuersPath, "/certificates/issuers", 1)
	}
	return http.StatusOK, p, err
}

package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// maxSecret is the largest secret value in bytes.
const maxSecret = 25600

// secretRecord is what the store keeps for a secret version; its value is
// sealed beside it.
type secretRecord struct {
	ContentType *string    `json:"contentType,omitempty"`
	Attributes  attributes `json:"attributes"`
	Tags        tags       `json:"tags,omitempty"`
	Managed     bool       `json:"managed,omitempty"`
	KID         string     `json:"kid,omitempty"`
	Previous    string     `json:"previousVersion,omitempty"`
}

type secretBundle struct {
	Value       *string       `json:"value,omitempty"`
	ID          string        `json:"id"`
	ContentType *string       `json:"contentType,omitempty"`
	Attributes  attributesOut `json:"attributes"`
	Tags        tags          `json:"tags,omitempty"`
	KID         string        `json:"kid,omitempty"`
	Managed     bool          `json:"managed,omitempty"`
	Previous    string        `json:"previousVersion,omitempty"`
}

type deletedSecretBundle struct {
	deletion
	secretBundle
}

func (s *Server) secretBundle(id string, k *secretRecord) secretBundle {
	return secretBundle{ID: id, ContentType: k.ContentType, Attributes: s.show(k.Attributes), Tags: k.Tags, KID: k.KID, Managed: k.Managed, Previous: k.Previous}
}

// secretItem is a secret in a list: it names no key.
func (s *Server) secretItem(id string, k *secretRecord) secretBundle {
	return secretBundle{ID: id, ContentType: k.ContentType, Attributes: s.show(k.Attributes), Tags: k.Tags, Managed: k.Managed}
}

func (s *Server) deletedSecret(ctx context.Context, o Object) (any, error) {
	o, v, err := s.store.Get(ctx, Secrets, o.Name, "")
	if err != nil {
		return nil, err
	}
	var k secretRecord
	if err := json.Unmarshal(v.Data, &k); err != nil {
		return nil, fmt.Errorf("secret %s: stored record: %w", o.Name, err)
	}
	bundle := s.secretBundle(s.url("secrets", o.Name, v.ID), &k)
	if o.State == Live {
		return bundle, nil
	}
	return deletedSecretBundle{s.deletion(o), bundle}, nil
}

type setSecretIn struct {
	Value       *string       `json:"value"`
	ContentType *string       `json:"contentType"`
	Attributes  *attributesIn `json:"attributes"`
	Tags        tags          `json:"tags"`
}

func checkContentType(t *string) error {
	if t != nil && len(*t) > 255 {
		return badParameter("Property contentType is over 255 characters.")
	}
	return nil
}

func (s *Server) setSecret(c *call, r *http.Request) (int, any, error) {
	var in setSecretIn
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if in.Value == nil {
		return 0, nil, badParameter("Property value is required.")
	}
	if len(*in.Value) > maxSecret {
		return 0, nil, badParameter("The secret value is over the maximum of %d bytes.", maxSecret)
	}
	if err := errors.Join(in.Attributes.check(), in.Tags.check(), checkContentType(in.ContentType)); err != nil {
		return 0, nil, err
	}
	record := secretRecord{ContentType: in.ContentType, Attributes: in.Attributes.fresh(s.now().Unix()), Tags: in.Tags}
	v := Version{ID: newVersion(), Created: record.Attributes.Created}
	var err error
	if v.Value, err = s.seal(r.Context(), Secrets, c.name, v.ID, *in.Value); err != nil {
		return 0, nil, err
	}
	name := c.name
	err = s.update(r.Context(), c.name, func(tx Tx) error {
		if managed, err := isManaged(tx, Secrets, c.name); err != nil || managed {
			return errors.Join(err, onlyIf(managed, managedBy("set", Secrets)))
		}
		o, err := s.forWriting(tx, Secrets, c.name)
		if err != nil {
			return err
		}
		name = o.Name
		return add(tx, o, v, record)
	})
	if err != nil {
		return 0, nil, err
	}
	c.objectID = s.url("secrets", name, v.ID)
	bundle := s.secretBundle(c.objectID, &record)
	bundle.Value = in.Value
	return http.StatusOK, secretAnswer(bundle), nil
}

func (s *Server) getSecret(c *call, r *http.Request) (int, any, error) {
	o, v, k, err := find[secretRecord](r.Context(), s, Secrets, c.name, c.version)
	if err != nil {
		return 0, nil, err
	}
	c.objectID = s.url("secrets", o.Name, v.ID)
	if !k.Attributes.Enabled {
		return 0, nil, disabled("get", Secrets)
	}
	value, err := s.unseal(r.Context(), Secrets, o.Name, v.ID, v.Value)
	if err != nil {
		return 0, nil, err
	}
	bundle := s.secretBundle(c.objectID, k)
	bundle.Value = &value
	if strings.Contains(r.URL.RawQuery, outContentType) && knowsOutContentType(c.api) {
		err = bundle.convert(r.URL.Query().Get(outContentType))
	}
	return http.StatusOK, secretAnswer(bundle), err
}

// outContentType is the parameter that asks for the value in another form, in
// the api-versions that know it.
const outContentType = "outContentType"

func knowsOutContentType(api string) bool { return strings.HasPrefix(api, "20") }

// convert turns a certificate in PKCS #12 without a password into PEM, which is
// the one conversion that the service has.
func (b *secretBundle) convert(want string) error {
	have := ""
	if b.ContentType != nil {
		have = *b.ContentType
	}
	switch {
	case want == "":
		return nil
	case want != contentPEM && want != contentPFX:
		return badParameter("The outContentType parameter has an invalid value '%s'.", shorten(want))
	case have != contentPEM && have != contentPFX:
		return badParameter("The outContentType parameter is for the secrets of certificates: the content type of this one is '%s'.", shorten(have))
	case want == have:
		return nil
	case want == contentPFX:
		return badParameter("The outContentType parameter has an unsupported value '%s': PEM is not converted to PFX.", want)
	}
	text, err := pemOfPFX(*b.Value)
	if err != nil {
		return badParameter("The value of this secret cannot be converted: it is not PKCS #12 without a password.")
	}
	b.Value, b.ContentType = &text, &want
	return nil
}

type updateSecretIn struct {
	ContentType *string       `json:"contentType"`
	Attributes  *attributesIn `json:"attributes"`
	Tags        tags          `json:"tags"`
}

func (s *Server) updateSecret(c *call, r *http.Request) (int, any, error) {
	var in updateSecretIn
	if err := decode(r, &in, true); err != nil {
		return 0, nil, err
	}
	if err := errors.Join(in.Attributes.check(), in.Tags.check(), checkContentType(in.ContentType)); err != nil {
		return 0, nil, err
	}
	var body any
	err := s.update(r.Context(), c.name, func(tx Tx) error {
		o, v, k, err := change(tx, Secrets, c.name, c.version, func(k *secretRecord) error {
			if k.Managed {
				return managedBy("update", Secrets)
			}
			if in.ContentType != nil {
				k.ContentType = in.ContentType
			}
			if in.Tags != nil {
				k.Tags = in.Tags
			}
			k.Attributes.apply(in.Attributes, s.now().Unix())
			return nil
		})
		if err != nil {
			return err
		}
		c.objectID = s.url("secrets", o.Name, v.ID)
		body = s.secretBundle(c.objectID, k)
		return nil
	})
	return http.StatusOK, body, err
}

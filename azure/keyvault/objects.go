package keyvault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"verdant/hsm"
)

// operation is the body of a route: it gives the status and the JSON of the
// answer, or an error.
type operation func(c *call, r *http.Request) (status int, body any, err error)

func (op operation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := callOf(w)
	status, body, err := op(c, r)
	switch {
	case err != nil:
		c.fail(err)
	case body == nil:
		c.WriteHeader(status)
	default:
		c.answerJSON(status, body)
	}
}

// find reads a live object with one of its versions ("" is the current one)
// and decodes what the kind keeps for the version.
func find[R any](ctx context.Context, s *Server, kind Kind, name, version string) (Object, Version, *R, error) {
	hit, epoch, ok := s.cache.get(kind, name, version)
	if ok {
		return hit.object, hit.version, hit.record.(*R), nil
	}
	o, v, err := s.store.Get(ctx, kind, name, version)
	if errors.Is(err, ErrNoObject) || errors.Is(err, ErrNoVersion) || err == nil && (o.State != Live || v.ID == "") {
		return Object{}, Version{}, nil, notFound(kind, name, version)
	}
	if err != nil {
		return Object{}, Version{}, nil, err
	}
	record := new(R)
	if err := json.Unmarshal(v.Data, record); err != nil {
		return Object{}, Version{}, nil, fmt.Errorf("%s %s: stored record: %w", kind, name, err)
	}
	s.cache.put(kind, name, version, epoch, cached{o, v, record})
	return o, v, record, nil
}

// update runs a transaction that changes one name, in every kind that shares
// it, and takes the name out of the cache before it returns.
func (s *Server) update(ctx context.Context, name string, fn func(Tx) error) error {
	defer func() {
		for _, kind := range []Kind{Keys, Secrets, Certificates} {
			s.cache.drop(kind, name)
		}
	}()
	return s.store.Update(ctx, fn)
}

// forWriting returns a name's live object inside a transaction, or a new one
// where the name is free. A deleted object whose time has come makes room.
func (s *Server) forWriting(tx Tx, kind Kind, name string) (Object, error) {
	o, err := tx.Object(kind, name)
	switch {
	case errors.Is(err, ErrNoObject):
		return Object{Kind: kind, Name: name}, nil
	case err != nil:
		return Object{}, err
	case o.State == Live:
		return o, nil
	case o.PurgeOn > s.now().Unix():
		return Object{}, nameIsDeleted(kind, name)
	}
	if err := s.purgeIn(tx, o); err != nil {
		return Object{}, err
	}
	return Object{Kind: kind, Name: name}, nil
}

// live returns a name's live object inside a transaction.
func live(tx Tx, kind Kind, name string) (Object, error) {
	o, err := tx.Object(kind, name)
	if errors.Is(err, ErrNoObject) || err == nil && o.State != Live {
		return Object{}, notFound(kind, name, "")
	}
	return o, err
}

// change rewrites the record of one version ("" is the current one) inside a
// transaction.
func change[R any](tx Tx, kind Kind, name, version string, fn func(*R) error) (Object, Version, *R, error) {
	o, err := live(tx, kind, name)
	if err != nil {
		return Object{}, Version{}, nil, err
	}
	if version == "" {
		version = o.Current
	}
	v, err := tx.Version(kind, name, version)
	if errors.Is(err, ErrNoVersion) {
		return Object{}, Version{}, nil, notFound(kind, name, version)
	}
	if err != nil {
		return Object{}, Version{}, nil, err
	}
	record := new(R)
	if err := json.Unmarshal(v.Data, record); err != nil {
		return Object{}, Version{}, nil, fmt.Errorf("%s %s: stored record: %w", kind, name, err)
	}
	if err := fn(record); err != nil {
		return Object{}, Version{}, nil, err
	}
	if v.Data, err = json.Marshal(record); err != nil {
		return Object{}, Version{}, nil, err
	}
	return o, v, record, tx.PutVersion(kind, name, v)
}

// add makes a version the current one of o inside a transaction.
func add(tx Tx, o Object, v Version, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	v.Data, o.Current = data, v.ID
	return errors.Join(tx.PutVersion(o.Kind, o.Name, v), tx.Put(o))
}

// newKey makes a key in the token so that a crash at any point leaves no key
// without an owner: it is doomed first, made, and spared in the transaction
// that gives it an owner (use Tx.Spare there). abandon destroys it when that
// transaction did not happen.
func (s *Server) newKey(ctx context.Context, make func(hsm.KeyID) (hsm.Key, error)) (k hsm.Key, abandon func(), err error) {
	id := hsm.NewKeyID()
	if err := s.store.Update(ctx, func(tx Tx) error { return tx.Doom(id, s.now().UnixNano()) }); err != nil {
		return nil, nil, err
	}
	abandon = func() { s.destroy(context.WithoutCancel(ctx), id) }
	if k, err = make(id); err != nil {
		abandon()
		return nil, nil, err
	}
	return k, abandon, nil
}

// destroy deletes doomed keys from the token. One that got an owner in the
// meantime stays. What does not work now is tried again later: the key stays
// doomed.
func (s *Server) destroy(ctx context.Context, ids ...hsm.KeyID) {
	for _, id := range ids {
		var doomed bool
		err := s.store.Update(ctx, func(tx Tx) (err error) {
			doomed, err = tx.Condemn(id)
			return err
		})
		if err != nil || !doomed {
			continue
		}
		if err := s.token.Delete(ctx, id); err == nil {
			_ = s.store.Update(ctx, func(tx Tx) error { return tx.Destroyed(id) })
		}
	}
}

// page is the answer to a list.
type page struct {
	Value    any     `json:"value"`
	NextLink *string `json:"nextLink"`
}

const maxPage = 25

// paging reads maxresults and the place to go on from.
func paging(r *http.Request) (after string, limit int, err error) {
	query := r.URL.Query()
	limit = maxPage
	if text := query.Get("maxresults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return "", 0, badParameter("The maxresults parameter must be a number from 1 to %d.", maxPage)
		}
		limit = n
	}
	if token := query.Get("$skiptoken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || !validName(string(raw)) {
			return "", 0, badParameter("The $skiptoken parameter is not one that this vault gave out.")
		}
		after = string(raw)
	}
	return after, limit, nil
}

// newPage cuts a list that was read one longer than its limit, and links to
// the rest.
func newPage[E, V any](s *Server, r *http.Request, limit int, found []E, key func(E) string, show func(E) (V, error)) (page, error) {
	more := len(found) > limit
	if more {
		found = found[:limit]
	}
	values := make([]V, 0, len(found))
	for _, e := range found {
		v, err := show(e)
		if err != nil {
			return page{}, err
		}
		values = append(values, v)
	}
	p := page{Value: values}
	if more {
		query := url.Values{"api-version": {apiVersion(r.URL.RawQuery)}, "maxresults": {strconv.Itoa(limit)},
			"$skiptoken": {base64.RawURLEncoding.EncodeToString([]byte(key(found[limit-1])))}}
		link := "https://" + s.host + r.URL.Path + "?" + query.Encode()
		p.NextLink = &link
	}
	return p, nil
}

// list answers with a page of the objects of a kind.
func list[R, V any](s *Server, kind Kind, state State, show func(Object, *R) V) operation {
	return func(_ *call, r *http.Request) (int, any, error) {
		after, limit, err := paging(r)
		if err != nil {
			return 0, nil, err
		}
		entries, err := s.store.List(r.Context(), kind, state, after, limit+1)
		if err != nil {
			return 0, nil, err
		}
		p, err := newPage(s, r, limit, entries, func(e Entry) string { return fold(e.Object.Name) }, func(e Entry) (v V, err error) {
			record := new(R)
			if len(e.Version.Data) > 0 {
				if err := json.Unmarshal(e.Version.Data, record); err != nil {
					return v, fmt.Errorf("%s %s: stored record: %w", kind, e.Object.Name, err)
				}
			}
			return show(e.Object, record), nil
		})
		return http.StatusOK, p, err
	}
}

// listVersions answers with a page of the versions of a name.
func listVersionsOf[R, V any](s *Server, kind Kind, show func(Object, string, *R) V) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		after, limit, err := paging(r)
		if err != nil {
			return 0, nil, err
		}
		o, _, err := s.store.Get(r.Context(), kind, c.name, "")
		if errors.Is(err, ErrNoObject) || err == nil && o.State != Live {
			return 0, nil, notFound(kind, c.name, "")
		}
		if err != nil {
			return 0, nil, err
		}
		versions, err := s.store.Versions(r.Context(), kind, c.name, after, limit+1)
		if err != nil {
			return 0, nil, err
		}
		p, err := newPage(s, r, limit, versions, func(v Version) string { return v.ID }, func(v Version) (out V, err error) {
			record := new(R)
			if err := json.Unmarshal(v.Data, record); err != nil {
				return out, fmt.Errorf("%s %s: stored record: %w", kind, c.name, err)
			}
			return show(o, v.ID, record), nil
		})
		return http.StatusOK, p, err
	}
}

package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"verdant/trustlist"
)

// filter selects entries; empty fields select all.
type filter struct {
	kind    trustlist.CertificateType
	country string
}

func (f filter) selects(e entry) bool {
	return (f.kind == "" || f.kind == e.kind) && (f.country == "" || f.country == e.country)
}

// document is an encoded answer and its strong entity tag.
type document struct {
	body []byte
	etag string
}

func newDocument(body []byte) document {
	sum := sha256.Sum256(body)
	return document{body, `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// whole returns the list without tombstones, encoded once per filter. Only
// countries that are on the list are remembered, so callers cannot make the
// memory grow.
func (l *list) whole(f filter) document {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.encoded[f]; ok {
		return d
	}
	var some []entry
	for _, e := range l.entries {
		if f.selects(e) && !e.deleted {
			some = append(some, e)
		}
	}
	d := encode(some)
	if len(some) > 0 {
		l.encoded[f] = d
	}
	return d
}

// since returns the entries that changed at a time or after it, tombstones
// included.
func (l *list) since(f filter, t time.Time) []entry {
	var some []entry
	for _, e := range l.entries {
		if f.selects(e) && !e.changed.Before(t.Truncate(time.Second)) {
			some = append(some, e)
		}
	}
	return some
}

func encode(entries []entry) document {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.json)
	}
	b.WriteByte(']')
	return newDocument(b.Bytes())
}

// send answers with a document, or with 304 if the caller has it.
func send(w http.ResponseWriter, r *http.Request, d document) {
	h := w.Header()
	h.Set("ETag", d.etag)
	h.Set("Cache-Control", "no-cache")
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == d.etag || tag == "*" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(d.body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(d.body)
	}
}

// getTrustList answers GET /trustList, /trustList/{type} and
// /trustList/{type}/{country}.
func (s *Server) getTrustList(w http.ResponseWriter, r *http.Request) error {
	f, err := filterOf(r)
	if err != nil {
		return err
	}
	page, size, paged, err := paging(r)
	if err != nil {
		return err
	}
	since, delta, err := modifiedSince(r)
	if err != nil {
		return err
	}
	l, err := s.trust.current(r.Context())
	if err != nil {
		return err
	}
	if !paged && !delta {
		send(w, r, l.whole(f))
		return nil
	}
	var some []entry
	if delta {
		some = l.since(f, since)
	} else {
		for _, e := range l.entries {
			if f.selects(e) && !e.deleted {
				some = append(some, e)
			}
		}
	}
	if paged {
		some = cut(some, page, size)
	}
	send(w, r, encode(some))
	return nil
}

// cut returns one page; pages past the end are empty.
func cut(entries []entry, page, size int) []entry {
	if page > len(entries)/size {
		return nil
	}
	from := page * size
	return entries[from:min(len(entries), from+min(size, len(entries)-from))]
}

func filterOf(r *http.Request) (f filter, err error) {
	if kind := r.PathValue("type"); kind != "" {
		switch f.kind = trustlist.CertificateType(strings.ToUpper(kind)); f.kind {
		case trustlist.Authentication, trustlist.Upload, trustlist.CSCA, trustlist.DSCType:
		default:
			return f, &badRequest{http.StatusBadRequest, "type must be one of AUTHENTICATION, UPLOAD, CSCA, DSC"}
		}
	}
	if country := r.PathValue("country"); country != "" {
		if f.country, err = parameterCountry(country); err != nil {
			return f, err
		}
	}
	return f, nil
}

func parameterCountry(v string) (string, error) {
	if len(v) != 2 {
		return "", problemf(http.StatusBadRequest, "0x001", "Validation Error", "", "the country must have two letters")
	}
	return strings.ToUpper(v), nil
}

// paging reads page and pagesize. Either makes the answer a page: page counts
// from 0, the size is 100 if it is absent. Negative numbers count as absent.
func paging(r *http.Request) (page, size int, paged bool, err error) {
	page, size = -1, -1
	for name, to := range map[string]*int{"page": &page, "pagesize": &size} {
		if v := r.URL.Query().Get(name); v != "" {
			if *to, err = strconv.Atoi(v); err != nil {
				return 0, 0, false, &badRequest{http.StatusBadRequest, name + " must be a number"}
			}
		}
	}
	if page < 0 && size < 0 {
		return 0, 0, false, nil
	}
	if size == 0 {
		return 0, 0, false, problemf(http.StatusBadRequest, "0x001", "Validation Error", "0", "pagesize must be at least 1")
	}
	if size < 0 {
		size = 100
	}
	return max(page, 0), size, true, nil
}

// modifiedSince reads If-Modified-Since, which on this interface asks for a
// delta, in the form of ISO 8601 or of RFC 9110.
func modifiedSince(r *http.Request) (t time.Time, ok bool, err error) {
	v := r.Header.Get("If-Modified-Since")
	if v == "" {
		return t, false, nil
	}
	if t, err = time.Parse(time.RFC3339, v); err == nil {
		return t, true, nil
	}
	if t, err = http.ParseTime(v); err == nil {
		return t, true, nil
	}
	return t, false, &badRequest{http.StatusBadRequest, "If-Modified-Since must be a date and time with an offset (ISO 8601) or in the form of RFC 9110"}
}

// getIssuers answers GET /trustList/issuers. Ireland's deployment knows no
// trusted issuers, so the list is empty; the parameter is checked.
func (s *Server) getIssuers(w http.ResponseWriter, r *http.Request) error {
	for _, v := range r.URL.Query()["country"] {
		for c := range strings.SplitSeq(v, ",") {
			if _, err := parameterCountry(c); err != nil {
				return err
			}
		}
	}
	send(w, r, newDocument([]byte("[]")))
	return nil
}

// getCountries answers GET /countrylist with the countries that have at least
// one trusted party.
func (s *Server) getCountries(w http.ResponseWriter, r *http.Request) error {
	l, err := s.trust.current(r.Context())
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteByte('[')
	for i, c := range l.countries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(c))
	}
	b.WriteByte(']')
	send(w, r, newDocument(b.Bytes()))
	return nil
}

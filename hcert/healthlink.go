package hcert

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// HealthLink is a Verifiable Health Link, or the SMART Health Link that it is
// made after: where an encrypted document can be fetched, and the key to it.
// Who has the link has the document, so treat it as a secret.
type HealthLink struct {
	URL string
	// Key is base64url of the 32-byte content key.
	Key string
	// Expires is the zero time if the link does not say.
	Expires time.Time
	// Flag holds L (long-term), P (a passcode is needed) and U (a file instead
	// of a manifest).
	Flag    string
	Label   string
	Version int
	// Link is the whole link if it came as text, such as "vhlink:/…" or
	// "shlink:/…"; it is written back as it came.
	Link string
}

// HealthLinks is the content of sub-claim 5. Most have one link.
type HealthLinks []HealthLink

// Profile returns ProfileHealthLink.
func (h HealthLinks) Profile() Profile { return ProfileHealthLink }

// String names the profile only: a link is a secret.
func (h HealthLinks) String() string { return string(ProfileHealthLink) }

// maxLinks bounds the links of one certificate.
const maxLinks = 16

// readLinks reads the forms in use: the link's fields as a map, its text, and
// lists of either, as the WHO's validator wants them.
func readLinks(v any) (HealthLinks, bool) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) == 0 || len(list) > maxLinks {
		return nil, false
	}
	var out HealthLinks
	for _, v := range list {
		link, ok := readLink(v)
		if !ok {
			return nil, false
		}
		out = append(out, link)
	}
	return out, true
}

func readLink(v any) (HealthLink, bool) {
	switch v := v.(type) {
	case string:
		return ParseHealthLink(v)
	case map[string]any:
		if s, ok := v["u"].(string); ok {
			return ParseHealthLink(s)
		}
		return linkOf(v), true
	}
	return HealthLink{}, false
}

func linkOf(m map[string]any) HealthLink {
	h := HealthLink{URL: text(m, "url"), Key: text(m, "key"), Flag: text(m, "flag"), Label: text(m, "label"), Version: number(m, "v")}
	if n := seconds(m["exp"]); n > 0 {
		h.Expires = time.Unix(n, 0).UTC()
	}
	return h
}

// seconds reads an epoch time in seconds, or in milliseconds, as some issuers
// write it.
func seconds(v any) int64 {
	var n int64
	switch v := v.(type) {
	case int64:
		n = v
	case float64:
		if v > 0 && v < 1<<53 {
			n = int64(v)
		}
	}
	if n > maxNumericDate {
		n /= 1000
	}
	if n < 0 || n > maxNumericDate {
		return 0
	}
	return n
}

// ParseHealthLink reads the text of a link: "vhlink:/" or "shlink:/" and
// base64url of a JSON object, with or without padding; a viewer's address may
// precede it with "#". ok is false if it is none.
func ParseHealthLink(s string) (h HealthLink, ok bool) {
	if len(s) > maxJSON {
		return h, false
	}
	body := s
	if _, after, found := strings.Cut(s, "#"); found && strings.HasPrefix(s, "https://") {
		body = after
	}
	body, ok = strings.CutPrefix(body, "vhlink:/")
	if !ok {
		if body, ok = strings.CutPrefix(body, "shlink:/"); !ok {
			return h, false
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimLeft(body, "/"), "="))
	if err != nil {
		return h, false
	}
	tree, err := ParseTree(bytes.TrimSpace(raw))
	if err != nil {
		return h, false
	}
	h = linkOf(tree)
	h.Link = s
	return h, true
}

// Text returns the link as text: as it came, or "vhlink:/…".
func (h HealthLink) Text() string {
	if h.Link != "" {
		return h.Link
	}
	body, _ := json.Marshal(h.tree()) // texts and numbers always encode
	return "vhlink:/" + base64.RawURLEncoding.EncodeToString(body)
}

func (h HealthLink) tree() map[string]any {
	m := map[string]any{}
	putText(m, "url", h.URL)
	putText(m, "key", h.Key)
	putText(m, "flag", h.Flag)
	putText(m, "label", h.Label)
	if !h.Expires.IsZero() {
		m["exp"] = h.Expires.Unix()
	}
	if h.Version != 0 {
		m["v"] = int64(h.Version)
	}
	return m
}

// Tree is the links as JSON would hold them: one as a map, as IHE's profile
// has it; one that came as text, and several, in the WHO's list.
func (h HealthLinks) Tree() any {
	if len(h) == 1 && h[0].Link == "" {
		return h[0].tree()
	}
	list := make([]any, len(h))
	for i, link := range h {
		if link.Link == "" {
			list[i] = link.tree()
		} else {
			list[i] = map[string]any{"u": link.Link}
		}
	}
	return list
}

// maxLabel is SMART Health Links' bound.
const maxLabel = 80

// Check demands a link with an address. Whether it is to be followed is for
// the caller to say: it may lead anywhere.
func (h HealthLinks) Check() error {
	c := demand{profile: ProfileHealthLink}
	c.that(len(h) > 0 && len(h) <= maxLinks, "", "must have from 1 to 16 links")
	for i, link := range h {
		at := at{"link", i}.String()
		u, err := url.Parse(link.URL)
		c.that(err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil, at+".url", "must be an address of the web")
		c.that(utf8.RuneCountInString(link.Label) <= maxLabel, at+".label", "must not be longer than 80 characters")
		c.that(strings.Trim(link.Flag, "LPU") == "", at+".flag", "must consist of L, P and U")
	}
	return c.err()
}

package portal

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// Bounds of sessions. All of them are in memory: a restart signs everybody
// out.
const (
	maxSessions = 5000
	maxForms    = 16
	sessionIdle = 30 * time.Minute
	sessionLife = 8 * time.Hour
)

// person is who signed in.
type person struct {
	objectID string
	name     string
	upn      string
	roles    []string
}

// session is one browser's sign-in.
type session struct {
	person
	csrf  string // what API callers with the cookie must send back
	since time.Time

	// Under the lock of sessions.
	used  time.Time
	forms []string // of pages that were shown and not submitted yet
}

// sessions keeps the newest maxSessions sessions by the digest of their
// cookie. It is safe for concurrent use.
type sessions struct {
	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*list.Element
	order list.List // of *entry, least recently used first
}

type entry struct {
	key [sha256.Size]byte
	*session
}

func newSessions() *sessions { return &sessions{byKey: map[[sha256.Size]byte]*list.Element{}} }

func (s *sessions) add(cookie string, p person, csrf string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.order.Len() >= maxSessions {
		s.remove(s.order.Front())
	}
	key := sha256.Sum256([]byte(cookie))
	s.byKey[key] = s.order.PushBack(&entry{key, &session{person: p, csrf: csrf, since: now, used: now}})
}

func (s *sessions) remove(e *list.Element) {
	if e == nil {
		return
	}
	delete(s.byKey, e.Value.(*entry).key)
	s.order.Remove(e)
}

// get returns the session of a cookie if it has not ended, and counts it as
// used.
func (s *sessions) get(cookie string, now time.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[sha256.Sum256([]byte(cookie))]
	if e == nil {
		return nil
	}
	found := e.Value.(*entry).session
	if now.Sub(found.used) >= sessionIdle || now.Sub(found.since) >= sessionLife {
		s.remove(e)
		return nil
	}
	found.used = now
	s.order.MoveToBack(e)
	return found
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(s.byKey[sha256.Sum256([]byte(cookie))])
}

// offerForm remembers the id of a form that is about to be shown; the oldest
// one is forgotten.
func (s *sessions) offerForm(of *session, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(of.forms) >= maxForms {
		of.forms = of.forms[1:]
	}
	of.forms = append(of.forms, id)
}

// takeForm reports whether the session was shown this form and has not
// submitted it yet; then it has now.
func (s *sessions) takeForm(of *session, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, known := range of.forms {
		if known == id && id != "" {
			of.forms = append(of.forms[:i:i], of.forms[i+1:]...)
			return true
		}
	}
	return false
}

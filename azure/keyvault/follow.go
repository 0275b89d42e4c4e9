package keyvault

import (
	"context"
	"time"

	"verdant/hsm"
)

const (
	// followEvery is how often a server asks what the others wrote.
	followEvery = 200 * time.Millisecond
	// believed is how long after such a question was asked the cache is
	// believed. A server that gets no answers, because the database is away or
	// the machine is busy, reads every object from the store instead of telling
	// what may be old: no answer is staler than this.
	believed = 900 * time.Millisecond
)

// follow keeps the cache of a server whose store others write too: it takes
// out what they wrote. It ends with ctx.
func (s *Server) follow(ctx context.Context) error {
	var revision uint64
	for ctx.Err() == nil {
		if next, err := s.Follow(ctx, revision); err == nil {
			revision = next
		}
		wait(ctx, followEvery)
	}
	return nil
}

// Follow takes out of the caches what other servers wrote after a revision of
// the shared store, and returns the revision that the caches then are of. Run
// does it several times a second.
func (s *Server) Follow(ctx context.Context, revision uint64) (uint64, error) {
	asked := s.now()
	changes, err := s.shared.Changes(ctx, revision)
	if err != nil {
		return revision, err
	}
	if changes.All || changes.Revision < revision { // or the database is another one
		s.cache.clear()
	}
	for _, c := range changes.Objects {
		if c.Kind == TokenKeys {
			if f, ok := s.token.(hsm.Forgetter); ok {
				f.Forget(hsm.KeyID(c.Name))
			}
			continue
		}
		s.cache.drop(c.Kind, c.Name)
	}
	s.cache.believe(asked.Add(believed))
	return changes.Revision, nil
}

package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Split returns a token that keeps in hardware what hardware can protect, and
// in software what it cannot: keys that may be exported, whose bytes must come
// out again; keys on P-256K, which most hardware lacks; and the symmetric keys
// of Ensure, with which a service seals each value that it stores. An id names
// one key in both together. Two callers who create under one id at once, one in
// each part, are not told apart; ids from NewKeyID do not meet.
//
// Software is asked first for a key, once: it answers from its directory, and
// its keys work while the hardware is away.
func Split(hardware, software Token) Token {
	return &split{hardware: hardware, software: software, away: map[KeyID]bool{}}
}

type split struct {
	hardware, software Token

	mu   sync.RWMutex
	away map[KeyID]bool // keys that software did not have and hardware had
}

// place returns the token that a new key goes to and the one that must not
// have its id.
func (s *split) place(id KeyID, spec KeySpec) (home, other Token) {
	if spec.Exportable || spec.Type == Oct && id.labelled() || spec.Curve == P256K {
		return s.software, s.hardware
	}
	return s.hardware, s.software
}

func (s *split) create(ctx context.Context, id KeyID, spec KeySpec, in func(home Token) (Key, error)) (Key, error) {
	if err := errors.Join(id.Check(), spec.Check()); err != nil {
		return nil, fmt.Errorf("create key %s: %w", id, err)
	}
	home, other := s.place(id, spec)
	switch _, err := other.Key(ctx, id); {
	case err == nil:
		return nil, fmt.Errorf("create key %s: %w", id, ErrExists)
	case !errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("create key %s: %w", id, err)
	}
	return in(home)
}

// Generate implements Token.
func (s *split) Generate(ctx context.Context, id KeyID, spec KeySpec) (Key, error) {
	return s.create(ctx, id, spec, func(home Token) (Key, error) { return home.Generate(ctx, id, spec) })
}

// Import implements Token.
func (s *split) Import(ctx context.Context, id KeyID, m *Material, exportable bool) (Key, error) {
	spec := m.Spec()
	spec.Exportable = exportable
	return s.create(ctx, id, spec, func(home Token) (Key, error) { return home.Import(ctx, id, m, exportable) })
}

// Key implements Token.
func (s *split) Key(ctx context.Context, id KeyID) (Key, error) {
	s.mu.RLock()
	away := s.away[id]
	s.mu.RUnlock()
	if away {
		if k, err := s.hardware.Key(ctx, id); !errors.Is(err, ErrNotFound) {
			return k, err
		}
	}
	k, err := s.software.Key(ctx, id)
	if !errors.Is(err, ErrNotFound) {
		return k, err
	}
	if k, err = s.hardware.Key(ctx, id); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.away) >= maxParsed {
			clear(s.away) // they will be looked for again
		}
		s.away[id] = true
	}
	return k, err
}

// Delete implements Token.
func (s *split) Delete(ctx context.Context, id KeyID) error {
	return errors.Join(s.software.Delete(ctx, id), s.hardware.Delete(ctx, id))
}

// Export implements Token.
func (s *split) Export(ctx context.Context, id KeyID) (*Material, error) {
	m, err := s.software.Export(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return s.hardware.Export(ctx, id)
	}
	return m, err
}

// Forget implements Forgetter for the keys in the software token.
func (s *split) Forget(id KeyID) {
	if f, ok := s.software.(Forgetter); ok {
		f.Forget(id)
	}
}

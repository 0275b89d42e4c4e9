package keyvault

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verdant/azure/rest"
)

const (
	maxCachedObjects = 4096
	maxCachedTokens  = 4096
	maxCachedValue   = 4 << 10 // bytes of a version that is kept in memory
	// tokenTrust is how long a token that verified once is believed without
	// looking at its signature again.
	tokenTrust = 30 * time.Second
)

// cache keeps live objects that were read lately: the store's row and what the
// kind decoded from it. A write takes its object out before its answer leaves,
// so no answer is older than the writes acknowledged before the request. Where
// other servers write to the store, it is believed for a short time only after
// follow asked what they wrote.
type cache struct {
	now   func() time.Time // nil where nobody else writes
	until atomic.Pointer[time.Time]

	mu      sync.RWMutex
	objects map[string]map[string]cached // by kind/folded name, then version ("" is the current one)
	epoch   uint64                       // counts removals, so that a reader overtaken by one keeps nothing
}

type cached struct {
	object  Object
	version Version
	record  any
}

func newCache() *cache { return &cache{objects: map[string]map[string]cached{}} }

func cacheKey(kind Kind, name string) string { return string(kind) + "/" + strings.ToLower(name) }

func (c *cache) get(kind Kind, name, version string) (cached, uint64, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.objects[cacheKey(kind, name)][version]
	return e, c.epoch, ok && c.believed()
}

func (c *cache) believed() bool {
	if c.now == nil {
		return true
	}
	until := c.until.Load()
	return until != nil && c.now().Before(*until)
}

// believe says until when the cache is no older than it may be.
func (c *cache) believe(until time.Time) { c.until.Store(&until) }

func (c *cache) put(kind Kind, name, version string, epoch uint64, e cached) {
	if len(e.version.Data)+len(e.version.Value)+len(e.object.Meta) > maxCachedValue {
		return
	}
	key := cacheKey(kind, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return
	}
	if c.objects[key] == nil {
		if len(c.objects) >= maxCachedObjects {
			for k := range c.objects { // some object: it will be read again when it is used
				delete(c.objects, k)
				break
			}
		}
		c.objects[key] = map[string]cached{}
	}
	if len(c.objects[key]) < 8 {
		c.objects[key][version] = e
	}
}

func (c *cache) drop(kind Kind, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	delete(c.objects, cacheKey(kind, name))
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	clear(c.objects)
}

// tokenCache remembers for a short time which tokens verified. A role
// assignment that is taken away bites at once all the same: roles are looked
// at on every request.
type tokenCache struct {
	verifier TokenVerifier
	now      func() time.Time

	mu     sync.RWMutex
	tokens map[[32]byte]verified
}

type verified struct {
	caller rest.Caller
	until  time.Time
}

func newTokenCache(v TokenVerifier, now func() time.Time) *tokenCache {
	return &tokenCache{verifier: v, now: now, tokens: map[[32]byte]verified{}}
}

func (t *tokenCache) Verify(ctx context.Context, token string) (rest.Caller, error) {
	var room [2048]byte // for nearly every token: no copy of it is left to be collected
	id := sha256.Sum256(append(room[:0], token...))
	now := t.now()
	t.mu.RLock()
	v, ok := t.tokens[id]
	t.mu.RUnlock()
	if ok && now.Before(v.until) && now.After(v.until.Add(-2*tokenTrust)) {
		return v.caller, nil
	}
	caller, err := t.verifier.Verify(ctx, token)
	if err != nil {
		return rest.Caller{}, err
	}
	until := now.Add(tokenTrust)
	if caller.Expires.Before(until) {
		until = caller.Expires
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.tokens) >= maxCachedTokens {
		for k := range t.tokens {
			delete(t.tokens, k)
			break
		}
	}
	t.tokens[id] = verified{caller, until}
	return caller, nil
}

package client

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"verdant/azure/rest"
)

// TokenVerifier checks access tokens that the tenant's authority issued for
// one of the audiences. Signing keys are fetched from the authority over
// HTTPS on first use and kept.
func (p *Platform) TokenVerifier(audiences ...string) *rest.Verifier {
	authority := strings.TrimRight(p.cfg.AuthorityHost, "/") + "/" + p.cfg.TenantID
	p.mu.Lock()
	if p.keys == nil {
		p.keys = &keySet{url: authority + "/discovery/v2.0/keys", client: p.http, now: p.now}
	}
	keys := p.keys
	p.mu.Unlock()
	issuers := []string{authority + "/", authority + "/v2.0"}
	if p.cfg.TenantID != "" {
		// What Microsoft's own cloud writes into v1 tokens. The signature
		// still has to be by a key of our authority.
		issuers = append(issuers, "https://sts.windows.net/"+p.cfg.TenantID+"/")
	}
	return &rest.Verifier{Issuers: append(issuers, p.cfg.TokenIssuers...), Audiences: audiences, Keys: keys, Now: p.now}
}

const (
	// keysAge is how long fetched keys serve before they are asked for again.
	keysAge = 24 * time.Hour
	// keysPause is the least time between two fetches, so that tokens with
	// invented key ids cannot turn the pod against its authority.
	keysPause = 10 * time.Second
	// maxKeySet bounds the authority's answer.
	maxKeySet = 1 << 20
)

// keySet is the authority's JSON Web Key Set. A key that is known is answered
// from memory; an unknown one asks the authority, at most once in keysPause.
// A failing authority does not take known keys away.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu      sync.RWMutex
	keys    map[string]*rsa.PublicKey
	fetched time.Time // of the last success

	fetching sync.Mutex
	asked    time.Time // of the last attempt, under fetching
}

var errUnknownKey = errors.New("the authority publishes no key with this id")

// TokenKey implements rest.KeySource.
func (s *keySet) TokenKey(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	if key, fresh := s.lookup(kid); key != nil && fresh {
		return key, nil
	}
	err := s.refresh(ctx, kid)
	key, _ := s.lookup(kid)
	switch {
	case key != nil:
		return key, nil
	case err != nil:
		return nil, fmt.Errorf("signing keys of %s: %w", s.url, err)
	}
	return nil, errUnknownKey
}

func (s *keySet) lookup(kid string) (key *rsa.PublicKey, fresh bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys[kid], s.now().Sub(s.fetched) < keysAge
}

// refresh fetches the set unless another caller just did.
func (s *keySet) refresh(ctx context.Context, kid string) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	if key, fresh := s.lookup(kid); key != nil && fresh {
		return nil
	}
	if !s.asked.IsZero() && s.now().Sub(s.asked) < keysPause {
		return nil
	}
	keys, err := s.fetch(ctx)
	if ctx.Err() == nil {
		// A caller who went away has not used up the others' attempt.
		s.asked = s.now()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.fetched = keys, s.now()
	return nil
}

func (s *keySet) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the authority answered %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet))
	if err != nil {
		return nil, err
	}
	return parseKeySet(body)
}

// parseKeySet keeps the RSA signature keys of a set, by id.
func parseKeySet(body []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("key set is not JSON: %w", err)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		// Keys of kinds that we do not use are none of our business.
		if err := jwk.UnmarshalJSON(raw); err != nil || jwk.Use == "enc" || jwk.KeyID == "" {
			continue
		}
		if key, ok := jwk.Key.(*rsa.PublicKey); ok && key.N.BitLen() >= 2048 {
			keys[jwk.KeyID] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("key set holds no RSA signature key")
	}
	return keys, nil
}

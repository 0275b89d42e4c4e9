package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"verdant/hcert"
	"verdant/trustlist"
)

// reloadAfter is when the rows are read again although the revision did not
// change: a change that by-passed the gateway is noticed by then.
const reloadAfter = 30 * time.Second

// trust keeps the trust list in memory. Rows are verified when they are first
// seen; a row that did not change since is not verified again.
type trust struct {
	store  *store
	anchor *trustlist.Anchor
	log    *slog.Logger
	now    func() time.Time

	mu   sync.RWMutex
	list *list

	loading sync.Mutex // one reload at a time; guards verified
	// verified holds what was proven, by the hash of the whole row.
	verified map[[32]byte]proof
}

// proof is what was proven about one row; both are nil where nothing was.
type proof struct {
	party *trustlist.Party
	dsc   *trustlist.DSC
}

// list is one state of the trust list. It does not change after it was made,
// but for the encoded forms that it remembers.
type list struct {
	revision int64
	loaded   time.Time

	parties        *trustlist.Parties
	authentication map[string]*party // by thumbprint
	entries        []entry           // sorted by kid
	countries      []string

	mu      sync.Mutex
	encoded map[filter]document
}

// party is an authentication certificate that the anchor vouches for.
type party struct {
	country string
	cert    *x509.Certificate
}

// entry is one line of the list, encoded once.
type entry struct {
	kind    trustlist.CertificateType
	country string
	kid     string
	changed time.Time // created, or deleted for a tombstone; whole seconds
	deleted bool
	json    []byte
}

// current returns the list as the database has it now.
func (t *trust) current(ctx context.Context) (*list, error) {
	revision, err := t.store.revision(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the trust list's revision: %w", err)
	}
	if l := t.cached(revision); l != nil {
		return l, nil
	}
	t.loading.Lock()
	defer t.loading.Unlock()
	if l := t.cached(revision); l != nil {
		return l, nil
	}
	l, err := t.load(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("read the trust list: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = l
	return l, nil
}

func (t *trust) cached(revision int64) *list {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if l := t.list; l != nil && l.revision >= revision && t.now().Sub(l.loaded) < reloadAfter {
		return l
	}
	return nil
}

// load reads and verifies all rows. revision was read before them, so a change
// in between only means that the next request loads again.
func (t *trust) load(ctx context.Context, revision int64) (*list, error) {
	partyRows, err := t.store.parties(ctx)
	if err != nil {
		return nil, err
	}
	signerRows, err := t.store.signers(ctx)
	if err != nil {
		return nil, err
	}
	l := &list{revision: revision, loaded: t.now(), authentication: map[string]*party{}, encoded: map[filter]document{}}
	verified := make(map[[32]byte]proof, len(partyRows)+len(signerRows))
	var parties []*trustlist.Party
	for _, row := range partyRows {
		item := row.item()
		if row.deleted == 0 {
			p := t.provenParty(item, verified)
			if p == nil {
				continue
			}
			parties = append(parties, p)
			if row.kind == trustlist.Authentication {
				l.authentication[p.Thumbprint()] = &party{p.Country(), p.Certificate()}
			}
		}
		l.add(item, row.deleted != 0)
	}
	l.parties = trustlist.NewParties(parties...)
	for _, row := range signerRows {
		item := row.item()
		if row.deleted == 0 && t.provenSigner(item, l.parties, verified) == nil {
			continue
		}
		l.add(item, row.deleted != 0)
	}
	t.verified = verified
	slices.SortStableFunc(l.entries, func(a, b entry) int { return strings.Compare(a.kid, b.kid) })
	for _, p := range parties {
		l.countries = append(l.countries, p.Country())
	}
	slices.Sort(l.countries)
	l.countries = slices.Compact(l.countries)
	return l, nil
}

// provenParty verifies a row, or remembers that it did.
func (t *trust) provenParty(item trustlist.Item, verified map[[32]byte]proof) *trustlist.Party {
	key := rowHash(item)
	known, ok := t.verified[key]
	if !ok {
		p, err := t.anchor.VerifyParty(item)
		if err != nil {
			t.reject(item, err)
		}
		known = proof{party: p}
	}
	verified[key] = known
	return known.party
}

// provenSigner does the same for a document signer, whose proof also needs
// that its uploader and its CSCA are still trusted parties.
func (t *trust) provenSigner(item trustlist.Item, parties *trustlist.Parties, verified map[[32]byte]proof) *trustlist.DSC {
	key := rowHash(item)
	known, ok := t.verified[key]
	if !ok || known.dsc == nil || !holds(parties, known.dsc.Uploader()) || !holds(parties, known.dsc.CSCA()) {
		d, err := parties.VerifyDSC(item)
		if err != nil {
			t.reject(item, err)
		}
		known = proof{dsc: d}
	}
	verified[key] = known
	return known.dsc
}

func holds(parties *trustlist.Parties, p *trustlist.Party) bool {
	return slices.ContainsFunc(parties.Of(p.Country(), p.Type()), func(other *trustlist.Party) bool {
		return bytes.Equal(other.Certificate().Raw, p.Certificate().Raw)
	})
}

// reject records that a stored row is not served. Certificates of the trust
// list are public, so their names may be logged.
func (t *trust) reject(item trustlist.Item, err error) {
	t.log.Warn("row of the trust list is not served", "type", string(item.Type), "country", item.Country, "thumbprint", item.Thumbprint, "why", err.Error())
}

// rowHash binds a proof to everything that it depends on.
func rowHash(i trustlist.Item) [32]byte {
	return sha256.Sum256([]byte(strings.Join([]string{string(i.Type), i.Country, i.KID, i.Thumbprint, i.RawData, i.Signature}, "\x00")))
}

func (l *list) add(item trustlist.Item, deleted bool) {
	if deleted {
		item = item.Tombstone()
	}
	raw, err := json.Marshal(item)
	if err != nil {
		return // strings and a time always encode
	}
	l.entries = append(l.entries, entry{item.Type, item.Country, item.KID, item.Timestamp, deleted, raw})
}

func (p partyRow) item() trustlist.Item {
	return item(p.kind, p.country, p.thumbprint, p.created, p.deleted, p.rawData, p.signature)
}

func (r signerRow) item() trustlist.Item {
	i := item(trustlist.DSCType, r.country, r.thumbprint, r.created, r.deleted, r.rawData, r.signature)
	if kid, err := hex.DecodeString(r.kid); err == nil {
		i.KID = hcert.KID(kid).String()
	}
	return i
}

func item(kind trustlist.CertificateType, country, thumbprint string, created, deleted int64, der, cms []byte) trustlist.Item {
	i := trustlist.Item{Type: kind, Country: country, Thumbprint: thumbprint, Timestamp: time.UnixMicro(max(created, deleted)).UTC().Truncate(time.Second)}
	if sum, err := hex.DecodeString(thumbprint); err == nil && len(sum) == sha256.Size {
		i.KID = hcert.KID(sum[:8]).String()
	}
	if deleted == 0 {
		i.RawData, i.Signature = base64.StdEncoding.EncodeToString(der), base64.StdEncoding.EncodeToString(cms)
	}
	return i
}

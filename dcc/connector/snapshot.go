package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"verdant/trustlist"
)

// Snapshot is one state of the trust list. It does not change.
type Snapshot struct {
	// List holds the document signers, a hcert.KeySource.
	List *trustlist.List
	// Parties holds the trusted parties.
	Parties *trustlist.Parties
	// At is when the gateway last confirmed this state.
	At time.Time
	// Changed is when this state was first seen.
	Changed time.Time

	etag string
}

// ErrShrunk is wrapped when a download is refused because document signers
// are missing in it that the gateway does not list as deleted.
var ErrShrunk = errors.New("the downloaded trust list lacks document signers that were not deleted")

// Refresh downloads the trust list, proves it and makes it current. On an
// error the current one stays.
func (c *Connector) Refresh(ctx context.Context) error {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	return c.refresh(ctx)
}

// RefreshIfOlder is Refresh unless a download was tried within age, for
// callers who met a signer that is not on the list. Whoever waits for another
// caller's download takes its result.
func (c *Connector) RefreshIfOlder(ctx context.Context, age time.Duration) error {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	if !c.tried.IsZero() && c.now().Sub(c.tried) < age {
		return nil
	}
	return c.refresh(ctx)
}

func (c *Connector) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	defer func() { c.tried = c.now() }()
	old := c.Current()
	header := http.Header{}
	if old.etag != "" {
		header.Set("If-None-Match", old.etag)
	}
	resp, raw, err := c.do(ctx, http.MethodGet, "/trustList", header, "")
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusNotModified {
		confirmed := *old
		confirmed.At = c.now()
		c.snapshot.Store(&confirmed)
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("gateway %s: unexpected status %s", c.cfg.Gateway, resp.Status)
	}
	next, err := c.prove(raw)
	if err != nil {
		return fmt.Errorf("gateway %s: %w", c.cfg.Gateway, err)
	}
	if err := c.explainLoss(ctx, old, next); err != nil {
		return err
	}
	next.etag, next.At, next.Changed = resp.Header.Get("ETag"), c.now(), c.now()
	c.snapshot.Store(next)
	c.log.Info("trust list changed", "signers", len(next.List.DSCs()))
	c.save(raw, next)
	return nil
}

// prove parses and verifies a downloaded list.
func (c *Connector) prove(raw []byte) (*Snapshot, error) {
	var items []trustlist.Item
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, fmt.Errorf("the trust list is not what it should be: %w", err)
	}
	v := c.anchor.Verify(items)
	for _, r := range v.Rejected {
		c.log.Warn("entry of the trust list is not trusted", "type", string(r.Item.Type), "country", r.Item.Country, "kid", r.Item.KID, "why", r.Err.Error())
	}
	return &Snapshot{List: v.List, Parties: v.Parties}, nil
}

// explainLoss refuses a list that lost more than MaxLoss of the known signers,
// or all of them, unless the gateway lists the lost ones as deleted.
//
// Signers beyond their validity do not count: nothing they signed is valid.
// A smaller loss is taken as it is, because a withdrawn authority must take
// effect and the gateway of today does not signal it.
func (c *Connector) explainLoss(ctx context.Context, old, next *Snapshot) error {
	lost, known := map[string]bool{}, 0
	for _, d := range old.List.DSCs() {
		if d.Key().NotAfter.Before(c.now()) {
			continue
		}
		known++
		lost[d.Thumbprint()] = true
	}
	for _, d := range next.List.DSCs() {
		delete(lost, d.Thumbprint())
	}
	if len(lost) == 0 || (len(next.List.DSCs()) > 0 && float64(len(lost)) <= c.cfg.MaxLoss*float64(known)) {
		return nil
	}
	_, raw, err := c.do(ctx, http.MethodGet, "/trustList/DSC", http.Header{"If-Modified-Since": {time.Unix(0, 0).UTC().Format(time.RFC3339)}}, "")
	if err != nil {
		return fmt.Errorf("%w (%d of %d), and it could not be asked which were: %w", ErrShrunk, len(lost), known, err)
	}
	var items []trustlist.Item
	if err := json.Unmarshal(raw, &items); err != nil {
		return fmt.Errorf("%w (%d of %d), and the deletions could not be read: %w", ErrShrunk, len(lost), known, err)
	}
	for _, i := range items {
		if i.Deleted() {
			delete(lost, i.Thumbprint)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("%w: %d of %d", ErrShrunk, len(lost), known)
	}
	return nil
}

// stateFile is the name of the last good list in the volume.
const stateFile = "trustlist.json"

// state is what the volume keeps: the gateway's own bytes, to be proven anew.
type state struct {
	At   time.Time       `json:"at"`
	ETag string          `json:"etag"`
	List json.RawMessage `json:"list"`
}

// save keeps a list in the volume. It may fail: the list in memory is good,
// and the next start downloads it again.
func (c *Connector) save(raw []byte, s *Snapshot) {
	if c.volume == nil {
		return
	}
	body, err := json.Marshal(state{s.At, s.etag, raw})
	if err == nil {
		err = c.volume.Write(stateFile, body)
	}
	if err != nil {
		c.log.Error("the trust list was not saved", "why", err.Error())
	}
}

// restore loads the last good list. One that cannot be read is as good as
// none: the next download replaces it.
func (c *Connector) restore() {
	if c.volume == nil {
		return
	}
	body, err := c.volume.Read(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var st state
	var s *Snapshot
	if err == nil {
		err = json.Unmarshal(body, &st)
	}
	if err == nil {
		s, err = c.prove(st.List)
	}
	if err != nil {
		c.log.Error("the saved trust list cannot be used", "why", err.Error())
		return
	}
	s.At, s.Changed, s.etag = st.At, st.At, st.ETag
	c.snapshot.Store(s)
}

package arm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
)

// ReplicaConfig describes a process that obeys a control plane elsewhere.
type ReplicaConfig struct {
	// DB is the control plane's database, or one to which it is replicated.
	DB *sql.DB
	// Policy is replaced by what the control plane says. Services of this
	// process decide by it.
	Policy *rbac.Policy
	// BuiltIn are the role definitions besides the stored ones; nil means
	// rbac.BuiltIn.
	BuiltIn []rbac.RoleDefinition
	// Resources are those of the control plane's Config.
	Resources []rest.Resource
	// Resource is told every one of them that was changed, as it is now; may
	// be nil. It is called by one goroutine.
	Resource func(rest.Resource)
	// Every is how often the database is asked for its version, one row;
	// default 250 ms.
	Every time.Duration
	// Lease is how long an answer is good for. When the database has not
	// answered for so long, the policy allows nothing. Default 1 s.
	Lease time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Replica keeps a process's policy and resources at what a control plane in
// another process says. A change there is in effect here within Every, and the
// lease bounds it: past Lease the policy lets nobody in rather than somebody
// whose role may be gone.
type Replica struct {
	cfg     ReplicaConfig
	store   *store
	version int64
}

// NewReplica loads the control plane's state; the policy is in effect when it
// returns. Run keeps it up to date.
func NewReplica(ctx context.Context, cfg ReplicaConfig) (*Replica, error) {
	if cfg.DB == nil || cfg.Policy == nil {
		return nil, errors.New("replica of the control plane: DB and Policy are needed")
	}
	if cfg.BuiltIn == nil {
		cfg.BuiltIn = rbac.BuiltIn()
	}
	if cfg.Every <= 0 {
		cfg.Every = 250 * time.Millisecond
	}
	if cfg.Lease <= 0 {
		cfg.Lease = time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Replica{cfg: cfg, store: &store{cfg.DB}}
	if err := r.Sync(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Sync asks for changes, takes them over and renews the lease. It is not safe
// for concurrent use, with Run in particular.
func (r *Replica) Sync(ctx context.Context) error {
	asked := r.cfg.Now() // the answer is at least as new as the question
	version, err := r.store.version(ctx)
	if err != nil {
		return fmt.Errorf("replica of the control plane: %w", err)
	}
	if version != r.version {
		c, err := r.store.load(ctx)
		if err != nil {
			return fmt.Errorf("replica of the control plane: %w", err)
		}
		r.cfg.Policy.Replace(c.snapshot(r.cfg.BuiltIn))
		if r.cfg.Resource != nil {
			for _, res := range c.changed(r.cfg.Resources) {
				r.cfg.Resource(res)
			}
		}
		r.version = c.version
	}
	r.cfg.Policy.Lease(asked.Add(r.cfg.Lease), r.cfg.Now)
	return nil
}

// Run follows the control plane until ctx ends. While the database does not
// answer it keeps asking; the lease takes care of what that means.
func (r *Replica) Run(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// One question must not outlast the lease, or a hung connection would
		// keep the next one from being asked.
		asking, cancel := context.WithTimeout(ctx, r.cfg.Lease)
		_ = r.Sync(asking) // until it succeeds nobody is let in
		cancel()
	}
}

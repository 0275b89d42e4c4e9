package keyvault

import (
	"context"
	"errors"

	"verdant/hsm"
)

// Kind is the kind of an object, spelled as in its path.
type Kind string

// The kinds of objects.
const (
	Keys         Kind = "keys"
	Secrets      Kind = "secrets"
	Certificates Kind = "certificates"
)

// State says whether a name is in use or soft-deleted.
type State int

// The states of an object.
const (
	Live State = iota
	Deleted
)

// Object is a name in the vault. Names compare without regard to case. All
// versions of a name share its state.
type Object struct {
	Kind Kind
	Name string
	// State is Live or Deleted.
	State State
	// Current is the version that the name alone stands for; "" while there is
	// none (a certificate that is still pending).
	Current string
	// DeletedOn and PurgeOn are unix seconds, set while State is Deleted.
	DeletedOn, PurgeOn int64
	// Meta is what the kind keeps for all versions together.
	Meta []byte
}

// Version is one version of an object.
type Version struct {
	// ID is 32 lower-case hexadecimal digits.
	ID string
	// Created is unix seconds.
	Created int64
	// Data is what the kind keeps for the version.
	Data []byte
	// Value is the sealed value of a secret. Lists leave it out.
	Value []byte
}

// Entry is an object in a list, with its current version.
type Entry struct {
	Object  Object
	Version Version
}

var (
	// ErrNoObject: there is no object of that kind and name in either state.
	ErrNoObject = errors.New("no such object")
	// ErrNoVersion: the object has no such version.
	ErrNoVersion = errors.New("no such version")
	// ErrCondemned: the key is being destroyed, or was.
	ErrCondemned = errors.New("the key is being destroyed: it had no owner for too long")
)

// Store keeps the objects of one vault. It is safe for concurrent use; package
// storetest holds an implementation against these promises.
type Store interface {
	// Get returns an object in either state with one of its versions; version
	// "" means the current one (an empty Version if there is none).
	Get(ctx context.Context, kind Kind, name, version string) (Object, Version, error)
	// List returns up to limit objects of a kind and state whose folded name
	// follows after, in the order of names, at a cost that does not depend on
	// how many there are.
	List(ctx context.Context, kind Kind, state State, after string, limit int) ([]Entry, error)
	// Versions returns up to limit versions of a name that follow after, in
	// the order of their ids.
	Versions(ctx context.Context, kind Kind, name, after string, limit int) ([]Version, error)
	// Due returns up to limit deleted objects whose PurgeOn is at or before
	// the given time.
	Due(ctx context.Context, now int64, limit int) ([]Object, error)
	// Doomed returns keys doomed before the given time, in nanoseconds.
	Doomed(ctx context.Context, before int64) ([]hsm.KeyID, error)
	// Update runs fn in a transaction: all its writes are durable together
	// when Update returns nil, and none is there if fn returned an error,
	// which is returned as it is. Updates happen one after the other, in all
	// servers that have the store open. fn may run more than once: what it
	// leaves outside must be that of its last run.
	Update(ctx context.Context, fn func(Tx) error) error
	// Cursor and SetCursor keep the number of the last audit record that was
	// forwarded, of this server's journal.
	Cursor(ctx context.Context) (uint64, error)
	SetCursor(ctx context.Context, seq uint64) error
}

// Tx is a transaction of a Store. It is used by one goroutine, inside fn.
type Tx interface {
	Object(kind Kind, name string) (Object, error)
	Version(kind Kind, name, version string) (Version, error)
	// Versions returns every version of a name, in the order of their ids.
	Versions(kind Kind, name string) ([]Version, error)
	// Put adds an object or replaces it.
	Put(Object) error
	// PutVersion adds a version or replaces it.
	PutVersion(kind Kind, name string, v Version) error
	// Delete removes an object with its versions.
	Delete(kind Kind, name string) error
	// Doom says that a key in the token has no owner, from the given time (in
	// nanoseconds, so that a restart within the second still knows it):
	// before it is made, and when its owner goes. Spare takes that back, or
	// returns ErrCondemned when it is too late.
	Doom(id hsm.KeyID, since int64) error
	Spare(id hsm.KeyID) error
	// Condemn begins the destruction of a doomed key: from now on it cannot be
	// spared. It reports false for a key that is not doomed. Destroyed ends
	// it: the key is no longer in the token.
	Condemn(id hsm.KeyID) (bool, error)
	Destroyed(id hsm.KeyID) error
}

// TokenKeys is the Kind of a Change that names a key of the token.
const TokenKeys Kind = "token keys"

// Change names an object that was written. Name is in lower case.
type Change struct {
	Kind Kind
	Name string
}

// Changes are what was written to a Shared store after a revision of it.
type Changes struct {
	// Revision is the newest one, which these changes lead to.
	Revision uint64
	// Objects were written, each named once or more often.
	Objects []Change
	// All says that Objects is not the whole: anything may have been written.
	All bool
}

// Shared is a Store that several servers have open at a time.
type Shared interface {
	Store
	// Changes returns what any server wrote after the given revision; 0 is
	// before the first.
	Changes(ctx context.Context, after uint64) (Changes, error)
}

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
	// which is returned as it is. Updates happen one after the other.
	Update(ctx context.Context, fn func(Tx) error) error
	// Cursor and SetCursor keep the number of the last audit record that was
	// forwarded.
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
	// before it is made, and when its owner goes. Spare takes that back.
	Doom(id hsm.KeyID, since int64) error
	Spare(id hsm.KeyID) error
}

// Package store keeps chunks by ID, in directories, behind servers and in
// front of one another.
//
// It has two seams. Below, a backend keeps named objects and knows nothing of
// chunks: that is a [Blobs], one folder each (store/local, store/http). Above,
// a [Store] keeps chunks. [Chunks] makes a Store of a backend, given the [Form]
// in which chunks lie there; whatever wraps a Store is one again, so a command
// stacks them in the order in which it wants them:
//
//	near := store.Chunks(dir, store.Form{Either: true})
//	far := store.Failover(store.FailoverOptions{}, store.Chunks(web, store.Form{}), store.Chunks(mirror, store.Form{}))
//	s := store.Router(log, near, far)
package store

import (
	"context"

	"caravel/chunker"
)

// A Want says which chunk is wanted and how urgently.
type Want struct {
	ID     chunker.ID
	Size   int            // plain bytes, from the index; 0: unknown
	Digest chunker.Digest // the algorithm behind ID; zero: SHA-512/256
	Class  Class          // how urgent; zero: Demand
}

// A Class says on whose behalf a chunk is fetched. Lower classes wait for
// higher ones, and make way for them.
type Class uint8

// The classes, the most urgent first.
const (
	Demand    Class = iota // somebody waits for these bytes
	Walk                   // metadata of a tree
	Profile                // ranges that an earlier run touched
	ReadAhead              // what a sequential reader will touch next
	Sweep                  // the rest of the image
	Classes   = int(Sweep) + 1
)

// String is the class's name in logs and statistics.
func (c Class) String() string {
	return [Classes]string{"demand", "walk", "profile", "read-ahead", "sweep"}[c]
}

// A Store finds chunks. Its methods may be called from many goroutines.
type Store interface {
	// Get returns the chunk wanted. The error matches ErrMissing if the store
	// has none, and ErrCorrupt if what it has is not the chunk. Only what
	// Verify (or store/fetch) returns is known to match its ID. The caller
	// releases the chunk.
	Get(ctx context.Context, want Want) (*Chunk, error)

	// Has reports whether the store has the chunk, as far as that can be told
	// without reading it: one that is obviously damaged (empty, or, stored
	// plain, of another size than wanted) counts as not there.
	Has(ctx context.Context, want Want) (bool, error)
}

// A Writer is a Store that takes chunks.
type Writer interface {
	Store

	// Put stores the chunk in the store's own form, in place of one that may
	// be there. It neither keeps nor releases c, which must be verified.
	Put(ctx context.Context, c *Chunk) error

	// Sync returns when all that Put has taken, and as far as the system can
	// tell what Has has found, would survive a power cut.
	Sync(ctx context.Context) error
}

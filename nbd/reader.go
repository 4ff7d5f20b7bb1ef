package nbd

import (
	"context"
	"iter"
	"os"
)

// A Reader has an export's bytes. Its methods may be called from many
// goroutines; the context ends when the client is gone.
type Reader interface {
	// ReadAt has io.ReaderAt's rules. An error is EIO for that one request.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A Writer is a reader that can be written to: its exports are not read-only.
// Methods may be called at once for any ranges, which lie in the export. An
// error that matches syscall.ENOSPC, or syscall.EDQUOT, is ENOSPC for the client,
// any other EIO.
type Writer interface {
	// WriteAt has io.WriterAt's rules.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// Zero makes the n bytes at off zeros; reserve says that room for them
	// shall be kept on disk (NBD's NO_HOLE).
	Zero(ctx context.Context, off, n int64, reserve bool) error
	// Discard says that nobody needs the n bytes at off any more.
	Discard(ctx context.Context, off, n int64) error
	// Flush returns when all that returned before is on stable storage.
	Flush(ctx context.Context) error
}

// A Sparse reader knows where its holes are. Its exports offer the metadata
// context base:allocation, and reads of holes send no bytes unless Export.Zeros says so.
type Sparse interface {
	// Holes yields offset and length of the holes that touch the n bytes at
	// off, in order; they may be adjacent. All else counts as data. It must
	// not wait for a network.
	Holes(off, n int64) iter.Seq2[int64, int64]
}

// A Backed reader is at times a file as it lies on disk, from its first byte on:
// replies then go from there to the client's socket, past this process.
type Backed interface {
	// Backing is the file; nil if there is none now. It stays open for as long as
	// the server runs.
	Backing() *os.File
}

// A Partial reader knows what of it is here. Its exports offer the metadata
// context caravel:cached.
type Partial interface {
	// Local yields offset and length of the ranges that touch the n bytes at
	// off and can be read without a network, in order; they may be adjacent. It
	// must not wait for one either. If that is too much to be looked at in one
	// go, it ends with a range of length 0, where it has stopped: behind off.
	Local(off, n int64) iter.Seq2[int64, int64]
}

// A Wanter takes hints of what will be read soon; its exports offer CACHE.
type Wanter interface {
	// Want says that the n bytes at off will be read. It must not wait.
	Want(off, n int64)
}

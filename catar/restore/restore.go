// Package restore writes an archive's tree into a directory.
//
// Everything is done relative to descriptors of directories, by single names,
// and no link is ever followed but the one that the user may have named: what
// the archive says, and what another process does to the target in the
// meantime, cannot lead anywhere else. A node of another type that is in the
// way of a directory (a link to one, for instance) is removed.
//
// A file appears under its name when it is complete, with all its metadata: it
// has no name before where the file system can do that (O_TMPFILE), else one
// that the next run into the same directory recognises and cleans up. The
// tree as a whole is not atomic. What is there already, with the same bytes and
// metadata, stays as it is: so a restore that was killed is gone on with. The first
// thing that may not be set here ends the restore (unless [Options].Refused wants to
// hear of it); the error says what would leave it out.
//
// A program gets set-user-id or set-group-id only where the archive says whose it
// is, and it is his here: or a restore by root would make root's program of
// anybody's, which casync does.
//
//	d := catar.NewDecoder(r, catar.DecoderOptions{})
//	stats, err := restore.Tree(ctx, d, "/srv/root", restore.Options{Delete: restore.DeleteExtra})
//
// One goroutine decodes and makes the directories; the nodes in them are made
// by a few others, so that the copies into the page cache and the file system's
// own work share the cores. Small files are handed over whole, long ones block
// by block. Memory and descriptors are bounded whatever the archive's size.
package restore

import (
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync/atomic"

	"caravel/feature"
)

// Options tunes a restore. The zero value refuses a directory that has already
// something in it which the archive has not.
type Options struct {
	Mask   feature.Flags // what is restored of what the archive keeps; 0: all
	Delete Delete        // what happens to what the archive has not
	Fill   bool          // write zeros where a hole would do
	NoSync bool          // do not wait until the tree is on disk

	UndoImmutable bool // take chattr's +i and +a from what is in the way
	HardLink      bool // one file for all that are equal, metadata and all

	// Shift, if set, says which number here an archive's user or group has; names say
	// nothing then.
	Shift func(id uint32) uint32

	// Share, if set, calls use for files in which the n bytes at off of the archive lie, or
	// parts of them (the size bytes at start are those at at of the file), until it returns
	// false: then blocks of theirs are shared where the file system can. They are compared.
	Share func(off, n int64, use func(file *os.File, at, start, size int64) bool)

	// Refused, if set, is told of what may not or cannot be set here of a node, and which
	// nodes cannot be made; the restore goes on. nil: the first such thing ends it.
	Refused func(path string, err error)

	// Names lists the paths of what is restored ("a/b"; not the root), each
	// directory followed by what is in it, so that with RefuseExtra it is
	// known before anything is changed what is in the way. nil: a directory
	// that is not empty is refused.
	Names iter.Seq2[string, error]

	Progress *atomic.Int64 // counts bytes of the stream done; nil: nobody looks
	Log      *slog.Logger  // nil: discard
}

// Delete says what happens to nodes of the target that the archive has not.
type Delete uint8

// The ways.
const (
	RefuseExtra Delete = iota // nothing is changed; an *ExtraError
	DeleteExtra               // they are removed
	KeepExtra                 // they stay
)

// An ExtraError says that the target holds what the archive has not.
type ExtraError struct {
	Dir     string
	Count   int
	First   string // one of them
	Unknown bool   // there were no Options.Names: all that the target holds is counted
}

func (e *ExtraError) Error() string {
	if e.Unknown {
		return fmt.Sprintf("restore: %s: not empty (%q), and what the archive has is not known before it comes; --delete=yes removes, --delete=no keeps what it has not",
			e.Dir, e.First)
	}
	what := fmt.Sprintf("%d nodes, %q among them,", e.Count, e.First)
	if e.Count == 1 {
		what = fmt.Sprintf("a node, %q,", e.First)
	}
	return fmt.Sprintf("restore: %s: holds %s that the archive has not; --delete=yes removes, --delete=no keeps what is there",
		e.Dir, what)
}

// Stats counts what was restored.
type Stats struct {
	Entries int64 // with the root
	Bytes   int64 // of payload
	Deleted int64
	Kept    int64 // entries that are no directories and were there as they should be
	Linked  int64 // files that are another name of an equal one
	Shared  int64 // bytes in blocks that are those of another file, too
}

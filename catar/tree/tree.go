// Package tree knows the entries of an image: on demand by the tables of its
// directories, all of them by a walk with many requests in flight, or from a
// sidecar, a small file that has them all.
//
// In an archive, names and attributes lie between the bytes of the files, and
// the table of a directory, which has hashes and no names, at its end
// (docs/formats.md, sections 4.7 and 4.8). So every directory on a path costs a
// round trip: its entry's first bytes and, asked for at the same time as if it
// were a directory, the last ones, where the table is. With [Options].Want these
// are a hint, and nobody waits for them if the entry is a file.
//
//	t, err := tree.Open(ctx, src, size, tree.Options{})
//	a, err := t.Find(ctx, "usr/bin/env")
//	off, n := t.Payload(a.ID)
//
// Whoever wants everything does not want a round trip for each directory:
//
//	for step, err := range t.Walk(ctx, tree.Root, -1) { … }
//
// # The sidecar
//
// Who packs an archive lets a [Skimmer] see it, and keeps the file that comes of
// it beside the index (docs/formats.md, section 14). A Tree with that knows all
// entries from the start, and reads nothing of the archive to look them up:
//
//	s, err := tree.ReadSidecar(file, sum, size)
//	t, err := tree.Open(ctx, src, size, tree.Options{Sidecar: s})
//	a, err := t.Find(ctx, "usr/bin/sudo") // is what the sidecar says
//	err = t.ConfirmPath(ctx, a.ID)        // and what the archive says
//
// Of an archive without one, [Tree.Complete] and [Tree.Sidecar] make the same
// file. The tree of the Go distribution (16,703 entries) has one of 160 kB, which
// costs 16 ms while 235 MB are packed (their digest takes 500 ms), and is opened
// in 6 ms; a million files take 0.6 s and 62 bytes each.
//
// # What of a sidecar is believed
//
// The archive's chunks are verified, the sidecar is not: it is a hint. Attr, Name,
// Payload, Span, Target, Find, Children and Walk say what it says. [Tree.Entry]
// reads the archive and compares. [Tree.Confirm] compares an entry with its own
// records, which is for the bytes of a file: they lie beside these. But a record
// in the right place may be what some file contains; so what is done on an
// entry's word asks [Tree.ConfirmPath], which follows the tables from the root;
// what is done on the word that a name is there, or is not, [Tree.ConfirmBelow].
// [Tree.ConfirmAll] compares everything in the background.
//
// The first contradiction ends the trust in the whole sidecar
// ([Options].Dropped). The entry it concerns fails with [ErrContradicted] for
// ever; if a directory's table was wrong, so do all below it. An ID that was given
// out keeps its meaning, whatever came before cannot be taken back. But from then
// on Find, Lookup, Children, Walk, Target, Entry and Confirm answer only what
// ConfirmPath has passed (that a name is missing, or a list complete, when the
// directory's table says so), reading what has not been compared yet. So an entry
// is right or an error, and a list with a wrong entry in it is an error as a
// whole. Attr, Name, Parent, Payload and Span, which cannot fail, go on
// describing what was given out.
//
// # Who waits
//
// A walk fetches ahead of whoever reads it, and a background task waits for
// nobody's sake; [Options].Ahead is the source for such reads, so that they may be
// of another class. When somebody asks for a directory that one of them is about
// to read, the reads of that become his: those to come go to the source that he
// would use, at once and beside the walk's, and one that is under way is asked for
// there once more, by which a source that joins equal requests moves it up.
//
// # How much is read
//
// Of a child the first 512 bytes are read, which is more than nearly all heads
// have, and of its end 1 KiB, which holds the table of 41 children. Images come
// in chunks of some 64 KiB: within a chunk a few bytes more are free, but a
// guess of 1 KiB crosses into another one once in 64 times, where one of 16 KiB
// would once in four. Over the tree of the Go distribution (16,703 entries) a
// cold lookup took 5.3 rounds and 9.2 chunks on average with 1 KiB, 5.2 and
// 10.0 with 16 KiB, 5.4 and 9.2 with the 24 bytes that say where the table is.
// Ranges less than 4 KiB apart are read as one, which asks for no chunk that
// its ends do not need.
//
// A walk of that tree takes 15 rounds and 1,337 of its 3,583 chunks; 1,328 hold
// something else than payload. Without [Options].Want it takes 41, since many of
// the 64 reads under way wait for the same chunk; one by one it would be 1,305
// (TestWalkRounds). Over HTTP at 20 ms and 1 Gbit/s, on two cores together with
// the server, it took 0.82 s. ConfirmAll, which knows where everything is, takes
// 8 rounds and the 1,328 chunks.
//
// # What is believed
//
// A head is checked as the decoder checks it, and against the table that led to
// it: the place, the length and the hash of the name. A table is checked against
// its directory: the children fill the content without a gap, so each lies
// inside its parent and is shorter than that. Spans that shrink at every step
// lead to no cycle and to an end, and those beside one another share no byte: no
// archive has more entries than its length allows. That names are sorted and
// none is there twice is known when all of a directory's children are. A walk
// that reads each [Tree.Entry] refuses what the decoder refuses (FuzzTree); one
// exception are bytes behind the root of an archive of desync's, which the
// decoder passes over and which here hide the root's table.
//
// # What is damaged
//
// Bytes that cannot be read are an error for those who want them, and they
// concern as little as can be: a directory is listed although payloads in it, or
// the tables of directories in it, cannot be read, and found are all names whose
// heads can. With a head a name is gone, so that the directory cannot be listed:
// see [Tree.Children].
//
// # What it costs
//
// An entry is 56 bytes and its name, without a pointer; a directory has some 60
// more. The Go distribution's tree takes 86 bytes an entry, one of nothing but
// small directories 127 (TestMemory). Entries are read without a lock. In memory
// a lookup of one in 1000 names takes 0.15 µs, a missing one 0.09, the list of
// those 1000 50 µs; the whole walk 35 ms the first time, 1 ms after that.
package tree

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"syscall"

	"caravel/catar"
	"caravel/feature"
)

// An ID numbers the entries that a Tree has seen, in the order in which it saw
// them. It never changes its meaning while the Tree lives.
type ID uint32

// Root is the archive's root directory.
const Root ID = 1

// Attr is what is kept of an entry in memory.
type Attr struct {
	ID    ID
	Ino   uint64 // the same for the same image every time; never 0, of the root 1
	Mode  uint32 // type and permissions, as in stat(2)
	UID   uint32
	GID   uint32
	MTime int64  // nanoseconds since 1970
	Size  int64  // of a file's payload, of a link's target; 0: others
	Major uint32 // of a device
	Minor uint32

	Plain  bool // there is nothing more to Entry: no xattrs, ACLs, labels, flags, names …
	XAttrs bool // Entry has what a file system shows as extended attributes: those, an ACL, a label, capabilities
}

// Options tunes a Tree. The zero value is a good choice.
type Options struct {
	// Want is told of the ranges that will be read soon, or may be, so that
	// they come in one round; nil: nobody is. It may be called from many
	// goroutines, and does not wait.
	Want func(off, n int64)

	// Sidecar has all entries from the start; nil: they are read when they are
	// needed. What it says of the archive is a hint: see Confirm.
	Sidecar *Sidecar

	// Dropped is called once, when the archive contradicts the sidecar, with what
	// was found. It must not call the Tree; nil: nobody is told.
	Dropped func(err error)

	// Ahead is the archive for reads that nobody waits for: those of a walk that
	// fetch ahead, Complete and ConfirmAll; nil: the one that Open was given.
	Ahead catar.Source

	Record   bool         // keep what Tree.Sidecar needs
	InFlight int          // reads at one time in a walk or a listing; 0: 64
	Log      *slog.Logger // nil: discard
}

// A Tree is the entries of an archive. Its methods may be called from many
// goroutines. Errors of names that are not there match fs.ErrNotExist; of
// entries that are no directories syscall.ENOTDIR. No other error matches these
// two, whatever the source says. What could not be read is asked for again by
// the next call.
type Tree struct {
	src   catar.Source
	size  int64
	flags feature.Flags
	opt   Options

	*nodes
	mu sync.Mutex // guards additions to the nodes, and every dir.single

	tables flights[*catar.Table]
	lists  flights[*children]
	big    tokens

	records *records // nil: Options.Record was not set
	witness *witness // nil: there is no sidecar
}

// Open reads the head and the table of the root of the archive src, size bytes
// long. With a sidecar it reads nothing.
func Open(ctx context.Context, src catar.Source, size int64, opt Options) (*Tree, error) {
	opt.InFlight = cmp.Or(opt.InFlight, 64)
	if opt.InFlight < 0 {
		return nil, fmt.Errorf("tree: %d reads in flight", opt.InFlight)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if size < minEntry+minTable {
		return nil, fmt.Errorf("tree: offset %d: an archive of %d bytes is too short for a directory", max(size, 0), size)
	}
	t := &Tree{src: src, size: size, opt: opt, big: newTokens()}
	if opt.Sidecar != nil {
		return t.with(opt.Sidecar)
	}
	t.nodes = &nodes{most: keptTarget}
	if opt.Record {
		t.records, t.most = newRecords(), catar.MaxTarget
	}
	root, err := t.fetch(ctx, catar.Span{Start: 0, End: size}, 0, 0)
	if err != nil {
		return nil, err
	}
	if !isDir(root.mode) {
		return nil, fmt.Errorf("tree: offset 0: the root is no directory (mode %#o)", root.mode)
	}
	if root.goodbye == 0 { // there is nothing else to see
		if root, err = t.parseTail(ctx, root, nil); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.add(root); err != nil {
		return nil, err
	}
	return t, nil
}

// add gives an entry its number. The caller holds t.mu.
func (t *Tree) add(f found) (ID, error) {
	id, err := t.nodes.add(f)
	if err == nil && t.records != nil {
		t.records.put(id, f.record)
	}
	return id, err
}

// Flags are the archive's feature flags.
func (t *Tree) Flags() feature.Flags { return t.flags }

// Size is the length of the archive in bytes.
func (t *Tree) Size() int64 { return t.size }

// Len is the number of entries seen so far.
func (t *Tree) Len() int { return t.entries.len() - 1 }

// Attr is what is known of an entry; the zero Attr if none with this ID was
// seen.
func (t *Tree) Attr(id ID) Attr {
	e := t.at(id)
	if e == nil {
		return Attr{}
	}
	return e.attr(id)
}

// Name is the name of an entry in its directory; the root's is "".
func (t *Tree) Name(id ID) string {
	e := t.at(id)
	if e == nil {
		return ""
	}
	return t.names.text(e.name, 0, int(e.nameLen))
}

// Owners are the names of an entry's user and group; "": none was recorded, or there
// are more of them in the archive than are kept (65535 pairs).
func (t *Tree) Owners(id ID) (user, group string) {
	e := t.at(id)
	if e == nil {
		return "", ""
	}
	o := t.ownersOf(e)
	return o.user, o.group
}

// Parent is the directory of an entry, the root's the root; 0 if none with this
// ID was seen.
func (t *Tree) Parent(id ID) ID {
	e := t.at(id)
	if e == nil {
		return 0
	}
	return e.parent
}

// Dirs is how many of a directory's children are directories; -1 if not all of them
// are known, or if it is none. With a sidecar it is what that says.
func (t *Tree) Dirs(id ID) int {
	e := t.at(id)
	if e == nil || !isDir(e.mode) {
		return -1
	}
	d := t.dirs.at(e.extra)
	if n := d.dirs.Load(); n > 0 {
		return int(n) - 1
	}
	all := d.all.Load()
	if all == nil {
		return -1
	}
	n := 0
	for i := range all.n {
		if isDir(t.at(all.id(i)).mode) {
			n++
		}
	}
	d.dirs.Store(uint32(n) + 1)
	return n
}

// Payload is where the bytes of a regular file lie; 0, 0 for all others.
func (t *Tree) Payload(id ID) (off, n int64) {
	e := t.at(id)
	if e == nil || e.mode&catar.ModeType != catar.ModeRegular {
		return 0, 0
	}
	return e.bodyAt(), e.end - e.bodyAt()
}

// Span is where an entry lies, from its ENTRY record to its end.
func (t *Tree) Span(id ID) catar.Span {
	e := t.at(id)
	if e == nil {
		return catar.Span{}
	}
	return catar.Span{Start: e.head, End: e.end}
}

// at returns an entry, or nil if there is none.
func (t *Tree) at(id ID) *entry {
	if id == 0 || int(id) >= t.entries.len() {
		return nil
	}
	return t.entries.at(uint32(id))
}

// directory returns a directory's entry and what is known of its children.
func (t *Tree) directory(id ID) (*entry, *dir, error) {
	e := t.at(id)
	if e == nil {
		return nil, nil, noEntry(id)
	}
	if !isDir(e.mode) {
		return nil, nil, &nameError{t.Name(id), syscall.ENOTDIR}
	}
	return e, t.dirs.at(e.extra), nil
}

func noEntry(id ID) error {
	return fmt.Errorf("tree: no entry has the number %d: %w", id, fs.ErrNotExist)
}

// A nameError says why a name leads nowhere. It is made often, by everybody who
// looks for what is not there, and read seldom.
type nameError struct {
	name string
	err  error
}

func (e *nameError) Error() string {
	if e.err == fs.ErrNotExist {
		return fmt.Sprintf("tree: no entry %q", e.name)
	}
	return fmt.Sprintf("tree: entry %q: %v", e.name, e.err)
}

func (e *nameError) Unwrap() error { return e.err }

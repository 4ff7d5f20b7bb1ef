// Package archive opens trees wherever they are: behind an index (a .caidx), in
// a .catar, which is a file, a pipe or a URL, or as a directory, which is packed
// as it is read.
//
// All of them are an [Archive]. It is read in order, from its first byte to its
// last ([Archive.Stream]), or here and there ([Archive.Random]): then its entries
// are found by its tables, and the bytes of its files are read on their own.
// What can only be read in order is copied to a temporary file for that.
// [EntriesAt] decodes a part of an archive, the one way or the other, whichever
// reads less:
//
//	a := archive.NewFile("tree.catar", open.Options{}, nil)
//	defer a.Close()
//	at, err := archive.EntriesAt(ctx, a, "usr/bin")
//	defer at.Close()
//	for e, err := range at.All {
//		fmt.Println(e.Path, e.Mode)
//	}
//
// What an entry and all below it are as an archive of their own, and by which
// digests casync knows them, is found out here, too: [Subtree],
// [Entries.Digests], [Random.Digests].
package archive

import (
	"context"
	"io"
	"iter"

	"caravel/catar"
	"caravel/catar/tree"
)

// An Archive is a tree wherever it is: a [File], a [Folder] or [Indexed]. It is
// used by one goroutine. Paths in it are clean and without a slash in front:
// "a/b", "" for the root.
type Archive interface {
	// Stream gives the archive from its first byte to its last, once.
	Stream(ctx context.Context) (io.ReadCloser, error)

	// Random is the archive for reading here and there. What can only be read
	// in order is copied to a temporary file first.
	Random(ctx context.Context) (*Random, error)

	// InOrder reports whether it can only be read in order.
	InOrder() bool

	// Skips reports whether Stream skips what is not wanted for nothing.
	Skips() bool

	// Close gives back what Random needed. What was read from is closed first.
	Close() error
}

var (
	_ Archive = (*File)(nil)
	_ Archive = (*Folder)(nil)
	_ Archive = (*Indexed)(nil)
)

// A Random is an archive that is read here and there: its entries are those of
// the tree. It is valid until the archive is closed.
type Random struct {
	*tree.Tree
	bytes lazyBytes
	whole func(*tree.Tree) // told when all entries are known; nil: nobody is
}

// A Reader reads a file of an archive at any offset.
type Reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// lazyBytes are the bytes of an archive, read where somebody looks.
type lazyBytes interface {
	section(ctx context.Context, off, n int64) (io.ReadCloser, error)
	file(off, size int64) Reader
}

// Section gives the n bytes at off in order, with many requests in flight. Who
// knows from the tree where that is asks Stat first whether it is so.
func (r *Random) Section(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return r.bytes.section(ctx, off, n)
}

// File gives a reader of the size bytes at off, which reads ahead if that is of
// use. Its offsets count from there.
func (r *Random) File(off, size int64) Reader { return r.bytes.file(off, size) }

// Stat is all that the archive says of an entry. With a sidecar it is made sure
// that this is the entry which the tables lead to, from the root on.
func (r *Random) Stat(ctx context.Context, id tree.ID) (*catar.Node, error) {
	if err := r.ConfirmPath(ctx, id); err != nil {
		return nil, err
	}
	return r.Entry(ctx, id)
}

// Decode reads an entry, and what is below it, and no more. The caller closes
// what is read from.
func (r *Random) Decode(ctx context.Context, id tree.ID) (*catar.Decoder, io.Closer, error) {
	n, err := r.Stat(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	span := r.Span(id)
	src, err := r.Section(ctx, span.Start, span.End-span.Start)
	if err != nil {
		return nil, nil, err
	}
	return catar.NewDecoder(src, catar.DecoderOptions{Node: n, Flags: r.Flags()}), src, nil
}

// Complete reads all entries that are not known yet in the background, and hands
// the sidecar that can be built of them to IndexedOptions.Built; if there is a
// sidecar, all of it is compared with the archive ([tree.Tree.ConfirmAll]). It
// returns when that is done, or at the first error; to call it again is to go on
// from there.
func (r *Random) Complete(ctx context.Context) error {
	err := r.Tree.Complete(ctx)
	if err == nil && r.whole != nil {
		r.whole(r.Tree)
	}
	return err
}

// Names lists the paths below an entry, from there, for who decides by them before
// the entries come. So a sidecar's word is not enough: all below the entry is
// compared with the archive first.
func (r *Random) Names(ctx context.Context, id tree.ID) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := r.ConfirmBelow(ctx, id); err != nil {
			yield("", err)
			return
		}
		for step, err := range r.Walk(ctx, id, -1) {
			if err == nil && step.Path == "" {
				continue
			}
			if !yield(step.Path, err) || err != nil {
				return
			}
		}
	}
}

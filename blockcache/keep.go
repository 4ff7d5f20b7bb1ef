package blockcache

import (
	"context"
	"errors"
	"fmt"

	"caravel/index"
	"caravel/store"
)

// ErrNowhere is what Keep says of an image that has no place for a chunk, or not
// any more.
var ErrNowhere = errors.New("blockcache: neither a file nor a cache on disk keeps chunks")

// Kept reports whether a chunk is where it outlives the memory: in the Files
// that hold it, or if there are none, in Options.Kept. Chunks of zeros are. One
// that a File has from an earlier run is not, before it was verified.
func (img *Image) Kept(ctx context.Context, row int) bool {
	c, err := img.table.Row(ctx, row)
	return err == nil && img.keeps(ctx, row, c)
}

func (img *Image) keeps(ctx context.Context, row int, c index.Chunk) bool {
	zero := img.zeros.has(c)
	switch img.filed(row, c) {
	case inFile:
		return true
	case notInFile:
		return false
	}
	if zero || img.kept == nil {
		return zero
	}
	ok, err := img.kept.Has(ctx, store.Want{ID: c.ID, Size: c.Size, Digest: img.digest, Class: store.Sweep})
	return ok && err == nil
}

// Keep fetches a chunk, in a class, to where it outlives the memory. It puts
// nothing into memory and so evicts nothing. size is what was fetched, in plain
// bytes, 0 if it was there.
func (img *Image) Keep(ctx context.Context, row int, class store.Class) (size int, err error) {
	both, leave, err := img.join(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	c, err := img.table.Row(both, row)
	if err != nil {
		return 0, err
	}
	files := img.filesOf(row, c)
	if len(files) == 0 && img.kept == nil {
		return 0, ErrNowhere
	}
	if len(files) == 0 {
		return img.keepInStore(both, row, c, class)
	}
	for _, f := range files {
		n, err := img.keepInFile(both, f, row, c, class)
		size = max(size, n)
		if err != nil {
			return size, fmt.Errorf("offset %d, chunk number %d: %w", c.Start, row, err)
		}
	}
	return size, nil
}

// keepInStore has the store's cache keep a chunk.
func (img *Image) keepInStore(ctx context.Context, row int, c index.Chunk, class store.Class) (size int, err error) {
	if img.keeps(ctx, row, c) {
		return 0, nil
	}
	got, _, err := img.get(ctx, c, class)
	if err != nil {
		return 0, fmt.Errorf("offset %d, chunk number %d: %w", c.Start, row, err)
	}
	got.Release()
	return c.Size, nil
}

// keepInFile has a file keep a chunk, which it may have had all the time, or
// memory may have.
func (img *Image) keepInFile(ctx context.Context, f *File, row int, c index.Chunk, class store.Class) (size int, err error) {
	switch {
	case f.has(row):
		return 0, nil
	case img.zeros.has(c):
		return 0, f.keepZeros(row)
	case f.sure(row):
		return 0, nil
	}
	if err := f.ready(); err != nil {
		return 0, err // before anything is fetched for it
	}
	got, plain, ok := f.queued(row)
	if !ok {
		got, plain, ok = img.mem.peek(img.key(c))
	}
	if ok {
		defer got.Release()
		if len(plain) == c.Size {
			return 0, f.write(row, plain)
		}
	}
	if f.has(row) { // what waited to be written has been, since it was looked for
		return 0, nil
	}
	got, plain, err = img.get(ctx, c, class)
	if err != nil {
		return 0, err
	}
	defer got.Release()
	return c.Size, f.write(row, plain)
}

// An Outcome is what became of a chunk that was to be brought.
type Outcome uint8

// The outcomes.
const (
	Here    Outcome = iota // it was there, or is on its way
	Fetched                // it came
	NoRoom                 // it was left
)

// Bring fetches a chunk, in the view's class, and keeps it in memory on
// probation as far as such hints may: what they brought and nobody has read yet
// takes half of the budget at most, and evicts only what is on probation and
// was read. Where there is no room it is kept where it outlives the memory. If
// there is no such place it waits until readers have made room in memory, which
// may be for ever, or leaves it if what was brought in this class has turned out
// to be too much. Unlike Want it waits for the chunk, too.
func (v *View) Bring(ctx context.Context, row int) (Outcome, error) {
	img := v.img
	both, leave, err := img.join(ctx)
	if err != nil {
		return NoRoom, err
	}
	defer leave()
	c, err := img.table.Row(both, row)
	if err != nil {
		return NoRoom, err
	}
	if img.zeros.has(c) || img.filed(row, c) == inFile {
		return Here, nil
	}
	filed := len(img.filesOf(row, c)) > 0
	k := img.key(c)
	o, stirred := img.mem.hintGently(k, c.Size, v.class)
	switch {
	case o == NoRoom && (filed || img.kept != nil):
		n, err := img.Keep(both, row, v.class)
		return brought(n > 0), err
	case stirred != nil:
		if o, err = img.mem.hintPatiently(both, k, c.Size, v.class); err != nil {
			return NoRoom, err
		}
	}
	if o != Fetched {
		return o, nil
	}
	fetched, err := v.bring(both, row, c)
	if err == nil && filed {
		_, _ = img.Keep(both, row, v.class) // at the pace of the disk; told of there
	}
	return brought(fetched), err
}

// brought is the outcome for a chunk that was fetched, or was there.
func brought(fetched bool) Outcome {
	if fetched {
		return Fetched
	}
	return Here
}

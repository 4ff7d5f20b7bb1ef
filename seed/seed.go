// Package seed finds the chunks of an image in what is on this machine already: a former
// version of a disk, a device, a directory.
//
//	seeds := seed.New(x, seed.Options{Log: log})
//	defer seeds.Close()
//	err := seeds.Add("/srv/disk-v1.img")
//	err = seeds.Index(ctx, nil)
//	s := store.Router(log, seeds, origin)
//
// A [Set] is a store in front of others, so that whatever reads chunks can use it. It also
// says where a chunk lies ([Set.Find]), for who would rather share the blocks of a file than
// copy them. It is a room of its own, below image and catar/restore, because both of these
// and every command that fetches chunks ask it, and it asks none of them.
//
// # What is indexed, and how
//
// Seeds are cut as the image was, and the digests of the pieces looked up among those of the
// image; what nobody looks for leaves no trace, and when all is found the rest is not read.
// Files and devices are cut by several workers, each of which takes another 64 MiB and begins
// a little before them, as the cuts of two who begin at different places are soon the same.
// Holes are passed over by arithmetic. An index that lies beside a seed ([Set.AddIndexed])
// saves all of that. Of a directory, for the index of a tree, the archive is made that the
// index would be of; its files' bytes are read again from where they are, and what is between
// them (names, attributes, tables) is kept in a temporary file.
//
// The table takes 16 bytes for each chunk of the image, however large the seeds are; a
// directory adds 40 bytes and the path for each of its files.
//
// # Trust
//
// An index, or what was cut a moment ago, is a hint. Get compares the digest of what it has
// read, each time; what is not what it should be is missing, and the first time that a seed
// fails so there is a warning. Who goes by Find does the same, and says so by
// [Seed.Doubt].
package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"caravel/feature"
	"caravel/index"
	"caravel/internal/extents"
)

// Options tunes a Set. The zero value is a good choice.
type Options struct {
	Workers int          // that cut and digest; 0: one a core
	Most    int64        // bytes of one seed that are cut, from its beginning; 0: all
	Reread  bool         // what an index beside a seed says is found out anew
	Log     *slog.Logger // what is wrong with a seed, a warning each; nil: discard
}

// A Set is the seeds of one image. Add and Close are for one goroutine, before and after
// all else; the rest may be called from many.
type Set struct {
	x     *index.Index
	opt   Options
	table *table
	seeds []*Seed
}

// New returns a Set without seeds for the image x.
func New(x *index.Index, opt Options) *Set {
	opt.Workers = cmp.Or(opt.Workers, runtime.GOMAXPROCS(0))
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Set{x: x, opt: opt, table: newTable(x)}
}

// A Seed is one of a Set, as a stream of bytes in which chunks lie.
type Seed struct {
	Name string // its path

	set    *Set
	number int32
	from   source
	rows   *index.Index // where chunks are in it; nil: that has to be found out
	warned atomic.Bool

	mu    sync.Mutex       // guards known
	known []extents.Extent // parts of which the chunks are known to nobody's profit
	done  bool             // it is indexed; set by Index, of which there is one at a time
}

// A source is what a seed's bytes come from.
type source interface {
	io.ReaderAt

	// use calls f with the file that the n bytes at off lie in, and where in it. It is an
	// error that matches errors.ErrUnsupported if there is no such file.
	use(off, n int64, f func(file *os.File, at int64) error) error

	// scan finds the chunks of the source but of what is known.
	scan(ctx context.Context, s *scan, known extents.List) error

	io.Closer
}

// Add adds a file, a block device or a directory. Of a directory all files are seeds if the
// image is a disk, and if it is a tree the archive that can be made of it.
func (s *Set) Add(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if st.IsDir() {
		return s.addDir(path)
	}
	f, err := openFile(path)
	if err != nil {
		return err
	}
	s.add(path, f, nil)
	return nil
}

// AddIndexed adds a file or device of which there is an index, which is believed as long as
// it turns out to be right. An index that was made in another way than that of the image is
// of no use, and the file is one as in Add.
func (s *Set) AddIndexed(path string, x *index.Index) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	if x.Digest() != s.x.Digest() || x.Params != s.x.Params {
		x = nil
	}
	s.add(path, f, x)
	return nil
}

// AddFile adds an open file or device, which stays the caller's: it must be open until the
// Set is closed.
func (s *Set) AddFile(f *os.File) (*Seed, error) {
	from, err := newFile(f)
	if err != nil {
		return nil, err
	}
	from.lent = true
	return s.add(f.Name(), from, nil), nil
}

func (s *Set) add(name string, from source, x *index.Index) *Seed {
	sd := &Seed{Name: name, set: s, number: int32(len(s.seeds)), from: from, rows: x}
	s.seeds = append(s.seeds, sd)
	return sd
}

func (s *Set) addDir(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if s.x.Flags&feature.All != 0 {
		s.add(path, newTree(path, root), nil)
		return nil
	}
	files, err := newFiles(root)
	if err != nil {
		root.Close()
		return err
	}
	s.add(path, files, nil)
	return nil
}

// Seeds are all that were added, in this order.
func (s *Set) Seeds() []*Seed { return s.seeds }

// Close gives back what the Set has opened.
func (s *Set) Close() error {
	var errs []error
	for _, sd := range s.seeds {
		errs = append(errs, sd.from.Close())
	}
	s.seeds = nil
	return errors.Join(errs...)
}

// ReadAt reads of the seed's stream, before it is indexed only if it is Plain.
func (sd *Seed) ReadAt(p []byte, off int64) (int, error) { return sd.from.ReadAt(p, off) }

// Use calls f with the file that the n bytes at off of the seed's stream lie in, and where in
// it; the file may be used until f returns. The error is f's, or matches
// errors.ErrUnsupported: they are in no file, or in several.
func (sd *Seed) Use(off, n int64, f func(file *os.File, at int64) error) error {
	return sd.from.use(off, n, f)
}

// Plain reports whether the seed is a file or device of which nothing is known yet: then
// what lies at an offset of the image may be tried at the same one of the seed, and what is
// found so need not be indexed ([Seed.Known]). data is where it has some.
func (sd *Seed) Plain() (data extents.List, ok bool) {
	f, ok := sd.from.(*file)
	if !ok || sd.rows != nil || sd.done {
		return nil, false
	}
	return f.data, true
}

// Known takes note of a part of a Plain seed that begins and ends with chunks of the image
// that are in place: Index passes it over.
func (sd *Seed) Known(start, end int64) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	if n := len(sd.known); n > 0 && sd.known[n-1].End == start {
		sd.known[n-1].End = end
		return
	}
	sd.known = append(sd.known, extents.Extent{Start: start, End: end})
}

// Doubt says that something in the seed was not what it should have been: the first time
// that is a warning. why is nil if it could be read.
func (sd *Seed) Doubt(why error) {
	if sd.warned.Swap(true) {
		return
	}
	switch {
	case why != nil && !errors.Is(why, io.EOF) && !errors.Is(why, fs.ErrNotExist):
		sd.set.opt.Log.Warn("seed cannot be read to its end; what it lacks is fetched", "seed", sd.Name, "err", why)
	case sd.rows != nil:
		sd.set.opt.Log.Warn("seed is not what its index says; what it lacks is fetched", "seed", sd.Name)
	default:
		sd.set.opt.Log.Warn("seed has changed meanwhile; what it lacks is fetched", "seed", sd.Name)
	}
}

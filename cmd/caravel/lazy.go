package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"caravel/blockcache"
	"caravel/internal/notify"
	"caravel/prefetch"
	"caravel/store"
)

// A reader reads an image or a file at any offset.
type reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A lazyImage is an image, or a plain file, that is read where somebody looks.
type lazyImage struct {
	name    string // of the image: the location's last part without its ending
	size    int64
	modTime time.Time
	chunk   int // what is fetched at a time, on average; 0: no chunks

	reader func() reader // one for each stream of reads
	holes  func(off, n int64) iter.Seq2[int64, int64]
	local  func(off, n int64) iter.Seq2[int64, int64] // what takes no network; see nbd.Partial
	want   func(off, n int64)
	Close  func() error

	// backing is all of it as a file, if there is one by now.
	backing func() *os.File

	// identity is the digest of its index, or of a plain file's path, size and time; nil
	// if that is not known yet.
	identity func() []byte
}

// A lazyOpener opens the images of one command, which share the memory too.
type lazyOpener struct {
	*opener
	lazy    lazyOptions
	memory  *blockcache.Memory
	named   *prefetch.Profile // that the user named; nil: the one beside each index
	corInit []byte            // which chunks are fetched before that, see readCorState; nil: none
	heap    heapLimit
	once    bool           // all of the image will pass by, once
	whole   bool           // indexes are needed to their ends before anything else
	cached  []*cachedImage // guarded by mu

	began       time.Time
	stopReports func() // nil: there are none
	stopReloads func() // nil: there are none
}

func newLazyOpener(std streams, opt lazyOptions, log *slog.Logger) (*lazyOpener, error) {
	from, err := newOpener(std, opt.source, log)
	if err != nil {
		return nil, err
	}
	return &lazyOpener{
		opener: from,
		lazy:   opt,
		memory: blockcache.NewMemory(opt.source.memory),
		heap:   heapLimit{need: opt.source.memory},
		began:  time.Now(),
	}, nil
}

// open opens an index (.caibx) for reading on demand; any other name is taken
// for a plain file.
func (o *lazyOpener) open(ctx context.Context, location string) (*lazyImage, error) {
	k := digestKind(location, "", unknownKind)
	switch {
	case k == folderKind:
		return nil, fmt.Errorf("%s: is a directory, not a disk image", location)
	case k == blobKind && location != "-":
		if err := o.lazy.needsNoIndex(location); err != nil {
			return nil, err
		}
		return openFile(location)
	}
	return o.openIndex(ctx, location)
}

// openIndex opens an index, whatever its name.
func (o *lazyOpener) openIndex(ctx context.Context, location string) (*lazyImage, error) {
	if err := refuseTree(location); err != nil {
		return nil, err
	}
	src, err := o.image(ctx, location, o.blobReading())
	if err != nil {
		return nil, err
	}
	return o.lazily(src)
}

// blobReading is how disk images are read.
func (o *lazyOpener) blobReading() reading {
	return reading{sides: o.profileSide(), partial: !o.whole}
}

// profileSide is the ending of profiles, if those beside indexes are used.
func (o *lazyOpener) profileSide() []string {
	if o.lazy.profile == profileAuto {
		return []string{profileSuffix}
	}
	return nil
}

// lazily reads an image that is opened as a file or a disk.
func (o *lazyOpener) lazily(src *openedImage) (*lazyImage, error) {
	img := o.cache(src)
	if err := img.materialise(); err != nil {
		return nil, errors.Join(err, img.Close())
	}
	img.begin(nil)
	ahead := img.View(store.ReadAhead)
	return &lazyImage{
		name:    imageName(src.location),
		size:    img.Size(),
		modTime: src.ModTime,
		chunk:   src.Table.Chunking().Avg,
		reader:  func() reader { return blobReader{img.newReader(), img} },
		holes:   img.Holes,
		local:   src.local(img.Local),
		want:    func(off, n int64) { ahead.Want(blockcache.Range{Off: off, Len: n}) },
		Close:   img.Close,
		backing: func() *os.File { return img.Backing(0, img.Size()) },
		identity: func() []byte {
			x := img.whole()
			if x == nil {
				return nil
			}
			sum := x.Sum()
			return sum[:]
		},
	}, nil
}

// A blobReader reads a disk image.
type blobReader struct {
	*prefetch.Reader
	img *cachedImage
}

// Backing is the materialised image for the kernel to read by itself, if that is
// complete.
func (r blobReader) Backing() *os.File { return r.img.Backing(0, r.img.Size()) }

// imageName is what an image is called after its location.
func imageName(location string) string {
	name := nameOf(location)
	name = strings.TrimSuffix(name, path.Ext(name))
	if name == "" || name == "." || name == "/" || location == "-" {
		return "image"
	}
	return name
}

// openFile opens a plain file or block device.
func openFile(location string) (*lazyImage, error) {
	f, err := os.Open(location)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	path, err := filepath.Abs(location)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	sum := fileIdentity(path, st, size)
	return &lazyImage{
		name:    imageName(location),
		size:    size,
		modTime: st.ModTime(),
		reader:  func() reader { return plainFile{f} },
		holes:   holesIn(f, st.Mode(), size),
		local:   everything,
		want:    func(int64, int64) {},
		Close:   f.Close,
		backing: func() *os.File { return f },

		identity: func() []byte { return sum[:] },
	}, nil
}

// fileIdentity is what a plain file or device of so many bytes is told from others by.
// Who changes the file makes another image of it. A device's time is that of its name,
// which is made anew whenever the machine starts.
func fileIdentity(path string, st fs.FileInfo, size int64) [32]byte {
	changed := st.ModTime().UnixNano()
	if !st.Mode().IsRegular() {
		changed = 0
	}
	return sha256.Sum256(fmt.Appendf(nil, "%d %d %s", size, changed, path))
}

// holesIn finds holes in a file of so many bytes; of what is no file it knows none. The
// file system is asked each time, for somebody may fill one.
func holesIn(f *os.File, mode fs.FileMode, size int64) func(off, n int64) iter.Seq2[int64, int64] {
	return func(off, n int64) iter.Seq2[int64, int64] {
		return func(yield func(int64, int64) bool) {
			end := min(off+n, size)
			for mode.IsRegular() && off < end {
				start, stop, err := nextHole(f, off)
				if err != nil || start >= end {
					return
				}
				stop = min(stop, size)
				if stop <= start || !yield(start, stop-start) {
					return
				}
				off = stop
			}
		}
	}
}

// everything yields the whole of a range.
func everything(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) { yield(off, n) }
}

// local tells what can be read without a network: what the cache knows to be
// here, or all if no store is behind one.
func (i *openedImage) local(cached func(off, n int64) iter.Seq2[int64, int64]) func(off, n int64) iter.Seq2[int64, int64] {
	if !i.remote {
		return everything
	}
	return cached
}

// A plainFile is read where it lies, without a cache of ours.
type plainFile struct{ f *os.File }

func (p plainFile) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	return p.f.ReadAt(b, off)
}

// announce tells people and the service manager that something is in use.
func announce(std streams, line string, assignments ...string) error {
	if _, err := fmt.Fprintln(std.out, line); err != nil {
		return err
	}
	if std.ready != nil {
		if err := std.ready(); err != nil {
			return err
		}
	}
	_ = notify.Send(append(assignments, notify.Status(line))...) // nobody need listen
	return nil
}

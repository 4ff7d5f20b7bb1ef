package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/blockcache"
	"caravel/internal/notify"
	"caravel/prefetch"
	"caravel/store"
)

type lazyOptions struct {
	source  sourceOptions
	noSweep bool
	log     logOptions
}

func lazyFlags(opt *lazyOptions) []cli.Flag {
	return append(append([]cli.Flag{
		newSwitch("no-sweep", "with --cache: fetch only what is read", &opt.noSweep),
	}, sourceFlags(&opt.source)...), logFlags(&opt.log)...)
}

// A reader reads an image or a file at any offset.
type reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A lazyImage is an image, or a plain file, that is read where somebody looks.
type lazyImage struct {
	name    string // of the image: the location's last part without its ending
	size    int64
	modTime time.Time

	reader func() reader // one for each stream of reads
	holes  func(off, n int64) iter.Seq2[int64, int64]
	want   func(off, n int64)
	Close  func() error
}

// A lazyOpener opens the images of one command, which share the memory too.
type lazyOpener struct {
	*opener
	memory  *blockcache.Memory
	noSweep bool
	rows    int64 // of all indexes
}

func newLazyOpener(std streams, opt lazyOptions, log *slog.Logger) *lazyOpener {
	return &lazyOpener{
		opener:  newOpener(std, opt.source, log),
		memory:  blockcache.NewMemory(opt.source.memory),
		noSweep: opt.noSweep,
	}
}

// limitHeap has the garbage collector work harder above what the indexes, the
// chunks in memory and those under way need, where by default it lets the heap
// grow to twice what is in use: a fifth less memory for the same speed, reading
// an image whole. $GOMEMLIMIT goes before it.
func (o *lazyOpener) limitHeap() {
	const rest, rowBytes = 32 << 20, 40
	need := rest + rowBytes*o.rows
	if os.Getenv("GOMEMLIMIT") == "" && o.opt.memory < math.MaxInt64-need {
		debug.SetMemoryLimit(o.opt.memory + need)
	}
}

// open opens an index (.caibx) for reading on demand; any other name is taken
// for a plain file.
func (o *lazyOpener) open(ctx context.Context, location string) (*lazyImage, error) {
	k := digestKind(location, "", unknownKind)
	switch {
	case k == folderKind:
		return nil, fmt.Errorf("%s: is a directory, not a disk image", location)
	case k == blobKind && location != "-":
		return openFile(location)
	}
	return o.openIndex(ctx, location)
}

// openIndex opens an index, whatever its name.
func (o *lazyOpener) openIndex(ctx context.Context, location string) (*lazyImage, error) {
	if err := refuseTree(location); err != nil {
		return nil, err
	}
	src, err := o.image(ctx, location)
	if err != nil {
		return nil, err
	}
	return o.lazily(location, src), nil
}

// lazily reads an image that is opened as a file or a disk.
func (o *lazyOpener) lazily(location string, src *openedImage) *lazyImage {
	o.rows += int64(src.index.Len())
	o.limitHeap()
	img := o.cached(src)
	ahead := img.View(store.ReadAhead)
	return &lazyImage{
		name:    imageName(location),
		size:    img.Size(),
		modTime: src.modTime,
		reader: func() reader {
			return prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), o.readAhead(src))
		},
		holes: img.Holes,
		want:  func(off, n int64) { ahead.Want(blockcache.Range{Off: off, Len: n}) },
		Close: img.Close,
	}
}

// imageName is what an image is called after its location.
func imageName(location string) string {
	location, _, _ = strings.Cut(location, "?")
	name := path.Base(location)
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
	return &lazyImage{
		name:    imageName(location),
		size:    size,
		modTime: st.ModTime(),
		reader:  func() reader { return plainFile{f} },
		holes:   func(int64, int64) iter.Seq2[int64, int64] { return func(func(int64, int64) bool) {} },
		want:    func(int64, int64) {},
		Close:   f.Close,
	}, nil
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
	_ = notify.Send(append(assignments, notify.Status(line))...) // nobody need listen
	return nil
}

package archive

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"caravel/blockcache"
	"caravel/catar/tree"
	"caravel/image"
	"caravel/index"
	"caravel/prefetch"
	"caravel/store"
)

// An Indexed is an archive behind a .caidx.
type Indexed struct {
	index *index.Index
	store store.Store
	begin func() Image
	opt   IndexedOptions
	image Image // nil before somebody reads here and there
}

// IndexedOptions tune how an indexed archive is read.
type IndexedOptions struct {
	Workers   int              // requests in flight for what is read in order; 0: as many as image.StreamOptions has
	ReadAhead prefetch.Options // of the files in it
	Log       *slog.Logger     // nil: discard

	// Sidecar gives the tree's sidecar, or nil if there is none. It is called
	// when somebody begins to read here and there; nil: there is none.
	Sidecar func(ctx context.Context) *tree.Sidecar

	// Dropped is told once, and why, when the sidecar is not used, or not any
	// more: the archive contradicts it; nil: nobody is told.
	Dropped func(err error)

	// Built is handed the sidecar file that Random.Complete could build of an
	// archive that came without one; nil: it builds none.
	Built func(sidecar []byte)
}

// An Image is what an index describes, with a memory of what was read. A
// [blockcache.Image] is one.
type Image interface {
	View(class store.Class) *blockcache.View
	Size() int64
	Close() error
}

// NewIndexed is the archive that x describes; its chunks are in s, which
// verifies them. begin gives the image for reading here and there, when that is
// needed, once; the archive closes it.
func NewIndexed(x *index.Index, s store.Store, begin func() Image, opt IndexedOptions) *Indexed {
	return &Indexed{index: x, store: s, begin: begin, opt: opt}
}

// InOrder is false.
func (a *Indexed) InOrder() bool { return false }

// Skips is false: all chunks are fetched.
func (a *Indexed) Skips() bool { return false }

// Stream fetches the chunks one after the other, with many requests in flight.
func (a *Indexed) Stream(ctx context.Context) (io.ReadCloser, error) {
	return image.NewReader(ctx, a.index, a.store, 0, a.index.Size(), a.options())
}

func (a *Indexed) options() image.StreamOptions {
	return image.StreamOptions{InFlight: a.opt.Workers}
}

// Random fetches what is looked at. With a sidecar nothing is fetched to begin
// with.
func (a *Indexed) Random(ctx context.Context) (*Random, error) {
	if a.image == nil {
		a.image = a.begin()
	}
	opt := tree.Options{
		Want:    a.hints(store.Walk).Want,
		Ahead:   a.image.View(store.Walk),
		Dropped: a.opt.Dropped,
		Log:     a.opt.Log,
	}
	opt.Sidecar = a.sidecar(ctx)
	r := &Random{bytes: a}
	if opt.Sidecar == nil && a.opt.Built != nil {
		opt.Record, r.whole = true, a.build
	}
	var err error
	r.Tree, err = tree.Open(ctx, a.image.View(store.Demand), a.image.Size(), opt)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// sidecar is the one to be used; nil: none.
func (a *Indexed) sidecar(ctx context.Context) *tree.Sidecar {
	if a.opt.Sidecar == nil {
		return nil
	}
	s := a.opt.Sidecar(ctx)
	if s == nil || s.Size() == a.image.Size() {
		return s
	}
	if a.opt.Dropped != nil {
		a.opt.Dropped(fmt.Errorf("archive: the sidecar is of an archive of %d bytes, not %d", s.Size(), a.image.Size()))
	}
	return nil
}

// build makes the sidecar of a tree of which all is known.
func (a *Indexed) build(t *tree.Tree) {
	file, err := t.Sidecar(a.index.Sum())
	if err != nil {
		if a.opt.Log != nil {
			a.opt.Log.Debug("no sidecar built", "err", err)
		}
		return
	}
	a.opt.Built(file)
}

// hints is the image for reading on demand, with hints in a class.
func (a *Indexed) hints(class store.Class) hinted {
	return hintedView{a.image.View(store.Demand), a.image.View(class)}
}

type hintedView struct {
	Reader
	ahead *blockcache.View
}

func (v hintedView) Want(off, n int64) { v.ahead.Want(blockcache.Range{Off: off, Len: n}) }

// longSection is a part of which it does not matter that its first and last
// chunk may have been fetched already.
const longSection = 16 << 20

func (a *Indexed) section(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if n >= longSection {
		return image.NewReader(ctx, a.index, a.store, off, n, a.options())
	}
	return &orderly{ctx: ctx, src: a.hints(store.ReadAhead), off: off, end: off + n, told: off}, nil
}

func (a *Indexed) file(off, size int64) Reader {
	img := ending{a.image.View(store.Demand), off + size}
	r := prefetch.NewReader(img, a.image.View(store.ReadAhead), a.opt.ReadAhead)
	return part{r, off, size}
}

// An ending image is one of which nobody shall read behind an offset: what lies
// there belongs to another file.
type ending struct {
	*blockcache.View
	end int64
}

func (e ending) Size() int64 { return e.end }

// Close ends what is under way for the image.
func (a *Indexed) Close() error {
	if a.image == nil {
		return nil
	}
	return a.image.Close()
}

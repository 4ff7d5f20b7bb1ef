package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"caravel/store"
	"caravel/store/open"
)

const (
	// sideLimit bounds a side file: the sidecar of a million entries has 9 MB.
	sideLimit = 64 << 20

	// sideTime is how long a side file is asked for: an image can be read
	// without, and somebody waits.
	sideTime = 10 * time.Second
)

// Side is the content of the file beside the index with an ending more. The
// error matches store.ErrMissing if there is none. It waits for the file.
func (img *Image) Side(ctx context.Context, ending string) ([]byte, error) {
	s := img.sides.of(ending)
	if s == nil {
		return nil, store.ErrMissing
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if errors.Is(s.err, store.ErrMissing) {
		if content := img.found.supplied(ending); content != nil {
			img.sides.set(ending, settled(content, nil))
			return content, nil
		}
	}
	return s.content, s.err
}

// Drop says that a side file is of no use: as long as the index is the same, it
// counts as absent.
func (img *Image) Drop(ending string) {
	img.found.drop(ending)
	img.replace(ending, settled(nil, store.ErrMissing))
}

// Supply stands for a side file that is not there, as long as the index is the
// same: somebody has found out what it would have said.
func (img *Image) Supply(ending string, content []byte) {
	img.found.supply(ending, content)
	img.replace(ending, settled(content, nil))
}

// Confirm says that a side file was compared with all of the image, and is right.
// Confirmed reports that in later runs, as long as the index and the side file
// are the same.
func (img *Image) Confirm(ending string) {
	f := img.keptSide(ending)
	switch {
	case f == nil:
	case img.found != nil:
		img.found.confirm(ending, f.content)
	default:
		img.keep.confirm(ending, f.content)
		img.keep.settle(map[string]*side{ending: f})
	}
}

// Confirmed reports whether Confirm was called for a side file. What is not kept
// is not confirmed.
func (img *Image) Confirmed(ending string) bool {
	f := img.keptSide(ending)
	switch {
	case f == nil:
		return false
	case img.found != nil:
		return img.found.confirmed(ending, f.content)
	}
	return img.keep.confirmed(ending, f.content)
}

// keptSide is a side file that is here, of an image of which something is kept;
// else nil.
func (img *Image) keptSide(ending string) *side {
	f := img.sides.of(ending)
	if f == nil || img.keep == nil && img.found == nil {
		return nil
	}
	select {
	case <-f.done:
	default:
		return nil // on its way
	}
	if f.err != nil {
		return nil
	}
	return f
}

func (img *Image) replace(ending string, by *side) {
	img.sides.set(ending, by)
	img.keep.settle(map[string]*side{ending: by})
}

// A side is a file beside an index, on its way or here.
type side struct {
	done    chan struct{} // closed when what follows is set
	content []byte
	err     error // matches store.ErrMissing if there is none
}

func settled(content []byte, err error) *side {
	s := &side{done: make(chan struct{}), content: content, err: err}
	close(s.done)
	return s
}

// sides are the files beside an index. The zero value is ready to use.
type sides struct {
	mu  sync.Mutex
	all map[string]*side // by ending; guarded by mu

	life   context.Context // of what is under way
	cancel context.CancelFunc
	busy   sync.WaitGroup
}

func (s *sides) of(ending string) *side {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[ending]
}

func (s *sides) set(ending string, to *side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*side{}
	}
	s.all[ending] = to
}

// ask asks for files beside the index. They outlive the opening, which need not
// wait for them, and end with close.
func (img *Image) ask(ctx context.Context, endings []string) {
	s := &img.sides
	if s.cancel == nil {
		s.life, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	opt := img.opt.Open
	opt.Timeout = sideTime
	opt.Log = nil // an image can be read without
	for _, ending := range endings {
		where := open.Beside(img.location, ending)
		if where == "" {
			continue
		}
		f := &side{done: make(chan struct{})}
		s.set(ending, f)
		s.busy.Go(func() {
			defer close(f.done)
			f.content, f.err = readSide(s.life, where, opt)
		})
	}
}

// readSide reads a small file. One that a server refuses counts as missing:
// some refuse the names that they do not have.
func readSide(ctx context.Context, where string, opt open.Options) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, sideTime)
	defer cancel()
	content, err := open.Read(ctx, where, sideLimit, opt)
	if errors.Is(err, store.ErrRefused) {
		return nil, fmt.Errorf("%w: %w", store.ErrMissing, err)
	}
	return content, err
}

// close ends what is under way.
func (s *sides) close() {
	if s.cancel != nil {
		s.cancel()
	}
	s.busy.Wait()
}

// known waits for all files that were asked for, and returns those of which it
// is known then what they are, or that they are not there.
func (s *sides) known() map[string]*side {
	s.mu.Lock()
	known := maps.Clone(s.all)
	s.mu.Unlock()
	maps.DeleteFunc(known, func(_ string, f *side) bool {
		<-f.done
		return f.err != nil && !errors.Is(f.err, store.ErrMissing)
	})
	return known
}

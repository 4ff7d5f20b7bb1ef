package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"caravel/catar/walk"
	"caravel/image"
	"caravel/index"
	"caravel/memo"
)

// autoCache is where casync has its cache of a directory, in that.
const autoCache = ".cacac"

// cachePlace is the folder for what is remembered of the directory in; "": nothing is to be.
func (o makeOptions) cachePlace(in string) string {
	if o.cache == "" && o.cacheAuto {
		return filepath.Join(in, autoCache)
	}
	return o.cache
}

// A recall is what is remembered of a directory, and where.
type recall struct {
	*memo.Memo
	path    string
	packing *packing
}

// fromFolderAgain makes the index of a directory of which an earlier run may have remembered
// something, in the folder dir.
func (m *maker) fromFolderAgain(ctx context.Context, p *packing, dir string, mode fs.FileMode) (result, error) {
	for again := false; ; again = true {
		r, err := m.openRecall(p, dir)
		if err != nil {
			return result{}, fmt.Errorf("cache: %w", err)
		}
		made, err := m.chunks(ctx, p, p.flags, mode, r)
		if again || !errors.Is(err, image.ErrStale) || ctx.Err() != nil {
			return made, err
		}
		m.logger.Warn("all is read, as what the cache knows is not so any more", "err", err)
		p.restart()
		if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return result{}, err
		}
	}
}

// openRecall reads what an earlier run has remembered in the folder dir, which is made if it is
// not there, and left out of what is packed.
func (m *maker) openRecall(p *packing, dir string) (*recall, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if m.cache == "" {
		hideFromMakers(dir)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	p.opt.LeaveOut = appendInode(p.opt.LeaveOut, st)
	now, err := clockOf(dir)
	if err != nil {
		return nil, err
	}
	if st, err = os.Stat(m.in); err != nil {
		return nil, err
	}
	key := memo.Key{Flags: p.flags, Params: m.params}
	key.Root, _ = walk.InodeOf(st)
	r := &recall{path: filepath.Join(dir, key.Name()), packing: p}
	if r.Memo, err = memo.Open(r.path, key, now); err != nil {
		m.logger.Warn("the cache cannot be used, and is made anew", "err", err)
	}
	p.opt.Known = r.Known
	return r, nil
}

// options are how Make makes use of it; r is the stream of the directory.
func (r *recall) options(ctx context.Context, to *image.MakeOptions, stream io.Reader) {
	if r != nil {
		to.Parts = r.Parts(ctx, stream, r.packing.payloads, !to.NoDigest)
		to.State = r.State
	}
}

// keep remembers what was made. That the image is there does not depend on it.
func (r *recall) keep(ctx context.Context, x *index.Index, log *slog.Logger) {
	if r == nil {
		return
	}
	if err := r.Save(ctx, r.path, x); err != nil {
		log.Warn("the cache is not kept", "err", err)
	}
}

// clockOf is the time that files get which are written now in dir, or ours, if that is earlier.
func clockOf(dir string) (time.Time, error) {
	f, err := os.CreateTemp(dir, "clock-*.tmp")
	if err != nil {
		return time.Time{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	st, err := f.Stat()
	if now := time.Now(); err != nil || now.Before(st.ModTime()) {
		return now, err
	}
	return st.ModTime(), nil
}

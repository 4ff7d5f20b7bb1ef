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
	"strings"
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
	var st fs.FileInfo
	var err error
	if m.cache == "" {
		st, err = ownFolder(dir)
	} else {
		st, err = m.namedFolder(dir)
	}
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

// ownFolder makes the folder in the tree, if it is not there: others may have put something in its
// place.
func ownFolder(dir string) (fs.FileInfo, error) {
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	st, err := os.Lstat(dir)
	switch {
	case err != nil:
		return nil, err
	case !st.IsDir():
		return nil, fmt.Errorf("%s: is no directory", dir)
	case !ownedByUs(st):
		return nil, fmt.Errorf("%s: belongs to another user; --cache names another folder", dir)
	}
	hideFromMakers(dir)
	return st, nil
}

// namedFolder makes the folder of --cache, if it is not there. All that is in it is left out of
// what is packed, so in the tree it may hold nothing of others.
func (m *maker) namedFolder(dir string) (fs.FileInfo, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	in, err := os.Stat(m.in)
	if err != nil {
		return nil, err
	}
	if os.SameFile(st, in) {
		return nil, fmt.Errorf("%s: is what is packed; name a folder in it, or elsewhere", dir)
	}
	if within, err := liesWithin(dir, in); err != nil || !within || filepath.Base(dir) == autoCache {
		return st, err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !cacheFile(e.Name()) {
			return nil, fmt.Errorf("%s: lies in what is packed, and holds %q, which would be left out", dir, e.Name())
		}
	}
	return st, err
}

// liesWithin reports whether a folder lies somewhere in the directory in.
func liesWithin(dir string, in fs.FileInfo) (bool, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	for err == nil && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
		var up fs.FileInfo
		if up, err = os.Stat(dir); err == nil && os.SameFile(up, in) {
			return true, nil
		}
	}
	return false, err
}

// cacheFile reports whether a name is one that a cache has, or what a killed run leaves of one.
func cacheFile(name string) bool {
	clock, _ := filepath.Match("clock-*.tmp", name)
	return clock || strings.HasSuffix(name, ".memo") || strings.HasPrefix(name, ".#")
}

// options are how Make makes use of it; r is the stream of the directory.
func (r *recall) options(ctx context.Context, to *image.MakeOptions, stream io.Reader) {
	if r != nil {
		to.Parts = r.Parts(ctx, stream, r.packing.payloads, !to.NoDigest)
		to.State = r.State
	}
}

// count is how many chunks were known.
func (r *recall) count() int {
	if r == nil {
		return 0
	}
	return r.Reused()
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
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil { // now, so that a kill leaves nothing
		return time.Time{}, err
	}
	st, err := f.Stat()
	if now := time.Now(); err != nil || now.Before(st.ModTime()) {
		return now, err
	}
	return st.ModTime(), nil
}

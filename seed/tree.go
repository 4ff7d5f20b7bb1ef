package seed

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"

	"caravel/catar/walk"
	"caravel/internal/extents"
)

// A tree is a directory as the archive that can be made of it.
type tree struct {
	*folder
	path   string
	spool  *os.File // of the archive, what is in no file; nil before the scan
	length int64    // of that
}

func newTree(path string, root *os.Root) *tree { return &tree{folder: newFolder(root), path: path} }

// errUnread is about a tree whose archive nobody has made.
var errUnread = errors.New("seed: was not indexed")

// ReadAt reads of the archive, as far as it was made.
func (t *tree) ReadAt(p []byte, off int64) (int, error) {
	if t.spool == nil {
		return 0, errUnread
	}
	return t.readAt(p, off, t.spool)
}

// scan makes the archive. The chunks are found while it grows, but nobody reads before it is
// over.
func (t *tree) scan(ctx context.Context, s *scan, _ extents.List) error {
	r, err := walk.Open(ctx, t.path, s.set.x.Flags, walk.Options{Log: s.set.opt.Log, Known: func(walk.File) bool { return false }})
	if err != nil {
		return err
	}
	defer r.Close()
	spool, err := os.CreateTemp("", "caravel-seed-*")
	if err != nil {
		return err
	}
	if err := os.Remove(spool.Name()); err != nil {
		spool.Close()
		return err
	}
	t.spool = spool
	off, part := int64(0), 0
	var archive io.Reader = r
	if s.set.opt.Most > 0 {
		archive = io.LimitReader(r, s.set.opt.Most)
	}
	return s.scanStream(ctx, archive, func(b []byte) error {
		for _, p := range r.Payloads() {
			t.append(p.Path(), p.Off, p.Size)
		}
		var err error
		part, err = t.keep(b, off, part)
		off += int64(len(b))
		return err
	})
}

// keep writes those of the bytes b at off to the spool that are in no file; the files from
// number i on lie there or behind. It returns the same for what comes next.
func (t *tree) keep(b []byte, off int64, i int) (int, error) {
	for len(b) > 0 {
		for i < len(t.parts) && t.parts[i].end() <= off {
			i++
		}
		n := int64(len(b))
		inFile := i < len(t.parts) && t.parts[i].start <= off
		switch {
		case inFile:
			n = min(n, t.parts[i].end()-off)
		case i < len(t.parts):
			n = min(n, t.parts[i].start-off)
		}
		if !inFile {
			if _, err := t.spool.WriteAt(b[:n], t.length); err != nil {
				return i, err
			}
			t.length += n
		}
		b, off = b[n:], off+n
	}
	return i, nil
}

func (t *tree) Close() error {
	err := t.folder.Close()
	if t.spool != nil {
		err = cmp.Or(t.spool.Close(), err)
	}
	return err
}

package seed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"caravel/internal/extents"
)

// files are all those of a directory, as seeds of a disk: each is cut on its own.
type files struct{ *folder }

// newFiles lists a directory. What cannot be read of it is no seed.
func newFiles(root *os.Root) (*files, error) {
	f := &files{newFolder(root)}
	off := int64(0)
	err := fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case path == "." && err != nil:
			return fmt.Errorf("seed: %w", err)
		case err != nil || !d.Type().IsRegular():
			return nil
		}
		if st, err := d.Info(); err == nil && st.Mode().IsRegular() && st.Size() > 0 {
			f.append(path, off, st.Size())
			off += st.Size()
		}
		return nil
	})
	return f, err
}

// ReadAt reads one file behind the other.
func (f *files) ReadAt(p []byte, off int64) (int, error) {
	return f.readAt(p, off, bytes.NewReader(nil))
}

func (f *files) scan(ctx context.Context, s *scan, _ extents.List) error {
	for i := range f.parts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := f.scanFile(ctx, s, i); err != nil && ctx.Err() == nil {
			s.seed.Doubt(err)
		}
	}
	return ctx.Err()
}

func (f *files) scanFile(ctx context.Context, s *scan, i int) error {
	o, err := f.take(i)
	if err != nil {
		return err
	}
	defer f.giveBack(o)
	part := &f.parts[i]
	data, err := extents.Of(o.file, part.size)
	if err != nil {
		return err
	}
	// Its offsets are those of the stream.
	for k := range data {
		data[k].Start += part.start
		data[k].End += part.start
	}
	begin := extents.List{{Start: part.start - 1, End: part.start}} // a chunk begins there
	all := jobs(data, begin, part.end(), int64(leads*s.max))
	return s.runJobs(ctx, shifted{o.file, part.start}, data, all)
}

// A shifted reader begins at an offset.
type shifted struct {
	r     io.ReaderAt
	start int64
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) { return s.r.ReadAt(p, off-s.start) }

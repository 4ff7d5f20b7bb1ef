package seed

import (
	"context"
	"fmt"
	"io"
	"os"

	"caravel/internal/extents"
)

// A file is a seed that is a file or a block device.
type file struct {
	*os.File
	size int64
	data extents.List // of it, what is no hole
	lent bool         // it is not ours to close
}

// openFile opens a seed. A FIFO is not waited for.
func openFile(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openQuick, 0)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	opened, err := newFile(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return opened, nil
}

func newFile(f *os.File) (*file, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	device := st.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice
	if !st.Mode().IsRegular() && !device {
		return nil, fmt.Errorf("seed: %s: neither a file, nor a block device, nor a directory", f.Name())
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	data, err := extents.Of(f, size)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	return &file{File: f, size: size, data: data}, nil
}

func (f *file) use(off, _ int64, use func(*os.File, int64) error) error { return use(f.File, off) }

// leads is how many of the longest chunks a worker begins early.
const leads = 4

func (f *file) scan(ctx context.Context, s *scan, known extents.List) error {
	data, size := f.data, f.size
	if most := s.set.opt.Most; most > 0 && most < size {
		data, size = data.Minus(extents.List{{Start: most, End: size}}), most
	}
	return s.runJobs(ctx, f.File, data, jobs(data, known, size, int64(leads*s.max)))
}

func (f *file) Close() error {
	if f.lent {
		return nil
	}
	return f.File.Close()
}

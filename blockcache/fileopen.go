package blockcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MapSuffix is what the map's name has behind the file's.
const MapSuffix = ".map"

var (
	errLink      = errors.New("is a symbolic link")
	errIrregular = errors.New("is not a regular file")
)

// open opens or makes data and map.
//
// While it does, it holds a lock on the data; who changes bits of the map takes
// the same. Whoever has the file open holds a shared lock on the map, so that it
// is not begun anew below him.
func (f *File) open(h header, wrap func(path string, s sink) sink) (err error) {
	var opened []*os.File
	defer func() {
		if err != nil {
			for _, o := range opened {
				o.Close() // nothing was written
			}
		}
	}()
	if f.data, err = openRegular(f.path, os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	opened = append(opened, f.data)
	if f.seen, err = openRegular(f.path, os.O_RDONLY); err != nil {
		return err
	}
	opened = append(opened, f.seen)
	if err := sameFile(f.data, f.seen); err != nil {
		return err
	}
	if err := lock(f.data, exclusive); err != nil {
		return err
	}
	defer unlock(f.data)
	st, err := f.data.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	if size != 0 && size != f.opt.Size {
		return fmt.Errorf("%d bytes long, not %d: another file, or one that was cut; remove it to begin anew", size, f.opt.Size)
	}
	m, err := f.openMap(size)
	if err != nil {
		return err
	}
	opened = append(opened, m)
	f.out = wrap(f.path, synced{f.data})
	f.chart = &chart{header: h, file: m, out: wrap(f.path+MapSuffix, synced{m}), data: f.data}
	return f.begin(size)
}

// openMap opens the map of a file that has size bytes; where there are some it
// must be there.
func (f *File) openMap(size int64) (*os.File, error) {
	name, flags := f.path+MapSuffix, os.O_RDWR
	if size == 0 {
		flags |= os.O_CREATE
	}
	m, err := openRegular(name, flags)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("is not empty and has no map (%s): not a materialised image; remove it to begin anew", filepath.Base(name))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return m, nil
}

// begin reads the map, or starts an empty one beside an empty file. The order
// matters: a file that has bytes has a map.
//
// An empty file whose map is in use was emptied below somebody who believes what
// he has verified of it. It is not given its length again: he would read zeros.
func (f *File) begin(size int64) error {
	f.believed, f.claimed = newBits(f.rows), newBits(f.rows)
	bad := f.chart.ours()
	if bad != nil && size > 0 {
		return fmt.Errorf("%s: %w; remove both to begin anew", filepath.Base(f.chart.file.Name()), bad)
	}
	if size == 0 {
		switch err := lock(f.chart.file, exclusive|now); {
		case err == nil:
			if err := f.chart.begin(); err != nil {
				return err
			}
			if err := syncDir(filepath.Dir(f.path)); err != nil {
				return err
			}
		case bad != nil:
			return fmt.Errorf("%s: in use by another process, for another image", filepath.Base(f.chart.file.Name()))
		default:
			return fmt.Errorf("is empty, though another process uses its map (%s); remove both to begin anew", filepath.Base(f.chart.file.Name()))
		}
		if err := f.data.Truncate(f.opt.Size); err != nil {
			return err
		}
	}
	if err := lock(f.chart.file, shared); err != nil {
		return err
	}
	return f.chart.load(f.claimed)
}

// openRegular opens a regular file, and nothing else.
func openRegular(path string, flags int) (*os.File, error) {
	st, err := os.Lstat(path)
	switch {
	case err != nil && !(errors.Is(err, fs.ErrNotExist) && flags&os.O_CREATE != 0):
		return nil, bare(err)
	case err == nil && st.Mode()&fs.ModeSymlink != 0:
		return nil, errLink
	case err == nil && !st.Mode().IsRegular():
		return nil, errIrregular
	}
	f, err := os.OpenFile(path, flags|noFollow, 0o600)
	if err != nil {
		return nil, bare(err)
	}
	if st, err = f.Stat(); err == nil && !st.Mode().IsRegular() {
		err = errIrregular
	}
	if err != nil {
		f.Close() // nothing was written
		return nil, bare(err)
	}
	return f, nil
}

// bare is an error of the os package without the path, which is said once.
func bare(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// sameFile returns an error if somebody has put another file in the place of the
// first between the two.
func sameFile(a, b *os.File) error {
	first, err := a.Stat()
	if err != nil {
		return err
	}
	second, err := b.Stat()
	if err == nil && !os.SameFile(first, second) {
		err = errors.New("was replaced while it was opened")
	}
	return err
}

// syncDir brings the names in a directory to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// synced is a file of which Sync brings the bytes to the disk, and not the times.
type synced struct{ *os.File }

func (s synced) Sync() error { return dataSync(s.File) }

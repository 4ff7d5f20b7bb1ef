package image

import (
	"cmp"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"caravel/index"
	"caravel/internal/extents"
)

// A target is what Extract writes to.
type target struct {
	file       *os.File
	path       string // the final name, symbolic links followed
	part       string // the name until it is complete; "": written in place
	old        fs.FileInfo
	size       int64
	sequential bool // takes bytes in order only
	fill       bool // holes are written as zeros
	dry        bool // nothing is written
	device     bool
	published  bool         // has its final name
	data       extents.List // where the file may hold something other than zeros
	block      int64        // of the file system: what can be shared begins and ends at multiples of it
	clones     bool         // blocks can be shared
}

func openTarget(path string, x *index.Index, opt ExtractOptions) (*target, error) {
	old, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if old == nil || old.Mode().IsRegular() {
		// Only these are known by a name: /dev/stdout may lead to a pipe.
		if path, err = resolve(path); err != nil {
			return nil, err
		}
	}
	t := &target{path: path, old: old, size: x.Size(), fill: opt.Fill, dry: opt.DryRun}
	switch {
	case t.old == nil && opt.InPlace && !t.dry:
		return t, t.openInPlace(os.O_CREATE, opt)
	case t.old == nil:
		return t, t.openPart(x, opt)
	case t.old.IsDir():
		return nil, fmt.Errorf("image: %s: is a directory; name the file that the image shall become", path)
	case isStream(t.old):
		t.sequential = true
		if !t.dry {
			t.file, err = os.OpenFile(path, os.O_WRONLY, 0)
		}
		return t, err
	case isBlockDevice(t.old.Mode()):
		return t, t.openDevice()
	case !t.old.Mode().IsRegular():
		return nil, fmt.Errorf("image: %s: %v is nothing that an image can be written to", path, t.old.Mode().Type())
	case opt.InPlace:
		return t, t.openInPlace(0, opt)
	}
	return t, t.openPart(x, opt)
}

// resolve follows symbolic links, also one whose target is not there yet. The folder that the
// path returned lies in is none, so that it can be taken apart as a string.
func resolve(path string) (string, error) {
	for range 40 { // as many as Linux follows
		dir, name := filepath.Split(path)
		if real, err := filepath.EvalSymlinks(cmp.Or(dir, ".")); err == nil {
			dir, path = real, filepath.Join(real, name)
		}
		to, err := os.Readlink(path)
		if err != nil {
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = dir + string(filepath.Separator) + to // a .. in there may lead out of a link
		}
		path = to
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// openDevice opens a block device, which is never replaced by a file and not
// touched if the image does not fit.
func (t *target) openDevice() error {
	how := os.O_RDWR | openExclusive
	if t.dry {
		how = os.O_RDONLY
	}
	f, err := os.OpenFile(t.path, how, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size < t.size {
		err = fmt.Errorf("image: %s: the device has %d bytes, the image %d", t.path, size, t.size)
	}
	if err != nil {
		f.Close()
		return err
	}
	t.file, t.device = f, true
	t.data = extents.List{{Start: 0, End: t.size}}
	return nil
}

func (t *target) openInPlace(create int, opt ExtractOptions) error {
	how := os.O_RDWR | create
	if t.dry {
		how = os.O_RDONLY
	}
	f, err := os.OpenFile(t.path, how, 0o666)
	if err != nil {
		return err
	}
	return t.use(f, opt)
}

// openPart opens the file that becomes the target. Its name says which image
// it belongs to, so the next run continues it if this one is interrupted.
func (t *target) openPart(x *index.Index, opt ExtractOptions) error {
	mode := fs.FileMode(0o666)
	if t.old != nil {
		mode = 0o600 // until it is complete
	}
	prefix, err := partPrefix(t.path)
	if err != nil {
		return err
	}
	h := sha512.New512_256()
	if _, err := x.WriteTo(h); err != nil {
		return err
	}
	t.part = prefix + hex.EncodeToString(h.Sum(nil)[:8]) + partSuffix
	if t.dry {
		if st, err := os.Lstat(t.part); err != nil || !st.Mode().IsRegular() {
			return nil // nothing is done yet
		}
		f, err := os.Open(t.part)
		if err != nil {
			return err
		}
		return t.use(f, opt)
	}
	f, err := openLocked(t.part, mode, t.old)
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		return &fs.PathError{Op: "create", Path: t.path, Err: failed.Err} // the name that the user knows
	}
	if err != nil {
		return err
	}
	if t.old != nil {
		if err := inheritOwner(f, t.old); err != nil {
			os.Remove(t.part)
			f.Close()
			return fmt.Errorf("image: %s: %w; write into it with --in-place", t.path, err)
		}
	}
	t.removeStale(prefix)
	err = t.use(f, opt)
	if isDiskFull(err) {
		os.Remove(t.part) // it will not be continued here
	}
	return err
}

// partSuffix ends the name of every file that Extract has not completed.
const partSuffix = ".part"

// partPrefix begins the names of all unfinished files of a target.
func partPrefix(path string) (string, error) {
	dir, name := filepath.Split(path)
	if name == "" || name == "." || name == ".." {
		return "", fmt.Errorf("image: %q: want the name of a file", path)
	}
	const rest = len(".#") + len(".0123456789abcdef") + len(partSuffix)
	if len(name) > 255-rest {
		sum := sha512.Sum512_256([]byte(name))
		name = name[:100] + hex.EncodeToString(sum[:8])
	}
	return filepath.Join(dir, ".#"+name+"."), nil
}

// removeStale removes what runs for other versions of the image left behind.
// One that is locked belongs to a run that is still going on.
func (t *target) removeStale(prefix string) {
	entries, _ := os.ReadDir(filepath.Dir(prefix))
	for _, e := range entries {
		name := filepath.Join(filepath.Dir(prefix), e.Name())
		key, ok := strings.CutPrefix(name, prefix)
		if !ok || name == t.part || len(key) != 16+len(partSuffix) || !strings.HasSuffix(key, partSuffix) {
			continue
		}
		if f, err := openLocked(name, 0o600, t.old); err == nil {
			os.Remove(name)
			f.Close()
		}
	}
}

// use takes f as the file to write: what it holds already is taken note of. It gets the
// image's size at the end, as until then all of it is a seed.
func (t *target) use(f *os.File, opt ExtractOptions) error {
	st, err := f.Stat()
	if err == nil {
		t.data, err = extents.Of(f, min(st.Size(), t.size))
	}
	if err != nil {
		f.Close()
		return err
	}
	t.file = f
	t.block = blockSize(f)
	t.clones = t.block > 0 && !t.fill && !t.dry && !opt.NoReflink && canClone(f, t.block)
	return nil
}

// mayHold reports whether the file held anything in [start, end) when it was
// opened; if not, it reads as zeros.
func (t *target) mayHold(start, end int64) bool { return t.data.Touches(start, end) }

// ReadAt reads what is there.
func (t *target) ReadAt(p []byte, off int64) (int, error) { return t.file.ReadAt(p, off) }

// Use is an origin's.
func (t *target) Use(off, _ int64, f func(*os.File, int64) error) error { return f(t.file, off) }

// clear makes n bytes at off read as zeros.
func (t *target) clear(off, n int64) error {
	if t.dry {
		return nil
	}
	held := t.mayHold(off, off+n)
	if !held && !t.fill {
		return nil
	}
	if held && !t.fill && !t.device && punch(t.file, off, n) == nil {
		return nil
	}
	for n > 0 {
		part := min(n, int64(len(blank)))
		if _, err := t.file.WriteAt(blank[:part], off); err != nil {
			return fmt.Errorf("image: %w", err)
		}
		off, n = off+part, n-part
	}
	return nil
}

// minHole is the shortest run of zeros inside a chunk that is left out: below
// it, one longer write costs less than two and a hole.
const minHole = 16 << 10

// writeAt writes a chunk, leaving its zeros out where the file has a hole.
func (t *target) writeAt(b []byte, off int64) error {
	if t.fill || t.mayHold(off, off+int64(len(b))) {
		return t.write(b, off)
	}
	for len(b) > 0 {
		data, hole := leadingData(b, off)
		if data > 0 {
			if err := t.write(b[:data], off); err != nil {
				return err
			}
		}
		b, off = b[data+hole:], off+int64(data+hole)
	}
	return nil
}

func (t *target) write(b []byte, off int64) error {
	if _, err := t.file.WriteAt(b, off); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

// leadingData splits off the first part of b: data bytes to be written and, if
// b does not end before, the hole bytes behind them. Holes begin and end at
// multiples of 4 KiB in the file, the least that a file system can leave out.
func leadingData(b []byte, off int64) (data, hole int) {
	const block = 4 << 10
	start := 0 // of the run of zeros that is being looked at
	run := false
	for i := int(-off & (block - 1)); i+block <= len(b); i += block {
		switch zero := isZero(b[i : i+block]); {
		case zero && !run:
			start, run = i, true
		case !zero && run:
			if i-start >= minHole {
				return start, i - start
			}
			run = false
		}
	}
	if run {
		end := len(b) - int((off+int64(len(b)))&(block-1))
		if end-start >= minHole {
			return start, end - start
		}
	}
	return len(b), 0
}

// close ends a run that has written nothing.
func (t *target) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// commit gives the complete file its name. sync: not before it is on disk.
func (t *target) commit(sync bool) error {
	if !t.device {
		if err := t.file.Truncate(t.size); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	if t.part != "" && t.old != nil {
		if err := t.file.Chmod(t.old.Mode()); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	if sync {
		if err := t.file.Sync(); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	if t.part == "" {
		return t.file.Close()
	}
	if err := publish(t.file, t.part, t.path); err != nil {
		return err
	}
	t.published = true
	if sync {
		return syncDir(filepath.Dir(t.path))
	}
	return nil
}

// abandon ends a failed run and adds to its error what is left of it. A part
// file that holds something stays, except on a full disk.
func (t *target) abandon(err error, something bool) error {
	t.file.Close() // after a failed write: what Close could add is known
	switch {
	case t.published:
		return err
	case t.part == "":
		return fmt.Errorf("%w (%s is incomplete: run it again to continue)", err, t.path)
	case !something || isDiskFull(err):
		os.Remove(t.part)
		return err
	}
	return fmt.Errorf("%w (what is done is kept in %s: run it again to continue)", err, t.part)
}

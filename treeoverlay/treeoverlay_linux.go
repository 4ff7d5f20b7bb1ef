package treeoverlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/mounts"
)

// Who writes to a folder.
const (
	byKernel  = "overlayfs"
	byProgram = "fuse-overlayfs"
)

// A Dir is a folder that holds what is written over a tree, this process's alone until
// Close.
type Dir struct {
	path   string // absolute, without symbolic links
	over   Image
	writer string
	record *os.File // locked
	fresh  bool     // nothing was ever mounted of it
}

// Open takes the folder for what is written over an image, or makes it. It is an error
// if that holds something else, is another image's, or another process has it: that is
// waited for a moment, as one that was killed may still be about to end.
func Open(ctx context.Context, dir string, over Image) (*Dir, error) {
	d := &Dir{over: over, writer: byProgram}
	if os.Geteuid() == 0 {
		d.writer = byKernel
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		d.path, err = mounts.Resolve(dir)
	}
	if err == nil {
		err = d.openRecord(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("treeoverlay: %s: %w", dir, reason(err))
	}
	return d, nil
}

// Close gives the folder back. What was mounted of it has to have ended.
func (d *Dir) Close() error { return d.record.Close() }

func (d *Dir) upper() string { return filepath.Join(d.path, "upper") }
func (d *Dir) work() string  { return filepath.Join(d.path, "work") }
func (d *Dir) lower() string { return filepath.Join(d.path, "lower") }

// openRecord locks the record, which has to fit.
func (d *Dir) openRecord(ctx context.Context) (err error) {
	path := filepath.Join(d.path, recordName)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := d.wantEmpty(); err != nil {
			return err
		}
	}
	d.record, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	if st, e := d.record.Stat(); e != nil || !st.Mode().IsRegular() {
		err = errors.Join(e, fmt.Errorf("%s: not a file", recordName))
	} else if err = lock(ctx, d.record); err == nil {
		err = d.readRecord()
	}
	if err != nil {
		d.record.Close()
	}
	return err
}

// wantEmpty refuses a folder that others have put things in. A new file system is not
// quite empty; another process may be about to make its record.
func (d *Dir) wantEmpty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != "lost+found" && name != recordName {
			return fmt.Errorf("holds %q and is no overlay of caravel's; name an empty directory or a new one", name)
		}
	}
	return nil
}

// readRecord compares what the folder is with what it is wanted for. One without a
// record was made by a process that did not come to mount it.
func (d *Dir) readRecord() error {
	b, err := io.ReadAll(io.LimitReader(d.record, maxRecord))
	if err != nil {
		return err
	}
	if d.fresh = len(b) == 0; d.fresh {
		return nil
	}
	r, err := parseRecord(b)
	if err != nil {
		return fmt.Errorf("%s: %w", recordName, err)
	}
	return r.fits(d.over, d.writer)
}

// patience is for a process that was killed to be gone with all that it has started.
const patience = 2 * time.Second

var errInUse = errors.New("another process has it in use")

// lock locks a file for as long as some process has this opening of it.
func lock(ctx context.Context, f *os.File) error {
	for end := time.Now().Add(patience); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Now().After(end):
			return errInUse
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// makeLayers makes what the folder holds, as far as it is not there.
func (d *Dir) makeLayers() error {
	for _, dir := range []string{d.upper(), d.work(), d.lower()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// bind writes down which image the folder belongs to from now on. Before that, upper
// gets what the root of the tree has.
func (d *Dir) bind() error {
	if !d.fresh {
		return nil
	}
	if err := copyAttributes(d.upper(), d.lower()); err != nil {
		return err
	}
	b, err := json.Marshal(record{format, d.over.ID, d.over.Part, d.over.Name, d.writer})
	if err == nil {
		_, err = d.record.WriteAt(append(b, '\n'), 0)
	}
	if err == nil {
		err = d.record.Sync()
	}
	d.fresh = err != nil
	return err
}

// reason leaves out what the caller says anyway.
func reason(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

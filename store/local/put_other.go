//go:build !linux

package local

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// platform is what a Dir keeps where not the whole file system can be synced.
type platform struct {
	mu    sync.Mutex          // guards dirty
	dirty map[string]struct{} // paths that Sync has to write out
}

func (d *Dir) put(path string, src *source) error { return d.putTemp(path, src) }

// wrote leaves path to Sync.
func (d *Dir) wrote(path string) error {
	d.add(map[string]struct{}{path: {}})
	return nil
}

func (d *Dir) add(paths map[string]struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirty == nil {
		d.dirty = make(map[string]struct{})
	}
	maps.Copy(d.dirty, paths)
}

// Sync writes out every object that was put, and the folders above them.
func (d *Dir) Sync(ctx context.Context) error {
	d.mu.Lock()
	dirty := d.dirty
	d.dirty = nil
	d.mu.Unlock()
	if err := d.syncPaths(ctx, dirty); err != nil {
		d.add(dirty)
		return err
	}
	return nil
}

func (d *Dir) syncPaths(ctx context.Context, paths map[string]struct{}) error {
	folders := make(map[string]struct{})
	for path := range paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := syncFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed(path, err)
		}
		for path != filepath.Dir(d.dir) {
			path = filepath.Dir(path)
			folders[path] = struct{}{}
		}
	}
	for folder := range folders {
		if err := syncFolder(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed(folder, err)
		}
	}
	return nil
}

func syncFile(path string) error {
	flag := os.O_RDONLY
	if runtime.GOOS == "windows" {
		flag = os.O_RDWR // its sync needs write access
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

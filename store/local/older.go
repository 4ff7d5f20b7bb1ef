package local

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"caravel/store"
)

// DeleteOlder removes an object that was neither written nor renewed since a time, and the
// folder in which it lay if it was the last one there. Who renews an object (Stat and Open
// with Options.Renew do) and finds it there has it: it is taken out of its place first,
// and put back if it has become younger meanwhile.
func (d *Dir) DeleteOlder(ctx context.Context, name string, than time.Time) (removed bool, info store.Info, err error) {
	path, err := d.path(ctx, name)
	if err != nil {
		return false, info, err
	}
	fi, err := os.Lstat(path)
	switch {
	case missing(err):
		return false, info, nil
	case err != nil:
		return false, info, failed(path, err)
	}
	info = store.Info{Size: fi.Size(), ModTime: fi.ModTime()}
	if fi.ModTime().After(than) {
		return false, info, nil
	}
	aside := store.UnfinishedName(path)
	if err := os.Rename(path, aside); err != nil {
		if missing(err) {
			return false, info, nil
		}
		return false, info, failed(path, err)
	}
	if fi, err = os.Lstat(aside); err == nil && fi.ModTime().After(than) {
		info.ModTime = fi.ModTime()
		if err := os.Link(aside, path); err != nil && !os.IsExist(err) { // then it was stored anew
			return false, info, failed(path, err)
		}
		return false, info, remove(aside)
	}
	if err := remove(aside); err != nil {
		return false, info, err
	}
	if folder := filepath.Dir(path); folder != d.dir {
		_ = os.Remove(folder) // if it is empty; who is about to put something there makes it again
	}
	return true, info, nil
}

// remove removes a file that may have been removed.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !missing(err) {
		return failed(path, err)
	}
	return nil
}

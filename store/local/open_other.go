//go:build !linux

package local

import (
	"io/fs"
	"os"
	"time"

	"caravel/store"
)

// openFile opens a regular file.
func openFile(path string, follow bool) (readFile, store.Info, error) {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	fi, err := stat(path) // before it is opened: a FIFO would stop us
	switch {
	case err != nil:
		return nil, store.Info{}, err
	case fi.Mode().Type() == fs.ModeSymlink:
		return nil, store.Info{}, fs.ErrNotExist
	case !fi.Mode().IsRegular():
		return nil, store.Info{}, errNotFile
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, store.Info{}, err
	}
	if fi, err = f.Stat(); err != nil {
		f.Close()
		return nil, store.Info{}, err
	}
	return f, store.Info{Size: fi.Size(), ModTime: fi.ModTime()}, nil
}

// touch gives a file the time of now.
func touch(path string) error {
	now := time.Now()
	return os.Chtimes(path, now, now)
}

package local

import (
	"context"
	"io/fs"
	"os"

	"caravel/store"
)

// file opens an object by the way that the system has.
func (d *Dir) file(ctx context.Context, name string, open func(path string) (*os.File, error)) (*os.File, store.Info, error) {
	path, err := d.path(ctx, name)
	if err != nil {
		return nil, store.Info{}, err
	}
	f, err := open(path)
	if err != nil {
		return nil, store.Info{}, unreadable(path, err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
	case st.IsDir():
		err = fs.ErrNotExist // no object has that name
	case !st.Mode().IsRegular():
		err = errNotFile
	}
	if err != nil {
		f.Close()
		return nil, store.Info{}, unreadable(path, err)
	}
	d.renew(path, st.ModTime())
	return f, store.Info{Size: st.Size(), ModTime: st.ModTime()}, nil
}

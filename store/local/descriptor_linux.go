package local

import (
	"context"

	"caravel/store"
)

// Descriptor opens an object as File does, as a bare descriptor, which the caller
// closes: for who opens thousands in a second, as an os.File costs more than the two
// system calls.
func (d *Dir) Descriptor(name string) (fd int, info store.Info, err error) {
	path, err := d.path(context.Background(), name)
	if err != nil {
		return -1, store.Info{}, err
	}
	if fd, info, err = openRegular(path, d.opt.Follow); err != nil {
		return -1, store.Info{}, unreadable(path, err)
	}
	d.renew(path, info.ModTime)
	return fd, info, nil
}

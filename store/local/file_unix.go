//go:build unix

package local

import (
	"context"
	"os"
	"syscall"

	"caravel/store"
)

// File opens an object as a file, for those who have the system send it. Its owner
// closes it.
func (d *Dir) File(ctx context.Context, name string) (*os.File, store.Info, error) {
	flags := syscall.O_NONBLOCK | syscall.O_NOCTTY // a FIFO must not stop us
	if !d.opt.Follow {
		flags |= syscall.O_NOFOLLOW
	}
	return d.file(ctx, name, func(path string) (*os.File, error) {
		// Package os would ask the kernel to tell when there is something to read,
		// which it does of no file: a system call for nothing.
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|flags, 0)
		if err == syscall.EINTR {
			return os.OpenFile(path, os.O_RDONLY|flags, 0)
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	})
}

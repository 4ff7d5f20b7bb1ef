//go:build linux || freebsd

package main

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"caravel/internal/extents"
)

// nextHole finds the first hole that ends behind off, and io.EOF if there is none.
func nextHole(f *os.File, off int64) (start, stop int64, err error) {
	start, err = f.Seek(off, unix.SEEK_HOLE) // the end of the file counts as one
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, err
	}
	stop, err = extents.NextData(f, start)
	return start, stop, err
}

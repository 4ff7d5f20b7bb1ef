//go:build linux || freebsd

package main

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
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
	stop, err = f.Seek(start, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		// Up to where the file ends now: if it has become shorter, there are no zeros behind.
		stop, err = f.Seek(0, io.SeekEnd)
	}
	return start, stop, err
}

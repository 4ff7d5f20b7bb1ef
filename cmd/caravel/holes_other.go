//go:build !linux && !freebsd

package main

import (
	"errors"
	"os"
)

// nextHole knows of none here.
func nextHole(*os.File, int64) (start, stop int64, err error) { return 0, 0, errors.ErrUnsupported }

//go:build !linux

package image

import (
	"errors"
	"os"
)

const openExclusive = 0

func punch(*os.File, int64, int64) error { return errors.ErrUnsupported }

// blockSize is not known here.
func blockSize(*os.File) int64 { return 0 }

func canClone(*os.File, int64) bool { return false }

func isUnclonable(error) bool { return true }

func clone(*os.File, int64, *os.File, int64, int64) error { return errors.ErrUnsupported }

//go:build !linux && !freebsd

package image

import (
	"errors"
	"io/fs"
	"os"
)

// isSparse knows of no holes here.
func isSparse(fs.FileInfo) bool { return false }

func seekData(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }

func seekHole(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }

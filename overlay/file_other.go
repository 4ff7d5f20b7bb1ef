//go:build !linux && !darwin && !freebsd

package overlay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

const noFollow = 0

// bootID fails: nothing can be opened here.
func bootID() (id [bootSize]byte, err error) {
	return id, fmt.Errorf("not on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func lock(*os.File) error       { return errors.ErrUnsupported }
func dataSync(f *os.File) error { return f.Sync() }

func punch(*os.File, int64, int64) error     { return errors.ErrUnsupported }
func zeroRange(*os.File, int64, int64) error { return errors.ErrUnsupported }
func allocate(*os.File, int64, int64) error  { return errors.ErrUnsupported }

func seekData(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }
func seekHole(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }

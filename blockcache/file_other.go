//go:build !linux

package blockcache

import "os"

const noFollow = 0

// How a file is locked: not at all, here. What locks keep apart is a loss of
// hints.
const (
	shared = iota
	exclusive
	now
)

func lock(*os.File, int) error { return nil }
func unlock(*os.File)          {}

func dataSync(f *os.File) error { return f.Sync() }

// isFull reports whether a write failed for lack of room, which is not known
// here.
func isFull(error) bool { return false }

// seekData takes all for data, and seekHole for holes: both have to be read.
func seekData(_ *os.File, off int64) (int64, error) { return off, nil }
func seekHole(_ *os.File, off int64) (int64, error) { return off, nil }

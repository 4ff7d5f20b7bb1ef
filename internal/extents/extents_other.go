//go:build !linux && !freebsd

package extents

import "os"

// Of lists the parts of the first size bytes of f that are no holes: here, all of them.
func Of(_ *os.File, size int64) (List, error) {
	if size <= 0 {
		return nil, nil
	}
	return List{{0, size}}, nil
}

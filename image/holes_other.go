//go:build !linux && !freebsd

package image

import "io/fs"

// isSparse knows of no holes here.
func isSparse(fs.FileInfo) bool { return false }

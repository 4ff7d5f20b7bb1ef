//go:build !linux

package main

import (
	"io/fs"

	"caravel/catar/walk"
)

// inodesOf is nothing: directories are packed on Linux only.
func inodesOf(fs.FileInfo) []walk.Inode { return nil }

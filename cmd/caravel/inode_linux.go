package main

import (
	"io/fs"
	"syscall"

	"caravel/catar/walk"
)

// inodesOf is which node of the file system something is.
func inodesOf(st fs.FileInfo) []walk.Inode {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return []walk.Inode{{Dev: sys.Dev, Ino: sys.Ino}}
	}
	return nil
}

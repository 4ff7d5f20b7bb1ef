//go:build !linux

package main

import "io/fs"

// hideFromMakers is for where directories are packed.
func hideFromMakers(string) {}

// ownedByUs is for where directories are packed, too.
func ownedByUs(fs.FileInfo) bool { return true }

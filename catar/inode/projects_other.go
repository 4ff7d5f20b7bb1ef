//go:build !linux

package inode

// HasProjects is false: quota projects are Linux's.
func HasProjects(string) bool { return false }

//go:build !linux

package main

// hasProjects is false: quota projects are Linux's.
func hasProjects(string) bool { return false }

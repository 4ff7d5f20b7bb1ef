//go:build unix

package nbd

import "syscall"

// descriptors is how many file descriptors the process may have. What it serves
// needs some, too: a client must not take those with which chunks are read.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return many
	}
	return int(min(uint64(limit.Cur), many))
}

package nbd

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// noCachestat: the kernel is older than Linux 6.5, which is also the first one whose
// Unix sockets take pages without a copy.
var noCachestat atomic.Bool

// tellsMemory reports whether inMemory can ever say yes.
func tellsMemory() bool { return !noCachestat.Load() }

// inMemory reports whether the n bytes at off of f are in the page cache, as far as the
// system tells.
func inMemory(f *os.File, off, n int64) (yes bool) {
	file, err := f.SyscallConn()
	if err != nil {
		return false
	}
	page := int64(os.Getpagesize())
	pages := (off+n+page-1)/page - off/page
	err = file.Control(func(fd uintptr) {
		var found unix.Cachestat_t
		err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &found, 0)
		if err == unix.ENOSYS {
			noCachestat.Store(true)
		}
		yes = err == nil && found.Cache >= uint64(pages)
	})
	return yes && err == nil
}

// sendFile sends n bytes of f at off. It returns how many were sent; err is what
// ailed the file, lost what ailed the socket.
func sendFile(socket syscall.RawConn, f *os.File, off int64, n int) (sent int, err, lost error) {
	file, err := f.SyscallConn()
	if err != nil {
		return 0, err, nil
	}
	var errno error
	inner := file.Control(func(in uintptr) {
		lost = socket.Write(func(to uintptr) bool {
			for sent < n && errno == nil {
				k := 0
				k, errno = unix.Sendfile(int(to), int(in), &off, n-sent)
				switch {
				case k > 0:
					sent, errno = sent+k, nil
				case errno == unix.EINTR:
					errno = nil
				case errno == unix.EAGAIN:
					errno = nil
					return false
				case errno == nil:
					errno = io.ErrUnexpectedEOF // the file is shorter
				}
			}
			return true
		})
	})
	switch {
	case lost != nil:
		return sent, nil, lost
	case inner != nil:
		return sent, inner, nil
	case errors.Is(errno, unix.EPIPE), errors.Is(errno, unix.ECONNRESET), errors.Is(errno, unix.ENOTCONN), errors.Is(errno, unix.ETIMEDOUT):
		return sent, nil, errno
	}
	return sent, errno, nil
}

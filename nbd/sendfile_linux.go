package nbd

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// canSendFile reports whether a socket takes bytes out of a file without us.
func canSendFile(out any) bool {
	_, ok := out.(syscall.Conn)
	return ok
}

// inMemory reports whether the n bytes at off of f are in the page cache. It is false
// where the system does not tell, as before Linux 6.5, which is also the first one
// whose Unix sockets take pages without a copy.
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
		yes = err == nil && found.Cache >= uint64(pages)
	})
	return yes && err == nil
}

// sendFile sends n bytes of f at off. It returns how many were sent; err is what
// ailed the file, lost what ailed the socket.
func sendFile(out any, f *os.File, off int64, n int) (sent int, err, lost error) {
	socket, lost := out.(syscall.Conn).SyscallConn()
	if lost != nil {
		return 0, nil, lost
	}
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

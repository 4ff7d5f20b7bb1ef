package server

import (
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket is a connection that is read and written with less ado than package net
// makes: it never waits in the kernel, so that the runtime need not be told of each
// call, and look after it.
type socket struct {
	raw         syscall.RawConn
	read, write func(fd uintptr) bool // read into, and write, buf; made once

	buf  []byte
	done int // bytes of buf that were read or written
	err  error
}

func newSocket(raw syscall.RawConn) *socket {
	s := &socket{raw: raw}
	s.read = func(fd uintptr) bool {
		s.done, s.err = atOnce(unix.SYS_READ, int(fd), s.buf, 0)
		return s.err != syscall.EAGAIN
	}
	s.write = func(fd uintptr) bool {
		for s.done < len(s.buf) {
			n, err := atOnce(unix.SYS_WRITE, int(fd), s.buf[s.done:], 0)
			if s.err = err; err != nil {
				return err != syscall.EAGAIN
			}
			s.done += n
		}
		return true
	}
	return s
}

// Read reads as a net.Conn does.
func (s *socket) Read(b []byte) (int, error) {
	s.buf = b
	if err := s.raw.Read(s.read); err != nil {
		return 0, err
	}
	if s.done == 0 && s.err == nil {
		return 0, io.EOF
	}
	return s.done, s.err
}

// Write writes as a net.Conn does.
func (s *socket) Write(b []byte) (int, error) {
	s.buf, s.done, s.err = b, 0, nil
	err := s.raw.Write(s.write)
	s.buf = nil // which others use now
	if err != nil {
		return s.done, err
	}
	return s.done, s.err
}

// call makes a system call on the connection when it can.
func (s *socket) call(f func(fd int) (int, error)) (n int, err error) {
	waited := s.raw.Write(func(fd uintptr) bool {
		n, err = again(func() (int, error) { return f(int(fd)) })
		return err != syscall.EAGAIN
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}

// atOnce makes a system call that does not wait: with b, and a fourth argument.
func atOnce(trap uintptr, fd int, b []byte, flags uintptr) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN // of which there is one already
		default:
			return 0, e
		}
	}
}

// again makes a system call until no signal interrupts it.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return n, err
		}
	}
}

// readFull reports whether a file has filled b. What is in the page cache, which is
// nearly all that is asked for often, is had without telling the runtime.
func readFull(fd int, b []byte) bool {
	off := 0
	for off < len(b) {
		n, err := readCached(fd, b[off:], int64(off))
		if err != nil { // it has to be waited for, or what lies there can only be read so
			n, err = again(func() (int, error) { return unix.Pread(fd, b[off:], int64(off)) })
		}
		if err != nil || n <= 0 {
			return false
		}
		off += n
	}
	return true
}

// readCached reads what does not have to come from a disk.
func readCached(fd int, b []byte, off int64) (int, error) {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	// The offset is in two halves, of which machines of 64 bits look at the first only.
	low, high := uintptr(off), uintptr(uint64(off)>>32)
	n, _, e := unix.RawSyscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, low, high, unix.RWF_NOWAIT)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// closeFile closes a file that was only read.
func closeFile(fd int) { _ = unix.Close(fd) }

//go:build linux

package fusefs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A Turn is the time in which this process serves a [Held] mount. Its methods may
// be called from many goroutines.
type Turn struct {
	mount *Mount
}

// ServeFile shows f as the only file of the held mount of which lent is a part;
// lent stays the caller's. The kernel never asks twice what it was told before, so
// f must be the same in each turn: name, size, bytes. It has a Reader for all who
// open it, as the kernel has files open that were opened in an earlier turn. Of
// opt, only Log and Debug count: the rest was settled by [Hold].
func ServeFile(lent *os.File, f File, opt Options) (*Turn, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.Reader == nil {
		return nil, fmt.Errorf("fusefs: %q: a held file wants one reader for all", f.Name)
	}
	f.Open = nil
	f.Mode = cmp.Or(f.Mode&0o7777, 0o444)
	if f.ModTime.IsZero() {
		f.ModTime = time.Now()
	}
	m, server, err := takeOver(lent, f, opt.withDefaults(f.Name))
	if err != nil {
		return nil, fmt.Errorf("fusefs: %q: take over: %w", f.Name, err)
	}
	go func() {
		server.Serve()
		m.finish()
	}()
	return &Turn{m}, nil
}

// takeOver makes a server of the connection that was lent.
//
// The library begins each connection with the kernel's first request, which came
// long ago. So its server gets that on a socket, answers there, and finds the real
// connection under the same number when it begins to serve.
func takeOver(lent *os.File, f File, opt Options) (*Mount, *fuse.Server, error) {
	fd, terms, err := receiveLent(lent)
	if err != nil {
		return nil, nil, err
	}
	fs := newOneFile(f, opt)
	m := &Mount{Dir: f.Name, fs: fs, log: opt.Log, done: make(chan struct{}), control: os.NewFile(uintptr(fd), fuseDevice)}
	fs.requests.alive = m.alive
	g, err := greet(fs, terms, opt.heldOptions(fs, m.panicked))
	if err == nil {
		err = unix.Dup3(fd, g.fd, unix.O_CLOEXEC)
	}
	if err == nil {
		err = resend(fd)
	}
	if err != nil {
		m.control.Close()
		return nil, nil, err
	}
	return m, g.server, nil
}

func receiveLent(lent *os.File) (fd int, terms []byte, err error) {
	conn, err := lent.SyscallConn()
	if err != nil {
		return -1, nil, err
	}
	controlErr := conn.Control(func(socket uintptr) { fd, terms, err = receiveFD(int(socket), askedSize+1024) })
	if err := errors.Join(controlErr, err); err != nil {
		return -1, nil, err
	}
	return fd, terms, nil
}

// resend has the kernel send again what was taken from the connection and not
// answered.
func resend(fd int) error {
	// struct fuse_out_header: length, what is told, and 0 for no request.
	b := binary.NativeEndian.AppendUint32(nil, 16)
	b = binary.NativeEndian.AppendUint32(b, notifyResend)
	b = binary.NativeEndian.AppendUint64(b, 0)
	_, err := unix.Write(fd, b)
	return err
}

const notifyResend = -fuse.NOTIFY_RESEND // the library has it negative

// Done is closed when the mount has ended: nobody has the file open, and nobody
// can find it any more.
func (t *Turn) Done() <-chan struct{} { return t.mount.done }

// Leave ends the turn: when it returns, the Reader is not called any more. What
// was not answered, and what comes, waits for the next turn, which cannot begin
// before this process has ended. It is for the end of a process only: it keeps
// the threads on which requests arrive.
func (t *Turn) Leave() { t.mount.fs.serving().leave() }

//go:build linux

package fusefs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/internal/hush"
)

// requests carries what the kernel asks of one mount and what may have to wait:
// what cancels it, what is said if it fails, and that nothing of it goes on
// once the mount is over.
type requests struct {
	life  context.Context // ends with the mount
	end   context.CancelFunc
	alive func() bool // whether the kernel still listens
	log   *slog.Logger
	said  hush.Texts

	running sync.RWMutex // held for reading by each request
	leaving atomic.Bool  // nothing that has to wait is answered any more
}

func newRequests(log *slog.Logger) *requests {
	life, end := context.WithCancel(context.Background())
	return &requests{life: life, end: end, alive: func() bool { return true }, log: log}
}

// begin returns the context of a request, to be handed to finish; nil if the
// mount is over.
func (s *requests) begin(signal <-chan struct{}, pid uint32) *call {
	s.running.RLock()
	if s.life.Err() != nil {
		s.running.RUnlock()
		s.abandon()
		return nil
	}
	return &call{life: s.life, signal: signal, gone: func() bool { return dying(pid) || !s.alive() }}
}

func (s *requests) finish(c *call) {
	c.finish()
	s.running.RUnlock()
}

// failed is the kernel's status for err, which is logged, once, if it is a
// fault.
func (s *requests) failed(c *call, err error, what string, where ...any) fuse.Status {
	switch {
	case c.Err() != nil:
		return fuse.EINTR
	case errors.Is(err, unix.ENOTDIR):
		return fuse.ENOTDIR
	}
	if s.said.First(err.Error()) {
		s.log.Warn(what, append(where, "err", err)...)
	}
	return fuse.EIO
}

// A named file says in the log which it is.
type named interface{ name() string }

// fill reads all of p of a file or gives the status for the kernel.
func (s *requests) fill(signal <-chan struct{}, pid uint32, file named, r Reader, p []byte, off int64) fuse.Status {
	ctx := s.begin(signal, pid)
	if ctx == nil {
		return fuse.EIO
	}
	status := s.read(ctx, file, r, p, off)
	if status != fuse.OK {
		s.abandon()
	}
	return status
}

// read finishes ctx, also when the Reader panics, which is answered elsewhere.
func (s *requests) read(ctx *call, file named, r Reader, p []byte, off int64) fuse.Status {
	defer s.finish(ctx)
	n, err := r.ReadAt(ctx, p, off)
	switch {
	case n == len(p):
		return fuse.OK
	case n < 0 || n > len(p):
		err = errors.New("the reader counts wrong")
	case err == nil, errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return s.failed(ctx, err, "read failed", "file", file.name(), "offset", off, "size", len(p))
}

// stop cancels the requests that run and refuses others. The channel is closed
// when none runs any more.
func (s *requests) stop() <-chan struct{} {
	s.end()
	none := make(chan struct{})
	go func() {
		s.running.Lock()
		defer s.running.Unlock()
		close(none)
	}()
	return none
}

// leave cancels the requests that run, and returns when none does. Those and all
// that come stay unanswered, so that another process can answer them.
func (s *requests) leave() {
	s.leaving.Store(true)
	s.end()
	s.running.Lock() // for good
}

// abandon never returns if the requests are another process's to answer.
func (s *requests) abandon() {
	if s.leaving.Load() {
		select {}
	}
}

// dying reports whether the thread pid is being killed or is no more. A
// thread that is not of our PID namespace is 0, and never known to be.
func dying(pid uint32) bool {
	if pid == 0 {
		return false
	}
	return pendingKill(pid) || unix.Kill(int(pid), 0) == unix.ESRCH
}

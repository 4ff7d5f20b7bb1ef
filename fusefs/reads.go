//go:build linux

package fusefs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/internal/hush"
)

// reads carries the reads of one mount: what cancels them, what is said of
// those that fail, and that none goes on once the mount is over.
type reads struct {
	life  context.Context // ends with the mount
	end   context.CancelFunc
	alive func() bool // whether the kernel still listens
	log   *slog.Logger
	said  hush.Texts

	running sync.RWMutex // held for reading by each read
}

func newReads(log *slog.Logger) *reads {
	life, end := context.WithCancel(context.Background())
	return &reads{life: life, end: end, alive: func() bool { return true }, log: log}
}

// fill reads all of p or gives the status for the kernel.
func (s *reads) fill(signal <-chan struct{}, pid uint32, name string, r Reader, p []byte, off int64) fuse.Status {
	s.running.RLock()
	defer s.running.RUnlock()
	if s.life.Err() != nil {
		return fuse.EIO
	}
	ctx := &call{life: s.life, signal: signal, gone: func() bool { return dying(pid) || !s.alive() }}
	defer ctx.finish()

	n, err := r.ReadAt(ctx, p, off)
	switch {
	case n == len(p):
		return fuse.OK
	case ctx.Err() != nil:
		return fuse.EINTR
	case n < 0 || n > len(p):
		err = errors.New("the reader counts wrong")
	case err == nil, errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	if s.said.First(err.Error()) {
		s.log.Warn("read failed", "file", name, "offset", off, "size", len(p), "err", err)
	}
	return fuse.EIO
}

// stop cancels the reads that run and refuses others. The channel is closed
// when none runs any more.
func (s *reads) stop() <-chan struct{} {
	s.end()
	none := make(chan struct{})
	go func() {
		s.running.Lock()
		defer s.running.Unlock()
		close(none)
	}()
	return none
}

// dying reports whether the thread pid is being killed or is no more. A
// thread that is not of our PID namespace is 0, and never known to be.
func dying(pid uint32) bool {
	if pid == 0 {
		return false
	}
	return pendingKill(pid) || unix.Kill(int(pid), 0) == unix.ESRCH
}

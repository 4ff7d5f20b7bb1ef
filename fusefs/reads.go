//go:build linux

package fusefs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// reads carries the reads of one mount: what cancels them, what is said of
// those that fail, and that none goes on once the mount is over.
type reads struct {
	life  context.Context // ends with the mount
	end   context.CancelFunc
	alive func() bool // whether the kernel still listens
	log   *slog.Logger
	said  complaints

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
	if s.said.first(err.Error()) {
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

// complaints keeps one bad chunk from filling the log: the kernel asks for
// each of its pages, and programs try again.
type complaints struct {
	mu   sync.Mutex
	last map[string]time.Time // when a text was last said; guarded by mu
}

const (
	quiet    = time.Minute // how long the same text is not said again
	maxTexts = 1024
)

// first reports whether text is to be said now.
func (c *complaints) first(text string) bool {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.last[text]; ok && now.Sub(t) < quiet {
		return false
	}
	if c.last == nil || len(c.last) >= maxTexts {
		c.last = make(map[string]time.Time)
	}
	c.last[text] = now
	return true
}

// dying reports whether the thread pid is being killed or is no more. A
// thread that is not of our PID namespace is 0, and never known to be.
func dying(pid uint32) bool {
	if pid == 0 {
		return false
	}
	return pendingKill(pid) || unix.Kill(int(pid), 0) == unix.ESRCH
}

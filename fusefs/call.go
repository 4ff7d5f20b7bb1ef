//go:build linux

package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// recheck is how often a reader that has been signalled is looked at: the
// kernel tells of a process's first signal only, and that may not be the one
// that kills it.
const recheck = 100 * time.Millisecond

// A call is the context of one read. It costs one allocation as long as
// nobody waits on it, which a read of cached bytes does not.
type call struct {
	life   context.Context
	signal <-chan struct{} // closed at the first signal to the reader, and when the mount ends
	gone   func() bool     // whether nobody waits for the answer

	mu     sync.Mutex
	over   bool            // guarded by mu
	waited context.Context // nil until somebody waits; guarded by mu
	cancel context.CancelFunc
}

var _ context.Context = (*call)(nil)

func (c *call) Deadline() (time.Time, bool) { return c.life.Deadline() }
func (c *call) Done() <-chan struct{}       { return c.wait().Done() }

// Value lets a context made of this one find its parent's inside, which
// spares the goroutine that would otherwise watch Done.
func (c *call) Value(key any) any { return c.wait().Value(key) }

func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.waited != nil:
		return c.waited.Err()
	case c.over:
		return context.Canceled
	}
	return c.life.Err()
}

func (c *call) wait() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waited == nil {
		c.waited, c.cancel = context.WithCancel(c.life)
		if c.over {
			c.cancel()
		} else {
			go watch(c.waited, c.cancel, c.signal, c.gone)
		}
	}
	return c.waited
}

// finish cancels what was derived from c. No goroutine of c's is left, soon.
func (c *call) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// watch cancels ctx when a signal has come and nobody waits any more.
func watch(ctx context.Context, cancel context.CancelFunc, signal <-chan struct{}, gone func() bool) {
	select {
	case <-ctx.Done():
		return
	case <-signal:
	}
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for !gone() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	cancel()
}

// pendingKill reports whether SIGKILL waits for the thread pid. The kernel
// makes any signal that ends a process one of these.
func pendingKill(pid uint32) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(status) {
		field, ok := bytes.CutPrefix(line, []byte("SigPnd:"))
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(string(bytes.TrimSpace(field)), 16, 64)
		return err == nil && set&(1<<(unix.SIGKILL-1)) != 0
	}
	return false
}

package treeoverlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/mounts"
)

// A child is a fuse-overlayfs that runs.
type child struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended

	told atomic.Bool // to end
	mu   sync.Mutex  // guards last
	last string      // that it has said
	err  error       // how it ended, once gone is closed
}

// mountProgram has fuse-overlayfs show the overlay, and returns when it does.
func (d *Dir) mountProgram(ctx context.Context, point string, opt Options) (*child, error) {
	program, err := exec.LookPath(byProgram)
	if err != nil {
		return nil, fmt.Errorf("%s: not there, and only root has an overlay without it; install %s", byProgram, byProgram)
	}
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer table.Close()
	// Names as it finds them in the folder: no character ends them.
	words := []string{"lowerdir=lower", "upperdir=upper", "workdir=work"}
	for word, set := range map[string]bool{"allow_other": opt.Others, "noexec": opt.NoExec, "ro": opt.ReadOnly} {
		if set {
			words = append(words, word)
		}
	}
	c := &child{cmd: exec.Command(program, "-f", "-o", strings.Join(words, ","), point), gone: make(chan struct{})}
	c.cmd.Dir = d.path
	c.cmd.ExtraFiles = []*os.File{d.record} // locked until it has ended, too
	if err := c.start(opt.Log); err != nil {
		return nil, fmt.Errorf("%s: %w", byProgram, err)
	}
	if err := c.mounted(ctx, point, table); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// start starts the child, which is told to end when this process dies.
func (c *child) start(log *slog.Logger) error {
	said, err := c.cmd.StderrPipe()
	if err != nil {
		return err
	}
	// What is typed at a terminal reaches this process.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		// The kernel takes the thread that started it for what has died.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.listen(said, log)
		c.err = c.cmd.Wait()
		close(c.gone)
	}()
	return <-started
}

func (c *child) listen(said io.Reader, log *slog.Logger) {
	for lines := bufio.NewScanner(said); lines.Scan(); {
		log.Debug("the overlay says", "program", byProgram, "line", lines.Text())
		c.mu.Lock()
		c.last = lines.Text()
		c.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, said) // what no line is
}

// mounted waits until what is on point is the child's.
func (c *child) mounted(ctx context.Context, point string, table *os.File) error {
	for {
		all, err := mounts.Table()
		if err != nil {
			return err
		}
		if mounts.Top(all, point).Type == "fuse."+byProgram {
			return nil
		}
		select {
		case <-c.gone:
			return c.reason()
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
		}
		// The kernel says when the table changes; the time is for what else may happen.
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}}, 20); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// reason is why the child has ended by itself; nil: it was told to.
func (c *child) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err == nil || c.told.Load():
		return nil
	case c.last != "":
		return fmt.Errorf("%s: %w: %s", byProgram, c.err, c.last)
	}
	return fmt.Errorf("%s: %w", byProgram, c.err)
}

// end has the child end. What it shows is gone already, or is not to be seen.
func (c *child) end() {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-c.gone:
			return
		case <-time.After(grace):
		}
		c.told.Store(true)
		_ = c.cmd.Process.Signal(sig) // it may be gone
	}
	<-c.gone
}

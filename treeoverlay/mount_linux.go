package treeoverlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/apart"
	"caravel/internal/mounts"
)

// Options tunes a mount. The zero value is a good choice.
type Options struct {
	FSName   string       // first column of df and mount, where root mounts; "": overlay
	Mkdir    bool         // make the mount's directory if it is not there, and remove it at the end
	Remove   bool         // remove it at the end though it was there: a mount before this one has made it
	Others   bool         // others than who mounts may look in; root always lets them
	SetID    bool         // set-id bits and capabilities have an effect, where root mounts
	Devices  bool         // devices can be opened, the same
	NoExec   bool         // nothing can be executed
	ReadOnly bool         // what was written is shown, and nothing more is
	Atime    Atime        // when reading changes a time, where root mounts
	Labels   []string     // for the kernel's security module
	Log      *slog.Logger // nil: discard
}

// Atime is when reading changes a file's time of access; the kernel's words are said of
// what was written, as nothing below changes. The zero value is relatime.
type Atime struct {
	Never, NotOfDirs, Always bool // noatime, nodiratime, strictatime
}

// A Lower is a tree that is mounted, as a fusefs.Mount is.
type Lower interface {
	Hide() error           // takes it out of sight; it goes on for who holds it
	Done() <-chan struct{} // closed when it has ended
	Unmount() error        // ends it, also in use
}

// A Mount is a writable tree in use. Its methods may be called from many goroutines.
type Mount struct {
	Dir string // where it is, absolute, without symbolic links

	lower   Lower
	child   *child // nil: the kernel does it
	log     *slog.Logger
	removes bool   // the directory is ours to remove
	device  uint64 // its number in the table of mounts
	unmount sync.Mutex
	done    chan struct{} // closed at the end of watch
	err     error         // once done is closed
}

const grace = 250 * time.Millisecond // for what ought to end at once

// tries is how long a mount in use is tried again before it is cut off: programs that
// look at every new mount are done sooner.
var tries = [...]time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 100 * time.Millisecond}

// Mount shows on point a tree that can be written. lower mounts the tree on the
// directory dir, of which nobody need hear: to people it is what they see on known. What
// a process that was killed has left of this folder is cleared away before.
func (d *Dir) Mount(ctx context.Context, point string, lower func(dir, known string) (Lower, error), opt Options) (*Mount, error) {
	opt.FSName = cmp.Or(opt.FSName, "overlay")
	opt.Log = cmp.Or(opt.Log, slog.New(slog.DiscardHandler))
	m := &Mount{log: opt.Log, done: make(chan struct{})}
	err := d.clearStale(opt)
	if err == nil {
		err = m.find(point, d, opt)
	}
	if err == nil {
		err = d.makeLayers()
	}
	if err != nil {
		m.removeDir()
		return nil, fmt.Errorf("treeoverlay: %w", err)
	}
	if m.lower, err = lower(d.lower(), m.Dir); err != nil {
		m.removeDir()
		return nil, err
	}
	if err := m.cover(ctx, d, opt); err != nil {
		err = errors.Join(fmt.Errorf("treeoverlay: %s: %w", d.path, err), m.lower.Unmount())
		m.removeDir()
		return nil, err
	}
	go m.watch()
	return m, nil
}

// find finds the directory to mount on.
func (m *Mount) find(point string, d *Dir, opt Options) (err error) {
	if path, err := mounts.Resolve(point); err == nil {
		if path == d.path || strings.HasPrefix(path, d.path+"/") {
			return fmt.Errorf("%s: lies in %s, which takes what is written", point, d.path)
		}
	}
	if err := clearPoint(point, opt.Log); err != nil {
		return err
	}
	m.Dir, m.removes, err = mounts.Point(point, mounts.PointOptions{Mkdir: opt.Mkdir})
	m.removes = m.removes || opt.Remove && err == nil
	return err
}

// cover puts the overlay over the tree, and takes the tree out of sight.
func (m *Mount) cover(ctx context.Context, d *Dir, opt Options) (err error) {
	if err := d.bind(); err != nil {
		return err
	}
	if d.writer == byProgram {
		m.child, err = d.mountProgram(ctx, m.Dir, opt)
	} else {
		err = d.mountKernel(m.Dir, opt)
	}
	if err != nil {
		return err
	}
	all, err := mounts.Table()
	if err == nil {
		m.device = mounts.Top(all, m.Dir).Device
		err = m.lower.Hide()
	}
	if err != nil {
		err = errors.Join(err, mounts.Detach(m.Dir, unix.MNT_DETACH))
		if m.child != nil {
			m.child.end()
		}
	}
	return err
}

// watch waits for the end, whoever brings it about, and cleans up behind it.
func (m *Mount) watch() {
	defer close(m.done)
	if m.child == nil {
		<-m.lower.Done()
	} else {
		select {
		case <-m.lower.Done():
		case <-m.child.gone:
		}
		m.child.end()
		m.err = errors.Join(m.child.reason(), m.clearCrashed(), m.lower.Unmount())
	}
	m.removeDir()
}

// Removes reports whether the mount's directory is removed at the end.
func (m *Mount) Removes() bool { return m.removes }

func (m *Mount) removeDir() {
	if !m.removes {
		return
	}
	if err := os.Remove(m.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.log.Warn("directory stays", "dir", m.Dir, "err", err)
	}
}

// Done is closed when the mount has ended, by [Mount.Unmount] or by others.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Unmount ends the mount. One that is in use is taken away nevertheless, with all on disk
// that was written: who reads of the tree from then on gets an error, and without the
// kernel's overlay so does who writes. When it returns, nothing of the tree is read any
// more; it may be called again. The error is that of a mount that ended by itself, too.
func (m *Mount) Unmount() error {
	m.unmount.Lock()
	defer m.unmount.Unlock()
	select {
	case <-m.done:
		return m.err
	default:
	}
	if err := m.takeAway(); err != nil {
		return err
	}
	if m.child != nil {
		m.child.end()
	}
	err := m.lower.Unmount()
	<-m.done
	return errors.Join(m.err, err)
}

// takeAway removes the mount from wherever this process sees it.
func (m *Mount) takeAway() error {
	for try := 0; ; try++ {
		at, there, err := m.seen()
		if err != nil || !there {
			return err
		}
		if try < len(tries) {
			if err := mounts.Detach(at, 0); err != nil {
				time.Sleep(tries[try])
			}
			continue
		}
		m.log.Info("mount is in use, cut off", "dir", at)
		syncAll(at) // as unmounting it would
		if err := mounts.Detach(at, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("treeoverlay: %w", err)
		}
	}
}

// seen finds a place where the mount is.
func (m *Mount) seen() (point string, there bool, err error) {
	all, err := mounts.Table()
	if err != nil {
		return "", false, fmt.Errorf("treeoverlay: %w", err)
	}
	for _, at := range all {
		if at.Device != m.device {
			continue
		}
		if top := mounts.Top(all, at.Point); top.Device != m.device {
			return "", false, fmt.Errorf("treeoverlay: %s: covered by another mount (%s)", at.Point, top.Type)
		}
		return at.Point, true, nil
	}
	return "", false, nil
}

// syncAll has what was written so far to a file system be in the folder, and on the disk.
func syncAll(dir string) {
	apart.Do(func() {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return // not for us to read: then it is as if the machine went down
		}
		defer unix.Close(fd)
		_ = unix.Syncfs(fd) // it is cut off in any case
	})
}

// clearCrashed takes away what a fuse-overlayfs that crashed has left.
func (m *Mount) clearCrashed() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(m.Dir, &fs); !errors.Is(err, unix.ENOTCONN) {
		return nil
	}
	at, there, err := m.seen()
	if err != nil || !there {
		return err
	}
	return mounts.Detach(at, unix.MNT_DETACH)
}

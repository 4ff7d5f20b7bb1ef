//go:build linux

package fusefs

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/internal/apart"
	"caravel/internal/mounts"
)

// Options tunes a mount. The zero value is a good choice.
type Options struct {
	FSName       string       // first column of df and mount; "": the file's name
	Known        string       // as what people know the mount's directory, for the log; "": by its path
	Mkdir        bool         // make the mount's directory if it is not there, and remove it at the end
	Remove       bool         // remove the mount's directory at the end though it was there: a mount before this one has made it
	Others       bool         // others than who mounts may look in; root always lets them
	SetID        bool         // set-id bits and capabilities have an effect, which is root's to say
	Devices      bool         // devices can be opened, the same
	NoExec       bool         // nothing can be executed
	Labels       []string     // for the kernel's security module: "context=…" and its kind
	Look         Look         // how it is shown
	Holes        Holes        // of a tree's archive, or of the file; nil: none are known
	MaxReadAhead int          // bytes that the kernel reads ahead; 0: its own choice (128 KiB); more takes root
	Passthrough  int64        // bytes that a file has at least for its Reader to be asked whether it is Backed; 0: 1 MiB; negative: none is asked, and a tree's files are opened without a word to us
	AsyncDirect  bool         // what one asks for past the page cache goes on side by side, which a loop device gains from; a process that is killed then waits for its last read
	Debug        bool         // log each request at level debug
	Log          *slog.Logger // nil: discard
}

func (o Options) withDefaults(name string) Options {
	o.FSName = cmp.Or(o.FSName, name)
	o.Passthrough = cmp.Or(o.Passthrough, 1<<20)
	if os.Geteuid() != 0 {
		o.Passthrough = -1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

const (
	// maxRead is the longest read that the kernel asks for: its own limit.
	// Nothing here is spliced, so the limit of pipes does not matter.
	maxRead = 1 << 20

	maxBackground = 64 // read-ahead requests in flight

	subtype = "caravel" // what follows "fuse." in the mount's type

	grace = 250 * time.Millisecond // for what ought to end at once
)

// patience is how long a mount in use is tried again before it is cut off:
// programs that look at every new mount are done sooner.
var patience = [...]time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 100 * time.Millisecond}

// A fileSystem is what a mount serves: the kernel's protocol, and the requests
// that end with the mount.
type fileSystem interface {
	fuse.RawFileSystem
	serving() *requests
	hasXAttrs() bool // whether there may be any: else the kernel does not ask
	hasACLs() bool   // whether the kernel shall honour them
	close()          // after the last request
}

// A Mount is a file system in use. Its methods may be called from many
// goroutines.
type Mount struct {
	Dir string // where it is, absolute, without symbolic links

	fs      fileSystem
	log     *slog.Logger
	known   string        // Dir as people know it
	made    bool          // the directory is ours to remove
	control *os.File      // a second descriptor of the kernel's connection
	device  uint64        // the device number of its files
	over    sync.Once     // runs finish
	done    chan struct{} // closed at the end of finish
	unmount sync.Mutex    // held by Unmount
}

// mountPoint finds the directory to mount on, and clears it of a mount of ours whose
// process was killed.
func mountPoint(dir string, opt Options) (path string, made bool, err error) {
	path, made, err = mounts.Point(dir, mounts.PointOptions{
		Mkdir: opt.Mkdir, Types: []string{"fuse." + subtype}, Who: subtype, Log: opt.Log,
	})
	if err != nil {
		return "", false, fmt.Errorf("fusefs: %w", err)
	}
	return path, made, nil
}

func mount(dir string, fs fileSystem, opt Options) (_ *Mount, err error) {
	m := &Mount{fs: fs, log: opt.Log, done: make(chan struct{})}
	if m.Dir, m.made, err = mountPoint(dir, opt); err != nil {
		return nil, err
	}
	m.known = cmp.Or(opt.Known, m.Dir)
	m.made = m.made || opt.Remove
	fd, err := attach(m.Dir, opt)
	if err != nil {
		m.removeDir()
		return nil, err
	}
	server, err := m.newServer(fd, opt)
	if err != nil {
		detach(m.Dir, unix.MNT_DETACH)
		m.removeDir()
		return nil, err
	}
	go func() {
		server.Serve()
		m.finish()
	}()
	if err := m.settle(opt); err != nil {
		detach(m.Dir, unix.MNT_FORCE|unix.MNT_DETACH)
		m.ended(grace)
		return nil, err
	}
	return m, nil
}

// newServer answers the kernel's first request. It owns fd.
func (m *Mount) newServer(fd int, opt Options) (*fuse.Server, error) {
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("fusefs: %s: %w", m.Dir, err)
	}
	m.control = os.NewFile(uintptr(second), "/dev/fuse")
	m.fs.serving().alive = m.alive

	// Mounted already: the library takes the descriptor in place of a path.
	server, err := fuse.NewServer(m.fs, fmt.Sprintf("/dev/fd/%d", fd), opt.serverOptions(m.fs, m.panicked))
	if err != nil {
		m.control.Close()
		return nil, fmt.Errorf("fusefs: %s: %w", m.Dir, err)
	}
	return server, nil
}

// serverOptions are the library's for a server of fs.
func (o Options) serverOptions(fs fileSystem, panicked func(any) fuse.Status) *fuse.MountOptions {
	var without uint64
	if o.Passthrough < 0 { // which counts as one of the two levels that may be stacked
		without = fuse.CAP_PASSTHROUGH
	}
	var further uint64
	if o.AsyncDirect {
		further = fuse.CAP_ASYNC_DIO
	}
	return &fuse.MountOptions{
		MaxWrite:      maxRead,
		MaxReadAhead:  o.MaxReadAhead,
		MaxBackground: maxBackground,
		DisableXAttrs: !fs.hasXAttrs(),
		EnableAcl:     fs.hasACLs(),
		// Data is written, not spliced; the attempt would cost a pipe a read.
		DisableSplice:            true,
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		ExtraCapabilities:        further,
		DisabledCapabilities:     without,
		Debug:                    o.Debug,
		// It speaks of requests whose process died meanwhile, and the like.
		Logger:       slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		PanicHandler: panicked,
	}
}

func (m *Mount) panicked(what any) fuse.Status {
	m.log.Error("request failed", "dir", m.known, "panic", what, "stack", string(debug.Stack()))
	return fuse.EIO
}

// settle finishes a mount that is served already.
func (m *Mount) settle(opt Options) error {
	var st unix.Stat_t
	var err error
	apart.Do(func() {
		if err = unix.Stat(m.Dir, &st); err == nil {
			refusePoll(filepath.Join(m.Dir, pollEntry))
		}
	})
	if err != nil {
		return fmt.Errorf("fusefs: %s: %w", m.Dir, err)
	}
	m.device = st.Dev
	if opt.MaxReadAhead > 128<<10 {
		if err := setReadAhead(st.Dev, opt.MaxReadAhead); err != nil {
			m.log.Debug("read-ahead stays the kernel's", "dir", m.known, "err", err)
		}
	}
	return nil
}

// pollEntry is a file that the library adds to each root, and never lists, for
// just this.
const pollEntry = ".go-fuse-epoll-hack"

// refusePoll has the kernel poll a file once and learn that there is no such
// thing. Else it asks when this process first opens a file of its own mount:
// the runtime then polls it without giving its thread away, and with one
// thread nobody would be left to answer.
func refusePoll(path string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // not for us to read: then we shall not poll it either
	}
	defer unix.Close(fd)
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
}

func setReadAhead(dev uint64, bytes int) error {
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(dev), unix.Minor(dev))
	return os.WriteFile(name, fmt.Append(nil, bytes>>10), 0)
}

// alive reports whether the kernel still has the mount.
func (m *Mount) alive() bool { return connected(m.control) }

// connected reports whether the kernel still has the mount of a connection.
func connected(connection *os.File) bool {
	alive := false
	conn, err := connection.SyscallConn()
	if err != nil {
		return false
	}
	conn.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(p, 0)
		alive = err != nil || p[0].Revents&unix.POLLERR == 0
	})
	return alive
}

// Removes reports whether the mount's directory is removed at the end.
func (m *Mount) Removes() bool { return m.made }

// Done is closed when the mount has ended, by [Mount.Unmount] or by others.
func (m *Mount) Done() <-chan struct{} { return m.done }

// finish cleans up behind the last request.
func (m *Mount) finish() {
	m.over.Do(func() {
		m.fs.serving().end()
		m.fs.close()
		m.control.Close()
		m.removeDir()
		close(m.done)
	})
}

func (m *Mount) removeDir() {
	if !m.made {
		return
	}
	if err := os.Remove(m.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.log.Warn("directory stays", "dir", m.Dir, "err", err)
	}
}

// Unmount ends the mount. One that is in use is taken away nevertheless: who
// reads gets an error. When Unmount returns, no Reader is called any more; it
// takes a second at most and may be called again.
func (m *Mount) Unmount() error {
	m.unmount.Lock()
	defer m.unmount.Unlock()
	if m.ended(0) {
		return nil
	}
	if err := m.takeAway(); err != nil {
		return err
	}
	if m.ended(grace) {
		return nil
	}

	// No longer visible here, but held by an open file or another namespace.
	quiet := m.fs.serving().stop()
	m.abort()
	if m.ended(grace) {
		return nil
	}
	defer m.finish()
	select {
	case <-quiet:
		m.log.Warn("mount still in use: reads of it fail from now on", "dir", m.known)
		return nil
	case <-time.After(grace):
		return fmt.Errorf("fusefs: %s: unmounted, but a read does not end", m.known)
	}
}

// Hide takes the mount out of sight. It goes on for who has a file of it open, as
// a loop device has, and ends with the last of them, so that nothing is left behind
// if this process is killed.
func (m *Mount) Hide() error { return detach(m.Dir, unix.MNT_DETACH) }

func (m *Mount) ended(within time.Duration) bool {
	select {
	case <-m.done:
		return true
	default:
	}
	if within == 0 {
		return false
	}
	select {
	case <-m.done:
		return true
	case <-time.After(within):
		return false
	}
}

// takeAway removes the mount from wherever this process sees it.
func (m *Mount) takeAway() error {
	all, err := mounts.Table()
	if err != nil {
		return fmt.Errorf("fusefs: %w", err)
	}
	for _, at := range all {
		if at.Device != m.device {
			continue
		}
		if top := mounts.Top(all, at.Point); top.Device != m.device {
			return fmt.Errorf("fusefs: %s: covered by another mount (%s)", at.Point, top.Type)
		}
		err := detach(at.Point, 0)
		for _, d := range patience {
			if err == nil || m.ended(d) {
				break
			}
			err = detach(at.Point, 0)
		}
		if err == nil || m.ended(0) {
			continue
		}
		m.log.Info("mount is in use, cut off", "dir", at.Point, "err", err)
		m.fs.serving().end()
		if err := detach(at.Point, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
			return err
		}
	}
	return nil
}

// abort asks the kernel to fail all requests, where it offers that.
func (m *Mount) abort() {
	name := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(m.device))
	if err := os.WriteFile(name, []byte("1"), 0); err != nil {
		m.log.Debug("connection not aborted", "dir", m.known, "err", err)
	}
}

//go:build linux

package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A Backed Reader may know a file on disk that holds just what it reads. The
// kernel then reads that by itself, for all who have the image's file open.
type Backed interface {
	Reader

	// Backing is such a file: its first byte is the first that is read, its
	// size is that of what is read, and it never changes any more. It is nil
	// as long as there is none. It is asked for when the image's file is
	// opened, and must not wait. The Reader, or whoever made it, closes the
	// file when it likes: the kernel holds it too.
	Backing() *os.File
}

// backings are the files that the kernel reads by itself (FUSE passthrough,
// Linux 6.9). It wants all who have a node open at one time to read it in the
// same way: how the first of them does is how the others do, until the last has
// closed it.
type backings struct {
	from int64 // bytes that a file has at least
	log  *slog.Logger

	mu     sync.Mutex           // also held while the kernel is told, which is quick
	kernel registry             // nil: it reads nothing by itself; guarded by mu
	denied bool                 // we may not let it; guarded by mu
	nodes  map[uint64]*openNode // guarded by mu
}

// A registry is the kernel's list of files: a *fuse.Server.
type registry interface {
	RegisterBackingFd(*fuse.BackingMap) (int32, syscall.Errno)
	UnregisterBackingFd(id int32) syscall.Errno
}

// An openNode is a file that is open, and large enough.
type openNode struct {
	opens int
	id    int32 // of its file in the kernel; 0: it is read through us
}

func newBackings(from int64, log *slog.Logger) *backings {
	if from < 0 {
		from = math.MaxInt64
	}
	return &backings{from: from, log: log, nodes: map[uint64]*openNode{}}
}

// start is called when the kernel has said what it can do. It reports whether there
// will be any.
func (b *backings) start(s *fuse.Server) bool {
	if b.from == math.MaxInt64 || s.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kernel = s
	return true
}

// counts reports whether the opens of a file of size bytes are counted.
func (b *backings) counts(size int64) bool { return size >= b.from }

// backing is the file that r has, if any.
func backing(r Reader) *os.File {
	if backed, ok := r.(Backed); ok {
		return backed.Backing()
	}
	return nil
}

// shared counts one more who opens a node that is open already.
func (b *backings) shared(node uint64, out *fuse.OpenOut) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[node]
	if n == nil {
		return false
	}
	n.count(out)
	return true
}

// open counts one who opens a node of size bytes, for which file stands if it
// is not nil.
func (b *backings) open(node uint64, size int64, file *os.File, out *fuse.OpenOut) {
	if file != nil && b.asks() {
		if err := fitting(file, size); err != nil {
			b.log.Debug("file not handed to the kernel", "file", file.Name(), "err", err)
			file = nil
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[node]
	if n == nil {
		n = &openNode{id: b.register(file)}
		b.nodes[node] = n
	}
	n.count(out)
}

// asks reports whether the kernel may read files by itself.
func (b *backings) asks() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kernel != nil && !b.denied
}

// count says to the kernel how this one reads. What it reads by itself is in
// its memory once, as the file's pages: none are kept of the node's.
func (n *openNode) count(out *fuse.OpenOut) {
	n.opens++
	if n.id != 0 {
		out.OpenFlags, out.BackingID = fuse.FOPEN_PASSTHROUGH, n.id
	}
}

// release takes back one open. The kernel has let the node go before it says so.
func (b *backings) release(node uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[node]
	if n == nil {
		return
	}
	if n.opens--; n.opens > 0 {
		return
	}
	delete(b.nodes, node)
	if n.id == 0 {
		return
	}
	if err := b.kernel.UnregisterBackingFd(n.id); err != 0 {
		b.log.Debug("file stays with the kernel", "err", err)
	}
}

// register hands a file to the kernel; 0: it is read through us. b.mu is held.
func (b *backings) register(file *os.File) (id int32) {
	if file == nil || b.kernel == nil || b.denied {
		return 0
	}
	conn, err := file.SyscallConn()
	if err == nil {
		var refused error
		err = conn.Control(func(fd uintptr) { id, refused = b.registerFD(int(fd)) })
		err = errors.Join(err, refused)
	}
	if err != nil {
		b.log.Debug("file not handed to the kernel", "file", file.Name(), "err", err)
	}
	return id
}

func (b *backings) registerFD(fd int) (int32, error) {
	id, errno := b.kernel.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	switch errno {
	case 0:
		return id, nil
	case unix.EPERM, unix.ENOTTY:
		b.denied = true // it will say so every time
	}
	return 0, errno
}

// fitting reports why a file cannot stand for one of size bytes. The kernel
// opens it with the flags of whoever opens the node, and if that cannot be, the
// node cannot be opened.
func fitting(file *os.File, size int64) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	closed := conn.Control(func(fd uintptr) { err = fittingFD(int(fd), size) })
	return errors.Join(closed, err)
}

func fittingFD(fd int, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != size {
		return fmt.Errorf("mode %#o, %d bytes: want a file of %d", st.Mode, st.Size, size)
	}
	direct, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("O_DIRECT: %w", err)
	}
	return unix.Close(direct)
}

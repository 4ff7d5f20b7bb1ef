package restore

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// Tree restores what d decodes, the root of it being a directory, to dir,
// which is made if it is not there, but not its parents. If dir is a symbolic
// link it is followed: the user named it.
func Tree(ctx context.Context, d *catar.Decoder, dir string, opt Options) (Stats, error) {
	r := newRun(ctx, d, dir, opt)
	defer r.end()
	return r.tree()
}

func (r *run) tree() (Stats, error) {
	n, err := r.first()
	if err != nil {
		return Stats{}, err
	}
	if !n.IsDir() {
		return Stats{}, fmt.Errorf("restore: %s: the node to be restored is no directory", r.out)
	}
	root, err := r.openTarget(&n.Entry)
	if err != nil {
		return Stats{}, err
	}
	if r.opt.Delete == RefuseExtra && !root.fresh {
		if err := refuseExtra(r.out, root.fd, r.opt.Names); err != nil {
			root.close()
			return Stats{}, err
		}
	}
	r.depth = -n.Depth
	r.start()
	r.entries.Add(1)
	r.fill(root, n)
	return r.restore()
}

// Node restores what d decodes, a node of an archive of any type, to the name
// name in dir, which is made if it is not there. Options.Names lists what is in
// the node, if it is a directory, by paths that start there.
func Node(ctx context.Context, d *catar.Decoder, dir, name string, opt Options) (Stats, error) {
	if !isName(name) {
		return Stats{}, fmt.Errorf("restore: %q: not a name for a node", name)
	}
	r := newRun(ctx, d, dir, opt)
	defer r.end()
	n, err := r.first()
	if err != nil {
		return Stats{}, err
	}
	top, err := r.openTarget(nil)
	if err != nil {
		return Stats{}, err
	}
	top.foreign = true
	if opt.Delete == RefuseExtra {
		if err := refuseExtraIn(dir, top.fd, name, opt.Names); err != nil {
			top.close()
			return Stats{}, err
		}
	}
	r.depth = 1 - n.Depth // top is not in the stream
	r.start()
	r.enterInto(top)
	if err := r.node(n, name); err != nil {
		r.fail(n.Start, err)
	}
	return r.restore()
}

// first returns the first node of the stream, and takes note of its flags.
func (r *run) first() (*catar.Node, error) {
	n, err := r.d.Next()
	if err == io.EOF {
		return nil, fmt.Errorf("restore: %s: an archive without a node: %w", r.out, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	r.flags = r.d.Flags().Masked(r.opt.Mask)
	r.set = inode.NewSetter(r.flags)
	r.set.Log, r.set.Shift = r.opt.Log, r.opt.Shift
	r.look = inode.NewReader(r.flags)
	return n, nil
}

// A run is one restore.
type run struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	d      *catar.Decoder
	out    string // as the user named it
	opt    Options
	flags  feature.Flags // what is restored
	set    *inode.Setter
	look   *inode.Reader
	top    *dir // the outermost
	links  links
	user   int // who we are
	tmp    tempfile

	depth int    // what len(dirs) is more than the Depth of a node
	dirs  []*dir // the path to the directory that is being decoded

	jobs    chan *job
	workers sync.WaitGroup
	memory  *semaphore.Weighted // for payloads on their way to the workers
	pool    pool
	mounts  map[uint64]int // descriptors on what is to be synced, by device

	entries, bytes, deleted, kept, linked, shared atomic.Int64

	offset int64 // of the decoder, as far as Progress knows

	mu     sync.Mutex // guards at, err
	at     int64      // where in the archive the first failure was
	err    error
	failed atomic.Bool

	noShare atomic.Bool // files cannot share blocks here

	telling sync.Mutex // one call of Options.Refused at a time
}

const (
	// memoryBytes bounds the payloads that wait for a worker.
	memoryBytes = 16 << 20

	// wholeBytes is the longest file that is handed over in one piece.
	wholeBytes = 1 << 20

	// blockBytes is the size of the pieces of the others.
	blockBytes = 256 << 10
)

// workers is how many nodes are made at one time. There must be two at least:
// one may be waiting for the blocks of a long file.
func workers() int { return max(4, runtime.GOMAXPROCS(0)) }

func newRun(ctx context.Context, d *catar.Decoder, out string, opt Options) *run {
	opt.Mask = cmp.Or(opt.Mask, feature.All)
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	r := &run{
		d: d, out: out, opt: opt,
		user:   os.Geteuid(),
		at:     math.MaxInt64,
		jobs:   make(chan *job, 2*workers()),
		memory: semaphore.NewWeighted(memoryBytes),
		mounts: map[uint64]int{},
		links:  links{known: map[[16]byte]linkable{}},
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r
}

// Modes until the final ones are set: nobody else may look. If none will be set
// it is what the user's umask leaves.
func (r *run) dirMode() uint32  { return r.either(0o700, 0o777) }
func (r *run) fileMode() uint32 { return r.either(0o600, 0o666) }

func (r *run) either(private, open uint32) uint32 {
	if r.flags&(feature.ACL|feature.Permissions) != 0 {
		return private
	}
	return open
}

func (r *run) start() {
	for range workers() {
		r.workers.Go(r.work)
	}
}

// restore does all that follows the first node.
func (r *run) restore() (Stats, error) {
	if !r.failed.Load() {
		if err := r.decode(); err != nil {
			r.fail(math.MaxInt64-1, err) // what the workers say of nodes before it comes first
		}
	}
	r.leave(0)
	close(r.jobs)
	r.workers.Wait()
	err := r.failure()
	if err == nil && !r.opt.NoSync {
		err = r.sync()
	}
	return r.stats(), err
}

func (r *run) stats() Stats {
	return Stats{
		Entries: r.entries.Load(), Bytes: r.bytes.Load(), Deleted: r.deleted.Load(),
		Kept: r.kept.Load(), Linked: r.linked.Load(), Shared: r.shared.Load(),
	}
}

// decode hands the nodes of the archive over, one after the other.
func (r *run) decode() error {
	for {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		n, err := r.d.Next()
		r.progress()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		depth := n.Depth + r.depth
		if depth < 1 || depth > len(r.dirs) {
			return fmt.Errorf("restore: offset %d: a node of depth %d below %d directories", n.Start, n.Depth, len(r.dirs)-r.depth)
		}
		r.leave(depth)
		if !isName(n.Name) { // the decoder refuses them; this is where it would hurt
			return fmt.Errorf("restore: offset %d: %q: not a name for a node", n.Start, n.Name)
		}
		if err := r.node(n, n.Name); err != nil {
			return err
		}
	}
}

// isName reports whether name may be used where one name is wanted.
func isName(name string) bool {
	return name != "" && len(name) <= catar.MaxName && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// leave goes up until depth directories are open.
func (r *run) leave(depth int) {
	for len(r.dirs) > depth {
		last := r.dirs[len(r.dirs)-1]
		r.dirs = r.dirs[:len(r.dirs)-1]
		r.release(last)
	}
}

// progress tells how far the stream was read.
func (r *run) progress() {
	now := r.d.Offset()
	r.opt.Progress.Add(now - r.offset)
	r.offset = now
}

// node makes, or hands over, one node in the innermost directory.
func (r *run) node(n *catar.Node, name string) error {
	in := r.dirs[len(r.dirs)-1]
	delete(in.left, name)
	if !r.wanted(&n.Entry) {
		return nil
	}
	r.entries.Add(1)
	if n.IsDir() {
		child, err := r.openDir(in, name, &n.Entry)
		if err != nil {
			return in.failed(name, err)
		}
		r.fill(child, n)
		return nil
	}
	return r.hand(r.newJob(in, n, name))
}

// wanted reports whether nodes of e's type are restored.
func (r *run) wanted(e *catar.Entry) bool {
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return r.flags&feature.Symlinks != 0
	case unix.S_IFBLK, unix.S_IFCHR:
		return r.flags&feature.DeviceNodes != 0
	case unix.S_IFIFO:
		return r.flags&feature.FIFOs != 0
	case unix.S_IFSOCK:
		return r.flags&feature.Sockets != 0
	}
	return true
}

// fail takes note of an error that belongs to what stands at offset at, and
// ends the run. Of several errors the first in the archive is returned.
func (r *run) fail(at int64, err error) {
	r.mu.Lock()
	if at < r.at {
		r.at, r.err = at, err
	}
	r.mu.Unlock()
	r.failed.Store(true)
	r.cancel(err)
}

func (r *run) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// sync waits until everything is on disk.
func (r *run) sync() error {
	for _, fd := range r.mounts {
		if err := unix.Syncfs(fd); err != nil {
			return fmt.Errorf("restore: %s: sync: %w", r.out, err)
		}
	}
	return nil
}

// end closes what the run itself has open.
func (r *run) end() {
	r.cancel(nil)
	for _, fd := range r.mounts {
		unix.Close(fd)
	}
}

package walk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// workers is how many nodes are read at one time: more than there are cores,
// because disks and servers like to be asked for several things at once.
const workers = 8

// A Reader is the archive of a directory as a stream: io.Reader, io.WriterTo,
// io.Closer. One goroutine at a time may read; Close and Stats may be called
// at any time.
type Reader struct {
	ctx    context.Context // the walk's life; Close ends it
	cancel context.CancelCauseFunc
	ending sync.WaitGroup

	flags    feature.Flags
	leaveOut map[Inode]bool
	log      *slog.Logger
	inodes   *inode.Reader
	known    func(File) bool // nil: none is
	root     *dir            // if known is not nil; held
	count    counters

	free    chan *batch // to the scout
	todo    chan *batch // to the workers
	ordered chan *batch // to Read, in the order of the stream

	mu   sync.Mutex // guards all below; held by Read
	enc  *catar.Encoder
	out  sink
	cur  *batch // whose nodes are in the stream up to at
	at   int
	file payload // what the stream is in the middle of
	new  []Payload
	err  error

	piece [piece]byte
}

// Open begins to pack the directory name with the normal flags f. Directories and
// files are read ahead while the stream is read. ctx ends it.
func Open(ctx context.Context, name string, f feature.Flags, opt Options) (*Reader, error) {
	r, err := newReader(ctx, f, opt)
	if err != nil {
		return nil, err
	}
	root, err := openRoot(name)
	if err != nil {
		r.cancel(nil)
		return nil, errorAt((&dir{name: name}).path(""), err)
	}
	if r.known != nil {
		root.hold()
		r.root = root
	}
	r.start(root)
	return r, nil
}

// newReader returns a Reader that has not begun.
func newReader(ctx context.Context, f feature.Flags, opt Options) (r *Reader, err error) {
	r = &Reader{
		flags:    f,
		leaveOut: make(map[Inode]bool, len(opt.LeaveOut)),
		log:      opt.Log,
		known:    opt.Known,
		inodes:   inode.NewReader(f),
		free:     make(chan *batch, batches),
		todo:     make(chan *batch, batches),
		ordered:  make(chan *batch, batches),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, n := range opt.LeaveOut {
		r.leaveOut[n] = true
	}
	for range batches {
		r.free <- newBatch()
	}
	if r.enc, err = catar.NewEncoder(&r.out, f); err != nil {
		return nil, err
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r, nil
}

// openRoot opens the directory that is packed. It may be called by a link.
func openRoot(name string) (*dir, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := openat(unix.AT_FDCWD, name, flags)
	if err != nil {
		return nil, err
	}
	d := &dir{name: name, fd: fd, depth: 1}
	d.hold()
	if err = statx(fd, &d.st); err == nil {
		d.virtual, err = virtual(fd, &d.st, nil)
	}
	if err == nil {
		d.ctime, err = ctimeOf(fd, &d.st, nil)
	}
	if err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// start begins to read ahead.
func (r *Reader) start(root *dir) {
	r.ending.Go(func() { (&scout{Reader: r}).run(root) })
	for range workers {
		r.ending.Go(r.work)
	}
}

// Read is io.Reader's. It fills p unless the archive ends.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		r.stop(context.Cause(r.ctx))
	}
	r.out.take(p)
	for r.out.room() > 0 && r.err == nil {
		r.err = r.step()
	}
	if n := r.out.give(); n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, r.err
}

// stop makes err the end of the stream, unless it has come to one.
func (r *Reader) stop(err error) {
	if r.err == nil || r.out.waiting() {
		r.err = err
		r.out.more = nil
	}
}

// WriteTo is io.WriterTo's, for io.Copy to use a large buffer.
func (r *Reader) WriteTo(w io.Writer) (written int64, err error) {
	buf := make([]byte, 512<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			m, err := w.Write(buf[:n])
			written += int64(m)
			if err != nil {
				return written, err
			}
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// step brings the stream on by a node or a part of one.
func (r *Reader) step() error {
	if r.file.left() > 0 {
		return r.payload()
	}
	n, err := r.next()
	if err != nil {
		return err
	}
	if n.err != nil {
		return n.err
	}
	switch {
	case n.place == closed:
		return r.end(n)
	case n.out:
		return nil
	}
	return r.begin(n)
}

// next takes the next node of the stream. It is valid until the following call.
func (r *Reader) next() (*node, error) {
	if r.cur != nil && r.at == r.cur.n {
		r.cur.reset()
		r.free <- r.cur
		r.cur = nil
	}
	if r.cur == nil {
		select {
		case r.cur = <-r.ordered:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
		r.at = 0
		select {
		case <-r.cur.ready:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
	r.at++
	return &r.cur.nodes[r.at-1], nil
}

// begin writes a node up to its content.
func (r *Reader) begin(n *node) error {
	if err := r.enc.Begin(n.name, n.entry); err != nil {
		return errorAt(n.path(), told{err})
	}
	r.count.entries.Add(1)
	if n.place == leaf && n.typ == unix.S_IFREG {
		r.file = payload{node: n, size: n.entry.Size, sparse: n.st.Blocks*512 < n.st.Size}
		if r.known != nil && n.entry.Size > 0 {
			r.new = append(r.new, Payload{Off: r.enc.Offset(), File: fileOf(&n.st, n.ctime), Unread: n.known, in: n.in, name: n.name})
		}
	}
	return nil
}

// piece is how much of a file is written at once where there is no room in the
// caller's buffer for so much: enough for the encoder not to copy it.
const piece = 64 << 10

// payload writes as much of the open file as there is room for, or a piece.
func (r *Reader) payload() error {
	f := &r.file
	// What the encoder still holds comes first: behind that is the place where
	// these bytes will be.
	held := r.enc.Offset() - r.out.total
	room := int64(r.out.room()) - held
	n := min(f.left(), max(room, piece))
	var p []byte
	switch {
	case f.node.known:
		if p = r.piece[:]; n <= room {
			p = r.out.rest()[held:]
		}
		n = min(n, int64(len(p)))
		p = p[:n]
		clear(p)
		f.off += n
	case f.node.fd < 0:
		p = f.node.data[f.off:][:n]
		f.off += n
	case n <= room:
		p = r.out.rest()[held:][:n]
	default:
		p = r.piece[:n]
	}
	if f.node.fd >= 0 {
		got, err := f.read(p)
		if err != nil {
			return errorAt(f.node.path(), err)
		}
		p = p[:got]
	}
	if _, err := r.enc.Write(p); err != nil {
		return errorAt(f.node.path(), told{err})
	}
	if f.left() > 0 || f.node.fd < 0 {
		return nil
	}
	return r.finish(f)
}

// finish looks whether a file changed while it was read.
func (r *Reader) finish(f *payload) error {
	changed, err := f.changed()
	if err != nil {
		return errorAt(f.node.path(), err)
	}
	if changed {
		r.log.Warn("changed while it was packed", "path", f.node.path())
	}
	return nil
}

// end writes a directory's table.
func (r *Reader) end(n *node) error {
	if err := r.enc.End(); err != nil {
		return errorAt(n.path(), told{err})
	}
	if n.in.up == nil {
		return io.EOF
	}
	return nil
}

// vanished takes note of a node that is gone.
func (r *Reader) vanished(path string) {
	r.count.vanished.Add(1)
	r.log.Warn("vanished before it was packed", "path", path)
}

// errClosed is what a Reader says after Close.
var errClosed = fmt.Errorf("walk: %w", os.ErrClosed)

// Close ends the walk and returns when nothing of it runs any more.
func (r *Reader) Close() error {
	r.cancel(errClosed)
	r.ending.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop(errClosed)
	if r.cur != nil {
		r.cur.reset()
		r.cur = nil
	}
	r.file = payload{}
	if r.root != nil {
		r.root.release()
		r.root = nil
	}
	for {
		select {
		case b := <-r.ordered:
			b.reset()
		default:
			return nil
		}
	}
}

// Stats is what was packed so far.
func (r *Reader) Stats() Stats { return r.count.stats() }

//go:build linux

package fusefs

import (
	"context"
	"os"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/catar/tree"
)

// A treeFile is a regular file that is read, or was opened. It gets its Reader when
// it is first read, or if it is large and the kernel may read it by itself: of a small
// file that the kernel has in memory there never is one.
type treeFile struct {
	fs        *treeFS
	attr      tree.Attr
	once      sync.Once
	reader    Reader      // set by once
	confirmed atomic.Bool // the archive says of the file what the tree says
	users     int         // who read it now, and read.recent; guarded by read.mu
}

var _ Reader = (*treeFile)(nil)

func (t *treeFile) name() string { return t.fs.path(t.attr.ID) }

func (t *treeFile) own() Reader {
	t.once.Do(func() { t.reader = t.fs.open(t.fs.tree.Payload(t.attr.ID)) })
	return t.reader
}

func (t *treeFile) close() {
	t.once.Do(func() {})
	if t.reader != nil {
		closeReader(t.reader)
	}
}

// ReadAt reads no byte of a file that is not confirmed. The first read waits
// for both at the same time.
func (t *treeFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if t.confirmed.Load() {
		return t.own().ReadAt(ctx, p, off)
	}
	record := make(chan error, 1)
	go func() { record <- t.fs.tree.Confirm(ctx, t.attr.ID) }()
	n, err := t.own().ReadAt(ctx, p, off)
	if wrong := <-record; wrong != nil {
		return 0, wrong
	}
	t.confirmed.Store(true)
	return n, err
}

// backing is the file that the kernel may read instead, if there is one now. It
// waits until the entry is confirmed: later nobody asks.
func (t *treeFile) backing(signal <-chan struct{}, pid uint32) *os.File {
	file := backing(t.own())
	if file == nil {
		return nil
	}
	ctx := t.fs.requests.begin(signal, pid)
	if ctx == nil {
		return nil
	}
	defer t.fs.requests.finish(ctx)
	if err := t.fs.tree.Confirm(ctx, t.attr.ID); err != nil {
		return nil // which is for the first read to say
	}
	t.confirmed.Store(true)
	return file
}

// Open is asked for only where the kernel may read files by itself, which it has to be
// told of file by file. Else it opens them without a word, and so without a number.
func (f *treeFS) Open(signal <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !f.told {
		return fuse.ENOSYS
	}
	a, st := f.attr(in.NodeId)
	if st != fuse.OK {
		return st
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if !f.backings.counts(a.Size) {
		return fuse.OK
	}
	file := &treeFile{fs: f, attr: a}
	var ok bool
	if out.Fh, ok = f.opened.add(file); !ok {
		return fuse.EIO
	}
	if !f.backings.shared(in.NodeId, out) {
		f.backings.open(in.NodeId, a.Size, file.backing(signal, in.Pid), out)
	}
	return fuse.OK
}

func (f *treeFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if file, ok := f.opened.remove(in.Fh); ok { // and so counted
		f.backings.release(in.NodeId)
		file.close()
	}
}

// take is the file of which somebody who opened it reads n bytes, to be given back.
func (f *treeFS) take(node, handle, off, n uint64) (*treeFile, fuse.Status) {
	if handle != 0 {
		file, ok := f.opened.get(handle)
		if !ok {
			return nil, fuse.EBADF
		}
		return file, fuse.OK
	}
	a, st := f.attr(node)
	if st != fuse.OK {
		return nil, st
	}
	if a.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fuse.EBADF
	}
	return f.read.take(f, a, off == 0 && n >= uint64(a.Size)), fuse.OK
}

func (f *treeFS) giveBack(file *treeFile, handle uint64) {
	if handle == 0 {
		f.read.giveBack(file)
	}
}

// Flush has nothing to do; ENOSYS saves a round trip at each close.
func (f *treeFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Lseek looks for holes, of which no byte has to come; but the file has to lie where
// they are looked for.
func (f *treeFS) Lseek(signal <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	file, st := f.take(in.NodeId, in.Fh, 0, 0)
	if st != fuse.OK {
		return st
	}
	defer f.giveBack(file, in.Fh)
	if !file.confirmed.Load() {
		ctx := f.requests.begin(signal, in.Pid)
		if ctx == nil {
			return fuse.EIO
		}
		defer f.requests.finish(ctx)
		if err := f.tree.Confirm(ctx, file.attr.ID); err != nil {
			return f.requests.failed(ctx, err, "file not found where it should be", "file", file.name())
		}
		file.confirmed.Store(true)
	}
	off, size := f.tree.Payload(file.attr.ID)
	at, st := f.holes.seek(off, size, int64(in.Offset), in.Whence)
	out.Offset = uint64(at)
	return st
}

func (f *treeFS) Read(signal <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	file, st := f.take(in.NodeId, in.Fh, in.Offset, uint64(len(buf)))
	if st != fuse.OK {
		return nil, st
	}
	defer f.giveBack(file, in.Fh)
	size := uint64(file.attr.Size)
	if in.Offset >= size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	// The last page of a file reaches beyond its end; the kernel fills it up.
	p := buf[:min(uint64(len(buf)), size-in.Offset)]
	if st := f.requests.fill(signal, in.Pid, file, file, p, int64(in.Offset)); st != fuse.OK {
		return nil, st
	}
	return fuse.ReadResultData(p), fuse.OK
}

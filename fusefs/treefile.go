//go:build linux

package fusefs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"caravel/catar/tree"
)

// A treeFile is a regular file that was opened. It gets its Reader when it is
// first read: of a file that the kernel has in memory it never is.
type treeFile struct {
	fs     *treeFS
	attr   tree.Attr
	once   sync.Once
	reader Reader // set by once
}

func (t *treeFile) name() string { return t.fs.path(t.attr.ID) }

func (t *treeFile) close() {
	t.once.Do(func() {})
	if t.reader != nil {
		closeReader(t.reader)
	}
}

func (f *treeFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	a, st := f.attr(in.NodeId)
	if st != fuse.OK {
		return st
	}
	var ok bool
	if out.Fh, ok = f.files.add(&treeFile{fs: f, attr: a}); !ok {
		return fuse.EIO
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (f *treeFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if file, ok := f.files.remove(in.Fh); ok {
		file.close()
	}
}

// Flush has nothing to do; ENOSYS saves a round trip at each close.
func (f *treeFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

func (f *treeFS) Read(signal <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	file, ok := f.files.get(in.Fh)
	if !ok {
		return nil, fuse.EBADF
	}
	size := uint64(file.attr.Size)
	if in.Offset >= size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	file.once.Do(func() { file.reader = f.open(f.tree.Payload(file.attr.ID)) })
	// The last page of a file reaches beyond its end; the kernel fills it up.
	p := buf[:min(uint64(len(buf)), size-in.Offset)]
	if st := f.requests.fill(signal, in.Pid, file, file.reader, p, int64(in.Offset)); st != fuse.OK {
		return nil, st
	}
	return fuse.ReadResultData(p), fuse.OK
}

//go:build linux

package fusefs

import (
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/catar/tree"
)

// dots is the number of the entries "." and "..", which come first.
const dots = 2

// A listing is a directory that was opened. Its children are asked for by its
// first read, for which the kernel has no need if it knows the directory, and
// are let go when they have been read to the end.
//
// An entry's offset is its place among them, which never changes: a read goes
// on wherever any other has stopped.
type listing struct {
	dir      tree.ID
	children atomic.Pointer[[]tree.Child] // nil: not asked for
}

func (f *treeFS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	dir, st := f.attr(in.NodeId)
	if st != fuse.OK {
		return st
	}
	var ok bool
	if out.Fh, ok = f.dirs.add(&listing{dir: dir.ID}); !ok {
		return fuse.EIO
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return fuse.OK
}

func (f *treeFS) ReleaseDir(in *fuse.ReleaseIn) { f.dirs.remove(in.Fh) }

func (f *treeFS) ReadDir(signal <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.readDir(signal, in, func(e fuse.DirEntry, _ *tree.Attr) bool { return out.AddDirEntry(e) })
}

func (f *treeFS) ReadDirPlus(signal <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.readDir(signal, in, func(e fuse.DirEntry, a *tree.Attr) bool {
		entry := out.AddDirLookupEntry(e)
		if entry != nil && a != nil {
			fillEntry(entry, a)
		}
		return entry != nil
	})
}

// readDir hands the entries from in.Offset on to add, until that has no room.
// Those that are no children have no Attr.
func (f *treeFS) readDir(signal <-chan struct{}, in *fuse.ReadIn, add func(fuse.DirEntry, *tree.Attr) bool) fuse.Status {
	l, ok := f.dirs.get(in.Fh)
	if !ok {
		return fuse.EBADF
	}
	children, st := f.children(signal, in.Pid, l)
	if st != fuse.OK {
		return st
	}
	end := uint64(len(children)) + dots
	if in.Offset >= end {
		l.children.Store(nil)
	}
	for i := in.Offset; i < end; i++ {
		e, a := f.dirEntry(l.dir, children, i)
		e.Off = i + 1
		if !add(e, a) {
			break
		}
	}
	return fuse.OK
}

// dirEntry is entry i of a directory.
func (f *treeFS) dirEntry(dir tree.ID, children []tree.Child, i uint64) (fuse.DirEntry, *tree.Attr) {
	switch i {
	case 0:
		return fuse.DirEntry{Name: ".", Ino: f.tree.Attr(dir).Ino, Mode: unix.S_IFDIR}, nil
	case 1:
		return fuse.DirEntry{Name: "..", Ino: f.tree.Attr(f.tree.Parent(dir)).Ino, Mode: unix.S_IFDIR}, nil
	}
	child := &children[i-dots]
	return fuse.DirEntry{Name: child.Name, Ino: child.Ino, Mode: child.Mode}, &child.Attr
}

func (f *treeFS) children(signal <-chan struct{}, pid uint32, l *listing) ([]tree.Child, fuse.Status) {
	if all := l.children.Load(); all != nil {
		return *all, fuse.OK
	}
	ctx := f.requests.begin(signal, pid)
	if ctx == nil {
		return nil, fuse.EIO
	}
	defer f.requests.finish(ctx)

	all, err := f.tree.Children(ctx, l.dir)
	if err != nil {
		return nil, f.requests.failed(ctx, err, "directory not listed", "entry", f.path(l.dir))
	}
	l.children.Store(&all)
	return all, fuse.OK
}

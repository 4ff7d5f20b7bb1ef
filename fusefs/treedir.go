//go:build linux

package fusefs

import (
	"slices"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/catar/tree"
)

// dots is the number of the entries "." and "..", which come first.
const dots = 2

// openDir answers the kernel that wants to open a directory: it need not. Where
// it understands that it opens all of them by itself, and keeps what it has read,
// which spares half of the requests of a walk.
func openDir(kernel *fuse.InitIn, out *fuse.OpenOut) fuse.Status {
	if kernel.Flags64()&fuse.CAP_NO_OPENDIR_SUPPORT != 0 {
		return fuse.ENOSYS
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return fuse.OK
}

func (f *treeFS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return openDir(f.kernel, out)
}

func (f *treeFS) ReadDir(signal <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.readDir(signal, in, func(e fuse.DirEntry, _ *tree.Attr) bool { return out.AddDirEntry(e) })
}

func (f *treeFS) ReadDirPlus(signal <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.readDir(signal, in, func(e fuse.DirEntry, a *tree.Attr) bool {
		entry := out.AddDirLookupEntry(e)
		if entry != nil && a != nil && !f.mustBeSure(a) { // else it is to be looked up
			f.fillEntry(entry, a)
		}
		return entry != nil
	})
}

// readDir hands the entries from in.Offset on to add, until that has no room.
// Those that are no children have no Attr.
func (f *treeFS) readDir(signal <-chan struct{}, in *fuse.ReadIn, add func(fuse.DirEntry, *tree.Attr) bool) fuse.Status {
	dir, st := f.attr(in.NodeId)
	if st != fuse.OK {
		return st
	}
	children, st := f.children(signal, in.Pid, dir.ID)
	if st != fuse.OK {
		return st
	}
	end := uint64(len(children)) + dots
	if in.Offset >= end {
		f.listings.drop(dir.ID)
	}
	for i := in.Offset; i < end; i++ {
		e, a := f.dirEntry(dir.ID, children, i)
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
		up := dir
		if dir != f.look.Root {
			up = f.tree.Parent(dir)
		}
		return fuse.DirEntry{Name: "..", Ino: f.tree.Attr(up).Ino, Mode: unix.S_IFDIR}, nil
	}
	child := &children[i-dots]
	return fuse.DirEntry{Name: child.Name, Ino: child.Ino, Mode: child.Mode}, &child.Attr
}

func (f *treeFS) children(signal <-chan struct{}, pid uint32, dir tree.ID) ([]tree.Child, fuse.Status) {
	if all, ok := f.listings.get(dir); ok {
		return all, fuse.OK
	}
	ctx := f.requests.begin(signal, pid)
	if ctx == nil {
		return nil, fuse.EIO
	}
	defer f.requests.finish(ctx)

	all, err := f.tree.Children(ctx, dir)
	if err != nil {
		return nil, f.requests.failed(ctx, err, "directory not listed", "entry", f.path(dir))
	}
	f.listings.put(dir, all)
	return all, fuse.OK
}

const (
	maxListings = 16
	maxChildren = 1 << 16 // of all listings, 80 bytes each
)

// listings are the directories that are being read, piece by piece, the one that
// was used last at the end. A reader that stops half way does not say so: a
// directory is let go when it was read to its end, or when others need the place.
// The zero value is ready.
type listings struct {
	mu       sync.Mutex
	all      []listing // guarded by mu
	children int       // in all of them; guarded by mu
}

// A listing is all of a directory. An entry's offset is its place there, which
// never changes: a read goes on wherever any other has stopped.
type listing struct {
	dir      tree.ID
	children []tree.Child
}

func (l *listings) get(dir tree.ID) ([]tree.Child, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.find(dir)
	if i < 0 {
		return nil, false
	}
	found := l.all[i]
	l.all = append(slices.Delete(l.all, i, i+1), found)
	return found.children, true
}

func (l *listings) put(dir tree.ID, children []tree.Child) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.find(dir) >= 0 { // by another reader, meanwhile
		return
	}
	l.all = append(l.all, listing{dir, children})
	l.children += len(children)
	for len(l.all) > maxListings || len(l.all) > 1 && l.children > maxChildren {
		l.remove(0)
	}
}

func (l *listings) drop(dir tree.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.find(dir); i >= 0 {
		l.remove(i)
	}
}

// find and remove are called with l.mu held.
func (l *listings) find(dir tree.ID) int {
	return slices.IndexFunc(l.all, func(of listing) bool { return of.dir == dir })
}

func (l *listings) remove(i int) {
	l.children -= len(l.all[i].children)
	l.all = slices.Delete(l.all, i, i+1)
}

//go:build linux

package fusefs

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// A Tree is what MountTree shows: a [tree.Tree], or what is like one. Its
// methods may be called from many goroutines; those with a context return soon
// after it is done. The error of a name that is not there matches
// fs.ErrNotExist, that of an entry that is no directory ENOTDIR. Any other is
// an I/O error for whoever asked, and what failed is asked for again the next
// time.
type Tree interface {
	Flags() feature.Flags
	Size() int64               // of the archive in bytes
	Len() int                  // entries seen so far
	Known() bool               // whether those are all that there are
	Attr(id tree.ID) tree.Attr // the zero Attr for an ID that was never given
	Name(id tree.ID) string    // in its directory; "" of the root
	Owners(id tree.ID) (user, group string)
	Parent(id tree.ID) tree.ID // its directory; of the root the root
	Lookup(ctx context.Context, dir tree.ID, name string) (tree.Attr, error)
	Children(ctx context.Context, dir tree.ID) ([]tree.Child, error) // always in the same order
	Entry(ctx context.Context, id tree.ID) (*catar.Node, error)
	Confirm(ctx context.Context, id tree.ID) error     // that the archive says of the entry what Attr says; cheap once it did
	ConfirmPath(ctx context.Context, id tree.ID) error // the same of all that leads to the entry, too
	Dirs(dir tree.ID) int                              // directories in one; < 0: that is not known yet
	Span(id tree.ID) catar.Span
	Payload(id tree.ID) (off, n int64)
	Target(ctx context.Context, id tree.ID) (string, error)
}

var _ Tree = (*tree.Tree)(nil)

// MountTree shows t as a read-only file system mounted on the directory dir.
// When it returns, the tree can be read, also by the calling process. End it
// with [Mount.Unmount].
//
// For each file that is read, open gives a Reader of the size bytes of the archive
// from off on, which counts its offsets from there: what it learns from the order of
// one file's reads is not mixed with another's. It serves all who read the file, and
// is closed, if it is an io.Closer, when 128 other files were read since. open is
// called from many goroutines and must not wait: by the first read; but for a file of
// Options.Passthrough bytes, whose Reader may be [Backed], each time that it is
// opened, and that Reader is closed when the file is.
func MountTree(dir string, t Tree, open func(off, size int64) Reader, opt Options) (*Mount, error) {
	opt = opt.withDefaults("caravel")
	return mount(dir, newTreeFS(t, open, opt), opt)
}

// treeFS is a tree in the kernel's protocol. The number of a node is that of
// the tree's entry, so nothing is kept here of what the kernel knows or forgets; but
// that of the root is the kernel's, whichever directory is shown.
type treeFS struct {
	fuse.RawFileSystem // ENOSYS to all else: the kernel does not ask twice
	tree               Tree
	flags              feature.Flags
	look               Look
	holes              Holes
	effective          bool // set-id bits or devices are for real
	open               func(off, size int64) Reader
	requests           *requests
	backings           *backings
	told               bool               // the kernel tells when it opens and closes a file
	opened             handles[*treeFile] // then: the large ones
	read               treeFiles          // all others
	listings           listings
	plain              func() bool  // whether none of the entries seen so far has attributes; asked once all were seen
	kernel             *fuse.InitIn // what it can do
}

func newTreeFS(t Tree, open func(off, size int64) Reader, opt Options) *treeFS {
	opt.Look.Root = cmp.Or(opt.Look.Root, tree.Root)
	return &treeFS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		tree:          t,
		flags:         t.Flags(),
		look:          opt.Look,
		holes:         opt.Holes,
		effective:     opt.SetID || opt.Devices,
		open:          open,
		requests:      newRequests(opt.Log),
		backings:      newBackings(opt.Passthrough, opt.Log),
		plain:         sync.OnceValue(func() bool { return isPlain(t) }),
	}
}

func (f *treeFS) Init(s *fuse.Server) {
	f.kernel = s.KernelSettings()
	f.told = f.backings.start(s)
}

func (f *treeFS) String() string     { return "tree" }
func (f *treeFS) serving() *requests { return f.requests }
func (f *treeFS) hasACLs() bool      { return f.flags&feature.ACL != 0 && f.look.Perm == nil }

func (f *treeFS) hasXAttrs() bool {
	return f.flags&(feature.XAttrs|feature.ACL|feature.SELinux|feature.FCaps) != 0
}

// close ends what the kernel did not release.
func (f *treeFS) close() {
	for _, file := range f.opened.close() {
		file.close()
	}
	f.read.close()
}

// attr finds what is known of the entry that a node number stands for.
func (f *treeFS) attr(node uint64) (tree.Attr, fuse.Status) {
	if node > math.MaxUint32 {
		return tree.Attr{}, fuse.Status(unix.ESTALE)
	}
	if node == fuse.FUSE_ROOT_ID {
		node = uint64(f.look.Root)
	}
	a := f.tree.Attr(tree.ID(node))
	if a.ID == 0 {
		return a, fuse.Status(unix.ESTALE)
	}
	return a, fuse.OK
}

// path is where an entry is in the tree, for people to read.
func (f *treeFS) path(id tree.ID) string {
	var up []string
	for ; id != tree.Root && len(up) < catar.MaxDepth; id = f.tree.Parent(id) { // of the whole archive
		up = append(up, f.tree.Name(id))
	}
	slices.Reverse(up)
	return "/" + strings.Join(up, "/")
}

func (f *treeFS) Lookup(signal <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	*out = fuse.EntryOut{}
	dir, st := f.attr(h.NodeId)
	if st != fuse.OK {
		return st
	}
	if len(name) > maxName {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	ctx := f.requests.begin(signal, h.Pid)
	if ctx == nil {
		return fuse.EIO
	}
	defer f.requests.finish(ctx)

	a, err := f.tree.Lookup(ctx, dir.ID, name)
	if err == nil && f.mustBeSure(&a) {
		err = f.tree.ConfirmPath(ctx, a.ID)
	}
	switch {
	case err == nil:
		f.fillEntry(out, &a)
		return fuse.OK
	case errors.Is(err, fs.ErrNotExist):
		out.SetEntryTimeout(forever) // node 0: known not to be there
		return fuse.OK
	}
	return f.requests.failed(ctx, err, "lookup failed", "entry", path.Join(f.path(dir.ID), name))
}

// mustBeSure reports whether an entry has an effect that nobody may claim for it.
func (f *treeFS) mustBeSure(a *tree.Attr) bool {
	if !f.effective {
		return false
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return a.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
	case unix.S_IFCHR, unix.S_IFBLK:
		return true
	}
	return false
}

func (f *treeFS) fillEntry(out *fuse.EntryOut, a *tree.Attr) {
	out.NodeId = uint64(a.ID)
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(f.fillAttr(&out.Attr, a))
}

// unsettled is for how long the kernel keeps the attributes of a directory whose
// links are not known yet.
const unsettled = time.Second

// fillAttr returns for how long the kernel may keep it. A directory has two links and
// one of each directory in it, as find believes; while these are not known one, which
// says so.
func (f *treeFS) fillAttr(out *fuse.Attr, a *tree.Attr) (keep time.Duration) {
	seconds, nano := a.MTime/int64(time.Second), a.MTime%int64(time.Second)
	if nano < 0 { // before 1970
		seconds, nano = seconds-1, nano+int64(time.Second)
	}
	uid, gid := f.look.owner(f.tree, a)
	*out = fuse.Attr{
		Ino:       a.Ino,
		Size:      uint64(a.Size),
		Atime:     uint64(seconds),
		Mtime:     uint64(seconds),
		Ctime:     uint64(seconds),
		Atimensec: uint32(nano),
		Mtimensec: uint32(nano),
		Ctimensec: uint32(nano),
		Mode:      f.look.mode(a.Mode),
		Nlink:     1,
		Owner:     fuse.Owner{Uid: uid, Gid: gid},
		Blksize:   blockSize,
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		off, n := f.tree.Payload(a.ID)
		out.Blocks = f.holes.blocks(off, n)
	case unix.S_IFCHR, unix.S_IFBLK:
		out.Rdev = a.Minor&0xff | a.Major<<8 | a.Minor&^0xff<<12 // the kernel's 32 bits
	case unix.S_IFDIR:
		n := f.tree.Dirs(a.ID)
		if n < 0 {
			return unsettled
		}
		out.Nlink = 2 + uint32(n)
	}
	return forever
}

func (f *treeFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	a, st := f.attr(in.NodeId)
	if st != fuse.OK {
		return st
	}
	*out = fuse.AttrOut{}
	out.SetTimeout(f.fillAttr(&out.Attr, &a))
	return fuse.OK
}

func (f *treeFS) Readlink(signal <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	a, st := f.attr(h.NodeId)
	if st != fuse.OK {
		return nil, st
	}
	ctx := f.requests.begin(signal, h.Pid)
	if ctx == nil {
		return nil, fuse.EIO
	}
	defer f.requests.finish(ctx)

	target, err := f.tree.Target(ctx, a.ID)
	if err != nil {
		return nil, f.requests.failed(ctx, err, "link not read", "entry", f.path(a.ID))
	}
	return []byte(target), fuse.OK
}

// node reads all of an entry; surely makes sure that it is the one which the tables
// lead to.
func (f *treeFS) node(signal <-chan struct{}, pid uint32, id tree.ID, surely bool) (*catar.Node, fuse.Status) {
	ctx := f.requests.begin(signal, pid)
	if ctx == nil {
		return nil, fuse.EIO
	}
	defer f.requests.finish(ctx)

	var n *catar.Node
	var err error
	if surely {
		err = f.tree.ConfirmPath(ctx, id)
	}
	if err == nil {
		n, err = f.tree.Entry(ctx, id)
	}
	if err != nil {
		return nil, f.requests.failed(ctx, err, "entry not read", "entry", f.path(id))
	}
	return n, fuse.OK
}

func (f *treeFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	span := f.tree.Span(f.look.Root)
	*out = fuse.StatfsOut{
		Blocks:  (uint64(span.End-span.Start) + blockSize - 1) / blockSize,
		Files:   uint64(f.tree.Len()), // there may be more
		Bsize:   blockSize,
		Frsize:  blockSize,
		NameLen: maxName,
	}
	return fuse.OK
}

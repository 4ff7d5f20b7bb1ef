//go:build linux

package fusefs

import (
	"io"
	"math"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	rootNode = fuse.FUSE_ROOT_ID
	fileNode = rootNode + 1

	forever   = time.Duration(math.MaxInt64) // 292 years, the longest there is
	maxName   = 255
	blockSize = 4096 // of statfs and st_blksize; st_blocks counts 512 bytes, always
)

// oneFile is a file system of a root directory and one file. It speaks the
// kernel's protocol as it is: two nodes need no table.
type oneFile struct {
	fuse.RawFileSystem // ENOSYS to all else: the kernel does not ask twice
	file               File
	look               Look
	holes              Holes
	requests           *requests
	backings           *backings
	readers            handles[Reader] // used if file.Open is set
	kernel             *fuse.InitIn    // what it can do
}

func newOneFile(f File, opt Options) *oneFile {
	return &oneFile{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		file:          f,
		look:          opt.Look,
		holes:         opt.Holes,
		requests:      newRequests(opt.Log),
		backings:      newBackings(opt.Passthrough, opt.Log),
	}
}

func (f *oneFile) Init(s *fuse.Server) {
	f.kernel = s.KernelSettings()
	f.backings.start(s)
}

func (f *oneFile) String() string     { return f.file.Name }
func (f *oneFile) name() string       { return f.file.Name }
func (f *oneFile) serving() *requests { return f.requests }
func (f *oneFile) hasXAttrs() bool    { return false }
func (f *oneFile) hasACLs() bool      { return false }

// close ends what the kernel did not release.
func (f *oneFile) close() {
	for _, r := range f.readers.close() {
		closeReader(r)
	}
}

func closeReader(r Reader) {
	if c, ok := r.(io.Closer); ok {
		c.Close() // nothing was written
	}
}

func (f *oneFile) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	out.SetEntryTimeout(forever)
	if h.NodeId != rootNode || name != f.file.Name {
		return fuse.OK // node 0: known not to be there
	}
	f.entry(out)
	return fuse.OK
}

func (f *oneFile) entry(out *fuse.EntryOut) {
	out.NodeId = fileNode
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	f.attr(fileNode, &out.Attr)
}

func (f *oneFile) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(forever)
	return f.attr(in.NodeId, &out.Attr)
}

func (f *oneFile) attr(node uint64, a *fuse.Attr) fuse.Status {
	uid, gid := f.look.ids(f.file.UID, "", f.file.GID, "")
	*a = fuse.Attr{Ino: node, Blksize: blockSize, Owner: fuse.Owner{Uid: uid, Gid: gid}}
	switch node {
	case rootNode:
		a.Mode, a.Nlink = unix.S_IFDIR|0o555, 2
	case fileNode:
		a.Mode, a.Nlink = unix.S_IFREG|f.file.Mode, 1
		a.Size = uint64(f.file.Size)
		a.Blocks = f.holes.blocks(0, f.file.Size)
	default:
		return fuse.Status(unix.ESTALE)
	}
	a.Mode = f.look.mode(a.Mode)
	a.SetTimes(&f.file.ModTime, &f.file.ModTime, &f.file.ModTime)
	return fuse.OK
}

// Lseek looks for holes.
func (f *oneFile) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	at, st := f.holes.seek(0, f.file.Size, int64(in.Offset), in.Whence)
	out.Offset = uint64(at)
	return st
}

func (f *oneFile) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return openDir(f.kernel, out)
}

// entries are those of the root, in the order of their offsets.
func (f *oneFile) entries() []fuse.DirEntry {
	return []fuse.DirEntry{
		{Name: ".", Ino: rootNode, Mode: unix.S_IFDIR},
		{Name: "..", Ino: rootNode, Mode: unix.S_IFDIR},
		{Name: f.file.Name, Ino: fileNode, Mode: unix.S_IFREG},
	}
}

func (f *oneFile) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	all := f.entries()
	for _, e := range all[min(in.Offset, uint64(len(all))):] {
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

func (f *oneFile) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	all := f.entries()
	for _, e := range all[min(in.Offset, uint64(len(all))):] {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			break
		}
		if e.Ino == fileNode {
			f.entry(entry)
		}
	}
	return fuse.OK
}

func (f *oneFile) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.NodeId != fileNode {
		return fuse.Status(unix.EISDIR)
	}
	// A process that is started while this one has the file open closes it: should
	// it be the one who is to serve the file, nobody would answer a flush.
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	r := f.file.Reader
	if f.file.Open != nil {
		r = f.file.Open()
		var ok bool
		if out.Fh, ok = f.readers.add(r); !ok { // closed meanwhile
			closeReader(r)
			return fuse.EIO
		}
	}
	if f.backings.counts(f.file.Size) && !f.backings.shared(fileNode, out) {
		f.backings.open(fileNode, f.file.Size, backing(r), out)
	}
	return fuse.OK
}

func (f *oneFile) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if f.backings.counts(f.file.Size) {
		f.backings.release(fileNode)
	}
	if r, ok := f.readers.remove(in.Fh); ok {
		closeReader(r)
	}
}

// Flush has nothing to do; ENOSYS saves a round trip at each close where the
// kernel does not know FOPEN_NOFLUSH (before Linux 5.16).
func (f *oneFile) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

func (f *oneFile) Read(signal <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r := f.reader(in.Fh)
	if r == nil {
		return nil, fuse.EBADF
	}
	size := uint64(f.file.Size)
	if in.Offset >= size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	// The last page of a file reaches beyond its end; the kernel fills it up.
	p := buf[:min(uint64(len(buf)), size-in.Offset)]
	if st := f.requests.fill(signal, in.Pid, f, r, p, int64(in.Offset)); st != fuse.OK {
		return nil, st
	}
	return fuse.ReadResultData(p), fuse.OK
}

func (f *oneFile) reader(handle uint64) Reader {
	if f.file.Open == nil {
		return f.file.Reader
	}
	r, _ := f.readers.get(handle)
	return r
}

func (f *oneFile) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{
		Blocks:  (uint64(f.file.Size) + blockSize - 1) / blockSize,
		Files:   2,
		Bsize:   blockSize,
		Frsize:  blockSize,
		NameLen: maxName,
	}
	return fuse.OK
}

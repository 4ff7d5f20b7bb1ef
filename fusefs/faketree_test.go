//go:build linux

package fusefs_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

const best = feature.Best | feature.SHA512_256

// A fakeTree is a tree in memory. Its payloads lie in a row in a stream.
type fakeTree struct {
	flags     feature.Flags
	known     bool         // says that all entries are in memory, as they are
	unsettled atomic.Bool  // says that the directories in none are known
	entries   []*fakeEntry // by ID
	end       int64        // of the stream so far

	// before, if set, is asked before whatever may wait; an error is its
	// error.
	before func(ctx context.Context, op string, id tree.ID, name string) error

	mu    sync.Mutex
	calls map[string]int // by op; guarded by mu
}

type fakeEntry struct {
	catar.Entry
	name     string
	parent   tree.ID
	off      int64
	children []tree.ID
	byName   map[string]tree.ID
}

func newFakeTree(f feature.Flags) *fakeTree {
	t := &fakeTree{flags: f.Normal(), entries: []*fakeEntry{nil}, calls: map[string]int{}}
	t.add(tree.Root, "", catar.Entry{Mode: unix.S_IFDIR | 0o755})
	return t
}

// add appends a child, whose name must sort behind its siblings'.
func (t *fakeTree) add(parent tree.ID, name string, e catar.Entry) tree.ID {
	id := tree.ID(len(t.entries))
	entry := &fakeEntry{Entry: e, name: name, parent: parent, byName: map[string]tree.ID{}}
	t.entries = append(t.entries, entry)
	if name != "" {
		up := t.entries[parent]
		up.children = append(up.children, id)
		up.byName[name] = id
	}
	t.end += 100 // its metadata
	if e.Mode&unix.S_IFMT == unix.S_IFREG {
		entry.off = t.end
		t.end += e.Size
	}
	return id
}

func (t *fakeTree) file(parent tree.ID, name string, size int64) tree.ID {
	return t.add(parent, name, catar.Entry{Mode: unix.S_IFREG | 0o644, Size: size})
}

func (t *fakeTree) dir(parent tree.ID, name string) tree.ID {
	return t.add(parent, name, catar.Entry{Mode: unix.S_IFDIR | 0o755})
}

func (t *fakeTree) ask(ctx context.Context, op string, id tree.ID, name string) error {
	t.mu.Lock()
	t.calls[op]++
	t.mu.Unlock()
	if t.before == nil {
		return nil
	}
	return t.before(ctx, op, id, name)
}

func (t *fakeTree) count(op string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls[op]
}

func (t *fakeTree) Flags() feature.Flags { return t.flags }
func (t *fakeTree) Size() int64          { return t.end }
func (t *fakeTree) Len() int             { return len(t.entries) - 1 }
func (t *fakeTree) Known() bool          { return t.known }

func (t *fakeTree) Name(id tree.ID) string { return t.entries[id].name }
func (t *fakeTree) Owners(id tree.ID) (user, group string) {
	return t.entries[id].User, t.entries[id].Group
}

func (t *fakeTree) Parent(id tree.ID) tree.ID { return t.entries[id].parent }

func (t *fakeTree) Attr(id tree.ID) tree.Attr {
	if int(id) >= len(t.entries) || id == 0 {
		return tree.Attr{}
	}
	e := t.entries[id]
	a := tree.Attr{
		ID: id, Ino: 1000*uint64(id) - 999, Mode: e.Mode, UID: e.UID, GID: e.GID, MTime: e.MTime,
		Size: e.Size, Major: e.Major, Minor: e.Minor,
		XAttrs: len(e.XAttrs) > 0 || e.ACL != nil || e.SELinux != "" || e.FCaps != nil,
	}
	a.Plain = !a.XAttrs && e.Flags == 0 && e.ProjID == 0
	if e.IsSymlink() {
		a.Size = int64(len(e.Target))
	}
	return a
}

func (t *fakeTree) Lookup(ctx context.Context, dir tree.ID, name string) (tree.Attr, error) {
	if err := t.ask(ctx, "lookup", dir, name); err != nil {
		return tree.Attr{}, err
	}
	if !t.entries[dir].IsDir() {
		return tree.Attr{}, syscall.ENOTDIR
	}
	id, ok := t.entries[dir].byName[name]
	if !ok {
		return tree.Attr{}, fs.ErrNotExist
	}
	return t.Attr(id), nil
}

func (t *fakeTree) Children(ctx context.Context, dir tree.ID) ([]tree.Child, error) {
	if err := t.ask(ctx, "children", dir, ""); err != nil {
		return nil, err
	}
	var all []tree.Child
	for _, id := range t.entries[dir].children {
		all = append(all, tree.Child{Name: t.entries[id].name, Attr: t.Attr(id)})
	}
	return all, nil
}

func (t *fakeTree) Entry(ctx context.Context, id tree.ID) (*catar.Node, error) {
	if err := t.ask(ctx, "entry", id, ""); err != nil {
		return nil, err
	}
	return &catar.Node{Entry: t.entries[id].Entry, Name: t.entries[id].name}, nil
}

func (t *fakeTree) Confirm(ctx context.Context, id tree.ID) error {
	return t.ask(ctx, "confirm", id, "")
}

func (t *fakeTree) ConfirmPath(ctx context.Context, id tree.ID) error {
	return t.ask(ctx, "confirm path", id, "")
}

func (t *fakeTree) Dirs(dir tree.ID) (n int) {
	if t.unsettled.Load() {
		return -1
	}
	for _, id := range t.entries[dir].children {
		if t.entries[id].IsDir() {
			n++
		}
	}
	return n
}

func (t *fakeTree) Span(id tree.ID) catar.Span {
	span := catar.Span{Start: t.entries[id].off, End: t.entries[id].off + t.entries[id].Size}
	for _, child := range t.entries[id].children {
		span.End = max(span.End, t.Span(child).End)
	}
	if id == tree.Root {
		span.End = t.end
	}
	return span
}

func (t *fakeTree) Payload(id tree.ID) (off, n int64) { return t.entries[id].off, t.entries[id].Size }

func (t *fakeTree) Target(ctx context.Context, id tree.ID) (string, error) {
	if err := t.ask(ctx, "target", id, ""); err != nil {
		return "", err
	}
	return t.entries[id].Target, nil
}

// A part is a piece of a stream, as a file's Reader sees it.
type part struct {
	fusefs.Reader
	off, size int64
}

func (p part) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if off >= p.size {
		return 0, io.EOF
	}
	n, err := p.Reader.ReadAt(ctx, b[:min(int64(len(b)), p.size-off)], p.off+off)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// parts opens pieces of r.
func parts(r fusefs.Reader) func(off, size int64) fusefs.Reader {
	return func(off, size int64) fusefs.Reader { return part{r, off, size} }
}

// mountedTree shows t for the length of the test. Its files hold the pattern.
func mountedTree(t testing.TB, tr *fakeTree, opt fusefs.Options) *fusefs.Mount {
	t.Helper()
	return mountedParts(t, tr, parts(&pattern{size: tr.end}), opt)
}

func mountedParts(t testing.TB, tr fusefs.Tree, open func(off, size int64) fusefs.Reader, opt fusefs.Options) *fusefs.Mount {
	t.Helper()
	canMount(t)
	m, err := fusefs.MountTree(t.TempDir(), tr, open, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// copied is a tree with what the directory dir has, and the stream of its
// files.
func copied(t testing.TB, dir string) (*fakeTree, fusefs.Reader) {
	t.Helper()
	tr := newFakeTree(best)
	stream := make([]byte, 0, 1<<20)
	var walk func(id tree.ID, dir string)
	walk = func(id tree.ID, dir string) {
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			path := filepath.Join(dir, name.Name())
			e, content := readEntry(t, path)
			child := tr.add(id, name.Name(), e)
			stream = append(append(stream, make([]byte, tr.end-int64(len(stream))-int64(len(content)))...), content...)
			if e.IsDir() {
				walk(child, path)
			}
		}
	}
	root, _ := readEntry(t, dir)
	tr.entries[tree.Root].Entry = root
	walk(tree.Root, dir)
	return tr, inMemory(stream)
}

func readEntry(t testing.TB, path string) (e catar.Entry, content []byte) {
	t.Helper()
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err != nil {
		t.Fatal(err)
	}
	e = catar.Entry{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Nano()}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err = os.ReadFile(path)
		e.Size = int64(len(content))
	case unix.S_IFLNK:
		e.Target, err = os.Readlink(path)
	case unix.S_IFBLK, unix.S_IFCHR:
		e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e, content
}

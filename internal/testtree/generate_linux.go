package testtree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/exclude"
)

// Generate fills the empty directory dir with a tree; the same rng gives the
// same tree on the same file system.
func Generate(t testing.TB, dir string, rng *rand.Rand, opt Options) {
	t.Helper()
	g := &generator{t: t, rng: rng, Options: opt.withDefaults()}
	g.left, g.bytes = g.Nodes, g.Bytes
	if g.Named {
		if g.named = namedIDs(); len(g.named) == 0 {
			t.Skip("testtree: no names of users that groups have as well")
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("testtree: %s: %v", dir, err)
	}
	defer unix.Close(fd)
	root := &folder{fd: fd, depth: 1}
	if g.Deep > 1 {
		g.chain(root, g.Deep-1)
	}
	if g.Wide > 0 {
		g.wide(root)
	}
	for g.left > 0 {
		g.fill(root)
	}
	if g.Exclude {
		g.excludeFile(root)
	}
	g.decorate(fd, ".", g.mode(unix.S_IFDIR)|0o700, noFreeze)
	if g.frozen {
		t.Cleanup(func() {
			if err := Thaw(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				t.Errorf("testtree: %v", err)
			}
		})
	}
}

// A generator is the state of one Generate.
type generator struct {
	Options
	t   testing.TB
	rng *rand.Rand

	left   int      // nodes to make
	bytes  int64    // payload to write
	named  []uint32 // owners, if they must have names
	frozen bool     // something is immutable or only to be appended to
}

// A folder is a directory that is being filled.
type folder struct {
	fd    int
	depth int // nodes on the path to it, the root counted
	up    *folder
	names []string
	files []string // those that a hard link may be made of
	inner []string // paths of some children's children
}

// maxDepth bounds the nesting that comes by chance.
const maxDepth = 7

// one reports true once in n times.
func (g *generator) one(n int) bool { return g.rng.IntN(n) == 0 }

func pick[T any](g *generator, from []T) T { return from[g.rng.IntN(len(from))] }

// lacks reports whether an error means that this cannot be had here.
func lacks(err error) bool {
	for _, e := range []error{
		unix.EOPNOTSUPP, unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSPC, unix.E2BIG, unix.ERANGE,
		unix.ENAMETOOLONG, unix.ENOTTY, unix.ENODATA, unix.EILSEQ, unix.ENOSYS, unix.EOVERFLOW, unix.EMLINK,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// tried reports whether something worked. What the file system has not got is
// no failure.
func (g *generator) tried(what string, err error) bool {
	g.t.Helper()
	if err != nil && !lacks(err) {
		g.t.Fatalf("testtree: %s: %v", what, err)
	}
	return err == nil
}

// fill puts some nodes into a folder.
func (g *generator) fill(f *folder) {
	for n := 1 + g.rng.IntN(12); n > 0 && g.left > 0; n-- {
		name, ok := g.name(f)
		g.left--
		if ok {
			g.node(f, name)
		}
	}
}

// node makes a node of a random type.
func (g *generator) node(f *folder, name string) {
	switch k := g.rng.IntN(100); {
	case k < 22 && f.depth < maxDepth:
		g.directory(f, name, g.fill)
	case k < 32:
		g.symlink(f, name)
	case k < 36:
		g.special(f, name, unix.S_IFIFO, 0)
	case k < 39:
		g.special(f, name, unix.S_IFSOCK, 0)
	case k < 45 && g.Root:
		g.special(f, name, pick(g, []uint32{unix.S_IFCHR, unix.S_IFBLK}), g.device())
	case k < 51:
		g.hardlink(f, name)
	default:
		g.file(f, name)
	}
}

// directory makes a directory with what fill makes in it.
func (g *generator) directory(f *folder, name string, fill func(*folder)) {
	if !g.tried("mkdir", unix.Mkdirat(f.fd, name, 0o700)) {
		return
	}
	fd, err := unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		g.t.Fatalf("testtree: directory %q: %v", name, err)
	}
	defer unix.Close(fd)
	f.names = append(f.names, name)
	child := &folder{fd: fd, depth: f.depth + 1, up: f}
	fill(child)
	if g.Exclude && g.one(3) {
		g.excludeFile(child)
	}
	g.decorate(f.fd, name, g.mode(unix.S_IFDIR), mayFreeze)
	for _, inner := range slices.Concat(child.names, child.inner) {
		if f.inner = append(f.inner, name+"/"+inner); len(f.inner) > 100 {
			break
		}
	}
}

// chain makes a path of so many nodes below f.
func (g *generator) chain(f *folder, nodes int) {
	name, ok := g.name(f)
	switch {
	case !ok:
	case nodes == 1:
		g.file(f, name)
	default:
		g.directory(f, name, func(child *folder) { g.chain(child, nodes-1) })
	}
}

// wide makes a directory of many entries, which cost little each.
func (g *generator) wide(f *folder) {
	name, ok := g.name(f)
	if !ok {
		return
	}
	g.directory(f, name, func(child *folder) {
		for i := range g.Wide {
			name := fmt.Sprintf("%x", g.rng.Uint64()>>uint(i%8*4)|1)
			var err error
			if i%16 == 0 {
				err = unix.Symlinkat(name, child.fd, name)
			} else {
				err = unix.Mknodat(child.fd, name, unix.S_IFREG|0o644, 0)
			}
			if err != nil && !errors.Is(err, unix.EEXIST) {
				g.t.Fatalf("testtree: %q: %v", name, err)
			}
		}
	})
}

func (g *generator) symlink(f *folder, name string) {
	target := g.target(f)
	err := unix.Symlinkat(target, f.fd, name)
	if errors.Is(err, unix.ENAMETOOLONG) { // xfs takes 1023 bytes
		err = unix.Symlinkat(target[:1000], f.fd, name)
	}
	if g.tried("symlink", err) {
		f.names = append(f.names, name)
		g.decorate(f.fd, name, unix.S_IFLNK|0o777, noFreeze)
	}
}

// special makes a node without content.
func (g *generator) special(f *folder, name string, kind uint32, device uint64) {
	if g.tried("mknod", unix.Mknodat(f.fd, name, kind|0o600, int(device))) {
		f.names = append(f.names, name)
		g.decorate(f.fd, name, g.mode(kind), noFreeze)
	}
}

// device is a number within the limits of the format, with the limits.
func (g *generator) device() uint64 {
	major := pick(g, []uint32{1, 8, 259, 4095, g.rng.Uint32N(4096)})
	minor := pick(g, []uint32{0, 1, 255, 256, 1<<20 - 1, g.rng.Uint32N(1 << 20)})
	return unix.Mkdev(major, minor)
}

// hardlink gives a file of this folder or of one above it another name.
func (g *generator) hardlink(f *folder, name string) {
	from := f
	for from.up != nil && (len(from.files) == 0 || g.one(3)) {
		from = from.up
	}
	if len(from.files) == 0 {
		g.file(f, name)
		return
	}
	if g.tried("link", unix.Linkat(from.fd, pick(g, from.files), f.fd, name, 0)) {
		f.names = append(f.names, name)
	}
}

// excludeFile writes a .caexclude about what is in a folder.
func (g *generator) excludeFile(f *folder) {
	g.regular(f, exclude.Name, func(fd int) error {
		return writeAt(fd, Rules(g.rng, slices.Concat(f.names, f.inner)), 0)
	})
}

func (g *generator) file(f *folder, name string) { g.regular(f, name, g.content) }

func (g *generator) regular(f *folder, name string, content func(fd int) error) {
	fd, err := unix.Openat(f.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if !g.tried("create", err) {
		return
	}
	err = content(fd)
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err != nil {
		g.t.Fatalf("testtree: file %q: %v", name, err)
	}
	f.names = append(f.names, name)
	if !g.decorate(f.fd, name, g.mode(unix.S_IFREG), mayFreeze) {
		f.files = append(f.files, name)
	}
}

//go:build linux

package fusefs_test

import (
	"fmt"
	"os/exec"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

// goTree is as large as the tree of the Go distribution: 16,720 entries. Where
// f keeps attributes, there are none, which ls finds out for each.
func goTree(f feature.Flags) *fakeTree {
	tr := newFakeTree(f)
	for top := range 20 {
		up := tr.dir(tree.Root, fmt.Sprintf("%02d", top))
		for d := range 69 {
			dir := tr.dir(up, fmt.Sprintf("package%02d", d))
			for i := range 11 {
				tr.add(dir, fmt.Sprintf("source_file_%02d.go", i), catar.Entry{Mode: unix.S_IFREG | 0o644, Size: 4000})
			}
		}
	}
	return tr
}

// BenchmarkTreeWalk lets a program see a whole tree: by a new mount, or again.
func BenchmarkTreeWalk(b *testing.B) {
	for _, program := range [][]string{{"find"}, {"find", "-ls"}, {"ls", "-lR"}} {
		for name, opt := range map[string]struct {
			flags feature.Flags
			known bool
		}{"": {best, false}, ", known": {best, true}, ", no xattrs": {feature.Unix, false}} {
			tr := goTree(opt.flags)
			tr.known = opt.known
			walk := func(m *fusefs.Mount) {
				cmd := exec.Command(program[0], append([]string{m.Dir}, program[1:]...)...)
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
			}
			b.Run(fmt.Sprint(program, " cold", name), func(b *testing.B) {
				canMount(b)
				for b.Loop() {
					b.StopTimer()
					m, err := fusefs.MountTree(b.TempDir(), tr, parts(&pattern{size: tr.end}), fusefs.Options{})
					if err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					walk(m)
					b.StopTimer()
					if err := m.Unmount(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
			b.Run(fmt.Sprint(program, " warm", name), func(b *testing.B) {
				m := mountedTree(b, tr, fusefs.Options{})
				walk(m)
				for b.Loop() {
					walk(m)
				}
			})
		}
	}
}

// BenchmarkTreeStat asks for the attributes of each entry by its path.
func BenchmarkTreeStat(b *testing.B) {
	tr := goTree(best)
	stat := func(dir string) {
		var st unix.Stat_t
		for id := 2; id <= tr.Len(); id++ {
			e := tr.entries[id]
			if e.IsDir() {
				continue
			}
			up := tr.entries[e.parent]
			if err := unix.Lstat(dir+"/"+tr.entries[up.parent].name+"/"+up.name+"/"+e.name, &st); err != nil || st.Size != 4000 {
				b.Fatal(err, st)
			}
		}
	}
	b.Run("cold", func(b *testing.B) {
		canMount(b)
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			b.StopTimer()
			m, err := fusefs.MountTree(b.TempDir(), tr, parts(&pattern{size: tr.end}), fusefs.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			stat(m.Dir)
			b.StopTimer()
			n += tr.Len()
			if err := m.Unmount(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
	})
	b.Run("warm", func(b *testing.B) {
		m := mountedTree(b, tr, fusefs.Options{})
		stat(m.Dir)
		n := 0
		for b.Loop() {
			stat(m.Dir)
			n += tr.Len()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
	})
}

// BenchmarkTreeXAttr asks for what the kernel does not keep: from here, or
// known to be empty.
func BenchmarkTreeXAttr(b *testing.B) {
	tr := newFakeTree(best)
	tr.add(tree.Root, "file", catar.Entry{Mode: unix.S_IFREG | 0o644, XAttrs: []catar.XAttr{{Name: "user.n", Value: []byte("v")}}})
	tr.file(tree.Root, "plain", 1)
	m := mountedTree(b, tr, fusefs.Options{})
	buf := make([]byte, 100)
	b.Run("held", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if n, err := unix.Lgetxattr(m.Dir+"/file", "user.n", buf); n != 1 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := unix.Lgetxattr(m.Dir+"/plain", "user.n", buf); err != unix.ENODATA {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTreeRead reads a file that the kernel has in memory.
func BenchmarkTreeRead(b *testing.B) {
	tr := newFakeTree(best)
	tr.file(tree.Root, "large", benchSize)
	tr.file(tree.Root, "small", 4000)
	m := mountedParts(b, tr, parts(inMemory(make([]byte, tr.end))), fusefs.Options{})
	open := func(name string) int {
		fd, err := unix.Open(m.Dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		return fd
	}
	b.Run("warm", func(b *testing.B) {
		fd := open("large")
		defer unix.Close(fd)
		readAll(b, fd)
		b.SetBytes(benchSize)
		for b.Loop() {
			readAll(b, fd)
		}
	})
	b.Run("open, 4 KB, close, warm", func(b *testing.B) {
		buf := make([]byte, 4096)
		b.ReportAllocs()
		for b.Loop() {
			fd := open("small")
			if n, err := unix.Pread(fd, buf, 0); n != 4000 || err != nil {
				b.Fatal(n, err)
			}
			unix.Close(fd)
		}
	})
}

//go:build linux

package integration

import (
	"crypto/sha512"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/internal/testtree"
)

// packFolder packs a folder that is there, as an index.
func packFolder(t *testing.T, source string) packedTree {
	t.Helper()
	p := packedTree{dir: t.TempDir(), source: source}
	p.index = p.path("tree.caidx")
	p.digest = strings.TrimSpace(must(t, caravel, "make", "--no-sync", p.index, source))
	return p
}

// TestMountWhole compares trees that people have, and such as are large in one way,
// with what a mount shows of them: all bytes and all metadata.
func TestMountWhole(t *testing.T) {
	needFUSE(t)
	need(t, "casync")
	for _, tt := range []struct {
		name string
		tree func(t *testing.T) packedTree
		less func(t *testing.T, got, want string) // what is compared in a short run; nil: all
	}{
		{"the vectors", vectorTree, nil},
		{"the Go distribution", goDistribution, sameTar},
		{"100,000 files in one directory", func(t *testing.T) packedTree {
			return generatedTree(t, testtree.Options{Wide: 100_000, Nodes: 1})
		}, sameFound},
		{"the deepest path", func(t *testing.T) packedTree {
			return generatedTree(t, testtree.Options{Deep: catar.MaxDepth, Nodes: 10, MaxName: 60, Since1970: true})
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.tree(t)
			m, dir := mountedTree(t, p.index)
			if tt.less != nil {
				tt.less(t, dir, p.source)
			}
			if tt.less == nil || long() { // a dozen requests for each entry
				showsTree(t, dir, p)
			}
			counts(t, dir)
			m.ends(syscall.SIGTERM, soon)
			if text := m.stderr.String(); text != "" {
				t.Errorf("says %q", text)
			}
		})
	}
}

// TestMountAll packs a mount with every feature that there is, and finds no other archive
// than the source's: what FUSE does not show, this source has not.
func TestMountAll(t *testing.T) {
	needFUSE(t)
	need(t, "casync")
	for _, with := range []string{"all", "best"} {
		p := packTree(t, caravel, everything(t, 11), "--with="+with)
		m, dir := mountedTree(t, p.index)
		for _, program := range []string{"casync", caravel} {
			for _, tree := range []string{p.source, dir} {
				if got := strings.TrimSpace(must(t, program, "digest", "--with="+with, tree)); got != p.digest {
					t.Errorf("%s: digest of %s with %s is %s, want %s", filepath.Base(program), tree, with, got, p.digest)
				}
			}
		}
		m.ends(syscall.SIGTERM, soon)
	}
}

// sameFound compares what find prints of all entries.
func sameFound(t *testing.T, got, want string) {
	t.Helper()
	list := func(dir string) []string {
		all := must(t, "find", dir, "-printf", `%P %y %m %U %G %s %T@ %l\0`)
		return slices.Sorted(strings.SplitSeq(all, "\x00"))
	}
	a, b := list(got), list(want)
	for i := range min(len(a), len(b)) {
		// A directory's size is the file system's.
		if a[i] != b[i] && !strings.Contains(a[i], " d ") {
			t.Fatalf("entry %q, want %q", a[i], b[i])
		}
	}
	if len(a) != len(b) {
		t.Errorf("%d entries, want %d", len(a), len(b))
	}
}

// vectorTree is that of which casync has made the vectors: it digests it to the same.
func vectorTree(t *testing.T) packedTree {
	needRoot(t) // the tree has devices and owners
	const archive = "../catar/testdata/tree.default.catar"
	p := packedTree{dir: t.TempDir()}
	p.source, p.index = p.path("source"), p.path("tree.caidx")
	t.Cleanup(func() {
		if err := testtree.Thaw(p.source); err != nil {
			t.Error(err)
		}
	})
	sum := fmt.Sprintf("%x", sha512.Sum512_256(read(t, archive)))
	must(t, caravel, "extract", archive, p.source) // casync cannot: its temporary names would be too long
	if got := strings.TrimSpace(must(t, "casync", "digest", p.source)); got != sum {
		t.Skipf("this file system does not keep all of the vectors: digest %s, not %s", got, sum)
	}
	p.digest = strings.TrimSpace(must(t, caravel, "make", "--no-sync", p.index, p.source))
	if p.digest != sum {
		t.Errorf("packed again: %s, want %s", p.digest, sum)
	}
	return p
}

func goDistribution(t *testing.T) packedTree {
	root, err := filepath.EvalSymlinks(goroot(t))
	if err != nil {
		t.Fatal(err)
	}
	return packFolder(t, root)
}

func generatedTree(t *testing.T, opt testtree.Options) packedTree {
	source := t.TempDir()
	testtree.Generate(t, source, rand.New(rand.NewPCG(79, 1)), opt)
	return packFolder(t, source)
}

// counts finds that directories have 2 links and one of each directory in them, by
// which find knows when it has seen the last one: it finds the same without.
func counts(t *testing.T, dir string) {
	t.Helper()
	dirs := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs[path] += 0
			dirs[filepath.Dir(path)]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(dirs, filepath.Dir(dir))
	for path, n := range dirs {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Nlink != uint64(2+n) {
			t.Errorf("%s: %d links for %d directories, %v", path, st.Nlink, n, err)
		}
	}
	if trusting, wary := found(t, dir), found(t, dir, "-noleaf"); !slices.Equal(trusting, wary) {
		t.Errorf("find finds %d entries, and %d with -noleaf", len(trusting), len(wary))
	}
}

// found are the paths that find comes to, without those that it need not look at.
func found(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	names := strings.Split(must(t, "find", append([]string{dir}, append(args, "-type", "d", "-print0")...)...), "\x00")
	slices.Sort(names)
	return names
}

// TestMountDebian has a Debian system run from a mount: its programs say what they
// say where they were installed.
func TestMountDebian(t *testing.T) {
	if !long() {
		t.Skip("only in a long run")
	}
	needFUSE(t)
	needRoot(t)
	need(t, "casync", "debootstrap", "chroot")
	root := filepath.Join(t.TempDir(), "debian")
	if out, err := exec.Command("debootstrap", "--variant=minbase", "stable", root).CombinedOutput(); err != nil {
		t.Skipf("debootstrap: %v: %s", err, out[max(0, len(out)-300):])
	}
	p := packFolder(t, root)
	m, dir := mountedTree(t, "-o", "suid,dev", p.index)
	showsTree(t, dir, p)
	counts(t, dir)
	for _, command := range []string{
		"cat /etc/os-release",
		"dpkg -l",
		"dpkg --verify", // the digests of all files of all packages
		// Of directories the archive has no size, and of files no hard links.
		`find /usr /etc /var ! -type d -printf "%p %y %m %U %G %s %T@ %l\\n" | sort`,
		`find /usr /etc /var -type d -printf "%p %m %U %G %n %T@\\n" | sort`,
		"perl -MPOSIX -MSocket -e 'print join(qq(\\n), sort keys %INC)'",
		"find / -xdev -type f -perm /6000 -exec sha256sum {} + | sort",
		"ldd /usr/bin/* 2>&1 | sed 's/(0x.*//'",
		"for f in /usr/bin/*; do head -c 4 $f | cksum; done",
		"id nobody; getent passwd; locale -a",
		"echo to >/dev/null; head -c 10 /dev/zero | od",
	} {
		want, got := run(t, "chroot", root, "sh", "-c", command), run(t, "chroot", dir, "sh", "-c", command)
		if got != want || want.stdout == "" && want.stderr == "" && command != "dpkg --verify" {
			t.Errorf("%s: status %d and %d bytes %s; where it was installed %d and %d bytes %s", command,
				got.status, len(got.stdout), got.stderr, want.status, len(want.stdout), want.stderr)
		}
	}
	if r := run(t, "chroot", dir, "sh", "-c", "echo text >/etc/motd"); r.status == 0 || !strings.Contains(r.stderr, "Read-only") {
		t.Errorf("a file is written: status %d %s", r.status, r.stderr)
	}
	m.ends(syscall.SIGTERM, soon)
	if text := m.stderr.String(); text != "" {
		t.Errorf("says %q", text)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) == 0 {
		t.Errorf("%d entries in the source, %v", len(left), err)
	}
}

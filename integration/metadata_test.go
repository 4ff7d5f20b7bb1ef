//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/testtree"
)

// The tests of this file pack and restore trees on file systems that hold
// metadata of their own, beside casync: the archives are the same, byte for
// byte, and each extracts what the other made.

func TestMetadataOfExt4(t *testing.T) {
	p := metadataOn(t, "ext4", 256, [][]string{
		{"mkfs.ext4", "-q", "-F", "-O", "project,quota", "-I", "256"}, // quota projects are not in each kernel
		{"mkfs.ext4", "-q", "-F", "-I", "256"},
	})
	p.quotaProjects()
	p.compare()
}

func TestMetadataOfXFS(t *testing.T) {
	p := metadataOn(t, "xfs", 400, [][]string{{"mkfs.xfs", "-q", "-f"}})
	p.quotaProjects()
	p.compare()
}

func TestMetadataOfBtrfs(t *testing.T) {
	p := metadataOn(t, "btrfs", 400, [][]string{{"mkfs.btrfs", "-q", "-f"}})
	src := func(name string) string { return filepath.Join(p.src, name) }
	for _, name := range []string{"subvolume", "read-only"} {
		must(t, "btrfs", "subvolume", "create", src(name))
	}
	must(t, "btrfs", "subvolume", "create", src("subvolume/inner"))
	p.write("subvolume/inner/file", 0o600)
	must(t, "btrfs", "property", "set", src("read-only"), "ro", "true")
	for _, folder := range []struct{ name, flag string }{
		{"compressed", "+c"}, {"uncompressed", "+m"}, {"nocow", "+C"},
	} {
		if err := os.Mkdir(src(folder.name), 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, "chattr", folder.flag, src(folder.name))
		p.write(folder.name+"/file", 0o644) // inherits it
	}
	p.compare()

	// What would inherit one flag and has another that forbids it, the kernel
	// wants done in two steps, which casync does not do.
	for _, name := range []string{"nocow/compressed", "compressed/nocow", "uncompressed/compressed"} {
		if err := os.Mkdir(src(name), 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, "chattr", "-cmC", src(name))
		must(t, "chattr", map[string]string{"compressed": "+c", "nocow": "+C"}[filepath.Base(name)], src(name))
		p.write(name+"/file", 0o644)
	}
	if _, ok := p.made(); ok {
		p.restored(flagsOf(t, nil), p.ours, p.store("casync"), p.path("casync", "caidx"))
	}
}

// TestMetadataOfVFAT is about the three attributes of FAT, what it has of
// permissions, and its times.
func TestMetadataOfVFAT(t *testing.T) {
	p := metadataOn(t, "vfat", 64, [][]string{{"mkfs.vfat"}})
	const readOnly, hidden, system, archive = 1, 2, 4, 0x20
	for i, attributes := range []int{0, hidden, system, archive, hidden | system, hidden | system | archive} {
		name := fmt.Sprintf("File with a long name %d", i)
		p.write(name, 0o644)
		fat(t, filepath.Join(p.src, name), attributes)
		dir := filepath.Join(p.src, fmt.Sprintf("folder %d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		fat(t, dir, 0x10|attributes&^archive)
		when := time.Date(2001, 2, 3, 4, 5, 6+2*i, 0, time.UTC)
		if err := os.Chtimes(dir, when, when); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--with=fat", "--exclude-file=no"}
	if _, ok := p.made(args...); !ok {
		return
	}
	p.same(append([]string{"mtree", p.src}, args...)...)
	p.same("mtree", "catar")
	f := flagsOf(t, args)
	p.restored(f, p.casync, p.store("ours"), p.path("ours", "caidx"))
	p.restored(f, p.ours, p.store("casync"), p.path("casync", "catar"))

	// casync does not find the bits that FAT takes for a read-only file.
	p.write("read only", 0o644)
	fat(t, filepath.Join(p.src, "read only"), readOnly|archive)
	if _, ok := p.made(args...); ok {
		p.restored(f, p.ours, p.store("casync"), p.path("casync", "caidx"))
	}
}

// fat sets the attributes of FAT.
func fat(t *testing.T, path string, attributes int) {
	t.Helper()
	const set = 0x40047211 // FAT_IOCTL_SET_ATTRIBUTES
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), set, attributes); err != nil {
		t.Fatal(path, err)
	}
}

// A metadataPair is a treePair that lies on a file system of its own.
type metadataPair struct{ *treePair }

// metadataOn makes a file system, mounts it, and generates a tree there. The
// first way to make it counts that the kernel mounts.
func metadataOn(t *testing.T, kind string, mib int64, mkfs [][]string) metadataPair {
	t.Helper()
	needRoot(t)
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	need(t, "casync", mkfs[0][0], "mount", "chattr")
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	var mounted result
	for _, args := range mkfs {
		if err := os.WriteFile(img, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(img, mib<<20); err != nil {
			t.Fatal(err)
		}
		must(t, args[0], slices.Concat(args[1:], []string{img})...)
		if mounted = run(t, "mount", "-t", kind, "-o", "loop", img, mnt); mounted.status == 0 {
			break
		}
	}
	if mounted.status != 0 {
		why, _, _ := strings.Cut(strings.TrimSpace(mounted.stderr), "\n")
		t.Skipf("%s cannot be mounted here: %s", kind, why)
	}
	t.Cleanup(func() {
		if r := run(t, "umount", mnt); r.status != 0 {
			t.Errorf("umount: %s", r.stderr)
		}
	})
	p := metadataPair{&treePair{t: t, name: kind, dir: mnt, src: filepath.Join(mnt, "src")}}
	if err := os.Mkdir(p.src, 0o755); err != nil {
		t.Fatal(err)
	}
	if kind != "vfat" {
		testtree.Generate(t, p.src, rand.New(rand.NewPCG(48, 1)), testtree.Options{
			Root: true, ACLs: true, XAttrs: true, Nodes: 60, MaxName: 237, Since1970: true,
			Chattr: kind != "btrfs", // some of its flags exclude others
		})
	}
	return p
}

// write makes a file with some content and a time.
func (p metadataPair) write(name string, mode os.FileMode) {
	p.t.Helper()
	path := filepath.Join(p.src, name)
	if err := os.WriteFile(path, []byte(strings.Repeat(name, 100)), mode); err != nil {
		p.t.Fatal(err)
	}
	when := time.Date(2005, 6, 7, 8, 9, 10+2*len(name)%50, 0, time.UTC)
	if err := os.Chtimes(path, when, when); err != nil {
		p.t.Fatal(err)
	}
}

// quotaProjects puts nodes into quota projects, where the kernel knows them.
func (p metadataPair) quotaProjects() {
	p.t.Helper()
	dir := filepath.Join(p.src, "project")
	if err := os.Mkdir(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.write("in a project", 0o600)
	if r := run(p.t, "chattr", "-p", "4294967294", filepath.Join(p.src, "in a project")); r.status != 0 {
		p.t.Logf("without quota projects: %s", r.stderr)
		return
	}
	must(p.t, "chattr", "+P", "-p", "4711", dir)
	p.write("project/file", 0o644) // inherits it
}

// compare packs, lists and restores the tree.
func (p metadataPair) compare() {
	p.t.Helper()
	// First without those that chattr says are not to be dumped, then with.
	for _, args := range [][]string{nil, {"--exclude-nodump=no"}} {
		digest, ok := p.made(args...)
		if !ok {
			return
		}
		if got := p.same(append([]string{"digest", p.src}, args...)...); got != digest {
			p.errorf("digest: %q, make said %q", got, digest)
		}
		p.same("mtree", "caidx")
		f := flagsOf(p.t, args)
		p.restored(f, p.casync, p.store("ours"), p.path("ours", "caidx"))
		p.restored(f, p.ours, p.store("casync"), p.path("casync", "catar"))
	}
}

// TestMetadataInVM runs the tests of this file, and those of the room that reads
// and sets metadata, which want a kernel that has everything: FAT, and quota
// projects on ext4. The others it runs in a long run only: an emulated machine
// takes ten times as long.
func TestMetadataInVM(t *testing.T) {
	t.Parallel() // it waits for the machine most of the time
	need(t, "casync", "mkfs.vfat")
	// The kernel loads what mount asks for, but not what the device of a file is.
	kinds := []string{"Ext4", "VFAT"}
	if long() {
		kinds = append(kinds, "XFS", "Btrfs")
	}
	passed := []string{"TestFAT", "TestSameAsCasync/ext4/project", "TestLeavesNoMore/ext4/project", "TestElsewhere/vfat"}
	for _, kind := range kinds {
		passed = append(passed, "TestMetadataOf"+kind)
	}
	script := fmt.Sprintf(`modprobe loop && "$0" -test.v -test.run '^TestMetadataOf(%s)$' && `+
		`"$1" -test.v -test.run 'TestFAT|TestRoundTrip/ext4|TestSameAsCasync/ext4|TestLeavesNoMore/ext4' && `+
		`"$2" -test.v -test.run 'TestElsewhere/vfat'`, strings.Join(kinds, "|"))
	inVM(t, []string{"catar/inode", "catar/restore"}, script, passed...)
}

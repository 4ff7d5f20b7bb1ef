package testtree_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"caravel/catar/exclude"
	"caravel/feature"
	"caravel/internal/testtree"
)

var full = testtree.Options{
	Root: os.Geteuid() == 0, ACLs: true, XAttrs: true, Chattr: true, Exclude: true, Nodes: 60,
}

func generate(t *testing.T, seed uint64, opt testtree.Options) string {
	dir := t.TempDir()
	testtree.Generate(t, dir, rand.New(rand.NewPCG(1, seed)), opt)
	return dir
}

// The same seed gives the same tree, with all that the file system has.
func TestGenerateRepeats(t *testing.T) {
	for seed := range uint64(20) {
		diff, err := testtree.Diff(generate(t, seed, full), generate(t, seed, full), feature.All)
		if err != nil || diff != nil {
			t.Errorf("seed %d: %q, error %v", seed, diff, err)
		}
	}
	diff, err := testtree.Diff(generate(t, 1, full), generate(t, 2, full), feature.All)
	if err != nil || len(diff) < 5 {
		t.Errorf("another seed: %q, error %v", diff, err)
	}
}

// Nothing that a tree may hold is left out by mistake. As root, on the file
// systems that people use, that is all there is.
func TestGenerateHasEverything(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(60) {
		look(t, generate(t, seed, full), seen)
	}
	want := []string{
		"d", "-", "L", "p", "S", "empty file", "sparse file", "hard link", "name of 255 bytes", "name over 237 bytes",
		"name that is no UTF-8", "newline", "blank", "backslash", "hash", "leading dash", "leading dot",
		"before 1970", "nanoseconds", "absolute link", "dangling link", "link that is no UTF-8", "long link",
		"rules",
	}
	if strconv.IntSize == 64 {
		want = append(want, "far future")
	}
	if full.Root {
		want = append(want, "Dc", "D", "owner", "owner above 65535", "set-id", "sticky", "mode 0")
		want = append(want, rights(t)...)
	}
	for _, kind := range want {
		if seen[kind] == 0 {
			t.Errorf("no %s in any tree; seen: %v", kind, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// rights is what is seen on file systems that have it.
func rights(t *testing.T) []string {
	path := filepath.Join(t.TempDir(), "probe")
	try(t, os.WriteFile(path, nil, 0o644))
	acl := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x04\x00\x04\x00\xff\xff\xff\xff" +
		"\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")
	var kinds []string
	for _, p := range []struct {
		name  string
		value []byte
		kinds []string
	}{
		{"user.a", nil, []string{"user xattr", "empty xattr", "xattr with NULs", "xattr name of 255 bytes", "large xattr"}},
		{"trusted.a", nil, []string{"trusted xattr"}},
		{"security.selinux", []byte("a"), []string{"label", "label of a link"}},
		{"system.posix_acl_access", acl, []string{"ACL", "default ACL", "mask only", "unsorted ACL"}},
		{"security.capability", append([]byte{1, 0, 0, 2}, make([]byte, 16)...), []string{"capability 2", "capability 3"}},
	} {
		if unix.Lsetxattr(path, p.name, p.value, 0) == nil {
			kinds = append(kinds, p.kinds...)
		}
	}
	f, err := os.Open(filepath.Dir(path))
	try(t, err)
	defer f.Close()
	for _, flag := range []int{0x8, 0x10, 0x20, 0x40, 0x80, 0x10000} {
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil && unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|flag) == nil {
			kinds = append(kinds, fmt.Sprintf("chattr %x", flag))
			try(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
		}
	}
	return kinds
}

// look counts what is in a tree.
func look(t *testing.T, root string, seen map[string]int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		kinds := lookName(d.Name())
		kinds[info.Mode().Type().String()[:1]] = true
		kinds["Dc"] = info.Mode()&fs.ModeCharDevice != 0
		kinds["empty file"] = info.Mode().IsRegular() && st.Size == 0
		kinds["sparse file"] = info.Mode().IsRegular() && st.Blocks*512 < st.Size
		kinds["hard link"] = info.Mode().IsRegular() && st.Nlink > 1
		kinds["before 1970"] = st.Mtim.Sec < 0
		kinds["far future"] = int64(st.Mtim.Sec) > 1<<32
		kinds["nanoseconds"] = st.Mtim.Nsec%1000 != 0
		kinds["owner"] = st.Uid > 0
		kinds["owner above 65535"] = st.Uid > 65535 || st.Gid > 65535
		kinds["set-id"] = st.Mode&0o6000 != 0
		kinds["sticky"] = st.Mode&0o1000 != 0
		kinds["mode 0"] = st.Mode&0o7777 == 0
		lookAttributes(path, st.Mode, kinds)
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			_, err = os.Stat(path)
			kinds["absolute link"] = target[0] == '/'
			kinds["dangling link"] = err != nil
			kinds["link that is no UTF-8"] = !utf8.ValidString(target)
			kinds["long link"] = len(target) > 900
		}
		for k, is := range kinds {
			if is {
				seen[k]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func lookName(name string) map[string]bool {
	return map[string]bool{
		"name of 255 bytes": len(name) == 255, "name over 237 bytes": len(name) > 237,
		"name that is no UTF-8": !utf8.ValidString(name), "newline": strings.Contains(name, "\n"),
		"blank": strings.Contains(name, " "), "backslash": strings.Contains(name, "\\"),
		"hash": strings.HasPrefix(name, "#"), "leading dash": strings.HasPrefix(name, "-"),
		"leading dot": strings.HasPrefix(name, "."), "rules": name == exclude.Name,
	}
}

func lookAttributes(path string, mode uint32, kinds map[string]bool) {
	list := make([]byte, 1<<16)
	n, _ := unix.Llistxattr(path, list)
	for _, name := range strings.Split(string(list[:max(n, 0)]), "\x00") {
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if name == "" || err != nil {
			continue
		}
		value = value[:n]
		switch space, _, _ := strings.Cut(name, "."); {
		case space == "user" || space == "trusted":
			kinds[space+" xattr"] = true
			kinds["empty xattr"] = kinds["empty xattr"] || n == 0
			kinds["large xattr"] = kinds["large xattr"] || n >= 700
			kinds["xattr with NULs"] = kinds["xattr with NULs"] || bytes.Contains(value, []byte{0})
			kinds["xattr name of 255 bytes"] = kinds["xattr name of 255 bytes"] || len(name) == 255
		case name == "security.selinux":
			kinds["label"] = true
			kinds["label of a link"] = mode&unix.S_IFMT == unix.S_IFLNK
		case name == "security.capability":
			kinds[fmt.Sprintf("capability %d", value[3])] = true
		case name == "system.posix_acl_default":
			kinds["default ACL"] = true
		case name == "system.posix_acl_access":
			kinds["ACL"] = true
			kinds["mask only"] = n == 4+4*8
			users := 0
			for e := 4 + 8; value[e] == 2; e += 8 {
				users++
				id := binary.LittleEndian.Uint32(value[e+4:])
				kinds["unsorted ACL"] = kinds["unsorted ACL"] || users > 1 && id < binary.LittleEndian.Uint32(value[e-4:])
			}
		}
	}
	if kind := mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	flags, _ := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	for bit := range 32 {
		kinds[fmt.Sprintf("chattr %x", 1<<bit)] = flags&(1<<bit) != 0
	}
}

func TestGenerateOptions(t *testing.T) {
	opt := full
	opt.MaxName, opt.ShortIDs, opt.Since1970 = 237, true, true
	seen := map[string]int{}
	for seed := range uint64(20) {
		look(t, generate(t, seed, opt), seen)
	}
	for _, kind := range []string{"name over 237 bytes", "owner above 65535", "before 1970"} {
		if seen[kind] > 0 {
			t.Errorf("%d of %s", seen[kind], kind)
		}
	}
	opt.Named = true
	for seed := range uint64(10) {
		dir := generate(t, seed, opt)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil || opt.Root && (st.Uid == 0 || st.Gid == 0) {
				t.Errorf("%q: owner %d:%d, error %v", path, st.Uid, st.Gid, err)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	seen = map[string]int{}
	look(t, generate(t, 1, testtree.Options{Wide: 3000, Deep: 64, Nodes: 5}), seen)
	if seen["-"] < 2700 || seen["d"] < 63 || seen["user xattr"]+seen["ACL"]+seen["owner"] > 0 && os.Geteuid() == 0 {
		t.Errorf("seen: %v", seen)
	}
}

func TestRulesAreValid(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		rules := testtree.Rules(rng, []string{"a", "a b/c", "[x", "#", "...", "new\nline ", "\xff/\\", ".hidden/.x/y"})
		if _, err := exclude.Read(bytes.NewReader(rules)); err != nil {
			t.Fatalf("%q: %v", rules, err)
		}
	}
}

// What is frozen goes away with the test's directory.
func TestThaw(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/b/file", "")
	for _, name := range []string{"a/b/file", "a/b", "a"} {
		f, err := os.Open(filepath.Join(dir, name))
		try(t, err)
		defer f.Close()
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		try(t, err)
		try(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|0x10))
	}
	if err := os.RemoveAll(filepath.Join(dir, "a")); err == nil {
		t.Error("immutable files go away")
	}
	if err := testtree.Thaw(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Error(err)
	}
}

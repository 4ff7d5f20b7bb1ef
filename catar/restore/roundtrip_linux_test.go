package restore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/restore"
	"caravel/feature"
	"caravel/internal/testtree"
)

// trees has every tree that random makes come back, from an archive with all
// features and restored with the others.
func trees(t *testing.T, dir string, opt testtree.Options, masks ...feature.Flags) {
	t.Helper()
	for seed := range uint64(2) {
		src := filepath.Join(dir, fmt.Sprint("src", seed))
		if err := os.Mkdir(src, 0o755); err != nil {
			t.Fatal(err)
		}
		testtree.Generate(t, src, rand.New(rand.NewPCG(7, seed)), opt)
		packed := pack(t, src, full)
		for i, mask := range masks {
			dst := filepath.Join(dir, fmt.Sprint("dst", seed, "-", i))
			stats := mustExtract(t, packed, dst, restore.Options{Mask: mask})
			if stats.Entries == 0 || stats.Deleted != 0 {
				t.Errorf("%+v", stats)
			}
			alike(t, src, dst, full.Masked(mask))
			if mask == feature.All && string(pack(t, dst, full)) != string(packed) {
				t.Errorf("seed %d: packed again it is another archive", seed)
			}
			if found := parts(t, dst); found != nil {
				t.Errorf("left behind: %q", found)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	needRoot(t)
	trees(t, tempDir(t), testtree.Options{Root: true, ACLs: true, XAttrs: true, Chattr: true, Wide: 300, Deep: 64},
		feature.All, feature.Unix, feature.Best&^feature.Privileged, feature.ACL|feature.UIDs|feature.Symlinks,
		feature.MicroTime|feature.UserNames|feature.FCaps|feature.XAttrs)
}

func TestRoundTripOfUser(t *testing.T) {
	if unprivileged(t) {
		trees(t, tempDir(t), testtree.Options{XAttrs: true, Chattr: true, ACLs: true},
			feature.All, feature.All&^feature.Privileged, feature.Unix)
	}
}

func TestRoundTripBtrfs(t *testing.T) {
	at := mounted(t, "btrfs", 256<<20, "mkfs.btrfs", "-q")
	trees(t, at, testtree.Options{Root: true, ACLs: true, XAttrs: true, Chattr: true}, feature.All)

	src := filepath.Join(at, "volumes")
	for _, args := range [][]string{{"create", src}, {"create", src + "/rw"}, {"create", src + "/ro"}, {"create", src + "/rw/in"}} {
		if out, err := exec.Command("btrfs", append([]string{"subvolume"}, args...)...).CombinedOutput(); err != nil {
			t.Skipf("btrfs subvolume: %v: %s", err, out)
		}
	}
	for _, name := range []string{"rw/file", "rw/in/file", "ro/file"} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("btrfs", "property", "set", src+"/ro", "ro", "true").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dst := filepath.Join(at, "again")
	packed := pack(t, src, full)
	if err := os.Mkdir(dst, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{dst, tempDir(t) + "/elsewhere"} {
		_, err := extract(t, packed, dst, restore.Options{})
		wants(t, err, "subvolume", "--without=")
	}
	dst = filepath.Join(at, "made")
	mustExtract(t, packed, dst, restore.Options{})
	alike(t, src, dst, full)
	for name, ro := range map[string]bool{".": false, "rw": false, "rw/in": false, "ro": true} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dst, name), &st); err != nil || st.Ino != 256 {
			t.Errorf("%s: not a subvolume (%v)", name, err)
		}
		err := os.WriteFile(filepath.Join(dst, name, "new"), nil, 0o644)
		if (err != nil) != ro {
			t.Errorf("%s: written to: %v", name, err)
		}
	}
}

// TestElsewhere restores to file systems that do not have the half of it.
func TestElsewhere(t *testing.T) {
	t.Run("vfat", func(t *testing.T) {
		at := mounted(t, "vfat", 64<<20, "mkfs.vfat")
		dst := filepath.Join(at, "dst")
		packed := archive(t, feature.FAT, folder("A", node{name: "F.TXT", body: "text", more: func(e *catar.Entry) { e.Flags = feature.Hidden }}),
			node{name: strings.Repeat("n", 255), body: strings.Repeat("long", 1<<20)})
		mustExtract(t, packed, dst, restore.Options{})
		holds(t, dst+"/A/F.TXT", "text")
		holds(t, dst+"/"+strings.Repeat("n", 255), strings.Repeat("long", 1<<20))
		if again := pack(t, dst, feature.FAT); string(again) != string(packed) {
			t.Error("packed again it is another archive")
		}
		mustExtract(t, packed, dst, restore.Options{Delete: restore.DeleteExtra})

		_, err := extract(t, archive(t, feature.FAT, node{name: "a", body: "1"}, node{name: "A", body: "2"}), filepath.Join(at, "case"), restore.Options{})
		wants(t, err, "upper from lower case")
		if !strings.Contains(err.Error(), `"a"`) && !strings.Contains(err.Error(), `"A"`) { // whichever came second
			t.Errorf("%v: which one?", err)
		}
		_, err = extract(t, archive(t, full, link("l", "x")), filepath.Join(at, "link"), restore.Options{Mask: feature.Symlinks})
		wants(t, err, `"l"`, "--without=symlinks")
		if found := parts(t, at); found != nil {
			t.Errorf("left behind: %q", found)
		}
	})
	t.Run("xfs", func(t *testing.T) {
		trees(t, mounted(t, "xfs", 400<<20, "mkfs.xfs", "-q"), testtree.Options{Root: true, ACLs: true, XAttrs: true}, feature.All)
	})
	t.Run("tmpfs", func(t *testing.T) {
		trees(t, mounted(t, "tmpfs", 64<<20), testtree.Options{Root: true, ACLs: true}, feature.All)
	})
}

// TestMask leaves out what the mask has not.
func TestMask(t *testing.T) {
	needRoot(t)
	packed := archive(t, full,
		link("link", "to"), node{name: "file", mode: unix.S_IFREG | 0o4751, uid: 1234, body: "x"},
		node{name: "fifo", mode: unix.S_IFIFO | 0o600}, node{name: "socket", mode: unix.S_IFSOCK | 0o600},
		node{name: "null", mode: unix.S_IFCHR | 0o666, dev: unix.Mkdev(1, 3)}, folder("dir", node{name: "in"}))
	for _, tt := range []struct {
		mask feature.Flags
		want string
	}{
		{feature.All, "dir dir/in fifo file link null socket"},
		{feature.All &^ feature.Symlinks, "dir dir/in fifo file null socket"},
		{feature.All &^ (feature.FIFOs | feature.DeviceNodes), "dir dir/in file link socket"},
		{feature.Permissions, "dir dir/in file"},
		{feature.NanoTime, "dir dir/in file"},
	} {
		dst := tempDir(t)
		stats := mustExtract(t, packed, dst, restore.Options{Mask: tt.mask})
		var got []string
		for name := range names(pack(t, dst, full)) {
			got = append(got, name)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%v: %q", tt.mask, got)
		}
		if stats.Entries != int64(1+len(got)) {
			t.Errorf("%v: %d entries", tt.mask, stats.Entries)
		}
		var st unix.Stat_t
		if err := unix.Stat(dst+"/file", &st); err != nil {
			t.Fatal(err)
		}
		mask := unix.Umask(0)
		unix.Umask(mask)
		mode := 0o666 &^ uint32(mask)
		switch {
		case tt.mask&feature.UIDs != 0:
			mode = 0o4751
		case tt.mask&feature.Permissions != 0:
			mode = 0o751 // the owner is another one
		}
		if st.Mode&0o7777 != mode {
			t.Errorf("%v: mode %o, want %o", tt.mask, st.Mode, mode)
		}
	}
}

// TestRefused stops at what an ordinary user may not do, names it and the way
// out, and leaves nothing of it.
func TestRefused(t *testing.T) {
	if !unprivileged(t) {
		return
	}
	me := uint32(os.Getuid())
	const unixLike = plain | feature.UID32 | feature.DeviceNodes
	for _, tt := range []struct {
		name  string
		flags feature.Flags
		node  node
		wants []string
	}{
		{"owner", unixLike, node{uid: 1}, []string{"owner 1:1"}},
		{"owner of a link", unixLike, node{mode: unix.S_IFLNK | 0o777, body: "to", uid: 1}, []string{"owner 1:1"}},
		{"set-group-id", unixLike, node{mode: unix.S_IFREG | 0o2755, uid: 0}, []string{"owner 0:0"}},
		{"device", unixLike, node{mode: unix.S_IFBLK | 0o600, dev: unix.Mkdev(8, 1), uid: me}, []string{"device 8:1"}},
		{"capabilities", unixLike | feature.FCaps, node{uid: me, more: func(e *catar.Entry) {
			e.FCaps = []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		}}, []string{"capabilities"}},
		{"immutable", unixLike | feature.Immutable, node{uid: me, more: func(e *catar.Entry) { e.Flags = feature.Immutable }},
			[]string{"immutable"}},
		{"trusted", unixLike | feature.XAttrs, node{uid: me, more: func(e *catar.Entry) {
			e.XAttrs = []catar.XAttr{{Name: "trusted.x", Value: []byte("v")}}
		}}, []string{"trusted.x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dst := tempDir(t)
			tt.node.name = "node"
			in := folder("dir", tt.node)
			in.uid = me
			_, err := extract(t, archive(t, tt.flags, in), dst, restore.Options{Delete: restore.KeepExtra})
			wants(t, err, append(tt.wants, `restore: "dir/node": `, "--without=")...)
			t.Log(err)
			if _, err := os.Lstat(dst + "/dir/node"); err == nil {
				t.Error("it is there")
			}
			if found := parts(t, dst); found != nil {
				t.Errorf("left behind: %q", found)
			}
		})
	}
}

// TestSetIDNoticed: the kernel takes the bit from a group that one is not in.
func TestSetIDNoticed(t *testing.T) {
	needRoot(t)
	packed := archive(t, plain|feature.UID32, node{name: "f", mode: unix.S_IFREG | 0o6755, uid: 1234})
	dst := tempDir(t)
	mustExtract(t, packed, dst, restore.Options{})
	var st unix.Stat_t
	if err := unix.Stat(dst+"/f", &st); err != nil || st.Mode&0o7777 != 0o6755 || st.Uid != 1234 {
		t.Errorf("mode %o of %d, %v", st.Mode, st.Uid, err)
	}
}

// TestSparse makes holes of zeros, and none if it is told so.
func TestSparse(t *testing.T) {
	const block = 4 << 10
	zeros, ones := strings.Repeat("\x00", block), strings.Repeat("1", block)
	for name, body := range map[string]string{
		"nothing": "", "a zero": "\x00", "zeros": strings.Repeat(zeros, 100), "odd end": strings.Repeat(zeros, 3) + "\x00",
		"hole at both ends": zeros + ones + zeros + "\x00\x00", "hole inside": ones + zeros + zeros + ones + "x",
		"not aligned": "1" + zeros[1:] + ones + "1" + zeros, "long": strings.Repeat(zeros, 400) + ones + strings.Repeat(zeros, 200) + ones + zeros,
		"long, no hole": strings.Repeat(ones, 700),
	} {
		var want int64 // blocks with something in them
		for off := 0; off < len(body); off += block {
			if strings.Trim(body[off:min(off+block, len(body))], "\x00") != "" {
				want++
			}
		}
		for _, fill := range []bool{false, true} {
			dst := tempDir(t)
			mustExtract(t, archive(t, plain, node{name: "f", body: body}), dst, restore.Options{Fill: fill})
			holds(t, dst+"/f", body)
			var st unix.Stat_t
			if err := unix.Stat(dst+"/f", &st); err != nil {
				t.Fatal(err)
			}
			got := st.Blocks * 512
			full := int64(len(body)+block-1) / block * block
			if fill && got < full || !fill && got > want*block+2*block {
				t.Errorf("%s, fill %v: %d bytes on disk for %d blocks", name, fill, got, want)
			}
		}
	}
}

// one decodes a single node of an archive.
func one(t testing.TB, packed []byte, path string) *catar.Decoder {
	t.Helper()
	d := catar.NewDecoder(strings.NewReader(string(packed)), catar.DecoderOptions{})
	var at []string
	for {
		n, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		if n.Depth > 0 {
			at = append(at[:n.Depth-1], n.Name)
		}
		if strings.Join(at, "/") != path {
			continue
		}
		found := *n
		next, err := d.Next()
		for ; err == nil && next.Depth > found.Depth; next, err = d.Next() {
		}
		if err != nil || next.Depth != found.Depth {
			t.Fatalf("nothing stands behind %s: %v", path, err)
		}
		return catar.NewDecoder(strings.NewReader(string(packed[found.Head:next.Start])), catar.DecoderOptions{Node: &found, Flags: d.Flags()})
	}
}

func TestNode(t *testing.T) {
	packed := archive(t, plain,
		folder("a", folder("b", node{name: "deep", body: "deep down"}, folder("e")), node{name: "rand", body: "bytes"}, link("to", "rand"),
			node{name: "z"}), node{name: "z"})
	for _, tt := range []struct{ path, file, body string }{
		{"a", "b/deep", "deep down"}, {"a/b", "deep", "deep down"}, {"a/rand", "", "bytes"}, {"a/b/deep", "", "deep down"},
	} {
		out := filepath.Join(tempDir(t), "out")
		for range 2 { // the second time all is there
			_, err := restore.Node(t.Context(), one(t, packed, tt.path), out, filepath.Base(tt.path),
				restore.Options{Delete: restore.KeepExtra})
			if err != nil {
				t.Fatalf("%s: %v", tt.path, err)
			}
			holds(t, filepath.Join(out, filepath.Base(tt.path), tt.file), tt.body)
		}
		list, err := os.ReadDir(out)
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %v, %v", tt.path, list, err)
		}
	}
	out := tempDir(t)
	if err := os.WriteFile(out+"/neighbour", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := restore.Node(t.Context(), one(t, packed, "a/to"), out, "to", restore.Options{Delete: restore.DeleteExtra}); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(out + "/to"); target != "rand" {
		t.Errorf("link to %q, %v", target, err)
	}
	after, err := os.Stat(out)
	if err != nil || after.Mode() != before.Mode() {
		t.Errorf("the directory around it: %v, %v", after.Mode(), err)
	}
	if _, err := os.Stat(out + "/neighbour"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", ".", "..", "a/b", "/", "a\x00", strings.Repeat("x", 256)} {
		_, err := restore.Node(t.Context(), one(t, packed, "a/to"), out, bad, restore.Options{})
		wants(t, err, "not a name")
	}
}

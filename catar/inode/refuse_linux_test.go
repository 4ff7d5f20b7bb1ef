package inode_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// TestRefused sets entries that say more than the node can have.
func TestRefused(t *testing.T) {
	needRoot(t)
	dir := image(t, "tmpfs", 0, nil)
	tests := []struct {
		name string
		set  func(e *catar.Entry)
		what string // in the error
		want feature.Flags
	}{
		{"flags", func(e *catar.Entry) { e.Flags = feature.NoCOW }, "flag-nocow: ", feature.NoCOW},
		{"FAT", func(e *catar.Entry) { e.Flags = feature.Hidden }, "--without=flag-hidden", feature.Hidden},
		{"project", func(e *catar.Entry) { e.ProjID = 9 }, "quota project 9: ", feature.QuotaProjID},
		{"owner", func(e *catar.Entry) { e.UID = 1<<32 - 1 }, "owner", feature.UIDs | feature.UserNames},
		{"xattr", func(e *catar.Entry) { e.XAttrs = []catar.XAttr{{Name: "user.x", Value: make([]byte, 1<<17)}} },
			`extended attribute "user.x": argument list too long; leave it out with --without=xattrs`, feature.XAttrs},
		{"capabilities", func(e *catar.Entry) { e.FCaps = []byte("nonsense") },
			"capabilities: invalid argument; leave it out with --without=fcaps", feature.FCaps},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.name)
			file(t, path)
			e := &catar.Entry{Mode: unix.S_IFREG | 0o604, UID: 3, GID: 4, MTime: 1234567890123456789}
			tt.set(e)
			err := set(t, path, e, all)
			var refused *inode.RefusedError
			if !errors.As(err, &refused) || refused.Feature != tt.want || !strings.Contains(err.Error(), tt.what) {
				t.Errorf("got %v, want %q in it", err, tt.what)
			}
			// All else is set.
			got := read(t, path, all)
			if got.Mode != e.Mode || got.MTime != e.MTime || got.GID != e.GID && tt.name != "owner" {
				t.Errorf("got %+v, want %+v", got, e)
			}
		})
	}
	t.Run("subvolume", func(t *testing.T) {
		path := filepath.Join(dir, "folder")
		folder(t, path)
		err := set(t, path, &catar.Entry{Mode: unix.S_IFDIR | 0o700, Flags: feature.Subvolume}, all)
		if err == nil || !strings.Contains(err.Error(), "subvolume") || !strings.Contains(err.Error(), "--without=subvolume") {
			t.Errorf("got %v", err)
		}
		dirfd, _ := open(t, dir)
		if err := inode.MakeSubvolume(dirfd, "x"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("MakeSubvolume: %v", err)
		}
	})
	t.Run("type", func(t *testing.T) {
		path := filepath.Join(dir, "type")
		folder(t, path)
		if err := set(t, path, &catar.Entry{Mode: unix.S_IFREG | 0o700}, all); err == nil {
			t.Error("a file's entry was set to a folder")
		}
	})
}

// TestCoarseTime sets times that ext4 with small inodes cannot keep.
func TestCoarseTime(t *testing.T) {
	dir := image(t, "ext4", 32, [][]string{{"mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "128", "-O", "^metadata_csum"}})
	path := filepath.Join(dir, "x")
	file(t, path)
	e := &catar.Entry{Mode: unix.S_IFREG | 0o644, MTime: 1234567891_123456789}
	err := set(t, path, e, feature.NanoTime)
	var refused *inode.RefusedError
	if !errors.As(err, &refused) || refused.Feature != feature.NanoTime|feature.MicroTime {
		t.Errorf("nanoseconds: %v", err)
	}
	e.MTime = 1234567893_123456789
	must(t, set(t, path, e, feature.SecTime))
	if got := read(t, path, feature.SecTime); got.MTime != 1234567893_000000000 {
		t.Errorf("kept %d", got.MTime)
	}
	e.MTime = 5e18 // the year 2128; 32 bits end in 2038
	if err := set(t, path, e, feature.SecTime); !errors.As(err, &refused) || refused.Feature&feature.TwoSecTime == 0 {
		t.Errorf("2128: %v", err)
	}
}

// asNobody calls f as a user without rights.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	needRoot(t)
	done := make(chan error)
	go func() {
		// Only this thread becomes somebody else, and it ends with the goroutine.
		runtime.LockOSThread()
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, e := unix.RawSyscall(call, 65534, 65534, 65534); e != 0 {
				done <- e
				return
			}
		}
		f()
		done <- nil
	}()
	must(t, <-done)
}

func TestWithoutRights(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if st, err := os.Stat(d); err != nil || st.Mode()&1 == 0 {
			must(t, os.Chmod(d, 0o755))
		}
	}
	tests := []struct {
		name  string
		e     catar.Entry
		flags feature.Flags
		what  string // "": nothing is refused
		mode  uint32
	}{
		{"owner", catar.Entry{Mode: 0o755, UID: 0, GID: 0}, all, "owner 0:0: operation not permitted; leave it out with --without=privileged", 0o755},
		{"set-id of another", catar.Entry{Mode: 0o4755, UID: 0, GID: 0}, all, "owner 0:0", 0o755},
		{"set-id of another, owners left out", catar.Entry{Mode: 0o6755, UID: 0, GID: 0}, feature.All &^ feature.Privileged, "", 0o755},
		{"set-id of one's own", catar.Entry{Mode: 0o6755, UID: 65534, GID: 65534}, feature.All &^ feature.Privileged, "", 0o6755},
		{"trusted", catar.Entry{Mode: 0o600, UID: 65534, GID: 65534, XAttrs: []catar.XAttr{{Name: "trusted.x"}}}, all,
			`extended attribute "trusted.x": operation not permitted; leave it out with --without=xattrs`, 0o600},
		{"attribute of a read-only file", catar.Entry{Mode: 0o400, UID: 65534, GID: 65534, XAttrs: []catar.XAttr{{Name: "user.x"}}}, all, "", 0o400},
		{"immutable", catar.Entry{Mode: 0o600, UID: 65534, GID: 65534, Flags: feature.Immutable}, all,
			"flag-immutable: operation not permitted; leave it out with --without=privileged", 0o600},
		{"capabilities", catar.Entry{Mode: 0o700, UID: 65534, GID: 65534, FCaps: []byte(caps)}, all,
			"capabilities: operation not permitted; leave it out with --without=privileged", 0o700},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, string(rune('a'+i)))
			file(t, path)
			must(t, os.Chown(path, 65534, 65534))
			tt.e.Mode |= unix.S_IFREG
			tt.e.MTime = 1e18
			var err error
			asNobody(t, func() { err = set(t, path, &tt.e, tt.flags.Normal()) })
			switch {
			case tt.what == "":
				must(t, err)
			case err == nil || !strings.Contains(err.Error(), tt.what) || !errors.Is(err, fs.ErrPermission):
				t.Errorf("got %v, want %q in it", err, tt.what)
			}
			if got := read(t, path, all); got.Mode&0o7777 != tt.mode || got.MTime != 1e18 {
				t.Errorf("mode %04o, time %d", got.Mode, got.MTime)
			}
		})
	}
}

// TestLeavesNoMore sets an entry without anything to nodes that have all sorts
// of things, some of them inherited.
func TestLeavesNoMore(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			dir := image(t, kind.name, kind.mib, kind.mkfs)
			run(t, "setfacl", "-m", "d:u:1:rwx,d:g:2:r", dir)
			for _, m := range makers {
				if strings.Contains(m.lacks, kind.name) || strings.Contains(m.name, "subvolume") ||
					strings.Contains(m.name, "immutable") || m.name == "append" || m.name == "nocow" {
					continue
				}
				t.Run(m.name, func(t *testing.T) {
					path := filepath.Join(dir, m.name)
					m.make(t, path)
					had := read(t, path, all)
					e := &catar.Entry{Mode: had.Mode &^ 0o7777, Target: had.Target, Major: had.Major, Minor: had.Minor, Size: had.Size}
					if e.IsSymlink() {
						e.Mode |= 0o777
					}
					fd, _ := open(t, path)
					must(t, inode.NewSetter(all).Set(fd, e))
					got := read(t, path, all)
					if got.UID != 0 || got.XAttrs != nil || got.ACL != nil || got.FCaps != nil || got.SELinux != "" ||
						got.Flags != 0 || got.ProjID != 0 || got.Mode != e.Mode || got.MTime != 0 {
						t.Errorf("left %+v %+v", got, got.ACL)
					}
				})
			}
		})
	}
}

// TestWithoutItsACL: where the list cannot be set, the group does not get what
// the mode says of its mask.
func TestWithoutItsACL(t *testing.T) {
	for _, typ := range []uint32{unix.S_IFDIR, unix.S_IFREG, unix.S_IFIFO} {
		path := filepath.Join(t.TempDir(), "node")
		create(t, path, &catar.Entry{Mode: typ | 0o600})
		const nobodyAtAll = 1<<32 - 1
		err := set(t, path, &catar.Entry{Mode: typ | 0o670, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
			ACL: &catar.ACL{Masked: true, GroupObj: 4, Users: []catar.ACLEntry{{ID: nobodyAtAll, Perm: 7}, {ID: 1, Perm: 9}}}}, feature.ACL|feature.UID32)
		var refused *inode.RefusedError
		if !errors.As(err, &refused) || refused.Feature&feature.ACL == 0 {
			t.Errorf("%o: got %v", typ, err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != 0o640 {
			t.Errorf("%o: mode %o, %v", typ, st.Mode&0o7777, err)
		}
	}
}

// TestMask sets nothing of what the flags do not have.
func TestMask(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "x")
	file(t, path)
	must(t, os.Chown(path, 5, 6))
	run(t, "setfacl", "-m", "u:1:r", path)
	run(t, "chattr", "+A", path)
	before := read(t, path, all)
	must(t, set(t, path, &catar.Entry{Mode: unix.S_IFREG | 0o777}, feature.Symlinks))
	after := read(t, path, all)
	if after.Mode != before.Mode || after.UID != 5 || after.ACL == nil || after.Flags != feature.NoAtime || after.MTime != before.MTime {
		t.Errorf("got %+v, want %+v", after, before)
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	file(t, path)
	for _, tt := range []struct{ have, entry, want uint32 }{
		{0o644, 0o444, 0o444}, {0o755, 0o555, 0o555}, {0o640, 0o666, 0o640}, {0o444, 0o666, 0o666}, {0o440, 0o777, 0o660},
	} {
		must(t, os.Chmod(path, os.FileMode(tt.have)))
		must(t, set(t, path, &catar.Entry{Mode: unix.S_IFREG | tt.entry}, feature.ReadOnly))
		if got := read(t, path, all); got.Mode != unix.S_IFREG|tt.want {
			t.Errorf("%04o with %04o: got %04o, want %04o", tt.have, tt.entry, got.Mode, tt.want)
		}
	}
}

// TestNamespaces sets attributes that an archive must not bring.
func TestNamespaces(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "x")
	file(t, path)
	give(t, path, "user.probe", "x")
	e := &catar.Entry{Mode: unix.S_IFREG | 0o755, XAttrs: []catar.XAttr{
		{Name: "security.capability", Value: []byte(caps)},
		{Name: "system.posix_acl_access", Value: []byte("x")},
		{Name: "user.", Value: []byte("x")},
		{Name: "user.fine", Value: []byte("x")},
	}}
	must(t, set(t, path, e, feature.Desync))
	got := read(t, path, all)
	if got.FCaps != nil || len(got.XAttrs) != 1 || got.XAttrs[0].Name != "user.fine" {
		t.Errorf("got %+v", got)
	}
}

func TestNames(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "x")
	file(t, path)
	mode := unix.S_IFREG | uint32(0o600)
	var log bytes.Buffer
	s := inode.NewSetter(all)
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	owner := func(s *inode.Setter, e catar.Entry) (uid, gid uint32, err error) {
		e.Mode = mode
		fd, _ := open(t, path)
		err = s.Set(fd, &e)
		got := read(t, path, all)
		return got.UID, got.GID, err
	}
	// A name wins over the number.
	if uid, gid, err := owner(s, catar.Entry{User: "daemon", UID: 99, Group: "bin", GID: 99}); uid != 1 || gid != 2 || err != nil {
		t.Error(uid, gid, err)
	}
	// One that nobody has here does not; it is told once.
	for range 2 {
		if uid, gid, err := owner(s, catar.Entry{User: "nobody-here", UID: 77, Group: "nobody-here", GID: 78}); uid != 77 || gid != 78 || err != nil {
			t.Error(uid, gid, err)
		}
	}
	if n := strings.Count(log.String(), "nobody-here"); n != 2 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	// Without numbers it is no owner at all, and not root.
	only := inode.NewSetter(feature.UserNames)
	uid, _, err := owner(only, catar.Entry{User: "nobody-here", Group: "daemon"})
	if err == nil || !strings.Contains(err.Error(), `owner "nobody-here": not known`) || uid == 0 {
		t.Error(uid, err)
	}
	// Nor is it anybody in an ACL.
	e := catar.Entry{ACL: &catar.ACL{Masked: true, Users: []catar.ACLEntry{{Name: "nobody-here", Perm: 7}, {Name: "daemon", Perm: 4}}}}
	acls := inode.NewSetter(feature.UserNames | feature.ACL)
	if _, _, err := owner(acls, e); err == nil || !strings.Contains(err.Error(), `access control list: user "nobody-here"`) {
		t.Error(err)
	}
	if got := read(t, path, all); got.ACL == nil || len(got.ACL.Users) != 1 || got.ACL.Users[0].Name != "daemon" {
		t.Errorf("got %+v", got.ACL)
	}
	if uid, gid, err := owner(only, catar.Entry{User: "4321", Group: "4322"}); uid != 4321 || gid != 4322 || err != nil {
		t.Error(uid, gid, err)
	}
}

func TestVirtual(t *testing.T) {
	for path, want := range map[string]bool{"/proc": true, "/sys": true, "/proc/self/status": true, t.TempDir(): false, "/dev/shm": false} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		fd, _ := open(t, path)
		if got, err := inode.Virtual(fd); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
		if _, err := inode.NewReader(all).Entry(fd, func() *unix.Statx_t { _, st := open(t, path); return &st }()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNoDump(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	file(t, path)
	r := inode.NewReader(all)
	for _, want := range []bool{false, true} {
		if want {
			run(t, "chattr", "+d", path)
		}
		fd, st := open(t, path)
		for range 2 {
			if got, err := r.NoDump(fd, &st); got != want || err != nil {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
			st.Attributes_mask = 0 // as of a file system that does not say it there
		}
	}
}

// TestFollowsNothing sets entries to a link, and looks at what it leads to.
func TestFollowsNothing(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file(t, filepath.Join(dir, "target"))
	before := read(t, filepath.Join(dir, "target"), all)
	must(t, os.Symlink("target", filepath.Join(dir, "link")))
	e := &catar.Entry{Mode: unix.S_IFLNK | 0o777, UID: 5, GID: 5, MTime: 5, SELinux: "a:b:c",
		XAttrs: []catar.XAttr{{Name: "user.x", Value: []byte("x")}}, ACL: &catar.ACL{Masked: true}, Flags: feature.NoDump}
	must(t, set(t, filepath.Join(dir, "link"), e, all))
	after := read(t, filepath.Join(dir, "target"), all)
	if after.UID != before.UID || after.MTime != before.MTime || after.SELinux != "" || after.XAttrs != nil || after.ACL != nil || after.Flags != before.Flags {
		t.Errorf("got %+v, want %+v", after, before)
	}
	if got := read(t, filepath.Join(dir, "link"), all); got.UID != 5 || got.MTime != 5 || got.SELinux != "a:b:c" {
		t.Errorf("the link: %+v", got)
	}
}

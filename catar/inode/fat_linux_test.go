package inode_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// TestFAT reads and sets what FAT has: three attributes, whether a file may be
// written to, and times in steps of two seconds.
func TestFAT(t *testing.T) {
	dir := image(t, "vfat", 16, [][]string{{"mkfs.vfat"}})
	f := feature.Flags(feature.FAT)
	const setAttributes = 0x40047211 // FAT_IOCTL_SET_ATTRIBUTES
	i := 0
	for _, base := range []func(*testing.T, string){file, folder} {
		for attributes := range 16 {
			i++
			path := filepath.Join(dir, fmt.Sprintf("Node %d.text", i))
			base(t, path)
			want := feature.Flags(0)
			kernel := 0
			if st, _ := os.Stat(path); st.IsDir() {
				kernel = 0x10
			}
			for bit, as := range map[int]struct {
				kernel int
				f      feature.Flags
			}{1: {2, feature.Hidden}, 2: {4, feature.System}, 4: {0x20, feature.ArchiveFlag}, 8: {1, 0}} {
				if attributes&bit != 0 {
					kernel |= as.kernel
					want |= as.f
				}
			}
			fd, _ := open(t, path)
			must(t, unix.IoctlSetPointerInt(fd, setAttributes, kernel))
			ts := unix.NsecToTimespec(1e18)
			must(t, unix.UtimesNano(path, []unix.Timespec{ts, ts}))

			e := read(t, path, f)
			if e.Flags != want || e.MTime != 1e18 {
				t.Errorf("attributes %#x: got %s, want %s, time %d", kernel, e.Flags, want, e.MTime)
			}
			if base := e.IsRegular(); base && (e.Mode&0o222 == 0) != (attributes&8 != 0) {
				t.Errorf("attributes %#x: mode %04o", kernel, e.Mode)
			}
			copied := filepath.Join(dir, fmt.Sprintf("Copy %d.text", i))
			create(t, copied, e)
			must(t, set(t, copied, e, f))
			if got := read(t, copied, f); got.Flags != e.Flags || got.Mode != e.Mode || got.MTime != e.MTime {
				t.Errorf("attributes %#x: got %+v, want %+v", kernel, got, e)
			}
		}
	}

	path := filepath.Join(dir, "refused")
	for _, tt := range []struct {
		e    catar.Entry
		f    feature.Flags
		want feature.Flags
	}{
		{catar.Entry{MTime: 1e18 + 1e9}, feature.SecTime, feature.SecTime | feature.NanoTime | feature.MicroTime},
		{catar.Entry{Mode: 0o700}, feature.Permissions, feature.Permissions | feature.ACL},
		{catar.Entry{UID: 5}, feature.UID32, feature.UIDs | feature.UserNames},
		{catar.Entry{Flags: feature.NoAtime}, feature.NoAtime, feature.NoAtime},
		{catar.Entry{XAttrs: []catar.XAttr{{Name: "user.x"}}}, feature.XAttrs, feature.XAttrs},
		{catar.Entry{ACL: &catar.ACL{Masked: true}}, feature.ACL | feature.UID32, feature.ACL},
	} {
		file(t, path)
		tt.e.Mode |= unix.S_IFREG
		if tt.f&feature.ACL != 0 {
			tt.e.Mode |= 0o755
		}
		fd, _ := open(t, path)
		err := inode.NewSetter(tt.f).Set(fd, &tt.e)
		var refused *inode.RefusedError
		if !errors.As(err, &refused) || refused.Feature != tt.want {
			t.Errorf("%s: got %v, want %s refused", tt.f, err, tt.want)
		}
	}
}

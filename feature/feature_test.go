package feature_test

import (
	"fmt"
	"testing"

	"caravel/chunker"
	"caravel/feature"
)

// What casync makes of its options; docs/formats.md, section 4.3.
func TestFlagsOfCasync(t *testing.T) {
	const usual = feature.SHA512_256 | feature.ExcludeNoDump | feature.ExcludeFile
	tests := []struct {
		name  string
		flags feature.Flags
		want  feature.Flags
	}{
		{"none given", feature.All | usual, 0xb0000001ffeffe26},
		{"best, nothing excluded", feature.Best | feature.SHA512_256, 0x20000001fffffe26},
		{"nodump kept", feature.All | feature.SHA512_256 | feature.ExcludeFile, 0x30000001fffffe26},
		{"unix", feature.Unix | usual, 0xb000000000001f09},
		{"fat", feature.FAT | usual, 0xb00000000000e0c0},
		{"chattr", feature.Chattr | usual, 0xb000000003ef0000},
		{"privileged", feature.Privileged | usual, 0xb0000001ec414406},
		{"fuse", feature.FUSE | usual, 0xb000000013efff22},
		{"without all", usual, 0xb000000000000000},
		{"acl", feature.ACL | usual, 0xb000000020000006},
		{"sha256", feature.All | usual&^feature.SHA512_256, 0x90000001ffeffe26},
		{"submounts", feature.All | usual | feature.ExcludeSubmounts, 0xf0000001ffeffe26},
		{"desync", feature.Desync, 0xb000000010001f22},
		{"blob", feature.Blob(chunker.SHA512_256), 0xb000000000000000},
		{"blob, sha256", feature.Blob(chunker.SHA256), 0x9000000000000000},
	}
	for _, tt := range tests {
		if got := tt.flags.Normal(); got != tt.want {
			t.Errorf("%s: got %#x, want %#x", tt.name, uint64(got), uint64(tt.want))
		}
		if err := tt.want.Check(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestNormal(t *testing.T) {
	for _, tt := range []struct{ flags, want feature.Flags }{
		{feature.ACL, feature.ACL | feature.UID32 | feature.UserNames},
		{feature.ACL | feature.UID16, feature.ACL | feature.UID16},
		{feature.ACL | feature.UserNames, feature.ACL | feature.UserNames},
		{feature.UIDs, feature.UID32},
		{feature.Times, feature.NanoTime},
		{feature.MicroTime | feature.SecTime | feature.TwoSecTime, feature.MicroTime},
		{feature.SecTime | feature.TwoSecTime, feature.SecTime},
		{feature.ACL | feature.UID32 | feature.Permissions | feature.ReadOnly, feature.ACL | feature.UID32},
		{feature.Permissions | feature.ReadOnly, feature.Permissions},
		{feature.ExcludeNoDump | feature.NoDump, feature.ExcludeNoDump},
		{feature.SubvolumeRO, feature.SubvolumeRO | feature.Subvolume},
		{feature.Subvolume, feature.Subvolume},
	} {
		if got := tt.flags.Normal(); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.flags, got, tt.want)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for flags, want := range map[feature.Flags]string{
		1 << 40:                             "flags 0x10000000000: unknown bits 0x10000000000",
		feature.UIDs:                        "flags 0x3: not normalized, which would be 0x2",
		feature.SubvolumeRO | feature.UID32: "flags 0x8000002: not normalized, which would be 0xc000002",
	} {
		if err := flags.Check(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Any width, granularity and form of permissions can be had of a finer one.
func TestMasked(t *testing.T) {
	for _, tt := range []struct{ archive, mask, want feature.Flags }{
		{feature.UID32, feature.UID16, feature.UID16},
		{feature.UID16, feature.Best, feature.UID32},
		{feature.NanoTime, feature.TwoSecTime, feature.TwoSecTime},
		{feature.SecTime, feature.NanoTime, feature.NanoTime},
		{feature.ACL | feature.UID32, feature.Permissions, feature.Permissions},
		{feature.ACL | feature.UID32, feature.ReadOnly, feature.ReadOnly},
		{feature.Permissions, feature.ReadOnly, feature.ReadOnly},
		{feature.SubvolumeRO | feature.Subvolume, feature.Subvolume, feature.Subvolume},
		{feature.Best, feature.All, feature.Best},
		{feature.XAttrs, feature.ACL, 0},
	} {
		if got := tt.archive.Masked(tt.mask); got != tt.want.Normal() {
			t.Errorf("%v masked with %v: got %v, want %v", tt.archive, tt.mask, got, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	var all feature.Flags
	for i, name := range feature.Names()[:33] {
		f, err := feature.Parse(name)
		if err != nil || f != 1<<i || f.String() != name {
			t.Errorf("%s: got %#x %q, error %v", name, uint64(f), f, err)
		}
		all |= f
	}
	for _, name := range feature.Names()[33:] {
		if f, err := feature.Parse(name); err != nil || f == 0 || f&^all != 0 {
			t.Errorf("%s: got %v, error %v", name, f, err)
		}
	}
	if _, err := feature.Parse("times"); err == nil {
		t.Error("an unknown name is taken")
	}
}

func ExampleFlags_String() {
	fmt.Println(feature.Unix.Masked(feature.Permissions | feature.Symlinks))
	// Output: permissions,symlinks
}

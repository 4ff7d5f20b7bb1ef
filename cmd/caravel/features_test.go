package main

import (
	"strings"
	"testing"

	"caravel/feature"
)

// TestPackFlags has the field of flags that casync writes for the same words.
func TestPackFlags(t *testing.T) {
	for typed, want := range map[string]feature.Flags{
		"":           0xb0000001ffeffe26,
		"--with=all": 0xb0000001ffeffe26,
		"--with=best --exclude-nodump=no --exclude-file=no": 0x20000001fffffe26,
		"--exclude-nodump=no":                               0x30000001fffffe26,
		"--with=unix":                                       0xb000000000001f09,
		"--with=fat":                                        0xb00000000000e0c0,
		"--with=chattr":                                     0xb000000003ef0000,
		"--with=privileged":                                 0xb0000001ec414406,
		"--with=fuse":                                       0xb000000013efff22,
		"--without=all":                                     0xb000000000000000,
		"--with acl":                                        0xb000000020000006,
		"--digest=sha256":                                   0x90000001ffeffe26,
		"--exclude-submounts":                               0xf0000001ffeffe26,
		"--with=16bit-uids --with=permissions":              0xb000000000000101,
		"--with=unix --without=privileged":                  0xb000000000001b08,
		"--without=all --exclude-nodump=no --exclude-file=no --digest=sha256": 0,
	} {
		var opt packOptions
		if stderr, status := try(t, packFlags(&opt), strings.Fields(typed)...); status != exitDone {
			t.Errorf("%q: %s", typed, stderr)
		} else if got := opt.archive(); got != want {
			t.Errorf("%q: %#x, want %#x", typed, uint64(got), uint64(want))
		}
	}
}

func TestBlobFlags(t *testing.T) {
	for typed, want := range map[string]feature.Flags{
		"":                0xb000000000000000,
		"--with=unix":     0xb000000000001f09,
		"--digest=sha256": 0x9000000000000000,
	} {
		var opt packOptions
		if stderr, status := try(t, packFlags(&opt), strings.Fields(typed)...); status != exitDone {
			t.Errorf("%q: %s", typed, stderr)
		} else if got := opt.blob(); got != want {
			t.Errorf("%q: %#x, want %#x", typed, uint64(got), uint64(want))
		}
	}
}

func TestFeatureFlagsRefuse(t *testing.T) {
	stderr, status := try(t, packFlags(new(packOptions)), "--with=everything")
	if status != exitUsage || !strings.Contains(stderr, `no feature "everything"; there are 16bit-uids, `) {
		t.Errorf("exit status %d, %s", status, stderr)
	}
}

func TestFeatureHelp(t *testing.T) {
	for _, command := range []string{"make", "extract", "list", "digest"} {
		stdout, stderr, status := caravel(t, command, "--with=help")
		if status != exitDone || stderr != "" || !strings.HasPrefix(stdout, "16bit-uids\n") || !strings.Contains(stdout, "\nprivileged\n") {
			t.Errorf("%s: exit status %d, %s%s", command, status, stdout, stderr)
		}
	}
}

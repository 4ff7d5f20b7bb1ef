package main

import (
	"slices"
	"testing"
)

func TestAsMountHelper(t *testing.T) {
	for _, tt := range []struct {
		typed, want []string
		fake        bool
	}{
		{[]string{"/usr/bin/caravel", "mount", "a", "b"}, []string{"mount", "a", "b"}, false},
		{[]string{"/sbin/mount.fuse.caravel", "http://host/x.caidx", "/mnt", "-o", "rw,noexec"},
			[]string{"mount", "--daemon", "--options=rw,noexec", "--", "http://host/x.caidx", "/mnt"}, false},
		{[]string{"mount.caravel", "-n", "x", "-sv", "/mnt", "-oro", "-t", "fuse.caravel", "-N", "/proc/1/ns/mnt"},
			[]string{"mount", "--daemon", "--options=sloppy", "--verbose", "--options=ro", "--", "x", "/mnt"}, false},
		{[]string{"mount.caravel", "x", "/mnt", "-vf"}, []string{"mount", "--daemon", "--verbose", "--", "x", "/mnt"}, true},
		{[]string{"mount.caravel", "x", "/mnt", "-o"}, []string{"mount", "--daemon", "--options=", "--", "x", "/mnt"}, false},
		{[]string{"mount.caravel"}, []string{"mount", "--daemon", "--"}, false},
	} {
		got, fake := asMountHelper(tt.typed)
		if !slices.Equal(got, tt.want) || fake != tt.fake {
			t.Errorf("%q: %q, %v", tt.typed, got, fake)
		}
	}
}

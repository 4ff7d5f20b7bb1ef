package mounts_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/mounts"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]mounts.Entry{
		`36 35 98:0 /r /mnt/a\040b\134c rw,noatime shared:1 - ext3 /dev/root rw`: {Device: unix.Mkdev(98, 0), Point: `/mnt/a b\c`, Type: "ext3", Options: "rw"},
		`36 35 0:300 / /mnt ro - fuse.caravel x\040- ro`:                         {Device: unix.Mkdev(0, 300), Point: "/mnt", Type: "fuse.caravel", Options: "ro"},
		`36 35 0:31 / /\9x\0 ro - tmpfs`:                                         {Device: unix.Mkdev(0, 31), Point: `/\9x\0`, Type: "tmpfs"},
	} {
		if got, ok := mounts.Parse(line); !ok || got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "36 35 98:0 / /mnt", "36 35 98 / /mnt ro - x", "36 - x", "1 2 3:4 / / ro - "} {
		if got, ok := mounts.Parse(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

func TestOption(t *testing.T) {
	e, ok := mounts.Parse(`44 26 0:39 / /mnt rw - overlay x rw,lowerdir=/a\134:b,upperdir=/a\134\054b\040c,workdir=`)
	if !ok {
		t.Fatal("not parsed")
	}
	for name, want := range map[string]string{"lowerdir": `/a\:b`, "upperdir": `/a\,b c`, "workdir": "", "dir": "", "rw": ""} {
		if got := e.Option(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`36 35 98:0 /r /mnt/a\040b\134c rw - ext3 /dev/root rw,upperdir=\054`)
	f.Fuzz(func(t *testing.T, line string) {
		if e, ok := mounts.Parse(line); ok && (e.Type == "" || len(e.Point) > len(line) || len(e.Option("upperdir")) > len(line)) {
			t.Errorf("%q: %+v", line, e)
		}
	})
}

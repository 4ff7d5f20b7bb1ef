//go:build linux

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A lodger is somebody who is not root, with all that he needs in a folder of his own:
// a program, an image, a directory to mount on and one to write to.
type lodger struct {
	t                         *testing.T
	home, program, image, dir string
	source                    string // what image was made of
}

// as puts in front of a command what makes it the lodger's.
var as = []string{"--reuid=65534", "--regid=65534", "--clear-groups", "--"}

func newLodger(t *testing.T) lodger {
	t.Helper()
	needRoot(t) // to be somebody else
	need(t, "setpriv", "fuse-overlayfs", "fusermount3")
	p := packTree(t, caravel, randomFiles(t, 2, 3, 50_000))
	home, err := os.MkdirTemp("/tmp", "caravel-user")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	l := lodger{t, home, home + "/caravel", home + "/tree.caidx", home + "/mnt", p.source}
	must(t, "cp", caravel, l.program)
	must(t, "cp", "-r", p.index, p.path("default.castr"), home)
	must(t, "chown", "-R", "65534:65534", home)
	return l
}

// mount has what the lodger writes be kept.
func (l lodger) mount(args ...string) *daemon {
	l.t.Helper()
	args = append([]string{"mount", "--overlay", l.home + "/over", "-o", "uid=65534,gid=65534"}, args...)
	m := start(l.t, "setpriv", slices.Concat(as, []string{l.program}, args, []string{l.image, l.dir})...)
	unmountLater(l.t, l.dir)
	return m
}

// mounted reports whether something is mounted on the directory, into which not even
// root can look then.
func (l lodger) mounted() bool {
	l.t.Helper()
	return strings.Contains(string(read(l.t, "/proc/self/mountinfo")), " "+l.dir+" ")
}

// sh runs a script with the directory as $1.
func (l lodger) sh(script string) string {
	l.t.Helper()
	return must(l.t, "setpriv", append(slices.Clone(as), "sh", "-ec", script, "sh", l.dir)...)
}

// TestMountOverlayUser has one who is not root write, by fuse-overlayfs.
func TestMountOverlayUser(t *testing.T) {
	l := newLodger(t)
	m := l.mount()
	m.expect("Mounted: ")
	l.sh(`echo more >>"$1"/dir00/file00; mv "$1"/dir01 "$1"/renamed; echo new >"$1"/new`)
	m.stop(syscall.SIGKILL)
	eventually(t, "the child ends", func() bool { return !l.mounted() })
	m = l.mount()
	m.expect("Mounted: ")
	if got := l.sh(`cat "$1"/new; tail -c 5 "$1"/dir00/file00; ls "$1"`); got != "new\nmore\ndir00\nnew\nrenamed\n" {
		t.Errorf("%q", got)
	}
	m.ends(syscall.SIGTERM, soon)
}

// TestMountOverStaleOverlayUser mounts where both processes of one who is not root were
// killed at once, so that nobody has cleaned up.
func TestMountOverStaleOverlayUser(t *testing.T) {
	l := newLodger(t)
	m := l.mount()
	m.expect("Mounted: ")
	all := showing(t, l.dir)
	// The child first, as it cleans up behind the other one.
	if err := errors.Join(syscall.Kill(all["caravel"], syscall.SIGSTOP), syscall.Kill(all["fuse-overlayfs"], syscall.SIGKILL)); err != nil {
		t.Fatalf("%v: %v", all, err)
	}
	m.stop(syscall.SIGKILL)
	if !l.mounted() {
		t.Fatal("nothing is left behind")
	}
	m = start(t, "setpriv", slices.Concat(as, []string{l.program, "mount", l.image, l.dir})...)
	m.expect("Mounted: ")
	if got := l.sh(`cat "$1"/dir00/file01`); got != string(read(t, l.source+"/dir00/file01")) {
		t.Errorf("%d other bytes", len(got))
	}
	m.ends(syscall.SIGTERM, soon)
	if l.mounted() {
		t.Error("still mounted")
	}
}

// TestMountOverlayUserSupervised kills each of the two processes that show a tree which
// one who is not root writes to, and both: it is mounted again, with what was written.
func TestMountOverlayUserSupervised(t *testing.T) {
	l := newLodger(t)
	m := l.mount("--supervise")
	m.expect("Mounted: ")
	for round, victims := range [][]string{{"caravel"}, {"fuse-overlayfs"}, {"caravel", "fuse-overlayfs"}} {
		l.sh(fmt.Sprintf(`echo kept >"$1"/round%d; echo more >>"$1"/dir00/file0%[1]d`, round))
		before := showing(t, l.dir)
		for _, name := range victims {
			if err := syscall.Kill(before[name], syscall.SIGKILL); err != nil {
				t.Fatalf("%s of %v: %v", name, before, err)
			}
		}
		eventually(t, "it is mounted again", func() bool {
			now := showing(t, l.dir)
			return len(now) == 2 && now["caravel"] != before["caravel"] && now["fuse-overlayfs"] != before["fuse-overlayfs"] && l.mounted()
		})
		for kept := range round + 1 {
			want := "kept\n" + string(read(t, fmt.Sprintf("%s/dir00/file0%d", l.source, kept))) + "more\n"
			if got := l.sh(fmt.Sprintf(`cat "$1"/round%d "$1"/dir00/file0%[1]d`, kept)); got != want {
				t.Errorf("after the end of %v: %d bytes, want %d", victims, len(got), len(want))
			}
		}
		if got := l.sh(`cat "$1"/dir01/file02`); got != string(read(t, l.source+"/dir01/file02")) {
			t.Errorf("after the end of %v: %d other bytes", victims, len(got))
		}
	}
	m.ends(syscall.SIGTERM, soon)
	if l.mounted() || isMounted(t, l.home+"/over/lower") || len(serversOf(t, l.dir)) > 0 {
		t.Errorf("still there: %v", serversOf(t, l.dir))
	}
}

// showing are the processes, by their program's name, that have a file system with dir
// on their command line.
func showing(t *testing.T, dir string) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, pid := range serversOf(t, dir) {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue // it has ended
		}
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == "/dev/fuse" { // it may be closed by now
				all[strings.TrimSpace(string(name))] = pid
			}
		}
	}
	return all
}

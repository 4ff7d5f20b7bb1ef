//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"caravel/feature"
)

// mountDaemonAsTyped mounts the tree by a line that returns, and unmounts it.
func mountDaemonAsTyped(t *testing.T, r *readmeReader, line string) {
	needFUSE(t)
	mnt := t.TempDir()
	unmountLater(t, mnt)
	r.typed(t, r.away, line, "/mnt", mnt)
	r.sameTree(t, mnt, "", feature.Unix)
	must(t, "umount", mnt)
	eventually(t, "the processes end", func() bool { return len(serversOf(t, mnt)) == 0 })
}

// mountedBy mounts the tree by a line that stays until the test ends.
func (r *readmeReader) mountedBy(t *testing.T, line string) string {
	t.Helper()
	needFUSE(t)
	mnt := t.TempDir()
	d, _ := r.started(t, line, "/mnt", mnt)
	unmountLater(t, mnt)
	t.Cleanup(func() { d.ends(syscall.SIGINT, soon) })
	return mnt
}

func mountWordsAsTyped(t *testing.T, r *readmeReader, line string) {
	mnt := r.mountedBy(t, line)
	sameTree(t, mnt, r.home+"/tree")
	if st := statOf(t, mnt); st.Mode != 0o40750 || st.Uid != 34 { // Debian's backup
		t.Errorf("mode %o, of %d", st.Mode, st.Uid)
	}
}

func mountPartAsTyped(t *testing.T, r *readmeReader, line string) {
	mnt := r.mountedBy(t, line)
	sameTree(t, mnt, r.home+"/tree/etc")
	want := statOf(t, r.home+"/tree/etc")
	if st := statOf(t, mnt); st.Uid != want.Uid%(1<<16)+100000 || st.Mode != want.Mode {
		t.Errorf("mode %o, of %d; the source's are %o and %d", st.Mode, st.Uid, want.Mode, want.Uid)
	}
}

func mountHelperAsTyped(t *testing.T, r *readmeReader, line string) {
	needRoot(t)
	const helper = "/sbin/mount.fuse.caravel"
	if err := os.Symlink(filepath.Join(r.tools, "caravel"), helper); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.Remove(helper) })
	mountDaemonAsTyped(t, r, line)
}

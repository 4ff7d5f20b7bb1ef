package walk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar/walk"
)

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	return len(all)
}

// Wherever it is ended, nothing is left over.
func TestEndsWhole(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		write(t, dir, map[string]string{
			fmt.Sprintf("d%d/e/f/small", i): "x",
			fmt.Sprintf("d%d/large", i):     strings.Repeat("large", 100_000),
		})
	}
	goroutines, open := runtime.NumGoroutine(), descriptors(t)
	whole, _, err := pack(t, dir, all, walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 70, 300_000, 1_000_000, len(whole) / 2, len(whole) - 1, len(whole)} {
		for _, cancelled := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			r, err := walk.Open(ctx, dir, all, walk.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			want := os.ErrClosed
			if cancelled {
				want = errors.New("enough")
				cancel(want)
				if _, err := r.Read(make([]byte, 1<<20)); n < len(whole) && err != want {
					t.Errorf("cancelled at %d: got %v", n, err)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if _, err := r.Read(make([]byte, 1)); n < len(whole) && !errors.Is(err, want) {
				t.Errorf("closed at %d: got %v", n, err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("closed again: %v", err)
			}
			cancel(nil)
		}
	}
	if n := descriptors(t); n != open {
		t.Errorf("%d descriptors, %d before", n, open)
	}
	// What has told that it is over may still be on its way out.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// A Read that is under way when the Reader is closed ends, too.
func TestCloseWhileReading(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		write(t, dir, map[string]string{fmt.Sprintf("d%d/f", i): strings.Repeat("x", 300_000)})
	}
	r, err := walk.Open(t.Context(), dir, all, walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		buf := make([]byte, 64<<10)
		_, err := r.Read(buf)
		close(begun)
		for err == nil {
			_, err = r.Read(buf)
		}
		ended <- err
	}()
	<-begun
	r.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) && err != io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestFewDescriptors(t *testing.T) {
	dir := t.TempDir()
	for i := range 400 {
		for _, p := range []string{fmt.Sprintf("dirs/%d/hole", i), fmt.Sprintf("holes/%d", i)} {
			write(t, dir, map[string]string{p: ""})
			if err := os.Truncate(filepath.Join(dir, p), 300<<10); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, most := descriptors(t), 0
	r, err := walk.Open(t.Context(), dir, all, walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for buf := make([]byte, 64<<10); err == nil; _, err = r.Read(buf) {
		most = max(most, descriptors(t)-before)
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	if most > 400 {
		t.Errorf("%d descriptors at one time", most)
	}
	t.Logf("%d descriptors at one time", most)
}

// asNobody runs the calling test in another process by a user without rights,
// if the tests run as root. It reports whether this is that process, or there
// is no need for one.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	tmp, err := os.MkdirTemp("", "nobody")
	if err == nil {
		err = os.Chown(tmp, 65534, 65534)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EACCES) {
		t.Skipf("nobody may not run the test's program: %v", err)
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
	return false
}

func TestPermissionDenied(t *testing.T) {
	if !asNobody(t) {
		return
	}
	for _, tt := range []struct {
		name string
		mode os.FileMode
	}{{"f", 0}, {"d", 0}, {"d", 0o400}} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "", "d/x": "", "f": "x"})
		p := filepath.Join(dir, tt.name)
		if err := os.Chmod(p, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := pack(t, dir, all, walk.Options{})
		os.Chmod(p, 0o700)
		if err == nil || !errors.Is(err, os.ErrPermission) || !strings.HasPrefix(err.Error(), "walk: "+p) {
			t.Errorf("%s with mode %o: got %v", tt.name, tt.mode, err)
		}
	}
}

// Files of others are read as well, though their times of access are touched.
func TestFilesOfOthers(t *testing.T) {
	if asNobody(t) {
		if st := new(unix.Stat_t); unix.Stat("/etc/passwd", st) != nil || int(st.Uid) == os.Geteuid() {
			t.Skip("no files of others: /etc/passwd is missing, or ours")
		}
		dir := "/usr/share/doc/bash"
		if _, err := os.Stat(dir); err != nil {
			t.Skipf("no folder of somebody else's: %v", err)
		}
		same(t, dir, all)
	}
}

// A file with a lease is packed when that is given back.
func TestLeased(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": "leased"})
	f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGIO)
	defer signal.Stop(asked)
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	fd := f.Fd()
	var giving sync.WaitGroup
	giving.Go(func() {
		<-asked
		unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
	})
	b, _, err := pack(t, dir, all, walk.Options{})
	giving.Wait()
	if err != nil || !bytes.Contains(b, []byte("leased")) {
		t.Errorf("error %v", err)
	}
}

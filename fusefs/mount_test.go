//go:build linux

package fusefs_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

// TestMain makes another process of this program where a test wants one.
func TestMain(m *testing.M) {
	if dir := os.Getenv("FUSEFS_TEST_DAEMON"); dir != "" {
		daemon(dir)
		return
	}
	if size := os.Getenv("FUSEFS_TEST_TURN"); size != "" {
		turn(size)
		return
	}
	if path := os.Getenv("FUSEFS_TEST_READ"); path != "" {
		readers(path)
		return
	}
	if path := os.Getenv("FUSEFS_TEST_MAP"); path != "" {
		if err := printMapped(path); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

func daemon(dir string) {
	_, f := patternFile(1 << 20)
	f.Name = "disk"
	m, err := fusefs.MountFile(dir, f, fusefs.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("mounted")
	io.Copy(io.Discard, os.Stdin) // until the test says so
	if err := m.Unmount(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

// startDaemon runs program, a copy of this one, with a mount on dir.
func startDaemon(t *testing.T, program, dir string, as *syscall.Credential) process {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "FUSEFS_TEST_DAEMON="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	p := started(t, cmd)
	line, err := p.out.ReadString('\n')
	if line != "mounted\n" {
		t.Fatalf("daemon: %q, %v", line, err)
	}
	return p
}

func started(t testing.TB, cmd *exec.Cmd) process {
	t.Helper()
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return process{cmd, stdin, bufio.NewReader(stdout)}
}

func inTime(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing in 20 s", what)
	}
}

// hanging returns a file whose reads hang until they are cancelled or freed.
func hanging(size int64) (f fusefs.File, started, cancelled chan int64, free chan struct{}) {
	p, f := patternFile(size)
	started, cancelled, free = make(chan int64, 100), make(chan int64, 100), make(chan struct{})
	p.before = func(ctx context.Context, off, n int64) error {
		started <- off
		select {
		case <-ctx.Done():
			cancelled <- off
			return context.Cause(ctx)
		case <-free:
			return nil
		}
	}
	return f, started, cancelled, free
}

func receive(t *testing.T, what string, c <-chan int64) int64 {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing in 20 s", what)
		return 0
	}
}

func TestKilledReader(t *testing.T) {
	need(t, "dd")
	f, started, cancelled, _ := hanging(1 << 20)
	log := new(notes)
	m, path := mounted(t, f, fusefs.Options{Log: log.logger()})
	reader := exec.Command("dd", "if="+path, "of=/dev/null", "bs=4096", "iflag=direct")
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	receive(t, "read", started)
	reader.Process.Kill()
	receive(t, "cancelled", cancelled)
	reader.Wait()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if log.String() != "" {
		t.Errorf("a read that nobody wanted was logged:\n%s", log)
	}
}

// A signal that the process handles is no reason to fail its read.
func TestSignalledReader(t *testing.T) {
	need(t, "dd")
	f, started, cancelled, free := hanging(4096)
	_, path := mounted(t, f, fusefs.Options{})
	var said bytes.Buffer
	reader := exec.Command("dd", "if="+path, "bs=4096", "iflag=direct")
	stdout := new(bytes.Buffer)
	reader.Stdout, reader.Stderr = stdout, &said
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	receive(t, "read", started)
	reader.Process.Signal(syscall.SIGUSR1) // dd prints figures, when it comes to it
	select {
	case <-cancelled:
		t.Error("cancelled")
	case <-time.After(300 * time.Millisecond): // three looks at the process
	}
	close(free)
	if err := reader.Wait(); err != nil || !bytes.Equal(stdout.Bytes(), want(0, 4096)) {
		t.Errorf("%v: %d bytes\n%s", err, stdout.Len(), &said)
	}
}

func TestUnmountWhileReading(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("direct %v", direct), func(t *testing.T) {
			f, started, cancelled, _ := hanging(1 << 20)
			m, path := mounted(t, f, fusefs.Options{})
			flags := unix.O_RDONLY | unix.O_CLOEXEC
			if direct {
				flags |= unix.O_DIRECT
			}
			fd, err := unix.Open(path, flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			failed := make(chan error, 1)
			go func() {
				_, err := unix.Pread(fd, make([]byte, 4096), 0)
				failed <- err
			}()
			receive(t, "read", started)
			begin := time.Now()
			if err := m.Unmount(); err != nil {
				t.Error(err)
			}
			if d := time.Since(begin); d > 10*time.Second { // one, if the machine is not busy
				t.Errorf("unmounting took %v", d)
			}
			receive(t, "cancelled", cancelled)
			if err := <-failed; err == nil {
				t.Error("the read succeeded")
			}
		})
	}
}

func TestUnmountInUse(t *testing.T) {
	_, f := patternFile(1 << 20)
	log := new(notes)
	before := runtime.NumGoroutine()
	m, path := mounted(t, f, fusefs.Options{Log: log.logger()})
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if err := m.Unmount(); err != nil {
		t.Errorf("again: %v", err)
	}
	inTime(t, "Done", m.Done())
	if _, err := file.ReadAt(make([]byte, 10), 0); err == nil {
		t.Error("an open file still reads")
	}
	if os.Geteuid() == 0 {
		for i := 0; runtime.NumGoroutine() > before; i++ { // those that have ended, but not yet gone
			if i > 1000 {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
			runtime.Gosched()
			time.Sleep(time.Millisecond)
		}
	}
	if log.count("in use") != 1 {
		t.Errorf("log:\n%s", log)
	}
	if names, err := os.ReadDir(m.Dir); err != nil || len(names) != 0 {
		t.Errorf("after: %v, %v", names, err)
	}
}

func TestUnmountFromOutside(t *testing.T) {
	canMount(t)
	needRoot(t)
	need(t, "umount")
	_, f := patternFile(10)
	f.Name = "disk"
	dir := filepath.Join(t.TempDir(), "made")
	m, err := fusefs.MountFile(dir, f, fusefs.Options{Mkdir: true})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "umount", dir)
	inTime(t, "Done", m.Done())
	<-m.Done()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory that was made: %v", err)
	}
}

// What another has mounted over it is not ours to take away.
func TestUnmountCovered(t *testing.T) {
	needRoot(t)
	_, f := patternFile(10)
	m, _ := mounted(t, f, fusefs.Options{})
	if err := unix.Mount("none", m.Dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("%s: tmpfs: %v", t.Name(), err)
	}
	if err := m.Unmount(); err == nil || !strings.Contains(err.Error(), "covered by another mount (tmpfs)") {
		t.Errorf("got %v", err)
	}
	if err := unix.Unmount(m.Dir, 0); err != nil {
		t.Fatal(err)
	}
}

func TestUnmountMoved(t *testing.T) {
	needRoot(t)
	_, f := patternFile(10)
	m, _ := mounted(t, f, fusefs.Options{})
	second := t.TempDir()
	if err := unix.Mount(m.Dir, second, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{m.Dir, second} {
		if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
			t.Errorf("%s: %v, %v", dir, names, err)
		}
	}
}

func TestMkdirMakesOneLevel(t *testing.T) {
	canMount(t)
	_, f := patternFile(10)
	f.Name = "disk"
	dir := t.TempDir()
	if _, err := fusefs.MountFile(dir+"/a/b", f, fusefs.Options{Mkdir: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	m, err := fusefs.MountFile(dir+"/a", f, fusefs.Options{Mkdir: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestMountedAlready(t *testing.T) {
	_, f := patternFile(10)
	m, path := mounted(t, f, fusefs.Options{})
	f.Name = "disk"
	_, err := fusefs.MountFile(m.Dir, f, fusefs.Options{})
	if err == nil || !strings.Contains(err.Error(), "caravel is mounted there already") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the first mount: %v", err)
	}
}

func TestKilledDaemon(t *testing.T) {
	canMount(t)
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "/proc/self/exe", dir, nil)
	if b, err := pread(dir+"/disk", 4000, 200); err != nil || !bytes.Equal(b, want(4000, 200)) {
		t.Errorf("read: %v", err)
	}
	d.Process.Kill()
	d.Wait()
	if _, err := os.Open(dir + "/disk"); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("after the kill: %v", err)
	}

	_, f := patternFile(2 << 20)
	f.Name = "disk"
	log := new(notes)
	m, err := fusefs.MountFile(link, f, fusefs.Options{Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := pread(dir+"/disk", 1<<20, 200); err != nil || !bytes.Equal(b, want(1<<20, 200)) {
		t.Errorf("read: %v", err)
	}
	if log.count("removing the mount of a process that was killed") != 1 {
		t.Errorf("log:\n%s", log)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("after: %v, %v", names, err)
	}
}

// publicCopy puts this program where any user can run it.
func publicCopy(t *testing.T, dir string) string {
	t.Helper()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnprivileged(t *testing.T) {
	canMount(t)
	needRoot(t) // to become nobody
	need(t, "fusermount3", "setpriv", "cat")
	if st, err := os.Stat("/dev/fuse"); err != nil || st.Mode().Perm()&0o6 != 0o6 {
		t.Skipf("%s: /dev/fuse is not for everyone (%v)", t.Name(), st.Mode())
	}
	dir, err := os.MkdirTemp("", "fusefs")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const nobody = 65534
	point := filepath.Join(dir, "point")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(point, 0o755), os.Chown(point, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	program := publicCopy(t, dir)
	as := &syscall.Credential{Uid: nobody, Gid: nobody}
	cat := func() ([]byte, error) {
		return exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", point+"/disk").Output()
	}

	d := startDaemon(t, program, point, as)
	if b, err := cat(); err != nil || !bytes.Equal(b, want(0, 1<<20)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := os.Stat(point); !errors.Is(err, os.ErrPermission) {
		t.Errorf("another user sees it: %v", err)
	}
	d.Process.Kill()
	d.Wait()

	d = startDaemon(t, program, point, as) // clears away the first
	if b, err := cat(); err != nil || !bytes.Equal(b, want(0, 1<<20)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	// In use, and no way to force it: it must end nevertheless.
	user := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		"sh", "-c", "exec 3<"+point+"/disk; echo open; read x")
	stdin, _ := user.StdinPipe()
	stdout, _ := user.StdoutPipe()
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "open\n" {
		t.Fatalf("%q, %v", line, err)
	}
	d.stdin.Close()
	rest, _ := io.ReadAll(d.out)
	if err := d.Wait(); err != nil {
		t.Errorf("daemon: %v: %s", err, rest)
	}
	stdin.Close()
	user.Wait()
	if names, err := os.ReadDir(point); err != nil || len(names) != 0 {
		t.Errorf("after: %v, %v", names, err)
	}
}

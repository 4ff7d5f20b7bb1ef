//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/fusefs"
)

const heldSize = 64 << 20

// turn serves a held mount of which descriptor 3 is a part. Reads take
// a millisecond, so that some are under way at any instant; of the last page they
// wait for ever.
func turn(size string) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		panic(err)
	}
	p, f := patternFile(n)
	p.before = func(ctx context.Context, off, n int64) error {
		wait := time.Millisecond
		if off+n == p.size && os.Getenv("FUSEFS_TEST_STUCK") != "" {
			fmt.Println("stuck")
			wait = time.Hour
		}
		if os.Getenv("FUSEFS_TEST_PANIC") != "" {
			panic("reader")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
			return nil
		}
	}
	f.Name = "disk"
	t, err := fusefs.ServeFile(os.NewFile(3, "lent"), f, fusefs.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("serving")
	told := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(told)
	}()
	select {
	case <-t.Done():
		fmt.Println("over")
	case <-told:
		t.Leave()
		fmt.Println("left")
	}
}

func held(t testing.TB, opt fusefs.Options, below ...string) *fusefs.Held {
	t.Helper()
	canMount(t)
	needRoot(t)
	h, err := fusefs.Hold(filepath.Join(append([]string{t.TempDir()}, below...)...), opt)
	if errors.Is(err, fusefs.ErrNoResend) {
		t.Skipf("%s: %v", t.Name(), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// startTurn has a process serve h and returns when it says so.
func startTurn(t testing.TB, h *fusefs.Held, env ...string) process {
	t.Helper()
	lent, err := h.Lend()
	if err != nil {
		t.Fatal(err)
	}
	defer lent.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "FUSEFS_TEST_TURN="+strconv.Itoa(heldSize)), env...)
	cmd.ExtraFiles = []*os.File{lent}
	p := started(t, cmd)
	t.Cleanup(func() { p.kill(t) })
	p.says(t, "serving")
	return p
}

// kill ends p by SIGKILL, if it still runs, and returns when it is gone.
func (p process) kill(t testing.TB) {
	t.Helper()
	if err := p.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	p.Wait()
}

// readers is a process in which 16 read random runs of the file past the page
// cache until standard input ends, check each byte, and say how many reads that
// were and how long the slowest took.
func readers(path string) {
	var stop atomic.Bool
	var reads, slowest atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for buf := alignedPages(128 << 10); err == nil && !stop.Load(); reads.Add(1) {
				b := buf[:4096<<random.IntN(6)]
				start := time.Now()
				err = readRun(fd, b, random.Int64N((heldSize-int64(len(b)))/4096)*4096)
				took := int64(time.Since(start))
				for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
				}
			}
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		})
	}
	io.Copy(io.Discard, os.Stdin)
	for n := reads.Load(); reads.Load() < n+100; { // some more, of those who are there now
		time.Sleep(time.Millisecond)
	}
	stop.Store(true)
	all.Wait()
	fmt.Printf("%d reads, the slowest took %v\n", reads.Load(), time.Duration(slowest.Load()))
}

func readRun(fd int, b []byte, off int64) error {
	n, err := unix.Pread(fd, b, off)
	if err != nil || n != len(b) {
		return fmt.Errorf("offset %d: %d bytes of %d, %v", off, n, len(b), err)
	}
	if !bytes.Equal(b, want(off, n)) {
		return fmt.Errorf("offset %d: %d wrong bytes", off, n)
	}
	return nil
}

func startReaders(t testing.TB, path string) process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "FUSEFS_TEST_READ="+path)
	return started(t, cmd)
}

// Processes that serve are killed at random instants while 16 read.
func TestHeldKilled(t *testing.T) {
	kills := 5
	if os.Getenv("CARAVEL_LONG") != "" {
		kills = 50
	}
	h := held(t, fusefs.Options{})
	p := startTurn(t, h)
	r := startReaders(t, filepath.Join(h.Dir, "disk"))
	for range kills {
		time.Sleep(time.Duration(rand.IntN(100_000)) * time.Microsecond)
		p.kill(t)
		p = startTurn(t, h)
	}
	r.stdin.Close()
	said := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(r.out)
		said <- string(all)
	}()
	select {
	case s := <-said:
		t.Logf("%d kills: %s", kills, s)
	case <-time.After(20 * time.Second):
		t.Error("readers hang")
		h.Close() // lets them go
		p.kill(t)
	}
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
}

// lastPage is a process that reads the last page of the held file in dir.
func lastPage(t *testing.T, dir string) (dd process, out *bytes.Buffer) {
	t.Helper()
	need(t, "dd")
	cmd := exec.Command("dd", "if="+filepath.Join(dir, "disk"), "iflag=direct", "bs=4096", "skip="+strconv.Itoa(heldSize/4096-1))
	out = new(bytes.Buffer)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return process{Cmd: cmd}, out
}

func (p process) says(t testing.TB, want string) {
	t.Helper()
	if line, err := p.out.ReadString('\n'); line != want+"\n" {
		t.Fatalf("%q, %v, want %q", line, err, want)
	}
}

// A turn that ends by itself leaves to the next what it has not answered.
func TestHeldLeave(t *testing.T) {
	h := held(t, fusefs.Options{})
	p := startTurn(t, h, "FUSEFS_TEST_STUCK=1")
	dd, got := lastPage(t, h.Dir)
	p.says(t, "stuck")
	p.stdin.Close()
	p.says(t, "left")
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	startTurn(t, h)
	if err := dd.Wait(); err != nil || !bytes.Equal(got.Bytes(), want(heldSize-4096, 4096)) {
		t.Errorf("%v, %d bytes", err, got.Len())
	}
}

// A turn can be left though its Reader has panicked.
func TestHeldPanic(t *testing.T) {
	h := held(t, fusefs.Options{})
	p := startTurn(t, h, "FUSEFS_TEST_PANIC=1")
	dd, _ := lastPage(t, h.Dir)
	if err := dd.Wait(); err == nil {
		t.Error("read in spite of the panic")
	}
	hung := time.AfterFunc(10*time.Second, func() { p.Process.Kill() })
	defer hung.Stop()
	p.stdin.Close()
	p.says(t, "left")
}

// Who serves goes on when the holder has died, until nobody has the file open.
func TestHeldAlone(t *testing.T) {
	need(t, "sh", "cat")
	h := held(t, fusefs.Options{})
	p := startTurn(t, h)
	path := filepath.Join(h.Dir, "disk")
	user := started(t, exec.Command("sh", "-c", "exec 3<"+path+"; echo open; read x; cat <&3 | cmp - "+onDisk(t)+" && echo same"))
	user.says(t, "open")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still to be seen: %v", err)
	}
	user.stdin.Close()
	user.says(t, "same")
	if err := user.Wait(); err != nil {
		t.Error(err)
	}
	p.says(t, "over")
}

func onDisk(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "like")
	if err := os.WriteFile(path, want(0, heldSize), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A read that waits for the next turn fails when there will be none.
func TestHeldGivenUp(t *testing.T) {
	h := held(t, fusefs.Options{})
	p := startTurn(t, h, "FUSEFS_TEST_STUCK=1")
	dd, got := lastPage(t, h.Dir)
	p.says(t, "stuck")
	p.kill(t)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := dd.Wait(); err == nil || got.Len() > 0 {
		t.Errorf("%v, %d bytes", err, got.Len())
	}
}

func TestServeFileRefuses(t *testing.T) {
	h := held(t, fusefs.Options{})
	lent, err := h.Lend()
	if err != nil {
		t.Fatal(err)
	}
	defer lent.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, f := patternFile(heldSize)
	f.Name = "disk"
	each := f
	each.Reader, each.Open = nil, func() fusefs.Reader { return f.Reader }
	for _, tt := range []struct {
		lent *os.File
		file fusefs.File
		want string
	}{
		{null, f, `"disk": take over: socket operation on non-socket`},
		{lent, fusefs.File{}, "no name for a file"},
		{lent, each, `"disk": a held file wants one reader for all`},
	} {
		if _, err := fusefs.ServeFile(tt.lent, tt.file, fusefs.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q in it", err, tt.want)
		}
	}
}

// Hold removes the directory that it has made.
func TestHoldMakes(t *testing.T) {
	h := held(t, fusefs.Options{Mkdir: true}, "new")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(h.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is there: %v", err)
	}
	if _, err := h.Lend(); err == nil {
		t.Error("lent what is closed")
	}
}

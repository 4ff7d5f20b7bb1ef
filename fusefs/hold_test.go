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

func held(t testing.TB, opt fusefs.Options) *fusefs.Held {
	t.Helper()
	canMount(t)
	needRoot(t)
	h, err := fusefs.Hold(t.TempDir(), opt)
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
	if line, err := p.out.ReadString('\n'); line != "serving\n" {
		t.Fatalf("%q, %v", line, err)
	}
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

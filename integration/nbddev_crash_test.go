//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Jobs read a device past the page cache, each here and there, and compare.
type jobs struct {
	t    *testing.T
	stop chan struct{}
	once sync.Once      // closes it
	done []atomic.Int64 // reads of each job
	all  sync.WaitGroup
}

// readers starts n jobs, which end with the test at the latest.
func readers(t *testing.T, device string, want []byte, n int) *jobs {
	t.Helper()
	j := &jobs{t: t, stop: make(chan struct{}), done: make([]atomic.Int64, n)}
	t.Cleanup(j.end)
	for i := range n {
		f, err := os.OpenFile(device, os.O_RDONLY|syscall.O_DIRECT, 0)
		if err != nil {
			t.Fatal(err)
		}
		j.all.Go(func() {
			defer f.Close()
			j.read(f, want, i)
		})
	}
	return j
}

func (j *jobs) read(f *os.File, want []byte, i int) {
	const block = 4096
	b := make([]byte, 2*block)
	b = b[block-int(uintptr(unsafe.Pointer(&b[0]))%block):][:block] // aligned
	random := rand.New(rand.NewPCG(uint64(i), 1))
	for {
		select {
		case <-j.stop:
			return
		case <-time.After(2 * time.Millisecond): // leaves the machine time for others
		}
		off := random.IntN(len(want)/block) * block
		if _, err := f.ReadAt(b, int64(off)); err != nil {
			j.t.Errorf("job %d: read at %d: %v", i, off, err)
			return
		}
		if !bytes.Equal(b, want[off:off+block]) {
			j.t.Errorf("job %d: other bytes at %d", i, off)
			return
		}
		j.done[i].Add(1)
	}
}

// goOn waits until each job has read more.
func (j *jobs) goOn() {
	j.t.Helper()
	for i := range j.done {
		from := j.done[i].Load()
		for deadline := time.Now().Add(time.Minute); j.done[i].Load() < from+5; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) || j.t.Failed() {
				j.t.Fatalf("job %d does not go on", i)
			}
		}
	}
}

func (j *jobs) end() {
	j.once.Do(func() { close(j.stop) })
	j.all.Wait()
}

// testNBDKilled kills mkdev while 16 jobs of fio read, and starts it again: they go
// on as if nothing had been. What had been asked is asked again after --timeout and
// 10 s.
func testNBDKilled(t *testing.T) {
	need(t, "fio")
	args := []string{"--timeout=1s", fioImage(t), filepath.Join(t.TempDir(), "link")}
	server, device := nbdAttached(t, args...)
	f := startFio(t, 16, "--filename="+device, "--direct=1", "--ioengine=psync")
	kills := times(3, 50)
	for range kills {
		f.goOn()
		server.stop(syscall.SIGKILL)
		again, where := nbdAttached(t, args...)
		if where != device {
			t.Fatalf("%s, want %s again", where, device)
		}
		server = again
	}
	f.goOn()
	reads, longest := f.ends()
	t.Logf("%d kills: %d reads, all right; the longest took %v", kills, reads, longest.Round(time.Millisecond))
	if limit := 25 * time.Second; longest > limit {
		t.Errorf("a read took %v, more than %v", longest, limit)
	}
	nbdEnds(t, server, device)
}

// testNBDSupervised kills and replaces the worker below a mounted file system
// that is read all the time.
func testNBDSupervised(t *testing.T) {
	need(t, "mkfs.ext4", "mount")
	tree := t.TempDir()
	for i := range 30 {
		recipe{seed: uint64(i), size: 20_000 * i, kind: "random"}.write(t, filepath.Join(tree, fmt.Sprint(i)))
	}
	image := filepath.Join(t.TempDir(), "image")
	must(t, "mkfs.ext4", "-q", "-F", "-d", tree, image, "16M")
	server, device := nbdAttached(t, "--supervise", "--timeout=1s", image)
	dir := t.TempDir()
	must(t, "mount", "-t", "ext4", "-o", "ro", device, dir)
	j := readers(t, device, read(t, image), 4)
	worker := func() int { return nbdList(t, device).PID }
	changed := func(what string, from int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); worker() == from || worker() == 0; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: process %d still serves: %s", what, from, server.stderr)
			}
		}
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			same(t, filepath.Join(dir, fmt.Sprint(i)), filepath.Join(tree, fmt.Sprint(i)))
		}
		j.goOn()
	}
	for range times(2, 10) {
		j.goOn()
		old := worker()
		must(t, "kill", "-HUP", fmt.Sprint(server.cmd.Process.Pid))
		changed("replaced", old)
	}
	if text := server.stderr.String(); strings.Contains(text, "WARN") {
		t.Errorf("not handed over: %s", text)
	}
	for range times(1, 10) {
		j.goOn()
		old := worker()
		must(t, "kill", "-KILL", fmt.Sprint(old))
		changed("killed", old)
	}
	j.end()
	must(t, "umount", dir)
	nbdEnds(t, server, device)
}

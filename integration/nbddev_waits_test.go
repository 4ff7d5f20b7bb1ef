//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
)

// directRead reads n bytes of a device past the page cache.
func directRead(device string, off int64, n int) ([]byte, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(p) }()
	_, err = f.ReadAt(p, off)
	return bytes.Clone(p), err
}

// linksOf are a process's sockets to the kernel, by their numbers.
func linksOf(t *testing.T, d *daemon) (all []string) {
	t.Helper()
	known := string(read(t, "/proc/net/unix"))
	for _, to := range d.descriptors() {
		number, ok := strings.CutPrefix(strings.TrimSuffix(to, "]"), "socket:[")
		if ok && strings.Contains(known, " "+number) {
			all = append(all, number)
		}
	}
	slices.Sort(all)
	return all
}

// lostLinks counts what the kernel says of links to a device that were too slow.
func lostLinks(t *testing.T, device string) (n int) {
	t.Helper()
	for line := range strings.Lines(must(t, "dmesg")) {
		if strings.Contains(line, filepath.Base(device)+": ") && strings.Contains(line, "timed out") {
			n++
		}
	}
	return n
}

// ailing has a web server answer requests for chunks in the way that fault says, as
// long as that is set.
func ailing(t *testing.T, d *disk) (url string, fault *atomic.Pointer[origin.Fault], asked <-chan struct{}) {
	t.Helper()
	fault = &atomic.Pointer[origin.Fault]{}
	c := make(chan struct{}, 1)
	o := serveDir(t, d.dir, origin.Options{Faults: func(_ int64, path string) origin.Fault {
		f := fault.Load()
		if f == nil || !strings.HasSuffix(path, ".cacnk") {
			return origin.Fault{}
		}
		select {
		case c <- struct{}{}:
		default:
		}
		return *f
	}})
	return o.URL() + "/disk.caibx", fault, c
}

// testNBDHangs reads much at once from a server that hangs, more than the memory
// that a client elsewhere gets: each read fails in time, and costs no link.
func testNBDHangs(t *testing.T) {
	const reads, size = 90, 1 << 20
	d := newDisk(t, reads*size, "--chunk-size=256K")
	url, fault, _ := ailing(t, d)
	server, device := nbdAttached(t, "--timeout=11s", "--no-sweep", "--connections=1", url)
	writeFile(t, "/sys/block/"+filepath.Base(device)+"/queue/max_sectors_kb", []byte("1024"))
	links, lost := linksOf(t, server), lostLinks(t, device)
	fault.Store(&origin.Fault{Kind: origin.Hang})
	begun := time.Now()
	var all sync.WaitGroup
	for i := range reads - 8 { // the first ones are here already
		all.Go(func() {
			if _, err := directRead(device, int64(i+8)*size, size); !isEIO(err) {
				t.Errorf("read %d: %v, want EIO", i, err)
			}
			if took := time.Since(begun); took < 10*time.Second || took > 21*time.Second {
				t.Errorf("read %d took %v, want 10 to 21 s", i, took)
			}
		})
	}
	all.Wait()
	t.Logf("%d reads failed within %v", reads-8, time.Since(begun).Round(100*time.Millisecond))
	if n := lostLinks(t, device) - lost; n != 0 {
		t.Errorf("%d links were too slow", n)
	}
	if now := linksOf(t, server); len(links) != 1 || !slices.Equal(now, links) {
		t.Errorf("links %v, want %v still", now, links)
	}
	fault.Store(nil)
	eventually(t, "reads are right again", func() bool {
		got, err := directRead(device, 20*size, size)
		return err == nil && bytes.Equal(got, d.data[20*size:21*size])
	})
	nbdEnds(t, server, device)
}

// testNBDSlowReplaced replaces a process that waits for a slow server: it answers
// before it goes.
func testNBDSlowReplaced(t *testing.T) {
	const late, off = 12 * time.Second, 4 << 20
	d := newDisk(t, 8<<20, "--chunk-size=64K")
	url, fault, asked := ailing(t, d)
	server, device := nbdAttached(t, "--supervise", "--timeout=30s", "--no-sweep", url)
	old, lost := nbdList(t, device).PID, lostLinks(t, device)
	fault.Store(&origin.Fault{Late: late})
	done := make(chan error, 1)
	begun := time.Now()
	go func() {
		got, err := directRead(device, off, 4096)
		if err == nil && !bytes.Equal(got, d.data[off:off+4096]) {
			err = fmt.Errorf("other bytes")
		}
		done <- err
	}()
	waitFor(t, "a chunk is asked for", asked)
	must(t, "kill", "-HUP", fmt.Sprint(server.cmd.Process.Pid))
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took < late || took > 2*late {
		t.Errorf("the read took %v, the server %v", took, late)
	}
	fault.Store(nil)
	eventually(t, "another process serves the device", func() bool {
		pid := nbdList(t, device).PID
		return pid != 0 && pid != old
	})
	holds(t, device, d.data)
	if text := server.stderr.String(); strings.Contains(text, "WARN") {
		t.Errorf("not handed over: %s", text)
	}
	if n := lostLinks(t, device) - lost; n != 0 {
		t.Errorf("%d links were too slow", n)
	}
	nbdEnds(t, server, device)
}

// testNBDDead has nobody serve a device for longer than --dead-timeout: reads fail
// from then on, until somebody does.
func testNBDDead(t *testing.T) {
	image, data := nbdImage(t, 13, 1<<20)
	args := []string{"--dead-timeout=2s", "--timeout=1s", image, filepath.Join(t.TempDir(), "link")}
	server, device := nbdAttached(t, args...)
	server.stop(syscall.SIGKILL)
	for n := range 2 {
		begun := time.Now()
		if _, err := directRead(device, 0, 4096); !isEIO(err) {
			t.Errorf("read %d: %v, want EIO", n, err)
		}
		took := time.Since(begun)
		t.Logf("read %d failed after %v", n, took)
		if took > 15*time.Second || n == 0 && took < time.Second {
			t.Errorf("read %d: not within 2 s", n)
		}
	}
	again, where := nbdAttached(t, args...)
	if where != device {
		t.Fatalf("%s, want %s again", where, device)
	}
	if got, err := directRead(device, 4096, 4096); err != nil || !bytes.Equal(got, data[4096:8192]) {
		t.Errorf("other bytes, %v", err)
	}
	nbdEnds(t, again, device)
}

package nbddev_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/diskuse"
	"caravel/nbd"
	"caravel/nbddev"
)

// canAttach skips t, and says why, where there are no nbd devices.
func canAttach(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("%s: not root", t.Name())
	}
	if _, err := nbddev.List(); errors.Is(err, nbddev.ErrNoDriver) {
		t.Skipf("%s: the kernel has no nbd driver", t.Name())
	} else if err != nil {
		t.Fatal(err)
	}
}

type memory []byte

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

// disk is size bytes that tell seed.
func disk(seed byte, size int) memory {
	m := make(memory, size)
	for i := range m {
		m[i] = seed ^ byte(i) ^ byte(i>>8)
	}
	return m
}

// answer serves m.
func answer(t *testing.T, m memory) func(context.Context, net.Conn) error {
	t.Helper()
	s, err := nbd.NewServer([]nbd.Export{{Name: "disk", Size: int64(len(m)), Reader: m}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, c net.Conn) error { return s.ServeKernel(ctx, c, "disk") }
}

func attach(t *testing.T, index int, m memory, c nbddev.Config) (*nbddev.Device, *nbddev.Serving) {
	t.Helper()
	links, err := nbddev.NewLinks(2)
	if err != nil {
		t.Fatal(err)
	}
	s := nbddev.Serve(links, answer(t, m))
	c.Size = int64(len(m))
	d, err := nbddev.Attach(index, links, c)
	if err != nil {
		s.Stop()
		t.Fatal(err)
	}
	s.Of(d)
	t.Cleanup(func() { d.Detach(); s.Stop() })
	if err := d.Announced(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d, s
}

func holds(t *testing.T, d *nbddev.Device, want memory) {
	t.Helper()
	if got, err := os.ReadFile(d.Path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v; want %d others", d.Path, len(got), err, len(want))
	}
}

func readOnly(t *testing.T, d *nbddev.Device) string {
	t.Helper()
	b, err := os.ReadFile("/sys/block/" + filepath.Base(d.Path) + "/ro")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// shut closes the server's ends of links.
func shut(links []*nbddev.Link) {
	for _, l := range links {
		l.Conn.Close()
	}
}

func TestAttach(t *testing.T) {
	canAttach(t)
	m := disk(1, 1<<20)
	d, s := attach(t, nbddev.Any, m, nbddev.Config{Identity: "test:1", BlockSize: 1024})
	holds(t, d, m)
	got, ok, err := nbddev.Look(d.Index)
	want := nbddev.State{Index: d.Index, Size: 1 << 20, BlockSize: 1024, Identity: "test:1"}
	if err != nil || !ok || got != want {
		t.Errorf("got %+v, %v, %v; want %+v", got, ok, err, want)
	}
	if all, err := nbddev.List(); err != nil || len(all) != 1 || all[0] != want {
		t.Errorf("list: %+v, %v", all, err)
	}

	if ro := readOnly(t, d); ro != "1" {
		t.Errorf("read-only: %s", ro)
	}

	f, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	var used *diskuse.InUseError
	if err := d.Detach(); !errors.As(err, &used) || !strings.Contains(err.Error(), "open by") {
		t.Errorf("in use: %v", err)
	}
	f.Close()

	if err := d.Detach(); err != nil {
		t.Fatal(err)
	}
	<-s.Over()
	if err := s.Stop(); err != nil {
		t.Errorf("served to the end: %v", err)
	}
	if err := d.Detach(); err != nil {
		t.Errorf("again: %v", err)
	}
	if d.Attached() {
		t.Error("still attached")
	}

	again, _ := attach(t, d.Index, m, nbddev.Config{})
	if again.Path != d.Path {
		t.Errorf("%s, want %s", again.Path, d.Path)
	}
	links, err := nbddev.NewLinks(1)
	if err != nil {
		t.Fatal(err)
	}
	defer shut(links)
	if _, err := nbddev.Attach(d.Index, links, nbddev.Config{Size: 512}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("attached twice: %v", err)
	}
}

func TestWritable(t *testing.T) {
	canAttach(t)
	d, _ := attach(t, nbddev.Any, disk(2, 4096), nbddev.Config{Writable: true})
	if ro := readOnly(t, d); ro != "0" {
		t.Errorf("read-only: %s", ro)
	}
}

// TestAttachAtOnce gives each a device of its own.
func TestAttachAtOnce(t *testing.T) {
	canAttach(t)
	for _, n := range []int{2, 8} {
		var all sync.WaitGroup
		var mu sync.Mutex
		taken := map[int]bool{}
		for i := range n {
			all.Go(func() {
				m := disk(byte(i), 64<<10)
				links, err := nbddev.NewLinks(1)
				if err != nil {
					t.Error(err)
					return
				}
				s := nbddev.Serve(links, answer(t, m))
				defer s.Stop()
				d, err := nbddev.Attach(nbddev.Any, links, nbddev.Config{Size: int64(len(m))})
				if err != nil {
					t.Error(err)
					return
				}
				s.Of(d)
				if err := d.Announced(t.Context()); err != nil {
					t.Error(err)
				}
				holds(t, d, m)
				mu.Lock()
				if taken[d.Index] {
					t.Errorf("%s is taken twice", d.Path)
				}
				taken[d.Index] = true
				all := len(taken)
				mu.Unlock()
				for all < n { // none is free again before each has one
					time.Sleep(time.Millisecond)
					mu.Lock()
					all = len(taken)
					mu.Unlock()
					if t.Failed() {
						break
					}
				}
				if err := d.Detach(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

// TestReattach lets a server go without a word, and has another go on.
func TestReattach(t *testing.T) {
	canAttach(t)
	m := disk(3, 1<<20)
	c := nbddev.Config{Identity: "test:3", DeadTimeout: time.Minute, Timeout: 2 * time.Second}
	d, s := attach(t, nbddev.Any, m, c)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if !d.Attached() {
		t.Fatal("gone")
	}
	c.Size = int64(len(m))

	other := c
	other.Identity = "test:other"
	links, err := nbddev.NewLinks(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := nbddev.At(d.Index).As(other).Reattach(links); !errors.Is(err, unix.EINVAL) {
		t.Errorf("another identity: %v", err)
	}
	shut(links)

	if links, err = nbddev.NewLinks(2); err != nil {
		t.Fatal(err)
	}
	next := nbddev.Serve(links, answer(t, m))
	again := nbddev.At(d.Index).As(c)
	if err := again.Reattach(links); err != nil {
		t.Fatal(err)
	}
	next.Of(again)
	holds(t, again, m)

	// What another process would do with its files.
	files, err := next.Files()
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if err := next.Stop(); err != nil {
		t.Fatal(err)
	}
	if links, err = nbddev.Resume(files); err != nil {
		t.Fatal(err)
	}
	last := nbddev.Serve(links, answer(t, m))
	last.Of(again)
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Log(err)
	}
	holds(t, again, m)
	if err := again.Detach(); err != nil {
		t.Error(err)
	}
	<-last.Over()
	if err := last.Stop(); err != nil {
		t.Error(err)
	}
}

// TestLostLink replaces a link that the server itself gave up.
func TestLostLink(t *testing.T) {
	canAttach(t)
	m := disk(4, 256<<10)
	links, err := nbddev.NewLinks(2)
	if err != nil {
		t.Fatal(err)
	}
	serve := answer(t, m)
	conns := make(chan net.Conn, 10)
	s := nbddev.Serve(links, func(ctx context.Context, c net.Conn) error {
		conns <- c
		err := serve(ctx, c)
		return err
	})
	d, err := nbddev.Attach(nbddev.Any, links, nbddev.Config{Size: int64(len(m)), Identity: "test:4", DeadTimeout: time.Minute, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.Of(d)
	for range 2 {
		(<-conns).Close()
	}
	for range 2 {
		<-conns
	}
	if err := d.Announced(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds(t, d, m)
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// TestServeUnattached ends with its links if no device comes of them.
func TestServeUnattached(t *testing.T) {
	links, err := nbddev.NewLinks(3)
	if err != nil {
		t.Fatal(err)
	}
	s := nbddev.Serve(links, answer(t, disk(5, 512)))
	if files, err := s.Files(); err != nil || len(files) > 3 {
		t.Errorf("%d files, %v", len(files), err)
	} else {
		for _, f := range files {
			f.Close()
		}
	}
	shut(links)
	s.Stop()
	if _, err := links[0].Conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && err != io.EOF {
		t.Errorf("still open: %v", err)
	}
}

func TestConfigRefused(t *testing.T) {
	for want, c := range map[string]nbddev.Config{
		"block size 1000":     {Size: 1000, BlockSize: 1000},
		"block size 8192":     {Size: 8192, BlockSize: 8192},
		"size 513":            {Size: 513},
		"size -512":           {Size: -512},
		"negative time limit": {DeadTimeout: -1},
		"not one line":        {Identity: "a\nb"},
	} {
		links, err := nbddev.NewLinks(1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nbddev.Attach(nbddev.Any, links, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q in it", c, err, want)
		}
		shut(links)
	}
}

func TestIndex(t *testing.T) {
	for path, want := range map[string]int{
		"/dev/nbd0": 0, "/dev/nbd12": 12,
		"/dev/nbd": -1, "/dev/nbd0p1": -1, "/dev/nbd01": -1, "/dev/nbd-1": -1, "/dev/nbd+1": -1, "nbd0": -1,
		"/dev/nbd99999999999999999999": -1, "/dev/sda": -1, "": -1,
	} {
		if n, ok := nbddev.Index(path); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v; want %d", path, n, ok, want)
		}
	}
}

func TestNoDriver(t *testing.T) {
	if _, err := os.Stat("/sys/module/nbd"); err == nil {
		t.Skip("there is one")
	}
	if _, err := nbddev.List(); err == nil || !strings.Contains(err.Error(), "modprobe nbd") {
		t.Errorf("got %v", err)
	}
}

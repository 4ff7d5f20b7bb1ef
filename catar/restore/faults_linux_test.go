package restore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/restore"
)

// TestTruncated cuts an archive at every record and inside of payloads.
func TestTruncated(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 200<<10) // three blocks and more
	packed := archive(t, plain, node{name: "a", body: "short"}, folder("d", node{name: "long", body: body}, link("l", "x")), node{name: "z", body: "end"})
	cuts := []int{0, 1, 63, 64, 100, 150, 200, 300, 1000, 4096, 1 << 20, 2 << 20, len(body), len(packed) - 300}
	for i := range 300 {
		cuts = append(cuts, len(packed)-1-i)
	}
	for _, cut := range cuts {
		s := newStage(t)
		if cut > len(packed)-300 && cut%3 != 0 {
			continue
		}
		_, err := extract(t, packed[:cut], s.dst, restore.Options{})
		wants(t, err, "truncated")
		for name, want := range map[string]string{"a": "short", "d/long": body, "z": "end"} {
			if _, err := os.Lstat(filepath.Join(s.dst, name)); err == nil {
				holds(t, filepath.Join(s.dst, name), want)
			}
		}
		s.unharmed(t)
	}
}

// TestClaims has archives claim to be terabytes long.
func TestClaims(t *testing.T) {
	packed := archive(t, plain, node{name: "f", body: "0123456789"})
	at := bytes.Index(packed, []byte("0123456789")) - 16
	binary.LittleEndian.PutUint64(packed[at:], 1<<40+16)
	for _, size := range []uint64{1<<40 + 16, math.MaxInt64, math.MaxUint64} {
		binary.LittleEndian.PutUint64(packed[at:], size)
		s := newStage(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := extract(t, packed, s.dst, restore.Options{})
		runtime.ReadMemStats(&after)
		wants(t, err, "catar: offset ")
		if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
			t.Errorf("%d bytes of memory", took)
		}
		if _, err := os.Lstat(s.dst + "/f"); err == nil {
			t.Error("it is there")
		}
		s.unharmed(t)
	}
}

func TestTargets(t *testing.T) {
	packed := archive(t, plain, node{name: "f", body: "x"})
	dir := tempDir(t)
	mustExtract(t, packed, dir+"/slashes//", restore.Options{})
	for name, want := range map[string]string{"file": "not a directory", "file/dst": "not a directory", "no/dst": "no such file", "loop": "too many levels"} {
		_ = os.WriteFile(dir+"/file", nil, 0o600)
		_ = os.Symlink("loop", dir+"/loop")
		_, err := extract(t, packed, filepath.Join(dir, name), restore.Options{})
		wants(t, err, "restore: "+filepath.Join(dir, name)+": ", want)
	}
	if err := errors.Join(os.Mkdir(dir+"/real", 0o755), os.Symlink("real", dir+"/named")); err != nil {
		t.Fatal(err)
	}
	mustExtract(t, packed, dir+"/named", restore.Options{}) // the user named it
	holds(t, dir+"/real/f", "x")
}

func TestReadOnlyTarget(t *testing.T) {
	at := mounted(t, "tmpfs", 1<<20)
	if err := unix.Mount("none", at, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("tmpfs cannot be made read-only here: %v", err)
	}
	_, err := extract(t, archive(t, plain, node{name: "f", body: "x"}), at, restore.Options{})
	wants(t, err, `restore: "f": read-only file system`)
	_, err = extract(t, archive(t, plain, folder("d")), at, restore.Options{})
	wants(t, err, `restore: "d": read-only file system`)
	_, err = extract(t, archive(t, plain), at+"/new", restore.Options{})
	wants(t, err, "new: read-only file system")
}

func TestDiskFull(t *testing.T) {
	at := mounted(t, "tmpfs", 1<<20)
	full := strings.Repeat("full", 1<<18)
	for name, tree := range map[string][]byte{
		"long":  archive(t, plain, node{name: "a", body: "x"}, node{name: "f", body: strings.Repeat(full, 3)}),
		"short": archive(t, plain, node{name: "a", body: "x"}, node{name: "e", body: full[:len(full)/2]}, node{name: "f", body: full}),
	} {
		dst := filepath.Join(at, name)
		_, err := extract(t, tree, dst, restore.Options{})
		wants(t, err, "no space left on device", `restore: "`)
		if _, err := os.Stat(dst + "/f"); err == nil {
			t.Error("it is there")
		}
		if found := parts(t, at); found != nil {
			t.Errorf("left behind: %q", found)
		}
		if err := os.RemoveAll(dst); err != nil {
			t.Fatal(err)
		}
	}
}

// endless gives an archive and then waits to be told to end, or goes on.
type endless struct {
	r    io.Reader
	then func([]byte) (int, error)
}

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.r.Read(p); err != io.EOF {
		return n, err
	}
	return e.then(p)
}

// TestCancel ends a restore in the middle of a long file, and among many short
// ones, and looks for what is left.
func TestCancel(t *testing.T) {
	long := archive(t, plain, node{name: "a", body: "done"}, node{name: "f", body: strings.Repeat("x", 4<<20)})[:2<<20]
	var kids []node
	for i := range 500 {
		kids = append(kids, node{name: fmt.Sprint(i), body: "short"}, link(fmt.Sprint("l", i), "x"))
	}
	many := archive(t, plain, kids...)
	for name, packed := range map[string][]byte{"long": long, "many": many[:len(many)/2]} {
		t.Run(name, func(t *testing.T) {
			dst := tempDir(t)
			mustExtract(t, archive(t, plain), tempDir(t), restore.Options{}) // what the runtime opens once
			fds, goroutines := descriptors(t), runtime.NumGoroutine()
			ctx, cancel := context.WithCancelCause(t.Context())
			stopped := errors.New("stopped")
			source := &endless{r: bytes.NewReader(packed), then: func(p []byte) (int, error) {
				cancel(stopped)
				return len(p), nil // goes on for ever, if it is let
			}}
			_, err := restore.Tree(ctx, catar.NewDecoder(source, catar.DecoderOptions{}), dst, restore.Options{NoSync: true})
			if !errors.Is(err, stopped) && (name == "long" || err == nil) {
				t.Errorf("got %v", err)
			}
			if got := descriptors(t); got != fds {
				t.Errorf("%d descriptors, not %d", got, fds)
			}
			for began := time.Now(); runtime.NumGoroutine() > goroutines; runtime.Gosched() { // one that is done may not be gone yet
				if time.Since(began) > 10*time.Second {
					t.Fatalf("%d goroutines, not %d", runtime.NumGoroutine(), goroutines)
				}
			}
			if _, err := os.Lstat(dst + "/f"); err == nil {
				t.Error("half of a file is there")
			}
			if found := parts(t, dst); found != nil {
				t.Errorf("left behind: %q", found)
			}
		})
	}
}

// TestDescriptors: a wide and deep tree takes few of them.
func TestDescriptors(t *testing.T) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	deep := node{name: "leaf", body: "x"}
	for range 60 {
		deep = folder("d", deep, node{name: "f", body: "y"}, link("l", "f"))
	}
	var kids []node
	for i := range 500 {
		kids = append(kids, folder(fmt.Sprint("w", i), node{name: "f", body: "x"}))
	}
	packed := archive(t, plain, append(kids, deep)...)
	small := old
	small.Cur = uint64(descriptors(t) + 120)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &small); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)
	dst := tempDir(t)
	mustExtract(t, packed, dst, restore.Options{})
	if got := pack(t, dst, plain); !bytes.Equal(got, packed) {
		t.Error("packed again it is another archive")
	}
}

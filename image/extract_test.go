package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/image"
	"caravel/store"
)

func TestExtract(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	tests := []struct {
		name  string
		setup func(t *testing.T, path string)
		opt   image.ExtractOptions
		mode  fs.FileMode
	}{
		{"new", nil, image.ExtractOptions{}, 0o644},
		{"new in place", nil, image.ExtractOptions{InPlace: true}, 0o644},
		{"over a longer file", write(bytes.Repeat([]byte{7}, len(data)+5000), 0o600), image.ExtractOptions{}, 0o600},
		{"over a shorter file", write([]byte("short"), 0o755), image.ExtractOptions{}, 0o755},
		{"in place over a longer file", write(bytes.Repeat([]byte{7}, len(data)+5000), 0o600), image.ExtractOptions{InPlace: true}, 0o600},
		{"in place, zeros written", write(bytes.Repeat([]byte{7}, 1000), 0o600), image.ExtractOptions{InPlace: true, Fill: true}, 0o600},
		{"zeros written", nil, image.ExtractOptions{Fill: true, NoSync: true}, 0o644},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.img")
			if tt.setup != nil {
				tt.setup(t, path)
			}
			if _, err := image.Extract(t.Context(), x, s, path, tt.opt); err != nil {
				t.Fatal(err)
			}
			same(t, path, data)
			if names := leftovers(t, path); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
			if st, _ := os.Stat(path); tt.setup != nil && st.Mode() != tt.mode {
				t.Errorf("mode %v, want %v", st.Mode(), tt.mode)
			}
		})
	}
}

func write(b []byte, mode fs.FileMode) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, b, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExtractFollowsASymbolicLink(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	dir := t.TempDir()
	for _, existing := range []bool{true, false} {
		path, link := filepath.Join(dir, "disk.img"), filepath.Join(dir, "link")
		os.Remove(path)
		os.Remove(link)
		if existing {
			write([]byte("old"), 0o600)(t, path)
		}
		if err := os.Symlink("disk.img", link); err != nil {
			t.Fatal(err)
		}
		if _, err := image.Extract(t.Context(), x, s, link, image.ExtractOptions{}); err != nil {
			t.Fatal(err)
		}
		same(t, path, data)
		if st, err := os.Lstat(link); err != nil || st.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the link is gone: %v", err)
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	s := newShelf()
	x := made(t, s, content()).Index
	dir := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                             "is a directory",
		filepath.Join(dir, "loop"):      "too many levels",
		filepath.Join(dir, "no", "dir"): "no such file",
	} {
		_, err := image.Extract(t.Context(), x, s, path, image.ExtractOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", path, err, want)
		}
	}
}

// TestExtractContinues breaks a run in its middle: the target stays as it was,
// and the next run fetches only what is not there.
func TestExtractContinues(t *testing.T) {
	data := content()
	whole := newShelf()
	m := made(t, whole, data)
	for _, damage := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "disk.img")
		write([]byte("the former image"), 0o640)(t, path)

		broken := &shelf{plain: whole.plain, failAfter: 120}
		opt := image.ExtractOptions{InFlight: 4}
		_, err := image.Extract(t.Context(), m.Index, broken, path, opt)
		if !errors.Is(err, errShelf) || !strings.Contains(err.Error(), "run it again to continue") {
			t.Fatalf("got %v", err)
		}
		same(t, path, []byte("the former image"))
		part := leftovers(t, path)
		if len(part) != 1 {
			t.Fatalf("left behind: %v", part)
		}
		if damage {
			f, err := os.OpenFile(filepath.Join(filepath.Dir(path), part[0]), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("damage"), 5000); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		next := &shelf{plain: whole.plain}
		got, err := image.Extract(t.Context(), m.Index, next, path, opt)
		if err != nil {
			t.Fatal(err)
		}
		same(t, path, data)
		if got.Kept.Bytes == 0 || got.Kept.Bytes+got.Fetched.Bytes+got.Repeated.Bytes+got.Holes.Bytes != int64(len(data)) {
			t.Errorf("damage %v: %+v of %d", damage, got, len(data))
		}
		if left := leftovers(t, path); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestExtractInPlaceKeepsWhatIsRight(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	path := filepath.Join(t.TempDir(), "disk.img")
	old := bytes.Clone(data)
	copy(old[120_000:], "something where zeros belong")
	copy(old[60_000:], "something where noise belongs")
	write(old, 0o644)(t, path)
	s.gets.Store(0)
	got, err := image.Extract(t.Context(), x, s, path, image.ExtractOptions{InPlace: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, path, data)
	if s.gets.Load() > 3 {
		t.Errorf("fetched %d chunks for two changes: %+v", s.gets.Load(), got)
	}
}

func TestExtractCleansUpAfterOtherVersions(t *testing.T) {
	s := newShelf()
	old, now := made(t, s, noise(5, 200_000)).Index, made(t, s, noise(6, 200_000)).Index
	path := filepath.Join(t.TempDir(), "disk.img")
	broken := &shelf{plain: s.plain, failAfter: 50}
	if _, err := image.Extract(t.Context(), old, broken, path, image.ExtractOptions{InFlight: 2}); err == nil {
		t.Fatal("no error")
	}
	if names := leftovers(t, path); len(names) != 1 {
		t.Fatalf("left behind: %v", names)
	}
	if _, err := image.Extract(t.Context(), now, s, path, image.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	if names := leftovers(t, path); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// A gate is a shelf whose chunks wait until they are let go.
type gate struct {
	*shelf
	entered chan struct{}
	leave   chan struct{}
}

func (g *gate) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	g.entered <- struct{}{}
	<-g.leave
	return g.shelf.Get(ctx, want)
}

func TestExtractIsAloneAtItsTarget(t *testing.T) {
	data := noise(3, 3000)
	s := newShelf()
	x := made(t, s, data).Index
	path := filepath.Join(t.TempDir(), "disk.img")
	b := &gate{shelf: s, entered: make(chan struct{}, 100), leave: make(chan struct{})}
	first := make(chan error)
	go func() {
		_, err := image.Extract(t.Context(), x, b, path, image.ExtractOptions{})
		first <- err
	}()
	<-b.entered
	_, err := image.Extract(t.Context(), x, s, path, image.ExtractOptions{})
	if err == nil || !strings.Contains(err.Error(), "another run") {
		t.Errorf("got %v", err)
	}
	close(b.leave)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	same(t, path, data)
}

func TestExtractCancelled(t *testing.T) {
	s := newShelf()
	x := made(t, s, noise(3, 100_000)).Index
	path := filepath.Join(t.TempDir(), "disk.img")
	ctx, cancel := context.WithCancelCause(t.Context())
	b := &gate{shelf: s, entered: make(chan struct{}, 1000), leave: make(chan struct{})}
	go func() {
		<-b.entered
		cancel(errShelf)
		close(b.leave)
	}()
	if _, err := image.Extract(ctx, x, b, path, image.ExtractOptions{InFlight: 1}); !errors.Is(err, errShelf) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a target: %v", err)
	}
}

// TestExtractCancelledBefore gives no image to who has given up before anything was asked for,
// whatever the image consists of.
func TestExtractCancelledBefore(t *testing.T) {
	for name, data := range map[string][]byte{"bytes": content(), "zeros": make([]byte, 300_000), "nothing": nil} {
		s := newShelf()
		x := made(t, s, data).Index
		path := filepath.Join(t.TempDir(), "disk.img")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errShelf)
		if _, err := image.Extract(ctx, x, s, path, image.ExtractOptions{}); !errors.Is(err, errShelf) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is a target: %v", name, err)
		}
	}
}

// TestExtractToAnInheritedPipe writes to a pipe that has no name of its own.
func TestExtractToAnInheritedPipe(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", w.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no /proc: %v", err)
	}
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		got <- b
	}()
	_, err = image.Extract(t.Context(), x, s, path, image.ExtractOptions{})
	w.Close()
	if b := <-got; err != nil || !bytes.Equal(b, data) {
		t.Errorf("%d bytes of %d came: %v", len(b), len(data), err)
	}
}

// TestExtractCancelledWhilePipeIsFull ends a write that nobody will read.
func TestExtractCancelledWhilePipeIsFull(t *testing.T) {
	s := newShelf()
	x := made(t, s, noise(4, 2_000_000)).Index
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", w.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no /proc: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		_, _ = r.Read(make([]byte, 1)) // it is being written
		cancel(errShelf)
	}()
	if _, err := image.Extract(ctx, x, s, path, image.ExtractOptions{}); !errors.Is(err, errShelf) {
		t.Errorf("got %v", err)
	}
}

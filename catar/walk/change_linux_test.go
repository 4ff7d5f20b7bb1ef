package walk_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/walk"
)

// many is more nodes than are ever read ahead: what stands behind them was
// listed and not yet opened when the stream has just begun.
const many = 1000

// begun makes a directory with many files and those given behind them, and
// begins to pack it.
func begun(t *testing.T, files map[string]string) (dir string, r *walk.Reader, log *bytes.Buffer) {
	t.Helper()
	dir = t.TempDir()
	for i := range many {
		write(t, dir, map[string]string{fmt.Sprintf("a%04d", i): "before"})
	}
	write(t, dir, files)
	log = new(bytes.Buffer)
	r, err := walk.Open(t.Context(), dir, all, walk.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	return dir, r, log
}

func TestVanished(t *testing.T) {
	dir, r, log := begun(t, map[string]string{"b": "gone", "c/d": "gone", "e->f": "", "g": "there"})
	for _, name := range []string{"b", "c", "e"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if got, want := r.Stats(), (walk.Stats{Entries: 1 + many + 1, Vanished: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, name := range []string{"b", "c", "e"} {
		if want := "msg=\"vanished before it was packed\" path=" + dir + "/" + name; !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
}

// Whatever takes a name's place since the listing, it is not what is packed.
func TestBecameSomethingElse(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, map[string]string{"secret": "s3cret"})
	for _, tt := range []struct {
		name, was string
		now       func(p string) error
	}{
		{"file to link", "z", func(p string) error { return os.Symlink(outside+"/secret", p) }},
		{"file to directory", "z", func(p string) error { return os.Mkdir(p, 0o700) }},
		{"file to FIFO", "z", func(p string) error { return unix.Mkfifo(p, 0o600) }},
		{"file to socket", "z", func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) }},
		{"directory to link", "z/", func(p string) error { return os.Symlink(outside, p) }},
		{"directory to file", "z/", func(p string) error { return os.WriteFile(p, nil, 0o600) }},
		{"link to file", "z->x", func(p string) error { return os.WriteFile(p, nil, 0o600) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, r, _ := begun(t, map[string]string{tt.was: ""})
			p := filepath.Join(dir, "z")
			if err := os.RemoveAll(p); err != nil {
				t.Fatal(err)
			}
			if err := tt.now(p); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			_, err := io.Copy(&b, r)
			if want := "walk: " + p + ": became something else while it was packed"; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if bytes.Contains(b.Bytes(), []byte("s3cret")) {
				t.Error("a file outside of the tree was read")
			}
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("the next read says %v", again)
			}
		})
	}
}

// streaming makes a directory with a large file and reads into its middle.
func streaming(t *testing.T, sparse bool) (file string, r *walk.Reader, log *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "large")
	write(t, dir, map[string]string{"large": strings.Repeat("x", 1<<20)})
	if sparse {
		if err := os.Truncate(file, 4<<20); err != nil {
			t.Fatal(err)
		}
	}
	log = new(bytes.Buffer)
	r, err := walk.Open(t.Context(), dir, all, walk.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if _, err := io.ReadFull(r, make([]byte, 300<<10)); err != nil {
		t.Fatal(err)
	}
	return file, r, log
}

func TestShrinks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sparse bool
		want   string
	}{
		{"bytes", false, "524288 bytes are left of 1048576"},
		{"hole at the end", true, "524288 bytes are left of 4194304"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, r, _ := streaming(t, tt.sparse)
			if err := os.Truncate(file, 512<<10); err != nil {
				t.Fatal(err)
			}
			_, err := io.Copy(io.Discard, r)
			if want := "walk: " + file + ": changed while it was packed: " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestGrows(t *testing.T) {
	file, r, log := streaming(t, false)
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("more")
	}
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b.Bytes(), []byte("more")) {
		t.Error("packed longer than it was")
	}
	if want := "msg=\"changed while it was packed\" path=" + file; !strings.Contains(log.String(), want) {
		t.Errorf("the log has no %s:\n%s", want, log)
	}
}

// While a file and a directory are exchanged for links all the time, nothing
// outside of the tree gets into an archive.
func TestRace(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, outside, map[string]string{"f": "s3cret", "d/f": "s3cret"})
	write(t, dir, map[string]string{"f": "mine", "d/f": "mine", "d/g/f": "mine", "l/": ""})
	write(t, dir, map[string]string{"l/f->" + outside + "/f": "", "l/d->" + outside + "/d": ""})
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	for _, name := range []string{"f", "d"} {
		swapping.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, name), unix.AT_FDCWD, filepath.Join(dir, "l", name), unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	packed, changed := 0, 0
	for range 100 {
		b, _, err := pack(t, dir, all, walk.Options{})
		if err == nil {
			packed++
		} else if changed++; !strings.Contains(err.Error(), "became something else") {
			t.Errorf("got %v", err)
		}
		if bytes.Contains(b, []byte("s3cret")) {
			t.Fatal("a file outside of the tree was read")
		}
	}
	close(stop)
	swapping.Wait()
	t.Logf("%d packed, %d changed meanwhile", packed, changed)
}

package integration

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A disk is an image and what make made of it, in a folder of its own that can
// be served as it is.
type disk struct {
	dir   string
	image string // paths
	index string
	store string
	data  []byte // the image
}

// newDisk makes a disk of size random bytes, in chunks of 4 KiB unless flags
// say otherwise.
func newDisk(t testing.TB, size int, flags ...string) *disk {
	t.Helper()
	d := &disk{dir: t.TempDir()}
	d.image, d.index, d.store = d.path("disk.img"), d.path("disk.caibx"), d.path("default.castr")
	recipe{seed: uint64(size), size: size, kind: "random"}.write(t, d.image)
	d.data = read(t, d.image)
	must(t, caravel, append([]string{"make", "--no-sync", "--chunk-size=4K", d.index, d.image}, flags...)...)
	return d
}

func (d *disk) path(name string) string { return filepath.Join(d.dir, name) }

// A piece is a chunk of a disk.
type piece struct {
	ID    string `json:"id"`
	Start int64  `json:"start"`
	Size  int64  `json:"size"`
}

// chunks are the disk's, in its order.
func (d *disk) chunks(t testing.TB) []piece {
	t.Helper()
	var all []piece
	dec := json.NewDecoder(strings.NewReader(must(t, caravel, "list-chunks", "--json", d.index)))
	for dec.More() {
		var p piece
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// file is where a chunk lies, below a folder or a URL.
func (p piece) file(store string) string { return store + "/" + p.ID[:4] + "/" + p.ID + ".cacnk" }

// spoil changes a byte in the middle of a file.
func spoil(t testing.TB, path string) {
	t.Helper()
	b := read(t, path)
	b[len(b)/2] ^= 0xff
	replace(t, path, b)
}

// replace puts b in a file's place, whatever its mode is.
func replace(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o444); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// holds checks the bytes of a file.
func holds(t testing.TB, path string, want []byte) {
	t.Helper()
	if got := read(t, path); !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, not the %d that belong there", path, len(got), len(want))
	}
}

// absent checks that nothing has a name.
func absent(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s: there, want nothing (%v)", path, err)
	}
}

var chunkFile = regexp.MustCompile(`/[0-9a-f]{4}/[0-9a-f]{64}\.cacnk$`)

// leftovers are the files below a folder that are neither chunks nor named.
func leftovers(t testing.TB, dir string, named ...string) []string {
	t.Helper()
	known := map[string]bool{}
	for _, n := range named {
		known[filepath.Join(dir, n)] = true
	}
	var left []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !known[path] && !chunkFile.MatchString(path) {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// clean checks that a folder holds what is named, chunks, and nothing else.
func clean(t testing.TB, dir string, named ...string) {
	t.Helper()
	if left := leftovers(t, dir, named...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// complaint checks that a command failed in one line that has all of wants in
// it, shows the line and returns it.
func complaint(t testing.TB, r result, wants ...string) string {
	t.Helper()
	return complaintOf(t, r, 1, wants...)
}

func complaintOf(t testing.TB, r result, status int, wants ...string) string {
	t.Helper()
	text := strings.TrimSuffix(r.stderr, "\n")
	if r.status != status || strings.Contains(text, "\n") || !strings.HasPrefix(text, "caravel: ") {
		t.Errorf("status %d, want %d and one line:\n%s", r.status, status, r.stderr)
	}
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in: %s", want, text)
		}
	}
	t.Logf("status %d: %s", r.status, text)
	return text
}

// within runs a command and checks that it ends in time.
func within(t testing.TB, limit time.Duration, args ...string) result {
	t.Helper()
	began := time.Now()
	r := run(t, caravel, args...)
	if took := time.Since(began); took > limit {
		t.Errorf("caravel %s: took %s, want at most %s", strings.Join(args, " "), took, limit)
	}
	return r
}

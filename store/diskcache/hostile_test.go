//go:build unix

package diskcache_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/storetest"
)

func TestOpenRefuses(t *testing.T) {
	mark := marked(t)
	tests := []struct {
		name string
		make func(dir string) error
		want string
	}{
		{"other things", func(dir string) error { return os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600) }, `holds "thesis.tex" and is not marked`},
		{"another's mark", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(mark[:44]+"# of ccache"), 0o600)
		}, `holds "CACHEDIR.TAG" and is not marked`},
		{"a longer mark", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(mark+"more"), 0o600)
		}, `holds "CACHEDIR.TAG" and is not marked`},
		{"the mark is a link", func(dir string) error {
			there := filepath.Join(t.TempDir(), "mark")
			return errors.Join(os.WriteFile(there, []byte(mark), 0o600), os.Symlink(there, filepath.Join(dir, "CACHEDIR.TAG")))
		}, "CACHEDIR.TAG: too many levels of symbolic links"},
		{"others may write", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(mark), 0o600), os.Chmod(dir, 0o777))
		}, "others may write there (mode 0777)"},
		{"chunks is a link", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(mark), 0o600), os.Symlink(t.TempDir(), filepath.Join(dir, "chunks")))
		}, "chunks: not a directory"},
		{"the count is a folder", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(mark), 0o600), os.Mkdir(filepath.Join(dir, "usage"), 0o700))
		}, "usage: not a regular file"},
		{"the lock is a link", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(mark), 0o600), os.Symlink("/dev/null", filepath.Join(dir, "lock")))
		}, "lock: not a regular file"},
		{"a file", func(dir string) error { return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)) }, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(dir)
			c, err := diskcache.Open(dir, diskcache.Options{})
			if err == nil {
				c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "diskcache: "+dir) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if after, _ := os.ReadDir(dir); strings.HasPrefix(tt.want, "holds") && len(after) != len(before) {
				t.Errorf("something was made there: %v", after)
			}
		})
	}
	if _, err := diskcache.Open(t.TempDir(), diskcache.Options{Size: 1000}); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("a budget of 1000 bytes: %v", err)
	}
}

func TestAnotherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skipf("%s: not root", t.Name())
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := diskcache.Open(dir, diskcache.Options{}); err == nil || !strings.Contains(err.Error(), "belongs to user 12345, not to 0") {
		t.Errorf("got %v", err)
	}
}

// marked makes a cache and returns its mark.
func marked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, dir, diskcache.Options{}).Close()
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, error %v", fi.Mode(), err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A process that is killed while it marks the directory leaves it usable.
func TestUnfinishedMark(t *testing.T) {
	mark := marked(t)
	for _, n := range []int{0, 1, 50, len(mark) - 1, len(mark)} {
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(dir, 0o700), os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(mark[:n]), 0o600)); err != nil {
			t.Fatal(err)
		}
		open(t, dir, diskcache.Options{}).Close()
		if got, err := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG")); err != nil || string(got) != mark {
			t.Errorf("%d bytes of the mark: now %q, %v", n, got, err)
		}
	}
}

// Nothing is written outside the directory, whatever links lie in it.
func TestLinksLeadNowhere(t *testing.T) {
	dir, outside := filepath.Join(t.TempDir(), "cache"), t.TempDir()
	plain := storetest.Plains()[2]
	c := open(t, dir, diskcache.Options{})
	victim := filepath.Join(outside, "victim")
	reset := func() {
		if err := errors.Join(emptied(outside), os.WriteFile(victim, []byte("precious"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	folder, chunk := filepath.Dir(file(dir, plain)), file(dir, plain)
	tests := []struct {
		name  string
		links map[string]string
	}{
		{"a chunk", map[string]string{chunk: victim}},
		{"a folder of chunks", map[string]string{folder: outside}},
		{"a small file", map[string]string{filepath.Join(dir, "files/index/x"): victim}},
		{"a folder of small files", map[string]string{filepath.Join(dir, "files/index"): outside}},
		{"rooms", map[string]string{filepath.Join(dir, "chunks"): outside, filepath.Join(dir, "files"): outside}},
		{"tmp", map[string]string{filepath.Join(dir, "tmp"): outside}},
		{"the count", map[string]string{filepath.Join(dir, "usage"): victim, filepath.Join(dir, "lock"): victim}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reset()
			for from, to := range tt.links {
				if err := errors.Join(os.RemoveAll(from), os.MkdirAll(filepath.Dir(from), 0o700), os.Symlink(to, from)); err != nil {
					t.Fatal(err)
				}
			}
			put(t, c, plain)
			c.WriteFile("index/x", plain) // may fail, like Put
			c.Used("index/x")
			get(t.Context(), c, plain)
			c.ReadFile("index/x", 1<<20)
			c.Remove("index/x")
			names, err := os.ReadDir(outside)
			if b, readErr := os.ReadFile(victim); len(names) != 1 || err != nil || string(b) != "precious" || readErr != nil {
				t.Errorf("outside are %v, %q; errors %v, %v", names, b, err, readErr)
			}
			for from := range tt.links {
				if err := os.Remove(from); err != nil && !errors.Is(err, os.ErrNotExist) {
					os.RemoveAll(from)
				}
			}
		})
	}
}

// What lies where a chunk should be and is no file stops nobody.
func TestNoFile(t *testing.T) {
	dir, plain := t.TempDir(), storetest.Plains()[2]
	c := open(t, dir, diskcache.Options{})
	if err := os.MkdirAll(file(dir, plain), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context(), c, plain); !errors.Is(err, store.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	put(t, c, plain)
	if s := c.Stats(); s.Kept != 0 || s.Failed != 1 {
		t.Errorf("%+v", s)
	}
	// Nor others, whose places are free.
	if err := os.MkdirAll(filepath.Join(dir, "files/index/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteFile("index/x", plain); err == nil {
		t.Error("a small file was kept in the place of a folder")
	}
	put(t, c, storetest.Plains()[1])
	if s := c.Stats(); s.Kept != 1 {
		t.Errorf("%+v", s)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, diskcache.Options{})
	for _, name := range []string{"top", "index/0123abcd", "a-b/c.d_e"} {
		for _, content := range [][]byte{{}, []byte("one"), bytes.Repeat([]byte("two"), 10_000)} {
			if err := c.WriteFile(name, content); err != nil {
				t.Fatal(err)
			}
			got, err := c.ReadFile(name, int64(len(content)))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes, want %d; error %v", name, len(got), len(content), err)
			}
			if _, err := c.ReadFile(name, int64(len(content))-1); !errors.Is(err, store.ErrMissing) {
				t.Errorf("%s: longer than the limit: %v", name, err)
			}
		}
		if err := errors.Join(c.Remove(name), c.Remove(name)); err != nil {
			t.Error(err)
		}
		if _, err := c.ReadFile(name, 1<<20); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: after Remove: %v", name, err)
		}
	}
	for _, name := range []string{"", "/", "a/", "/a", "a/b/c", "..", "../x", "a/..", ".hidden", "a b", "a\x00", "ä", strings.Repeat("x", 300)} {
		_, err := c.ReadFile(name, 1)
		if err = errors.Join(err, c.WriteFile(name, nil), c.Remove(name)); err == nil || strings.Count(err.Error(), "want one or two words") != 3 {
			t.Errorf("%q: %v", name, err)
		}
		if path := c.Image(name); path != "" {
			t.Errorf("%q: image at %q", name, path)
		}
	}
}

// A small file that is not what was written is not there.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, diskcache.Options{})
	path, content := filepath.Join(dir, "files/index/x"), []byte("the index")
	if err := errors.Join(c.WriteFile("index/x", content), c.WriteFile("index/y", []byte("another"))); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	another, err := os.ReadFile(filepath.Join(dir, "files/index/y"))
	if err != nil {
		t.Fatal(err)
	}
	spoilt := [][]byte{nil, good[:10], good[:len(good)-1], append(bytes.Clone(good), 0), make([]byte, len(good)), another}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x20
		spoilt = append(spoilt, b)
	}
	for i, b := range spoilt {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := c.ReadFile("index/x", 1<<20); !errors.Is(err, store.ErrMissing) {
			t.Errorf("case %d: %q, %v", i, got, err)
		}
	}
	if err := c.WriteFile("index/x", content); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadFile("index/x", 1<<20); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%q, %v", got, err)
	}
}

// An unknown size bounds what is read all the same.
func TestHuge(t *testing.T) {
	dir, plain := t.TempDir(), storetest.Plains()[1]
	c := open(t, dir, diskcache.Options{})
	put(t, c, plain)
	if err := os.Truncate(file(dir, plain), 1<<40); err != nil {
		t.Skipf("%s: no sparse files: %v", t.Name(), err)
	}
	for _, size := range []int{0, len(plain)} {
		want := storetest.Want(plain)
		want.Size = size
		if _, err := c.Get(t.Context(), want); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(fmt.Sprint(err), want.ID.String()) {
			t.Errorf("size %d: got %v, want ErrCorrupt", size, err)
		}
		if ok, err := c.Has(t.Context(), want); ok || err != nil {
			t.Errorf("size %d: Has %v, %v", size, ok, err)
		}
	}
}

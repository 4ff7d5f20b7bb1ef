package local_test

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
	"time"

	"caravel/store"
	"caravel/store/local"
	"caravel/store/storetest"
)

// fill makes a directory of objects, by other means than ours.
func fill(t *testing.T, objects map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range objects {
		write(t, filepath.Join(dir, name), b)
	}
	return dir
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestBlobs(t *testing.T) {
	for _, opt := range []local.Options{{}, {Mode: 0o444}, {Sync: true}, {Follow: true}} {
		t.Run(fmt.Sprintf("%+v", opt), func(t *testing.T) {
			storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
				return local.New(fill(t, objects), opt)
			})
		})
	}
}

func TestStore(t *testing.T) {
	for _, f := range []store.Form{
		{}, {Either: true}, {Compression: store.None}, {Compression: store.None, Either: true}, {Compression: store.Gzip},
	} {
		t.Run(fmt.Sprintf("%v,either=%v", f.Compression, f.Either), func(t *testing.T) {
			storetest.RunStore(t, f, func(t *testing.T, objects map[string][]byte) store.Store {
				return store.Chunks(local.New(fill(t, objects), local.Options{}), f)
			})
			storetest.Run(t, func(t *testing.T) store.Writer {
				w, err := store.Writable(local.New(filepath.Join(t.TempDir(), "new.castr"), local.Options{Mode: 0o444}), f)
				if err != nil {
					t.Fatal(err)
				}
				return w
			})
		})
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, nil)
	tests := []struct {
		dir  string
		want string
	}{
		{dir, ""},
		{dir + "/none.castr/", dir + "/none.castr: no such store; name one with --store"},
		{file, "local: " + file + ": not a directory"},
	}
	for _, tt := range tests {
		got := ""
		if err := local.New(tt.dir, local.Options{}).Check(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestNamesStayInside(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), []byte("x"))
	dir := filepath.Join(outside, "store")
	write(t, filepath.Join(dir, "sub", "object"), []byte("x"))
	d := local.New(dir, local.Options{})
	for _, name := range []string{"", ".", "..", "../secret", "sub/../../secret", "/etc/passwd", filepath.Join(outside, "secret"), "sub//object", "sub/", "sub/object\x00"} {
		_, _, err := d.Open(t.Context(), name, store.Range{})
		if !errors.Is(err, store.ErrRefused) {
			t.Errorf("Open %q: got %v, want ErrRefused", name, err)
		}
		if err := d.Put(t.Context(), name, strings.NewReader("y"), 1); !errors.Is(err, store.ErrRefused) {
			t.Errorf("Put %q: got %v, want ErrRefused", name, err)
		}
		if err := d.Delete(t.Context(), name); !errors.Is(err, store.ErrRefused) {
			t.Errorf("Delete %q: got %v, want ErrRefused", name, err)
		}
	}
	for _, prefix := range []string{"../", "/", "sub/../../", "../secret"} {
		for name, err := range d.List(t.Context(), prefix) {
			if err == nil {
				t.Errorf("List %q: %q", prefix, name)
			}
		}
	}
}

func TestSymbolicLinks(t *testing.T) {
	dir := fill(t, map[string][]byte{"target": []byte("there")})
	for link, to := range map[string]string{"link": "target", "dangling": "/known/missing", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		opt   local.Options
		found map[string]bool
	}{
		{local.Options{}, map[string]bool{"target": true, "link": false, "dangling": false, "loop": false}},
		{local.Options{Follow: true}, map[string]bool{"target": true, "link": true, "dangling": false, "loop": false}},
	}
	for _, tt := range tests {
		d := local.New(dir, tt.opt)
		for name, found := range tt.found {
			body, _, err := d.Open(t.Context(), name, store.Range{})
			_, statErr := d.Stat(t.Context(), name)
			if found && (err != nil || statErr != nil) || !found && (!errors.Is(err, store.ErrMissing) || !errors.Is(statErr, store.ErrMissing)) {
				t.Errorf("%+v, %s: Open %v, Stat %v; want found %v", tt.opt, name, err, statErr, found)
			}
			if err == nil {
				body.Close()
			}
		}
	}
	// A marker for a missing chunk gives way to the chunk, not what it leads to.
	d := local.New(dir, local.Options{})
	if err := d.Put(t.Context(), "link", strings.NewReader("new"), 3); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "target")); string(b) != "there" {
		t.Errorf("Put wrote through the link: %q, %v", b, err)
	}
	if _, err := d.Stat(t.Context(), "link"); err != nil {
		t.Error(err)
	}
}

func TestPutMode(t *testing.T) {
	plainFile := filepath.Join(t.TempDir(), "like")
	write(t, plainFile, nil)
	fi, err := os.Stat(plainFile)
	if err != nil {
		t.Fatal(err)
	}
	umasked := fi.Mode().Perm()
	for mode, want := range map[fs.FileMode]fs.FileMode{0: umasked, 0o444: 0o444 & umasked, 0o600: 0o600} {
		dir := filepath.Join(t.TempDir(), "store")
		if err := local.New(dir, local.Options{Mode: mode}).Put(t.Context(), "a/b", strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(filepath.Join(dir, "a/b"))
		if err != nil || fi.Mode() != want {
			t.Errorf("mode %v: got %v, want %v; error %v", mode, fi.Mode(), want, err)
		}
	}
}

func TestPutWithoutParent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none", "store")
	err := local.New(dir, local.Options{}).Put(t.Context(), "a/b", strings.NewReader("x"), 1)
	if err == nil || errors.Is(err, store.ErrMissing) || err.Error() != "local: "+dir+": no such file or directory" {
		t.Errorf("got %v", err)
	}
}

// While an object is written, no name shows it.
func TestPutIsInvisible(t *testing.T) {
	for _, former := range []map[string][]byte{nil, {"a/b": []byte("former")}} {
		dir := fill(t, former)
		d := local.New(dir, local.Options{Sync: true})
		look := func() {
			got, _ := os.ReadFile(filepath.Join(dir, "a", "b"))
			if string(got) != string(former["a/b"]) {
				t.Errorf("half-written object shows: %q", got)
			}
			for name, err := range d.List(t.Context(), "") {
				if _, ok := former[name]; !ok {
					t.Errorf("listed %q, error %v", name, err)
				}
			}
		}
		r := io.MultiReader(strings.NewReader("half"), onRead(look), strings.NewReader("whole"))
		if err := d.Put(t.Context(), "a/b", r, -1); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "a", "b")); string(got) != "halfwhole" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

type onRead func()

func (f onRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestPutReplacesNoFolder(t *testing.T) {
	dir := fill(t, map[string][]byte{"folder/x": nil})
	d := local.New(dir, local.Options{})
	if err := d.Put(t.Context(), "folder", strings.NewReader("x"), 1); err == nil {
		t.Error("a folder was replaced")
	}
	if _, _, err := d.Open(t.Context(), "folder", store.Range{}); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Open of a folder: %v", err)
	}
	for name := range d.List(t.Context(), "") {
		if name != "folder/x" {
			t.Errorf("left %s behind", name)
		}
	}
}

func TestListSkipsUnfinished(t *testing.T) {
	d := local.New(fill(t, map[string][]byte{
		"abcd/x.cacnk":                      nil,
		"abcd/x.cacnk.0123456789abcdef.tmp": nil,
		"abcd/.tmp-cacnk123":                nil,
	}), local.Options{})
	for name, err := range d.List(t.Context(), "abcd/") {
		if name != "abcd/x.cacnk" || err != nil {
			t.Errorf("%q, error %v", name, err)
		}
	}
	none := local.New(filepath.Join(t.TempDir(), "none"), local.Options{})
	for name, err := range none.List(t.Context(), "") {
		if !errors.Is(err, store.ErrMissing) {
			t.Errorf("%q, error %v, want ErrMissing", name, err)
		}
	}
}

func TestShrunkFile(t *testing.T) {
	dir := fill(t, map[string][]byte{"x": bytes.Repeat([]byte("x"), 100)})
	body, _, err := local.New(dir, local.Options{}).Open(t.Context(), "x", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := os.Truncate(filepath.Join(dir, "x"), 10); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); len(got) != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	d := local.New(filepath.Join(dir, "default.castr"), local.Options{Mode: 0o444})
	w, err := store.Writable(d, store.Form{})
	if err != nil {
		fmt.Println(err)
		return
	}
	plain := []byte("plain bytes")
	want := storetest.Want(plain)
	c := store.NewChunk(want.ID, want.Digest, plain, nil)
	defer c.Release()
	ctx := context.Background()
	if err := errors.Join(w.Put(ctx, c), w.Sync(ctx)); err != nil {
		fmt.Println(err)
		return
	}
	for name, err := range d.List(ctx, "") {
		fmt.Println(name, err)
	}
	// Output: 8d2f/8d2f302aefdaeb19a2dbd03a387a8b223a3e37faa1f5cfeb4644c92d46360a52.cacnk <nil>
}

func BenchmarkGet(b *testing.B) {
	plain := storetest.Plains()[5][:60_000]
	for _, f := range []store.Form{{}, {Compression: store.None}} {
		b.Run(f.Compression.String(), func(b *testing.B) {
			w, err := store.Writable(local.New(filepath.Join(b.TempDir(), "store"), local.Options{}), f)
			if err != nil {
				b.Fatal(err)
			}
			want := storetest.Want(plain)
			c := store.NewChunk(want.ID, want.Digest, plain, nil)
			if err := w.Put(b.Context(), c); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				c, err := w.Get(b.Context(), want)
				if err == nil {
					err = c.Verify()
				}
				if err != nil {
					b.Fatal(err)
				}
				c.Release()
			}
		})
	}
}

// TestRenew: the time of an object that is read, or asked for, becomes that of now, once it is old
// enough, and with that right only.
func TestRenew(t *testing.T) {
	const hour = time.Hour
	tests := []struct {
		name string
		opt  local.Options
		age  time.Duration
		made bool // new
	}{
		{"old", local.Options{Renew: hour}, 25 * hour, true},
		{"an hour old", local.Options{Renew: hour}, hour, true},
		{"recent", local.Options{Renew: hour}, hour / 2, false},
		{"of tomorrow", local.Options{Renew: hour}, -24 * hour, false},
		{"not asked for", local.Options{}, 25 * hour, false},
	}
	for _, tt := range tests {
		dir := fill(t, map[string][]byte{"ab/chunk": []byte("bytes")})
		path := filepath.Join(dir, "ab", "chunk")
		was := time.Now().Add(-tt.age)
		if err := os.Chtimes(path, was, was); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o444); err != nil { // as chunks are
			t.Fatal(err)
		}
		want := tt.age
		if tt.made {
			want = 0
		}
		d := local.New(dir, tt.opt)
		if _, err := d.Stat(t.Context(), "ab/chunk"); err != nil {
			t.Error(err)
		}
		if age := ageOf(t, path); (age - want).Abs() > time.Minute {
			t.Errorf("%s: asked for, it is %v old, want %v", tt.name, age, want)
		}
		if err := os.Chtimes(path, was, was); err != nil {
			t.Fatal(err)
		}
		body, _, err := d.Open(t.Context(), "ab/chunk", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		if age := ageOf(t, path); (age - want).Abs() > time.Minute {
			t.Errorf("%s: read, it is %v old, want %v", tt.name, age, want)
		}
	}
}

func ageOf(t *testing.T, path string) time.Duration {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return time.Since(fi.ModTime())
}

// TestFile opens what Open would, and nothing else.
func TestFile(t *testing.T) {
	dir := fill(t, map[string][]byte{"ab/object": []byte("content"), "secret": []byte("secret")})
	if err := os.Symlink("../secret", filepath.Join(dir, "ab/link")); err != nil {
		t.Skip(err)
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(filepath.Join(dir, "ab/object"), old, old); err != nil {
		t.Fatal(err)
	}
	d := local.New(dir, local.Options{})
	f, info, err := d.File(t.Context(), "ab/object")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || string(got) != "content" || info.Size != 7 || !info.ModTime.Equal(old) {
		t.Errorf("%q, %+v, %v", got, info, err)
	}
	for name, want := range map[string]error{"ab/none": store.ErrMissing, "ab/link": store.ErrMissing, "ab": store.ErrMissing, "../secret": store.ErrRefused, "ab/../secret": nil} {
		f, _, err := d.File(t.Context(), name)
		if err == nil {
			f.Close()
			t.Errorf("%s is opened", name)
		} else if want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	used := local.New(dir, local.Options{Renew: time.Minute})
	if f, _, err := used.File(t.Context(), "ab/object"); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if st, err := os.Stat(filepath.Join(dir, "ab/object")); err != nil || !st.ModTime().After(old) {
		t.Errorf("not made new: %v", err)
	}
}

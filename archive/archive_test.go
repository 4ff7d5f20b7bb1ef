package archive

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"caravel/blockcache"
	"caravel/catar/tree"
	"caravel/chunker"
	"caravel/image"
	"caravel/index"
	"caravel/store/open"
)

// kinds are what an archive may be in, opened.
func kinds(t *testing.T, data []byte) map[string]Archive {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tree.catar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]Archive{
		"file":    NewFile(path, open.Options{}, nil),
		"pipe":    NewFile("-", open.Options{Stdin: io.MultiReader(bytes.NewReader(data))}, nil),
		"index":   indexed(t, data, func(*index.Index) IndexedOptions { return IndexedOptions{} }),
		"sidecar": indexed(t, data, func(x *index.Index) IndexedOptions { return withSidecar(t, x, data) }),
	}
}

// indexed is an archive that was cut into chunks.
func indexed(t *testing.T, data []byte, opt func(x *index.Index) IndexedOptions) *Indexed {
	t.Helper()
	s, err := open.Writer(filepath.Join(t.TempDir(), "default.castr"), open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := image.Make(t.Context(), bytes.NewReader(data), s, image.MakeOptions{Params: chunker.Around(4096), Flags: sampleFlags})
	if err != nil {
		t.Fatal(err)
	}
	begin := func() Image { return blockcache.New(made.Index, s, blockcache.Options{}) }
	return NewIndexed(made.Index, s, begin, opt(made.Index))
}

func TestStream(t *testing.T) {
	data := sample(t, 0o755)
	for name, a := range kinds(t, data) {
		if inOrder, skips := a.InOrder(), a.Skips(); inOrder != (name == "pipe") || skips != (name == "file") {
			t.Errorf("%s: in order %v, skips %v", name, inOrder, skips)
		}
		r, err := a.Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(data), err)
		}
		if err := errors.Join(r.Close(), a.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRandom(t *testing.T) {
	data := sample(t, 0o755)
	for name, a := range kinds(t, data) {
		t.Run(name, func(t *testing.T) {
			defer a.Close()
			r, err := a.Random(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for path, err := range r.Names(t.Context(), tree.Root) {
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, path)
			}
			if len(names) != 3 {
				t.Errorf("below the root: %q", names)
			}
			checkFile(t, r, data)
			if err := r.Complete(t.Context()); err != nil || r.Known() != (name == "sidecar") {
				t.Errorf("known %v, %v", r.Known(), err)
			}
		})
	}
}

// checkFile reads the file of a sample in all ways.
func checkFile(t *testing.T, r *Random, data []byte) {
	t.Helper()
	at, err := r.Find(t.Context(), "dir/file")
	if err != nil {
		t.Fatal(err)
	}
	off, size := r.Payload(at.ID)
	want := data[off : off+size]
	section, err := r.Section(t.Context(), off, size)
	if err != nil {
		t.Fatal(err)
	}
	defer section.Close()
	if got, err := io.ReadAll(section); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the section: %d bytes, %v", len(got), err)
	}
	b := make([]byte, 1000)
	n, err := r.File(off, size).ReadAt(t.Context(), b, size-600)
	if err != io.EOF || !bytes.Equal(b[:n], want[size-600:]) {
		t.Errorf("the end of the file: %d bytes, %v", n, err)
	}
	node, err := r.Stat(t.Context(), at.ID)
	if err != nil {
		t.Fatal(err)
	}
	payload, link, err := r.Digests(t.Context(), node, r.Span(at.ID))
	if err != nil || payload != sha512.Sum512_256(want) || link != sha512.Sum512_256(data[node.Head:off+size]) {
		t.Errorf("digests %v and %v, %v", payload, link, err)
	}
}

func TestEntriesAt(t *testing.T) {
	data := sample(t, 0o755)
	for path, want := range map[string]string{"": "/ /dir /dir/file /link", "dir": "/dir /dir/file", "link": "/link"} {
		for name, a := range kinds(t, data) {
			at, err := EntriesAt(t.Context(), a, path)
			if err != nil {
				t.Fatalf("%s, %q: %v", name, path, err)
			}
			if got := paths(t, at.All); got != want {
				t.Errorf("%s, %q: %s", name, path, got)
			}
			if err := errors.Join(at.Close(), a.Close()); err != nil {
				t.Errorf("%s, %q: %v", name, path, err)
			}
		}
	}
	for name, a := range kinds(t, data) {
		if err := missing(t.Context(), a); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// missing looks for what is not there.
func missing(ctx context.Context, a Archive) error {
	defer a.Close()
	at, err := EntriesAt(ctx, a, "dir/other")
	if err != nil {
		return err
	}
	defer at.Close()
	for _, err := range at.All {
		return err
	}
	return nil
}

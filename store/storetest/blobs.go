package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"caravel/store"
)

// RunBlobs tests a backend, and what it can do beyond Open. open returns one
// that holds the objects given.
func RunBlobs(t *testing.T, open func(t *testing.T, objects map[string][]byte) store.Blobs) {
	noise := Plains()[3]
	objects := map[string][]byte{
		"top":             []byte("0123456789"),
		"empty":           {},
		"abcd/abcdef.x":   noise,
		"abcd/abce":       noise[:5],
		"abce/f":          noise[5:90],
		"deep/er/er/tree": []byte("leaf"),
		"sp ace%41+?#&":   []byte("name"),
	}
	b := open(t, objects)
	t.Run("open", func(t *testing.T) { openAll(t, b, objects) })
	t.Run("ranges", func(t *testing.T) { ranges(t, b) })
	t.Run("missing", func(t *testing.T) { missing(t, b) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, b) })
	t.Run("tag", func(t *testing.T) { tags(t, b) })
	if r, ok := b.(store.Refresher); ok {
		t.Run("refresh", func(t *testing.T) { refresh(t, b, r) })
	}
	if s, ok := b.(store.Statter); ok {
		t.Run("stat", func(t *testing.T) { stat(t, s, objects) })
	}
	if l, ok := b.(store.Locator); ok {
		if got := l.Locate("abcd/abce"); !strings.HasSuffix(strings.ReplaceAll(got, `\`, "/"), "abcd/abce") {
			t.Errorf("Locate: %q", got)
		}
	}
	if l, ok := b.(store.Lister); ok {
		t.Run("list", func(t *testing.T) { list(t, l, objects) })
	}
	if p, ok := b.(store.Putter); ok {
		t.Run("put", func(t *testing.T) { putObjects(t, b, p) })
		t.Run("put spoilt", func(t *testing.T) { putSpoilt(t, b, p) })
		t.Run("put at once", func(t *testing.T) { putAtOnce(t, b, p) })
	}
	if d, ok := b.(store.Deleter); ok {
		t.Run("delete", func(t *testing.T) { del(t, b, d) })
	}
}

// read reads an object or a part of it.
func read(ctx context.Context, b store.Blobs, name string, r store.Range) ([]byte, store.Info, error) {
	body, info, err := b.Open(ctx, name, r)
	if err != nil {
		return nil, info, err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	return got, info, err
}

func wantObject(t *testing.T, b store.Blobs, name string, want []byte) {
	t.Helper()
	got, info, err := read(t.Context(), b, name, store.Range{})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, want %d; error %v", name, len(got), len(want), err)
	}
	if info.Size != int64(len(want)) && info.Size != -1 {
		t.Errorf("%s: Info.Size %d, want %d or -1", name, info.Size, len(want))
	}
}

func openAll(t *testing.T, b store.Blobs, objects map[string][]byte) {
	if b.String() == "" {
		t.Error("String: nothing")
	}
	var wg sync.WaitGroup
	for range 4 {
		for name, want := range objects {
			wg.Go(func() { wantObject(t, b, name, want) })
		}
	}
	wg.Wait()
}

func ranges(t *testing.T, b store.Blobs) {
	tests := []struct {
		r    store.Range
		want string
	}{
		{store.Range{Off: 0, Len: 1}, "0"},
		{store.Range{Off: 3, Len: 4}, "3456"},
		{store.Range{Off: 9, Len: 1}, "9"},
		{store.Range{Off: 4}, "456789"},
		{store.Range{Off: 8, Len: 100}, "89"},
		{store.Range{Len: 10}, "0123456789"},
	}
	for _, tt := range tests {
		got, info, err := read(t.Context(), b, "top", tt.r)
		if err != nil || string(got) != tt.want {
			t.Errorf("%+v: got %q, want %q; error %v", tt.r, got, tt.want, err)
		}
		if info.Size != 10 && info.Size != -1 {
			t.Errorf("%+v: Info.Size %d is not that of the whole object", tt.r, info.Size)
		}
	}
	for _, r := range []store.Range{{Off: 11}, {Off: 1 << 40, Len: 5}} {
		if got, _, err := read(t.Context(), b, "top", r); err == nil || errors.Is(err, store.ErrMissing) {
			t.Errorf("%+v, behind the end: got %q, error %v", r, got, err)
		}
	}
}

func missing(t *testing.T, b store.Blobs) {
	for _, name := range []string{"nothing", "abcd/nothing", "nowhere/nothing", "top/below"} {
		if _, _, err := read(t.Context(), b, name, store.Range{}); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: got %v, want ErrMissing", name, err)
		}
		if s, ok := b.(store.Statter); ok {
			if _, err := s.Stat(t.Context(), name); !errors.Is(err, store.ErrMissing) {
				t.Errorf("Stat %s: got %v, want ErrMissing", name, err)
			}
		}
	}
}

// tags binds reads to a version, if the backend can tell one from another.
func tags(t *testing.T, b store.Blobs) {
	_, info, err := read(t.Context(), b, "top", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []store.Range{{}, {Off: 3, Len: 4}, {Off: 10, Len: 1}} {
		want := "0123456789"[r.Off:]
		if r.Len > 0 {
			want = want[:min(r.Len, int64(len(want)))]
		}
		r.Tag = info.Tag
		got, again, err := read(t.Context(), b, "top", r)
		if err != nil || string(got) != want || again.Tag != info.Tag && len(want) > 0 {
			t.Errorf("%+v: got %q, tag %q, error %v; want %q", r, got, again.Tag, err, want)
		}
		if info.Tag == "" || want == "" { // of no bytes, an answer need not have a tag
			continue
		}
		r.Tag = `"another"`
		if got, _, err := read(t.Context(), b, "top", r); !errors.Is(err, store.ErrChanged) {
			t.Errorf("%+v: got %q, error %v; want ErrChanged", r, got, err)
		}
	}
	p, ok := b.(store.Putter)
	if info.Tag == "" || !ok {
		return
	}
	if err := p.Put(t.Context(), "top", strings.NewReader("other byte"), -1); err != nil {
		t.Fatal(err)
	}
	if got, _, err := read(t.Context(), b, "top", store.Range{Off: 3, Tag: info.Tag}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("after Put: got %q, error %v; want ErrChanged", got, err)
	}
	if err := p.Put(t.Context(), "top", strings.NewReader("0123456789"), -1); err != nil {
		t.Fatal(err)
	}
}

func refresh(t *testing.T, b store.Blobs, f store.Refresher) {
	again := func(name string, r store.Range, have store.Info) (string, store.Info, error) {
		body, info, err := f.Refresh(t.Context(), name, r, have)
		if err != nil {
			return "", info, err
		}
		defer body.Close()
		got, err := io.ReadAll(body)
		return string(got), info, err
	}
	const leaf, text = "deep/er/er/tree", "leaf" // which no other test has written
	_, info, err := read(t.Context(), b, leaf, store.Range{})
	if err != nil || info.Tag == "" {
		t.Fatalf("tag %q, error %v", info.Tag, err)
	}
	for _, r := range []store.Range{{}, {Len: 3}} {
		want := text[:cmp.Or(r.Len, int64(len(text)))]
		if got, _, err := again(leaf, r, info); !errors.Is(err, store.ErrUnchanged) {
			t.Errorf("%+v: got %q, error %v; want ErrUnchanged", r, got, err)
		}
		for _, have := range []store.Info{{}, {Tag: `"another"`}, {Tag: "an\nother"}, {Size: info.Size}} {
			if got, now, err := again(leaf, r, have); err != nil || got != want || now.Tag != info.Tag {
				t.Errorf("%+v with %+v: got %q, tag %q, error %v; want %q, %q", r, have, got, now.Tag, err, want, info.Tag)
			}
		}
	}
	if _, _, err := again("nothing", store.Range{}, info); !errors.Is(err, store.ErrMissing) {
		t.Errorf("missing: %v", err)
	}
	p, ok := b.(store.Putter)
	if !ok {
		return
	}
	// Of one size, but other bytes: some tags are a digest.
	if err := p.Put(t.Context(), leaf, strings.NewReader("loaf"), -1); err != nil {
		t.Fatal(err)
	}
	if got, now, err := again(leaf, store.Range{}, info); err != nil || got != "loaf" || now.Tag == info.Tag {
		t.Errorf("after Put: got %q, tag %q, error %v", got, now.Tag, err)
	}
	if err := p.Put(t.Context(), leaf, strings.NewReader(text), -1); err != nil {
		t.Fatal(err)
	}
}

func cancelled(t *testing.T, b store.Blobs) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := read(ctx, b, "top", store.Range{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func stat(t *testing.T, s store.Statter, objects map[string][]byte) {
	for name, want := range objects {
		info, err := s.Stat(t.Context(), name)
		if err != nil || info.Size != int64(len(want)) {
			t.Errorf("%s: size %d, want %d; error %v", name, info.Size, len(want), err)
		}
	}
}

func list(t *testing.T, l store.Lister, objects map[string][]byte) {
	for _, prefix := range []string{"", "abcd", "abcd/", "abcd/abcd", "abc", "none", "deep/er/", "top/"} {
		var want, got []string
		for name := range maps.Keys(objects) {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		for name, err := range l.List(t.Context(), prefix) {
			if err != nil {
				t.Errorf("%q: %v", prefix, err)
			}
			got = append(got, name)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", prefix, got, want)
		}
	}
	for range l.List(t.Context(), "") {
		break // must not go on
	}
}

func putObjects(t *testing.T, b store.Blobs, p store.Putter) {
	for _, size := range []int64{3, -1} {
		for _, name := range []string{"new", "new.folder/in/it", "top"} {
			for _, want := range []string{"one", "two"} {
				if err := p.Put(t.Context(), name, strings.NewReader(want), size); err != nil {
					t.Fatal(err)
				}
				wantObject(t, b, name, []byte(want))
			}
		}
	}
	if err := p.Put(t.Context(), "nil", strings.NewReader(""), 0); err != nil {
		t.Error(err)
	}
	wantObject(t, b, "nil", nil)
	if err := p.Sync(t.Context()); err != nil {
		t.Error(err)
	}
}

// putSpoilt puts objects that never become complete.
func putSpoilt(t *testing.T, b store.Blobs, p store.Putter) {
	broken := errors.New("broken")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		r    io.Reader
		want error
	}{
		{"reader fails", t.Context(), io.MultiReader(strings.NewReader("on"), failing{broken}), broken},
		{"too short", t.Context(), strings.NewReader("on"), io.ErrUnexpectedEOF},
		{"cancelled", ctx, strings.NewReader("one"), context.Canceled},
	}
	for _, tt := range tests {
		for _, name := range []string{"abcd/abce", "spoilt/" + tt.name} {
			if err := p.Put(tt.ctx, name, tt.r, 3); !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
			}
		}
		wantObject(t, b, "abcd/abce", Plains()[3][:5])
		if _, _, err := read(t.Context(), b, "spoilt/"+tt.name, store.Range{}); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: left something behind, error %v", tt.name, err)
		}
	}
	l, ok := b.(store.Lister)
	if !ok {
		return
	}
	for name := range l.List(t.Context(), "spoilt/") {
		t.Errorf("left %s behind", name)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// putAtOnce replaces an object while it is read.
func putAtOnce(t *testing.T, b store.Blobs, p store.Putter) {
	versions := [][]byte{bytes.Repeat([]byte("a"), 50_000), bytes.Repeat([]byte("b"), 70_000)}
	if err := p.Put(t.Context(), "busy", bytes.NewReader(versions[0]), -1); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				if err := p.Put(t.Context(), "busy", bytes.NewReader(versions[(i+j)%2]), -1); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				got, _, err := read(t.Context(), b, "busy", store.Range{})
				if err != nil || !bytes.Equal(got, versions[0]) && !bytes.Equal(got, versions[1]) {
					t.Errorf("neither the former nor the new object: %d bytes, error %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

func del(t *testing.T, b store.Blobs, d store.Deleter) {
	for range 2 {
		if err := d.Delete(t.Context(), "abce/f"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := read(t.Context(), b, "abce/f", store.Range{}); !errors.Is(err, store.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}

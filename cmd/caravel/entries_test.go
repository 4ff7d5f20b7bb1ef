package main

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/catar"
)

func paths(t *testing.T, seq func(func(found, error) bool)) string {
	t.Helper()
	var all []string
	for f, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, "/"+f.path)
	}
	return strings.Join(all, " ")
}

func TestBelow(t *testing.T) {
	archive := sampleArchive(t, sampleFlags, 0)
	for path, want := range map[string]string{
		"":         "/ /dir /dir/file /link",
		"dir":      "/dir /dir/file",
		"dir/file": "/dir/file",
		"link":     "/link",
	} {
		if got := paths(t, below(catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{}), path)); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"di", "dir/fil", "dir/file/x", "linkx"} {
		for _, err := range below(catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{}), path) {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: got %v", path, err)
			}
		}
	}
}

func TestCleanPath(t *testing.T) {
	for typed, want := range map[string]string{"": "", "/": "", ".": "", "a/b": "a/b", "/a//b/": "a/b", "./a/../b": "b", "../..": ""} {
		if got := cleanPath(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

// TestRepack digests what was decoded by packing it again.
func TestRepack(t *testing.T) {
	archive := sampleArchive(t, sampleFlags, 3)
	d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
	at := position{Decoder: d, nodes: nodes(d, "")}
	for f, err := range at.nodes {
		if err != nil {
			t.Fatal(err)
		}
		if f.IsDir() {
			continue
		}
		node := *f.Node
		payload, link, err := at.digests(&node)
		if err != nil {
			t.Fatal(err)
		}
		end := node.Body + node.Size
		if want := sha512.Sum512_256(archive[node.Head:end]); want != link {
			t.Errorf("%s: %v, want %x", f.path, link, want)
		}
		if want := sha512.Sum512_256(archive[node.Body:end]); want != payload {
			t.Errorf("%s: %v, want %x", f.path, payload, want)
		}
	}
}

// hintedBytes are read at offsets and remember what they were told.
type hintedBytes struct {
	*bytes.Reader
	told [][2]int64
}

func (h *hintedBytes) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return h.Reader.ReadAt(p, off)
}

func (h *hintedBytes) Want(off, n int64) { h.told = append(h.told, [2]int64{off, n}) }

func TestOrderly(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16*10) // 20 MiB
	for _, part := range [][2]int64{{0, 10}, {5, 0}, {100, 3 << 20}, {7, int64(len(data)) - 7}} {
		src := &hintedBytes{Reader: bytes.NewReader(data)}
		r := &orderly{ctx: t.Context(), src: src, off: part[0], end: part[0] + part[1], told: part[0]}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data[part[0]:part[0]+part[1]]) {
			t.Errorf("%v: %d bytes, %v", part, len(got), err)
		}
		// Each byte is announced once, in order.
		at := part[0]
		for _, told := range src.told {
			if told[0] != at || told[1] <= 0 || told[1] > window {
				t.Errorf("%v: told of %d bytes at %d, after what ended at %d", part, told[1], told[0], at)
			}
			at = told[0] + told[1]
		}
		if at != part[0]+part[1] {
			t.Errorf("%v: told up to %d", part, at)
		}
	}
	r := &orderly{ctx: t.Context(), src: &hintedBytes{Reader: bytes.NewReader(data[:100])}, end: 200}
	if got, err := io.ReadAll(r); len(got) != 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of less than there should be: %d bytes, %v", len(got), err)
	}
}

func TestPart(t *testing.T) {
	data := []byte("before the file, the file, and behind it")
	p := part{&hintedBytes{Reader: bytes.NewReader(data)}, 17, 8}
	for _, tt := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 8, "the file", nil},
		{0, 3, "the", nil},
		{4, 4, "file", nil},
		{4, 5, "file", io.EOF},
		{8, 1, "", io.EOF},
		{100, 1, "", io.EOF},
		{-1, 1, "", io.EOF},
	} {
		b := make([]byte, tt.n)
		if n, err := p.ReadAt(t.Context(), b, tt.off); string(b[:n]) != tt.want || err != tt.err {
			t.Errorf("%d bytes at %d: %q, %v", tt.n, tt.off, b[:n], err)
		}
	}
}

func TestCopySummed(t *testing.T) {
	data := bytes.Repeat([]byte("some text "), 300_000)
	sum := sha512.New512_256()
	var out bytes.Buffer
	n, err := copySummed(&out, iotest.HalfReader(bytes.NewReader(data)), sum)
	if err != nil || n != int64(len(data)) || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if want := sha512.Sum512_256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Errorf("%x, want %x", sum.Sum(nil), want)
	}
	broken := errors.New("broken")
	if _, err := copySummed(io.Discard, iotest.ErrReader(broken), sum); err != broken {
		t.Errorf("got %v", err)
	}
	if _, err := copySummed(full{}, bytes.NewReader(data), sum); err == nil {
		t.Error("a full disk went unnoticed")
	}
}

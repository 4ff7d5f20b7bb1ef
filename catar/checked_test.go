package catar_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/catar"
	"caravel/feature"
)

// sampleArchive is a directory with a file of 300 kB, a link and a root with as
// many attributes as one wants.
func sampleArchive(t *testing.T, f feature.Flags, attributes int) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, f)
	if err != nil {
		t.Fatal(err)
	}
	root := catar.Entry{Mode: 0o40755}
	for i := range attributes {
		root.XAttrs = append(root.XAttrs, catar.XAttr{Name: "user." + strings.Repeat("a", i+1), Value: bytes.Repeat([]byte{7}, 60_000)})
	}
	write := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write(e.Begin("", &root))
	write(e.Begin("dir", &catar.Entry{Mode: 0o40755}))
	write(e.Begin("file", &catar.Entry{Mode: 0o100644, Size: 300_000}))
	_, err = e.Write(bytes.Repeat([]byte("contents"), 300_000/8))
	write(err)
	write(e.End())
	write(e.Begin("link", &catar.Entry{Mode: 0o120777, Target: "dir/file"}))
	write(e.End())
	return b.Bytes()
}

var sampleFlags = (feature.Symlinks | feature.XAttrs | feature.SHA512_256).Normal()

func TestChecked(t *testing.T) {
	whole := sampleArchive(t, sampleFlags, 0)
	huge := sampleArchive(t, sampleFlags, 20) // the flags come before a megabyte of records
	tests := []struct {
		name string
		in   []byte
		err  string // "": none
	}{
		{"good", whole, ""},
		{"long head", huge, ""},
		{"nothing", nil, "truncated"},
		{"ten bytes", whole[:10], "truncated"},
		{"cut in the head", huge[:100_000], "truncated"},
		{"cut in a file", whole[:100_000], "truncated in the payload"},
		{"cut before the last table", whole[:len(whole)-40], "truncated"},
		{"something behind", append(bytes.Clone(whole), 1), "bytes after the end"},
		{"an index", append([]byte{48, 0, 0, 0, 0, 0, 0, 0, 0xf9, 0x9f, 0x12, 0x7b, 0x9c, 0x4d, 0x82, 0x96}, make([]byte, 100)...), "offset 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			got, flags, err := readChecked(iotest.HalfReader(bytes.NewReader(tt.in)))
			switch {
			case tt.err == "":
				if err != nil || flags != sampleFlags || !bytes.Equal(got, tt.in) {
					t.Errorf("%d bytes of %d, flags %#x, %v", len(got), len(tt.in), uint64(flags), err)
				}
			case err == nil || !strings.Contains(err.Error(), tt.err):
				t.Errorf("got %v, want %q in it", err, tt.err)
			}
			for runtime.NumGoroutine() > before {
				runtime.Gosched()
			}
		})
	}
}

func readChecked(r io.Reader) ([]byte, feature.Flags, error) {
	c, err := catar.Check(r)
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return b, c.Flags, err
}

// TestCheckedStops passes on why its reader failed, and ends its decoder when it
// is closed early.
func TestCheckedStops(t *testing.T) {
	broken := errors.New("the line broke")
	whole := sampleArchive(t, sampleFlags, 0)
	_, _, err := readChecked(io.MultiReader(bytes.NewReader(whole[:1000]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	before := runtime.NumGoroutine()
	c, err := catar.Check(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
		t.Error(err)
	}
	c.Close()
	for runtime.NumGoroutine() > before {
		runtime.Gosched()
	}
}

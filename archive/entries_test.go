package archive

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

// sampleArchive is of a directory with a file of 300 kB, a link and a root with as
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

func paths(t *testing.T, seq func(func(Found, error) bool)) string {
	t.Helper()
	var all []string
	for f, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, "/"+f.Path)
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

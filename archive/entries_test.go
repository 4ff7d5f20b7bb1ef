package archive

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/feature"
)

var sampleFlags = (feature.Permissions | feature.Symlinks | feature.XAttrs | feature.SHA512_256).Normal()

// sample is an archive of a directory with a program of 300 kB, and a link. mode
// is the program's.
func sample(t *testing.T, mode uint32) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, sampleFlags)
	for _, n := range []struct {
		name string
		catar.Entry
	}{
		{"", catar.Entry{Mode: catar.ModeDir | 0o755, XAttrs: []catar.XAttr{{Name: "user.a", Value: make([]byte, 60_000)}}}},
		{"dir", catar.Entry{Mode: catar.ModeDir | 0o755}},
		{"file", catar.Entry{Mode: catar.ModeRegular | mode, Size: 300_000}},
		{"link", catar.Entry{Mode: catar.ModeLink | 0o777, Target: "dir/file"}},
	} {
		if err == nil && n.IsSymlink() {
			err = e.End() // of dir
		}
		if err == nil {
			err = e.Begin(n.name, &n.Entry)
		}
		if err == nil && n.IsRegular() {
			_, err = io.CopyN(e, rand.NewChaCha8([32]byte{}), n.Size)
		}
	}
	if err == nil {
		err = e.End()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

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
	archive := sample(t, 0o755)
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

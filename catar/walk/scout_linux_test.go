package walk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/exclude"
	"caravel/feature"
)

// Some file systems list names without types.
func TestTypesThatAreNotListed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("x", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := newReader(t.Context(), feature.UID32, Options{}) // which has no links
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	root, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.release()
	s := scout{Reader: r, buf: make([]byte, 4096)}
	for _, name := range []string{"file", "gone", "link", "sub"} {
		if err := s.child(root, name, unix.DT_UNKNOWN, exclude.Rules{}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := r.Stats(), (Stats{Excluded: 1, Vanished: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.flush()
	var got []string
	for len(r.ordered) > 0 {
		b := <-r.ordered
		for i := range b.nodes[:b.n] {
			n := &b.nodes[i]
			got = append(got, fmt.Sprintf("%s %d %o", n.name, n.place, n.typ))
		}
		b.reset()
	}
	want := []string{"file 0 100000", "sub 1 0", " 2 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got the nodes %q, want %q", got, want)
	}
}

// What does not fit into one Read comes with the next, byte for byte, and what
// was put in place is not copied.
func TestSink(t *testing.T) {
	var s sink
	p := make([]byte, 8)
	s.take(p)
	s.Write([]byte("abc"))
	n := copy(s.rest(), "def")
	s.Write(s.rest()[:n])
	s.Write([]byte("ghijklmnopqrstuvw"))
	got := string(p[:s.give()])
	for s.waiting() {
		s.take(p)
		got += string(p[:s.give()])
	}
	if want := "abcdefghijklmnopqrstuvw"; got != want || s.total != int64(len(want)) {
		t.Errorf("got %q, %d bytes", got, s.total)
	}
}

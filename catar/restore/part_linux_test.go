package restore

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
	"caravel/internal/testtree"
)

// pack makes an archive of files, a name and a body each.
func pack(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, (feature.Permissions | feature.NanoTime | feature.Chattr).Normal())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Begin("", &catar.Entry{Mode: unix.S_IFDIR | 0o755}); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		n := &catar.Entry{Mode: unix.S_IFREG | 0o640, Size: int64(len(files[i+1]))}
		if strings.HasPrefix(files[i], "0append") {
			n.Flags = feature.Append
		}
		if err := e.Begin(files[i], n); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.End(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func named(t testing.TB, packed []byte, dir string, opt Options) error {
	t.Helper()
	r := newRun(t.Context(), catar.NewDecoder(bytes.NewReader(packed), catar.DecoderOptions{}), dir, opt)
	defer r.end()
	r.tmp.once.Do(func() {}) // nothing was found out: every part has a name
	_, err := r.tree()
	return err
}

// TestNamedParts restores as on file systems on which every file has a name.
func TestNamedParts(t *testing.T) {
	dst := t.TempDir()
	t.Cleanup(func() { _ = testtree.Thaw(dst) })
	files := []string{"a", "short", "b", strings.Repeat("long", 1<<20), strings.Repeat("n", 255), "x"}
	if os.Geteuid() == 0 {
		files = append([]string{"0append", "only"}, files...)
	}
	for i, opt := range []Options{{}, {Delete: KeepExtra}, {Delete: DeleteExtra, Fill: true}} {
		if err := named(t, pack(t, files...), dst, opt); err != nil {
			if i > 0 && strings.Contains(err.Error(), "0append") {
				t.Log(err) // an append-only file cannot be replaced
				if err := testtree.Thaw(dst); err != nil {
					t.Fatal(err)
				}
				continue
			}
			t.Fatal(err)
		}
		list, err := os.ReadDir(dst)
		if err != nil || len(list) != len(files)/2 {
			t.Errorf("%v, %v", list, err)
		}
		for i := 0; i < len(files); i += 2 {
			if b, err := os.ReadFile(filepath.Join(dst, files[i])); err != nil || string(b) != files[i+1] {
				t.Errorf("%.20s: %d bytes, %v", files[i], len(b), err)
			}
		}
	}
	packed := pack(t, "a", "short", "b", strings.Repeat("long", 1<<20))
	other := filepath.Join(dst, "other")
	if err := named(t, packed[:3<<20], other, Options{}); err == nil {
		t.Error("half of an archive is enough")
	}
	if list, err := os.ReadDir(other); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestIsPart(t *testing.T) {
	for name, want := range map[string]bool{
		newPart():                             true,
		".#caravel.0123456789abcdef.part":     true,
		".#caravel.0123456789abcdeF.part":     false,
		".#caravel.0123456789abcde.part":      false,
		".#caravel.0123456789abcdef0.part":    false,
		".#caravel..part":                     false,
		".#disk.img.0123456789abcdef.part":    false,
		"x.#caravel.0123456789abcdef.part":    false,
		".#caravel.0123456789abcdef.part.bak": false,
	} {
		if isPart(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// TestTakenNames: where two names are one, the second is not lost silently.
func TestTakenNames(t *testing.T) {
	at := t.TempDir()
	r := newRun(t.Context(), nil, at, Options{})
	defer r.end()
	fd, err := open(unix.AT_FDCWD, at, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ours := &dir{fd: fd, fresh: true}
	if err := os.WriteFile(filepath.Join(at, "a"), []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, byName := range []bool{false, true} {
		p, err := r.newFile(&job{in: ours})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.publish(r, "a"); err != errTaken {
			t.Errorf("got %v", err)
		}
		if err := p.discard(); err != nil {
			t.Error(err)
		}
		if r.tmp.link = nil; byName {
			break
		}
	}
	for _, name := range []string{"a", "d"} {
		_ = os.Mkdir(filepath.Join(at, "d"), 0o700)
		if _, err := r.openDir(ours, name, &catar.Entry{Mode: unix.S_IFDIR}); err != errTaken {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if list, err := os.ReadDir(at); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if b, err := os.ReadFile(filepath.Join(at, "a")); string(b) != "first" {
		t.Errorf("%q, %v", b, err)
	}
}

// BenchmarkTree restores 2,000 files of 12 KB in 200 directories. It makes a new
// tree each time and removes none: ext4 goes round inodes freed recently.
func BenchmarkTree(b *testing.B) {
	var buf bytes.Buffer
	e, err := catar.NewEncoder(&buf, (feature.Best | feature.SHA512_256).Normal())
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 12<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	check(e.Begin("", &catar.Entry{Mode: unix.S_IFDIR | 0o755}))
	for d := range 200 {
		check(e.Begin(fmt.Sprintf("d%03d", d), &catar.Entry{Mode: unix.S_IFDIR | 0o755}))
		for f := range 10 {
			check(e.Begin(fmt.Sprintf("f%d", f), &catar.Entry{Mode: unix.S_IFREG | 0o644, Size: int64(len(body))}))
			_, err := e.Write(body)
			check(err)
		}
		check(e.End())
	}
	check(e.End())
	dir := b.TempDir()
	b.SetBytes(int64(buf.Len()))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		dst := filepath.Join(dir, fmt.Sprint(i))
		opt := Options{Mask: feature.All &^ feature.Privileged, NoSync: true}
		stats, err := Tree(b.Context(), catar.NewDecoder(bytes.NewReader(buf.Bytes()), catar.DecoderOptions{}), dst, opt)
		if err != nil || stats.Entries != 2201 || stats.Bytes != 2000*int64(len(body)) {
			b.Fatalf("%+v, %v", stats, err)
		}
	}
	n := 0
	check(filepath.WalkDir(filepath.Join(dir, "0"), func(string, fs.DirEntry, error) error { n++; return nil }))
	if n != 2201 {
		b.Errorf("%d nodes", n)
	}
}

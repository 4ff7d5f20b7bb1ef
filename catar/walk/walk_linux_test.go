package walk_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/walk"
	"caravel/feature"
	"caravel/internal/testtree"
)

// usual are the flags that casync sets unless told otherwise.
const usual = feature.SHA512_256 | feature.ExcludeNoDump | feature.ExcludeFile

var all = (feature.All | usual).Normal()

// casync packs dir and returns the archive, or its complaint.
func casync(t testing.TB, dir string, args ...string) ([]byte, error) {
	t.Helper()
	if _, err := exec.LookPath("casync"); err != nil {
		t.Skip("casync is not installed")
	}
	out := filepath.Join(t.TempDir(), "x.catar")
	args = append(append([]string{"make"}, args...), out, dir)
	if said, err := exec.Command("casync", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("casync %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	return os.ReadFile(out)
}

// pack reads the whole archive of dir.
func pack(t testing.TB, dir string, f feature.Flags, opt walk.Options) ([]byte, walk.Stats, error) {
	t.Helper()
	r, err := walk.Open(t.Context(), dir, f, opt)
	if err != nil {
		return nil, walk.Stats{}, err
	}
	defer r.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	return b.Bytes(), r.Stats(), err
}

// same packs dir and compares the archive with casync's.
func same(t *testing.T, dir string, f feature.Flags, args ...string) walk.Stats {
	t.Helper()
	want, err := casync(t, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	got, stats, err := pack(t, dir, f, walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Fatalf("%v: %d bytes, casync has %d; they differ from offset %d on", args, len(got), len(want), at)
	}
	return stats
}

// write makes files by their names and contents: "d/" is a directory, "l->x"
// a link.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		from, to, isLink := strings.Cut(name, "->")
		p := filepath.Join(dir, from)
		var err error
		switch {
		case isLink:
			err = os.Symlink(to, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			if err = os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
				err = os.WriteFile(p, []byte(content), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFeaturesLikeCasync(t *testing.T) {
	dir := t.TempDir()
	testtree.Generate(t, dir, rand.New(rand.NewPCG(1, 2)), testtree.Options{
		Root: os.Geteuid() == 0, ACLs: true, XAttrs: true, Chattr: true, Exclude: true, ShortIDs: true, Nodes: 150,
	})
	for _, name := range feature.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := feature.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			f = (f | usual).Normal()
			if name == "user-names" && os.Geteuid() == 0 {
				// casync packs the tree and then cannot read the archive.
				_, _, err := pack(t, dir, f, walk.Options{})
				if err == nil || !strings.Contains(err.Error(), "--with=32bit-uids") {
					t.Errorf("root's files by name alone: got %v", err)
				}
				return
			}
			same(t, dir, f, "--with="+name)
		})
	}
}

func TestOptionsLikeCasync(t *testing.T) {
	dir := t.TempDir()
	testtree.Generate(t, dir, rand.New(rand.NewPCG(3, 4)), testtree.Options{
		Root: os.Geteuid() == 0, ACLs: true, XAttrs: true, Chattr: true, ShortIDs: true, Nodes: 150,
	})
	for _, tt := range []struct {
		name  string
		args  []string
		flags feature.Flags
	}{
		{"nodump kept", []string{"--exclude-nodump=no"}, feature.All | usual&^feature.ExcludeNoDump},
		{"no exclude files", []string{"--exclude-file=no"}, feature.All | usual&^feature.ExcludeFile}, // there are none
		{"sha256", []string{"--digest=sha256"}, feature.All | usual&^feature.SHA512_256},
		{"submounts", []string{"--exclude-submounts=yes"}, feature.All | usual | feature.ExcludeSubmounts},
		{"nothing", []string{"--without=all"}, usual},
		{"best, no names", []string{"--with=best", "--without=user-names"}, feature.Best&^feature.UserNames | usual},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			same(t, dir, tt.flags.Normal(), tt.args...)
		})
	}
}

func TestTreesLikeCasync(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 99))
			dir := t.TempDir()
			testtree.Generate(t, dir, rng, testtree.Options{
				Root: os.Geteuid() == 0 && seed%2 == 0, ACLs: seed%3 != 0, XAttrs: seed%4 != 0, Chattr: seed%5 != 0,
				Exclude: seed%2 == 1, Nodes: 20 + rng.IntN(200), Bytes: rng.Int64N(4 << 20),
			})
			same(t, dir, all)
		})
	}
}

// Files around the sizes where reading changes, with holes and without.
func TestContentsLikeCasync(t *testing.T) {
	dir := t.TempDir()
	rng := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 4095, 4096, 256<<10 - 1, 256 << 10, 256<<10 + 1, 512 << 10, 3<<20 + 17} {
		b := make([]byte, size)
		rng.Read(b)
		write(t, dir, map[string]string{fmt.Sprintf("full-%d", size): string(b)})
		for _, where := range []int64{0, 4096, 300_000, 2 << 20} {
			f, err := os.Create(filepath.Join(dir, fmt.Sprintf("holes-%d-%d", size, where)))
			if err != nil {
				t.Fatal(err)
			}
			if size > 0 {
				_, err = f.WriteAt(b[:min(size, 9000)], where)
			}
			if err == nil {
				err = f.Truncate(where + 2*int64(size))
			}
			if err != nil || f.Close() != nil {
				t.Fatal(err)
			}
		}
	}
	same(t, dir, all)
}

func TestWideAndEmptyLikeCasync(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"empty/": "", "empty/too/": "", ".caexclude": "*.o\n"}
	for i := range 3000 {
		files[fmt.Sprintf("wide/%d.%c", i*7919%3000, "cho"[i%3])] = ""
		files[fmt.Sprintf("dirs/%d/", i%500)] = ""
	}
	for _, name := range []string{"\xff", "\x01", "a b", strings.Repeat("n", 255), "same-prefix-1", "same-prefix-10", "same-prefix-2", "same-pr"} {
		files["names/"+name] = name
	}
	write(t, dir, files)
	stats := same(t, dir, all)
	want := walk.Stats{Entries: 1 + 2 + 1 + 1 + 2000 + 1 + 500 + 1 + 8, Excluded: 1000}
	if stats != want {
		t.Errorf("got %+v, want %+v", stats, want)
	}
	same(t, filepath.Join(dir, "empty"), all)
}

func TestDepth(t *testing.T) {
	dir := t.TempDir()
	deep := strings.Repeat("d/", 62)
	write(t, dir, map[string]string{deep + "leaf": "x"}) // the root, 62 directories, the leaf
	same(t, dir, all)
	write(t, dir, map[string]string{deep + "e/": "", deep + "e/f": ""})
	if _, err := casync(t, dir); err == nil {
		t.Error("casync packs 65 levels")
	}
	_, _, err := pack(t, dir, all, walk.Options{})
	want := "walk: " + dir + "/" + deep + "e/f: more than 64 levels deep"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestExcludeFileIsAnOption(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{".caexclude": "x\nsub/\n", "x": "1", "y": "2", "sub/z": "3", "sub/.caexclude": "!bad/.."})
	stats := same(t, dir, all)
	if want := (walk.Stats{Entries: 3, Excluded: 2}); stats != want {
		t.Errorf("got %+v, want %+v", stats, want)
	}
	_, stats, err := pack(t, dir, all&^feature.ExcludeFile, walk.Options{})
	if want := (walk.Stats{Entries: 7}); stats != want || err != nil {
		t.Errorf("got %+v, error %v, want %+v", stats, err, want)
	}
}

func TestBadExcludeFiles(t *testing.T) {
	for _, tt := range []struct{ name, file, text, want string }{
		{"syntax", "d/.caexclude", "ok\na/../b\n", "DIR/d/.caexclude: exclude: line 2: "},
		{"link", "d/.caexclude->../rules", "", "walk: DIR/d/.caexclude: the rules must be in a regular file"},
		{"directory", "d/.caexclude/", "", "walk: DIR/d/.caexclude: the rules must be in a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"d/": "", "rules": "x"})
			write(t, dir, map[string]string{tt.file: tt.text})
			_, _, err := pack(t, dir, all, walk.Options{})
			want := strings.Replace(tt.want, "DIR", dir, 1)
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestLeaveOut(t *testing.T) {
	dir, without := t.TempDir(), t.TempDir()
	write(t, without, map[string]string{"a": "1"})
	write(t, dir, map[string]string{"a": "1", "out.caidx": "x", "default.castr/0000/chunk": "y"})
	for _, name := range []string{"", "a"} { // the times count
		copyTime(t, filepath.Join(dir, name), filepath.Join(without, name))
	}
	var opt walk.Options
	for _, name := range []string{"out.caidx", "default.castr"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		opt.LeaveOut = append(opt.LeaveOut, walk.Inode{Dev: st.Dev, Ino: st.Ino})
	}
	got, stats, err := pack(t, dir, all, opt)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := pack(t, without, all, walk.Options{})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("not as if they were not there; error %v", err)
	}
	if want := (walk.Stats{Entries: 2, LeftOut: 2}); stats != want {
		t.Errorf("got %+v, want %+v", stats, want)
	}
}

func copyTime(t *testing.T, from, to string) {
	t.Helper()
	fi, err := os.Stat(from)
	if err == nil {
		err = os.Chtimes(to, fi.ModTime(), fi.ModTime())
	}
	if err == nil {
		err = os.Chmod(to, fi.Mode())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What cannot be said in the archive names the node.
func TestOwnersThatDoNotFit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	for _, tt := range []struct {
		uid   int
		flags feature.Flags
	}{
		{65535, all},
		{65536, (feature.Unix | usual).Normal()},
	} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "", "d/b": "", "d/c": ""})
		if err := os.Chown(filepath.Join(dir, "d/b"), tt.uid, 0); err != nil {
			t.Fatal(err)
		}
		_, _, err := pack(t, dir, tt.flags, walk.Options{})
		if err == nil || !strings.Contains(err.Error(), dir+"/d/b: ") || !strings.Contains(err.Error(), fmt.Sprint(tt.uid)) {
			t.Errorf("got %v, want the path and %d in it", err, tt.uid)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"file": "", "link->.": ""})
	for name, want := range map[string]string{
		"missing": "walk: " + dir + "/missing: no such file or directory",
		"file":    "walk: " + dir + "/file: not a directory",
	} {
		_, err := walk.Open(t.Context(), filepath.Join(dir, name), all, walk.Options{})
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, _, err := pack(t, filepath.Join(dir, "link"), all, walk.Options{}); err != nil {
		t.Errorf("a link to the directory: %v", err)
	}
	if _, err := walk.Open(t.Context(), dir, feature.UIDs, walk.Options{}); err == nil {
		t.Error("flags that are not normal are taken")
	}
}

// Any buffer gives the same stream.
func TestSmallReads(t *testing.T) {
	dir := t.TempDir()
	testtree.Generate(t, dir, rand.New(rand.NewPCG(5, 6)), testtree.Options{Nodes: 60, Bytes: 500_000})
	want, _, err := pack(t, dir, all, walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{37, 4096, 70_000} {
		r, err := walk.Open(context.Background(), dir, all, walk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for buf := make([]byte, size); ; {
			n, err := r.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		r.Close()
		if !bytes.Equal(got, want) {
			t.Errorf("buffers of %d bytes: another stream", size)
		}
	}
}

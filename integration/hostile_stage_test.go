//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// A stage has a place to extract to, with things around it that must stay as
// they are.
type stage struct {
	t           *testing.T
	dir, target string
	before      string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{t: t, dir: dir, target: filepath.Join(dir, "target")}
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		os.Mkdir(dir+"/outside", 0o755),
		os.Mkdir(dir+"/outside/dir", 0o755),
		os.WriteFile(dir+"/outside/file", []byte("precious"), 0o644),
		os.WriteFile(dir+"/outside/dir/file", []byte("precious as well"), 0o600),
		os.Symlink("file", dir+"/outside/link"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.before = surroundings(t, dir)
	return s
}

// surroundings describes all that is in dir, but not what is in target.
func surroundings(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p == dir:
			return nil // its time changes with the target
		case p == filepath.Join(dir, "target") && d.IsDir():
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d %v %v", p, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim, st.Ctim)
		if d.Type().IsRegular() {
			fmt.Fprintf(&b, " %q", read(t, p))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// unharmed checks that nothing but the target has changed, and that nothing in
// it is unfinished.
func (s *stage) unharmed() {
	s.t.Helper()
	if now := surroundings(s.t, s.dir); now != s.before {
		s.t.Errorf("the surroundings have changed:\n%s\nnot\n%s", now, s.before)
	}
	_ = filepath.WalkDir(s.target, func(p string, _ fs.DirEntry, _ error) error {
		if strings.HasPrefix(filepath.Base(p), ".#") {
			s.t.Errorf("left behind: %s", p)
		}
		return nil
	})
}

// A report is a table of what each command said of each case.
type report struct {
	t    *testing.T
	rows []string
}

func (r *report) add(what, command string, got result) {
	r.t.Helper()
	said := strings.TrimSpace(got.stderr)
	if strings.Contains(said, "\n") || strings.Contains(said, "goroutine ") || got.status != 0 && got.status != 1 {
		r.t.Errorf("%s: %s: status %d\n%s", what, command, got.status, got.stderr)
	}
	if got.status == 1 && !strings.HasPrefix(said, "caravel: ") {
		r.t.Errorf("%s: %s: says %q", what, command, said)
	}
	if said == "" {
		said = "done"
	}
	r.rows = append(r.rows, fmt.Sprintf("| %s | %s | %d | %s |", what, command, got.status, tempDirs.ReplaceAllString(said, "…")))
}

var tempDirs = regexp.MustCompile(`[^ "]*/Test\w+/\d+`)

func (r *report) log() {
	r.t.Logf("what each printed\n| case | command | status | says |\n|---|---|---|---|\n%s", strings.Join(r.rows, "\n"))
}

// A builder writes an archive by hand.
type builder struct {
	t   *testing.T
	buf bytes.Buffer
	e   *catar.Encoder
}

func build(t *testing.T, f feature.Flags, content func(b *builder)) []byte {
	t.Helper()
	b := &builder{t: t}
	var err error
	if b.e, err = catar.NewEncoder(&b.buf, f.Normal()); err != nil {
		t.Fatal(err)
	}
	b.folder("", content)
	return b.buf.Bytes()
}

func (b *builder) begin(name string, e catar.Entry) {
	b.t.Helper()
	e.MTime = 1e18
	if err := b.e.Begin(name, &e); err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) folder(name string, content func(b *builder)) {
	b.t.Helper()
	b.begin(name, catar.Entry{Mode: unix.S_IFDIR | 0o755})
	content(b)
	if err := b.e.End(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) file(name, body string) {
	b.t.Helper()
	b.begin(name, catar.Entry{Mode: unix.S_IFREG | 0o644, Size: int64(len(body))})
	if _, err := io.WriteString(b.e, body); err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) link(name, to string) {
	b.t.Helper()
	b.begin(name, catar.Entry{Mode: unix.S_IFLNK | 0o777, Target: to})
}

// usual are features that anybody can restore.
const usual = feature.Permissions | feature.NanoTime | feature.Symlinks | feature.FIFOs | feature.Sockets

// mustPut writes an archive beside the stage, where it may stay.
func (s *stage) put(name string, b []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.before = surroundings(s.t, s.dir)
	return path
}
